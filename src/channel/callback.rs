//! What providers tell us over HTTP, and how it is read.

use futures_util::future::BoxFuture;

use super::News;
use super::http::{Bytes, HeaderMap, Method, Response};
use crate::domain::time::UnixMicros;

/// A request that a provider made.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What stands in the path behind the provider's id, without the slash.
    pub token: &'a str,
    /// Path and query, as they stand in the request.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a Bytes,
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It does not come from the provider: the signature or the token is wrong.
    #[error("not signed by the provider")]
    Signature,
    /// It says nothing that is understood.
    #[error("unreadable")]
    Unreadable,
    /// The provider signed it too long ago, or for a time to come.
    #[error("signed at another time")]
    Stale,
}

/// Reads what a provider tells us. Pure: no clock, no I/O.
pub trait Callbacks: Send + Sync + 'static {
    /// Returns what a request that came `at` says: nothing, one thing or many.
    ///
    /// # Errors
    /// [`Refused`] when it is not the provider's or does not read. Whose it is, is checked first.
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused>;

    /// Returns the answer to a request that is about a call which somebody here drives: that call takes it, and says what
    /// comes next. `None`: it is read like any other; the answer is `None` where the call is gone, or nothing is durable.
    fn converse(&self, _call: &Call<'_>) -> Option<BoxFuture<'static, Option<Response<Bytes>>>> {
        None
    }

    /// Returns the answer to a provider that asks, by a GET, whether it is we who listen here; `None`: none asks.
    fn greet(&self, _call: &Call<'_>, _at: UnixMicros) -> Option<Result<Response<Bytes>, Refused>> {
        None
    }

    /// Returns the method of the provider's callbacks.
    fn method(&self) -> Method {
        Method::POST
    }

    /// Returns what the provider wants to hear once everything is durable.
    fn thanks(&self) -> Response<Bytes>;
}

/// Returns whether two secrets are equal, in a time that does not tell where they differ.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    use ring::hmac;
    // Both are hashed under a key that nobody knows, so that not even the length shows.
    let key = hmac::Key::new(hmac::HMAC_SHA256, uuid::Uuid::new_v4().as_bytes());
    hmac::verify(&key, other, hmac::sign(&key, one).as_ref()).is_ok()
}

/// Returns the first 32 characters of a provider's code, as far as it is plain.
pub(super) fn code(text: &str) -> Box<str> {
    text.chars().filter(|c| !c.is_control()).take(32).collect::<String>().into()
}

/// Returns at most `len` bytes of a text, whole characters.
pub(super) fn clipped(text: &str, len: usize) -> Box<str> {
    let end = (0..=len.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].into()
}
