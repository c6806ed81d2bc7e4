//! `postrider top` against a running service, as scripts use it.

use std::process::{Command, Output};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::Class;
use serde_json::Value;

use crate::support::api;
use crate::support::service::{Backends, Service};

const JOBS: usize = 50;
/// A port of this machine that nobody listens on.
const NOBODY: &str = "127.0.0.1:9";
/// How long what was submitted may take to be shown.
const PATIENCE: Duration = Duration::from_secs(60);

fn top(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postrider")).arg("top").args(arguments).output().unwrap()
}

#[tokio::test]
async fn what_a_service_does_is_shown_once_for_scripts_and_for_people() {
    let provider =
        "[[provider]]\nid = \"carrier-a\"\nkind = \"simulated\"\nreceipt_after = \"1ms\"\nlatency = \"1ms\"\n";
    let service = Service::start(&Backends::Embedded, provider);
    let numbers = api::numbers(0, JOBS);
    api::insist(&api::jobs(&service), &api::batch("k", api::text(Class::Transactional, "hello"), &numbers)).await;
    let processes = format!("127.0.0.1:{},{NOBODY}", service.metrics_port());
    let once = ["--metrics", &processes, "--once", "--every", "100ms"];
    let (clock, mut shown) = (Clock::system(), Value::Null);
    let watch = clock.stopwatch();
    let delivered = |shown: &Value| shown["outcomes"].as_array().is_some_and(|all| all.iter().any(is_all_delivered));
    // The gauges of a provider follow within seconds.
    while !delivered(&shown) || shown["providers"][0]["link"] != "up" {
        assert!(watch.elapsed() < PATIENCE, "{shown:#}");
        let output = top(&[&once[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        shown = serde_json::from_slice(&output.stdout).unwrap();
    }
    assert_eq!(
        (&shown["queue_up"], &shown["away"][0]["process"]),
        (&Value::from(1.0), &Value::from(NOBODY)),
        "{shown:#}"
    );
    assert_eq!(
        (&shown["providers"][0]["provider"], &shown["providers"][0]["link"]),
        (&"carrier-a".into(), &"up".into())
    );
    assert_eq!(
        (&shown["tenants"][0]["tenant"], &shown["tenants"][0]["accepted"]),
        (&"default".into(), &(JOBS as f64).into())
    );
    let slowest = shown["slowest"].as_array().unwrap();
    assert!(slowest.iter().any(|row| row["what"] == "accept a job" && row["p99"].as_f64() > Some(0.0)), "{shown:#}");
    assert!(shown["lanes"].as_array().is_some_and(|lanes| !lanes.is_empty()), "{shown:#}");

    let text = String::from_utf8(top(&once).stdout).unwrap();
    for words in ["carrier-a", "delivered", "accept p99", "127.0.0.1:9 is away: "] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
}

fn is_all_delivered(row: &Value) -> bool {
    row["outcome"] == "delivered" && row["class"] == "transactional" && row["jobs"] == JOBS as f64
}

#[test]
fn where_nobody_answers_is_said_with_the_way_out() {
    let output = top(&["--metrics", NOBODY, "--once", "--every", "10ms"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(errors.contains(NOBODY) && errors.contains("metrics.listen"), "{errors}");
    let typo = top(&["--metrics", "localhost", "--once"]);
    assert_eq!(typo.status.code(), Some(64), "{}", String::from_utf8_lossy(&typo.stderr));
    let no_terminal = top(&["--metrics", NOBODY]);
    assert_eq!(no_terminal.status.code(), Some(64), "{}", String::from_utf8_lossy(&no_terminal.stderr));
    let help = String::from_utf8(top(&["--help"]).stdout).unwrap();
    for words in ["--once --json", "Keys:", "Exit code 69"] {
        assert!(help.contains(words), "{words} in:\n{help}");
    }
}
