//! Tenants, their rates and caps, and their keys.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::cap::{cap_to_pb, caps};
use super::enums::role_to_pb;
use super::item::zone;
use super::quota::{quota_to_pb, quotas};
use super::route::{route_to_pb, routes};
use super::sender_pool::{sender_pool_to_pb, sender_pools};
use super::spec::LABEL_CHARS_MAX;
use super::window::{window_rule_to_pb, window_rules};
use super::{Invalid, Problem, check_count, moment_to_pb, name, required, text};
use crate::domain::rate::Rate;
use crate::domain::sender::SenderPool;
use crate::domain::time::UnixMicros;
use crate::ledger::{ApiKey, SENDER_RATES_MAX, SenderRate, Tenant, WORDS_MAX};
use crate::pb;
use crate::receipt::normal;

/// Most characters in a name for people.
const DISPLAY_NAME_CHARS_MAX: usize = 128;
/// Most characters in an opt-out word.
const WORD_CHARS_MAX: usize = 32;
/// Highest rate: ten times what one machine carries.
const RATE_MAX: u32 = 1_000_000;

/// Checks a tenant with all its settings.
///
/// # Errors
/// The first field that is wrong; its path starts at the tenant.
pub(crate) fn tenant(raw: Option<pb::Tenant>, created_at: UnixMicros) -> Result<Tenant, Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("", Problem::Missing))?;
    let stops = raw.stop_words.iter().filter_map(|word| normal(word)).collect::<Vec<_>>();
    let display_name = text("display_name", raw.display_name, DISPLAY_NAME_CHARS_MAX)?;
    Ok(Tenant {
        id: name("tenant_id", &raw.tenant_id)?,
        name: if display_name.is_empty() { raw.tenant_id.into_boxed_str() } else { display_name },
        rate: rate("rate", raw.rate)?,
        ingress_rate: rate("ingress_rate", raw.ingress_rate)?,
        outstanding_max: raw.outstanding_max,
        caps: caps(raw.caps)?,
        windows: window_rules(raw.windows)?,
        routes: routes(raw.routes)?,
        sender_rates: sender_rates(raw.sender_rates)?,
        time_zone: zone("time_zone", raw.time_zone)?,
        quotas: quotas(raw.quotas)?,
        stop_words: opt_words("stop_words", raw.stop_words, &[])?,
        start_words: opt_words("start_words", raw.start_words, &stops)?,
        sender_pools: sender_pools(raw.sender_pools, created_at)?,
        reassigned: vec![],
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
    let Tenant {
        id: _,
        name,
        rate,
        ingress_rate,
        outstanding_max,
        caps,
        windows,
        routes,
        sender_rates,
        time_zone,
        quotas,
        stop_words,
        start_words,
        sender_pools,
        reassigned: _,
        created_at: _,
    } = new;
    let (mut stop_words, mut start_words) = (Some(stop_words), Some(start_words));
    let (mut name, mut caps, mut windows, mut quotas) = (Some(name), Some(caps), Some(windows), Some(quotas));
    let mut routes = Some(routes);
    let (mut sender_rates, mut time_zone, mut sender_pools) = (Some(sender_rates), Some(time_zone), Some(sender_pools));
    for path in paths {
        match path.as_str() {
            "display_name" => tenant.name = name.take().unwrap_or_else(|| tenant.name.clone()),
            "rate" => tenant.rate = rate,
            "ingress_rate" => tenant.ingress_rate = ingress_rate,
            "outstanding_max" => tenant.outstanding_max = outstanding_max,
            "caps" => tenant.caps = caps.take().unwrap_or_else(|| std::mem::take(&mut tenant.caps)),
            "windows" => tenant.windows = windows.take().unwrap_or_else(|| std::mem::take(&mut tenant.windows)),
            "routes" => tenant.routes = routes.take().unwrap_or_else(|| std::mem::take(&mut tenant.routes)),
            "sender_rates" => {
                tenant.sender_rates = sender_rates.take().unwrap_or_else(|| std::mem::take(&mut tenant.sender_rates));
            }
            "quotas" => tenant.quotas = quotas.take().unwrap_or_else(|| std::mem::take(&mut tenant.quotas)),
            "stop_words" => {
                tenant.stop_words = stop_words.take().unwrap_or_else(|| std::mem::take(&mut tenant.stop_words));
            }
            "start_words" => {
                tenant.start_words = start_words.take().unwrap_or_else(|| std::mem::take(&mut tenant.start_words));
            }
            "sender_pools" => {
                if let Some(pools) = sender_pools.take() {
                    let renewed = |pool: SenderPool| match tenant.sender_pool(&pool.name) {
                        Some(before) => pool.after(before),
                        None => pool,
                    };
                    tenant.sender_pools = pools.into_iter().map(renewed).collect();
                }
            }
            "time_zone" => tenant.time_zone = time_zone.take().unwrap_or_else(|| tenant.time_zone.take()),
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

fn sender_rates(raw: Vec<pb::SenderRate>) -> Result<Vec<SenderRate>, Invalid> {
    check_count("sender_rates", raw.len(), SENDER_RATES_MAX)?;
    let mut senders = BTreeSet::new();
    let of = |raw: pb::SenderRate| {
        let sender = required("sender", raw.sender, LABEL_CHARS_MAX)?;
        if !senders.insert(sender.clone()) {
            return Err(Invalid::new("sender", Problem::Twice(sender)));
        }
        let rate = rate("rate", raw.rate)?.ok_or_else(|| Invalid::new("rate", Problem::Missing))?;
        Ok(SenderRate { sender, rate })
    };
    let raw = raw.into_iter().map(of).enumerate();
    raw.map(|(index, of)| of.map_err(|invalid| invalid.at("sender_rates", index))).collect()
}

/// Refuses a tenant one of whose words asks for both.
///
/// # Errors
/// The field of the word.
pub(crate) fn apart(tenant: &Tenant) -> Result<(), Invalid> {
    let stops: Vec<_> = tenant.stop_words.iter().filter_map(|word| normal(word)).collect();
    let both = |word: &str| normal(word).is_some_and(|word| stops.contains(&word));
    match tenant.start_words.iter().position(|word| both(word)) {
        Some(index) => Err(Invalid::new("", Problem::StopAndStart).at("start_words", index).within("tenant")),
        None => Ok(()),
    }
}

/// Checks words of replies: each is one, and says one thing.
fn opt_words(field: &str, raw: Vec<String>, others: &[String]) -> Result<Vec<Box<str>>, Invalid> {
    check_count(field, raw.len(), WORDS_MAX)?;
    let of = |raw: String| {
        let word = required("", raw, WORD_CHARS_MAX)?;
        match normal(&word) {
            None => Err(Invalid::new("", Problem::NoWord)),
            Some(normal) if others.contains(&normal) => Err(Invalid::new("", Problem::StopAndStart)),
            Some(_) => Ok(word),
        }
    };
    raw.into_iter().enumerate().map(|(index, raw)| of(raw).map_err(|invalid| invalid.at(field, index))).collect()
}

/// Shows a tenant.
pub(crate) fn tenant_to_pb(tenant: &Tenant) -> pb::Tenant {
    let rate = |rate: Rate| pb::Rate { per_second: rate.per_s.get(), burst: rate.burst.get() };
    let sender_rate = |of: &SenderRate| pb::SenderRate { sender: of.sender.to_string(), rate: Some(rate(of.rate)) };
    pb::Tenant {
        tenant_id: tenant.id.as_str().into(),
        display_name: tenant.name.as_ref().into(),
        rate: tenant.rate.map(rate),
        ingress_rate: tenant.ingress_rate.map(rate),
        outstanding_max: tenant.outstanding_max,
        caps: tenant.caps.iter().map(cap_to_pb).collect(),
        windows: tenant.windows.iter().map(|rule| window_rule_to_pb(rule)).collect(),
        routes: tenant.routes.iter().map(|rule| route_to_pb(rule)).collect(),
        sender_rates: tenant.sender_rates.iter().map(sender_rate).collect(),
        time_zone: tenant.time_zone.as_deref().unwrap_or_default().into(),
        quotas: tenant.quotas.iter().map(quota_to_pb).collect(),
        stop_words: tenant.stop_words.iter().map(|word| word.to_string()).collect(),
        start_words: tenant.start_words.iter().map(|word| word.to_string()).collect(),
        sender_pools: tenant.sender_pools.iter().map(sender_pool_to_pb).collect(),
        created_at: Some(moment_to_pb(tenant.created_at)),
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
        expires_at: key.expires_at.map(moment_to_pb),
    }
}
