//! One-time consents: each lets one message through, of one template to one person. What is known of them is counted; what is
//! not, the vendor decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{WordKey, space};
use crate::domain::signal::{self, Signal, Told};
use crate::domain::time::UnixMicros;
use crate::seal::Sealer;

/// What happens to the consents of one person to one template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsentAct {
    /// Whose they are.
    pub tenant: TenantId,
    /// Stands for the person and the template.
    pub of: WordKey,
    /// What happens.
    pub act: Act,
}

/// The accounts whose consents are counted; of all others the vendor alone knows. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct Counted(Arc<BTreeMap<TenantId, BTreeSet<Box<str>>>>);

impl Counted {
    /// Returns these accounts, each with the tenant whose it is.
    pub fn new(accounts: impl IntoIterator<Item = (TenantId, Box<str>)>) -> Self {
        let mut counted = BTreeMap::<_, BTreeSet<_>>::new();
        for (tenant, account) in accounts {
            counted.entry(tenant).or_default().insert(account);
        }
        Self(Arc::new(counted))
    }

    /// Returns whose accounts they are, each tenant once.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.0.keys()
    }

    /// Returns what a signal means for the consents that it is about; `None`: nothing, or nothing that is counted.
    pub fn act(&self, signal: &Signal, sealer: &Sealer) -> Option<ConsentAct> {
        let person = signal.recipient.wechat.first()?;
        let counted = self.0.get(&signal.tenant)?.contains(&person.appid);
        counted.then(|| ConsentAct::of(signal, sealer))?
    }
}

impl ConsentAct {
    fn of(signal: &Signal, sealer: &Sealer) -> Option<Self> {
        let at = signal.said_at();
        let act = match (signal.told, signal.detail(signal::BY)?) {
            (Told::PopupAccepted, signal::BY_POPUP) => Act::Given(signal.id, at),
            // Unasked, for all that is to come. Who is asked and says no, says it for this once. Of the settings the platform
            // tells this alone, and nothing of who allows messages again.
            (Told::PopupRejected, signal::BY_SETTINGS) => Act::Withdrawn(at),
            _ => return None,
        };
        let person = signal.recipient.wechat.first()?;
        let text = signal::consent(&person.appid, &person.openid, signal.detail(signal::TEMPLATE_ID)?);
        let of = sealer.word_key(&signal.tenant, space::CONSENT, &text);
        Some(Self { tenant: signal.tenant.clone(), of, act })
    }
}

/// What happens to consents, in whatever order it is told. Told again, each is the same one, among the last [`REMEMBERED`] of
/// its sort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// One more was given then; the fact has this id.
    Given(Uuid, UnixMicros),
    /// Those that were given before that time were taken back.
    Withdrawn(UnixMicros),
    /// A job takes one; what it took before it has.
    Taken(JobId),
    /// A job that took one definitely did not go out.
    Returned(JobId),
    /// The vendor says to a job that none is left: of what there was when it took its own, not of what was given since.
    Denied(JobId),
}

/// What is known of consents once an act has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consented {
    /// None that was counted is left, and there may be others from before anything was heard of them: the vendor decides.
    Unknown,
    /// So many are left. A job that takes one has it.
    Left(u8),
    /// A job asks for one, and there is none: they were taken back, or the vendor has said so.
    None,
}

/// Acts of each sort that are remembered: a person does no more while a platform says again what was not thanked for, and no
/// more jobs of a template to one person are in hand at a time. Who is forgotten and asks again takes one more, never less.
pub const REMEMBERED: usize = 16;
/// How long consents are remembered after the last act.
pub const CONSENT_LIFE: std::time::Duration = std::time::Duration::from_secs(400 * 24 * 3_600);

impl Act {
    /// Returns the act's number, the short form of its id, and its second, as platforms tell it.
    pub(super) fn parts(self) -> (u8, u64, u32) {
        use super::core::{short, short_job};
        let second = |at: UnixMicros| u32::try_from(at.as_secs()).unwrap_or(0);
        match self {
            Self::Given(id, at) => (0, short(id), second(at)),
            Self::Withdrawn(at) => (1, 0, second(at)),
            Self::Taken(job) => (2, short_job(job), 0),
            Self::Returned(job) => (3, short_job(job), 0),
            Self::Denied(job) => (4, short_job(job), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recipient::{Recipient, Wechat};

    #[test]
    fn an_accept_gives_one_and_a_no_in_the_settings_takes_all_back() {
        let (sealer, at) = (Sealer::ephemeral().unwrap(), UnixMicros::from_secs(1_700_000_000));
        let signal = |told, by: &str| Signal {
            id: Uuid::from_u128(7),
            provider: "cloud".parse().unwrap(),
            tenant: "shop".parse().unwrap(),
            told,
            recipient: Recipient {
                wechat: vec![Wechat { appid: "wx1".into(), openid: "o1".into() }],
                ..Recipient::default()
            },
            to: "gh_1".into(),
            details: vec![(signal::BY.into(), by.into()), (signal::TEMPLATE_ID.into(), "tpl-1".into())],
            at,
        };
        let accounts = |tenant: &str, account: &str| Counted::new([(tenant.parse().unwrap(), account.into())]);
        let counted = accounts("shop", "wx1");
        let act = |told, by| counted.act(&signal(told, by), &sealer).map(|consent| consent.act);
        let given = Act::Given(Uuid::from_u128(7), at);
        assert_eq!(act(Told::PopupAccepted, signal::BY_POPUP), Some(given));
        assert_eq!(act(Told::PopupAccepted, signal::BY_SETTINGS), None, "that is none to use up");
        assert_eq!(act(Told::PopupRejected, signal::BY_SETTINGS), Some(Act::Withdrawn(at)));
        assert_eq!(act(Told::PopupRejected, signal::BY_POPUP), None, "who says no for once takes nothing back");
        let accepted = signal(Told::PopupAccepted, signal::BY_POPUP);
        for others in [Counted::default(), accounts("shop", "wx2"), accounts("shoes", "wx1")] {
            assert_eq!(others.act(&accepted, &sealer), None, "of {others:?} alone");
        }
    }
}
