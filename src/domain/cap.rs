//! Caps: how often one recipient may be reached in a window. Exact, never approximate.

use std::time::Duration;

use super::ids::RuleName;
use super::job::{Class, Kind, words};

/// A window that a cap counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// At most so many in *any* stretch of this length; at most 31 days.
    Rolling(Duration),
}

words! {
    /// What happens to a job that a cap has no room for.
    OnLimit {
        /// It waits for the exact next instant with room.
        Defer = "defer",
        /// It ends as suppressed, with the rule's name.
        Drop = "drop",
    }
}

/// One cap of a tenant. Empty filters match every job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapRule {
    /// Its name, unique within the tenant; shown in outcomes and explanations.
    pub name: RuleName,
    /// The classes it counts.
    pub classes: Vec<Class>,
    /// The kinds it counts.
    pub kinds: Vec<Kind>,
    /// The topics it counts.
    pub topics: Vec<Box<str>>,
    /// The senders it counts.
    pub senders: Vec<Box<str>>,
    /// How many it lets through in a window, at most 200; 0 means never.
    pub limit: u32,
    /// The window.
    pub window: Window,
    /// What happens over it.
    pub on_limit: OnLimit,
}

/// Most rules that one tenant may have.
pub const CAP_RULES_MAX: usize = 16;
/// Highest limit of a rule: the exact log of its takes is kept.
pub const CAP_LIMIT_MAX: u32 = 200;
/// Longest window of a rule.
pub const CAP_WINDOW_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

impl CapRule {
    /// Returns whether the rule counts jobs like this one.
    pub fn counts(&self, kind: Kind, class: Class, topic: &str, sender: &str) -> bool {
        matches(&self.kinds, &kind)
            && matches(&self.classes, &class)
            && matches_word(&self.topics, topic)
            && matches_word(&self.senders, sender)
    }
}

fn matches<T: PartialEq>(filter: &[T], value: &T) -> bool {
    filter.is_empty() || filter.contains(value)
}

fn matches_word(filter: &[Box<str>], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|word| &**word == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_filters_match_everything() {
        let mut rule = CapRule {
            name: "daily".parse().unwrap(),
            classes: vec![],
            kinds: vec![],
            topics: vec![],
            senders: vec![],
            limit: 3,
            window: Window::Rolling(Duration::from_secs(86_400)),
            on_limit: OnLimit::Defer,
        };
        assert!(rule.counts(Kind::Sms, Class::Otp, "", ""));
        rule.classes = vec![Class::Marketing];
        rule.topics = vec!["sale".into()];
        assert!(rule.counts(Kind::Call, Class::Marketing, "sale", "x"));
        assert!(!rule.counts(Kind::Call, Class::Marketing, "news", "x"));
        assert!(!rule.counts(Kind::Call, Class::Otp, "sale", "x"));
    }
}
