//! What call jobs ask for, how calls end, and when one that did not get through is tried again. Pure.

use std::fmt;
use std::time::Duration;

use super::job::{Kind, words};

/// How long a call rings unless its job says otherwise.
pub const RING_DEFAULT: Duration = Duration::from_secs(30);

/// Longest talk time of any flow.
pub const TALK_MAX: Duration = Duration::from_secs(3600);
/// After a call must have ended, its driver has so long to say how: it waits for its turn at a cloud, for the last answer,
/// and is ended again and again.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// What a call job asks for, besides the name of a stored flow.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// The flow itself, checked, as a JSON document; empty: it is stored under its name.
    pub document: Box<str>,
    /// How long it rings, 10 to 60 s.
    pub ring_max: Duration,
    /// How long is talked at most, as the flow says.
    pub talk_max: Duration,
    /// When it is tried again, where that is not by default; at most one rule for each result.
    pub retries: Vec<Retry>,
    /// What follows it, at most [`AFTER_MAX`].
    pub after: Vec<After>,
}

/// Something that a call may ask for and that not everybody who makes calls can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skill {
    /// Runs a flow that comes with the job or with its template.
    Flow,
    /// Knows a flow by its name.
    NamedFlow,
    /// Puts callees through to somebody.
    Transfer,
    /// Plays recordings.
    Play,
}

/// Most things that follow a call.
pub const AFTER_MAX: usize = 8;

/// Something that follows a call, once a job: the first call that ends so brings it, whether or not another is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct After {
    /// Which calls it follows.
    pub when: When,
    /// What follows.
    pub act: AfterAct,
}

/// Which calls something follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum When {
    /// Those that end with this result.
    Result(CallResult),
    /// Those in which the flow set this tag.
    Tag(Box<str>),
}

/// What follows a call.
#[derive(Clone, PartialEq, Eq)]
pub enum AfterAct {
    /// A job for the same recipient.
    Submit {
        /// By which means.
        kind: Kind,
        /// The template that it uses.
        template: Box<str>,
        /// Values for its placeholders.
        params: Vec<(Box<str>, Box<str>)>,
    },
    /// The callee is opted out: of everything of the tenant, or of its marketing and notification.
    OptOut {
        /// Of everything.
        everything: bool,
    },
    /// The next step of the job's fallback chain: it starts, and the job is not called again.
    NextStep,
}

/// How a call went.
#[derive(Clone, PartialEq, Eq)]
pub struct CallReport {
    /// How it ended.
    pub result: CallResult,
    /// The keys pressed, in order.
    pub digits: Box<str>,
    /// The tags that the flow set.
    pub tags: Vec<Box<str>>,
    /// What the callee wanted: the node that their last choice from a menu led to; empty: they chose nothing.
    pub intent: Box<str>,
    /// `human` or `machine`; empty: not known.
    pub answered_by: Box<str>,
    /// How long was talked.
    pub talk: Duration,
    /// `callee` or `us`; empty: not known.
    pub hung_up_by: Box<str>,
    /// Where the transcript is, or will be; empty: none, where its provider makes none.
    pub transcript: Box<str>,
    /// Where the recording is, as its provider names it; empty: none.
    pub recording: Box<str>,
}

impl CallReport {
    /// Returns how many minutes were begun: what calls are billed by. Whoever answered has begun one.
    pub fn minutes(&self) -> u32 {
        let answered = matches!(self.result, CallResult::Completed | CallResult::Machine);
        let begun = self.talk.as_millis().div_ceil(60_000).max(answered.into());
        u32::try_from(begun).unwrap_or(u32::MAX)
    }
}

words! {
    /// How an attempt to call somebody ended.
    CallResult {
        /// Somebody answered, and it ended.
        Completed = "completed",
        /// The line was busy.
        Busy = "busy",
        /// Nobody answered.
        NoAnswer = "no_answer",
        /// The callee declined.
        Declined = "declined",
        /// The number does not exist.
        InvalidNumber = "invalid_number",
        /// Switched off or out of reach.
        Unreachable = "unreachable",
        /// A machine answered.
        Machine = "machine",
        /// The trunk or the network failed: the callee noticed nothing.
        Network = "network",
    }
}

