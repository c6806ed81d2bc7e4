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

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_account_calls_as_the_readme_says() {
    let port = free_port();
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["simulate", "twilio-voice", "--account", "AC0123", "--secret", "token", "--doubled", "0.1"])
        .args(["--ring", "300ms", "--heard", "100ms", "--thinks", "50ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    let endpoint = first.strip_prefix("listening on ").unwrap();
    let settings = format!(
        "[receive]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n[[provider]]\nid = \"calls\"\n\
         kind = \"twilio-voice\"\nendpoint = \"{endpoint}\"\naccount_sid = \"AC0123\"\nauth_token = \"token\"\n\
         callers = [\"+15005550006\"]\ncalls_per_s = 20\n"
    );
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let client = jobs(&service);
    let say = pb::SayNode { text: "hello".into(), repeats: 1 };
    let node = pb::FlowNode { act: Some(pb::flow_node::Act::Say(say)), next: String::new() };
    let flow = pb::CallFlow { start: "a".into(), nodes: [("a".to_owned(), node)].into(), ..pb::CallFlow::default() };
    let source = Some(pb::call_content::Source::InlineFlow(flow));
    let content = pb::CallContent { source, ..pb::CallContent::default() };
    let spec = pb::JobSpec {
        content: Some(pb::job_spec::Content::Call(content)),
        class: pb::Class::Notification.into(),
        ..pb::JobSpec::default()
    };
    let numbers = ["+8613800000008".to_owned(), "+8613800000005".to_owned()];
    let ids = insist(&client, &batch("calls", spec, &numbers)).await;
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while watched.outcomes.len() < numbers.len() && watch.elapsed() < Duration::from_secs(60) {
        watched.follow(&client, Duration::from_millis(300)).await;
    }
    let fates = ids.iter().map(|id| watched.outcomes[id][0].clone()).collect::<Vec<_>>();
    let expected = [(pb::Fate::Completed, String::new()), (pb::Fate::Undelivered, "invalid_number".to_owned())];
    assert_eq!(fates, expected);
    let terminated = Command::new("kill").args(["-TERM", &simulator.id().to_string()]).status().unwrap();
    assert!(terminated.success());
    let last = said.next().unwrap().unwrap();
    let callbacks = last.rsplit("not answered, ").next().unwrap().split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(last.starts_with("2 messages: 2 taken") && callbacks >= 6, "{last}");
    assert!(simulator.wait().unwrap().success());
}
