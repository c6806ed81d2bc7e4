//! The nouns of Postrider, one word per thing. No I/O and no vendor: everything above builds on these.

pub mod call;
pub mod cap;
pub mod chain;
pub mod checkup;
pub mod event;
pub mod hold;
pub mod ids;
pub mod job;
pub mod keys;
pub mod money;
pub mod quota;
pub mod rate;
pub mod recent;
pub mod recipient;
pub mod route;
pub mod rule;
pub mod sender;
pub mod signal;
pub mod suppression;
pub mod template;
pub mod text;
pub mod time;
pub mod trace;
pub mod window;
