//! Access tokens: what lets requests in at WeChat and WeCom, given for a secret and good for some hours.
//!
//! One holder for each account. Whoever needs a token while a new one is being asked for waits for that one; a token that is
//! about to end is renewed by one, while the others go on with it. A token that the platform refuses is given up once: who
//! says so second finds the new one. Processes share it through a [`Vault`], so that all of this holds for all of them.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::super::http::client::{Client, Failure};
use super::super::http::{Bytes, Request, Response};
use super::super::login::Login;
use crate::domain::time::{Clock, UnixMicros};

/// A token is renewed so long before it ends, or in the last tenth of its life if that is shorter: from then on the
/// platform gives a new one, and the old one still holds.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
const LIFE_PARTS: u32 = 10;
/// How often it is looked whether another process has the new token.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// After a failure nobody asks again for this long: a hundred jobs that wait must not ask one after the other.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How tokens of one account are asked for. Pure.
pub trait Gate: Send + Sync + 'static {
    /// Returns the request for a token.
    fn request(&self) -> Option<Request<Bytes>>;

    /// Reads the answer.
    ///
    /// # Errors
    /// The platform's code.
    fn read(&self, answer: &Response<Bytes>) -> Result<Fresh, Box<str>>;
}

/// A token as the platform gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Fresh {
    /// The token.
    pub token: Box<str>,
    /// How long it holds.
    pub life: Duration,
}

/// Where the processes of a service share tokens.
pub trait Vault: Send + Sync + 'static {
    /// Says what there is of a name; the token that was `refused` does not count.
    fn borrow<'a>(&'a self, name: &'a str, refused: Option<&'a str>) -> Later<'a, Lent>;

    /// Takes a token from the one who was told to renew it.
    fn lend<'a>(&'a self, name: &'a str, token: &'a Held) -> Later<'a, ()>;
}

/// Something that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a vault says.
pub enum Lent {
    /// There is one.
    Token(Held),
    /// The asker is to renew it; nobody else does for a while.
    Yours,
    /// Another process renews it.
    Wait,
}

/// A vault for one process, which shares with nobody.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

/// Holds the token of one account.
pub struct Tokens {
    gate: Box<dyn Gate>,
    vault: Arc<dyn Vault>,
    name: Box<str>,
    clock: Clock,
    held: RwLock<Option<Held>>,
    /// Held by the one who asks for a token.
    asking: Mutex<Option<Refusal>>,
}

/// Why there is no token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoToken {
    /// The platform's code, or why it was not asked.
    pub code: Box<str>,
}

/// A token, and how long it is good for.
#[derive(Clone)]
pub struct Held {
    /// The token.
    pub token: Arc<str>,
    /// From when on it is renewed.
    pub renew_at: UnixMicros,
    /// Until when it holds.
    pub until: UnixMicros,
}

/// The last failure to get one.
struct Refusal {
    at: UnixMicros,
    why: NoToken,
}

// === impl Tokens ===

impl Tokens {
    /// Returns a holder that has no token yet. Its processes share it in `vault` under `name`, which stands for the account.
    pub fn new(gate: Box<dyn Gate>, clock: &Clock, vault: Arc<dyn Vault>, name: &str) -> Self {
        let (clock, held, asking) = (clock.clone(), RwLock::default(), Mutex::default());
        Self { gate, vault, name: name.into(), clock, held, asking }
    }

    /// Returns a question that asks for a token, which tells whether the platform knows the account.
    pub fn question(&self) -> Option<Request<Bytes>> {
        self.gate.request()
    }

    /// Returns what the answer to that question says about the account.
    pub fn admitted(&self, answer: &Response<Bytes>) -> Login {
        match self.gate.read(answer) {
            Ok(_) => Login::Good,
            // Another answer than one of the platform's own begins with its status.
            Err(code) if code.starts_with("http_") => Login::Unreachable(code),
            Err(code) => Login::Refused(code),
        }
    }

