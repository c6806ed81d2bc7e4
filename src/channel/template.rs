//! Template messages: how they reach people through WeChat, and what comes back.

pub mod crypt;
mod envelope;
pub mod token;
pub mod wechat;
pub mod wecom;
mod xml;
