//! Providers that are reached over HTTP.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::raw::{RawAliyun, RawAliyunVoice, RawTencent, RawTwilio};
use super::{Link, Place, Places, Provider, WINDOW_MAX, in_pool, kinds, secret};
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

/// An account at Aliyun SMS.
#[derive(Clone, Debug)]
pub struct Aliyun {
    /// How it is reached.
    pub api: Api,
    /// The access key.
    pub access_key_id: Box<str>,
    /// Its secret.
    pub access_key_secret: Secret,
    /// The signature when a job names no sender; empty: none.
    pub sign_name: Box<str>,
    /// The approved template.
    pub template: Box<str>,
    /// Its variable that carries the text; empty: its variables are the jobs' parameters.
    pub text_variable: Box<str>,
    /// Most jobs in a request.
    pub batch_max: NonZeroU32,
    /// The secret at the end of the callbacks' path; `None`: there are none.
    pub callback_token: Option<Secret>,
}

/// An account at Aliyun voice.
#[derive(Clone, Debug)]
pub struct AliyunVoice {
    /// How it is reached.
    pub api: Api,
    /// The key.
    pub access_key_id: Box<str>,
    /// Its secret.
    pub access_key_secret: Secret,
    /// The number shown when a job names no sender; empty: one of the cloud's.
    pub show_number: Box<str>,
    /// The approved template of jobs that name none; empty: they are refused.
    pub template: Box<str>,
    /// The template's variable that carries a whole text.
    pub text_variable: Box<str>,
    /// How often a text is said.
    pub play_times: NonZeroU32,
    /// Whether a robot leads the call.
    pub smart: bool,
    /// Whether what it talks of is recorded.
    pub record: bool,
    /// The secret at the end of the callbacks' path.
    pub callback_token: Secret,
}

/// An account at Tencent Cloud SMS.
#[derive(Clone, Debug)]
pub struct Tencent {
    /// How it is reached.
    pub api: Api,
    /// The key.
    pub secret_id: Box<str>,
    /// Its secret.
    pub secret_key: Secret,
    /// The application.
    pub app_id: Box<str>,
    /// The region.
    pub region: Box<str>,
    /// The signature when a job names no sender; empty: none.
    pub sign_name: Box<str>,
    /// The approved template.
    pub template: Box<str>,
    /// The jobs' parameters that fill it, in order; empty: the text does, alone.
    pub parameters: Vec<Box<str>>,
    /// Most jobs in a request.
    pub batch_max: NonZeroU32,
    /// The secret at the end of the callbacks' path; `None`: there are none.
    pub callback_token: Option<Secret>,
}

/// More connections than that are no help to any cloud.
const CONNECTIONS_MAX: u32 = 10_000;
/// What the clouds take in a request: SendBatchSms of Aliyun, SendSms of Tencent.
const ALIYUN_BATCH_MAX: u32 = 100;
const TENCENT_BATCH_MAX: u32 = 200;
/// What SingleCallByTts takes.
const PLAY_TIMES_MAX: u32 = 3;
/// A secret in a path is guessed if it is short.
const TOKEN_LEN_MIN: usize = 16;

pub(super) fn twilio(
    raw: &RawTwilio,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let api = api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?;
    let token = (&*raw.auth_token, &*raw.auth_token_env, &*raw.auth_token_file);
    let account = twilio_account((&raw.account_sid, token), api, place, environment)?;
    let link = Twilio { sender: raw.sender.as_str().into(), ..account };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Sms])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Twilio(link),
    })
}

/// Reads an account at Twilio that has no sender: its id, and its token in the setting, the variable or the file.
pub(super) fn twilio_account(
    (sid, (plain_token, variable, file)): (&str, (&str, &str, &str)),
    api: Api,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Twilio, ConfigError> {
    let places = Places { name: "auth_token", plain: plain_token, variable, file };
    Ok(Twilio {
        api,
        account_sid: plain(&place.key("account_sid"), sid)?,
        auth_token: Secret::new(required(&place.key("auth_token"), &secret(&places, place, environment)?)?),
        sender: "".into(),
    })
}

pub(super) fn aliyun(
    raw: &RawAliyun,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places {
        name: "access_key_secret",
        plain: &raw.access_key_secret,
        variable: &raw.access_key_secret_env,
        file: &raw.access_key_secret_file,
    };
    let token = (&*raw.callback_token, &*raw.callback_token_env, &*raw.callback_token_file);
    let link = Aliyun {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        access_key_id: plain(&key("access_key_id"), &raw.access_key_id)?,
        access_key_secret: Secret::new(required(&key("access_key_secret"), &secret(&places, place, environment)?)?),
        sign_name: raw.sign_name.as_str().into(),
        template: required(&key("template"), &raw.template)?.into(),
        text_variable: raw.text_variable.as_str().into(),
        batch_max: small(&key("batch_max"), raw.batch_max, ALIYUN_BATCH_MAX)?,
        callback_token: token_for_receipts(token, raw.receipts, place, environment)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Sms])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Aliyun(link),
    })
}

