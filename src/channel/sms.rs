//! Text messages: how a text becomes segments, and how it reaches an SMSC or a cloud.

pub mod aliyun;
pub mod cloud;
pub mod custom;
pub mod gsm7;
pub mod smpp;
pub mod tencent;
pub mod text;
pub mod twilio;
