//! Telephone exchanges.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::clouds::{Api, api, plain};
use super::raw::RawAsterisk;
use super::{Link, Place, Places, Provider, WINDOW_MAX, in_pool, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, path, required, small};
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
    /// Calls at a time.
    pub lines: NonZeroU32,
    /// Calls that ring at a time for each line that nobody talks on.
    pub lines_per_port: NonZeroU32,
    /// New calls per second.
    pub calls_per_s: NonZeroU32,
    /// Calls at a time for each tenant; `None`: as many as there are lines.
    pub tenant_lines: Option<NonZeroU32>,
    /// Calls at a time for each campaign; `None`: as many as there are lines.
    pub campaign_lines: Option<NonZeroU32>,
    /// The numbers that calls come from, each with the beginning of the numbers that it is near to, or nothing.
    pub callers: Vec<(Box<str>, Box<str>)>,
    /// Calls at a time for each of them; `None`: as many as there are lines.
    pub caller_lines: Option<NonZeroU32>,
    /// Calls a day for each of them; `None`: no limit.
    pub caller_day_max: Option<NonZeroU32>,
    /// How long one rests.
    pub caller_rest: Duration,
    /// What speaks texts: a program and its arguments; none: nothing does.
    pub speech: Vec<Box<str>>,
    /// Where spoken texts are kept; `None`: in the data directory.
    pub speech_dir: Option<PathBuf>,
    /// Where recordings are; `None`: Asterisk's own.
    pub media_dir: Option<PathBuf>,
}

/// A number, and the beginning of those that it is near to.
type Caller = (Box<str>, Box<str>);

/// More calls than that no process drives.
const CALLS_MAX: u32 = 10_000;
/// More would ring for nobody.
const LINES_PER_PORT_MAX: u32 = 3;
/// Numbers that calls may come from.
const CALLERS_MAX: usize = 1_000;
/// A number rests for a week at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600));

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
    let lines = small(&key("lines"), raw.lines, CALLS_MAX)?;
    let calls_per_s = small(&key("calls_per_s"), raw.calls_per_s, CALLS_MAX)?;
    let link = Asterisk {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.lines))?,
        user: plain(&key("user"), &raw.user)?,
        password: Secret::new(required(&key("password"), &secret(&places, place, environment)?)?),
        app: plain(&key("app"), &raw.app)?,
        trunk: trunk.into(),
        lines,
        lines_per_port: small(&key("lines_per_port"), raw.lines_per_port, LINES_PER_PORT_MAX)?,
        calls_per_s,
        tenant_lines: unless_zero(&key("tenant_lines"), raw.tenant_lines)?,
        campaign_lines: unless_zero(&key("campaign_lines"), raw.campaign_lines)?,
        callers: callers(&key("callers"), &raw.callers)?,
        caller_lines: unless_zero(&key("caller_lines"), raw.caller_lines)?,
        caller_day_max: unless_zero(&key("caller_day_max"), raw.caller_day_max)?,
        caller_rest: duration(&key("caller_rest"), &raw.caller_rest, REST)?,
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

fn unless_zero(key: &str, number: i64) -> Result<Option<NonZeroU32>, ConfigError> {
    if number == 0 { Ok(None) } else { small(key, number, WINDOW_MAX * 100).map(Some) }
}

/// Reads numbers, each with what it is near to.
fn callers(key: &str, written: &[String]) -> Result<Vec<Caller>, ConfigError> {
    let form = || invalid(key, Reason::Needed("numbers such as \"+862085550100\" or \"+862085550100 near +8620\""));
    if written.len() > CALLERS_MAX {
        return Err(invalid(key, Reason::Needed("at most 1000 numbers")));
    }
    let dialled = |text: &str| {
        let text = text.trim();
        let plain =
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+');
        plain.then(|| Box::from(text))
    };
    let one = |text: &String| match text.split_once(" near ") {
        Some((number, near)) => dialled(number).zip(dialled(near)),
        None => dialled(text).map(|number| (number, "".into())),
    };
    written.iter().map(|text| one(text).ok_or_else(form)).collect()
}
