//! The command-line client against a running service, as people and scripts use it; and through it, what one tenant
//! can learn or do of another's.

use std::process::{Command, Output};
use std::time::Duration;

use postrider::domain::time::Clock;
use serde_json::Value;

use crate::support::service::{Backends, Service};

/// How long a job may take from the submit to its outcome.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell with a key in its environment.
struct Shell<'a> {
    service: &'a Service,
    key: String,
}

/// What a command did.
struct Done {
    code: Option<i32>,
    lines: Vec<Value>,
    errors: String,
}

impl Shell<'_> {
    fn run(&self, line: &[&str]) -> Done {
        let output = self.raw(line);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Done { code: output.status.code(), lines, errors: String::from_utf8(output.stderr).unwrap() }
    }

    fn raw(&self, line: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_postrider"))
            .args(line)
            .arg("--json")
            .env("POSTRIDER_ENDPOINT", format!("http://127.0.0.1:{}", self.service.grpc_port()))
            .env("POSTRIDER_KEY", &self.key)
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and returns its one line.
    #[track_caller]
    fn one(&self, line: &[&str]) -> Value {
        let done = self.run(line);
        assert_eq!(done.code, Some(0), "{line:?}: {}", done.errors);
        assert_eq!(done.lines.len(), 1, "{line:?}: {:?}", done.lines);
        done.lines.into_iter().next().unwrap()
    }

    /// Runs a command that must be refused with a gRPC code.
    #[track_caller]
    fn refused(&self, line: &[&str], code: &str) {
        let done = self.run(line);
        assert_eq!(done.code, Some(1), "{line:?}: {:?} {}", done.lines, done.errors);
        let error: Value = serde_json::from_str(done.errors.trim()).unwrap();
        assert_eq!(error["error"]["code"], code, "{line:?}: {error}");
    }
}

