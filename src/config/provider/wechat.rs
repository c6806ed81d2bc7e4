//! Providers at WeChat.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::clouds::{Api, api, plain};
use super::raw::RawWechat;
use super::{Link, Place, Places, Provider, in_pool, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, required, word};
use crate::config::error::{ConfigError, Contradiction, Reason};
use crate::config::secret::Secret;
use crate::domain::ids::TenantId;
use crate::domain::job::{Kind, words};

words! {
    /// What the jobs of an account at WeChat are.
    Messages {
        /// Template messages of an official account.
        Template = "template",
        /// Subscription notices of an official account.
        Subscribe = "subscribe",
        /// Subscription messages of a mini program.
        MiniProgram = "mini_program",
    }
}

words! {
    /// Who knows whether a user has consented to one more subscription message.
    Consents {
        /// WeChat, which refuses what was not consented to.
        Asked = "asked",
        /// We, who count what users accept in popups and what is sent, as far as anything was heard of it.
        Counted = "counted",
    }
}

/// An account at WeChat.
#[derive(Clone, Debug)]
pub struct Wechat {
    /// How it is reached.
    pub api: Api,
    /// The account.
    pub appid: Box<str>,
    /// Its secret.
    pub secret: Secret,
    /// The tenant whose account it is.
    pub tenant: TenantId,
    /// What its jobs are.
    pub messages: Messages,
    /// Who knows of one-time consents.
    pub consents: Consents,
    /// How it calls back; `None`: it does not.
    pub callbacks: Option<Crypt>,
}

/// How an account at WeChat or WeCom calls back.
#[derive(Clone, Debug)]
pub struct Crypt {
    /// Signs.
    pub token: Secret,
    /// Encrypts.
    pub key: AesKey,
}

/// A key of AES-256.
#[derive(Clone, PartialEq, Eq)]
pub struct AesKey(pub [u8; 32]);

impl AesKey {
    /// Reads an EncodingAESKey: 43 characters, which are base64 without its last `=`.
    pub fn read(text: &str) -> Option<Self> {
        // 43 characters hold two bits more than 32 bytes, and consoles set them.
        let config = GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone);
        GeneralPurpose::new(&alphabet::STANDARD, config).decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AesKey(..)")
    }
}

pub(super) fn wechat(
    raw: &RawWechat,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places { name: "secret", plain: &raw.secret, variable: &raw.secret_env, file: &raw.secret_file };
    let messages = word(&key("messages"), &raw.messages, Messages::ALL, Messages::as_str)?;
    let token = (&*raw.callback_token, &*raw.callback_token_env, &*raw.callback_token_file);
    let aes_key = (&*raw.aes_key, &*raw.aes_key_env, &*raw.aes_key_file);
    let link = Wechat {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        appid: plain(&key("appid"), &raw.appid)?,
        secret: Secret::new(required(&key("secret"), &secret(&places, place, environment)?)?),
        tenant: parsed(&key("tenant"), &raw.tenant)?,
        messages,
        consents: word(&key("consents"), &raw.consents, Consents::ALL, Consents::as_str)?,
        callbacks: crypt(token, aes_key, place, environment)?,
    };
    // Of subscription messages no callback says which job it is about.
    let receipts = raw.receipts && messages == Messages::Template;
    if receipts && link.callbacks.is_none() {
        let reason = Reason::Needed("receipts come as callbacks that it signs; or set `receipts = false`");
        return Err(invalid(&key("callback_token"), reason));
    }
    if link.consents == Consents::Counted {
        let wrong = |field: &str, why| invalid(&key(field), Reason::Needed(why));
        if messages == Messages::Template {
            let why =
                "template messages need no consents: set it to `subscribe` or `mini_program`, or leave out `consents`";
            return Err(wrong("messages", why));
        }
        if link.callbacks.is_none() {
            return Err(wrong("callback_token", "consents are counted by the callbacks that it signs"));
        }
    }
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Template])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Wechat(link),
    })
}

/// Reads how an account calls back: by token and key, or not at all.
pub(super) fn crypt(
    token: (&str, &str, &str),
    aes_key: (&str, &str, &str),
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Option<Crypt>, ConfigError> {
    let read = |name, (plain, variable, file)| secret(&Places { name, plain, variable, file }, place, environment);
    let (token, key) = (read("callback_token", token)?, read("aes_key", aes_key)?);
    match (&*token, &*key) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(Contradiction::HalfCrypt(place.id.into()).into()),
        (token, key) => {
            let wrong = || invalid(&place.key("aes_key"), Reason::AesKey);
            Ok(Some(Crypt { token: Secret::new(token), key: AesKey::read(key).ok_or_else(wrong)? }))
        }
    }
}
