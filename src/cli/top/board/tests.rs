//! Boards of made-up scrapes.

use std::time::Duration;

use super::*;
use crate::cli::top::sample::Sample;
use crate::cli::top::scrape::Process;

const BEFORE: &str = "postrider_jobs_accepted_total{kind=\"sms\",class=\"otp\"} 100\n\
    postrider_attempts_total{provider=\"a\",verdict=\"sent\"} 100\n";
const FRONT: &str = "postrider_jobs_accepted_total{kind=\"sms\",class=\"otp\"} 140\n\
    postrider_lane_depth{class=\"otp\",pool=\"sms\"} 3\npostrider_lane_depth{class=\"marketing\",pool=\"sms\"} 7\n\
    postrider_accept_seconds_bucket{le=\"0.001\"} 90\npostrider_accept_seconds_bucket{le=\"0.01\"} 100\n\
    postrider_accept_seconds_bucket{le=\"+Inf\"} 100\npostrider_queue_up 1\n\
    postrider_jobs_refused_total{reason=\"rate\"} 4\npostrider_jobs_refused_total{reason=\"quota\"} 0\n\
    postrider_tenant_jobs_accepted_total{tenant=\"acme\"} 140\n";
const DISPATCH: &str = "postrider_attempts_total{provider=\"a\",verdict=\"sent\"} 160\n\
    postrider_attempts_total{provider=\"a\",verdict=\"refused\"} 10\npostrider_provider_up{provider=\"a\"} 1\n\
    postrider_provider_rate_limit{provider=\"a\"} 500\npostrider_provider_window_in_use{provider=\"a\"} 12\n\
    postrider_breaker_state{provider=\"a\"} 0\npostrider_provider_up{provider=\"b\"} 0\n\
    postrider_lane_depth{class=\"otp\",pool=\"sms\"} 3\npostrider_queue_up 0\n\
    postrider_submit_seconds_bucket{provider=\"a\",le=\"0.1\"} 50\n\
    postrider_submit_seconds_bucket{provider=\"a\",le=\"+Inf\"} 50\n\
    postrider_jobs_finished_total{kind=\"sms\",class=\"otp\",outcome=\"delivered\"} 60\n";

fn sweep(texts: [&str; 3]) -> Sweep {
    let process = |(index, text): (usize, &str)| Process {
        at: format!("10.0.0.{index}:9464").into(),
        said: if text.is_empty() { Err("connection refused".into()) } else { Ok(Sample::parse(text)) },
    };
    Sweep { processes: texts.into_iter().enumerate().map(process).collect() }
}

/// A front, a dispatcher and a process that is away, two seconds after one scrape of the others.
pub(in crate::cli::top) fn sample() -> Board {
    let (before, now) = (sweep([BEFORE, BEFORE, ""]), sweep([FRONT, DISPATCH, ""]));
    let lately = Change::new(Some(&before), &now, Duration::from_secs(2));
    board(lately, Change::new(None, &now, Duration::ZERO), &now)
}

#[test]
fn figures_and_tables_are_made_of_all_processes() {
    let shown = sample().to_json();
    for (name, value) in [
        ("accepted", json!(20.0)),
        ("handed_over", json!(35.0)),
        ("queue_up", json!(0.0)),
        ("oldest_due", Value::Null),
        (
            "lanes",
            json!([
                {"class": "marketing", "pool": "sms", "frames": 7.0},
                {"class": "otp", "pool": "sms", "frames": 3.0}
            ]),
        ),
        ("outcomes", json!([{"kind": "sms", "class": "otp", "outcome": "delivered", "jobs": 60.0, "rate": 30.0}])),
        ("stops", json!([{"what": "refused", "reason": "rate", "jobs": 4.0, "rate": 2.0}])),
        ("away", json!([{"process": "10.0.0.2:9464", "why": "connection refused"}])),
    ] {
        assert_eq!(shown[name], value, "{name} of {shown:#}");
    }
    let [a, b] = &shown["providers"].as_array().unwrap()[..] else { panic!("{shown:#}") };
    assert_eq!(
        (&a["link"], &a["breaker"], &a["handed_over"], &a["in_flight"]),
        (&json!("up"), &json!("closed"), &json!(35.0), &json!(12.0))
    );
    assert_eq!((&b["provider"], &b["link"], &b["may"]), (&json!("b"), &json!("down"), &Value::Null));
    assert_eq!(shown["slowest"][0]["what"], "accept a job");
    assert_eq!(shown["tenants"][0]["accepting"], json!(70.0));
}

#[test]
fn rows_are_sorted_by_number_or_by_text() {
    let mut lanes = sample().tables.swap_remove(0);
    let first = |table: &Table| table.rows[0][0].to_string();
    lanes.sort(2, false);
    assert_eq!(first(&lanes), "marketing");
    lanes.sort(2, true);
    assert_eq!(first(&lanes), "otp");
    lanes.sort(0, false);
    assert_eq!(first(&lanes), "marketing");
    let mut providers = sample().tables.swap_remove(1);
    providers.sort(3, false);
    assert_eq!(first(&providers), "a", "what is unknown comes last");
}

#[test]
fn numbers_are_short() {
    for (cell, shown) in [
        (Cell::Count(17.0), "17"),
        (Cell::Rate(1.55), "1.6/s"),
        (Cell::Rate(12_345.0), "12.3k/s"),
        (Cell::Count(4_500_000.0), "4.5M"),
        (Cell::Secs(0.0123), "12.3 ms"),
        (Cell::Secs(61.0), "61.0 s"),
        (Cell::Secs(3_600.0), "60 min"),
        (Cell::Unknown, "-"),
    ] {
        assert_eq!(cell.to_string(), shown, "{cell:?}");
    }
}
