//! The account that must balance at the end: what was accepted is settled or waits, and nothing was done twice.

use std::collections::BTreeMap;

use postrider::pb;
use serde::Serialize;

use crate::sink;

/// The three sides: generator, ledger, sink.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Account {
    /// Jobs handed in.
    pub(crate) attempted: u64,
    /// Jobs answered with OK.
    pub(crate) accepted: u64,
    /// Jobs refused.
    pub(crate) refused: u64,
    /// Jobs without a clear answer.
    pub(crate) unknown: u64,
    /// The ledger's side.
    pub(crate) ledger: Ledger,
    /// Jobs that wait in the agenda.
    pub(crate) waiting: u64,
    /// The sink's side.
    pub(crate) sink: sink::Account,
    /// Whether every hand-over was answered: only then must outcomes and hand-overs agree.
    pub(crate) all_answered: bool,
}

/// The ledger's side of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ledger {
    /// Jobs in it.
    pub(crate) accepted: u64,
    /// Jobs with an outcome.
    pub(crate) settled: u64,
    /// Outcomes by fate.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Of these, messages that a provider took.
    pub(crate) taken: u64,
    /// Jobs in it that nobody handed in: texts that follow from calls.
    pub(crate) follow_ups: u64,
}

/// Fates of messages that a provider took.
const TAKEN: [&str; 4] = ["sent", "delivered", "undelivered", "unknown"];

impl Ledger {
    /// Adds what the service counts of a tenant; where it called, its texts follow from that.
    pub(crate) fn add(&mut self, stats: &pb::GetStatsResponse, called: bool) {
        let texts = |row: &&pb::StatsRow| row.kind() != pb::Kind::Call;
        for row in stats.rows.iter().filter(|row| row.fate() != pb::Fate::Unspecified) {
            *self.outcomes.entry(row.what.clone()).or_default() += row.jobs;
        }
        let taken = stats.rows.iter().filter(texts).filter(|row| TAKEN.contains(&&*row.what));
        self.taken += taken.map(|row| row.jobs).sum::<u64>();
        if called {
            let followed = stats.rows.iter().filter(texts).filter(|row| row.what == "accepted");
            self.follow_ups += followed.map(|row| row.jobs).sum::<u64>();
        }
        self.accepted += stats.accepted;
        self.settled += stats.settled;
    }
}

impl Account {
    /// Returns what does not balance, in words; nothing: it balances.
    pub(crate) fn faults(&self) -> Vec<String> {
        let ledger = &self.ledger;
        let handed_in = ledger.accepted.saturating_sub(ledger.follow_ups);
        let outcomes: u64 = ledger.outcomes.values().sum();
        let checks = [
            (self.attempted == self.accepted + self.refused + self.unknown, "attempted = accepted + refused + unknown"),
            (handed_in >= self.accepted, "every accepted job is in the ledger"),
            (handed_in <= self.accepted + self.unknown, "the ledger holds no job that was not accepted"),
            (outcomes == ledger.settled, "every settled job has one outcome"),
            (ledger.accepted == ledger.settled + self.waiting, "accepted = outcomes + waiting"),
            (!self.all_answered || self.sink.distinct == ledger.taken, "the sink took what the ledger says was sent"),
            (self.sink.doubles == 0, "nothing was handed over twice"),
            (self.sink.early == 0, "nothing was sent early"),
            (self.sink.over_cap == 0, "no cap was exceeded"),
        ];
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("does not hold: {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Account {
        Account {
            attempted: 12,
            accepted: 10,
            refused: 1,
            unknown: 1,
            ledger: Ledger {
                accepted: 11,
                settled: 9,
                outcomes: [("sent".to_owned(), 7), ("suppressed".to_owned(), 2)].into(),
                taken: 7,
                follow_ups: 0,
            },
            waiting: 2,
            sink: sink::Account { distinct: 7, ..sink::Account::default() },
            all_answered: true,
        }
    }

    #[track_caller]
    fn check(spoil: impl FnOnce(&mut Account), says: &str) {
        let mut account = balanced();
        spoil(&mut account);
        let faults = account.faults();
        assert!(faults.iter().any(|fault| fault.contains(says)), "{faults:?}");
    }

    #[test]
    fn a_balanced_account_has_no_faults() {
        assert_eq!(balanced().faults(), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_lost_or_doubled_is_named() {
        check(|account| account.attempted += 1, "attempted =");
        check(|account| account.ledger.accepted = 9, "is in the ledger");
        check(|account| account.ledger.accepted = 12, "was not accepted");
        check(|account| account.ledger.follow_ups = 2, "is in the ledger");
        check(|account| account.ledger.settled = 8, "has one outcome");
        check(|account| account.waiting = 1, "outcomes + waiting");
        check(|account| account.sink.distinct = 6, "the sink took");
        check(|account| account.sink.doubles = 1, "twice");
        check(|account| account.sink.early = 1, "early");
        check(|account| account.sink.over_cap = 1, "no cap");
    }
}
