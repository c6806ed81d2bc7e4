//! Messages of a WeCom application to the corporation's employees: up to a thousand who are told the same share a request,
//! and each has its own answer. Sources: developer.work.weixin.qq.com/document/path/90236 (sending), /91039 (tokens).

pub mod callback;
pub mod customers;
mod door;
mod page;
mod reminders;
pub mod watch;
pub mod welcome;

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use self::door::text;
use super::super::http::{Bytes, Request, Response};
use super::super::login::Login;
use super::super::sms::cloud::{Api, Meaning, Moment, foreign, not_sent, refused};
use super::super::{Answer, Handover};
use super::token::{Tokens, Vault};
use crate::config;
use crate::domain::job::Content;
use crate::domain::time::Clock;

/// Longest text, in bytes; WeCom cuts what is longer.
const TEXT_LEN_MAX: usize = 2_048;

/// An application that sends messages.
pub struct Wecom {
    settings: config::Wecom,
    tokens: Tokens,
}

#[derive(Deserialize)]
struct Said {
    errcode: i64,
    #[serde(default)]
    invaliduser: String,
    #[serde(default)]
    unlicenseduser: String,
    #[serde(default)]
    msgid: Box<str>,
}

// === impl Wecom ===

impl Wecom {
    /// Returns the application that the settings describe, whose tokens are shared in `vault`.
    pub fn new(settings: config::Wecom, vault: Arc<dyn Vault>, clock: &Clock) -> Self {
        Self { tokens: door::tokens(&settings, vault, clock), settings }
    }

    fn answer(said: &Said, job: &Handover) -> Answer {
        // WeCom writes ids in small letters, whatever it was asked.
        let among = |list: &str| list.split('|').any(|id| id.eq_ignore_ascii_case(userid(job)));
        if among(&said.invaliduser) {
            refused("invaliduser")
        } else if among(&said.unlicenseduser) {
            refused("unlicenseduser")
        } else {
            let message_ids = if said.msgid.is_empty() { vec![] } else { vec![said.msgid.clone()] };
            Answer::Taken { message_ids, segments: 1, receipt_expected: false }
        }
    }
}

impl Api for Wecom {
    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
    }

    fn batch_max(&self) -> usize {
        self.settings.batch_max.get() as usize
    }

    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let text = text(handover);
        if !matches!(handover.content, Content::Template { .. }) {
            Err(refused("not_a_template"))
        } else if !config::is_employee(userid(handover)) {
            Err(refused("no_userid"))
        } else if text.is_empty() {
            Err(refused("no_wecom_text"))
        } else if text.len() > TEXT_LEN_MAX {
            Err(refused("text_length"))
        } else {
            Ok(())
        }
    }

    fn joins(&self, batch: &[Handover], handover: &Handover) -> bool {
        batch.first().is_some_and(|first| text(first) == text(handover))
            && batch.iter().all(|job| !userid(job).eq_ignore_ascii_case(userid(handover)))
    }

    fn request(&self, jobs: &[Handover], _moment: Moment) -> Result<Request<Bytes>, Answer> {
        let Some(first) = jobs.first() else { return Err(not_sent("no_job")) };
        let users: Vec<_> = jobs.iter().map(userid).collect();
        let said = json!({
            "touser": users.join("|"),
            "msgtype": "text",
            "agentid": self.settings.agent_id,
            "text": { "content": text(first) },
        });
        door::request(&self.settings, "message/send", &said)
    }

    fn question(&self, _moment: Moment) -> Option<Request<Bytes>> {
        self.tokens.question()
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        self.tokens.admitted(answer)
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return Meaning::All(foreign(answer)) };
        match said.errcode {
            0 => Meaning::Each(jobs.iter().map(|job| Self::answer(&said, job)).collect()),
            // 81013: nobody of them is there.
            code => door::refusal(code, jobs.len(), answer),
        }
    }
}

impl fmt::Debug for Wecom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wecom").field("agent_id", &self.settings.agent_id).finish_non_exhaustive()
    }
}

fn userid(job: &Handover) -> &str {
    job.recipient.wecom_userid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
