//! Providers at WeCom.

use std::num::NonZeroU32;

use super::clouds::{Api, api, plain};
use super::raw::RawWecom;
use super::wechat::{Crypt, crypt};
use super::{Link, Place, Places, Provider, in_pool, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, optional, parsed, required, small};
use crate::config::error::ConfigError;
use crate::config::secret::Secret;
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;

/// An application of a corporation at WeCom.
#[derive(Clone, Debug)]
pub struct Wecom {
    /// How it is reached.
    pub api: Api,
    /// The corporation.
    pub corp_id: Box<str>,
    /// The application.
    pub agent_id: NonZeroU32,
    /// Its secret.
    pub secret: Secret,
    /// The tenant whose corporation it is.
    pub tenant: TenantId,
    /// Most jobs in a request.
    pub batch_max: NonZeroU32,
    /// How it calls back; `None`: it does not.
    pub callbacks: Option<Crypt>,
}

/// What message/send takes.
const BATCH_MAX: u32 = 1_000;

pub(super) fn wecom(
    raw: &RawWecom,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places { name: "secret", plain: &raw.secret, variable: &raw.secret_env, file: &raw.secret_file };
    let token = (&*raw.callback_token, &*raw.callback_token_env, &*raw.callback_token_file);
    let aes_key = (&*raw.aes_key, &*raw.aes_key_env, &*raw.aes_key_file);
    let link = Wecom {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        corp_id: plain(&key("corp_id"), &raw.corp_id)?,
        agent_id: small(&key("agent_id"), raw.agent_id, u32::MAX)?,
        secret: Secret::new(required(&key("secret"), &secret(&places, place, environment)?)?),
        tenant: parsed(&key("tenant"), &raw.tenant)?,
        batch_max: small(&key("batch_max"), raw.batch_max, BATCH_MAX)?,
        callbacks: crypt(token, aes_key, place, environment)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Template])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        // Nothing tells whether an employee has an application's message.
        receipts: false,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Wecom(link),
    })
}
