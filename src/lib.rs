//! Postrider: outbound messaging and call scheduling.
//!
//! # Path of a job
//! A call comes in ([`api`]), is let in and made durable ([`admission`]), waits if it must ([`agenda`]), is sent
//! ([`dispatch`]; calls on lines of the [`dialer`]) through a provider ([`channel`]); what providers say of it comes in
//! ([`receipt`]), and what becomes of it is written down ([`record`]). [`app`] puts the parts together. Each part asks
//! only those below it: [`policy`] and [`leave`] decide, [`queue`], [`limits`] and [`ledger`] are the three ports with
//! their backends, [`domain`] holds the nouns.

// The parts, in the order in which a job meets them.
pub mod admission;
pub mod agenda;
pub mod api;
pub mod dialer;
pub mod dispatch;
pub mod receipt;
pub mod record;

// What they ask.
pub mod channel;
pub mod leave;
pub mod ledger;
pub mod limits;
pub mod policy;
pub mod queue;

// What everything stands on.
pub mod config;
pub mod crash;
mod disk;
pub mod domain;
pub mod pb;
pub mod seal;
pub mod shutdown;
pub mod telemetry;

// What puts it together.
pub mod app;
pub mod cli;
pub mod demo;
pub mod simulator;
