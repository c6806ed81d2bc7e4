//! A poison job goes to the dead-letter queue alone, can be looked at and put back to work; and kills from outside send
//! nobody there.

use std::process::Command;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{Class, Fate, GetJobRequest, State};
use serde_json::Value;

use crate::support::api::{self, Client, Watched};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// Jobs of the poison one's frame, itself included.
const JOBS: usize = 20;
/// Which of them is poison.
const POISON: usize = 7;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(400);
/// How often to look whether the poison job is among the dead letters.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a service is killed from outside.
const KILLS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_dies_alone_and_is_put_back_to_work_on_the_embedded_backends() {
    poison(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_dies_alone_and_is_put_back_to_work_on_the_servers() {
    poison(&Backends::servers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_kills_dead_letter_nobody_on_the_embedded_backends() {
    kills(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_kills_dead_letter_nobody_on_the_servers() {
    kills(&Backends::servers()).await;
}

async fn poison(backends: &Backends) {
    let (clock, sink) = (Clock::system(), Sink::start(&[]));
    let service = Service::start(backends, &carrier(&sink));
    let client = api::jobs(&service);
    let numbers: Vec<_> = (0..JOBS).map(|item| format!("+8613{item:09}")).collect();
    let spec = api::at(api::text(Class::Notification, "kept secret"), clock.now().as_secs() + 6);
    let ids = api::insist(&client, &api::batch("poisoned", spec, &numbers)).await;
    service.kill();

    let (deaths, mut watched) = die_until_buried(&service, &client, &ids[POISON], &clock).await;
    assert!((15..=25).contains(&deaths), "it took {deaths} deaths");
    let others: Vec<_> = (0..JOBS).filter(|&item| item != POISON).collect();
    settle(&client, &mut watched, others.iter().map(|&item| &ids[item])).await;
    for &item in &others {
        let outcomes: Vec<_> = watched.outcomes[&ids[item]].iter().map(|(fate, _)| *fate).collect();
        assert_eq!((outcomes, handed(&sink, &numbers[item])), (vec![Fate::Sent], 1), "number {item}");
    }
    assert_eq!(handed(&sink, &numbers[POISON]), 0);

    let (letters, said) = letters(&service, &clock).await;
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    assert_eq!(letter["job_ids"], serde_json::json!([ids[POISON]]));
    assert!(!letter["expires_at"].is_null() && !letter["reason"].as_str().unwrap().is_empty(), "{letter}");
    assert!(!said.contains("8613") && !said.contains("kept secret"), "{said}");
    told_why(&client, &ids[POISON], &clock).await;

    service.kill();
    service.restart(None);
    let (nothing, _) = shell(&service, &["dead-letter", "redrive", &uuid::Uuid::nil().to_string()]);
    assert_eq!(nothing[0]["frames"], 0, "nobody is put back to work unasked");
    // The letter may have got a new id, and a moment in hand, when its owner was told; killed just then, the service leaves
    // both copies.
    let watch = clock.stopwatch();
    loop {
        let frames = shell(&service, &["dead-letter", "redrive", "--all"]).0[0]["frames"].as_u64().unwrap();
        assert!(frames <= 2, "{frames} letters of one job");
        if frames > 0 {
            break;
        }
        assert!(watch.elapsed() < PATIENCE, "the letter is gone");
        clock.pause(Duration::from_millis(200)).await;
    }
    settle(&client, &mut watched, [&ids[POISON]].into_iter()).await;
    assert_eq!(watched.outcomes[&ids[POISON]].len(), 1);
    assert_eq!(watched.outcomes[&ids[POISON]][0].0, Fate::Sent);
    assert_eq!(handed(&sink, &numbers[POISON]), 1);
    // A copy that was in hand then ends when it is looked after.
    let watch = clock.stopwatch();
    while !shell(&service, &["dead-letter", "inspect"]).0.is_empty() {
        assert!(watch.elapsed() < PATIENCE, "a letter stays");
        clock.pause(Duration::from_millis(200)).await;
    }
    assert_eq!(handed(&sink, &numbers[POISON]), 1);
}

/// Starts the service again and again until the job that kills it is among the dead letters; returns how often it died.
async fn die_until_buried(service: &Service, client: &Client, poison: &str, clock: &Clock) -> (usize, Watched) {
    let (mut deaths, mut watched) = (0, Watched::default());
    let watch = clock.stopwatch();
    loop {
        service.restart_poisoned(poison);
        let mut looked = clock.stopwatch();
        while !service.ended() {
            watched.follow(client, Duration::from_millis(100)).await;
            if looked.elapsed() > LOOK_EVERY {
                if try_shell(service, &["dead-letter", "inspect"]).is_ok_and(|(letters, _)| !letters.is_empty()) {
                    return (deaths, watched);
                }
                looked = clock.stopwatch();
            }
            assert!(watch.elapsed() < PATIENCE, "{deaths} deaths; the service said:\n{}", service.log());
        }
        deaths += 1;
    }
}

/// Returns the letters; what the service has in hand at the moment, to look after it, is there a moment later.
async fn letters(service: &Service, clock: &Clock) -> (Vec<Value>, String) {
    let watch = clock.stopwatch();
    loop {
        let (letters, said) = shell(service, &["dead-letter", "inspect"]);
        if !letters.is_empty() {
            return (letters, said);
        }
        assert!(watch.elapsed() < PATIENCE, "the letter is gone");
        clock.pause(Duration::from_millis(200)).await;
    }
}

/// The owner of a dead job learns why it does not move.
async fn told_why(client: &Client, job: &str, clock: &Clock) {
    let watch = clock.stopwatch();
    loop {
        let request = GetJobRequest { job_id: job.to_owned(), ..GetJobRequest::default() };
        let shown = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
        let told = shown.events.iter().any(|event| {
            matches!(&event.what,
            Some(postrider::pb::event::What::StateChange(change)) if change.reason == "dead_letter")
        });
        if told {
            assert_eq!(shown.state(), State::Scheduled);
            return;
        }
        assert!(watch.elapsed() < PATIENCE, "nobody was told: {shown:?}");
        clock.pause(Duration::from_millis(200)).await;
    }
}

/// Kills while nothing can be handed over: what waits for a provider is in hand at every kill, and none of it is at
/// fault. Then the provider comes, and all of it goes out.
async fn kills(backends: &Backends) {
    let (clock, sink) = (Clock::system(), Sink::start(&["--refuse-binds", "100000"]));
    let service = Service::start(backends, &carrier(&sink));
    let client = api::jobs(&service);
    let mut watched = Watched::default();
    let mut ids = Vec::new();
    for kill in 0..KILLS {
        if kill % 3 == 0 {
            let numbers: Vec<_> = (0..10).map(|item| format!("+8613{kill:02}{item:07}")).collect();
            let spec = api::text([Class::Otp, Class::Transactional][kill % 2], "hello");
            ids.extend(api::insist(&client, &api::batch(&format!("batch-{kill}"), spec, &numbers)).await);
        }
        clock.pause(Duration::from_millis(150)).await;
        service.kill();
        service.restart(None);
    }
    sink.say("set refuse-binds 0");
    settle(&client, &mut watched, ids.iter()).await;
    for id in &ids {
        let outcomes = &watched.outcomes[id];
        assert!(outcomes.len() == 1 && outcomes[0].0 == Fate::Sent, "{id}: {outcomes:?}");
    }
    assert_eq!(shell(&service, &["dead-letter", "inspect"]).0, Vec::<Value>::new(), "nobody was at fault");
}

fn carrier(sink: &Sink) -> String {
    smpp_provider(sink.port(), "receipts = false\nresponse_timeout = \"4s\"\nreconnect_delay = \"100ms\"\n")
}

fn handed(sink: &Sink, number: &str) -> usize {
    sink.taken().iter().filter(|submit| format!("+{}", submit.to) == number).count()
}

async fn settle<'a>(client: &Client, watched: &mut Watched, ids: impl Iterator<Item = &'a String> + Clone) {
    let watch = Clock::system().stopwatch();
    while !ids.clone().all(|id| watched.outcomes.contains_key(id)) {
        assert!(
            watch.elapsed() < PATIENCE,
            "not settled: {:?}",
            ids.filter(|id| !watched.outcomes.contains_key(*id)).collect::<Vec<_>>()
        );
        watched.follow(client, Duration::from_millis(500)).await;
    }
}

/// Runs a command that must succeed; returns its lines, and all that it said.
fn shell(service: &Service, line: &[&str]) -> (Vec<Value>, String) {
    try_shell(service, line).unwrap_or_else(|said| panic!("{line:?}: {said}"))
}

/// Runs a command; returns its lines and all that it said, or what it said when it failed.
fn try_shell(service: &Service, line: &[&str]) -> Result<(Vec<Value>, String), String> {
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(line)
        .arg("--json")
        .env("POSTRIDER_ENDPOINT", format!("http://127.0.0.1:{}", service.grpc_port()))
        .env("POSTRIDER_KEY", service.key())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout.as_slice(), b"\n", &output.stderr].concat()).unwrap();
    if !output.status.success() {
        return Err(said);
    }
    let lines = String::from_utf8(output.stdout).unwrap();
    Ok((lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said))
}
