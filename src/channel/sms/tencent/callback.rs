//! What Tencent calls back with: an array of receipts, or a reply. Nothing signs them; the secret at the end of the path
//! does it.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code, same};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use crate::config::Secret;
use crate::domain::event::{Fate, Receipt, Reply, Report};
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;

/// Most bytes of an id, a number and a reply's text.
const ID_LEN_MAX: usize = 128;
const NUMBER_LEN_MAX: usize = 64;
const TEXT_LEN_MAX: usize = 4 * 1024;

/// Reads Tencent's callbacks.
pub struct Desk {
    provider: ProviderId,
    token: Secret,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Receipts(Vec<Status>),
    Reply(Written),
}

#[derive(Deserialize)]
struct Status {
    report_status: Box<str>,
    #[serde(default)]
    errmsg: Box<str>,
    sid: Box<str>,
}

#[derive(Deserialize)]
struct Written {
    /// A number or a text, as it comes.
    nationcode: Value,
    mobile: Value,
    text: Box<str>,
    #[serde(default)]
    extend: Box<str>,
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for callbacks whose path ends in `token`.
    pub fn new(provider: ProviderId, token: Secret) -> Self {
        Self { provider, token }
    }

    fn receipt(&self, status: Status, at: UnixMicros) -> Result<News, Refused> {
        if status.sid.is_empty() {
            return Err(Refused::Unreadable);
        }
        let fate = match &*status.report_status {
            "SUCCESS" => Fate::Delivered,
            "FAIL" => Fate::Undelivered,
            _ => return Err(Refused::Unreadable),
        };
        let (provider, message_id) = (self.provider.clone(), clipped(&status.sid, ID_LEN_MAX));
        let code = code(&status.errmsg);
        Ok(News::Receipt(Receipt { provider, message_id, job: None, report: Report::Final(fate), code, at }))
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        if !same(call.token.as_bytes(), self.token.reveal().as_bytes()) {
            return Err(Refused::Signature);
        }
        match serde_json::from_slice(call.body).map_err(|_| Refused::Unreadable)? {
            Said::Receipts(each) => each.into_iter().map(|status| self.receipt(status, at)).collect(),
            Said::Reply(written) => Ok(vec![News::Reply(Reply {
                provider: self.provider.clone(),
                from: clipped(&format!("+{}{}", plain(&written.nationcode), plain(&written.mobile)), NUMBER_LEN_MAX),
                to: clipped(&written.extend, NUMBER_LEN_MAX),
                text: clipped(&written.text, TEXT_LEN_MAX),
                tenant: None,
                in_reply_to: None,
                at,
            })]),
        }
    }

    fn thanks(&self) -> Response<Bytes> {
        answer(StatusCode::OK, "application/json; charset=utf-8", r#"{"result":0,"errmsg":"OK"}"#)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim_start_matches('+').to_owned(),
        other => other.to_string(),
    }
}
