//! A cloud that nobody has, for providers that the settings describe: JSON in, JSON out, a bearer token.
//!
//! `POST /v1/messages {"to", "from", "text", "ref"}` is answered with 201 `{"id"}`, 401, 422 or 429 `{"error"}`, 500;
//! callbacks are posted as `[{"id", "ref", "status": "delivered" | "failed", "error"}]` or `[{"from", "to", "text"}]`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fared, Message, Post, Vendor, Wrong};
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer, header};
use crate::domain::event::Fate;

/// A simulated account.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The bearer token of requests.
    pub secret: String,
    /// Where receipts and replies go; `None`: nowhere. A whole URL.
    pub callback: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    to: String,
    from: String,
    text: String,
    #[serde(rename = "ref", default)]
    reference: String,
}

impl Vendor for Plain {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        let expected = format!("Bearer {}", self.secret);
        if head.headers.get(header::AUTHORIZATION).is_none_or(|found| found.as_bytes() != expected.as_bytes()) {
            return Err(Box::new(error(StatusCode::UNAUTHORIZED, "unauthorized")));
        }
        if head.uri.path() != "/v1/messages" {
            return Err(Box::new(error(StatusCode::NOT_FOUND, "not_found")));
        }
        match serde_json::from_slice::<Asked>(body) {
            Ok(Asked { to, from, text, reference }) if !to.is_empty() && !text.is_empty() => {
                Ok(vec![Message { id: format!("m-{}", number()), from, to, text, reference }])
            }
            Ok(_) | Err(_) => Err(Box::new(error(StatusCode::UNPROCESSABLE_ENTITY, "malformed"))),
        }
    }

    fn is_code(&self, code: &str) -> bool {
        by_code(code).is_some()
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        match messages {
            [(_, Fared::Error(code)), ..] => {
                let (status, word) = by_code(code).unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, "broken"));
                error(status, word)
            }
            [(message, Fared::Taken(_)), ..] => {
                answer(StatusCode::CREATED, "application/json", json!({"id": message.id}).to_string())
            }
            [(_, Fared::Throttled), ..] => error(StatusCode::TOO_MANY_REQUESTS, "slow_down"),
            [(_, Fared::Refused), ..] => error(StatusCode::UNPROCESSABLE_ENTITY, "blocked"),
            [(_, Fared::Failed), ..] | [] => error(StatusCode::INTERNAL_SERVER_ERROR, "broken"),
        }
    }

    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post> {
        let mut said = json!({"id": message.id, "ref": message.reference, "status": "delivered"});
        if fate != Fate::Delivered {
            said["status"] = "failed".into();
            said["error"] = "absent".into();
        }
        Some(post(self.callback.as_ref()?, &json!([said])))
    }

    fn reply(&self, from: &str, to: &str, text: &str) -> Option<Post> {
        let at = uuid::Uuid::new_v4().to_string();
        Some(post(self.callback.as_ref()?, &json!([{"from": from, "to": to, "text": text, "event": at}])))
    }
}

/// Reads `STATUS` or `STATUS:ERROR`, an HTTP status that says that something is wrong.
fn by_code(code: &str) -> Option<(StatusCode, &str)> {
    let (status, word) = code.split_once(':').unwrap_or((code, "scripted"));
    let status = status.parse().ok().and_then(|status: u16| StatusCode::from_u16(status).ok())?;
    (status.is_client_error() || status.is_server_error()).then_some((status, word))
}

fn post(url: &str, said: &Value) -> Post {
    Post { url: url.to_owned(), headers: vec![("content-type", "application/json".to_owned())], body: said.to_string() }
}

fn error(status: StatusCode, code: &str) -> Response<Bytes> {
    answer(status, "application/json", json!({ "error": code }).to_string())
}
