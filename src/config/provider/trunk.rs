//! The lines of trunks, and trunks inside the process.

use std::num::NonZeroU32;
use std::time::Duration;

use super::raw::{RawAsterisk, RawSimulatedTrunk, RawTwilioVoice};
use super::{Link, Place, Provider, WINDOW_MAX, in_pool, kinds, share};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, small};
use crate::config::error::{ConfigError, Reason};
use crate::domain::call::CallResult;
use crate::domain::job::Kind;
use crate::domain::rate::Rate;

/// What the lines of a trunk carry.
#[derive(Clone, Debug)]
pub struct Trunk {
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
}

/// A trunk inside the process. Times are averages.
#[derive(Clone, Debug)]
pub struct SimulatedTrunk {
    /// What its lines carry.
    pub carries: Trunk,
    /// How long the network takes to say anything.
    pub latency: Duration,
    /// How long it rings until somebody answers or declines.
    pub ring: Duration,
    /// How long callees stay on the line at most.
    pub talk: Duration,
    /// How long they think before they press a key.
    pub thinks: Duration,
    /// How calls end, each with its share; all others are answered.
    pub results: Vec<(CallResult, f64)>,
    /// What callees press when they are asked, each with its share; all others press nothing.
    pub keys: Vec<(char, f64)>,
    /// Makes chance repeatable.
    pub seed: u64,
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
/// Nobody rings or talks for longer.
const WAITS: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));

/// The lines of a trunk as they were written.
pub(super) struct RawLines<'a> {
    lines: i64,
    lines_per_port: i64,
    calls_per_s: i64,
    tenant_lines: i64,
    campaign_lines: i64,
    callers: &'a [String],
    caller_lines: i64,
    caller_day_max: i64,
    caller_rest: &'a str,
}

macro_rules! raw_lines {
    ($($of:ty),*) => {$(
        impl<'a> From<&'a $of> for RawLines<'a> {
            fn from(raw: &'a $of) -> Self {
                Self {
                    lines: raw.lines,
                    lines_per_port: raw.lines_per_port,
                    calls_per_s: raw.calls_per_s,
                    tenant_lines: raw.tenant_lines,
                    campaign_lines: raw.campaign_lines,
                    callers: &raw.callers,
                    caller_lines: raw.caller_lines,
                    caller_day_max: raw.caller_day_max,
                    caller_rest: &raw.caller_rest,
                }
            }
        }
    )*};
}

raw_lines!(RawAsterisk, RawTwilioVoice, RawSimulatedTrunk);

/// Checks the lines of a trunk.
pub(super) fn lines<'a>(raw: impl Into<RawLines<'a>>, place: &Place<'_>) -> Result<Trunk, ConfigError> {
    let (raw, key) = (raw.into(), |name: &str| place.key(name));
    Ok(Trunk {
        lines: small(&key("lines"), raw.lines, CALLS_MAX)?,
        lines_per_port: small(&key("lines_per_port"), raw.lines_per_port, LINES_PER_PORT_MAX)?,
        calls_per_s: small(&key("calls_per_s"), raw.calls_per_s, CALLS_MAX)?,
        tenant_lines: unless_zero(&key("tenant_lines"), raw.tenant_lines)?,
        campaign_lines: unless_zero(&key("campaign_lines"), raw.campaign_lines)?,
        callers: callers(&key("callers"), raw.callers)?,
        caller_lines: unless_zero(&key("caller_lines"), raw.caller_lines)?,
        caller_day_max: unless_zero(&key("caller_day_max"), raw.caller_day_max)?,
        caller_rest: duration(&key("caller_rest"), raw.caller_rest, REST)?,
    })
}

pub(super) fn simulated(raw: &RawSimulatedTrunk, place: &Place<'_>) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let carries = lines(raw, place)?;
    let calls_per_s = carries.calls_per_s;
    let link = SimulatedTrunk {
        carries,
        latency: duration(&key("latency"), &raw.latency, (Duration::ZERO, TIMEOUTS.1))?,
        ring: duration(&key("ring"), &raw.ring, WAITS)?,
        talk: duration(&key("talk"), &raw.talk, WAITS)?,
        thinks: duration(&key("thinks"), &raw.thinks, WAITS)?,
        results: results(raw, place)?,
        keys: keys(&key("keys"), &raw.keys)?,
        seed: u64::try_from(raw.seed)
            .map_err(|_| invalid(&key("seed"), Reason::Range { min: 0, max: i64::MAX.unsigned_abs() }))?,
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
        link: Link::SimulatedTrunk(Box::new(link)),
    })
}

fn results(raw: &RawSimulatedTrunk, place: &Place<'_>) -> Result<Vec<(CallResult, f64)>, ConfigError> {
    let shares = [
        (CallResult::Busy, raw.busy),
        (CallResult::NoAnswer, raw.no_answer),
        (CallResult::Declined, raw.declined),
        (CallResult::InvalidNumber, raw.invalid_number),
        (CallResult::Unreachable, raw.unreachable),
        (CallResult::Machine, raw.machine),
        (CallResult::Network, raw.network),
    ];
    let one = |(result, part): (CallResult, f64)| Ok((result, share(&place.key(result.as_str()), part)?));
    let results = shares.into_iter().map(one).collect::<Result<Vec<_>, ConfigError>>()?;
    whole(&place.key("network"), &results)?;
    Ok(results)
}

/// Reads what is pressed, as `"1 0.5"`.
fn keys(key: &str, written: &[String]) -> Result<Vec<(char, f64)>, ConfigError> {
    let form = || invalid(key, Reason::Needed("keys with their shares, such as \"1 0.5\""));
    let one = |text: &String| {
        let (pressed, part) = text.split_once(' ').ok_or_else(form)?;
        let mut pressed = pressed.chars();
        let (Some(pressed @ ('0'..='9' | '*' | '#')), None) = (pressed.next(), pressed.next()) else {
            return Err(form());
        };
        Ok((pressed, share(key, part.trim().parse().map_err(|_| form())?)?))
    };
    let keys = written.iter().map(one).collect::<Result<Vec<_>, ConfigError>>()?;
    whole(key, &keys)?;
    Ok(keys)
}

/// Checks that shares are no more than everything.
fn whole<T>(key: &str, shares: &[(T, f64)]) -> Result<(), ConfigError> {
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if sum > 1.000_001 { Err(invalid(key, Reason::Needed("shares that are no more than 1 together"))) } else { Ok(()) }
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
