//! The simulated SMSC against an ESME that we did not write, against ours, and as people start it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use postrider::channel::{Answer, News};
use postrider::domain::time::Clock;
use postrider::pb;
use postrider::shutdown::Tasks;
use postrider::simulator::smpp::{Account, Smsc};
use postrider::simulator::{Behaviour, Receipts};
use serde_json::Value;

use crate::support::api::{Watched, batch, insist, jobs, text};
use crate::support::cloud::{script, short, words};
use crate::support::peer;
use crate::support::route::{PATIENCE, Rig, handover, settings};
use crate::support::service::{Backends, Service, smpp_provider};

fn account() -> Account {
    Account { system_id: "postrider".into(), password: "secret".into(), ..Account::default() }
}

fn behaviour(receipts: Receipts) -> Behaviour {
    let receipts = Receipts { after: Duration::from_millis(50), ..receipts };
    Behaviour { latency: Duration::from_millis(5), receipts: Some(receipts), ..Behaviour::default() }
}

async fn smsc(account: Account, behaviour: Behaviour) -> (Smsc, Tasks) {
    let tasks = Tasks::new();
    let listen = ([127, 0, 0, 1], 0).into();
    let smsc = Smsc::start(account, listen, (behaviour, 7), &tasks, &Clock::system()).await.unwrap();
    (smsc, tasks)
}

