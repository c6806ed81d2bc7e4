//! Logs: few, structured, on standard error, so that standard output stays for answers.
//!
//! `error!` means that somebody must act, `warn!` that it healed. What can happen per job is `debug!`, or passes a
//! [`Gate`] (see [`crate::rate_limited`]).

use std::io::{self, IsTerminal as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::domain::time::{Clock, Stopwatch};

/// How a line of log reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people.
    Pretty,
    /// One JSON object a line, for machines.
    Json,
}

/// The text says no levels, as in `info` or `info,postrider::dispatch=debug`.
#[derive(Debug, thiserror::Error)]
#[error("not a log level or filter: {0}")]
pub struct InvalidFilter(#[from] tracing_subscriber::filter::ParseError);

/// Lets so many through in a minute, and counts the rest.
#[derive(Debug)]
pub struct Gate {
    per_min: u32,
    // The minute that `passed` belongs to.
    minute: AtomicU64,
    passed: AtomicU32,
    held_back: AtomicU32,
}

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// [`InvalidFilter`] when `filter` is no level and no filter.
pub fn init(format: Format, filter: &str) -> Result<(), InvalidFilter> {
    // The AMQP client logs messages that come back whole, with what is in them.
    let filter = EnvFilter::try_new(filter)?.add_directive("lapin::returned_messages=off".parse()?);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let started = match format {
        Format::Pretty => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    // A test, or an embedding program, may have started its own.
    let _already = started;
    Ok(())
}

// === impl Gate ===

impl Gate {
    /// Returns a gate that lets `per_min` through in each minute.
    pub const fn new(per_min: u32) -> Self {
        Self { per_min, minute: AtomicU64::new(0), passed: AtomicU32::new(0), held_back: AtomicU32::new(0) }
    }

    /// Asks to pass; returns how many were held back since the last that passed, or `None` to hold this one back too.
    pub fn pass(&self) -> Option<u32> {
        static START: LazyLock<Stopwatch> = LazyLock::new(|| Clock::system().stopwatch());
        self.pass_in(START.elapsed().as_secs() / 60)
    }

    fn pass_in(&self, minute: u64) -> Option<u32> {
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            self.passed.store(0, Ordering::Relaxed);
        }
        if self.passed.fetch_add(1, Ordering::Relaxed) < self.per_min {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.passed.fetch_sub(1, Ordering::Relaxed);
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Logs at most so often a minute from this place: `rate_limited!(per_min = 6, warn, %error, "send failed")`.
///
/// A line that passes says in `held_back` how many did not.
#[macro_export]
macro_rules! rate_limited {
    (per_min = $per_min:expr, $level:ident, $($line:tt)+) => {{
        static GATE: $crate::telemetry::logs::Gate = $crate::telemetry::logs::Gate::new($per_min);
        if let Some(held_back) = GATE.pass() {
            tracing::$level!(held_back, $($line)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_so_many_through_a_minute_and_counts_the_rest() {
        let gate = Gate::new(2);
        assert_eq!(
            [gate.pass_in(0), gate.pass_in(0), gate.pass_in(0), gate.pass_in(0)],
            [Some(0), Some(0), None, None]
        );
        assert_eq!([gate.pass_in(1), gate.pass_in(1), gate.pass_in(1)], [Some(2), Some(0), None]);
    }

    #[test]
    fn filters_are_checked() {
        assert!(init(Format::Json, "info,postrider=debug").is_ok());
        init(Format::Pretty, "postrider=loud").expect_err("no such level");
    }

    #[test]
    fn a_rate_limited_line_compiles_with_fields() {
        for attempt in 0..3 {
            rate_limited!(per_min = 1, debug, attempt, "send failed");
        }
    }
}
