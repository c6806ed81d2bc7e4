//! What a call hears over the switchboard.

use tokio::sync::oneshot;

use super::word::{Status, Turn};
use crate::channel::http::Bytes;

/// Something that Twilio said of one call.
#[derive(Debug)]
pub(super) struct Heard {
    /// Twilio's id of the call.
    pub(super) call: Box<str>,
    /// What it said.
    pub(super) what: What,
}

/// What Twilio said.
#[derive(Debug)]
pub(super) enum What {
    /// How it goes; told once that is durable.
    Status(Status, oneshot::Sender<()>),
    /// It asks what to do next; told the document.
    Turn(Turn, oneshot::Sender<Bytes>),
}
