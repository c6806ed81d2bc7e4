//! Telephone exchanges.

use std::path::PathBuf;

use super::clouds::{Api, api, plain};
use super::raw::RawAsterisk;
use super::trunk::{self, Trunk};
use super::{Link, Place, Places, Provider, in_pool, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, path, required};
use crate::config::error::{ConfigError, Reason};
use crate::config::secret::Secret;
use crate::domain::job::Kind;
use crate::domain::rate::Rate;

/// An Asterisk and its trunk.
#[derive(Clone, Debug)]
pub struct Asterisk {
    /// How it is reached; its window is its lines.
    pub api: Api,
    /// The ARI user.
    pub user: Box<str>,
    /// Its password.
    pub password: Secret,
    /// The application that our calls belong to.
    pub app: Box<str>,
    /// What is dialled, with `{number}` or `{e164}` in it.
    pub trunk: Box<str>,
    /// What its lines carry.
    pub carries: Trunk,
    /// What is dialled for whom calls are put through to, with `{number}` or `{e164}` in it; empty: they are not.
    pub transfer: Box<str>,
    /// The context of the dial plan that listens whether a machine has answered; empty: nothing does.
    pub detect: Box<str>,
    /// What speaks texts: a program and its arguments; none: nothing does.
    pub speech: Vec<Box<str>>,
    /// Where spoken texts are kept; `None`: in the data directory.
    pub speech_dir: Option<PathBuf>,
    /// Where recordings are; `None`: Asterisk's own.
    pub media_dir: Option<PathBuf>,
}

pub(super) fn asterisk(
    raw: &RawAsterisk,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places =
        Places { name: "password", plain: &raw.password, variable: &raw.password_env, file: &raw.password_file };
    let trunk = required(&key("trunk"), &raw.trunk)?;
    if !trunk.contains("{number}") && !trunk.contains("{e164}") {
        return Err(invalid(&key("trunk"), Reason::Needed("`{number}` or `{e164}` in it, where the number goes")));
    }
    if !raw.transfer.is_empty() && !raw.transfer.contains("{number}") && !raw.transfer.contains("{e164}") {
        return Err(invalid(&key("transfer"), Reason::Needed("`{number}` or `{e164}` in it, where the number goes")));
    }
    let carries = trunk::lines(raw, place)?;
    let calls_per_s = carries.calls_per_s;
    let link = Asterisk {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.lines))?,
        user: plain(&key("user"), &raw.user)?,
        password: Secret::new(required(&key("password"), &secret(&places, place, environment)?)?),
        app: plain(&key("app"), &raw.app)?,
        trunk: trunk.into(),
        carries,
        transfer: raw.transfer.as_str().into(),
        detect: raw.detect.as_str().into(),
        speech: raw.speech.iter().map(|word| word.as_str().into()).collect(),
        speech_dir: path(&raw.speech_dir),
        media_dir: path(&raw.media_dir),
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
        link: Link::Asterisk(Box::new(link)),
    })
}
