//! Routes of a tenant: what the API says and what rules are.

use std::str::FromStr;
use std::sync::Arc;

use super::cap::{each, kind, words};
use super::enums::{class, class_to_pb, kind_to_pb};
use super::spec::{LABEL_CHARS_MAX, labels};
use super::{Invalid, Problem, check_count, name, text};
use crate::domain::job::Kind;
use crate::domain::route::{ROUTE_WORDS_MAX, ROUTES_MAX, RouteRule};
use crate::pb;
use crate::policy::routes::Routes;

/// Checks the routes of a tenant, but for their pools.
pub(super) fn routes(raw: Vec<pb::TenantRoute>) -> Result<Vec<Arc<RouteRule>>, Invalid> {
    check_count("routes", raw.len(), ROUTES_MAX)?;
    let route = |(index, raw)| route(raw).map(Arc::new).map_err(|invalid: Invalid| invalid.at("routes", index));
    raw.into_iter().enumerate().map(route).collect()
}

fn route(raw: pb::TenantRoute) -> Result<RouteRule, Invalid> {
    let filter = raw.filter.unwrap_or_default();
    Ok(RouteRule {
        kinds: each("filter.kinds", &filter.kinds, kind)?,
        classes: each("filter.classes", &filter.classes, class)?,
        topics: words("filter.topics", filter.topics)?,
        senders: words("filter.senders", filter.senders)?,
        countries: parsed("countries", &raw.countries)?,
        prefixes: parsed("prefixes", &raw.prefixes)?,
        labels: labels(raw.labels)?,
        sender: text("sender", raw.sender, LABEL_CHARS_MAX)?,
        ..RouteRule::to(name("pool", &raw.pool)?)
    })
}

fn parsed<T: FromStr<Err: Into<Problem>>>(field: &str, raw: &[String]) -> Result<Vec<T>, Invalid> {
    check_count(field, raw.len(), ROUTE_WORDS_MAX)?;
    let one = |(index, text): (usize, &String)| {
        text.parse().map_err(|problem: T::Err| Invalid::new(format!("{field}[{index}]"), problem))
    };
    raw.iter().enumerate().map(one).collect()
}

/// Checks that the pools of a tenant's routes are there and carry what the routes name.
pub(crate) fn pools(rules: &[Arc<RouteRule>], routes: &Routes) -> Result<(), Invalid> {
    for (index, rule) in rules.iter().enumerate() {
        let kinds = if rule.kinds.is_empty() { Kind::ALL } else { &rule.kinds };
        let carries = |kind: &Kind| routes.carries(&rule.pool, *kind);
        // A route that names no kind binds those that its pool carries.
        let fits = if rule.kinds.is_empty() { kinds.iter().any(carries) } else { kinds.iter().all(carries) };
        if !fits {
            let known: Vec<_> = routes.names().iter().map(ToString::to_string).collect();
            return Err(Invalid::new("pool", Problem::NoPool(known.join(", ").into())).at("routes", index));
        }
    }
    Ok(())
}

/// Shows a route.
pub(super) fn route_to_pb(rule: &RouteRule) -> pb::TenantRoute {
    let owned = |words: &[Box<str>]| words.iter().map(|word| word.as_ref().into()).collect();
    pb::TenantRoute {
        filter: Some(pb::RuleFilter {
            classes: rule.classes.iter().map(|&class| class_to_pb(class).into()).collect(),
            kinds: rule.kinds.iter().map(|&kind| kind_to_pb(kind).into()).collect(),
            topics: owned(&rule.topics),
            senders: owned(&rule.senders),
        }),
        countries: rule.countries.iter().map(|country| country.as_str().into()).collect(),
        prefixes: rule.prefixes.iter().map(|prefix| prefix.as_str().into()).collect(),
        labels: rule.labels.iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect(),
        pool: rule.pool.as_str().into(),
        sender: rule.sender.as_ref().into(),
    }
}
