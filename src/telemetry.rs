//! What operators see: metrics, logs and traces.
//!
//! Metrics are an interface. Every name stands in one table ([`metrics::TABLE`]) with its kind, labels and help; hot paths
//! hold handles that are made once. Handles made before [`exporter::install`] count nothing.

pub mod exporter;
pub mod logs;
pub mod metrics;
mod reference;
pub mod traces;
