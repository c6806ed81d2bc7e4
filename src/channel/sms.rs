//! Text messages: how a text becomes segments, and how it reaches an SMSC or a cloud.

pub mod cloud;
pub mod gsm7;
pub mod smpp;
pub mod text;
pub mod twilio;
