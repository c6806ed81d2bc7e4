//! What Twilio calls back with: the status of a message, or a message from a recipient.

use std::borrow::Cow;
use std::fmt;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use super::signature::signed_by;
use crate::config::Secret;
use crate::domain::event::{Fate, Receipt, Reply, Report};
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::time::UnixMicros;

/// Most bytes of a reply's text, and of a number.
const TEXT_LEN_MAX: usize = 4 * 1024;
const NUMBER_LEN_MAX: usize = 64;
/// Most bytes of a message id; Twilio's have 34.
const SID_LEN_MAX: usize = 64;

/// Reads Twilio's callbacks.
pub struct Desk {
    provider: ProviderId,
    /// What the URL that Twilio calls begins with, up to the path.
    public_url: Box<str>,
    token: Secret,
}

/// A form, or a query, as pairs.
pub(in crate::channel) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

// === impl Desk ===

impl Desk {
    /// Returns a desk for the callbacks of an account, which come to paths behind `public_url`.
    pub fn new(provider: ProviderId, public_url: &str, token: Secret) -> Self {
        Self { provider, public_url: public_url.into(), token }
    }

    fn receipt(&self, form: &Fields<'_>, query: &Fields<'_>, status: &str, at: UnixMicros) -> Result<News, Refused> {
        let job = match query.get("job") {
            Some(job) => Some(job.parse::<JobId>().map_err(|_| Refused::Unreadable)?),
            None => None,
        };
        let sid = form.get("MessageSid").or_else(|| form.get("SmsSid")).ok_or(Refused::Unreadable)?;
        let message_id = if job.is_some() { "".into() } else { clipped(sid, SID_LEN_MAX) };
        let (provider, report) = (self.provider.clone(), report(status));
        let code = match form.get("ErrorCode") {
            Some(number) => code(number),
            None if matches!(report, Report::Final(Fate::Undelivered)) => code(status),
            None => "".into(),
        };
        Ok(News::Receipt(Receipt { provider, message_id, job, report, code, at }))
    }

    fn reply(&self, form: &Fields<'_>, at: UnixMicros) -> Result<News, Refused> {
        let field = |name, len| form.get(name).map(|value| clipped(value, len)).ok_or(Refused::Unreadable);
        Ok(News::Reply(Reply {
            provider: self.provider.clone(),
            from: field("From", NUMBER_LEN_MAX)?,
            to: field("To", NUMBER_LEN_MAX)?,
            text: field("Body", TEXT_LEN_MAX)?,
            tenant: None,
            in_reply_to: None,
            at,
        }))
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        if !signed_by(self.token.reveal(), (&self.public_url, ""), call) {
            return Err(Refused::Signature);
        }
        let form = Fields::read(call.body);
        let query = Fields::read(call.target.split_once('?').map_or("", |(_, query)| query).as_bytes());
        match form.get("MessageStatus") {
            Some(status) => Ok(vec![self.receipt(&form, &query, status, at)?]),
            None => Ok(vec![self.reply(&form, at)?]),
        }
    }

    fn thanks(&self) -> Response<Bytes> {
        // For a message from a recipient this is TwiML that does nothing more; for a status anything will do.
        answer(StatusCode::OK, "text/xml", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response/>")
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Returns what a message status says. They come in any order; what is final stands.
fn report(status: &str) -> Report {
    match status {
        "delivered" | "read" => Report::Final(Fate::Delivered),
        "undelivered" | "failed" | "canceled" => Report::Final(Fate::Undelivered),
        // accepted, scheduled, queued, sending, sent, partially_delivered, and what will be invented.
        _ => Report::Pending,
    }
}

impl<'a> Fields<'a> {
    pub(in crate::channel) fn read(bytes: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(bytes).collect())
    }

    pub(in crate::channel) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }
}
