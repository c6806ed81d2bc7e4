//! From the raw form to checked settings: each value alone, then those that must agree.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::error::{ConfigError, Contradiction, Reason};
use super::provider::raw::RawProvider;
use super::raw::{RawCap, RawGrpc, RawReceive, RawSettings, RawTraces, RawWindow};
use super::{
    Consents, Grpc, GrpcTls, Ledger, Limits, Link, Log, LogFormat, Provider, Queue, Receive, Role, ServerUrl, Settings,
    Shutdown, Traces, caps, provider, windows,
};

/// The shortest and longest of ordinary time limits.
pub(super) const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(600));
/// The longest that anything may wait: as far ahead as jobs are scheduled.
const WAIT_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

pub(super) fn settings(
    (raw, providers): (RawSettings, Vec<RawProvider>),
    (windows, caps): (Vec<RawWindow>, &[RawCap]),
    environment: &[(String, String)],
) -> Result<Settings, ConfigError> {
    let data_dir = PathBuf::from(required("data_dir", &raw.data_dir)?);
    let key_file = path(&raw.seal.key_file);
    let life = (Duration::from_secs(1), WAIT_MAX);
    let settings = Settings {
        roles: roles(&raw.roles)?,
        grpc: grpc(&raw.grpc)?,
        metrics_listen: optional(&raw.metrics.listen, |text| parsed::<SocketAddr>("metrics.listen", text))?,
        receive: receive(&raw.receive)?,
        queue: Queue {
            url: url("queue.url", &raw.queue.url, &["amqp://", "amqps://"])?,
            publish_timeout: duration("queue.publish_timeout", &raw.queue.publish_timeout, TIMEOUTS)?,
            lane_frames_max: count("queue.lane_frames_max", raw.queue.lane_frames_max)?,
            record_frames_max: count("queue.record_frames_max", raw.queue.record_frames_max)?,
        },
        limits: Limits {
            url: url("limits.url", &raw.limits.url, &["redis://", "rediss://"])?,
            timeout: duration("limits.timeout", &raw.limits.timeout, TIMEOUTS)?,
        },
        ledger: Ledger { url: url("ledger.url", &raw.ledger.url, &["postgres://", "postgresql://"])? },
        key_file: key_file.clone().unwrap_or_else(|| data_dir.join("keys")),
        data_dir,
        receipt_deadline: duration("record.receipt_deadline", &raw.record.receipt_deadline, life)?,
        expires_after: [
            duration("class.otp.expires_after", &raw.class.otp.expires_after, life)?,
            duration("class.transactional.expires_after", &raw.class.transactional.expires_after, life)?,
            duration("class.notification.expires_after", &raw.class.notification.expires_after, life)?,
            duration("class.marketing.expires_after", &raw.class.marketing.expires_after, life)?,
        ],
        windows: windows::windows(windows, &raw.windows.calendars)?,
        file: None,
        caps: caps::caps(caps)?,
        shutdown: Shutdown {
            grace: duration("shutdown.grace", &raw.shutdown.grace, TIMEOUTS)?,
            lame_duck: duration("shutdown.lame_duck", &raw.shutdown.lame_duck, (Duration::ZERO, TIMEOUTS.1))?,
        },
        log: Log {
            filter: raw.log.level,
            format: word("log.format", &raw.log.format, LogFormat::ALL, LogFormat::as_str)?,
        },
        traces: traces(&raw.traces)?,
        providers: provider::providers(providers, environment)?,
        // These name pools and providers, so they are read when the providers are known.
        routes: vec![],
        extensions: vec![],
    };
    agree(&settings, (&raw.grpc, &raw.receive), key_file.as_deref())?;
    Ok(settings)
}

fn traces(raw: &RawTraces) -> Result<Option<Traces>, ConfigError> {
    let sample = provider::share("traces.sample", raw.sample)?;
    let endpoint = url("traces.endpoint", &raw.endpoint, &["http://", "https://"])?;
    Ok(endpoint.map(|endpoint| Traces { endpoint: endpoint.reveal().into(), sample }))
}

/// Checks what settings say about each other.
fn agree(
    settings: &Settings,
    (grpc, receive): (&RawGrpc, &RawReceive),
    key_file: Option<&Path>,
) -> Result<(), Contradiction> {
    if !settings.grpc.listen.ip().is_loopback() && settings.grpc.tls.is_none() && !grpc.allow_plaintext {
        return Err(Contradiction::PlaintextBeyondLoopback);
    }
    if !settings.receive.listen.ip().is_loopback() && !receive.allow_plaintext {
        return Err(Contradiction::CallbacksBeyondLoopback);
    }
    different_listeners(settings)?;
    if settings.roles.len() < Role::ALL.len() {
        if settings.embedded() {
            return Err(Contradiction::SplitEmbedded);
        }
        if key_file.is_none() {
            return Err(Contradiction::SplitWithoutKeys);
        }
    }
    if settings.shutdown.lame_duck >= settings.shutdown.grace {
        return Err(Contradiction::LameDuckTooLong);
    }
    let unheard = |provider: &&Provider| provider.link.asks_for_callbacks() && provider.receipts;
    if let (None, Some(provider)) = (&settings.receive.public_url, settings.providers.iter().find(unheard)) {
        return Err(Contradiction::NoPublicUrl(provider.id.as_str().into()));
    }
    let late = |provider: &&Provider| provider.link.confirmed_by().is_some_and(|by| by > settings.receipt_deadline);
    if let Some(provider) = settings.providers.iter().find(late) {
        return Err(Contradiction::DeadlineBeforeConfirmation(provider.id.as_str().into()));
    }
    counted_for_one(&settings.providers)?;
    let speechless = |provider: &&Provider| provider.link.converses() && settings.runs(Role::Dispatch);
    if let (false, Some(provider)) = (settings.runs(Role::Receive), settings.providers.iter().find(speechless)) {
        return Err(Contradiction::DispatchWithoutReceive(provider.id.as_str().into()));
    }
    let slow = |provider: &&Provider| provider.response_timeout > settings.shutdown.grace;
    match settings.providers.iter().find(slow) {
        Some(provider) => Err(Contradiction::GraceTooShort(provider.id.as_str().into())),
        None => Ok(()),
    }
}

