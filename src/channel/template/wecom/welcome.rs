//! Welcome messages (欢迎语): what a customer who has just become an employee's friend is told first. WeCom gives a code with
//! the callback, which is good for one message within 20 seconds. Source: developer.work.weixin.qq.com/document/path/92137.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::super::super::http::{Bytes, Request, Response};
use super::super::super::login::Login;
use super::super::super::sms::cloud::{Api, Meaning, Moment, not_sent, refused};
use super::super::super::{Answer, Handover};
use super::super::token::{Tokens, Vault};
use super::Wecom;
use super::door::{self, text};
use crate::config;
use crate::domain::job::Content;
use crate::domain::time::Clock;

/// How long a code is good.
const LIFE: Duration = Duration::from_secs(20);
/// The variable of a template that has the code.
const CODE: &str = "welcome_code";
/// Longest text, in bytes.
const TEXT_LEN_MAX: usize = 4_000;

/// An application that welcomes customers. All but the message is as for employees.
pub struct Welcome(Wecom);

#[derive(Deserialize)]
struct Said {
    errcode: i64,
}

// === impl Welcome ===

impl Welcome {
    /// Returns the application that the settings describe, which welcomes customers; its tokens are shared in `vault`.
    pub fn new(settings: config::Wecom, vault: Arc<dyn Vault>, clock: &Clock) -> Self {
        Self(Wecom::new(settings, vault, clock))
    }
}

impl Api for Welcome {
    fn tokens(&self) -> Option<&Tokens> {
        self.0.tokens()
    }

    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let text = text(handover);
        if !matches!(handover.content, Content::Template { .. }) {
            Err(refused("not_a_template"))
        } else if code(handover).is_empty() {
            Err(refused("no_welcome_code"))
        } else if text.is_empty() {
            Err(refused("no_wecom_text"))
        } else if text.len() > TEXT_LEN_MAX {
            Err(refused("text_length"))
        } else if handover.validity > LIFE {
            // It would be tried when the code is no good any more.
            Err(refused("expires_too_late"))
        } else {
            Ok(())
        }
    }

    fn request(&self, jobs: &[Handover], _moment: Moment) -> Result<Request<Bytes>, Answer> {
        let [job] = jobs else { return Err(not_sent("no_job")) };
        let said = json!({ "welcome_code": code(job), "text": { "content": text(job) } });
        door::request(&self.0.settings, "externalcontact/send_welcome_msg", &said)
    }

    fn question(&self, moment: Moment) -> Option<Request<Bytes>> {
        self.0.question(moment)
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        self.0.admitted(answer)
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        match serde_json::from_slice::<Said>(answer.body()) {
            Ok(Said { errcode: 0 }) => {
                Meaning::All(Answer::Taken { message_ids: vec![], segments: 1, receipt_expected: false })
            }
            // Another application is at it, and may fail.
            Ok(Said { errcode: 41_096 }) => Meaning::All(not_sent("41096")),
            Ok(_) | Err(_) => self.0.read(jobs, answer),
        }
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome").field("agent_id", &self.0.settings.agent_id).finish_non_exhaustive()
    }
}

fn code(job: &Handover) -> &str {
    job.params.iter().find(|(name, _)| **name == *CODE).map_or("", |(_, value)| value)
}
