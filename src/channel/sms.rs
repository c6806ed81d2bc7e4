//! Text messages: how a text becomes segments, and how segments reach an SMSC.

pub mod gsm7;
pub mod smpp;
pub mod text;
