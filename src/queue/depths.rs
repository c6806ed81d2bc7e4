//! How long the lanes are, as of a moment ago: what keeps them short. And whether the server is there at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;

use super::frame::FRAME_JOBS_MAX;
use super::{Queue, QueueName};
use crate::domain::ids::Lane;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::{LaneDepth, QueueHealth};

/// How often lanes are looked at. Real time: a queue fills in real time.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// One look in so many is at the server itself and its dead letters, for people: a few seconds are soon enough.
const LOOKS_PER_CHECK: u32 = 25;
/// A lane with more frames than this takes only urgent work: the rest waits in the agenda, which is fair and can be
/// cancelled. 64 frames are 2 to 30 thousand jobs, a second or so of work.
const CROWDED_FRAMES: u64 = 64;

/// The lengths of all lanes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Depths {
    lanes: Arc<HashMap<Lane, Length>>,
}

#[derive(Debug)]
struct Length {
    /// Frames when it was looked at last.
    frames: AtomicU64,
    /// Jobs that this process has added since.
    jobs: AtomicU64,
    shown: LaneDepth,
}

impl Depths {
    /// Returns the depths of `lanes`, and keeps them current in a task of the group `tasks`.
    pub fn watch<Q: Queue>(queue: Q, lanes: Vec<Lane>, clock: Clock, tasks: &Tasks) -> Self {
        let depths =
            Self { lanes: Arc::new(lanes.into_iter().map(|lane| (lane.clone(), Length::new(&lane))).collect()) };
        let (stop, watched) = (tasks.stop().clone(), depths.clone());
        tasks.spawn("lane_depths", async move {
            let health = QueueHealth::new();
            let mut looks = 0_u32;
            while stop.run_until_cancelled(clock.pause(LOOK_EVERY)).await.is_some() {
                watched.look(&queue).await;
                looks += 1;
                if looks % LOOKS_PER_CHECK == 1 {
                    check(&queue, &health).await;
                }
            }
        });
        depths
    }

    /// Returns whether a lane is so long that only urgent work is added.
    pub fn crowded(&self, lane: &Lane) -> bool {
        self.lanes.get(lane).is_some_and(|length| length.frames() > CROWDED_FRAMES)
    }

    /// Notes jobs that were added to a lane: what is released between two looks must not overfill it.
    pub fn released(&self, lane: &Lane, jobs: usize) {
        if let Some(length) = self.lanes.get(lane) {
            length.jobs.fetch_add(jobs as u64, Ordering::Relaxed);
        }
    }

    async fn look<Q: Queue>(&self, queue: &Q) {
        for (lane, length) in self.lanes.iter() {
            // With the queue away the last known depth stands: publishing fails by itself.
            if let Ok(depth) = queue.depth(&QueueName::Lane(lane.clone())).await {
                length.jobs.store(0, Ordering::Relaxed);
                length.frames.store(depth, Ordering::Relaxed);
                length.shown.set(depth);
            }
        }
    }
}

async fn check<Q: Queue>(queue: &Q, health: &QueueHealth) {
    let dead = queue.depth(&QueueName::Dead).await;
    health.up(dead.is_ok());
    if let Ok(frames) = dead {
        health.dead_letters(frames);
    }
}

impl Length {
    fn new(lane: &Lane) -> Self {
        Self { frames: AtomicU64::new(0), jobs: AtomicU64::new(0), shown: LaneDepth::new(lane) }
    }

    /// Returns how many frames there are, at least.
    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed) + self.jobs.load(Ordering::Relaxed) / FRAME_JOBS_MAX as u64
    }
}
