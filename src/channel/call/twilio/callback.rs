//! What Twilio calls back with about calls: how one goes, or that one waits for its next document.

use std::fmt;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::line::{Heard, What};
use super::word::{Progress, Says, Word};
use super::{AGAIN, Reached, Switchboard, ended, twiml};
use crate::channel::News;
use crate::channel::call::{CallNews, Step};
use crate::channel::callback::{Call, Callbacks, Refused};
use crate::channel::http::{Bytes, Response, StatusCode, answer};
use crate::channel::sms::twilio::callback::Fields;
use crate::channel::sms::twilio::signature;
use crate::config::Secret;
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;

/// Reads Twilio's callbacks about calls.
pub struct Desk {
    provider: ProviderId,
    /// What the URL that Twilio calls begins with, up to the path.
    public_url: Box<str>,
    token: Secret,
    board: Switchboard,
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for the callbacks of an account, which come to paths behind `public_url`; calls hear of them over
    /// `board`.
    pub fn new(provider: ProviderId, public_url: &str, token: Secret, board: Switchboard) -> Self {
        Self { provider, public_url: public_url.into(), token, board }
    }

    fn word(&self, call: &Call<'_>) -> Result<Word, Refused> {
        // Whether the fragment is part of what is signed, Twilio does not say.
        let signed = |fragment| signature::signed_by(self.token.reveal(), (&self.public_url, fragment), call);
        if !signed("") && !signed(AGAIN) {
            return Err(Refused::Signature);
        }
        let query = call.target.split_once('?').map_or("", |(_, query)| query);
        Word::read(&Fields::read(query.as_bytes()), &Fields::read(call.body))
    }
}

impl Callbacks for Desk {
    /// Reads what is said of a call that nobody here drives: how it ended. Its flow is lost, and where it is on its way to
    /// is of no matter any more.
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let Word { attempt, says, .. } = self.word(call)?;
        let Says::Status(status) = says else { return Ok(vec![]) };
        let Progress::Ended(end) = status.progress else { return Ok(vec![]) };
        let step = Step::Ended(ended::report(end, &status), None);
        let (provider, job) = (self.provider.clone(), attempt.job);
        Ok(vec![News::Call(CallNews { provider, job, attempt: attempt.number, at, step })])
    }

    fn converse(&self, call: &Call<'_>) -> Option<BoxFuture<'static, Option<Response<Bytes>>>> {
        // What does not read is refused where everything is.
        let Word { attempt, call, says } = self.word(call).ok()?;
        let line = match (self.board.reach(attempt), &says) {
            (Reached::Call(line), _) => line,
            (Reached::Ended, Says::Status(_)) => return Some(std::future::ready(Some(thanks())).boxed()),
            // Who has answered is hung up on: the flow is lost.
            (Reached::Ended | Reached::Nobody, Says::Turn(_)) => {
                return Some(std::future::ready(Some(document(twiml::hang_up().into()))).boxed());
            }
            (Reached::Nobody, Says::Status(_)) => return None,
        };
        Some(match says {
            Says::Status(status) => {
                let (told, durable) = oneshot::channel();
                async move {
                    line.send(Heard { call, what: What::Status(status, told) }).await.ok()?;
                    durable.await.ok().map(|()| thanks())
                }
                .boxed()
            }
            Says::Turn(turn) => {
                let (reply, next) = oneshot::channel();
                async move {
                    line.send(Heard { call, what: What::Turn(turn, reply) }).await.ok()?;
                    next.await.ok().map(document)
                }
                .boxed()
            }
        })
    }

    fn thanks(&self) -> Response<Bytes> {
        thanks()
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Twilio reads nothing of the answer to a status.
fn thanks() -> Response<Bytes> {
    answer(StatusCode::OK, "text/plain; charset=utf-8", "")
}

fn document(text: Bytes) -> Response<Bytes> {
    answer(StatusCode::OK, "text/xml; charset=utf-8", text)
}
