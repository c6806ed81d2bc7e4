//! API keys as they are stored, and how long they still hold.

use std::time::Duration;

use super::Role;
use crate::domain::checkup::Finding;
use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;

/// A key that was made for less than this is meant to end: nobody is warned before it does.
const MEANT_TO_END: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long before the end of a key somebody has to act: its owner has to be given another.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// An API key, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// The public part, in front of the secret.
    pub id: Box<str>,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// Peppered HMAC-SHA256 of the secret.
    pub mac: [u8; 32],
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was revoked.
    pub revoked_at: Option<UnixMicros>,
    /// From when on it is refused; `None`: it holds until it is revoked.
    pub expires_at: Option<UnixMicros>,
}

impl ApiKey {
    /// Returns whether it opens anything at `now`.
    pub fn is_live(&self, now: UnixMicros) -> bool {
        self.revoked_at.is_none() && !self.has_expired(now)
    }

    /// Returns whether its time is over at `now`.
    pub fn has_expired(&self, now: UnixMicros) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Returns when it ends, if it is live and was made to last for some time.
    fn ends_at(&self, now: UnixMicros) -> Option<UnixMicros> {
        let lasting = |at: &UnixMicros| self.is_live(now) && *at >= self.created_at.plus(MEANT_TO_END);
        self.expires_at.filter(lasting)
    }
}

/// Returns when the first of the keys that are live at `now` expires. Those made for less than two weeks do not count:
/// they are meant to end.
pub(in crate::ledger) fn first_expiry<'a>(
    keys: impl IntoIterator<Item = &'a ApiKey>,
    now: UnixMicros,
) -> Option<UnixMicros> {
    keys.into_iter().filter_map(|key| key.ends_at(now)).min()
}

/// Judges how long API keys still hold at `now`.
pub(in crate::ledger) fn checkup(keys: &[ApiKey], now: UnixMicros) -> Finding {
    const ABOUT: &str = "API keys";
    let Some(first) = keys.iter().filter_map(|key| Some((key.ends_at(now)?, key))).min_by_key(|(at, _)| *at) else {
        return Finding::fine(ABOUT, "none of those that last is about to expire");
    };
    let (at, key) = first;
    let days = at.as_secs().saturating_sub(now.as_secs()) / 86_400;
    let text = format!("the next to expire is {} of {} ({}), in {days} days", key.id, key.tenant, key.role);
    if at < now.plus(SOON) {
        let fix = "create another (postrider key create), give it to its owner, then revoke this one";
        Finding::risk(ABOUT, text, fix)
    } else {
        Finding::fine(ABOUT, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::checkup::Found;

    const DAY: i64 = 86_400;

    /// A key made on day 0.
    fn key(expires_on: Option<i64>) -> ApiKey {
        ApiKey {
            id: "5c1f".into(),
            tenant: "acme".parse().unwrap(),
            role: Role::Submitter,
            mac: [0; 32],
            created_at: UnixMicros(0),
            revoked_at: None,
            expires_at: expires_on.map(|day| UnixMicros::from_secs(day * DAY)),
        }
    }

    #[test]
    fn a_key_holds_until_the_moment_it_expires() {
        let end = 30 * DAY * 1_000_000;
        assert!(key(Some(30)).is_live(UnixMicros(end - 1)) && !key(Some(30)).is_live(UnixMicros(end)));
        assert!(!ApiKey { revoked_at: Some(UnixMicros(1)), ..key(Some(30)) }.is_live(UnixMicros(2)));
        assert!(key(None).is_live(UnixMicros(i64::MAX)));
    }

    #[test]
    fn the_first_of_the_lasting_and_living_counts() {
        let revoked = ApiKey { revoked_at: Some(UnixMicros(1)), ..key(Some(20)) };
        let keys = [key(None), key(Some(40)), key(Some(30)), key(Some(13)), revoked];
        let first = |day| first_expiry(&keys, UnixMicros::from_secs(day * DAY)).map(|at| at.as_secs() / DAY);
        assert_eq!([first(0), first(29), first(30), first(40)], [Some(30), Some(30), Some(40), None]);
    }

    #[test]
    fn two_weeks_before_its_end_a_key_is_a_risk() {
        let on = |day: i64| checkup(&[key(Some(30)), key(Some(60))], UnixMicros::from_secs(day * DAY));
        assert_eq!([on(15).found, on(17).found, on(31).found], [Found::Fine, Found::Risk, Found::Fine]);
        assert!(on(17).text.contains("5c1f of acme (submitter), in 13 days"), "{:?}", on(17));
        assert_eq!(checkup(&[], UnixMicros(0)).found, Found::Fine);
    }
}
