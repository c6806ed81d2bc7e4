//! What follows from a provider's answer. Pure: no clock, no I/O; chance is an argument.

use std::time::Duration;

use crate::channel::{Answer, Profile};
use crate::domain::event::{Change, Fate, Outcome};
use crate::domain::job::{Job, Kind, Shared};
use crate::domain::money::Money;
use crate::domain::time::UnixMicros;
use crate::telemetry::metrics;

/// Attempts that definitely did not go out, at most; then the job has failed. With the backoff below this is more than
/// a day, so a job's expiry ends it earlier in nearly every case.
const ATTEMPTS_MAX: u16 = 200;
/// The first retry comes after about this long.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Retries are never further apart than about this.
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// What follows from an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is with the provider, or it has its outcome.
    Event(Change),
    /// It did not go out, through no fault of its own: to the front of the line again, no attempt charged.
    Again {
        /// When the provider may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It did not go out: another attempt later.
    RetryAt {
        /// When.
        at: UnixMicros,
        /// Why it did not go out.
        code: Box<str>,
    },
    /// Nobody knows: record decides after the claim's deadline.
    Check,
}

/// Decides what follows from a provider's `answer` to an attempt at `now`. `chance` in 0..1 spreads retries.
pub(super) fn after(
    answer: Answer,
    provider: &Profile,
    (shared, job): (&Shared, &Job),
    now: UnixMicros,
    chance: f64,
) -> Verdict {
    match answer {
        Answer::Taken { message_ids, segments, receipt_expected } => {
            let cost = cost(provider, shared.kind, segments);
            Verdict::Event(Change::Sent { provider: provider.id.clone(), message_ids, receipt_expected, cost })
        }
        Answer::Refused { code } => Verdict::Event(Change::Settled(Outcome { fate: Fate::Rejected, reason: code })),
        Answer::Throttled { retry_after } => Verdict::Again { retry_after },
        Answer::NotSent { code, retry_after } => {
            let wait = backoff(job.attempt, chance).max(retry_after.unwrap_or_default());
            retry(code, shared, job, (now, wait))
        }
        Answer::Closed { code, opens: _ } => retry(code, shared, job, (now, backoff(job.attempt, chance))),
        Answer::NoAnswer => Verdict::Check,
    }
}

/// Returns what a hand-over costs: its segments as the provider counted them, or one message. What a call costs is known when
/// it has ended.
fn cost(provider: &Profile, kind: Kind, segments: u8) -> Option<Money> {
    match kind {
        Kind::Sms => provider.price.map(|price| price.times(segments.into())),
        Kind::Template => provider.price,
        Kind::Call => None,
    }
}

fn retry(code: Box<str>, shared: &Shared, job: &Job, (now, wait): (UnixMicros, Duration)) -> Verdict {
    let at = now.plus(wait);
    if job.attempt >= ATTEMPTS_MAX {
        Verdict::Event(Change::Settled(Outcome { fate: Fate::Failed, reason: code }))
    } else if at >= shared.expires_at {
        Verdict::Event(Change::Settled(Outcome { fate: Fate::Expired, reason: code }))
    } else {
        Verdict::RetryAt { at, code }
    }
}

/// Returns how long to wait after `failed` attempts: doubling, bounded, spread over half to whole.
pub(super) fn backoff(failed: u16, chance: f64) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << u32::from(failed.min(16)));
    doubled.min(BACKOFF_MAX).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// Returns the word under which an answer is counted.
pub(super) fn word(answer: &Answer) -> metrics::Verdict {
    match answer {
        Answer::Taken { .. } => metrics::Verdict::Taken,
        Answer::Refused { .. } => metrics::Verdict::Refused,
        Answer::Throttled { .. } => metrics::Verdict::Throttled,
        Answer::NotSent { .. } | Answer::Closed { .. } => metrics::Verdict::NotSent,
        Answer::NoAnswer => metrics::Verdict::Unresolved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_costs_its_segments_and_a_message_its_price() {
        let price = "0.045 CNY".parse().ok();
        let (id, response_timeout) = ("carrier".parse().unwrap(), Duration::ZERO);
        let provider = Profile { id, kinds: Kind::ALL.to_vec(), response_timeout, price, confirmed: false };
        let costs = Kind::ALL.iter().map(|&kind| cost(&provider, kind, 3).map(|cost| cost.to_string()));
        assert_eq!(costs.collect::<Vec<_>>(), [Some("0.135 CNY".into()), Some("0.045 CNY".into()), None]);
        assert_eq!(cost(&Profile { price: None, ..provider }, Kind::Sms, 3), None);
    }

    #[test]
    fn backoff_doubles_within_bounds() {
        for failed in 0..100 {
            for chance in [0.0, 0.3, 1.0] {
                let wait = backoff(failed, chance);
                assert!(wait >= BACKOFF_MIN / 2 && wait <= BACKOFF_MAX, "{failed} {chance}: {wait:?}");
            }
        }
        assert_eq!(backoff(0, 1.0), Duration::from_secs(1));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(8));
        assert_eq!(backoff(3, 0.0), Duration::from_secs(4));
    }
}
