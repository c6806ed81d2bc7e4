//! Routes: `[[route]]` in the settings.

use std::str::FromStr;
use std::sync::Arc;

use super::caps::words;
use super::check::{invalid, parsed, word};
use super::error::{ConfigError, Reason};
use super::raw::RawRoute;
use crate::config::Provider;
use crate::domain::ids::{PoolId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::route::{Carrier, ROUTE_LABELS_MAX, ROUTE_WORDS_MAX, ROUTES_MAX, RouteRule};

/// A route of the settings. A tenant's own routes are asked first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HouseRoute {
    /// Whose jobs it binds; `None`: those of every tenant.
    pub tenant: Option<TenantId>,
    /// The rule.
    pub rule: Arc<RouteRule>,
}

/// Checks the routes; each must name a pool that a provider is in and that carries the kinds that the route names.
pub(super) fn routes(raw: &[RawRoute], providers: &[Provider]) -> Result<Vec<HouseRoute>, ConfigError> {
    if raw.len() > ROUTES_MAX {
        return Err(invalid("route", Reason::Range { min: 0, max: ROUTES_MAX as u64 }));
    }
    raw.iter().enumerate().map(|(index, raw)| route(index, raw, providers)).collect()
}

fn route(index: usize, raw: &RawRoute, providers: &[Provider]) -> Result<HouseRoute, ConfigError> {
    let key = |field: &str| format!("route[{index}].{field}");
    let tenant = match &*raw.tenant {
        "" => None,
        name => Some(parsed(&key("tenant"), name)?),
    };
    let labels: Vec<(Box<str>, Box<str>)> =
        raw.labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    if labels.len() > ROUTE_LABELS_MAX {
        return Err(invalid(&key("labels"), Reason::Range { min: 0, max: ROUTE_LABELS_MAX as u64 }));
    }
    let of = |field: &str, text: &String, all: &[Kind]| word(&key(field), text, all, Kind::as_str);
    let rule = RouteRule {
        kinds: each(&key("kinds"), &raw.kinds, |_, text| of("kinds", text, Kind::ALL))?,
        classes: each(&key("classes"), &raw.classes, |key, text| word(key, text, Class::ALL, Class::as_str))?,
        topics: words(&key("topics"), &raw.topics)?,
        senders: words(&key("senders"), &raw.senders)?,
        countries: each(&key("countries"), &raw.countries, |key, text| number(key, text))?,
        prefixes: each(&key("prefixes"), &raw.prefixes, |key, text| number(key, text))?,
        carriers: each(&key("carriers"), &raw.carriers, |key, text| word(key, text, Carrier::ALL, Carrier::as_str))?,
        labels,
        sender: sender(&key("sender"), &raw.sender)?,
        ..RouteRule::to(pool(&key("pool"), raw, providers)?)
    };
    Ok(HouseRoute { tenant, rule: Arc::new(rule) })
}

fn sender(key: &str, raw: &str) -> Result<Box<str>, ConfigError> {
    if raw.is_empty() {
        return Ok("".into());
    }
    Ok(words(key, &[raw.to_owned()])?.pop().unwrap_or_default())
}

fn pool(key: &str, raw: &RawRoute, providers: &[Provider]) -> Result<PoolId, ConfigError> {
    let pool: PoolId = parsed(key, &raw.pool)?;
    let mut kinds = providers.iter().filter(|provider| provider.pool == pool).map(|provider| &provider.kinds);
    // The providers of a pool carry the same kinds.
    let Some(carried) = kinds.next() else {
        let mut known: Vec<_> = providers.iter().map(|provider| provider.pool.as_str().to_owned()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(invalid(key, Reason::NoPool { known: known.join(", ") }));
    };
    match raw.kinds.iter().find(|kind| !carried.iter().any(|carried| carried.as_str() == **kind)) {
        Some(kind) => Err(invalid(key, Reason::PoolWithout(kind.clone()))),
        None => Ok(pool),
    }
}

fn each<T>(
    key: &str,
    raw: &[String],
    read: impl Fn(&str, &String) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    if raw.len() > ROUTE_WORDS_MAX {
        return Err(invalid(key, Reason::Range { min: 0, max: ROUTE_WORDS_MAX as u64 }));
    }
    raw.iter().map(|text| read(key, text)).collect()
}

fn number<T: FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error: T::Err| invalid(key, Reason::Type(error.to_string())))
}
