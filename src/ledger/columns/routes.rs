//! How routes are written: as JSON, so that SQL users can read them.

use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::missing;
use crate::domain::job::{Class, Kind};
use crate::domain::route::{Carrier, RouteRule};
use crate::ledger::LedgerError;

/// Writes routes.
pub(in crate::ledger) fn routes_json(rules: &[Arc<RouteRule>]) -> Value {
    rules
        .iter()
        .map(|rule| {
            json!({
                "kinds": rule.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
                "classes": rule.classes.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
                "topics": rule.topics,
                "senders": rule.senders,
                "countries": rule.countries.iter().map(|country| country.as_str()).collect::<Vec<_>>(),
                "prefixes": rule.prefixes.iter().map(|prefix| prefix.as_str()).collect::<Vec<_>>(),
                "carriers": rule.carriers.iter().map(|carrier| carrier.as_str()).collect::<Vec<_>>(),
                "labels": rule.labels,
                "pool": rule.pool.as_str(),
                "sender": rule.sender,
            })
        })
        .collect()
}

/// Reads routes.
pub(in crate::ledger) fn routes(value: &Value) -> Result<Vec<Arc<RouteRule>>, LedgerError> {
    let rule = |value| rule(value).map(Arc::new).ok_or_else(|| missing("route"));
    value.as_array().ok_or_else(|| missing("routes"))?.iter().map(rule).collect()
}

fn rule(value: &Value) -> Option<RouteRule> {
    let words = |field: &str| value.get(field)?.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    let texts = |field: &str| Some(words(field)?.into_iter().map(Into::into).collect());
    let label = |pair: &Value| Some((pair.get(0)?.as_str()?.into(), pair.get(1)?.as_str()?.into()));
    Some(RouteRule {
        kinds: words("kinds")?.into_iter().map(Kind::from_word).collect::<Option<_>>()?,
        classes: words("classes")?.into_iter().map(Class::from_word).collect::<Option<_>>()?,
        topics: texts("topics")?,
        senders: texts("senders")?,
        countries: parsed(words("countries")?)?,
        prefixes: parsed(words("prefixes")?)?,
        carriers: words("carriers")?.into_iter().map(Carrier::from_word).collect::<Option<_>>()?,
        labels: value.get("labels")?.as_array()?.iter().map(label).collect::<Option<_>>()?,
        pool: value.get("pool")?.as_str()?.parse().ok()?,
        // What an earlier version wrote names none.
        sender: value.get("sender").map_or(Some(""), Value::as_str)?.into(),
    })
}

fn parsed<T: FromStr>(words: Vec<&str>) -> Option<Vec<T>> {
    words.into_iter().map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_they_were_written() {
        let rule = RouteRule {
            kinds: vec![Kind::Sms],
            classes: vec![Class::Otp],
            topics: vec!["sale".into()],
            senders: vec!["品牌".into()],
            countries: vec!["CN".parse().unwrap()],
            prefixes: vec!["+86138".parse().unwrap()],
            carriers: vec![Carrier::ChinaMobile],
            labels: vec![("shop".into(), "42".into())],
            sender: "staff".into(),
            ..RouteRule::to("sms".parse().unwrap())
        };
        let rules = vec![Arc::new(rule), Arc::new(RouteRule::to("all".parse().unwrap()))];
        assert_eq!(routes(&routes_json(&rules)), Ok(rules));
        assert!(routes(&json!([{}])).is_err() && routes(&json!({})).is_err());
    }
}
