//! Fills frames.

use std::sync::Arc;

use super::jobs::{job_bytes, shared_bytes};
use super::{Frame, HEADER_BYTES};
use crate::domain::event::Fact;
use crate::domain::job::{ENVELOPE_JOBS_MAX, Envelope, Job, Shared};
use crate::domain::time::UnixMicros;
use crate::queue::FRAME_BYTES_MAX;
use crate::seal::OVERHEAD_BYTES;

/// Most jobs that [`pack`] puts in a frame: enough that the broker's cost per frame no longer shows, few enough that a
/// dispatcher at 1 000/s is done with it long before the 20 s that a frame may be held.
pub const FRAME_JOBS_MAX: usize = 512;
/// Bytes of a frame that its body may take.
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - OVERHEAD_BYTES;

/// Puts envelopes into as few frames as bytes and [`FRAME_JOBS_MAX`] allow. The order of the jobs is kept; an envelope
/// that does not fit is divided. A single job that is larger than a frame gets a frame of its own, which
/// [`Frame::encode`] refuses.
pub fn pack(envelopes: impl IntoIterator<Item = Envelope>) -> Vec<Frame> {
    let mut packer = Packer { frames: vec![], open: vec![], bytes: 0, jobs: 0 };
    for Envelope { shared, due_at, jobs } in envelopes {
        packer.put(&shared, due_at, jobs);
    }
    packer.close();
    packer.frames
}

/// Puts facts into as few frames as bytes allow, in order.
pub fn pack_facts(facts: impl IntoIterator<Item = Fact>) -> Vec<Frame> {
    let mut frames = vec![];
    let (mut open, mut bytes) = (vec![], 0);
    for fact in facts {
        let size = fact_bytes(&fact);
        if !open.is_empty() && (bytes + size > BODY_BYTES_MAX || open.len() == FRAME_FACTS_MAX) {
            frames.push(Frame::Facts(std::mem::take(&mut open)));
            bytes = 0;
        }
        bytes += size;
        open.push(fact);
    }
    if !open.is_empty() {
        frames.push(Frame::Facts(open));
    }
    frames
}

/// Most facts in a frame.
const FRAME_FACTS_MAX: usize = 1024;

struct Packer {
    frames: Vec<Frame>,
    open: Vec<Envelope>,
    bytes: usize,
    jobs: usize,
}

impl Packer {
    fn put(&mut self, shared: &Arc<Shared>, due_at: UnixMicros, jobs: Vec<Job>) {
        let front = shared_bytes(shared);
        let mut part: Vec<Job> = Vec::with_capacity(jobs.len().min(ENVELOPE_JOBS_MAX));
        let mut part_bytes = front;
        for job in jobs {
            let size = job_bytes(&job);
            let full = self.bytes + part_bytes + size > BODY_BYTES_MAX || self.jobs + part.len() == FRAME_JOBS_MAX;
            // An open frame that has nothing takes anything: dividing further would not help.
            if full && !(self.open.is_empty() && part.is_empty()) {
                self.add(shared, due_at, &mut part, part_bytes);
                self.close();
                part_bytes = front;
            } else if part.len() == ENVELOPE_JOBS_MAX {
                self.add(shared, due_at, &mut part, part_bytes);
                part_bytes = front;
            }
            part_bytes += size;
            part.push(job);
        }
        self.add(shared, due_at, &mut part, part_bytes);
    }

    fn add(&mut self, shared: &Arc<Shared>, due_at: UnixMicros, part: &mut Vec<Job>, bytes: usize) {
        if part.is_empty() {
            return;
        }
        self.bytes += bytes;
        self.jobs += part.len();
        self.open.push(Envelope { shared: Arc::clone(shared), due_at, jobs: std::mem::take(part) });
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.frames.push(Frame::Jobs(std::mem::take(&mut self.open)));
        }
        (self.bytes, self.jobs) = (0, 0);
    }
}

/// Returns a bound on the bytes that a fact takes.
fn fact_bytes(fact: &Fact) -> usize {
    use crate::domain::event::Change;
    // Tags, an id, a name of at most 64, times and lengths come to less than this.
    let base = 200;
    match fact {
        Fact::Event(event) => match &event.change {
            Change::Sent { message_ids, .. } => base + message_ids.iter().map(|id| id.len() + 5).sum::<usize>(),
            Change::Deferred { reason, .. } => base + reason.len(),
            Change::Settled(outcome) => base + outcome.reason.len(),
            Change::Unresolved { .. } | Change::Progress(_) => base,
        },
        Fact::Receipt(receipt) => base + receipt.message_id.len() + receipt.code.len(),
        Fact::Reply(reply) => base + reply.from.len() + reply.to.len() + reply.text.len(),
        Fact::Suppressed(_) | Fact::Unsuppressed(..) | Fact::Cancelled(_) => base,
    }
}
