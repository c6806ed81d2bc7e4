//! How send windows are written: as JSON, with hours as people write them, so that SQL users can read them.

use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::missing;
use crate::domain::job::{Class, Kind, OnMissed};
use crate::domain::window::WindowRule;
use crate::ledger::LedgerError;

/// Writes window rules.
pub(in crate::ledger) fn windows_json(rules: &[Arc<WindowRule>]) -> Value {
    rules
        .iter()
        .map(|rule| {
            json!({
                "name": rule.name.as_str(),
                "classes": rule.classes.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
                "kinds": rule.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
                "topics": rule.topics,
                "senders": rule.senders,
                "pools": rule.pools.iter().map(|pool| pool.as_str()).collect::<Vec<_>>(),
                "hours": rule.hours.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "on_missed": rule.on_missed.as_str(),
            })
        })
        .collect()
}

/// Reads window rules.
pub(in crate::ledger) fn windows(value: &Value) -> Result<Vec<Arc<WindowRule>>, LedgerError> {
    let rule = |value| rule(value).map(Arc::new).ok_or_else(|| missing("window"));
    value.as_array().ok_or_else(|| missing("windows"))?.iter().map(rule).collect()
}

fn rule(value: &Value) -> Option<WindowRule> {
    let words = |field: &str| value.get(field)?.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    let texts = |field: &str| Some(words(field)?.into_iter().map(Into::into).collect());
    Some(WindowRule {
        name: value.get("name")?.as_str()?.parse().ok()?,
        classes: words("classes")?.into_iter().map(Class::from_word).collect::<Option<_>>()?,
        kinds: words("kinds")?.into_iter().map(Kind::from_word).collect::<Option<_>>()?,
        topics: texts("topics")?,
        senders: texts("senders")?,
        pools: parsed(words("pools")?)?,
        hours: parsed(words("hours")?)?,
        on_missed: OnMissed::from_word(value.get("on_missed")?.as_str()?)?,
    })
}

fn parsed<T: FromStr>(words: Vec<&str>) -> Option<Vec<T>> {
    words.into_iter().map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_come_back_from_json() {
        let rule = WindowRule {
            name: "office".parse().unwrap(),
            classes: vec![Class::Marketing, Class::Otp],
            kinds: vec![Kind::Call],
            topics: vec!["sale \"x\"".into()],
            senders: vec!["10690".into()],
            pools: vec!["fast".parse().unwrap()],
            hours: vec!["mon-fri 09:00-12:00 CN".parse().unwrap(), "14:00-24:00".parse().unwrap()],
            on_missed: OnMissed::Drop,
        };
        let bare = WindowRule { classes: vec![], kinds: vec![], pools: vec![], topics: vec![], ..rule.clone() };
        let rules = vec![Arc::new(rule), Arc::new(bare)];
        assert_eq!(windows(&windows_json(&rules)), Ok(rules));
        assert!(windows(&json!([{"name": "office"}])).is_err());
    }
}
