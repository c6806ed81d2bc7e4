//! Access tokens of providers that all processes share, through limits, sealed.
//!
//! Why limits: one question to them is exact over all processes, and sending asks them anyway. The ledger may be away for an
//! hour while sending goes on; a token that ends in that hour must not be what stops it. While limits are away, each process
//! asks the platform for itself, which gives the same token to all who ask in this way.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{Base, SharedLimits};
use crate::channel::template::token::{Held, Later, Lent, Vault};
use crate::domain::keys::Fingerprint;
use crate::domain::time::Clock;
use crate::limits::{Borrow, Borrowed, Limits as _, LimitsError, Shared};
use crate::seal::Sealer;

/// How long one process may take to renew a token before another is asked to: longer than a platform is waited for.
const RENEWAL: Duration = Duration::from_secs(10);
/// Binds a sealed token to its purpose.
const AAD: &[u8] = b"postrider access token 1";

struct Tokens {
    limits: SharedLimits,
    sealer: Sealer,
    clock: Clock,
    /// Another number in each process.
    who: u64,
}

impl Base {
    /// Returns where the tokens of its providers are shared.
    pub(super) fn vault(&self) -> Arc<dyn Vault> {
        let (limits, sealer, clock) = (self.limits.clone(), self.sealer.clone(), self.clock.clone());
        Arc::new(Tokens { limits, sealer, clock, who: fastrand::u64(..) })
    }
}

impl Tokens {
    async fn ask(&self, name: &str, refused: Option<Fingerprint>) -> Result<Borrowed, LimitsError> {
        let now = self.clock.now();
        let asked = Borrow { name, who: self.who, refused, renew_until: now.plus(RENEWAL) };
        self.limits.borrow(now, &asked).await
    }

    /// Asks as one for whom the value there is no good, for it does not open: who is to renew it is one, as ever.
    async fn ask_for_another(&self, name: &str, than: Fingerprint) -> Lent {
        match self.ask(name, Some(than)).await {
            Ok(Borrowed::Wait(_)) => Lent::Wait,
            Ok(Borrowed::Value(shared)) => self.opened(&shared).map_or(Lent::Wait, Lent::Token),
            Ok(Borrowed::Yours) | Err(_) => Lent::Yours,
        }
    }

    fn opened(&self, shared: &Shared) -> Option<Held> {
        let token = String::from_utf8(self.sealer.open(&shared.sealed, AAD).ok()?).ok()?;
        Some(Held { token: token.into(), renew_at: shared.renew_at, until: shared.until })
    }
}

impl Vault for Tokens {
    fn borrow<'a>(&'a self, name: &'a str, refused: Option<&'a str>) -> Later<'a, Lent> {
        Box::pin(async move {
            let refused = refused.map(|token| self.sealer.fingerprint(token.as_bytes()));
            match self.ask(name, refused).await {
                Ok(Borrowed::Value(shared)) => match self.opened(&shared) {
                    Some(token) => Lent::Token(token),
                    // Sealed with a key that is gone.
                    None => self.ask_for_another(name, shared.mark).await,
                },
                Ok(Borrowed::Yours) => Lent::Yours,
                Ok(Borrowed::Wait(_)) => Lent::Wait,
                Err(problem) => {
                    warn!(%problem, "an access token is not shared; this process asks for its own");
                    Lent::Yours
                }
            }
        })
    }

    fn lend<'a>(&'a self, name: &'a str, token: &'a Held) -> Later<'a, ()> {
        Box::pin(async move {
            let plain = token.token.as_bytes();
            let value = Shared {
                mark: self.sealer.fingerprint(plain),
                sealed: self.sealer.seal(plain, AAD).into(),
                renew_at: token.renew_at,
                until: token.until,
            };
            // Lost, another process asks the platform again, and is given the same.
            let _lost = self.limits.lend(self.clock.now(), (name, self.who), &value).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::measured::Measured;
    use crate::limits::{AnyLimits, embedded};

    #[tokio::test]
    async fn a_token_whose_key_is_gone_is_renewed_by_one() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let opened = embedded::Embedded::open(dir.path(), clock.now()).unwrap();
        let limits = Measured::new(AnyLimits::Embedded(opened), clock.clone());
        let process = |who, sealer: &Sealer| {
            let (limits, sealer, clock) = (limits.clone(), sealer.clone(), clock.clone());
            Tokens { limits, sealer, clock, who }
        };
        let (old, new) = (Sealer::ephemeral().unwrap(), Sealer::ephemeral().unwrap());
        let (before, one, other) = (process(1, &old), process(2, &new), process(3, &new));
        let now = clock.now();
        let held = |token: &str| Held {
            token: token.into(),
            renew_at: now.plus(Duration::from_secs(60)),
            until: now.plus(Duration::from_secs(90)),
        };
        assert!(matches!(before.borrow("shoes", None).await, Lent::Yours));
        before.lend("shoes", &held("t1")).await;
        assert!(matches!(before.borrow("shoes", None).await, Lent::Token(_)));
        assert!(matches!(one.borrow("shoes", None).await, Lent::Yours), "nobody else renews it");
        for refused in [None, Some("t0")] {
            assert!(matches!(other.borrow("shoes", refused).await, Lent::Wait), "one of them does");
        }
        one.lend("shoes", &held("t2")).await;
        assert!(matches!(other.borrow("shoes", None).await, Lent::Token(held) if *held.token == *"t2"));
    }
}
