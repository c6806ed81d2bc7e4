//! `postrider simulate` as people start it, and `postrider serve` against it.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb;

use crate::support::api::{Watched, batch, insist, jobs, put_template, template, text};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

/// Starts a simulator; returns what it says from then on, and where it listens.
fn simulate(account: &[&str], manners: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    let mut simulator = command.arg("simulate").args(account).args(manners).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let endpoint = said.next().unwrap().unwrap().strip_prefix("listening on ").unwrap().to_owned();
    (simulator, said, endpoint)
}

#[tokio::test]
async fn a_simulated_cloud_carries_the_jobs_of_a_service() {
    let port = free_port();
    let callback = format!("http://127.0.0.1:{port}/callback/cloud/a-secret-in-the-path");
    let (mut simulator, mut said, endpoint) = simulate(
        &["tencent-sms", "--account", "AKIDz8krb", "--secret", "geheim", "--callback", &callback],
        &[
            "--receipt-after",
            "50ms",
            "--undelivered",
            "0.5",
            "--error",
            "FailedOperation.PhoneNumberInBlacklist@+8613800000007",
        ],
    );
    let settings = format!(
        "[receive]\nlisten = \"127.0.0.1:{port}\"\n[[provider]]\nid = \"cloud\"\nkind = \"tencent-sms\"\n\
         endpoint = \"{endpoint}\"\nsecret_id = \"AKIDz8krb\"\nsecret_key = \"geheim\"\napp_id = \"1400000000\"\n\
         sign_name = \"x\"\ntemplate = \"1\"\ncallback_token = \"a-secret-in-the-path\"\n"
    );
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let client = jobs(&service);
    let numbers: Vec<String> = (0..40).map(|number| format!("+8613800{number:06}")).collect();
    insist(&client, &batch("simulate", text(pb::Class::Transactional, "hello"), &numbers)).await;
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while watched.outcomes.len() < numbers.len() && watch.elapsed() < Duration::from_secs(60) {
        watched.follow(&client, Duration::from_millis(300)).await;
    }
    let fates: Vec<_> = watched.outcomes.values().map(|outcomes| outcomes[0].0).collect();
    let delivered = fates.iter().filter(|fate| **fate == pb::Fate::Delivered).count();
    let undelivered = fates.iter().filter(|fate| **fate == pb::Fate::Undelivered).count();
    let rejected = watched
        .outcomes
        .values()
        .filter(|outcomes| outcomes[0].0 == pb::Fate::Rejected && outcomes[0].1.contains("PhoneNumberInBlacklist"));
    assert_eq!(rejected.count(), 1, "{:?}", watched.outcomes);
    assert!(delivered + undelivered == numbers.len() - 1 && delivered > 0 && undelivered > 0, "{fates:?}");
    let terminated = Command::new("kill").args(["-TERM", &simulator.id().to_string()]).status().unwrap();
    assert!(terminated.success());
    let last = said.next().unwrap().unwrap();
    assert!(last.starts_with("40 messages: 39 taken, 0 throttled, 0 refused, 0 failed, 1 answered"), "{last}");
    assert!(last.ends_with("39 callbacks taken"), "{last}");
    assert!(simulator.wait().unwrap().success());
}

/// Employees confirm some messages, as the simulator is told, and others not.
#[tokio::test]
async fn simulated_employees_confirm_or_do_not() {
    let (mut simulator, _said, endpoint) = simulate(
        &["wecom", "--account", "ww1", "--secret", "geheim", "--agent-id", "7"],
        &["--confirmed", "0.5", "--confirm-after", "1s"],
    );
    // Each message is one of its own.
    let settings = format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"wecom\"\nmessages = \"customers\"\nendpoint = \"{endpoint}\"\n\
         corp_id = \"ww1\"\nagent_id = 7\nsecret = \"geheim\"\nsender = \"zhang\"\nbatch_max = 1\n\
         confirm_within = \"4s\"\npoll_every = \"200ms\"\n"
    );
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let client = jobs(&service);
    put_template(&service, template("offer", "come and see")).await;
    let content = pb::TemplateContent { template: "offer".into(), ..Default::default() };
    let spec = pb::JobSpec {
        content: Some(pb::job_spec::Content::Template(content)),
        class: pb::Class::Marketing.into(),
        ..pb::JobSpec::default()
    };
    let item = |number: usize| {
        let wecom = Some(pb::WecomAddress { corp_id: "ww1".into(), external_userid: format!("wm{number}") });
        let recipient = pb::Recipient { wecom, time_zone: "Asia/Shanghai".into(), ..Default::default() };
        pb::BatchItem { recipient: Some(recipient), ..Default::default() }
    };
    let items = (0..20).map(item).collect();
    insist(&client, &pb::SubmitBatchRequest { idempotency_key: "posts".into(), spec: Some(spec), items }).await;
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while watched.outcomes.len() < 20 && watch.elapsed() < Duration::from_secs(60) {
        watched.follow(&client, Duration::from_millis(300)).await;
    }
    let ends: Vec<_> = watched.outcomes.values().flatten().collect();
    let count = |fate, reason: &str| ends.iter().filter(|end| end.0 == fate && end.1 == reason).count();
    let (delivered, expired) = (count(pb::Fate::Delivered, ""), count(pb::Fate::Expired, "not_confirmed"));
    assert!(delivered + expired == 20 && delivered > 0 && expired > 0, "{ends:?}");
    let terminated = Command::new("kill").args(["-TERM", &simulator.id().to_string()]).status().unwrap();
    assert!(terminated.success() && simulator.wait().unwrap().success());
}

#[test]
fn wrong_words_are_refused_with_what_may_be_said() {
    let said = |line: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_postrider")).arg("simulate").args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{line:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["twillio"]).contains("twilio"));
    assert!(said(&["twilio", "--throttled", "2"]).contains("between 0 and 1"));
    assert!(said(&["twilio", "--callback", "http://example.com/x"]).contains("loopback"));
    assert!(said(&["twilio", "--error", "21211"]).contains("CODE=SHARE"));
    assert!(said(&["twilio", "--error", "isv.OUT_OF_SERVICE=0.1"]).contains("a number such as 21211"));
    assert!(said(&["smpp", "--error", "0x00=0.1"]).contains("a command_status such as 0x14"));
    assert!(said(&["http", "--error", "200=0.1"]).contains("an HTTP status such as 503"));
}
