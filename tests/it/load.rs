//! The load harness, run small: the service as a process of its own, under a little of everything, on both sets of
//! backends. What counts is that the account balances; see `load-tests/README.md`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_little_of_everything_balances_on_the_embedded_backends() {
    check("embedded");
}

#[test]
fn a_little_of_everything_balances_on_the_production_backends() {
    check("production");
}

#[test]
fn calls_balance_and_no_line_is_used_twice() {
    let (result, svg) = run("calls-smoke", &[]);
    let number = |path: &str| result.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let (lines, most) = (number("/calls/lines"), number("/calls/lines_most"));
    assert!(lines == 20.0 && (2.0..=lines).contains(&most) && number("/calls/looks") > 50.0, "{result}");
    // Four of ten press 1, and some are busy, decline or do not exist.
    assert!(number("/calls/follow_ups") > 10.0 && number("/calls/results/busy") > 0.0, "{result}");
    assert_eq!(number("/calls/follow_ups"), number("/account/ledger/follow_ups"));
    assert!(number("/calls/answer_seizure_ratio") > 0.5 && number("/calls/average_call_s") > 1.0, "{result}");
    assert!(svg.contains("lines of the trunk"), "{svg}");
}

#[track_caller]
fn check(backends: &str) {
    let (result, _) = run("smoke", &["--scale", "0.2", "--backends", backends]);
    // Each of the scenario's difficulties really came up.
    let jobs = |path: &str| result.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    assert!(jobs("/account/accepted") > 1_000, "{result}");
    for what in ["ledger/outcomes/delivered", "ledger/outcomes/suppressed", "sink/stats/throttled"] {
        assert!(jobs(&format!("/account/{what}")) > 0, "no {what}: {result}");
    }
}

/// Runs a scenario whose account must balance; returns the result and its plots.
#[track_caller]
fn run(scenario: &str, more: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("result.json");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("load-tests/scenarios/{scenario}.toml"));
    // An unoptimised build on a busy machine: what is measured here is the account, not the speed.
    let output = Command::new(env!("CARGO_BIN_EXE_postrider-load"))
        .arg("run")
        .arg(scenario)
        .args(more)
        .args(["--postrider", env!("CARGO_BIN_EXE_postrider"), "--json"])
        .arg(&result)
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    let svg = std::fs::read_to_string(result.with_extension("svg")).unwrap();
    (serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap(), svg)
}
