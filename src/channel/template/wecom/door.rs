//! What the applications of a corporation have in common: how their tokens are asked for, and what codes mean whatever was
//! asked. Sources: developer.work.weixin.qq.com/document/path/91039 (tokens), /90313 (codes).

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::http::{Bytes, Request, Response, header};
use super::super::super::sms::cloud::{Meaning, closed, not_sent, throttled};
use super::super::super::{Answer, Handover};
use super::super::token::{Fresh, Gate, Tokens, Vault};
use crate::config;
use crate::domain::time::Clock;

/// How JSON is sent.
const JSON: &str = "application/json; charset=utf-8";
/// The corporation asks too often.
const OVER_FREQUENCY: i64 = 45_009;
/// Then it is shut out for a minute at least.
const SHUT_OUT: Duration = Duration::from_secs(60);
/// It asks too much at a time.
const OVER_CONCURRENCY: i64 = 45_033;

/// How an application's tokens are asked for.
struct Door {
    corp_id: Box<str>,
    secret: config::Secret,
    /// What stands in front of the API's paths.
    base: String,
}

#[derive(Deserialize)]
struct Token {
    errcode: Option<i64>,
    access_token: Option<Box<str>>,
    expires_in: Option<u64>,
}

/// Returns the holder of an application's tokens. Each application of a corporation has tokens of its own.
pub(super) fn tokens(settings: &config::Wecom, vault: Arc<dyn Vault>, clock: &Clock) -> Tokens {
    let door = Door {
        corp_id: settings.corp_id.clone(),
        secret: settings.secret.clone(),
        base: settings.api.endpoint.path().to_owned(),
    };
    let name = format!("wecom:{}:{}", settings.corp_id, settings.agent_id);
    Tokens::new(Box::new(door), clock, vault, &name)
}

/// Returns a request that says something to a path of the API.
pub(super) fn request(settings: &config::Wecom, path: &str, said: &Value) -> Result<Request<Bytes>, Answer> {
    Request::post(format!("{}/cgi-bin/{path}", settings.api.endpoint.path()))
        .header(header::CONTENT_TYPE, JSON)
        .body(said.to_string().into())
        .map_err(|_| not_sent("no_request"))
}

/// Returns whether a code says that the token is none any more.
pub(super) fn not_let_in(errcode: i64) -> bool {
    matches!(errcode, 40_001 | 40_014 | 41_001 | 42_001)
}

/// Returns whether a code says that nothing goes for now, whatever it is.
pub(super) fn concerns_all(errcode: i64) -> bool {
    not_let_in(errcode) || closes(errcode) || matches!(errcode, OVER_FREQUENCY | OVER_CONCURRENCY)
}

/// No such application or none of ours, an address that is not on its list, no right to this API.
fn closes(errcode: i64) -> bool {
    matches!(errcode, 40_056 | 48_002 | 60_020 | 301_002)
}

/// Returns what an error means for `jobs` that share a request.
pub(super) fn refusal(errcode: i64, jobs: usize, answer: &Response<Bytes>) -> Meaning {
    let code = || errcode.to_string();
    match errcode {
        _ if not_let_in(errcode) => Meaning::NotLetIn,
        OVER_FREQUENCY => Meaning::All(Answer::Throttled { retry_after: Some(SHUT_OUT) }),
        OVER_CONCURRENCY => Meaning::All(throttled(answer)),
        // Busy, "try again later".
        -1 => Meaning::All(not_sent(code())),
        _ if closes(errcode) => Meaning::All(closed(code())),
        // What one of many says wrong, the others do not share.
        _ if jobs > 1 => Meaning::Alone,
        _ => Meaning::All(Answer::Refused { code: code().into() }),
    }
}

/// Returns what a job says; empty: its template has no text for WeCom.
pub(super) fn text(job: &Handover) -> &str {
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