/// When a call with this result is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// The result.
    pub result: CallResult,
    /// After which time.
    pub after: Duration,
    /// How often at most.
    pub times: u8,
}

/// Most tries after the first that a rule may ask for.
pub const RETRIES_MAX: u8 = 5;

const MINUTE: Duration = Duration::from_secs(60);

/// When a call is tried again unless its job says otherwise. A line that is busy is free again soon; who is not there now
/// is there in an hour; a phone that is off stays off for longer; a machine is asked once more, a day later. Who declined
/// has answered, and a number that does not exist will not exist tomorrow.
const DEFAULTS: [Retry; 5] = [
    Retry { result: CallResult::Busy, after: MINUTE.saturating_mul(5), times: 2 },
    Retry { result: CallResult::NoAnswer, after: MINUTE.saturating_mul(60), times: 2 },
    Retry { result: CallResult::Unreachable, after: MINUTE.saturating_mul(180), times: 1 },
    Retry { result: CallResult::Machine, after: MINUTE.saturating_mul(24 * 60), times: 1 },
    Retry { result: CallResult::Network, after: MINUTE, times: 3 },
];

/// How often a job was tried, by result.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tries([u8; CallResult::ALL.len()]);

// === impl Skill ===

impl Skill {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flow, Self::NamedFlow, Self::Transfer, Self::Play];
}

impl fmt::Display for Skill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flow => {
                "runs no flow: name a template with a call text, or route these calls to providers that run flows, such as \
                 `asterisk` or `twilio-voice`"
            }
            Self::NamedFlow => "knows no flow of that name, and no template is called so: store one, or bring the flow",
            Self::Transfer => "puts nobody through: set its `transfer`, or route these calls to others",
            Self::Play => "plays no recordings: set its `media_url`, say a text, or route these calls to others",
        })
    }
}

// === impl Plan ===

impl Default for Plan {
    fn default() -> Self {
        Self { document: "".into(), ring_max: RING_DEFAULT, talk_max: TALK_MAX, retries: vec![], after: vec![] }
    }
}

impl Plan {
    /// Returns the places of what follows a call that ended with this result, in which these tags were set.
    pub fn follows(&self, result: CallResult, tags: &[Box<str>]) -> Vec<u8> {
        let places = (0_u8..).zip(&self.after).filter(|(_, after)| after.follows(result, tags));
        places.map(|(place, _)| place).collect()
    }

    /// Returns after which time a call that was taken has ended, and has been reported if it ever is.
    pub fn over_after(&self) -> Duration {
        self.ring_max + self.talk_max + SETTLED_WITHIN
    }

    /// Returns about how many bytes it takes in a frame.
    pub fn weight(&self) -> usize {
        self.document.len() + self.retries.len() * 12 + self.after.iter().map(After::weight).sum::<usize>() + 24
    }
}

// === impl After ===

impl After {
    /// Returns whether it follows a call that ended with this result, in which these tags were set.
    pub fn follows(&self, result: CallResult, tags: &[Box<str>]) -> bool {
        match &self.when {
            When::Result(wanted) => *wanted == result,
            When::Tag(tag) => tags.contains(tag),
        }
    }

    fn weight(&self) -> usize {
        let tag = if let When::Tag(tag) = &self.when { tag.len() } else { 0 };
        tag + match &self.act {
            AfterAct::Submit { template, params, .. } => {
                template.len() + params.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + 8
            }
            AfterAct::OptOut { .. } | AfterAct::NextStep => 8,
        }
    }
}

// === impl CallReport ===

impl CallReport {
    /// Returns the report of a call that nobody talked in.
    pub fn unanswered(result: CallResult) -> Self {
        let none = || Box::from("");
        Self {
            result,
            digits: none(),
            tags: vec![],
            intent: none(),
            answered_by: none(),
            talk: Duration::ZERO,
            hung_up_by: none(),
            transcript: none(),
            recording: none(),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what is said: this ends in logs and panics.
        f.debug_struct("Plan").field("ring_max", &self.ring_max).field("retries", &self.retries).finish_non_exhaustive()
    }
}

impl fmt::Debug for AfterAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never values: this ends in logs and panics.
        f.write_str(match self {
            Self::Submit { .. } => "Submit",
            Self::OptOut { .. } => "OptOut",
            Self::NextStep => "NextStep",
        })
    }
}

