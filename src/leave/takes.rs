//! Which caps count the jobs of an envelope, as limits take them. Pure.

use jiff::tz::TimeZone;

use crate::domain::cap::{CapRule, Count, Mode, OnLimit, Per, Unit, Window};
use crate::domain::job::{Job, Shared};
use crate::domain::keys::{RecipientKey, space};
use crate::domain::time::UnixMicros;
use crate::limits::{Decision, Once, Span, TAKES_MAX, Take, Vacate};
use crate::policy::cap_windows;
use crate::seal::Sealer;
use crate::telemetry::metrics::CapDecision;

/// The caps that count the jobs of an envelope; a take has its rule's place.
pub struct Caps {
    /// The tenant's, for recipients whose own is unknown.
    zone: TimeZone,
    rules: Vec<CapRule>,
    takes: Vec<Take>,
}

impl Caps {
    /// Returns those of `rules` that count the envelope's jobs; `zone` is the tenant's.
    pub(super) fn new(shared: &Shared, rules: &[CapRule], zone: TimeZone, sealer: &Sealer) -> Self {
        let counts = |rule: &&CapRule| rule.counts(shared.kind, shared.class, &shared.topic, &shared.sender);
        let rules: Vec<_> = rules.iter().filter(counts).take(TAKES_MAX).cloned().collect();
        let takes = rules.iter().map(|rule| take(rule, shared, sealer)).collect();
        Self { zone, rules, takes }
    }

    /// Returns the takes of one job of so many units at `now`; `zone` is the recipient's, if it is known.
    pub(super) fn takes(&self, now: UnixMicros, units: u32, zone: impl Fn() -> Option<TimeZone>) -> Vec<Take> {
        let at = |(rule, take): (&CapRule, &Take)| {
            let stretch = |(start, end)| Span::Fixed { start, end };
            let span = match rule.window {
                Window::Calendar(unit) => {
                    stretch(cap_windows::calendar(unit, zone().as_ref().unwrap_or(&self.zone), now))
                }
                Window::Clock(unit, offset_min) => stretch(cap_windows::clock(unit, offset_min, now)),
                Window::Rolling(_) | Window::FromFirst(_) | Window::Gap(_) | Window::Bucket(_) => take.span,
            };
            Take { span, need: need(rule, units), ..take.clone() }
        };
        self.rules.iter().zip(&self.takes).map(at).collect()
    }

    /// Returns the rule that can never let a job of so many units through, if there is one: that needs no store.
    pub fn never(&self, units: u32) -> Option<&CapRule> {
        let never = |(rule, take): &(&CapRule, &Take)| rule.mode == Mode::Enforce && need(rule, units) > take.limit;
        self.rules.iter().zip(&self.takes).find(never).map(|(rule, _)| rule)
    }

    /// Returns the rule of a take.
    pub fn rule(&self, take: usize) -> Option<&CapRule> {
        self.rules.get(take)
    }

    /// Returns the rule of this name, if it counts the jobs.
    pub fn named(&self, name: &str) -> Option<&CapRule> {
        self.rules.iter().find(|rule| rule.name.as_str() == name)
    }

    /// Returns what each rule said, as far as the answer tells: of a refusal only the rule that refused.
    pub fn said(&self, decision: &Decision) -> Vec<(&CapRule, CapDecision)> {
        let full = |rule: &CapRule| match rule.on_limit {
            OnLimit::Defer => CapDecision::Deferred,
            OnLimit::Drop => CapDecision::Dropped,
        };
        let taken = |shadows: u32| {
            let said = |(index, rule)| {
                let over = u32::try_from(index).ok().and_then(|index| shadows.checked_shr(index)).unwrap_or(0) & 1 == 1;
                (rule, if over { full(rule) } else { CapDecision::Taken })
            };
            self.rules.iter().enumerate().map(said).collect()
        };
        match decision {
            Decision::Claimed => taken(0),
            Decision::Overshadowed(shadows) => taken(*shadows),
            Decision::OverCap { take, .. } => self.rule(*take).map(|rule| (rule, full(rule))).into_iter().collect(),
            Decision::Held { .. }
            | Decision::Forgotten
            | Decision::Recovering { .. }
            | Decision::Suppressed(_)
            | Decision::Cancelled
            | Decision::Collapsed
            | Decision::Moved { .. } => vec![],
        }
    }
}

