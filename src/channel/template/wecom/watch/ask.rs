//! How WeCom is asked: with a token, once more with another if the first is none any more, page by page.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::super::super::http::client::{Client, Failure};
use super::super::super::super::sms::cloud::with_token;
use super::super::super::token::Tokens;
use super::super::door;
use super::super::page::{Page, Said};
use crate::config;
use crate::rate_limited;

/// Most pages of an answer: more than WeCom takes customers and groups in a message.
const PAGES_MAX: usize = 100;

/// Asks with an application's tokens.
pub(super) struct Asks {
    pub(super) tokens: Tokens,
    pub(super) client: Client,
    pub(super) settings: config::Wecom,
    /// How long an answer may take.
    pub(super) limit: Duration,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Whatever is asked now would fare alike: WeCom cannot be reached, does not let in, or was asked too often.
    #[error("{0}")]
    Everything(Box<str>),
    /// It says so of what was asked about.
    #[error("WeCom says {0}")]
    Code(i64),
    /// No answer, or none that reads. What was asked for may have been done.
    #[error("{0}")]
    Silence(Box<str>),
}

/// All that a question is answered with, or as much as is asked for at most.
pub(super) struct Pages<T> {
    pub(super) entries: Vec<T>,
    /// There is more.
    pub(super) cut: bool,
}

// === impl Asks ===

impl Asks {
    /// Asks about messages to customers, page by page.
    pub(super) async fn pages<T: DeserializeOwned>(&self, what: &str, mut asked: Value) -> Result<Pages<T>, Trouble> {
        let mut entries = Vec::new();
        for _ in 0..PAGES_MAX {
            let page: Page<T> = self.ask(what, &asked).await?;
            let (all, before) = (page.entries.len(), entries.len());
            entries.extend(page.entries.into_iter().flatten());
            if entries.len() - before < all {
                rate_limited!(per_min = 1, warn, what, "entries of a list of WeCom's do not read and are left out");
            }
            if page.next_cursor.is_empty() {
                return Ok(Pages { entries, cut: false });
            }
            asked["cursor"] = page.next_cursor.into();
        }
        Ok(Pages { entries, cut: true })
    }

    /// Asks about messages to customers.
    pub(super) async fn ask<T: DeserializeOwned>(&self, what: &str, asked: &Value) -> Result<T, Trouble> {
        self.post(&format!("externalcontact/{what}"), asked).await
    }

    /// Asks; once more with another token, if the first is none any more.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, asked: &Value) -> Result<T, Trouble> {
        let mut refused: Option<Arc<str>> = None;
        loop {
            let token = self.tokens.get(refused.as_deref(), &self.client, self.limit).await;
            let token = token.map_err(|none| Trouble::Everything(none.code))?;
            let request =
                door::request(&self.settings, path, asked).map_err(|_| Trouble::Silence("no request".into()))?;
            let answer = self.client.send(with_token(request, &token), self.limit).await.map_err(Trouble::from)?;
            let unreadable = |_| Trouble::Silence(format!("HTTP {}", answer.status().as_u16()).into());
            let Said { errcode } = serde_json::from_slice(answer.body()).map_err(unreadable)?;
            match errcode {
                0 => return serde_json::from_slice(answer.body()).map_err(unreadable),
                code if door::not_let_in(code) && refused.is_none() => refused = Some(token),
                code if door::concerns_all(code) => {
                    return Err(Trouble::Everything(format!("WeCom says {code}").into()));
                }
                code => return Err(Trouble::Code(code)),
            }
        }
    }
}

// === impl Pages ===

impl<T> Pages<T> {
    /// Returns all entries.
    ///
    /// # Errors
    /// [`Trouble::Silence`] where there are more: what is not known of some says nothing of them.
    pub(super) fn whole(self) -> Result<Vec<T>, Trouble> {
        if self.cut { Err(Trouble::Silence("the pages have no end".into())) } else { Ok(self.entries) }
    }
}

// === impl Trouble ===

impl Trouble {
    /// Returns whether what was asked for was definitely not done.
    pub(super) fn is_definite(&self) -> bool {
        !matches!(self, Self::Silence(_))
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let why = failure.to_string().into();
        match failure {
            Failure::NotSent(_) => Self::Everything(why),
            Failure::NoAnswer => Self::Silence(why),
        }
    }
}
