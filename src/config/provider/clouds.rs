//! Providers that are reached over HTTP.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::raw::RawTwilio;
use super::{Link, Place, Places, Provider, WINDOW_MAX, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, path, required, small};
use crate::config::endpoint::Endpoint;
use crate::config::error::{ConfigError, Reason};
use crate::config::secret::Secret;
use crate::domain::job::Kind;

/// How an HTTP API is reached.
#[derive(Clone, Debug)]
pub struct Api {
    /// Its base URL.
    pub endpoint: Endpoint,
    /// Certificate authorities in PEM; `None`: the usual public ones.
    pub ca: Option<PathBuf>,
    /// Connections at once.
    pub connections: NonZeroU32,
    /// Jobs in flight.
    pub window: NonZeroU32,
}

/// An account at Twilio.
#[derive(Clone, Debug)]
pub struct Twilio {
    /// How it is reached.
    pub api: Api,
    /// The account.
    pub account_sid: Box<str>,
    /// Its token.
    pub auth_token: Secret,
    /// The sender when a job names none; empty: none.
    pub sender: Box<str>,
}

/// More connections than that are no help to any cloud.
const CONNECTIONS_MAX: u32 = 10_000;

pub(super) fn twilio(
    raw: &RawTwilio,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places {
        name: "auth_token",
        plain: &raw.auth_token,
        variable: &raw.auth_token_env,
        file: &raw.auth_token_file,
    };
    let account_sid = required(&key("account_sid"), &raw.account_sid)?;
    if !account_sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(invalid(&key("account_sid"), Reason::Characters("letters and digits")));
    }
    let link = Twilio {
        api: Api {
            endpoint: parsed(&key("endpoint"), &raw.endpoint)?,
            ca: path(&raw.tls_ca),
            connections: small(&key("connections"), raw.connections, CONNECTIONS_MAX)?,
            window: small(&key("window"), raw.window, WINDOW_MAX)?,
        },
        account_sid: account_sid.into(),
        auth_token: Secret::new(required(&key("auth_token"), &secret(&places, place, environment)?)?),
        sender: raw.sender.as_str().into(),
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Sms])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Twilio(link),
    })
}
