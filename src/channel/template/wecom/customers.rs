//! Messages to a corporation's customers and posts to their groups (企业群发): up to a thousand that say the same share a
//! request, and each has its own answer. What is taken goes out once the employee who is its sender has confirmed it, until
//! `confirm_within` has passed; [`super::watch`] says what became of it. Source:
//! developer.work.weixin.qq.com/document/path/92135.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::digest::sha256;
use super::super::super::http::{Bytes, Request, Response};
use super::super::super::login::Login;
use super::super::super::sms::cloud::{Api, Meaning, Moment, foreign, not_sent, refused};
use super::super::super::{Answer, Handover};
use super::super::token::{Tokens, Vault};
use super::door::{self, text};
use crate::config;
use crate::domain::job::Content;
use crate::domain::recipient::RecipientKind;
use crate::domain::time::Clock;

/// Longest text, in bytes.
const TEXT_LEN_MAX: usize = 4_000;
/// One of the ids is no customer's; nearly always that is said in `fail_list`.
const NO_CUSTOMER: i64 = 40_096;
/// Hexadecimal digits that stand for a customer or a group in the id of a message: its own id is nobody's business in a
/// ledger, and 64 bits tell a thousand apart.
const DIGITS: usize = 16;

/// An application that sends messages to customers.
pub struct Customers {
    settings: config::Wecom,
    tokens: Tokens,
}

/// Whom a message reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To<'a> {
    Customer(&'a str),
    Group(&'a str),
}

#[derive(Deserialize)]
struct Said {
    errcode: i64,
    #[serde(default)]
    fail_list: Vec<Box<str>>,
    #[serde(default)]
    msgid: Box<str>,
}

/// Returns the id by which a message to one of many is known: WeCom gives one to all of a request. [`Books`] find all of a
/// request's by what stands before the `:`.
///
/// [`Books`]: super::watch::Books
pub(super) fn message_id(msgid: &str, target: &str) -> Box<str> {
    format!("{msgid}:{:016x}", short(target)).into()
}

/// Returns what stands for an id where it is not to be kept.
pub(super) fn short(id: &str) -> u64 {
    u64::from_str_radix(&sha256(id.as_bytes())[..DIGITS], 16).unwrap_or_default()
}

// === impl Customers ===

impl Customers {
    /// Returns the application that the settings describe, whose tokens are shared in `vault`.
    pub fn new(settings: config::Wecom, vault: Arc<dyn Vault>, clock: &Clock) -> Self {
        Self { tokens: door::tokens(&settings, vault, clock), settings }
    }

    /// Returns the employee who is to confirm a job.
    fn sender<'a>(&'a self, job: &'a Handover) -> &'a str {
        if job.sender.is_empty() { &self.settings.sender } else { &job.sender }
    }

    fn to<'a>(&self, job: &'a Handover) -> Option<To<'a>> {
        match job.recipient.kind {
            RecipientKind::Group => job.recipient.wecom_chat_id.as_deref().map(To::Group),
            RecipientKind::Person | RecipientKind::Operator => {
                let at = job.recipient.wecom.as_ref().filter(|at| at.corp_id == self.settings.corp_id);
                at.map(|at| To::Customer(&at.external_userid))
            }
        }
    }

    fn answer(&self, said: &Said, job: &Handover) -> Answer {
        let target = self.to(job).map_or("", To::id);
        if said.fail_list.iter().any(|id| **id == *target) {
            return refused("fail_list");
        }
        if said.msgid.is_empty() {
            return Answer::NoAnswer; // It was taken, and by which name it can be asked for nobody knows.
        }
        Answer::Taken { message_ids: vec![message_id(&said.msgid, target)], segments: 1, receipt_expected: true }
    }
}

impl Api for Customers {
    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
    }

    fn batch_max(&self) -> usize {
        self.settings.batch_max.get() as usize
    }

    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let text = text(handover);
        // An employee may confirm as late as this, and it must not go out after the job has expired.
        let confirmed_by = self.settings.confirm_within + 2 * self.settings.poll_every;
        if !matches!(handover.content, Content::Template { .. }) {
            Err(refused("not_a_template"))
        } else if !config::is_employee(self.sender(handover)) {
            // One, not several and not `@all`: who is to confirm it is who sends it.
            Err(refused("no_sender"))
        } else if self.to(handover).is_none() {
            Err(refused("no_customer"))
        } else if text.is_empty() {
            Err(refused("no_wecom_text"))
        } else if text.len() > TEXT_LEN_MAX {
            Err(refused("text_length"))
        } else if handover.validity < confirmed_by {
            Err(refused("expires_too_soon"))
        } else {
            Ok(())
        }
    }

    fn joins(&self, batch: &[Handover], handover: &Handover) -> bool {
        let Some((first, to)) = batch.first().zip(self.to(handover)) else { return false };
        self.to(first).is_some_and(|first| first.is_group() == to.is_group())
            && text(first) == text(handover)
            && self.sender(first) == self.sender(handover)
            && batch.iter().all(|job| self.to(job) != Some(to))
    }

    fn request(&self, jobs: &[Handover], _moment: Moment) -> Result<Request<Bytes>, Answer> {
        let Some((first, to)) = jobs.first().and_then(|first| Some((first, self.to(first)?))) else {
            return Err(not_sent("no_job"));
        };
        let targets: Vec<_> = jobs.iter().filter_map(|job| self.to(job)).map(To::id).collect();
        let (chat_type, list) = if to.is_group() { ("group", "chat_id_list") } else { ("single", "external_userid") };
        let mut said = json!({
            "chat_type": chat_type,
            "sender": self.sender(first),
            "text": { "content": text(first) },
        });
        said[list] = Value::from(targets);
        door::request(&self.settings, "externalcontact/add_msg_template", &said)
    }

    fn question(&self, _moment: Moment) -> Option<Request<Bytes>> {
        self.tokens.question()
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        self.tokens.admitted(answer)
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        match serde_json::from_slice::<Said>(answer.body()) {
            Ok(said @ Said { errcode: 0, .. }) => {
                Meaning::Each(jobs.iter().map(|job| self.answer(&said, job)).collect())
            }
            Ok(Said { errcode: NO_CUSTOMER, .. }) if jobs.len() > 1 => Meaning::Alone,
            // Of the sender or the text, which they share. One by one each would be a message to confirm.
            Ok(Said { errcode, .. }) => door::refusal(errcode, 1, answer),
            Err(_) => Meaning::All(foreign(answer)),
        }
    }
}

impl<'a> To<'a> {
    fn id(self) -> &'a str {
        match self {
            Self::Customer(id) | Self::Group(id) => id,
        }
    }

    fn is_group(self) -> bool {
        matches!(self, Self::Group(_))
    }
}

impl fmt::Debug for Customers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Customers").field("agent_id", &self.settings.agent_id).finish_non_exhaustive()
    }
}
