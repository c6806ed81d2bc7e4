//! Postrider: outbound messaging and call scheduling.

pub mod admission;
pub mod agenda;
pub mod api;
pub mod channel;
pub mod config;
pub mod crash;
pub mod dispatch;
pub mod domain;
pub mod ledger;
pub mod limits;
pub mod pb;
pub mod policy;
pub mod queue;
pub mod record;
pub mod seal;
pub mod shutdown;
pub mod telemetry;
