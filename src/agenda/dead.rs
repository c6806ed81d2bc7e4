//! Looks after the dead-letter queue: a job in it stays open, its owner is told why it does not move, and its expiry or
//! its owner's word settles it there. `redrive` resumes it (see [`dead::Letter::redrive`]).

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

use super::Context;
use super::sweep::{Stuck, event};
use crate::domain::event::{Change, DEAD_LETTER, Fact, Fate, Outcome};
use crate::domain::job::{Check, Envelope};
use crate::domain::time::UnixMicros;
use crate::ledger::Ledger;
use crate::limits::{Claim, Decision, Limits, Words};
use crate::queue::dead::{self, Letter};
use crate::queue::{Delivery, Queue, QueueName, Route};

/// How often to look whether there is something new, and how often at everything that is there.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(60);

/// What becomes of a dead job now.
enum End {
    /// It stays.
    None,
    /// It has its outcome.
    Settled(Outcome),
    /// Another copy of it was claimed: record decides.
    Check { attempt: u16, deadline: UnixMicros },
}

/// Starts to look after dead letters.
pub(super) fn spawn<Q: Queue, L: Limits, B: Ledger>(context: &Arc<Context<Q, L, B>>) {
    let context = Arc::clone(context);
    let tasks = context.tasks.clone();
    tasks.spawn("dead letters", async move {
        let stop = context.tasks.stop().clone();
        let (mut known, mut all_at, mut next_end) = (0, UnixMicros::default(), UnixMicros::MAX);
        while stop.run_until_cancelled(context.clock.sleep(LOOK_EVERY)).await.is_some() {
            let (now, depth) = (context.clock.now(), context.queue.depth(&QueueName::Dead).await.unwrap_or(0));
            if depth == 0 || (depth == known && now < all_at && now < next_end) {
                continue;
            }
            match context.look_after_dead().await {
                Ok((left, end)) => (known, all_at, next_end) = (left, now.plus(LOOK_AT_ALL_EVERY), end),
                Err(problem) => warn!(%problem, "cannot look after dead letters"),
            }
        }
    });
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Looks at each letter; returns how many stay, and when the first of their jobs expires.
    pub(super) async fn look_after_dead(&self) -> Result<(u64, UnixMicros), Stuck> {
        let (mut left, mut next_end) = (0, UnixMicros::MAX);
        for (letter, delivery) in dead::look(&self.queue, &self.clock).await? {
            let Some(envelopes) = letter.work(&self.sealer) else {
                left += 1;
                continue;
            };
            if !letter.told || envelopes.len() > 1 || envelopes.iter().any(|envelope| envelope.jobs.len() > 1) {
                left += self.note(&letter, &envelopes).await?;
                delivery.ack();
                continue;
            }
            let [envelope] = &envelopes[..] else { continue };
            match self.end(envelope).await? {
                End::None => {
                    left += 1;
                    next_end = next_end.min(envelope.shared.expires_at);
                }
                end => self.carry_to(end, envelope, delivery).await?,
            }
        }
        Ok((left, next_end))
    }

    /// Tells the owners of a letter's jobs that they are dead, and gives each a letter of its own.
    async fn note(&self, letter: &Letter, envelopes: &[Envelope]) -> Result<u64, Stuck> {
        let now = self.clock.now();
        let mut letters = 0;
        for (index, envelope) in dead::suspects(envelopes).enumerate() {
            self.facts.publish(self.told(&envelope, now), Route::To(QueueName::Record)).await?;
            let alone = Letter {
                id: Uuid::new_v5(&letter.id, &index.to_be_bytes()),
                at: Some(letter.at.unwrap_or(now)),
                told: true,
                frame: dead::single(envelope, &self.sealer)?,
                ..letter.clone()
            };
            self.queue.publish(alone.id, alone.write(), Route::To(QueueName::Dead)).await?;
            letters += 1;
        }
        Ok(letters)
    }

    fn told(&self, envelope: &Envelope, now: UnixMicros) -> Vec<Fact> {
        let until = envelope.shared.expires_at;
        let told = |job| {
            let change = Change::Deferred { reason: DEAD_LETTER.into(), until };
            Fact::Event(event(&envelope.shared, job, change, now))
        };
        envelope.jobs.iter().map(told).collect()
    }

    /// Asks what becomes of a dead job.
    async fn end(&self, envelope: &Envelope) -> Result<End, Stuck> {
        let (now, shared) = (self.clock.now(), &envelope.shared);
        let words = Words::new(shared, &self.sealer);
        let question =
            |job| Some(Claim::question(shared, job, words.against(shared, job, &self.sealer)?, &self.sealer));
        let claims: Vec<Claim> = envelope.jobs.iter().filter_map(question).collect();
        let decision = self.limits.peek(now, &claims).await?.into_iter().next();
        let expires_at = match decision {
            // Neither a claim nor a move can be seen now.
            Some(Decision::Recovering { .. }) => return Ok(End::None),
            Some(Decision::Held { attempt, deadline }) => return Ok(End::Check { attempt, deadline }),
            Some(Decision::Cancelled) => return Ok(End::Settled(Outcome::new(Fate::Cancelled, "request"))),
            Some(Decision::Collapsed) => return Ok(End::Settled(Outcome::new(Fate::Cancelled, "collapsed"))),
            Some(Decision::Moved { at, due_at, expires_at }) => {
                shared.moved(at, due_at, expires_at, &self.lives).expires_at
            }
            Some(_) | None => shared.expires_at,
        };
        Ok(if expires_at <= now { End::Settled(Outcome::new(Fate::Expired, DEAD_LETTER)) } else { End::None })
    }

    async fn carry_to(&self, end: End, envelope: &Envelope, delivery: Delivery) -> Result<(), Stuck> {
        match end {
            End::None => return Ok(()),
            End::Settled(outcome) => {
                let (now, change) = (self.clock.now(), Change::Settled(outcome));
                let facts =
                    envelope.jobs.iter().map(|job| Fact::Event(event(&envelope.shared, job, change.clone(), now)));
                self.facts.publish(facts.collect(), Route::To(QueueName::Record)).await?;
            }
            End::Check { attempt, deadline } => {
                let check =
                    Check { envelope: envelope.clone(), attempt, provider: None, due_at: deadline, ends_call: false };
                self.checks.publish(vec![check], Route::To(QueueName::Soon)).await?;
            }
        }
        delivery.ack();
        Ok(())
    }
}
