//! Messages of WeChat: template messages and subscription notices of official accounts, subscription messages of mini
//! programs. Sources: developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage,
//! /doc/service/api/notify/notify/api_sendnewsubscribemsg, and /doc/service/api/base/api_getstableaccesstoken.
//!
//! One message a request. A template message carries the job's id as `client_msg_id`: within ten minutes WeChat sends it
//! once, however often it is asked. Its receipt comes as an event; of the others no event says which job it is about.

pub mod callback;
mod codes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::codes::Sense;
use super::super::http::{Bytes, Request, Response, header};
use super::super::login::Login;
use super::super::sms::cloud::{Api, CHINA, Meaning, Moment, closed, foreign, not_sent, refused, throttled};
use super::super::{Answer, Handover, Opens};
use super::token::{Fresh, Gate, Tokens, Vault};
use crate::config::{self, Consents, Messages};
use crate::domain::ids::{ProviderId, TenantId};
use crate::domain::job::{Class, Content};
use crate::domain::signal;
use crate::domain::time::Clock;

const JSON: &str = "application/json; charset=utf-8";

/// An account that sends messages.
pub struct Wechat {
    settings: config::Wechat,
    receipts: bool,
    tokens: Tokens,
}

/// How an account's tokens are asked for.
struct Door {
    appid: Box<str>,
    secret: config::Secret,
    /// What stands in front of the API's paths.
    base: String,
}

#[derive(Deserialize)]
struct Said {
    errcode: i64,
    #[serde(default)]
    msgid: Option<Value>,
}

#[derive(Deserialize)]
struct Token {
    access_token: Option<Box<str>>,
    expires_in: Option<u64>,
    errcode: Option<i64>,
}

// === impl Wechat ===

impl Wechat {
    /// Returns the account that the settings describe, whose tokens are shared in `vault`. `receipts`: whether its receipts
    /// come.
    pub fn new(settings: config::Wechat, receipts: bool, vault: Arc<dyn Vault>, clock: &Clock) -> Self {
        let door = Door {
            appid: settings.appid.clone(),
            secret: settings.secret.clone(),
            base: settings.api.endpoint.path().to_owned(),
        };
        let name = format!("wechat:{}", settings.appid);
        Self { tokens: Tokens::new(Box::new(door), clock, vault, &name), settings, receipts }
    }

    fn openid<'a>(&self, job: &'a Handover) -> Option<&'a str> {
        job.recipient.wechat.iter().find(|at| at.appid == self.settings.appid).map(|at| &*at.openid)
    }

    fn path(&self) -> &'static str {
        match self.settings.messages {
            Messages::Template => "/cgi-bin/message/template/send",
            Messages::Subscribe => "/cgi-bin/message/subscribe/bizsend",
            Messages::MiniProgram => "/cgi-bin/message/subscribe/send",
        }
    }

    fn taken(&self, msgid: Option<&Value>) -> Answer {
        let id = msgid.map(|id| match id {
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        });
        let receipt_expected = self.receipts && id.is_some();
        Answer::Taken { message_ids: id.into_iter().collect(), segments: 1, receipt_expected }
    }
}

impl Api for Wechat {
    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
    }

    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        if !matches!(handover.content, Content::Template { .. }) {
            Err(refused("not_a_template"))
        } else if self.settings.messages == Messages::Template && handover.class == Class::Marketing {
            // Submit refuses it, unless the settings have changed since.
            Err(refused("marketing"))
        } else if handover.template_id().is_none() {
            Err(refused("template_not_here"))
        } else if self.openid(handover).is_none() {
            Err(refused("no_openid"))
        } else {
            Ok(())
        }
    }

    fn consent(&self, handover: &Handover, provider: &ProviderId) -> Option<(TenantId, String)> {
        let template = handover.template.as_ref()?.template.at(provider)?;
        let openid = self.openid(handover).filter(|_| self.settings.consents == Consents::Counted)?;
        let text = signal::consent(&self.settings.appid, openid, &template.template_id);
        Some((self.settings.tenant.clone(), text))
    }

    fn says_no_consent(&self, code: &str) -> bool {
        // "user refuse to accept the msg": refused, or every consent was used.
        code == "43101"
    }

    fn request(&self, jobs: &[Handover], _moment: Moment) -> Result<Request<Bytes>, Answer> {
        let [job] = jobs else { return Err(not_sent("no_job")) };
        let data: Map<String, Value> =
            job.params.iter().map(|(name, value)| (name.to_string(), json!({ "value": value }))).collect();
        let mut said = json!({ "touser": self.openid(job), "template_id": job.template_id(), "data": data });
        if self.settings.messages == Messages::Template {
            said["client_msg_id"] = job.job.0.simple().to_string().into();
        }
        Request::post(format!("{}{}", self.settings.api.endpoint.path(), self.path()))
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

    fn read(&self, _jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return Meaning::All(foreign(answer)) };
        let code = || said.errcode.to_string();
        match Sense::of(said.errcode) {
            Sense::Taken => Meaning::All(self.taken(said.msgid.as_ref())),
            Sense::NotLetIn => Meaning::NotLetIn,
            Sense::OverDay => {
                Meaning::All(Answer::Closed { code: code().into(), opens: Opens::NextDay { ahead: CHINA } })
            }
            Sense::Closed => Meaning::All(closed(code())),
            Sense::TooFast => Meaning::All(throttled(answer)),
            Sense::Busy => Meaning::All(not_sent(code())),
            Sense::Later(seconds) => {
                Meaning::All(Answer::NotSent { code: code().into(), retry_after: Some(Duration::from_secs(seconds)) })
            }
            Sense::Never => Meaning::All(refused(code())),
        }
    }
}

impl fmt::Debug for Wechat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wechat").field("messages", &self.settings.messages).finish_non_exhaustive()
    }
}

// === impl Door ===

impl Gate for Door {
    fn request(&self) -> Option<Request<Bytes>> {
        // Never by force: that kills the token of everybody else who uses the account, and is allowed 20 times a day.
        let said = json!({
            "grant_type": "client_credential",
            "appid": self.appid,
            "secret": self.secret.reveal(),
            "force_refresh": false,
        });
        let request = Request::post(format!("{}/cgi-bin/stable_token", self.base)).header(header::CONTENT_TYPE, JSON);
        request.body(said.to_string().into()).ok()
    }

    fn read(&self, answer: &Response<Bytes>) -> Result<Fresh, Box<str>> {
        match serde_json::from_slice(answer.body()) {
            Ok(Token { access_token: Some(token), expires_in: Some(seconds), .. }) => {
                Ok(Fresh { token, life: Duration::from_secs(seconds) })
            }
            Ok(Token { errcode: Some(code), .. }) => Err(code.to_string().into()),
            Ok(Token { .. }) | Err(_) => Err(format!("http_{}", answer.status().as_u16()).into()),
        }
    }
}

#[cfg(test)]
mod tests;
