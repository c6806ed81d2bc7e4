//! What a batch adds to the counts of each tenant and hour.

use std::hash::{Hash, Hasher};

use hashbrown::{Equivalent, HashMap};

use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::time::UnixMicros;
use crate::ledger::Count;

const HOUR_S: i64 = 3_600;

/// Sums, by tenant, hour, kind, class, word and reason.
#[derive(Default)]
pub(super) struct Counts {
    jobs: HashMap<Key, i64>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    hour: i64,
    kind: Kind,
    class: Class,
    what: &'static str,
    reason: Box<str>,
}

/// A key that owns nothing: hashed and compared like one.
struct KeyRef<'a> {
    tenant: &'a TenantId,
    hour: i64,
    kind: Kind,
    class: Class,
    what: &'static str,
    reason: &'a str,
}

impl Counts {
    /// Counts one job of a tenant, kind and class that came to `what` at `at`.
    pub(super) fn add(&mut self, of: (&TenantId, Kind, Class), at: UnixMicros, what: &'static str, reason: &str) {
        self.add_many(of, at, (what, reason), 1);
    }

    /// Counts so many.
    pub(super) fn add_many(
        &mut self,
        (tenant, kind, class): (&TenantId, Kind, Class),
        at: UnixMicros,
        (what, reason): (&'static str, &str),
        many: i64,
    ) {
        let key = KeyRef { tenant, hour: at.as_secs().div_euclid(HOUR_S), kind, class, what, reason };
        match self.jobs.get_mut(&key) {
            Some(jobs) => *jobs = jobs.saturating_add(many),
            None => _ = self.jobs.insert(key.owned(), many),
        }
    }

    pub(super) fn into_counts(self) -> Vec<Count> {
        let count = |(key, jobs): (Key, i64)| Count {
            tenant: key.tenant,
            hour: UnixMicros::from_secs(key.hour * HOUR_S),
            kind: key.kind,
            class: key.class,
            what: key.what.into(),
            reason: key.reason,
            jobs,
        };
        self.jobs.into_iter().map(count).collect()
    }
}

impl KeyRef<'_> {
    fn owned(&self) -> Key {
        let Self { tenant, hour, kind, class, what, reason } = *self;
        Key { tenant: tenant.clone(), hour, kind, class, what, reason: reason.into() }
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tenant.hash(state);
        self.hour.hash(state);
        self.kind.hash(state);
        self.class.hash(state);
        self.what.hash(state);
        self.reason.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.tenant == key.tenant
            && (self.hour, self.kind, self.class) == (key.hour, key.kind, key.class)
            && (self.what, self.reason) == (key.what, &*key.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_by_hour_and_reason() {
        let tenant: TenantId = "acme".parse().unwrap();
        let mut counts = Counts::default();
        for (second, reason) in [(0, ""), (3_599, ""), (3_600, ""), (3_601, "cap")] {
            counts.add((&tenant, Kind::Sms, Class::Otp), UnixMicros::from_secs(second), "sent", reason);
        }
        let mut sums: Vec<_> =
            counts.into_counts().into_iter().map(|count| (count.hour.as_secs(), count.reason, count.jobs)).collect();
        sums.sort();
        assert_eq!(sums, [(0, "".into(), 2), (3_600, "".into(), 1), (3_600, "cap".into(), 1)]);
    }
}
