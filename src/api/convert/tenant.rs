//! Tenants, their rates and caps, and their keys.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::enums::{self, class, class_to_pb, kind_to_pb, known, on_limit, on_limit_to_pb, role_to_pb};
use super::spec::LABEL_CHARS_MAX;
use super::time::duration_to_pb;
use super::{Invalid, Problem, check_count, duration, moment_to_pb, name, not_yet, required, text};
use crate::domain::cap::{CAP_LIMIT_MAX, CAP_RULES_MAX, CAP_WINDOW_MAX, CapRule, Window};
use crate::domain::job::Kind;
use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;
use crate::ledger::{ApiKey, Tenant};
use crate::pb;

/// Most characters in a name for people.
const DISPLAY_NAME_CHARS_MAX: usize = 128;
/// Most topics or senders in a filter.
const FILTER_WORDS_MAX: usize = 64;
/// Highest rate: ten times what one machine carries.
const RATE_MAX: u32 = 1_000_000;

/// Checks a tenant with all its settings.
///
/// # Errors
/// The first field that is wrong; its path starts at the tenant.
pub(crate) fn tenant(raw: Option<pb::Tenant>, created_at: UnixMicros) -> Result<Tenant, Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("", Problem::Missing))?;
    not_yet("windows", raw.windows.is_empty(), "send windows of a tenant are")?;
    not_yet("routes", raw.routes.is_empty(), "routes of a tenant are")?;
    not_yet("quotas", raw.quotas.is_empty(), "quotas are")?;
    not_yet("sender_rates", raw.sender_rates.is_empty(), "rates of senders are")?;
    not_yet("time_zone", raw.time_zone.is_empty(), "a time zone of the tenant is")?;
    not_yet("stop_words", raw.stop_words.is_empty(), "opt-out words of a tenant are")?;
    let display_name = text("display_name", raw.display_name, DISPLAY_NAME_CHARS_MAX)?;
    Ok(Tenant {
        id: name("tenant_id", &raw.tenant_id)?,
        name: if display_name.is_empty() { raw.tenant_id.into_boxed_str() } else { display_name },
        rate: rate("rate", raw.rate)?,
        ingress_rate: rate("ingress_rate", raw.ingress_rate)?,
        outstanding_max: raw.outstanding_max,
        caps: caps(raw.caps)?,
        created_at,
    })
}

/// Puts the fields of `new` that `mask` names into `tenant`.
///
/// # Errors
/// No field, or one that cannot be changed.
pub(crate) fn apply_mask(
    tenant: &mut Tenant,
    new: Tenant,
    mask: Option<prost_types::FieldMask>,
) -> Result<(), Invalid> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return Err(Invalid::new("update_mask", Problem::Missing));
    }
    let Tenant { id: _, name, rate, ingress_rate, outstanding_max, caps, created_at: _ } = new;
    let (mut name, mut caps) = (Some(name), Some(caps));
    for path in paths {
        match path.as_str() {
            "display_name" => tenant.name = name.take().unwrap_or_else(|| tenant.name.clone()),
            "rate" => tenant.rate = rate,
            "ingress_rate" => tenant.ingress_rate = ingress_rate,
            "outstanding_max" => tenant.outstanding_max = outstanding_max,
            "caps" => tenant.caps = caps.take().unwrap_or_else(|| std::mem::take(&mut tenant.caps)),
            other => {
                let shown: String = other.chars().filter(|c| !c.is_control()).take(64).collect();
                return Err(Invalid::new("update_mask", Problem::Mask(shown.into())));
            }
        }
    }
    Ok(())
}

fn rate(field: &str, raw: Option<pb::Rate>) -> Result<Option<Rate>, Invalid> {
    let Some(raw) = raw else { return Ok(None) };
    let number = |name: &str, value: u32| {
        let out_of_range = Problem::OutOfRange { is: value.into(), least: 1, most: RATE_MAX.into() };
        NonZeroU32::new(value)
            .filter(|value| value.get() <= RATE_MAX)
            .ok_or_else(|| Invalid::new(format!("{field}.{name}"), out_of_range))
    };
    let per_s = number("per_second", raw.per_second)?;
    let burst = if raw.burst == 0 { per_s } else { number("burst", raw.burst)? };
    Ok(Some(Rate { per_s, burst }))
}

fn caps(raw: Vec<pb::CapRule>) -> Result<Vec<CapRule>, Invalid> {
    check_count("caps", raw.len(), CAP_RULES_MAX)?;
    let mut names = BTreeSet::new();
    let mut caps = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let cap = cap(raw).map_err(|invalid| invalid.at("caps", index))?;
        if !names.insert(cap.name.clone()) {
            return Err(Invalid::new("name", Problem::Twice(cap.name.as_str().into())).at("caps", index));
        }
        caps.push(cap);
    }
    Ok(caps)
}

