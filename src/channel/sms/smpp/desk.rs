//! Turns what an SMSC delivers into news. One for all binds of a route: the parts of a message may come over several.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::coding;
use super::ids::IdForm;
use super::parts::{Message, Parts};
use super::receipt::{self, Kind};
use super::wire::Deliver;
use crate::channel::News;
use crate::channel::sms::text::Alphabet;
use crate::domain::event::{Receipt, Reply};
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;

/// Most bytes of a reply's text.
const REPLY_LEN_MAX: usize = 4 * 1024;

/// What a delivery amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// This, which must be durable before the SMSC is told that we have it.
    News(News),
    /// A part of something: the SMSC is told at once, or it would not send the next part. A crash before the last part
    /// loses the earlier ones.
    Part,
    /// Nothing of use: an acknowledgement that nobody asked for, a receipt that does not say about what.
    Nothing,
}

/// Reads deliveries.
pub struct Desk {
    provider: ProviderId,
    alphabet: Alphabet,
    receipt_ids: IdForm,
    parts: Mutex<Parts>,
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for the deliveries of a provider.
    pub fn new(provider: ProviderId, alphabet: Alphabet, receipt_ids: IdForm) -> Self {
        Self { provider, alphabet, receipt_ids, parts: Mutex::default() }
    }

    /// Reads a delivery that came `at`, which is `now` on the route's own watch.
    pub fn read(&self, deliver: &Deliver, at: UnixMicros, now: Duration) -> Delivery {
        match receipt::kind(deliver) {
            Kind::Acknowledgement => Delivery::Nothing,
            Kind::Receipt => receipt::read(deliver, self.receipt_ids).map_or(Delivery::Nothing, |said| {
                Delivery::News(News::Receipt(Receipt {
                    provider: self.provider.clone(),
                    message_id: said.message_id,
                    job: None,
                    report: said.report,
                    code: said.code,
                    at,
                }))
            }),
            Kind::Message => {
                let (part, text) = coding::read(deliver, self.alphabet);
                let message = Message { from: deliver.source.clone(), to: deliver.destination.clone(), text };
                let whole = match part {
                    None => Some(message),
                    Some(part) => self.parts().put(message, part, now),
                };
                whole.map_or(Delivery::Part, |message| Delivery::News(self.reply(message, at)))
            }
        }
    }

    /// Returns, as far as they came, the messages whose parts are overdue or too many.
    pub fn give_up(&self, at: UnixMicros, now: Duration) -> Vec<News> {
        let given_up = self.parts().give_up(now);
        given_up.into_iter().map(|message| self.reply(message, at)).collect()
    }

    fn reply(&self, message: Message, at: UnixMicros) -> News {
        let Message { from, to, mut text } = message;
        let end = (0..=REPLY_LEN_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        News::Reply(Reply {
            provider: self.provider.clone(),
            from,
            to,
            text: text.into(),
            tenant: None,
            in_reply_to: None,
            at,
        })
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // A panic cannot leave parts half put: they are still good.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
