//! Caps that count what was delivered, in the whole service: whoever was not reached is asked again, whoever was reached
//! often enough is not; through a kill, and through a loss of limits.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, Fate, RehearseRequest, RuleVerdict};

use crate::support::api::{self, Client, Watched, numbers};
use crate::support::servers::{self, Redis};
use crate::support::service::{Backends, Service};

/// Two a day that arrive; about half of what is sent does not.
const SETTINGS: &str = r#"
[[cap]]
name = "twice"
limit = 2
window = "24h"
on_limit = "drop"
count = "delivered"

[[cap]]
name = "tries"
limit = 9
window = "24h"
on_limit = "drop"

[[provider]]
id = "sim"
kind = "simulated"
latency = "1ms"
receipt_after = "5ms"
undelivered = 0.5
response_timeout = "1s"
"#;
const PEOPLE: usize = 60;
const LIMIT: usize = 2;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn only_what_arrives_counts_embedded() {
    let mut run = Run::start(&Backends::Embedded);
    run.waves(3).await;
    run.killed_before_places_are_back().await;
    run.service.kill();
    std::fs::remove_dir_all(run.service.dir().join("data/limits")).unwrap();
    run.service.restart(None);
    run.after_a_loss().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_arrives_counts_on_servers() {
    let redis = Redis::start();
    let (queue, ledger) = (servers::rabbitmq().vhost(), servers::postgres().database());
    let mut run = Run::start(&Backends::Servers { queue, limits: redis.database(), ledger });
    run.waves(3).await;
    run.killed_before_places_are_back().await;
    redis.kill();
    redis.lose_data();
    redis.restart();
    run.after_a_loss().await;
}

struct Run {
    service: Service,
    client: Client,
    watched: Watched,
    people: Vec<String>,
    /// How often each was reached.
    reached: HashMap<String, usize>,
    wave: usize,
}

impl Run {
    fn start(backends: &Backends) -> Self {
        let service = Service::start(backends, SETTINGS);
        let (client, people) = (api::jobs(&service), numbers(0, PEOPLE));
        Self { service, client, watched: Watched::default(), people, reached: HashMap::new(), wave: 0 }
    }

    /// Sends to everybody, and waits for what becomes of it.
    async fn wave(&mut self) {
        self.wave += 1;
        let request =
            api::batch(&format!("wave-{}", self.wave), api::text(Class::Transactional, "hello"), &self.people);
        let jobs = api::insist(&self.client, &request).await;
        let watch = Clock::system().stopwatch();
        while !jobs.iter().all(|job| self.watched.outcomes.contains_key(job)) {
            self.watched.follow(&self.client, Duration::from_millis(100)).await;
            assert!(watch.elapsed() < PATIENCE, "no outcome; the service said:\n{}", self.service.log());
        }
        for (person, job) in self.people.iter().zip(&jobs) {
            let before = self.reached.get(person).copied().unwrap_or(0);
            match &self.watched.outcomes[job][..] {
                [(Fate::Delivered, _)] if before < LIMIT => *self.reached.entry(person.clone()).or_default() += 1,
                [(Fate::Undelivered, _)] if before < LIMIT => {}
                [(Fate::Suppressed, rule)] if before == LIMIT && rule == "twice" => {}
                other => panic!("wave {}: reached {before} times, now {other:?}", self.wave),
            }
        }
    }

    /// Waits until a rehearsal says of everybody what their receipts say.
    async fn places_are_back(&self) {
        let item = |person: &String| pb::BatchItem { recipient: Some(api::phone(person)), ..pb::BatchItem::default() };
        let items = self.people.iter().map(item).collect();
        let request = RehearseRequest { spec: Some(api::text(Class::Transactional, "hello")), items };
        let expected = |person: &String| match self.reached.get(person) {
            Some(&LIMIT) => (RuleVerdict::Suppress, "twice".to_owned()),
            _ => (RuleVerdict::Pass, String::new()),
        };
        let expected: Vec<_> = self.people.iter().map(expected).collect();
        let watch = Clock::system().stopwatch();
        loop {
            let said = self.client.clone().rehearse(request.clone()).await.unwrap().into_inner().items;
            let said: Vec<_> = said.iter().map(|item| (item.verdict(), item.rule.clone())).collect();
            if said == expected {
                return;
            }
            assert!(watch.elapsed() < PATIENCE, "{said:?}\nnot {expected:?}:\n{}", self.service.log());
            Clock::system().pause(Duration::from_millis(100)).await;
        }
    }

    async fn waves(&mut self, waves: usize) {
        for _ in 0..waves {
            self.wave().await;
            self.places_are_back().await;
        }
        let often = self.reached.values().filter(|times| **times == LIMIT).count();
        assert!(often > 0 && often < PEOPLE, "{often} of {PEOPLE} were reached twice: nothing was tried");
    }

    /// Whatever a process leaves undone, the next one does.
    async fn killed_before_places_are_back(&mut self) {
        self.wave().await;
        self.service.kill();
        self.service.restart(None);
        self.places_are_back().await;
    }

    /// Limits that lost their memory are given back what counts, and no more.
    async fn after_a_loss(&mut self) {
        let watch = Clock::system().stopwatch();
        // The first start of all found a memory without a past.
        while self.service.log().matches("limits are whole").count() < 2 {
            assert!(watch.elapsed() < PATIENCE, "limits are not whole:\n{}", self.service.log());
            Clock::system().pause(Duration::from_millis(100)).await;
        }
        self.places_are_back().await;
        self.wave().await;
        self.places_are_back().await;
    }
}
