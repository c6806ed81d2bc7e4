//! Rules about jobs that wait: taken back, moved to another time, replaced by a newer one.
//!
//! A rule binds the jobs that were accepted before it and are not claimed yet. It is read with the claim, so it holds
//! from the moment it is acknowledged, however many jobs it names.

use uuid::Uuid;

use super::ids::{JobId, TenantId};
use super::job::{Class, Kind};
use super::keys::{AddressKey, RecipientKey, WordKey};
use super::time::UnixMicros;

/// What becomes of the jobs that a tenant names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobRule {
    /// Whose jobs.
    pub tenant: TenantId,
    /// Which of them.
    pub names: Names,
    /// When it was given: jobs accepted later are not bound.
    pub at: UnixMicros,
    /// What becomes of them.
    pub act: Act,
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Takes jobs back.
    Cancel,
    /// Moves jobs. Of several the latest counts, whatever names it.
    Move {
        /// When they are due instead.
        due_at: UnixMicros,
        /// When they expire instead; `None`: as long after `due_at` as their class's default says.
        expires_at: Option<UnixMicros>,
    },
    /// Ends jobs because a newer one with their collapse key was accepted: all others that were accepted up to then. Of
    /// those accepted in the same microsecond the one with the greatest id is the newest.
    Collapse {
        /// The newer one.
        into: JobId,
    },
}

/// Which jobs a rule names: those of which everything that is said holds. Nothing said: every job.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Names {
    /// This job.
    pub job: Option<JobId>,
    /// With this cancel key.
    pub cancel_key: Option<WordKey>,
    /// For this recipient.
    pub recipient: Option<RecipientKey>,
    /// The recipient's address, where that is what the recipient is named by; only for lookups in the ledger.
    pub address: Option<AddressKey>,
    /// Of this batch.
    pub batch: Option<Uuid>,
    /// Of this campaign.
    pub campaign: Option<WordKey>,
    /// Of this run.
    pub run: Option<WordKey>,
    /// With this collapse key.
    pub collapse_key: Option<WordKey>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this class.
    pub class: Option<Class>,
    /// Accepted from then on.
    pub from: Option<UnixMicros>,
    /// Accepted before.
    pub to: Option<UnixMicros>,
}

/// A single thing that jobs can be named by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Name {
    /// What it is a name of: below [`Name::FORMS`]. The numbers are on disk and never change their meaning.
    pub form: u8,
    /// The name.
    pub key: [u8; 16],
}

/// Most bytes of [`Names::write`].
pub const NAMES_BYTES_MAX: usize = 2 + 8 * 16 + 2 + 2 * 8;

/// Stands for an expiry by class where a move is written.
const BY_CLASS: UnixMicros = UnixMicros(i64::MIN);

/// The bytes are no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the names of a rule")]
pub struct InvalidNames;

// === impl Act ===

impl Act {
    /// Returns its number, which never changes its meaning.
    pub const fn number(self) -> u8 {
        match self {
            Self::Cancel => 0,
            Self::Move { .. } => 1,
            Self::Collapse { .. } => 2,
        }
    }

    /// Returns what it says besides its number: nothing, two times, or an id.
    pub fn detail(self) -> [u8; 16] {
        let mut detail = [0; 16];
        match self {
            Self::Cancel => {}
            Self::Move { due_at, expires_at } => {
                detail[..8].copy_from_slice(&due_at.0.to_le_bytes());
                detail[8..].copy_from_slice(&expires_at.unwrap_or(BY_CLASS).0.to_le_bytes());
            }
            Self::Collapse { into } => detail = into.0.into_bytes(),
        }
        detail
    }

    /// Puts an act together again; `None` for a number that none has.
    pub fn of(number: u8, detail: [u8; 16]) -> Option<Self> {
        Some(match number {
            0 => Self::Cancel,
            1 => {
                let [due_at, expires_at] = halves(detail).map(|half| UnixMicros(i64::from_le_bytes(half)));
                Self::Move { due_at, expires_at: Some(expires_at).filter(|&at| at != BY_CLASS) }
            }
            2 => Self::Collapse { into: JobId(Uuid::from_bytes(detail)) },
            _ => return None,
        })
    }
}

// === impl Name ===

impl Name {
    /// How many forms there are: job, cancel key, recipient, batch, campaign, run, collapse key.
    pub const FORMS: u8 = 7;
}

// === impl Names ===

impl Names {
    /// Names one job.
    pub fn job(job: JobId) -> Self {
        Self { job: Some(job), ..Self::default() }
    }

    /// Returns the single things that are named.
    pub fn each(&self) -> impl Iterator<Item = Name> + use<> {
        let forms = [
            self.job.map(|job| job.0.into_bytes()),
            self.cancel_key.map(|word| word.0),
            self.recipient.map(|recipient| recipient.0),
            self.batch.map(Uuid::into_bytes),
            self.campaign.map(|word| word.0),
            self.run.map(|word| word.0),
            self.collapse_key.map(|word| word.0),
        ];
        (0..).zip(forms).filter_map(|(form, key)| Some(Name { form, key: key? }))
    }

    /// Returns the one thing that is named, if nothing else is said: such a rule is found by its name alone.
    pub fn only(&self) -> Option<Name> {
        let plain = self.kind.is_none() && self.class.is_none() && self.from.is_none() && self.to.is_none();
        let mut each = self.each();
        each.next().filter(|_| plain && each.next().is_none())
    }

