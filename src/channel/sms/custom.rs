//! A cloud that the settings describe: requests from templates, answers and callbacks read by expressions.

use std::fmt;

use minijinja::value::{Serde, Value};
use percent_encoding::percent_decode;
use serde_json::Value as Json;

use super::super::callback::{Call, Callbacks, Refused, clipped, code, same};
use super::super::http::{Bytes, Method, Request, Response, StatusCode, answer, header};
use super::super::{Answer, Handover, News};
use super::cloud::{Api, Meaning, Moment, foreign, not_sent, refused, segments, throttled};
use super::gsm7;
use crate::config::{self, Expression};
use crate::domain::event::{Fate, Receipt, Reply, Report};
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::job::Content;
use crate::domain::time::UnixMicros;

/// Most things that one callback may report.
const ITEMS_MAX: usize = 10_000;
/// Most bytes of a message id, a number and a reply's text.
const ID_LEN_MAX: usize = 128;
const NUMBER_LEN_MAX: usize = 64;
const TEXT_LEN_MAX: usize = 4 * 1024;

/// An account at a cloud that the settings describe.
pub struct Custom {
    settings: config::Custom,
    /// Where its callbacks come; empty: nowhere.
    callback: Box<str>,
    receipts: bool,
}

/// Reads the callbacks of such a cloud.
pub struct Desk {
    provider: ProviderId,
    mapping: config::Callbacks,
}

// === impl Custom ===

impl Custom {
    /// Returns the cloud that the settings describe. `callback`: where its callbacks come, its secret included.
    pub fn new(settings: config::Custom, callback: Option<&str>, receipts: bool) -> Self {
        Self { settings, callback: callback.unwrap_or_default().into(), receipts }
    }

    fn values(&self, job: &Handover) -> Value {
        let phone = job.recipient.phone.as_ref();
        let text = match &job.content {
            Content::Text(text) => &**text,
            Content::Template { .. } | Content::Call { .. } => "",
        };
        let sender = if job.sender.is_empty() { &self.settings.sender } else { &job.sender };
        Value::from_pairs([
            ("to", Value::from(phone.map_or("", |phone| phone.as_str()))),
            ("digits", Value::from(phone.map_or("", |phone| phone.digits()))),
            ("text", Value::from(text)),
            ("unicode", Value::from(text.chars().any(|c| gsm7::septets(c).is_none()))),
            ("sender", Value::from(&**sender)),
            ("extension", Value::from(job.extension.as_deref().unwrap_or_default())),
            ("job", Value::from(job.job.to_string())),
            ("attempt", Value::from(job.attempt)),
            ("class", Value::from(job.class.as_str())),
            ("validity", Value::from(job.validity.as_secs())),
            ("params", Value::from_pairs(job.params.iter().map(|(name, value)| (&**name, Value::from(&**value))))),
            ("callback", Value::from(&*self.callback)),
            ("secret", Value::from(self.settings.secret.reveal())),
        ])
    }
}

impl Api for Custom {
    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let Content::Text(text) = &handover.content else { return Err(refused("not_a_text")) };
        if handover.recipient.phone.is_none() {
            Err(refused("no_phone"))
        } else if text.is_empty() || text.chars().count() > self.settings.text_max {
            Err(refused("text_length"))
        } else {
            Ok(())
        }
    }

    fn segments(&self, handover: &Handover) -> u32 {
        segments(handover)
    }

    fn request(&self, jobs: &[Handover], _moment: Moment) -> Result<Request<Bytes>, Answer> {
        let [job] = jobs else { return Err(not_sent("not_one_job")) };
        let values = self.values(job);
        // What fails for this job's values fails each time: a parameter is missing, or breaks a header.
        let failed = |_| refused("template");
        let path = self.settings.path.render(values.clone()).map_err(failed)?;
        let body = self.settings.body.render(values.clone()).map_err(failed)?;
        let target = format!("{}{path}", self.settings.api.endpoint.path());
        let mut request = Request::builder().method(self.settings.method.as_str()).uri(target);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, &*self.settings.content_type);
        }
        for (name, value) in &self.settings.headers {
            request = request.header(&**name, value.render(values.clone()).map_err(failed)?);
        }
        request.body(body.into()).map_err(|_| refused("template"))
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let mapping = &self.settings.answers;
        let values = Value::from_pairs([
            ("status", Value::from(answer.status().as_u16())),
            ("body", Value::from(Serde(said(answer.body())))),
        ]);
        let holds = |expression: &Option<Expression>| expression.as_ref().is_some_and(|one| one.holds(&values));
        let text = |expression: &Option<Expression>| expression.as_ref().and_then(|one| one.text(&values));
        let reason = || code(&text(&mapping.code).unwrap_or_else(|| format!("http_{}", answer.status().as_u16())));
        Meaning::All(if holds(&mapping.throttled) {
            throttled(answer)
        } else if holds(&mapping.refused) {
            refused(reason())
        } else if holds(&mapping.not_sent) {
            not_sent(reason())
        } else if holds(&mapping.taken) {
            let message_ids = text(&mapping.message_id).map(|id| clipped(&id, ID_LEN_MAX)).into_iter().collect();
            let segments = jobs.first().map_or(1, |job| u8::try_from(segments(job)).unwrap_or(u8::MAX));
            Answer::Taken { message_ids, segments, receipt_expected: self.receipts }
        } else {
            match foreign(answer) {
                Answer::Throttled { retry_after } => Answer::Throttled { retry_after },
                _ => Answer::NoAnswer,
            }
        })
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").field("endpoint", &self.settings.api.endpoint).finish_non_exhaustive()
    }
}

