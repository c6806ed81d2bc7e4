//! Brings what follows calls: hands jobs in and opts callees out, before the recording that says how the calls ended is
//! written. A batch that comes again brings the same again, which changes nothing; what cannot be brought now is put into the
//! agenda with the recording, and tried again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tracing::error;
use uuid::Uuid;

use super::unwritable;
use crate::agenda::entry;
use crate::channel::call::runner::FollowUp;
use crate::channel::call::{Followed, OptedOut};
use crate::domain::call::{After, AfterAct};
use crate::domain::event::{Fact, Owed};
use crate::domain::job::{Check, Job};
use crate::domain::suppression::{Plain, Suppression};
use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::{Entry, LedgerError};
use crate::limits::Limits;
use crate::rate_limited;
use crate::receipt::{FollowUps, NotFollowed};
use crate::seal::Sealer;

/// How long a batch waits for what follows the calls in it.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a batch brings at most; the rest is tried again.
const BROUGHT_MAX: usize = 256;
/// When it is tried again at first and at last, in between after half the time since the call; and for how long after it, but for
/// opt-outs.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How much is brought at the same time.
const TOGETHER_MAX: usize = 64;
/// What the timers are called.
const AFTER_CALL: &str = "after-call";

/// By which it is brought.
pub(super) struct Means<'a, M> {
    pub(super) limits: &'a M,
    pub(super) follow_ups: &'a dyn FollowUps,
    pub(super) sealer: &'a Sealer,
    pub(super) clock: &'a Clock,
}

/// What came of something that follows a call.
enum Brought {
    /// It is there, or never will be.
    Done,
    /// The callee is opted out in limits.
    OptedOut(Suppression, Plain),
    /// Not now.
    NotYet,
}

/// What came of all that was owed.
pub(super) struct Paid {
    /// Opt-outs that bind, for the recording.
    pub(super) suppressed: Vec<(Suppression, Plain)>,
    /// What is tried again.
    pub(super) still: Vec<Owed>,
}

impl<M: Limits> Means<'_, M> {
    /// Brings what follows calls, as far as that can be done now.
    pub(super) async fn bring(&self, mut owed: Vec<Owed>) -> Paid {
        let watch = self.clock.stopwatch();
        let still = owed.split_off(owed.len().min(BROUGHT_MAX));
        let mut paid = Paid { suppressed: vec![], still };
        let brought = stream::iter(owed).map(|owed| {
            let watch = &watch;
            async move {
                let left = PATIENCE.saturating_sub(watch.elapsed());
                let brought = self.clock.timeout(left, self.one(&owed)).await;
                (brought.unwrap_or(Brought::NotYet), owed)
            }
        });
        let mut brought = brought.buffer_unordered(TOGETHER_MAX);
        while let Some((brought, owed)) = brought.next().await {
            match brought {
                Brought::Done => {}
                Brought::OptedOut(suppression, plain) => paid.suppressed.push((suppression, plain)),
                Brought::NotYet if !opts_out(&owed) && self.clock.now().since(owed.at) > GIVEN_UP_AFTER => {
                    let job = owed.call.jobs.first().map(|job| job.id);
                    error!(?job, "what was to follow a call could not be brought for a day and is given up");
                }
                Brought::NotYet => paid.still.push(owed),
            }
        }
        paid
    }

    async fn one(&self, owed: &Owed) -> Brought {
        let (shared, plan) = (&owed.call.shared, owed.call.shared.content.plan());
        let (Some(job), Some(after)) = (owed.call.jobs.first(), plan.after.get(usize::from(owed.place))) else {
            return Brought::Done;
        };
        match &after.act {
            AfterAct::Submit { kind, template, params } => {
                // A dot: no node has that in its name.
                let from = format!("after.{}", owed.place);
                let variables: Vec<_> = job.params.iter().chain(&owed.heard).cloned().collect();
                let own = params.iter().map(|(name, value)| (name, value));
                let follow_up = FollowUp::filled(from.into(), (*kind, template), own, &variables);
                let (shared, recipient) = (Arc::clone(shared), job.recipient.clone());
                self.submit(Followed { job: job.id, shared, recipient, follow_up, at: owed.at }).await
            }
            AfterAct::OptOut { everything } => self.opt_out((owed, job), *everything).await,
            AfterAct::NextStep => Brought::Done,
        }
    }

    async fn submit(&self, followed: Followed) -> Brought {
        match self.follow_ups.submit(&followed).await {
            Ok(()) => Brought::Done,
            Err(NotFollowed::Never(why)) => {
                rate_limited!(per_min = 60, warn, job = %followed.job, %why, "a job that was to follow a call is refused");
                Brought::Done
            }
            Err(NotFollowed::NotNow(why)) => {
                let job = followed.job;
                rate_limited!(per_min = 6, warn, %job, %why, "a job that is to follow a call is not accepted yet");
                Brought::NotYet
            }
        }
    }

    async fn opt_out(&self, (owed, job): (&Owed, &Job), everything: bool) -> Brought {
        let Some(number) = job.recipient.phone.as_ref().map(|phone| phone.as_str()) else { return Brought::Done };
        let (tenant, at) = (owed.call.shared.tenant.clone(), owed.at);
        let (suppression, plain) = OptedOut { tenant, number: number.into(), everything, at }.suppression(self.sealer);
        match self.limits.suppress(std::slice::from_ref(&suppression)).await {
            Ok(()) => Brought::OptedOut(suppression, plain),
            Err(problem) => {
                rate_limited!(per_min = 6, warn, %problem, "an opt-out that follows a call does not bind yet");
                Brought::NotYet
            }
        }
    }
}

/// An opt-out is never given up.
fn opts_out(owed: &Owed) -> bool {
    let plan = owed.call.shared.content.plan();
    matches!(plan.after.get(usize::from(owed.place)), Some(After { act: AfterAct::OptOut { .. }, .. }))
}

/// Returns the agenda entries of what is tried again, and of calls that are looked at again.
pub(super) fn entries(
    still: Vec<Owed>,
    checks: Vec<Check>,
    sealer: &Sealer,
    now: UnixMicros,
) -> Result<Vec<Entry>, LedgerError> {
    let again = still.into_iter().map(|owed| again(owed, sealer, now));
    again.chain(checks.into_iter().map(|check| look_again(check, sealer))).collect()
}

fn again(owed: Owed, sealer: &Sealer, now: UnixMicros) -> Result<Entry, LedgerError> {
    let job = owed.call.jobs.first().map_or_else(Default::default, |job| job.id.0);
    let wait = (now.since(owed.at) / 2).clamp(AGAIN_AFTER.0, AGAIN_AFTER.1);
    let (due_at, key) = (now.plus(wait), format!("{job}.{}", owed.place));
    let id = Uuid::new_v5(&job, format!("{AFTER_CALL}.{}.{}", owed.place, due_at.0).as_bytes());
    let whose = (owed.call.shared.tenant.clone(), owed.call.lane());
    let told = (due_at, Fact::Owed(Box::new(owed)));
    entry::timer(id, (AFTER_CALL, key), whose, told, sealer).map_err(|problem| unwritable(&problem))
}

fn look_again(check: Check, sealer: &Sealer) -> Result<Entry, LedgerError> {
    let job = check.envelope.jobs.first().map_or_else(Default::default, |job| job.id.0);
    // Whichever check leads to it, and however often.
    let id = Uuid::new_v5(&job, format!("call-check.{}", check.attempt).as_bytes());
    entry::check(id, check, sealer).map_err(|problem| unwritable(&problem))
}