    /// Appends the names as bytes: which there are, and each in order. Little-endian.
    pub fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut flags = 0_u16;
        for Name { form, key } in self.each() {
            flags |= 1 << form;
            out.extend_from_slice(&key);
        }
        if let Some(AddressKey(key)) = self.address {
            flags |= has::ADDRESS;
            out.extend_from_slice(&key);
        }
        for (flag, number) in
            [(has::KIND, self.kind.map(|kind| kind as u8)), (has::CLASS, self.class.map(|class| class as u8))]
        {
            flags |= if number.is_some() { flag } else { 0 };
            out.extend(number);
        }
        for (flag, time) in [(has::FROM, self.from), (has::TO, self.to)] {
            if let Some(UnixMicros(time)) = time {
                flags |= flag;
                out.extend_from_slice(&time.to_le_bytes());
            }
        }
        out[at..at + 2].copy_from_slice(&flags.to_le_bytes());
    }

    /// Returns the names as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NAMES_BYTES_MAX);
        self.write(&mut out);
        out
    }

    /// Reads what [`Names::write`] wrote.
    ///
    /// # Errors
    /// [`InvalidNames`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidNames> {
        let mut rest = bytes;
        let flags = u16::from_le_bytes(take(&mut rest)?);
        if flags & !has::ALL != 0 {
            return Err(InvalidNames);
        }
        let mut key = |flag: u16| (flags & flag != 0).then(|| take::<16>(&mut rest)).transpose();
        let mut names = Self {
            job: key(1)?.map(|id| JobId(Uuid::from_bytes(id))),
            cancel_key: key(1 << 1)?.map(WordKey),
            recipient: key(1 << 2)?.map(RecipientKey),
            batch: key(1 << 3)?.map(Uuid::from_bytes),
            campaign: key(1 << 4)?.map(WordKey),
            run: key(1 << 5)?.map(WordKey),
            collapse_key: key(1 << 6)?.map(WordKey),
            address: key(has::ADDRESS)?.map(AddressKey),
            ..Self::default()
        };
        if flags & has::KIND != 0 {
            let [number] = take(&mut rest)?;
            names.kind = Some(*Kind::ALL.get(usize::from(number)).ok_or(InvalidNames)?);
        }
        if flags & has::CLASS != 0 {
            let [number] = take(&mut rest)?;
            names.class = Some(*Class::ALL.get(usize::from(number)).ok_or(InvalidNames)?);
        }
        let mut time = |flag: u16| {
            (flags & flag != 0).then(|| take(&mut rest).map(|bytes| UnixMicros(i64::from_le_bytes(bytes)))).transpose()
        };
        (names.from, names.to) = (time(has::FROM)?, time(has::TO)?);
        if rest.is_empty() { Ok(names) } else { Err(InvalidNames) }
    }
}

/// Which names there are: one bit for each form of a single name, then these.
mod has {
    pub(super) const ADDRESS: u16 = 1 << 7;
    pub(super) const KIND: u16 = 1 << 8;
    pub(super) const CLASS: u16 = 1 << 9;
    pub(super) const FROM: u16 = 1 << 10;
    pub(super) const TO: u16 = 1 << 11;
    pub(super) const ALL: u16 = (1 << 12) - 1;
}

fn halves([a, b, c, d, e, f, g, h, rest @ ..]: [u8; 16]) -> [[u8; 8]; 2] {
    [[a, b, c, d, e, f, g, h], rest]
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], InvalidNames> {
    let (head, tail) = rest.split_first_chunk().ok_or(InvalidNames)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = Names> {
        let key = || prop::option::of(any::<[u8; 16]>());
        let time = || prop::option::of(any::<i64>().prop_map(UnixMicros));
        let keys = (key(), key(), key(), key(), key(), key(), key(), key());
        let rest = (prop::option::of(0_usize..3), prop::option::of(0_usize..4), time(), time());
        (keys, rest).prop_map(|(keys, (kind, class, from, to))| Names {
            job: keys.0.map(|id| JobId(Uuid::from_bytes(id))),
            cancel_key: keys.1.map(WordKey),
            recipient: keys.2.map(RecipientKey),
            address: keys.3.map(AddressKey),
            batch: keys.4.map(Uuid::from_bytes),
            campaign: keys.5.map(WordKey),
            run: keys.6.map(WordKey),
            collapse_key: keys.7.map(WordKey),
            kind: kind.map(|kind| Kind::ALL[kind]),
            class: class.map(|class| Class::ALL[class]),
            from,
            to,
        })
    }

    proptest! {
        #[test]
        fn names_come_back_from_their_bytes(names in names(), junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = names.to_bytes();
            prop_assert!(bytes.len() <= NAMES_BYTES_MAX);
            prop_assert_eq!(Names::from_bytes(&bytes), Ok(names));
            bytes.pop();
            prop_assert_eq!(Names::from_bytes(&bytes), Err(InvalidNames));
            let _never_panics = Names::from_bytes(&junk);
        }
    }

    #[test]
    fn a_point_is_one_name_and_nothing_else() {
        let batch = Names { batch: Some(Uuid::from_u128(7)), ..Names::default() };
        assert_eq!(batch.only(), Some(Name { form: 3, key: Uuid::from_u128(7).into_bytes() }));
        assert_eq!(Names { kind: Some(Kind::Sms), ..batch }.only(), None);
        assert_eq!(Names { run: Some(WordKey([1; 16])), ..batch }.only(), None);
        assert_eq!(Names::default().only(), None);
    }

    #[test]
    fn acts_come_back_from_their_details() {
        let moved = |expires_at| Act::Move { due_at: UnixMicros(-5), expires_at };
        for act in [
            Act::Cancel,
            moved(Some(UnixMicros(7))),
            moved(None),
            Act::Collapse { into: JobId(Uuid::from_u128(u128::MAX - 3)) },
        ] {
            assert_eq!(Act::of(act.number(), act.detail()), Some(act));
        }
        assert_eq!(Act::of(9, [0; 16]), None);
    }
}