/// WeChat calls back at one address for an account, so what its users say comes to one provider, whichever that is.
fn counted_for_one(providers: &[Provider]) -> Result<(), Contradiction> {
    let accounts = || {
        providers.iter().filter_map(|provider| {
            let Link::Wechat(account) = &provider.link else { return None };
            Some((Box::<str>::from(provider.id.as_str()), account))
        })
    };
    for (id, counted) in accounts().filter(|(_, account)| account.consents == Consents::Counted) {
        let mut others = accounts().filter(|(_, other)| other.appid == counted.appid && other.tenant != counted.tenant);
        if let Some((other, _)) = others.next() {
            return Err(Contradiction::CountedForTwo(id, other));
        }
    }
    Ok(())
}

fn different_listeners(settings: &Settings) -> Result<(), Contradiction> {
    let mut taken = vec![("grpc.listen", settings.grpc.listen)];
    taken.extend(settings.metrics_listen.map(|listen| ("metrics.listen", listen)));
    if settings.takes_callbacks() {
        taken.push(("receive.listen", settings.receive.listen));
    }
    for (at, (name, listen)) in taken.iter().enumerate().filter(|(_, (_, listen))| listen.port() != 0) {
        if let Some((other, _)) = taken[..at].iter().find(|(_, other)| other == listen) {
            return Err(Contradiction::SameListen(other, name));
        }
    }
    Ok(())
}

fn roles(words: &[String]) -> Result<Vec<Role>, ConfigError> {
    let mut roles =
        words.iter().map(|text| word("roles", text, Role::ALL, Role::as_str)).collect::<Result<Vec<_>, _>>()?;
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { Err(invalid("roles", Reason::Missing)) } else { Ok(roles) }
}

fn grpc(raw: &RawGrpc) -> Result<Grpc, ConfigError> {
    let tls = match (path(&raw.tls_cert), path(&raw.tls_key)) {
        (Some(cert), Some(key)) => Some(GrpcTls { cert, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(Contradiction::HalfTls.into()),
    };
    Ok(Grpc { listen: parsed("grpc.listen", &raw.listen)?, tls })
}

fn receive(raw: &RawReceive) -> Result<Receive, ConfigError> {
    Ok(Receive {
        listen: parsed("receive.listen", &raw.listen)?,
        public_url: optional(&raw.public_url, |text| parsed("receive.public_url", text))?,
    })
}

pub(super) fn invalid(key: &str, reason: impl Into<Reason>) -> ConfigError {
    ConfigError::Invalid { key: key.to_owned(), reason: reason.into() }
}

pub(super) fn required<'a>(key: &str, text: &'a str) -> Result<&'a str, ConfigError> {
    if text.is_empty() { Err(invalid(key, Reason::Missing)) } else { Ok(text) }
}

/// Reads a setting whose empty value means that there is none.
pub(super) fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

pub(super) fn parsed<T: FromStr<Err: Into<Reason>>>(key: &str, text: &str) -> Result<T, ConfigError> {
    required(key, text)?.parse().map_err(|error: T::Err| invalid(key, error))
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

pub(super) fn word<T: Copy>(key: &str, text: &str, all: &[T], as_str: fn(T) -> &'static str) -> Result<T, ConfigError> {
    all.iter().copied().find(|&value| as_str(value) == text).ok_or_else(|| {
        let allowed = all.iter().map(|&value| as_str(value)).collect();
        invalid(key, Reason::Word { found: text.to_owned(), allowed })
    })
}

pub(super) fn duration(key: &str, text: &str, (min, max): (Duration, Duration)) -> Result<Duration, ConfigError> {
    let duration = humantime::parse_duration(text).map_err(|error| invalid(key, error))?;
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(invalid(key, Reason::DurationRange { min, max })) }
}

fn count(key: &str, number: i64) -> Result<NonZeroU64, ConfigError> {
    let count = u64::try_from(number).ok().and_then(NonZeroU64::new);
    count.ok_or_else(|| invalid(key, Reason::Range { min: 1, max: i64::MAX.unsigned_abs() }))
}

pub(super) fn small(key: &str, number: i64, max: u32) -> Result<NonZeroU32, ConfigError> {
    let count = u32::try_from(number).ok().filter(|&number| number <= max).and_then(NonZeroU32::new);
    count.ok_or_else(|| invalid(key, Reason::Range { min: 1, max: max.into() }))
}

fn url(key: &str, text: &str, allowed: &'static [&'static str]) -> Result<Option<ServerUrl>, ConfigError> {
    optional(text, |text| {
        let known = allowed.iter().any(|scheme| text.starts_with(scheme));
        if known { Ok(ServerUrl::new(text)) } else { Err(invalid(key, Reason::Scheme { allowed })) }
    })
}
