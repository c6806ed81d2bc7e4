//! Messages of a WeCom application to the corporation's employees: up to a thousand who are told the same share a request,
//! and each has its own answer. Sources: developer.work.weixin.qq.com/document/path/90236 (sending), /91039 (tokens).

pub mod callback;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::super::http::{Bytes, Request, Response, header};
use super::super::login::Login;
use super::super::sms::cloud::{Api, Meaning, Moment, closed, foreign, not_sent, refused, throttled};
use super::super::{Answer, Handover};
use super::token::{Fresh, Gate, Tokens, Vault};
use crate::config;
use crate::domain::job::Content;
use crate::domain::time::Clock;

const JSON: &str = "application/json; charset=utf-8";
/// Longest text, in bytes; WeCom cuts what is longer.
const TEXT_LEN_MAX: usize = 2_048;
/// The corporation asks too often: it is shut out for a minute at least.
const OVER_FREQUENCY: Duration = Duration::from_secs(60);

/// An application that sends messages.
pub struct Wecom {
    settings: config::Wecom,
    tokens: Tokens,
}

/// How an application's tokens are asked for.
struct Door {
    corp_id: Box<str>,
    secret: config::Secret,
    /// What stands in front of the API's paths.
    base: String,
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

#[derive(Deserialize)]
struct Token {
    errcode: Option<i64>,
    access_token: Option<Box<str>>,
    expires_in: Option<u64>,
}

// === impl Wecom ===

impl Wecom {
    /// Returns the application that the settings describe, whose tokens are shared in `vault`.
    pub fn new(settings: config::Wecom, vault: Arc<dyn Vault>, clock: &Clock) -> Self {
        let door = Door {
            corp_id: settings.corp_id.clone(),
            secret: settings.secret.clone(),
            base: settings.api.endpoint.path().to_owned(),
        };
        // Each application of a corporation has tokens of its own.
        let name = format!("wecom:{}:{}", settings.corp_id, settings.agent_id);
        Self { tokens: Tokens::new(Box::new(door), clock, vault, &name), settings }
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
        } else if !names_one(userid(handover)) {
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
        Request::post(format!("{}/cgi-bin/message/send", self.settings.api.endpoint.path()))
            .header(header::CONTENT_TYPE, JSON)
            .body(said.to_string().into())
            .map_err(|_| not_sent("no_request"))
    }

    fn question(&self, _moment: Moment) -> Option<Request<Bytes>> {
        self.tokens.question()
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        self.tokens.admitted(answer)
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return Meaning::All(foreign(answer)) };
        let code = || said.errcode.to_string();
        match said.errcode {
            0 => Meaning::Each(jobs.iter().map(|job| Self::answer(&said, job)).collect()),
            40_001 | 40_014 | 41_001 | 42_001 => Meaning::NotLetIn,
            45_009 => Meaning::All(Answer::Throttled { retry_after: Some(OVER_FREQUENCY) }),
            45_033 => Meaning::All(throttled(answer)),
            // Busy, "try again later".
            -1 => Meaning::All(not_sent(code())),
            // No such application or none of ours, an address that is not on its list, no right to this API.
            40_056 | 48_002 | 60_020 | 301_002 => Meaning::All(closed(code())),
            // 81013: nobody of them is there. What one of many says wrong, the others do not share.
            _ if jobs.len() > 1 => Meaning::Alone,
            _ => Meaning::All(refused(code())),
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

/// Returns whether an id can be one employee's: `|` parts several, and `@all` is everybody.
fn names_one(userid: &str) -> bool {
    !userid.is_empty() && !userid.starts_with('@') && !userid.contains('|')
}

fn text(job: &Handover) -> &str {
    job.template.as_ref().map_or("", |filled| &filled.text)
}

// === impl Door ===

impl Gate for Door {
    fn request(&self) -> Option<Request<Bytes>> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("corpid", &self.corp_id)
            .append_pair("corpsecret", self.secret.reveal())
            .finish();
        Request::get(format!("{}/cgi-bin/gettoken?{query}", self.base)).body(Bytes::new()).ok()
    }

    fn read(&self, answer: &Response<Bytes>) -> Result<Fresh, Box<str>> {
        match serde_json::from_slice(answer.body()) {
            Ok(Token { access_token: Some(token), expires_in: Some(seconds), .. }) if !token.is_empty() => {
                Ok(Fresh { token, life: Duration::from_secs(seconds) })
            }
            Ok(Token { errcode: Some(code), .. }) => Err(code.to_string().into()),
            Ok(Token { .. }) | Err(_) => Err(format!("http_{}", answer.status().as_u16()).into()),
        }
    }
}

#[cfg(test)]
mod tests;
