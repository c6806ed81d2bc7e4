//! Who of those released at the same time reaches a recipient first: the higher class, then the higher priority. Pure.
//!
//! Each of them may take the recipient's last place under a cap. So the lower is released with a reserved time that is a
//! little later, and dispatch, wherever it runs, waits for that.

use std::time::Duration;

use hashbrown::HashMap;

use crate::domain::job::{Class, Envelope, Job};
use crate::domain::keys::RecipientKey;
use crate::domain::time::UnixMicros;

/// How far the jobs of two ranks are kept apart: longer than a frame usually takes from its lane to its claims.
const APART: Duration = Duration::from_millis(150);
/// How far ahead a time is reserved at most.
pub(super) const AHEAD_MAX: Duration = Duration::from_millis(500);
/// Recipients remembered at most; of more, some are not kept apart.
const RECIPIENTS_MAX: usize = 200_000;

/// Class and priority: the smaller goes first.
pub(super) type Rank = (Class, i16);

/// Returns the rank of an envelope's jobs.
pub(super) fn rank(envelope: &Envelope) -> Rank {
    (envelope.shared.class, -i16::from(envelope.shared.priority))
}

/// The recipients of what was released a moment ago.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: HashMap<RecipientKey, (Rank, UnixMicros)>,
    pruned_at: UnixMicros,
}

// === impl Order ===

impl Order {
    /// Returns the time to reserve for a job that is released at `now`. Of jobs released together, the higher rank is
    /// asked for first.
    pub(super) fn place(&mut self, recipient: RecipientKey, rank: Rank, now: UnixMicros) -> UnixMicros {
        self.prune(now);
        let last = self.last.get(&recipient).copied().filter(|(_, at)| at.plus(APART) > now);
        let at = match last {
            Some((before, at)) if before < rank => at.max(now).plus(APART).min(now.plus(AHEAD_MAX)),
            Some((before, at)) if before == rank => at.max(now),
            Some(_) | None => now,
        };
        if self.last.len() < RECIPIENTS_MAX {
            self.last.insert(recipient, (rank, at));
        }
        at
    }

    /// Divides a released envelope by the times reserved for its jobs, which `recipient` tells apart.
    pub(super) fn divide(
        &mut self,
        envelope: Envelope,
        recipient: impl Fn(&Job) -> RecipientKey,
        now: UnixMicros,
    ) -> Vec<Envelope> {
        let rank = rank(&envelope);
        let mut parts = vec![Envelope { due_at: now, ..envelope.with_jobs(vec![]) }];
        for job in envelope.jobs {
            let due_at = self.place(recipient(&job), rank, now);
            match parts.iter_mut().find(|part| part.due_at == due_at) {
                Some(part) => part.jobs.push(job),
                None => parts.push(Envelope { due_at, ..parts[0].with_jobs(vec![job]) }),
            }
        }
        parts.retain(|part| !part.jobs.is_empty());
        parts
    }

    fn prune(&mut self, now: UnixMicros) {
        if now.since(self.pruned_at) >= Duration::from_secs(1) {
            self.last.retain(|_, (_, at)| at.plus(APART) > now);
            self.pruned_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros::from_secs(1_000);
    const HIGH: Rank = (Class::Notification, 0);
    const MIDDLE: Rank = (Class::Marketing, -50);
    const LOW: Rank = (Class::Marketing, 0);

    fn person(number: u8) -> RecipientKey {
        RecipientKey([number; 16])
    }

    #[test]
    fn the_higher_rank_has_a_head_start_with_the_same_recipient_and_no_other() {
        let mut order = Order::default();
        assert_eq!(order.place(person(1), HIGH, NOW), NOW);
        assert_eq!(order.place(person(1), MIDDLE, NOW), NOW.plus(APART));
        assert_eq!(order.place(person(1), LOW, NOW), NOW.plus(APART * 2));
        assert_eq!(order.place(person(2), LOW, NOW), NOW);
        assert_eq!(order.place(person(2), LOW, NOW), NOW, "equals need no order");
        let later = NOW.plus(APART / 2);
        assert_eq!(order.place(person(3), LOW, NOW), NOW);
        assert_eq!(order.place(person(3), HIGH, later), later, "the higher never waits");
    }

    #[test]
    fn times_are_reserved_a_little_ahead_only_and_forgotten() {
        let mut order = Order::default();
        for priority in 0..100 {
            let at = order.place(person(1), (Class::Marketing, priority), NOW);
            assert!(at <= NOW.plus(AHEAD_MAX));
        }
        let later = NOW.plus(Duration::from_secs(2));
        assert_eq!(order.place(person(1), LOW, later), later);
        order.place(person(9), LOW, later.plus(Duration::from_secs(2)));
        assert_eq!(order.last.len(), 1);
    }
}