impl fmt::Debug for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what was pressed: this ends in logs and panics.
        f.debug_struct("CallReport").field("result", &self.result).finish_non_exhaustive()
    }
}

// === impl Tries ===

impl Tries {
    /// Counts a try.
    pub fn count(&mut self, result: CallResult) {
        let tries = &mut self.0[result as usize];
        *tries = tries.saturating_add(1);
    }

    /// Returns how many tries had this result.
    pub fn with(&self, result: CallResult) -> u8 {
        self.0[result as usize]
    }
}

// === impl CallResult ===

impl CallResult {
    /// Returns whether the callee was spoken to, or might have been.
    pub const fn reached(self) -> bool {
        match self {
            Self::Completed | Self::Machine => true,
            Self::Busy | Self::NoAnswer | Self::Declined | Self::InvalidNumber | Self::Unreachable | Self::Network => {
                false
            }
        }
    }
}

/// Returns after which time a job is called again whose last call had this result; `None`: it is not. `tries` counts that
/// call. A rule of the job stands for the default of its result; `chance` in 0..1 adds up to a fifth, so that calls which
/// failed together do not come back together.
pub fn retry_after(result: CallResult, tries: Tries, rules: &[Retry], chance: f64) -> Option<Duration> {
    let same = |rule: &&Retry| rule.result == result;
    let rule = rules.iter().find(same).or_else(|| DEFAULTS.iter().find(same))?;
    let again = result != CallResult::Completed && tries.with(result) <= rule.times.min(RETRIES_MAX);
    again.then(|| rule.after.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 5.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many minutes each further call comes, if every one ends like that.
    fn minutes(result: CallResult, rules: &[Retry], chance: f64) -> Vec<u64> {
        let mut tries = Tries::default();
        let next = || {
            tries.count(result);
            Some(retry_after(result, tries, rules, chance)?.as_secs() / 60)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn minutes_are_billed_as_they_begin() {
        let minutes = |result, millis| {
            CallReport { talk: Duration::from_millis(millis), ..CallReport::unanswered(result) }.minutes()
        };
        let talked = [0, 1, 60_000, 60_001, 600_000].map(|millis| minutes(CallResult::Completed, millis));
        assert_eq!(talked, [1, 1, 1, 2, 10]);
        assert_eq!(minutes(CallResult::Machine, 0), 1);
        assert_eq!(minutes(CallResult::Busy, 0), 0);
    }

    #[test]
    fn each_result_has_its_own_patience() {
        for (result, expected) in [
            (CallResult::Completed, &[][..]),
            (CallResult::Busy, &[5, 5]),
            (CallResult::NoAnswer, &[60, 60]),
            (CallResult::Declined, &[]),
            (CallResult::InvalidNumber, &[]),
            (CallResult::Unreachable, &[180]),
            (CallResult::Machine, &[24 * 60]),
            (CallResult::Network, &[1, 1, 1]),
        ] {
            assert_eq!(minutes(result, &[], 0.0), expected, "{result}");
        }
        assert_eq!(minutes(CallResult::Busy, &[], 1.0), [6, 6]);
    }

    #[test]
    fn a_job_may_have_rules_of_its_own() {
        let rule = |result, after, times| Retry { result, after: MINUTE * after, times };
        let rules = [rule(CallResult::Busy, 2, 1), rule(CallResult::Declined, 600, 1), rule(CallResult::Network, 1, 0)];
        assert_eq!(minutes(CallResult::Busy, &rules, 0.0), [2]);
        assert_eq!(minutes(CallResult::Declined, &rules, 0.0), [600]);
        assert_eq!(minutes(CallResult::Network, &rules, 0.0), [0_u64; 0]);
        assert_eq!(minutes(CallResult::NoAnswer, &rules, 0.0), [60, 60]);
        assert_eq!(minutes(CallResult::Completed, &[rule(CallResult::Completed, 1, 5)], 0.0), [0_u64; 0]);
    }
}
