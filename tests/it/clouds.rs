//! Clouds against their simulators, and both against the vendors' own libraries.

mod aliyun;
mod aliyun_voice;
mod custom;
mod customers;
mod service;
mod simulate;
mod tencent;
mod twilio;
mod wechat;
mod wechatpy;
mod wecom;