fn cap(raw: pb::CapRule) -> Result<CapRule, Invalid> {
    let name = name("name", &raw.name)?;
    not_yet("preset", raw.preset.is_empty(), "presets are")?;
    let per = known("per", raw.per)?.unwrap_or(pb::CapPer::Recipient);
    not_yet("per", per == pb::CapPer::Recipient, "caps per anything but recipient are")?;
    let unit = known("unit", raw.unit)?.unwrap_or(pb::CapUnit::Jobs);
    not_yet("unit", unit == pb::CapUnit::Jobs, "caps over segments are")?;
    let count = known("count", raw.count)?.unwrap_or(pb::CapCount::Submitted);
    not_yet("count", count == pb::CapCount::Submitted, "caps over what was delivered are")?;
    let mode = known("mode", raw.mode)?.unwrap_or(pb::RuleMode::Enforce);
    not_yet("mode", mode == pb::RuleMode::Enforce, "shadow rules are")?;
    not_yet("reserve", raw.reserve == 0, "reserved places are")?;
    if raw.limit > CAP_LIMIT_MAX {
        let problem = Problem::OutOfRange { is: raw.limit.into(), least: 0, most: CAP_LIMIT_MAX.into() };
        return Err(Invalid::new("limit", problem));
    }
    let filter = raw.filter.unwrap_or_default();
    Ok(CapRule {
        name,
        classes: each("filter.classes", &filter.classes, class)?,
        kinds: each("filter.kinds", &filter.kinds, kind)?,
        topics: words("filter.topics", filter.topics)?,
        senders: words("filter.senders", filter.senders)?,
        limit: raw.limit,
        window: window(raw.window)?,
        on_limit: on_limit("on_limit", raw.on_limit)?,
    })
}

fn window(raw: Option<pb::CapWindow>) -> Result<Window, Invalid> {
    use pb::cap_window::Window as Raw;
    let later = |what| Err(Invalid::new("window", Problem::NotYet(what)));
    let length = match raw.and_then(|raw| raw.window) {
        None => return Err(Invalid::new("window", Problem::Missing)),
        Some(Raw::Rolling(length)) => duration("window.rolling", length)?,
        Some(Raw::Calendar(_)) => return later("calendar windows are"),
        Some(Raw::Clock(_)) => return later("clock windows are"),
        Some(Raw::FromFirst(_)) => return later("from_first windows are"),
        Some(Raw::Gap(_)) => return later("gap windows are"),
        Some(Raw::Bucket(_)) => return later("bucket windows are"),
    };
    if !(Duration::from_secs(1)..=CAP_WINDOW_MAX).contains(&length) {
        let is = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        let most = i64::try_from(CAP_WINDOW_MAX.as_secs()).unwrap_or(i64::MAX);
        return Err(Invalid::new("window.rolling", Problem::OutOfRange { is, least: 1, most }));
    }
    Ok(Window::Rolling(Duration::from_millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))))
}

fn kind(field: &str, raw: i32) -> Result<Kind, Invalid> {
    enums::kind_filter(field, raw)?.ok_or_else(|| Invalid::new(field, Problem::Missing))
}

fn each<T>(field: &str, raw: &[i32], parse: fn(&str, i32) -> Result<T, Invalid>) -> Result<Vec<T>, Invalid> {
    check_count(field, raw.len(), 8)?;
    raw.iter().map(|&raw| parse(field, raw)).collect()
}

fn words(field: &str, raw: Vec<String>) -> Result<Vec<Box<str>>, Invalid> {
    check_count(field, raw.len(), FILTER_WORDS_MAX)?;
    raw.into_iter().map(|word| required(field, word, LABEL_CHARS_MAX)).collect()
}

/// Shows a tenant.
pub(crate) fn tenant_to_pb(tenant: &Tenant) -> pb::Tenant {
    let rate = |rate: Rate| pb::Rate { per_second: rate.per_s.get(), burst: rate.burst.get() };
    pb::Tenant {
        tenant_id: tenant.id.as_str().into(),
        display_name: tenant.name.as_ref().into(),
        rate: tenant.rate.map(rate),
        ingress_rate: tenant.ingress_rate.map(rate),
        outstanding_max: tenant.outstanding_max,
        caps: tenant.caps.iter().map(cap_to_pb).collect(),
        created_at: Some(moment_to_pb(tenant.created_at)),
        ..pb::Tenant::default()
    }
}

fn cap_to_pb(cap: &CapRule) -> pb::CapRule {
    let owned = |words: &[Box<str>]| words.iter().map(|word| word.as_ref().into()).collect();
    let Window::Rolling(length) = cap.window;
    pb::CapRule {
        name: cap.name.as_str().into(),
        filter: Some(pb::RuleFilter {
            classes: cap.classes.iter().map(|&class| class_to_pb(class).into()).collect(),
            kinds: cap.kinds.iter().map(|&kind| kind_to_pb(kind).into()).collect(),
            topics: owned(&cap.topics),
            senders: owned(&cap.senders),
        }),
        limit: cap.limit,
        window: Some(pb::CapWindow { window: Some(pb::cap_window::Window::Rolling(duration_to_pb(length))) }),
        on_limit: on_limit_to_pb(cap.on_limit).into(),
        per: pb::CapPer::Recipient.into(),
        unit: pb::CapUnit::Jobs.into(),
        count: pb::CapCount::Submitted.into(),
        mode: pb::RuleMode::Enforce.into(),
        ..pb::CapRule::default()
    }
}

/// Shows a key without its secret.
pub(crate) fn api_key_to_pb(key: &ApiKey) -> pb::ApiKey {
    pb::ApiKey {
        key_id: key.id.as_ref().into(),
        tenant_id: key.tenant.as_str().into(),
        role: role_to_pb(key.role).into(),
        created_at: Some(moment_to_pb(key.created_at)),
        revoked_at: key.revoked_at.map(moment_to_pb),
    }
}
