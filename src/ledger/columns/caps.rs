//! Caps, as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::missing;
use crate::domain::cap::{CalendarUnit, CapRule, ClockUnit, Count, Mode, OnLimit, Per, Unit, Window};
use crate::domain::job::{Class, Kind};
use crate::ledger::LedgerError;

/// Writes caps as JSON, so that SQL users can read them.
pub(in crate::ledger) fn caps_json(caps: &[CapRule]) -> Value {
    caps.iter()
        .map(|rule| {
            json!({
                "name": rule.name.as_str(),
                "classes": rule.classes.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
                "kinds": rule.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
                "topics": rule.topics,
                "senders": rule.senders,
                "limit": rule.limit,
                "window": window_json(rule.window),
                "on_limit": rule.on_limit.as_str(),
                "per": rule.per.as_str(),
                "unit": rule.unit.as_str(),
                "count": rule.count.as_str(),
                "reserve": rule.reserve,
                "mode": rule.mode.as_str(),
            })
        })
        .collect()
}

/// Reads caps.
pub(in crate::ledger) fn caps(value: &Value) -> Result<Vec<CapRule>, LedgerError> {
    value
        .as_array()
        .ok_or_else(|| missing("caps"))?
        .iter()
        .map(|rule| cap(rule).ok_or_else(|| missing("cap")))
        .collect()
}

fn cap(rule: &Value) -> Option<CapRule> {
    let words = |field: &str| -> Option<Vec<Box<str>>> {
        rule.get(field)?.as_array()?.iter().map(|word| word.as_str().map(Into::into)).collect()
    };
    Some(CapRule {
        name: rule.get("name")?.as_str()?.parse().ok()?,
        classes: words("classes")?.iter().map(|word| Class::from_word(word)).collect::<Option<_>>()?,
        kinds: words("kinds")?.iter().map(|word| Kind::from_word(word)).collect::<Option<_>>()?,
        topics: words("topics")?,
        senders: words("senders")?,
        limit: rule.get("limit")?.as_u64()?.try_into().ok()?,
        window: window(rule)?,
        on_limit: word(rule, "on_limit", OnLimit::Defer, OnLimit::from_word)?,
        per: word(rule, "per", Per::Recipient, Per::from_word)?,
        unit: word(rule, "unit", Unit::Jobs, Unit::from_word)?,
        count: word(rule, "count", Count::Submitted, Count::from_word)?,
        reserve: rule.get("reserve").map_or(Some(0), Value::as_u64)?.try_into().ok()?,
        mode: word(rule, "mode", Mode::Enforce, Mode::from_word)?,
    })
}

fn window_json(window: Window) -> Value {
    let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    match window {
        Window::Rolling(length) => json!({"rolling_ms": millis(length)}),
        Window::Calendar(unit) => json!({"calendar": unit.as_str()}),
        Window::Clock(unit, offset) => json!({"clock": unit.as_str(), "offset_min": offset}),
        Window::FromFirst(length) => json!({"from_first_ms": millis(length)}),
        Window::Gap(length) => json!({"gap_ms": millis(length)}),
        Window::Bucket(refill) => json!({"bucket_ms": millis(refill)}),
    }
}

fn window(rule: &Value) -> Option<Window> {
    // The first version wrote the length of its only window beside the other fields.
    let window = rule.get("window").unwrap_or(rule);
    let length = |field: &str| window.get(field)?.as_u64().map(Duration::from_millis);
    let word = |field: &str| window.get(field)?.as_str();
    length("rolling_ms")
        .map(Window::Rolling)
        .or_else(|| length("from_first_ms").map(Window::FromFirst))
        .or_else(|| length("gap_ms").map(Window::Gap))
        .or_else(|| length("bucket_ms").map(Window::Bucket))
        .or_else(|| CalendarUnit::from_word(word("calendar")?).map(Window::Calendar))
        .or_else(|| {
            let offset = window.get("offset_min")?.as_i64()?.try_into().ok()?;
            ClockUnit::from_word(word("clock")?).map(|unit| Window::Clock(unit, offset))
        })
}

/// Reads a word of a rule; rules that were written before the field was have its default.
fn word<T>(rule: &Value, field: &str, default: T, parse: fn(&str) -> Option<T>) -> Option<T> {
    rule.get(field).map_or(Some(default), |word| parse(word.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_come_back_from_json() {
        let length = Duration::from_millis(86_400_001);
        let bare = CapRule::new("daily".parse().unwrap(), 0, Window::Rolling(length));
        let full = CapRule {
            classes: vec![Class::Marketing, Class::Notification],
            kinds: vec![Kind::Sms],
            topics: vec!["sale \"x\"".into()],
            limit: 200,
            on_limit: OnLimit::Drop,
            per: Per::RecipientTopic,
            unit: Unit::Segments,
            count: Count::Delivered,
            reserve: 7,
            mode: Mode::Shadow,
            ..bare.clone()
        };
        let windows = [
            Window::Calendar(CalendarUnit::Week),
            Window::Clock(ClockUnit::Hour, -570),
            Window::FromFirst(length),
            Window::Gap(length),
            Window::Bucket(length),
        ];
        let calls =
            CapRule { per: Per::RecipientCampaign, count: Count::Attempted, kinds: vec![Kind::Call], ..bare.clone() };
        let mut rules = vec![bare.clone(), full, calls];
        rules.extend(windows.map(|window| CapRule { window, ..bare.clone() }));
        assert_eq!(caps(&caps_json(&rules)), Ok(rules));
        assert!(caps(&json!([{"name": "daily"}])).is_err());
        let first = json!([{
            "name": "daily", "classes": [], "kinds": [], "topics": [], "senders": [], "limit": 0,
            "rolling_ms": 86_400_001, "on_limit": "defer",
        }]);
        assert_eq!(caps(&first), Ok(vec![bare]), "as the first version wrote them");
    }
}