/// Returns a body as JSON, or else as the text that it is.
fn said(body: &[u8]) -> Json {
    serde_json::from_slice(body).unwrap_or_else(|_| Json::String(String::from_utf8_lossy(body).into_owned()))
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for the callbacks of a cloud.
    pub fn new(provider: ProviderId, mapping: config::Callbacks) -> Self {
        Self { provider, mapping }
    }

    fn news(&self, item: Value, (body, query): (&Value, &Value), at: UnixMicros) -> Result<Option<News>, Refused> {
        let mapping = &self.mapping;
        let values = Value::from_pairs([("item", item), ("body", body.clone()), ("query", query.clone())]);
        let holds = |expression: &Option<Expression>| expression.as_ref().is_some_and(|one| one.holds(&values));
        let text = |expression: &Option<Expression>| expression.as_ref().and_then(|one| one.text(&values));
        let provider = self.provider.clone();
        if let (Some(from), Some(said)) = (text(&mapping.from), text(&mapping.text)) {
            return Ok(Some(News::Reply(Reply {
                provider,
                from: clipped(&from, NUMBER_LEN_MAX),
                to: clipped(&text(&mapping.to).unwrap_or_default(), NUMBER_LEN_MAX),
                text: clipped(&said, TEXT_LEN_MAX),
                tenant: None,
                in_reply_to: None,
                at,
            })));
        }
        let job = match text(&mapping.job) {
            Some(job) => Some(job.parse::<JobId>().map_err(|_| Refused::Unreadable)?),
            None => None,
        };
        let message_id = text(&mapping.message_id).map(|id| clipped(&id, ID_LEN_MAX));
        let message_id = if job.is_some() { "".into() } else { message_id.unwrap_or_default() };
        if job.is_none() && message_id.is_empty() {
            return Ok(None);
        }
        let report = if holds(&mapping.delivered) {
            Report::Final(Fate::Delivered)
        } else if holds(&mapping.undelivered) {
            Report::Final(Fate::Undelivered)
        } else {
            Report::Pending
        };
        let code = text(&mapping.code).map(|text| code(&text)).unwrap_or_default();
        Ok(Some(News::Receipt(Receipt { provider, message_id, job, report, code, at })))
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        if !same(call.token.as_bytes(), self.mapping.token.reveal().as_bytes()) {
            return Err(Refused::Signature);
        }
        let is_form = call.headers.get(header::CONTENT_TYPE).is_some_and(|found| {
            found.to_str().is_ok_and(|text| text.starts_with("application/x-www-form-urlencoded"))
        });
        let body = if is_form { form(call.body) } else { Value::from(Serde(said(call.body))) };
        let query = form(call.target.split_once('?').map_or("", |(_, query)| query).as_bytes());
        let values = Value::from_pairs([("body", body.clone()), ("query", query.clone())]);
        let items = self.mapping.items.as_ref().map(|items| items.list(&values, ITEMS_MAX)).unwrap_or_default();
        let news: Result<Vec<_>, _> =
            items.into_iter().filter_map(|item| self.news(item, (&body, &query), at).transpose()).collect();
        news.and_then(|news| if news.is_empty() { Err(Refused::Unreadable) } else { Ok(news) })
    }

    fn method(&self) -> Method {
        match self.mapping.method {
            config::Method::Post => Method::POST,
            config::Method::Put => Method::PUT,
            config::Method::Get => Method::GET,
        }
    }

    fn thanks(&self) -> Response<Bytes> {
        let text = self.mapping.answer.to_string();
        let is_json = text.starts_with(['{', '[']);
        answer(StatusCode::OK, if is_json { "application/json" } else { "text/plain; charset=utf-8" }, text)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Returns the values of a form by their names: each a text, or the bytes that it is.
fn form(bytes: &[u8]) -> Value {
    let decoded = |part: &[u8]| -> Vec<u8> {
        let spaced: Vec<u8> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
        percent_decode(&spaced).collect()
    };
    let pairs = bytes.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let end = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let value = decoded(pair.get(end + 1..).unwrap_or_default());
        let value = String::from_utf8(value).map_or_else(|error| Value::from_bytes(error.into_bytes()), Value::from);
        (String::from_utf8_lossy(&decoded(&pair[..end])).into_owned(), value)
    });
    Value::from_pairs(pairs)
}
