//! The account of a crash test: what stood where at each kill, and whether it balances at the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use postrider::pb::{Class, Fate};

use super::{Accepted, JOBS, WINDOW};
use crate::support::api::Watched;
use crate::support::service::Service;
use crate::support::sink::{Sink, Submit};

#[derive(Default)]
pub(super) struct Account {
    kills: usize,
}

impl Account {
    /// Prints how many jobs were in which state when the service was killed.
    pub(super) fn strike(&mut self, what: &str, accepted: &Accepted, sink: &Sink, watched: &Watched) {
        self.kills += 1;
        let accepted = accepted.lock().unwrap().len();
        let taken: HashSet<_> = sink.taken().into_iter().map(|submit| submit.to).collect();
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for state in watched.states.values() {
            *states.entry(state.as_str_name()).or_default() += 1;
        }
        println!(
            "{what}: {accepted} accepted, {} of them at the SMSC, {} had no event yet, by last event: {states:?}",
            taken.len(),
            accepted.saturating_sub(watched.states.len())
        );
    }

    /// Checks that nothing is lost, nothing doubled that must not be, and what is unknown bounded.
    pub(super) fn balance(&self, accepted: &Accepted, sink: &Sink, watched: &Watched, service: &Service) {
        let accepted = accepted.lock().unwrap();
        assert_eq!(accepted.len(), JOBS, "every batch was accepted in the end");
        let mut taken: HashMap<String, Vec<Submit>> = HashMap::new();
        for submit in sink.taken() {
            taken.entry(format!("+{}", submit.to)).or_default().push(submit);
        }
        let mut wrong = Vec::new();
        let (mut doubled, mut at_least_once, mut fates) = (0, 0, BTreeMap::<&str, usize>::new());
        for (number, (id, class)) in accepted.iter() {
            let outcomes = watched.outcomes.get(id).map_or(&[][..], Vec::as_slice);
            let handed = taken.get(number).map_or(&[][..], Vec::as_slice);
            let [(fate, reason)] = outcomes else {
                wrong.push(format!(
                    "{class:?} {id} has {} outcomes, last {:?}",
                    outcomes.len(),
                    watched.states.get(id)
                ));
                continue;
            };
            *fates.entry(fate.as_str_name()).or_default() += 1;
            let repeats = matches!(class, Class::Otp | Class::Transactional);
            if handed.len() > 1 && !repeats {
                wrong.push(format!("{class:?} {id} was handed over {} times", handed.len()));
            }
            if handed.is_empty() && !matches!(fate, Fate::Failed | Fate::Expired | Fate::Unknown) {
                wrong.push(format!("{class:?} {id} is {fate:?} and was never handed over"));
            }
            if repeats {
                at_least_once += 1;
                doubled += usize::from(handed.len() > 1);
                if handed.is_empty() && *fate == Fate::Unknown {
                    wrong.push(format!("{class:?} {id} was never handed over, and nobody says so ({reason})"));
                }
                if handed.iter().any(|submit| submit.reference != handed[0].reference) {
                    wrong.push(format!("{class:?} {id} was handed over under several references"));
                }
            }
        }
        let strangers = taken.keys().filter(|number| !accepted.contains_key(*number)).count();
        println!(
            "{JOBS} jobs through {} kills: {fates:?}; {} were unresolved for a time; of {at_least_once} that may be \
             repeated {doubled} were; the watch was resumed {} times",
            self.kills,
            watched.unresolved.len(),
            watched.resumed
        );
        let unknown = fates.get(Fate::Unknown.as_str_name()).copied().unwrap_or_default();
        // What was in flight at a kill, twice: hand-overs without an answer, and those whose receipt came while the
        // service was down, which this SMSC does not say again.
        let bound = self.kills * WINDOW * 2;
        assert!(
            wrong.is_empty() && strangers == 0 && unknown <= bound,
            "lost or doubled: {} jobs, {strangers} strangers, {unknown} unknown of at most {bound}\n{}\nthe service said:\n{}",
            wrong.len(),
            wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n"),
            tail(&service.log())
        );
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