/// Lets PyPI smpplib hand over so many texts.
async fn smpplib(port: u16, password: &'static str, count: usize) -> Value {
    tokio::task::spawn_blocking(move || {
        let (root, python) = (std::path::Path::new(env!("CARGO_MANIFEST_DIR")), peer::python());
        let arguments = [port.to_string(), "postrider".into(), password.into(), count.to_string()];
        let output = Command::new(&python).arg(root.join("tests/peers/esme.py")).args(arguments).output();
        let output =
            output.unwrap_or_else(|error| panic!("{}: {error}: run deploy/test.sh, which makes it", python.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_we_did_not_write_binds_submits_and_gets_its_receipts() {
    let (smsc, tasks) = smsc(account(), behaviour(Receipts::default())).await;
    let port = smsc.address().port();
    let seen = smpplib(port, "secret", 20).await;
    let ids = |list: &str| {
        let mut ids: Vec<_> = seen[list].as_array().unwrap().iter().map(|one| one["id"].clone().to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("submitted").len(), 20, "{seen}");
    assert_eq!(ids("submitted"), ids("receipts"), "{seen}");
    let receipt = &seen["receipts"][0];
    assert_eq!(receipt["state"], 2);
    assert!(receipt["text"].as_str().unwrap().contains("stat:DELIVRD"), "{receipt}");
    assert!(smsc.messages().iter().all(|(message, _)| message.text == "你好" && message.from == "10690000"));
    assert_eq!(smpplib(port, "geheim", 1).await, serde_json::json!({"bind": 14}), "ESME_RINVPASWD");
    assert_eq!((smsc.stats().binds_peak, smsc.stats().binds_refused), (1, 1));

    let refusing = Behaviour { refused: 1.0, ..behaviour(Receipts::default()) };
    smsc.behave(refusing);
    assert_eq!(smpplib(port, "secret", 3).await["statuses"], serde_json::json!([11, 11, 11]), "ESME_RINVDSTADR");
    assert_eq!(tasks.finish(&Clock::system(), PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_route_takes_what_it_does_for_what_it_means() {
    let doubled = behaviour(Receipts { doubled: 1.0, early: 0.5, undelivered: 0.5, ..Receipts::default() });
    let (smsc, tasks) = smsc(account(), doubled).await;
    let mut rig = Rig::start(settings(smsc.address().port())).await;
    let answers = rig.submit((0..40).map(|number| handover(number, "hello")).collect()).await;
    assert!(words(&answers).iter().all(|word| *word == "taken"), "{answers:?}");
    let mut receipts = 0;
    while receipts < 80 {
        receipts += usize::from(matches!(rig.news().await, News::Receipt(_)));
    }
    let waited = rig.clock.timeout(PATIENCE, async {
        while smsc.stats().letters_taken < 80 {
            rig.clock.pause(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("each receipt is thanked for");
    smsc.write("8613800000000", "10690", "退订");
    let News::Reply(reply) = rig.news().await else { panic!("no reply") };
    assert_eq!(&*reply.text, "退订");

    let each = [("throttled", 0), ("refused", 1), ("unanswered", 2)];
    for (number, (word, which)) in (100..).zip(each) {
        let share = |of: usize| if of == which { 1.0 } else { 0.0 };
        let bad = Behaviour {
            throttled: share(0),
            refused: share(1),
            unanswered: share(2),
            ..behaviour(Receipts { missing: 1.0, ..Receipts::default() })
        };
        smsc.behave(bad);
        if word == "unanswered" {
            // The route waits its time-out for that: only the loss is looked at.
            let (sender, _answers) = tokio::sync::mpsc::unbounded_channel();
            postrider::channel::Channel::submit(&*rig.smpp, vec![handover(number, "x")], sender);
            let lost = rig.clock.timeout(PATIENCE, async {
                while smsc.stats().lost < 1 {
                    rig.clock.pause(Duration::from_millis(5)).await;
                }
            });
            lost.await.expect("an answer is lost");
            continue;
        }
        let answers = rig.submit(vec![handover(number, "x")]).await;
        assert_eq!(words(&answers), [word]);
        if word == "refused" {
            assert_eq!(answers, [Answer::Refused { code: "ESME_RINVDSTADR".into() }]);
        }
    }
    drop(rig);
    tasks.finish(&Clock::system(), PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_has_so_many_binds_and_a_rate() {
    let strict = Account { binds_max: 1, rate: 5, ..account() };
    let (smsc, tasks) = smsc(strict, behaviour(Receipts { missing: 1.0, ..Receipts::default() })).await;
    let one = Rig::start(settings(smsc.address().port())).await;
    let two = Rig::start_unbound(settings(smsc.address().port()));
    two.until(|smpp| smpp.noted(postrider::telemetry::metrics::LinkEvent::BindFailed) >= 2).await;
    assert_eq!((smsc.stats().binds, smsc.stats().binds_peak), (1, 1));
    let answers = one.submit((0..20).map(|number| handover(number, "hello")).collect()).await;
    let taken = words(&answers).into_iter().filter(|word| *word == "taken").count();
    // A second may end in between.
    assert!((5..=10).contains(&taken) && smsc.stats().second_peak == 5, "{taken} taken");
    one.finish().await;
    two.until(|smpp| postrider::channel::Channel::health(smpp).up).await;
    two.finish().await;
    assert_eq!(tasks.finish(&Clock::system(), PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_smsc_carries_the_jobs_of_a_service() {
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["simulate", "smpp", "--account", "postrider", "--secret", "secret", "--receipt-after", "50ms"])
        .args(["--undelivered", "0.5", "--doubled", "0.5", "--early", "0.2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    let port = first.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap();
    let settings = smpp_provider(port, "");
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let client = jobs(&service);
    let numbers: Vec<String> = (0..40).map(|number| format!("+8613800{number:06}")).collect();
    insist(&client, &batch("simulate", text(pb::Class::Transactional, "hello"), &numbers)).await;
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while watched.outcomes.len() < numbers.len() && watch.elapsed() < Duration::from_secs(60) {
        watched.follow(&client, Duration::from_millis(300)).await;
    }
    let fates: Vec<_> = watched.outcomes.values().map(|outcomes| outcomes[0].0).collect();
    let count = |wanted: pb::Fate| fates.iter().filter(|fate| **fate == wanted).count();
    let (delivered, undelivered) = (count(pb::Fate::Delivered), count(pb::Fate::Undelivered));
    assert!(delivered + undelivered == numbers.len() && delivered > 0 && undelivered > 0, "{fates:?}");
    service.stop();
    let terminated = Command::new("kill").args(["-TERM", &simulator.id().to_string()]).status().unwrap();
    assert!(terminated.success());
    let last = said.next().unwrap().unwrap();
    assert!(last.starts_with("40 messages: 40 taken, 0 throttled") && last.ends_with("1 binds, 0 refused"), "{last}");
    assert!(simulator.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_status_means_what_the_specification_says() {
    let (smsc, tasks) = smsc(account(), behaviour(Receipts { missing: 1.0, ..Receipts::default() })).await;
    let rig = Rig::start(settings(smsc.address().port())).await;
    let codes = [
        ("0x0B", "refused ESME_RINVDSTADR"),
        ("10", "refused ESME_RINVSRCADR"),
        ("0x58", "throttled"),
        ("0x14", "throttled"),
        ("0x08", "throttled"),
    ];
    let scripted: Vec<_> = (1..).zip(codes).map(|(number, (code, _))| (format!("49151{number:07}"), code)).collect();
    smsc.follow(script(&scripted));
    for (number, (code, expected)) in (1..).zip(codes) {
        assert_eq!(short(&rig.submit(vec![handover(number, "x")]).await), [expected], "{code}");
    }
    assert_eq!(short(&rig.submit(vec![handover(1_000, "x")]).await), ["taken"]);
    drop(rig);
    tasks.finish(&Clock::system(), PATIENCE).await;
}
