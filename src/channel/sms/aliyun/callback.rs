//! What Aliyun calls back with: arrays of receipts (SmsReport) and of replies (SmsUp). Nothing signs them; the secret at
//! the end of the path does it.

use std::fmt;

use serde::Deserialize;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code, same};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use super::message_id;
use crate::config::Secret;
use crate::domain::event::{Fate, Receipt, Reply, Report};
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::time::UnixMicros;

/// Most bytes of an id, a number and a reply's text.
const ID_LEN_MAX: usize = 100;
const NUMBER_LEN_MAX: usize = 64;
const TEXT_LEN_MAX: usize = 4 * 1024;

/// Reads Aliyun's callbacks.
pub struct Desk {
    provider: ProviderId,
    token: Secret,
}

/// One element: a receipt has `success`, a reply `content`.
#[derive(Deserialize)]
struct Item {
    phone_number: Box<str>,
    success: Option<bool>,
    err_code: Option<Box<str>>,
    biz_id: Option<Box<str>>,
    out_id: Option<Box<str>>,
    content: Option<Box<str>>,
    dest_code: Option<Box<str>>,
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for callbacks whose path ends in `token`.
    pub fn new(provider: ProviderId, token: Secret) -> Self {
        Self { provider, token }
    }

    fn news(&self, item: Item, at: UnixMicros) -> Result<News, Refused> {
        let provider = self.provider.clone();
        if let Some(text) = item.content {
            return Ok(News::Reply(Reply {
                provider,
                from: from(&item.phone_number),
                to: clipped(&item.dest_code.unwrap_or_default(), NUMBER_LEN_MAX),
                text: clipped(&text, TEXT_LEN_MAX),
                tenant: None,
                in_reply_to: None,
                at,
            }));
        }
        let delivered = item.success.ok_or(Refused::Unreadable)?;
        let job = item.out_id.as_deref().and_then(|id| id.parse::<JobId>().ok());
        let message_id = match (job, item.biz_id) {
            (Some(_), _) => "".into(),
            (None, Some(biz_id)) => message_id(&clipped(&biz_id, ID_LEN_MAX), &item.phone_number),
            (None, None) => return Err(Refused::Unreadable),
        };
        let report = Report::Final(if delivered { Fate::Delivered } else { Fate::Undelivered });
        let code = item.err_code.map(|text| code(&text)).unwrap_or_default();
        Ok(News::Receipt(Receipt { provider, message_id, job, report, code, at }))
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        if !same(call.token.as_bytes(), self.token.reveal().as_bytes()) {
            return Err(Refused::Signature);
        }
        let items: Vec<Item> = serde_json::from_slice(call.body).map_err(|_| Refused::Unreadable)?;
        items.into_iter().map(|item| self.news(item, at)).collect()
    }

    fn thanks(&self) -> Response<Bytes> {
        answer(StatusCode::OK, "application/json; charset=utf-8", r#"{"code":0,"msg":"接收成功"}"#)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Returns who wrote, with the country code: a number of mainland China comes without.
fn from(number: &str) -> Box<str> {
    let digits = number.trim_start_matches('+').trim_start_matches("00");
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let mainland = plain && digits.len() == 11 && digits.starts_with('1') && !number.starts_with('+');
    let number = if mainland {
        format!("+86{digits}")
    } else if plain {
        format!("+{digits}")
    } else {
        number.to_owned()
    };
    clipped(&number, NUMBER_LEN_MAX)
}