    /// Returns a token other than `refused`, which the platform did not let in. Takes at most `limit`.
    ///
    /// # Errors
    /// [`NoToken`], where there is none to be had.
    pub async fn get(&self, refused: Option<&str>, client: &Client, limit: Duration) -> Result<Arc<str>, NoToken> {
        let (watch, now) = (self.clock.stopwatch(), self.clock.now());
        let held = self.held(refused, now);
        let mut asking = match &held {
            Some(held) if now < held.renew_at => return Ok(Arc::clone(&held.token)),
            // It still holds, so nobody waits for the one who renews it.
            Some(held) => match self.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(Arc::clone(&held.token)),
            },
            None => self.clock.timeout(limit, self.asking.lock()).await.map_err(|_| NoToken::because("no_token"))?,
        };
        let now = self.clock.now();
        if let Some(held) = self.held(refused, now).filter(|held| now < held.renew_at) {
            return Ok(held.token);
        }
        let lately = asking.as_ref().filter(|last| now.since(last.at) < RETRY_AFTER).map(|last| last.why.clone());
        let asked = match lately {
            Some(why) => Err(why),
            None => self.renew(refused, client, limit.saturating_sub(watch.elapsed())).await,
        };
        // The platform insists on what it does not let in: another job would be told the same.
        let asked = asked.and_then(|held| match refused == Some(&*held.token) {
            true => Err(NoToken::because("not_let_in")),
            false => Ok(held),
        });
        match asked {
            Ok(held) => {
                *asking = None;
                let token = Arc::clone(&held.token);
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
                Ok(token)
            }
            Err(why) => {
                *asking = Some(Refusal { at: now, why: why.clone() });
                held.map(|held| held.token).ok_or(why)
            }
        }
    }

    /// Returns the token in hand, unless it has ended or is the one that was refused.
    fn held(&self, refused: Option<&str>, now: UnixMicros) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone().filter(|held| now < held.until && refused != Some(&*held.token))
    }

    /// Takes the token that another process has, or asks the platform for all of them.
    async fn renew(&self, refused: Option<&str>, client: &Client, limit: Duration) -> Result<Held, NoToken> {
        let watch = self.clock.stopwatch();
        let left = || limit.saturating_sub(watch.elapsed());
        while !left().is_zero() {
            match self.clock.timeout(left(), self.vault.borrow(&self.name, refused)).await {
                Ok(Lent::Token(held)) => return Ok(held),
                Ok(Lent::Yours) => {
                    let held = self.ask(client, left()).await?;
                    // Lost, another process asks the platform again, and is given the same.
                    let _lost = self.clock.timeout(left(), self.vault.lend(&self.name, &held)).await;
                    return Ok(held);
                }
                Ok(Lent::Wait) => self.clock.pause(LOOK_AGAIN.min(left())).await,
                Err(_) => break,
            }
        }
        Err(NoToken::because("no_token"))
    }

    async fn ask(&self, client: &Client, limit: Duration) -> Result<Held, NoToken> {
        let request = self.gate.request().ok_or_else(|| NoToken::because("no_request"))?;
        // Asked twice, the platform gives the same: nothing is lost by an answer that is.
        let answer = client.send(request, limit).await.map_err(|failure| match failure {
            Failure::NotSent(code) => NoToken::because(code),
            Failure::NoAnswer => NoToken::because("no_token"),
        })?;
        let Fresh { token, life } = self.gate.read(&answer).map_err(|code| NoToken { code })?;
        let now = self.clock.now();
        let spare = RENEW_BEFORE.min(life / LIFE_PARTS);
        Ok(Held { token: (*token).into(), renew_at: now.plus(life.saturating_sub(spare)), until: now.plus(life) })
    }
}

impl NoToken {
    fn because(code: &str) -> Self {
        Self { code: code.into() }
    }
}

impl Vault for Alone {
    fn borrow<'a>(&'a self, _name: &'a str, _refused: Option<&'a str>) -> Later<'a, Lent> {
        Box::pin(std::future::ready(Lent::Yours))
    }

    fn lend<'a>(&'a self, _name: &'a str, _token: &'a Held) -> Later<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token: this ends in logs and panics.
        f.debug_struct("Held").field("until", &self.until).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Yours => "Yours",
            Self::Wait => "Wait",
        })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token: this ends in logs and panics.
        f.debug_struct("Fresh").field("life", &self.life).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
