//! What the agenda and the lanes count.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};

use crate::domain::ids::Lane;
use crate::domain::job::Class;

/// What the agenda counts.
#[derive(Debug)]
pub struct AgendaMetrics {
    depth: Gauge,
    oldest_due: Gauge,
    released: Vec<Counter>,
}

/// The depth of one lane.
#[derive(Debug)]
pub struct LaneDepth(Gauge);

impl AgendaMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        let released = |class: &Class| counter!(super::JOBS_RELEASED, "class" => class.as_str());
        Self {
            depth: gauge!(super::AGENDA_DEPTH),
            oldest_due: gauge!(super::AGENDA_OLDEST_DUE_SECONDS),
            released: Class::ALL.iter().map(released).collect(),
        }
    }

    /// Sets how many jobs wait, and for how long the first has been due.
    pub fn depth(&self, jobs: u64, oldest_due: Duration) {
        self.depth.set(jobs as f64);
        self.oldest_due.set(oldest_due.as_secs_f64());
    }

    /// Counts jobs released into a lane.
    pub fn released(&self, class: Class, jobs: usize) {
        self.released[class as usize].increment(jobs as u64);
    }
}

impl Default for AgendaMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl LaneDepth {
    /// Makes the handle of a lane.
    pub fn new(lane: &Lane) -> Self {
        Self(gauge!(super::LANE_DEPTH, "class" => lane.class.as_str(), "pool" => lane.pool.to_string()))
    }

    /// Sets how many frames wait.
    pub fn set(&self, frames: u64) {
        self.0.set(frames as f64);
    }
}
