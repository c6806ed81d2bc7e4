//! Clouds against their simulators, and both against the vendors' own libraries.

mod aliyun;
mod aliyun_voice;
mod consents;
mod custom;
mod customers;
mod day;
mod kannel;
mod service;
mod signals;
mod simulate;
mod tencent;
mod twilio;
mod twilio_voice;
mod wechat;
mod wechatpy;
mod wecom;
mod welcome;
