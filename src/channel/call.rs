//! Smart calls: what they say and do.

pub mod flow;
pub mod runner;