pub(super) fn aliyun_voice(
    raw: &RawAliyunVoice,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places {
        name: "access_key_secret",
        plain: &raw.access_key_secret,
        variable: &raw.access_key_secret_env,
        file: &raw.access_key_secret_file,
    };
    let token = (&*raw.callback_token, &*raw.callback_token_env, &*raw.callback_token_file);
    let token = token_for_receipts(token, true, place, environment)?;
    if raw.record && !raw.smart {
        return Err(invalid(&key("smart"), Reason::Needed("`record` is for calls of robots alone")));
    }
    let link = AliyunVoice {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        access_key_id: plain(&key("access_key_id"), &raw.access_key_id)?,
        access_key_secret: Secret::new(required(&key("access_key_secret"), &secret(&places, place, environment)?)?),
        show_number: raw.show_number.as_str().into(),
        template: raw.template.as_str().into(),
        text_variable: plain(&key("text_variable"), &raw.text_variable)?,
        play_times: small(&key("play_times"), raw.play_times, PLAY_TIMES_MAX)?,
        smart: raw.smart,
        record: raw.record,
        callback_token: token.ok_or_else(|| invalid(&key("callback_token"), Reason::Missing))?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Call])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: true,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::AliyunVoice(Box::new(link)),
    })
}

pub(super) fn tencent(
    raw: &RawTencent,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places {
        name: "secret_key",
        plain: &raw.secret_key,
        variable: &raw.secret_key_env,
        file: &raw.secret_key_file,
    };
    let token = (&*raw.callback_token, &*raw.callback_token_env, &*raw.callback_token_file);
    let link = Tencent {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        secret_id: plain(&key("secret_id"), &raw.secret_id)?,
        secret_key: Secret::new(required(&key("secret_key"), &secret(&places, place, environment)?)?),
        app_id: plain(&key("app_id"), &raw.app_id)?,
        region: raw.region.as_str().into(),
        sign_name: raw.sign_name.as_str().into(),
        template: plain(&key("template"), &raw.template)?,
        parameters: raw.parameters.iter().map(|name| name.as_str().into()).collect(),
        batch_max: small(&key("batch_max"), raw.batch_max, TENCENT_BATCH_MAX)?,
        callback_token: token_for_receipts(token, raw.receipts, place, environment)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Sms])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Tencent(link),
    })
}

pub(super) fn api(
    place: &Place<'_>,
    (endpoint, tls_ca): (&str, &str),
    (connections, window): (i64, i64),
) -> Result<Api, ConfigError> {
    Ok(Api {
        endpoint: parsed(&place.key("endpoint"), endpoint)?,
        ca: path(tls_ca),
        connections: small(&place.key("connections"), connections, CONNECTIONS_MAX)?,
        window: small(&place.key("window"), window, WINDOW_MAX)?,
    })
}

/// Reads the secret at the end of the callbacks' path, from the setting, the variable or the file.
pub(super) fn callback_token(
    (plain, variable, file): (&str, &str, &str),
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Option<Secret>, ConfigError> {
    let key = place.key("callback_token");
    let text = secret(&Places { name: "callback_token", plain, variable, file }, place, environment)?;
    optional(&text, |text| {
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(invalid(&key, Reason::Characters("letters, digits, `-` and `_`")));
        }
        if text.len() < TOKEN_LEN_MIN {
            return Err(invalid(&key, Reason::Needed("at least 16 characters, or it can be guessed")));
        }
        Ok(Secret::new(text))
    })
}

fn token_for_receipts(
    places: (&str, &str, &str),
    receipts: bool,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Option<Secret>, ConfigError> {
    let token = callback_token(places, place, environment)?;
    if token.is_none() && receipts {
        let reason = Reason::Needed("receipts come as callbacks to a path that ends in it; or set `receipts = false`");
        return Err(invalid(&place.key("callback_token"), reason));
    }
    Ok(token)
}

/// Reads what must be there and holds nothing but letters, digits, `-` and `_`.
pub(super) fn plain(key: &str, text: &str) -> Result<Box<str>, ConfigError> {
    let text = required(key, text)?;
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        Ok(text.into())
    } else {
        Err(invalid(key, Reason::Characters("letters, digits, `-` and `_`")))
    }
}
