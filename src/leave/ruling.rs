//! What single rules say of a job, and why. Pure.

use super::ground::Ground;
use crate::domain::cap::{CapRule, Mode, OnLimit, Unit, Window};
use crate::domain::event::Fate;
use crate::domain::job::{Job, OnMissed, Shared};
use crate::domain::time::UnixMicros;
use crate::limits::{Claim, Held, Once, Take, opens_at, short};
use crate::policy::windows::Says;
use crate::policy::zones;

/// What one rule decided about a job, or decides now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// When.
    pub at: UnixMicros,
    /// The rule: a cap's name, a window's with `window:` in front, or a word such as `opt_out`.
    pub rule: Box<str>,
    /// What.
    pub said: Said,
    /// The places of a cap.
    pub places: Option<Places>,
    /// When it lets the job through; `None`: at once, or never.
    pub open_at: Option<UnixMicros>,
    /// Whether it only watches.
    pub shadow: bool,
}

/// What a rule says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// The job may leave.
    Pass,
    /// It waits.
    Defer,
    /// It ends.
    Stop(Fate),
}

/// The places of a cap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// How many there are, for the job's class.
    pub limit: u32,
    /// How many are taken.
    pub used: u32,
    /// In which window.
    pub window: Window,
    /// The jobs that took them, newest first and each once, as [`short`] makes them.
    pub holders: Vec<u64>,
}

impl Ruling {
    /// Returns what a rule without places said.
    pub fn new(at: UnixMicros, rule: impl Into<Box<str>>, said: Said, open_at: Option<UnixMicros>) -> Self {
        Self { at, rule: rule.into(), said, places: None, open_at, shadow: false }
    }
}

impl Places {
    /// Returns how many places are left.
    pub fn left(&self) -> u32 {
        self.limit.saturating_sub(self.used)
    }
}

impl Ground {
    /// Returns what each cap that counts the job says at `at`, where these places are held in them. Of a time that has
    /// passed it is told what is remembered.
    pub fn caps_say(&self, shared: &Shared, claim: &Claim, held: &[Vec<Held>], at: UnixMicros) -> Vec<Ruling> {
        let say = |(index, take): (usize, &Take)| {
            let mut held = held.get(index).cloned().unwrap_or_default();
            held.retain(|held| held.at <= at);
            let rule = self.caps().rule(index)?;
            let open_at = opens_at(take, &held, claim.touch, at);
            let said = match (open_at, rule.on_limit) {
                (None, _) => Said::Pass,
                (Some(_), OnLimit::Drop) => Said::Stop(Fate::Suppressed),
                (Some(open_at), OnLimit::Defer) if open_at >= shared.expires_at => Said::Stop(Fate::Expired),
                (Some(_), OnLimit::Defer) => Said::Defer,
            };
            Some(Ruling {
                at,
                rule: rule.name.as_str().into(),
                said,
                places: Some(places(rule, take, &held, at)),
                open_at: open_at.filter(|open_at| *open_at != UnixMicros::MAX),
                shadow: rule.mode == Mode::Shadow,
            })
        };
        claim.takes.iter().enumerate().filter_map(say).collect()
    }

    /// Returns what the caps said of a job that was answered for at `at`: those that gave it a place, and the shadows that
    /// had none.
    pub fn caps_said(&self, shared: &Shared, claim: &Claim, held: &[Vec<Held>], at: UnixMicros) -> Vec<Ruling> {
        let own = |held: &&Held| held.touch == short(claim.touch);
        // They said it when it was claimed: this attempt, not a later one.
        let claimed = held.iter().flatten().filter(own).map(|held| held.at);
        let at = claimed.clone().filter(|claimed| *claimed <= at).max().or_else(|| claimed.min()).unwrap_or(at);
        let took = |index: usize| {
            let once = claim.takes.get(index).map_or(Once::Touch, |take| take.once);
            let its = |held: &Held| own(&held) && (once == Once::Touch || held.at == at);
            held.get(index).is_some_and(|held| held.iter().any(its))
        };
        let all = self.caps_say(shared, claim, held, at).into_iter().enumerate();
        let said = |(index, ruling): (usize, Ruling)| {
            let passed = took(index);
            let over = ruling.shadow && ruling.said != Said::Pass;
            let ruling = if passed { Ruling { said: Said::Pass, open_at: None, ..ruling } } else { ruling };
            (passed || over).then_some(ruling)
        };
        all.filter_map(said).collect()
    }

    /// Adds the places of a cap to what it said of a job that it had no room for.
    pub fn cap_refused(&self, shared: &Shared, claim: &Claim, held: &[Vec<Held>], ruling: Ruling) -> Ruling {
        let mut all = self.caps_say(shared, claim, held, ruling.at).into_iter();
        let Some(found) = all.find(|found| found.rule == ruling.rule) else { return ruling };
        let places = found.places.map(|places| {
            let jobs = self.caps().named(&ruling.rule).is_some_and(|rule| rule.unit == Unit::Jobs);
            // Some may be forgotten by now: it was full all the same.
            let used = if jobs { places.used.max(places.limit) } else { places.used };
            Places { used, ..places }
        });
        Ruling { places, ..ruling }
    }

    /// Returns what each window that binds a job says at `at`.
    pub fn windows_say(&self, shared: &Shared, job: &Job, at: UnixMicros) -> Vec<Ruling> {
        let zone = zones::of(&job.recipient);
        let say = |window: Says| {
            let drops = shared.on_missed == OnMissed::Drop || window.on_missed == OnMissed::Drop;
            let said = match window.opens_at {
                Some(opens_at) if opens_at <= at => Said::Pass,
                Some(opens_at) if !drops && opens_at < shared.expires_at => Said::Defer,
                Some(_) | None => Said::Stop(Fate::Expired),
            };
            let open_at = window.opens_at.filter(|opens_at| *opens_at > at);
            Ruling::new(at, window.reason, said, open_at)
        };
        self.windows().each(zone.as_ref(), at).into_iter().map(say).collect()
    }
}

fn places(rule: &CapRule, take: &Take, held: &[Held], at: UnixMicros) -> Places {
    // A job that was tried more than once may hold more than one.
    let mut holders = Vec::with_capacity(held.len());
    for held in held {
        if !holders.contains(&held.job) {
            holders.push(held.job);
        }
    }
    Places { limit: take.limit, used: take.used(held, at), window: rule.window, holders }
}
