//! How WeChat and WeCom wrap what they call back with: signed in the query, encrypted in the body.

use std::time::Duration;

use super::super::callback::{Call, Refused};
use super::crypt::{Crypt, Signed};
use super::xml;
use crate::domain::time::UnixMicros;

/// A callback is about now: the platform sends it again within seconds, so an older one is somebody else's.
const AGE_MAX: Duration = Duration::from_secs(600);

/// What stands in the query of a call.
pub(super) struct Query {
    /// Of the parts, without a message.
    pub(super) signature: String,
    /// Of the parts and the message.
    pub(super) msg_signature: String,
    pub(super) echostr: String,
    timestamp: String,
    nonce: String,
}

/// Opens a call: what it says, in the clear.
///
/// # Errors
/// [`Refused::Signature`] unless the platform signed and encrypted it for this account, [`Refused::Stale`] unless lately.
pub(super) fn open(crypt: &Crypt, call: &Call<'_>, at: UnixMicros) -> Result<String, Refused> {
    let query = Query::of(call.target);
    let outer = std::str::from_utf8(call.body).map_err(|_| Refused::Signature)?;
    let document = xml::read(outer).map_err(|_| Refused::Signature)?;
    let encrypted = xml::text(document.root_element(), "Encrypt");
    let plain = crypt.open(&query.signed(&query.msg_signature), encrypted)?;
    query.fresh(at)?;
    String::from_utf8(plain).map_err(|_| Refused::Unreadable)
}

impl Query {
    pub(super) fn of(target: &str) -> Self {
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

    /// Returns the parts under one of the signatures.
    pub(super) fn signed<'a>(&'a self, signature: &'a str) -> Signed<'a> {
        Signed { signature, timestamp: &self.timestamp, nonce: &self.nonce }
    }

    /// Says whether it was signed lately.
    ///
    /// # Errors
    /// [`Refused::Stale`].
    pub(super) fn fresh(&self, now: UnixMicros) -> Result<(), Refused> {
        let signed_at = self.timestamp.parse().map(UnixMicros::from_secs).map_err(|_| Refused::Unreadable)?;
        let apart = now.since(signed_at).max(signed_at.since(now));
        if apart <= AGE_MAX { Ok(()) } else { Err(Refused::Stale) }
    }
}
