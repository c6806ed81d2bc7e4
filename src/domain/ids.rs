//! Identifiers: of jobs, tenants, providers, pools, lanes and rules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::job::Class;
use super::time::UnixMicros;

/// One accepted unit of outbound work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Uuid);

/// The text is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a job id: expected a UUID such as 0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11")]
pub struct InvalidJobId;

/// The text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No character at all.
    #[error("must not be empty")]
    Empty,
    /// Longer than 63 characters.
    #[error("has {0} characters, at most 63 are allowed")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("may hold only a-z, 0-9, '-' and '_', and starts with a letter or digit")]
    Alphabet,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 63 characters of `a-z`, `0-9`, `-` and `_`, the first a letter or digit. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(raw: &str) -> Result<Self, InvalidName> {
                check_name(raw).map(|()| Self(raw.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The brand or service that owns jobs: the unit of isolation, rates and billing.
    TenantId
}
name! {
    /// An account at a carrier or vendor that can carry jobs.
    ProviderId
}
name! {
    /// A named group of providers that can carry the same jobs.
    PoolId
}
name! {
    /// A rule, within its tenant.
    RuleName
}

/// A ready queue: work of one class and pool that may be sent now.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lane {
    /// The class of its jobs.
    pub class: Class,
    /// The pool that carries them.
    pub pool: PoolId,
}

// === impl JobId ===

/// The namespace of ids that are derived from idempotency keys; a constant of Postrider.
const KEYED: Uuid = Uuid::from_u128(0x8c5f_1f2e_93a4_5b07_a6f1_2d60_7e3b_94c8);

impl JobId {
    /// Returns a new id that sorts by time. `random` makes it unique within its millisecond.
    pub fn new(now: UnixMicros, random: u128) -> Self {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&random.to_be_bytes()[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }

    /// Returns the id that `key` gives a job of `tenant`: the same one every time (UUIDv5).
    pub fn keyed(tenant: &TenantId, key: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::new_v5(&KEYED, tenant.as_str().as_bytes()), key.as_bytes()))
    }

    /// Returns the id of item `index` of the batch that this id names: the same one every time.
    pub fn item(self, index: u32) -> Self {
        Self(Uuid::new_v5(&self.0, &index.to_be_bytes()))
    }

    /// Returns the id of step `step` (1, 2, ...) of the fallback chain that begins with this job: UUIDv5 of both.
    pub fn step(self, step: u8) -> Self {
        Self(Uuid::new_v5(&self.0, &[b's', step]))
    }

    /// Returns whether the id was drawn: no request can ask for it a second time.
    pub fn drawn(self) -> bool {
        self.0.get_version_num() == 7
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;
    fn from_str(raw: &str) -> Result<Self, InvalidJobId> {
        Uuid::try_parse(raw).map(Self).map_err(|_| InvalidJobId)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// === impl Lane ===

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class.as_str(), self.pool)
    }
}

fn check_name(raw: &str) -> Result<(), InvalidName> {
    let bytes = raw.as_bytes();
    match bytes.first() {
        None => Err(InvalidName::Empty),
        Some(_) if bytes.len() > 63 => Err(InvalidName::TooLong(bytes.len())),
        Some(b'a'..=b'z' | b'0'..=b'9')
            if bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) =>
        {
            Ok(())
        }
        Some(_) => Err(InvalidName::Alphabet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<(), InvalidName>) {
        assert_eq!(raw.parse::<TenantId>().map(|_| ()), expected, "input: {raw:?}");
    }

    #[test]
    fn names_are_short_and_plain() {
        check("acme-2", Ok(()));
        check("", Err(InvalidName::Empty));
        check("-acme", Err(InvalidName::Alphabet));
        check("Acme", Err(InvalidName::Alphabet));
        check("a.b", Err(InvalidName::Alphabet));
        check(&"x".repeat(64), Err(InvalidName::TooLong(64)));
    }

    #[test]
    fn a_key_gives_one_id_per_tenant() {
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(JobId::keyed(&a, "k"), JobId::keyed(&a, "k"));
        assert_ne!(JobId::keyed(&a, "k"), JobId::keyed(&b, "k"));
        assert_ne!(JobId::keyed(&a, "k").item(0), JobId::keyed(&a, "k").item(1));
        assert!(!JobId::keyed(&a, "k").item(0).drawn());
    }

    #[test]
    fn new_ids_sort_by_time() {
        let early = JobId::new(UnixMicros::from_millis(1), u128::MAX);
        let late = JobId::new(UnixMicros::from_millis(2), 0);
        assert!(early < late);
        assert!(early.drawn());
    }
}