async fn settled(shell: &Shell<'_>, job: &str) -> Value {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    loop {
        let shown = shell.one(&["job", "get", job]);
        if !shown["outcome"].is_null() {
            return shown;
        }
        assert!(watch.elapsed() < PATIENCE, "no outcome: {shown}");
        clock.pause(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_job_is_submitted_shown_listed_and_cancelled() {
    let priced = "[[provider]]\nid = \"carrier-a\"\nkind = \"simulated\"\nprice = \"0.045 CNY\"\n";
    let service = Service::start(&Backends::Embedded, priced);
    let shell = Shell { service: &service, key: service.key() };
    let number = "+4915112345678";
    assert_eq!(shell.one(&["provider", "list"])["price"], "0.045 CNY");

    let accepted = shell.one(&["submit", "sms", "--to", number, "--text", "Hi {name}", "--param", "name=Anna"]);
    let id = accepted["job_id"].as_str().unwrap();
    assert_eq!(accepted["state"], "accepted");
    let shown = settled(&shell, id).await;
    assert!(shown["events"].as_array().is_some_and(|events| !events.is_empty()), "{shown}");
    assert_eq!(shown["state"], shown["outcome"]);

    let later = ["submit", "sms", "--to", number, "--text", "x", "--at", "+1h", "--campaign", "spring"];
    let waiting = shell.one(&later);
    assert_eq!(waiting["state"], "scheduled");
    let id = waiting["job_id"].as_str().unwrap().to_owned();
    assert!(shell.one(&["job", "get", &id])["outcome"].is_null());
    shell.one(&["job", "cancel", "--campaign", "spring"]);
    assert_eq!(settled(&shell, &id).await["outcome"], "cancelled");

    let listed = shell.run(&["job", "list", "--to", number]);
    assert_eq!((listed.code, listed.lines.len()), (Some(0), 2));
    assert_eq!(listed.lines[0]["job_id"], Value::from(id));

    let same = ["submit", "sms", "--to", number, "--text", "once", "--idempotency-key", "k1"];
    assert_eq!(shell.one(&same)["job_id"], shell.one(&same)["job_id"]);
    let other = ["submit", "sms", "--to", number, "--text", "twice", "--idempotency-key", "k1"];
    shell.refused(&other, "FAILED_PRECONDITION");
}

#[tokio::test]
async fn windows_are_set_shown_and_kept() {
    let service = Service::start(&Backends::Embedded, "");
    let shell = Shell { service: &service, key: service.key() };
    let window = "never-long=mon-sun 00:00-00:01;23:59-24:00,class=marketing";
    let shown = shell.one(&["tenant", "set", "default", "--window", window]);
    assert_eq!(shown["windows"][0], "never-long=00:00-00:01;23:59-24:00,class=marketing");
    let china = "+8613800000000";
    let sale = ["submit", "sms", "--class", "marketing", "--to", china, "--text", "x"];
    let narrow = [&sale[..], &["--window", "12:00-13:00"]].concat();
    shell.refused(&narrow, "INVALID_ARGUMENT");
    let local = [&sale[..], &["--local-time", "2099-12-24T10:00"]].concat();
    shell.refused(&local, "INVALID_ARGUMENT");
    let unknown = ["submit", "sms", "--class", "marketing", "--to", "+12025550100", "--text", "x"];
    shell.refused(&unknown, "INVALID_ARGUMENT");
    let zone = [&unknown[..], &["--time-zone", "America/New_York"]].concat();
    shell.one(&zone);
    assert_eq!(shell.run(&["tenant", "set", "default", "--window", "x=20:00-08:00"]).code, Some(64));
    let shown = shell.one(&["tenant", "set", "default", "--no-windows"]);
    assert_eq!(shown["windows"].as_array().map(Vec::len), Some(0));
    assert_eq!(shell.one(&sale)["state"], "accepted");
}

#[tokio::test]
async fn commands_say_what_went_wrong_by_their_exit_code() {
    let service = Service::start(&Backends::Embedded, "");
    let shell = Shell { service: &service, key: service.key() };
    shell.refused(&["submit", "sms", "--to", "+0123", "--text", "x"], "INVALID_ARGUMENT");
    shell.refused(&["job", "get", "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11"], "NOT_FOUND");
    shell.refused(&["clock", "advance", "1h"], "FAILED_PRECONDITION");
    assert_eq!(shell.run(&["job", "cancel"]).code, Some(64), "nothing named");
    let nobody = Shell { service: &service, key: "pr_0011223344556677_00".into() };
    nobody.refused(&["job", "list"], "UNAUTHENTICATED");
    service.kill();
    assert_eq!(shell.run(&["job", "list"]).code, Some(69), "no service");
}

#[tokio::test]
async fn one_tenant_learns_and_does_nothing_of_anothers() {
    let service = Service::start(&Backends::Embedded, "");
    let operator = Shell { service: &service, key: service.key() };
    let key = |tenant: &str, role: &str| {
        let made = operator.one(&["key", "create", "--tenant", tenant, "--role", role]);
        made["key"].as_str().unwrap().to_owned()
    };
    for tenant in ["acme", "rival"] {
        operator.one(&["tenant", "create", tenant, "--cap", "daily=3/24h,class=marketing"]);
    }
    let acme = Shell { service: &service, key: key("acme", "admin") };
    let rival = Shell { service: &service, key: key("rival", "admin") };
    let submit = ["submit", "sms", "--to", "+4915112345678", "--text", "x", "--at", "+1h", "--campaign", "spring"];
    let waiting = acme.one(&submit);
    let id = waiting["job_id"].as_str().unwrap();
    acme.one(&["job", "get", id]);

    // See.
    rival.refused(&["job", "get", id], "NOT_FOUND");
    assert!(rival.run(&["job", "list", "--campaign", "spring"]).lines.is_empty());
    assert!(rival.run(&["stats"]).lines.is_empty());
    rival.refused(&["stats", "--tenant", "acme"], "NOT_FOUND");
    rival.refused(&["key", "list", "--tenant", "acme"], "NOT_FOUND");
    rival.refused(&["tenant", "list"], "PERMISSION_DENIED");
    rival.refused(&["provider", "list"], "PERMISSION_DENIED");

    // Do.
    rival.one(&["job", "cancel", id]);
    rival.one(&["job", "cancel", "--campaign", "spring"]);
    rival.one(&["job", "cancel", "--to", "+4915112345678"]);
    rival.refused(&["tenant", "set", "acme", "--name", "x"], "NOT_FOUND");
    rival.refused(&["tenant", "set", "rival", "--no-rate"], "PERMISSION_DENIED");
    rival.refused(&["key", "create", "--role", "operator"], "PERMISSION_DENIED");
    rival.refused(&["key", "revoke", &acme.key[3..19]], "NOT_FOUND");
    rival.one(&["suppress", "add", "+4915112345678", "--scope", "everything"]);

    assert!(acme.one(&["job", "get", id])["outcome"].is_null(), "another tenant's cancel binds nothing");
    assert_eq!(acme.one(&["suppress", "check", "+4915112345678"])["suppressed"], false);
    assert_eq!(rival.one(&["suppress", "check", "+4915112345678"])["suppressed"], true);
    rival.one(&["suppress", "remove", "+4915112345678", "--scope", "everything"]);
    assert_eq!(rival.one(&["suppress", "check", "+4915112345678"])["suppressed"], false);

    // A viewer only looks, and a revoked key opens nothing.
    let viewer = Shell { service: &service, key: key("acme", "viewer") };
    viewer.one(&["job", "get", id]);
    viewer.refused(&submit, "PERMISSION_DENIED");
    viewer.refused(&["job", "cancel", id], "PERMISSION_DENIED");
    acme.one(&["key", "revoke", &viewer.key[3..19]]);
    viewer.refused(&["job", "get", id], "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_key_is_refused_from_the_moment_it_expires() {
    let service = Service::prepare(&Backends::Embedded, "", &["--clock", "virtual"]);
    service.restart(None);
    let shell = Shell { service: &service, key: service.key() };
    let past = shell.run(&["key", "create", "--role", "viewer", "--expires", "2001-01-01T00:00:00Z"]);
    assert!(past.errors.contains("expires_at is not in the future"), "{}", past.errors);
    // By the service's clock, which stands; the command line knows the machine's, which goes on.
    let now: jiff::Timestamp = shell.one(&["clock", "advance", "1s"])["now"].as_str().unwrap().parse().unwrap();
    let end = now + jiff::SignedDuration::from_hours(20 * 24);
    let made = shell.one(&["key", "create", "--role", "viewer", "--expires", &end.to_string()]);
    let viewer = Shell { service: &service, key: made["key"].as_str().unwrap().to_owned() };
    assert_eq!(viewer.run(&["job", "list"]).code, Some(0));
    let listed = shell.run(&["key", "list"]).lines;
    assert!(listed.iter().any(|key| key["expires_at"] == made["expires_at"]), "{listed:?}");
    assert_eq!(made["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(), end);
    let series = "postrider_key_expires_timestamp_seconds{key=\"api\"} ";
    shows(&service, &format!("{series}{}", end.as_second())).await;

    shell.one(&["clock", "advance", "20d"]);
    let refused = viewer.run(&["job", "list"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("expired at") && refused.errors.contains("UNAUTHENTICATED"), "{}", refused.errors);
    // It takes no place of the two live ones any more.
    for _ in 0..2 {
        shell.one(&["key", "create", "--role", "viewer"]);
    }
    shell.refused(&["key", "create", "--role", "viewer"], "FAILED_PRECONDITION");
    shows(&service, &format!("{series}inf")).await;
    shows(&service, "postrider_jobs_refused_total{reason=\"expired_key\"} 1").await;
}

/// Waits until a scrape shows a line.
async fn shows(service: &Service, line: &str) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    while !service.metrics().iter().any(|shown| shown == line) {
        assert!(watch.elapsed() < PATIENCE, "no {line} in {:#?}", service.metrics());
        clock.pause(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_provider_is_held_back_and_let_go() {
    let slow = "[[provider]]\nid = \"carrier-a\"\nkind = \"simulated\"\nlatency = \"3s\"\n";
    let service = Service::start(&Backends::Embedded, slow);
    let shell = Shell { service: &service, key: service.key() };
    // With nothing in flight it is drained at once.
    for (act, state) in [("pause", "paused"), ("resume", "up"), ("drain", "paused"), ("resume", "up")] {
        let shown = shell.one(&["provider", act, "carrier-a"]);
        assert_eq!((shown["provider_id"].as_str(), shown["state"].as_str()), (Some("carrier-a"), Some(state)), "{act}");
    }
    let accepted = shell.one(&["submit", "sms", "--to", "+4915112345678", "--text", "x"]);
    let becomes = async |wanted: &str| {
        let (clock, watch) = (Clock::system(), Clock::system().stopwatch());
        loop {
            let shown = shell.one(&["provider", "list"]);
            if shown["state"] == wanted || (wanted == "busy" && shown["in_flight"] != 0) {
                return;
            }
            assert!(watch.elapsed() < PATIENCE, "{shown} does not become {wanted}");
            clock.pause(Duration::from_millis(50)).await;
        }
    };
    becomes("busy").await;
    assert_eq!(shell.one(&["provider", "drain", "carrier-a"])["state"], "draining");
    becomes("paused").await;
    settled(&shell, accepted["job_id"].as_str().unwrap()).await;
    assert_eq!(shell.one(&["provider", "resume", "carrier-a"])["state"], "up");
    shell.refused(&["provider", "pause", "nobody"], "NOT_FOUND");
    let moved = shell.one(&["provider", "reassign-sender", "li", "chen"]);
    assert_eq!(
        (moved["to"].as_str(), moved["jobs"].as_u64(), moved["recipients"].as_u64()),
        (Some("chen"), Some(0), Some(0))
    );
}

/// Flows are checked and drawn without a service; the exit code says what a script needs.
#[test]
fn a_flow_is_checked_and_drawn_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.toml", "start = \"hi\"\n[nodes.hi]\nsay = { text = \"Hello {name}\" }\n");
    let circle = file("circle.toml", "start = \"hi\"\n[nodes.hi]\nsay = { text = \"Hello\" }\nnext = \"hi\"\n");
    let run = |line: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_postrider")).arg("flow").args(line).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, drawn, errors) = run(&["draw", &good]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(drawn.starts_with("flowchart") && drawn.contains("Hello"), "{drawn}");
    let (code, said, _) = run(&["check", "--json", &good, &circle]);
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, said.len()), (Some(1), 2), "the worst of them: {said:?}");
    let (code, drawn, errors) = run(&["draw", &circle]);
    assert_eq!((code, drawn.as_str()), (Some(1), ""));
    assert!(errors.contains("circle.toml"), "{errors}");
    assert_eq!(run(&["check", "/nowhere/to/be/found.toml"]).0, Some(64));
}