/// Returns the places that a job gives back once it is known that it reached nobody: those in the caps of `rules` that count
/// what was delivered. `None`: in none.
pub fn vacated(shared: &Shared, job: &Job, rules: &[CapRule], sealer: &Sealer) -> Option<Vacate> {
    let counts = |rule: &&CapRule| {
        rule.count == Count::Delivered && rule.counts(shared.kind, shared.class, &shared.topic, &shared.sender)
    };
    let takes: Vec<Take> = rules.iter().filter(counts).map(|rule| take(rule, shared, sealer)).collect();
    let mut logs: Vec<_> = takes.iter().filter_map(|take| take.log).collect();
    logs.dedup();
    let (tenant, touch) = (shared.tenant.clone(), job.id.0);
    let recipient = sealer.recipient_key(&shared.tenant, &job.recipient, shared.kind);
    let rules = takes.iter().map(|take| take.rule).collect();
    (!takes.is_empty()).then_some(Vacate { tenant, recipient, touch, rules, logs })
}

fn need(rule: &CapRule, units: u32) -> u32 {
    match rule.unit {
        Unit::Jobs => 1,
        Unit::Segments => units.clamp(1, u8::MAX.into()),
    }
}

fn take(rule: &CapRule, shared: &Shared, sealer: &Sealer) -> Take {
    let span = match rule.window {
        Window::Rolling(length) | Window::Gap(length) => Span::Rolling(length),
        Window::FromFirst(length) => Span::FromFirst(length),
        Window::Bucket(refill) => Span::Bucket(refill),
        // Where these begin and end is known when a job is.
        Window::Calendar(_) | Window::Clock(..) => Span::Fixed { start: UnixMicros(0), end: UnixMicros(0) },
    };
    let sender = || RecipientKey(sealer.word_key(&shared.tenant, space::SENDER, &shared.sender).0);
    Take {
        rule: number(rule, shared),
        log: (rule.per == Per::Sender).then(sender),
        limit: rule.limit_for(shared.class),
        need: 1,
        span,
        once: match rule.count {
            Count::Submitted | Count::Delivered => Once::Touch,
            Count::Attempted => Once::Attempt,
        },
        on_limit: rule.on_limit,
        mode: rule.mode,
    }
}

/// Returns the number that stands for a rule in a log. Under the same name another window, unit or way to count is another
/// rule, which counts afresh; and so is the same rule for another topic, sender or campaign where it counts per those.
fn number(rule: &CapRule, shared: &Shared) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(rule.name.as_str().as_bytes());
    let (form, number) = match rule.window {
        Window::Rolling(length) => ("", length.as_micros()),
        Window::Calendar(unit) => (unit.as_str(), 0),
        Window::Clock(unit, offset) => (unit.as_str(), u128::from(offset.unsigned_abs()) << 1 | u128::from(offset < 0)),
        Window::FromFirst(length) => ("from_first", length.as_micros()),
        Window::Gap(length) => ("gap", length.as_micros()),
        Window::Bucket(refill) => ("bucket", refill.as_micros()),
    };
    hash.update(form.as_bytes());
    hash.update(&number.to_be_bytes());
    if rule.unit == Unit::Segments {
        hash.update(b"/segments");
    }
    match rule.count {
        Count::Submitted => {}
        Count::Delivered => hash.update(b"/delivered"),
        Count::Attempted => hash.update(b"/attempted"),
    }
    match rule.per {
        Per::Recipient | Per::Sender => {}
        Per::RecipientTopic => hash.update([b"/topic:", shared.topic.as_bytes()].concat().as_slice()),
        Per::RecipientSender => hash.update([b"/sender:", shared.sender.as_bytes()].concat().as_slice()),
        Per::RecipientCampaign => {
            hash.update([b"/campaign:", shared.origin.campaign_id.as_bytes()].concat().as_slice());
        }
    }
    hash.finalize()
}
