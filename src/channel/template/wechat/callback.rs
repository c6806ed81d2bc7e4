//! What WeChat calls back with: encrypted events, of which those about template messages are receipts.

use std::fmt;
use std::time::Duration;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use super::super::crypt::{Crypt, Signed};
use super::super::xml;
use crate::config;
use crate::domain::event::{Fate, Receipt, Report};
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;

/// A callback is about now: the platform sends it again within seconds, so an older one is somebody else's.
const AGE_MAX: Duration = Duration::from_secs(600);
/// Most bytes of an id.
const ID_LEN_MAX: usize = 128;

/// Reads WeChat's callbacks.
pub struct Desk {
    provider: ProviderId,
    crypt: Crypt,
}

/// What stands in the query of a call.
struct Query {
    /// Of the parts, without a message.
    signature: String,
    /// Of the parts and the message.
    msg_signature: String,
    timestamp: String,
    nonce: String,
    echostr: String,
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for the callbacks of `appid`.
    pub fn new(provider: ProviderId, secrets: config::Crypt, appid: &str) -> Self {
        Self { provider, crypt: Crypt::new(secrets, appid) }
    }

    fn event(&self, text: &str, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let document = xml::read(text)?;
        let root = document.root_element();
        match (xml::text(root, "MsgType"), xml::text(root, "Event")) {
            ("event", "TEMPLATESENDJOBFINISH") => {
                let (id, status) = (xml::text(root, "MsgID"), xml::text(root, "Status"));
                Ok(vec![News::Receipt(self.receipt(id, status, at)?)])
            }
            ("", _) => Err(Refused::Unreadable),
            _ => Ok(vec![]),
        }
    }

    fn receipt(&self, id: &str, status: &str, at: UnixMicros) -> Result<Receipt, Refused> {
        let (fate, why) = match status.split_once(':') {
            None if status == "success" => (Fate::Delivered, ""),
            // Blanks follow the colon, or do not.
            Some(("failed", why)) => (Fate::Undelivered, why.trim()),
            _ => return Err(Refused::Unreadable),
        };
        if id.is_empty() {
            return Err(Refused::Unreadable);
        }
        let (provider, message_id) = (self.provider.clone(), clipped(id, ID_LEN_MAX));
        Ok(Receipt { provider, message_id, job: None, report: Report::Final(fate), code: code(why), at })
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let query = Query::of(call.target);
        let outer = std::str::from_utf8(call.body).map_err(|_| Refused::Signature)?;
        let document = xml::read(outer).map_err(|_| Refused::Signature)?;
        let encrypted = xml::text(document.root_element(), "Encrypt");
        let signed = Signed { signature: &query.msg_signature, ..query.signed() };
        let plain = self.crypt.open(&signed, encrypted)?;
        query.fresh(at)?;
        self.event(std::str::from_utf8(&plain).map_err(|_| Refused::Unreadable)?, at)
    }

    fn greet(&self, call: &Call<'_>, at: UnixMicros) -> Option<Result<Response<Bytes>, Refused>> {
        let query = Query::of(call.target);
        let greeted = self.crypt.verify(&query.signed(), None).and_then(|()| query.fresh(at));
        Some(greeted.map(|()| answer(StatusCode::OK, "text/plain; charset=utf-8", query.echostr)))
    }

    fn thanks(&self) -> Response<Bytes> {
        answer(StatusCode::OK, "text/plain; charset=utf-8", "success")
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

// === impl Query ===

impl Query {
    fn of(target: &str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query).as_bytes();
        let of = |wanted: &str| {
            let found = form_urlencoded::parse(query).find(|(name, _)| name == wanted);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        Self {
            signature: of("signature"),
            msg_signature: of("msg_signature"),
            timestamp: of("timestamp"),
            nonce: of("nonce"),
            echostr: of("echostr"),
        }
    }

    fn signed(&self) -> Signed<'_> {
        Signed { signature: &self.signature, timestamp: &self.timestamp, nonce: &self.nonce }
    }

    /// Says whether it was signed lately.
    fn fresh(&self, now: UnixMicros) -> Result<(), Refused> {
        let signed_at = self.timestamp.parse().map(UnixMicros::from_secs).map_err(|_| Refused::Unreadable)?;
        let apart = now.since(signed_at).max(signed_at.since(now));
        if apart <= AGE_MAX { Ok(()) } else { Err(Refused::Stale) }
    }
}
