//! Twilio, as a trunk.

use super::clouds::{Twilio, api, twilio_account};
use super::raw::RawTwilioVoice;
use super::trunk::{self, Trunk};
use super::{Link, Place, Provider, in_pool, kinds};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed};
use crate::config::endpoint::Endpoint;
use crate::config::error::{ConfigError, Reason};
use crate::domain::job::Kind;
use crate::domain::rate::Rate;

/// An account at Twilio that calls.
#[derive(Clone, Debug)]
pub struct TwilioVoice {
    /// The account; its window is its lines.
    pub account: Twilio,
    /// What its lines carry; it has numbers of its own.
    pub carries: Trunk,
    /// Whether flows may put calls through.
    pub transfer: bool,
    /// Whether Twilio listens who has answered.
    pub detect: bool,
    /// The voice that says texts; empty: Twilio's own.
    pub voice: Box<str>,
    /// What URLs of recordings begin with; empty: none are played.
    pub media_url: Box<str>,
    /// Whether Twilio writes down what is recorded.
    pub transcribe: bool,
}

pub(super) fn twilio_voice(
    raw: &RawTwilioVoice,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let api = api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.lines))?;
    let token = (&*raw.auth_token, &*raw.auth_token_env, &*raw.auth_token_file);
    let account = twilio_account((&raw.account_sid, token), api, place, environment)?;
    let carries = trunk::lines(raw, place)?;
    if carries.callers.is_empty() {
        return Err(invalid(&key("callers"), Reason::Needed("at least one number of the account")));
    }
    let written = |number: &str| {
        let digits = number.strip_prefix('+').unwrap_or_default();
        (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !carries.callers.iter().all(|(number, _)| written(number)) {
        return Err(invalid(
            &key("callers"),
            Reason::Needed("numbers with `+` and their country, such as \"+15005550006\""),
        ));
    }
    let calls_per_s = carries.calls_per_s;
    let link = TwilioVoice {
        account,
        carries,
        transfer: raw.transfer,
        detect: raw.detect,
        voice: raw.voice.as_str().into(),
        transcribe: raw.transcribe,
        media_url: media_url(&key("media_url"), &raw.media_url)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Call])?,
        rate: Some(Rate::per_second(calls_per_s)),
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: true,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::TwilioVoice(Box::new(link)),
    })
}

/// Reads a base URL, which ends in a slash afterwards.
fn media_url(key: &str, text: &str) -> Result<Box<str>, ConfigError> {
    if text.is_empty() {
        return Ok("".into());
    }
    let _checked: Endpoint = parsed(key, text.trim_end_matches('/'))?;
    Ok(format!("{}/", text.trim_end_matches('/')).into())
}
