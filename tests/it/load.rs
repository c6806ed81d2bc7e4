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

#[track_caller]
fn check(backends: &str) {
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("result.json");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("load-tests/scenarios/smoke.toml");
    // An unoptimised build on a busy machine: what is measured here is the account, not the speed.
    let output = Command::new(env!("CARGO_BIN_EXE_postrider-load"))
        .arg("run")
        .arg(scenario)
        .args(["--scale", "0.2", "--backends", backends, "--postrider", env!("CARGO_BIN_EXE_postrider"), "--json"])
        .arg(&result)
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");

    // Each of the scenario's difficulties really came up.
    let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    let jobs = |path: &str| result.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    assert!(jobs("/account/accepted") > 1_000, "{result}");
    for what in ["ledger/outcomes/delivered", "ledger/outcomes/suppressed", "sink/stats/throttled"] {
        assert!(jobs(&format!("/account/{what}")) > 0, "no {what}: {result}");
    }
}
