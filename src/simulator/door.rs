//! The tokens of a simulated account at WeChat or WeCom: the same one however often it is asked for, a new one when the old is about to end,
//! and for a while both. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use super::Post;
use crate::channel::template::crypt::Crypt;
use crate::domain::time::{Clock, UnixMicros};

/// A new token is given so long before the old one ends, or in the last tenth of its life.
const OVERLAP: Duration = Duration::from_secs(300);
const LIFE_PARTS: u32 = 10;
/// Ended tokens that are told from those that never were.
const ENDED_MAX: usize = 100;

/// The tokens of an account.
#[derive(Default, Debug)]
pub(super) struct Door {
    /// The newest last; never more than two.
    tokens: Vec<(String, UnixMicros)>,
    /// Those that ended lately.
    ended: VecDeque<String>,
    /// The one of the older way to ask, which knows nothing of the others.
    plain: Option<(String, UnixMicros)>,
    given: u64,
    asked: u64,
}

impl Door {
    /// Gives a token; returns how long it holds.
    pub(super) fn give(&mut self, now: UnixMicros, life: Duration, force: bool) -> (String, Duration) {
        self.asked += 1;
        self.forget(now);
        if force {
            self.end();
        }
        let overlap = OVERLAP.min(life / LIFE_PARTS);
        if let Some((token, until)) = self.tokens.last().filter(|(_, until)| until.since(now) > overlap) {
            return (token.clone(), until.since(now));
        }
        self.given += 1;
        let token = self.token();
        self.tokens.push((token.clone(), now.plus(life)));
        if self.tokens.len() > 2 {
            let (token, _) = self.tokens.remove(0);
            self.ended.push_back(token);
        }
        (token, life)
    }

    /// Gives a token by the older way: another each time, which ends the one before.
    pub(super) fn give_plain(&mut self, now: UnixMicros, life: Duration) -> String {
        let token = self.token();
        self.plain = Some((token.clone(), now.plus(life)));
        token
    }

    /// Returns a token as long as real ones may become.
    fn token(&self) -> String {
        format!("{}_{}", self.given, (0..8).map(|_| Uuid::new_v4().simple().to_string()).collect::<String>())
    }

    /// Says whether a token lets in.
    pub(super) fn check(&mut self, token: &str, now: UnixMicros) -> Result<(), (i64, &'static str)> {
        self.forget(now);
        let plain = self.plain.iter().filter(|(_, until)| *until > now);
        if self.tokens.iter().chain(plain).any(|(known, _)| known == token) {
            Ok(())
        } else if self.ended.iter().any(|known| known == token) {
            Err((42_001, "access_token expired"))
        } else {
            Err((40_001, "invalid credential, access_token is invalid or not latest"))
        }
    }

    /// Ends every token.
    pub(super) fn end(&mut self) {
        self.tokens.clear();
    }

    /// Returns how often another token was given, and how often any was asked for.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.given, self.asked)
    }

    fn forget(&mut self, now: UnixMicros) {
        let (live, over): (Vec<_>, Vec<_>) = self.tokens.drain(..).partition(|(_, until)| *until > now);
        self.tokens = live;
        self.ended.extend(over.into_iter().map(|(token, _)| token));
        self.ended.drain(..self.ended.len().saturating_sub(ENDED_MAX));
    }
}

/// Returns a call to `url` that says something to `account`, signed and encrypted anew.
pub(super) fn encrypted((url, crypt): (&str, &Crypt), account: &str, said: &str, clock: &Clock) -> Post {
    let (salt, nonce) = (*Uuid::new_v4().as_bytes(), Uuid::new_v4().simple().to_string());
    let sealed = crypt.seal(said.as_bytes(), salt);
    let timestamp = clock.now().as_secs().to_string();
    let signature = crypt.sign(&timestamp, &nonce, None);
    let msg_signature = crypt.sign(&timestamp, &nonce, Some(&sealed));
    Post {
        url: format!(
            "{url}?signature={signature}&timestamp={timestamp}&nonce={nonce}&encrypt_type=aes&msg_signature={msg_signature}"
        ),
        headers: vec![("content-type", "text/xml".to_owned())],
        body: format!(
            "<xml><ToUserName><![CDATA[{account}]]></ToUserName><Encrypt><![CDATA[{sealed}]]></Encrypt></xml>"
        ),
    }
}
