//! The whole service between peers that we did not write: a Python gRPC client on one side, an SMSC from npm on the
//! other, RabbitMQ, Redis and PostgreSQL below.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use postrider::telemetry::metrics::TABLE;
use serde_json::Value;

use crate::support::peer;
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// 1 000 one by one, 10 batches of 100, 11 to the recipient who replies STOP.
const JOBS: usize = 2_011;
/// Recipients who reply STOP: each number that ends in 99.
const REPLIES: f64 = 21.0;

#[test]
fn every_job_of_a_python_client_reaches_its_outcome() {
    let smsc = Sink::start(&[
        "--throttle-every",
        "50",
        "--ids",
        "hex",
        "--refuse",
        "71=0x0B",
        "--state",
        "72=UNDELIV",
        "--mute",
        "73",
        "--mo",
        "99=STOP",
    ]);
    let timeouts = "binds = 2\nwindow = 200\nrate = \"5000/s\"\nresponse_timeout = \"3s\"\n";
    let settings = format!("[record]\nreceipt_deadline = \"10s\"\n{}", smpp_provider(smsc.port(), timeouts));
    let service = Service::start(&Backends::servers(), &settings);
    let report = python(&service);

    let jobs = report["jobs"].as_object().unwrap();
    assert_eq!(jobs.len(), JOBS);
    let mut wrong = Vec::new();
    for (id, job) in jobs {
        let (to, fate) = (job["to"].as_str().unwrap(), job["fate"].as_str().unwrap());
        if to != report["after_stop"]["to"] && fate != expected(to) {
            wrong.push(format!("{id} to {to}: {fate} ({}), expected {}", job["reason"], expected(to)));
        }
    }
    wrong.truncate(20);
    assert!(
        wrong.is_empty(),
        "other outcomes than expected:\n{}\nthe service said:\n{}",
        wrong.join("\n"),
        service.log()
    );

    watch_missed_nothing(&report);
    nothing_after_stop(&report, &smsc);
    handed_over_once(&smsc);
    metrics_tell_the_same(&report, &service);
    println!(
        "{JOBS} jobs in {:.1} s, the watch resumed {} times, {} replies",
        report["seconds"].as_f64().unwrap(),
        report["cuts"],
        report["signals"]
    );
    assert!(service.stop().as_secs() < 30);
}

/// What the SMSC's rules make of a number, by its last digits. What it never answers stays unknown, the number
/// that replies STOP has its message by then.
fn expected(to: &str) -> &'static str {
    match &to[to.len() - 2..] {
        "71" => "rejected",
        "72" => "undelivered",
        "73" => "unknown",
        _ => "delivered",
    }
}

fn watch_missed_nothing(report: &Value) {
    let jobs = report["jobs"].as_object().unwrap();
    let watched = report["watched"].as_object().unwrap();
    assert!(report["cuts"].as_u64().unwrap() >= 3, "the watch was resumed in the middle");
    for (id, job) in jobs {
        let fates = watched.get(id).unwrap_or_else(|| panic!("the watch missed the outcome of {id}"));
        assert_eq!(fates.as_array().unwrap(), &[job["fate"].clone()], "outcomes of {id} in the watch");
    }
    assert_eq!(watched.len(), jobs.len(), "jobs in the watch");
}

/// Whoever replied STOP got one message, and those submitted later were suppressed.
fn nothing_after_stop(report: &Value, smsc: &Sink) {
    let stop = &report["after_stop"];
    assert_eq!(stop["opted_out"], true, "the reply became an opt-out");
    let to = stop["to"].as_str().unwrap().trim_start_matches('+');
    let got: Vec<_> = smsc.taken().into_iter().filter(|submit| submit.to == to).collect();
    assert_eq!(got.iter().map(|submit| submit.text.as_str()).collect::<Vec<_>>(), ["before the stop"]);
    for id in stop["later"].as_array().unwrap() {
        let job = &report["jobs"][id.as_str().unwrap()];
        assert_eq!((&job["fate"], &job["reason"]), (&"suppressed".into(), &"opt_out".into()), "{id}");
    }
}

/// A throttle is no hand-over: whatever the SMSC took, it took once.
fn handed_over_once(smsc: &Sink) {
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for submit in smsc.taken().into_iter() {
        *taken.entry(submit.to).or_default() += 1;
    }
    let doubled: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "handed over more than once: {doubled:?}");
}

/// What Prometheus scrapes stands in the table of metrics, and counts what happened.
fn metrics_tell_the_same(report: &Value, service: &Service) {
    let lines = service.metrics();
    for line in &lines {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let known = TABLE.iter().any(|metric| metric.name == family || metric.name == name);
        assert!(known, "{name} is exported and stands in no table");
    }
    let sum = |start: &str| -> f64 {
        let values = lines.iter().filter(|line| line.starts_with(start)).map(|line| line.rsplit_once(' ').unwrap().1);
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    };
    let jobs = JOBS as f64;
    assert_eq!(sum("postrider_jobs_accepted_total{kind=\"sms\",class=\"marketing\"}"), jobs);
    assert_eq!(sum("postrider_tenant_jobs_accepted_total{tenant=\"default\"}"), jobs);
    assert_eq!(sum("postrider_jobs_finished_total{"), jobs);
    let suppressed = report["after_stop"]["later"].as_array().unwrap().len() as f64;
    assert_eq!(sum("postrider_jobs_suppressed_total{reason=\"opt_out\"}"), suppressed);
    assert_eq!(sum("postrider_optouts_total{kind=\"sms\",source=\"keyword\"}"), REPLIES);
    assert!(sum("postrider_attempts_total{provider=\"carrier-a\",verdict=\"throttled\"}") > 0.0);
    assert_eq!(sum("postrider_provider_up{provider=\"carrier-a\"}"), 1.0);
}

fn python(service: &Service) -> Value {
    let (root, python) = (PathBuf::from(env!("CARGO_MANIFEST_DIR")), peer::python());
    let has_grpc =
        Command::new(&python).args(["-c", "import grpc_tools"]).status().is_ok_and(|status| status.success());
    assert!(
        has_grpc,
        "{} has no grpcio-tools, and this test needs it for its client: run deploy/test.sh, which makes that \
         environment from tests/peers/requirements.txt",
        python.display()
    );
    let output = Command::new(&python)
        .arg(root.join("tests/peers/client.py"))
        .args(["--endpoint", &format!("127.0.0.1:{}", service.grpc_port()), "--proto"])
        .arg(root.join("proto"))
        .env("POSTRIDER_KEY", service.key())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the client failed:\n{errors}\nthe service said:\n{}", service.log());
    serde_json::from_slice(&output.stdout).unwrap()
}
