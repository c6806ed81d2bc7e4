//! Rules about jobs that wait, against a running service and ten thousand of them: taken back, moved, replaced. Every job
//! claimed after the answer obeys, through a kill; another tenant's jobs are not touched.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::job_selector::By;
use postrider::pb::{self, CancelJobsRequest, Class, Fate, JobFilter, JobSelector, RescheduleJobsRequest, Schedule};
use prost_types::Timestamp;

use crate::support::api::{self, Client, Watched, numbers};
use crate::support::service::{Backends, Service};

/// Jobs in a group; four groups wait for the provider at the same time.
const GROUP: usize = 2_500;
/// How many can be with the provider at a time, so that many and no more leave after an answer.
const WINDOW: usize = 64;
const HOUR: i64 = 3_600;

/// Takes ten thousand jobs in about ten seconds, and answers at once.
fn provider() -> String {
    format!(
        "\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"0s\"\nreceipts = false\nwindow = {WINDOW}\n\
         rate = \"1000/s\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_claimed_after_the_answer_obeys_embedded() {
    every_job_claimed_after_the_answer_obeys(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_claimed_after_the_answer_obeys_on_servers() {
    every_job_claimed_after_the_answer_obeys(&Backends::servers()).await;
}

async fn every_job_claimed_after_the_answer_obeys(backends: &Backends) {
    let service = Service::start(backends, &provider());
    let client = api::jobs(&service);
    let mut run = Run { service, client, clock: Clock::system(), watched: Watched::default() };
    let groups = run.queue_up().await;
    let cancelled = run.cancel(By::CampaignId("cancel".into())).await;
    let (waiting, claimed) = (cancelled.waiting.unwrap(), cancelled.claimed.unwrap());
    assert_eq!((waiting + claimed, cancelled.more), (GROUP as u64, false));
    assert!(waiting > 0, "the provider was faster than the cancellation: nothing was tried");
    let cancelled_at = run.clock.now().0;
    let moved = run.reschedule(By::CampaignId("move".into()), run.in_secs(HOUR)).await;
    assert_eq!(moved.waiting.unwrap() + moved.claimed.unwrap(), GROUP as u64);
    let moved_at = run.clock.now().0;

    // What is not bound goes on; what is taken back ends; what was moved waits.
    run.until("the others end", |watched| ended(watched, &groups["stay"]) && ended(watched, &groups["cancel"])).await;
    for id in &groups["stay"] {
        assert_eq!(run.watched.outcomes[id], [(Fate::Sent, String::new())]);
    }
    let sent = run.check_cancelled(&groups["cancel"]);
    assert!(sent < GROUP, "all were sent");
    assert!(run.sent_after(&groups["cancel"], cancelled_at) <= WINDOW, "more left than were with the provider");
    assert!(run.sent_after(&groups["move"], moved_at) <= WINDOW, "more left than were with the provider");
    run.collapse_leaves_the_newest().await;

    // Earlier again: what was moved comes at once, an hour before its time.
    run.reschedule(By::CampaignId("move".into()), run.in_secs(0)).await;
    run.until("what was moved ends", |watched| ended(watched, &groups["move"])).await;
    for id in &groups["move"] {
        assert_eq!(run.watched.outcomes[id], [(Fate::Sent, String::new())], "once");
    }
    run.the_agenda_obeys().await;
    run.another_tenant_touches_nothing().await;
}

/// A service and what is known of it.
struct Run {
    service: Service,
    client: Client,
    clock: Clock,
    watched: Watched,
}

fn ended(watched: &Watched, ids: &[String]) -> bool {
    ids.iter().all(|id| watched.outcomes.contains_key(id))
}

impl Run {
    /// Queues four groups of jobs, batch by batch in turn, and waits until some were sent.
    async fn queue_up(&mut self) -> HashMap<&'static str, Vec<String>> {
        let mut groups: HashMap<&str, Vec<String>> = HashMap::new();
        for round in 0..5 {
            for (index, group) in ["cancel", "move", "stay", "rest"].into_iter().enumerate() {
                let mut spec = api::text(Class::Transactional, "soon");
                spec.origin = Some(pb::Origin { campaign_id: group.to_owned(), ..pb::Origin::default() });
                let numbers = numbers((round * 4 + index) * GROUP / 5, GROUP / 5);
                let ids = api::insist(&self.client, &api::batch(&format!("{group}-{round}"), spec, &numbers)).await;
                groups.entry(group).or_default().extend(ids);
            }
        }
        self.heard_of(4 * GROUP as u64).await;
        self.until("some were sent", |watched| watched.outcomes.len() >= 500).await;
        groups
    }

    /// Waits until the ledger has so many jobs: what it has not heard of is not counted.
    async fn heard_of(&self, jobs: u64) {
        let watch = self.clock.stopwatch();
        while self.accepted().await < jobs {
            assert!(watch.elapsed() < Duration::from_secs(60), "the ledger does not hear of {jobs} jobs");
            self.clock.pause(Duration::from_millis(20)).await;
        }
    }

    async fn accepted(&self) -> u64 {
        self.client.clone().get_stats(pb::GetStatsRequest::default()).await.unwrap().into_inner().accepted
    }

    /// Of jobs that are replaced round by round, only those of the last round go.
    async fn collapse_leaves_the_newest(&mut self) {
        const KEYS: usize = 40;
        let due = self.in_secs(4).seconds;
        let mut rounds = Vec::new();
        for round in 0..5 {
            let mut request = api::batch(
                &format!("collapse-{round}"),
                api::at(api::text(Class::Transactional, "your parcel"), due),
                &numbers(900_000, KEYS),
            );
            for (key, item) in request.items.iter_mut().enumerate() {
                item.collapse_key = format!("parcel-{key}");
            }
            rounds.push(api::insist(&self.client, &request).await);
        }
        let all = rounds.concat();
        self.until("the parcels end", |watched| ended(watched, &all)).await;
        let last = rounds.pop().unwrap();
        for id in &last {
            assert_eq!(self.watched.outcomes[id], [(Fate::Sent, String::new())], "the newest");
        }
        for id in rounds.concat() {
            assert_eq!(self.watched.outcomes[&id], [(Fate::Cancelled, "collapsed".to_owned())], "replaced");
        }
    }

    /// Jobs that are due in hours end or come as told, and do not wait for their time; through a kill.
    async fn the_agenda_obeys(&mut self) {
        let due = self.in_secs(2 * HOUR).seconds;
        let before = self.accepted().await;
        let mut groups = Vec::new();
        for group in 0..3 {
            let mut spec = api::at(api::text(Class::Transactional, "later"), due);
            spec.origin = Some(pb::Origin { run_id: format!("run-{group}"), ..pb::Origin::default() });
            let numbers = numbers(910_000 + 1_000 * group, 300);
            groups.push(api::insist(&self.client, &api::batch(&format!("later-{group}"), spec, &numbers)).await);
        }
        self.heard_of(before + 900).await;
        let earlier = JobFilter { run_id: "run-0".into(), class: Class::Transactional.into(), ..JobFilter::default() };
        let answer = self.reschedule(By::Filter(earlier), self.in_secs(0)).await;
        assert_eq!((answer.waiting, answer.claimed), (Some(300), Some(0)));
        self.cancel(By::RunId("run-1".into())).await;
        self.service.kill();
        self.service.restart(None);
        let (first, second) = (groups[0].clone(), groups[1].clone());
        self.until("the agenda obeys", |watched| ended(watched, &first) && ended(watched, &second)).await;
        for id in &first {
            assert_eq!(self.watched.outcomes[id], [(Fate::Sent, String::new())]);
        }
        assert_eq!(self.check_cancelled(&second), 0);

        // One of many in an envelope goes its own way, and shows its new time at once.
        let one = groups[2][7].clone();
        let by_one = By::Jobs(pb::JobIds { job_ids: vec![one.clone()] });
        let answer = self.reschedule(by_one.clone(), self.in_secs(3 * HOUR)).await;
        assert_eq!((answer.waiting, answer.claimed, answer.more), (Some(1), Some(0), false));
        let shown = self.get(&one).await;
        assert!(shown.due_at.unwrap().seconds > due + HOUR / 2, "{shown:?}");
        self.reschedule(by_one.clone(), self.in_secs(0)).await;
        self.until("one of many ends", |watched| watched.outcomes.contains_key(&one)).await;
        assert!(!self.watched.outcomes.contains_key(&groups[2][8]), "its neighbours wait");
        let answer = self.cancel(by_one).await;
        assert_eq!((answer.waiting, answer.claimed), (Some(0), Some(1)));
        assert_eq!(self.watched.outcomes[&one], [(Fate::Sent, String::new())]);
    }

    /// What another tenant names is not there, or its own.
    async fn another_tenant_touches_nothing(&mut self) {
        let mut spec = api::at(api::text(Class::Transactional, "mine"), self.in_secs(HOUR).seconds);
        spec.origin = Some(pb::Origin { campaign_id: "mine".into(), ..pb::Origin::default() });
        let request = api::batch("mine", spec, &numbers(920_000, 1));
        let batch = self.client.submit_batch(request.clone()).await.unwrap().into_inner().batch_id;
        let ids = api::insist(&self.client, &request).await;
        let mut stranger = api::tenant(&self.service, "stranger", None).await;
        let everything = JobFilter::default();
        for by in [
            By::Jobs(pb::JobIds { job_ids: ids.clone() }),
            By::BatchId(batch),
            By::CampaignId("mine".into()),
            By::Recipient(api::phone(&numbers(920_000, 1)[0])),
            By::Filter(everything),
        ] {
            let selector = Some(JobSelector { by: Some(by) });
            let answer = stranger.cancel_jobs(CancelJobsRequest { selector: selector.clone() }).await.unwrap();
            let answer = answer.into_inner();
            assert_eq!((answer.waiting.unwrap_or(0), answer.claimed.unwrap_or(0)), (0, 0));
            let schedule = Some(Schedule::default());
            let answer = stranger.reschedule_jobs(RescheduleJobsRequest { selector, schedule }).await.unwrap();
            assert_eq!(answer.into_inner().waiting.unwrap_or(0), 0);
        }
        let shown = self.get(&ids[0]).await;
        assert_eq!((shown.state(), shown.outcome), (pb::State::Scheduled, None), "it waits as before");
    }

    async fn cancel(&self, by: By) -> pb::CancelJobsResponse {
        let selector = Some(JobSelector { by: Some(by) });
        self.client.clone().cancel_jobs(CancelJobsRequest { selector }).await.unwrap().into_inner()
    }

    async fn reschedule(&self, by: By, to: Timestamp) -> pb::RescheduleJobsResponse {
        let selector = Some(JobSelector { by: Some(by) });
        let schedule = Some(Schedule { start: Some(pb::schedule::Start::SendAt(to)), ..Schedule::default() });
        let request = RescheduleJobsRequest { selector, schedule };
        self.client.clone().reschedule_jobs(request).await.unwrap().into_inner()
    }

    async fn get(&self, id: &str) -> pb::Job {
        let request = pb::GetJobRequest { job_id: id.to_owned(), ..pb::GetJobRequest::default() };
        self.client.clone().get_job(request).await.unwrap().into_inner().job.unwrap()
    }

    fn in_secs(&self, secs: i64) -> Timestamp {
        Timestamp { seconds: self.clock.now().as_secs() + secs, nanos: 0 }
    }

    /// Checks that each of the jobs was sent or cancelled, and returns how many were sent.
    fn check_cancelled(&self, ids: &[String]) -> usize {
        let sent = |id: &&String| match &self.watched.outcomes[*id][..] {
            [(Fate::Sent, _)] => true,
            [(Fate::Cancelled, reason)] if reason == "request" => false,
            other => panic!("{id} ended as {other:?}"),
        };
        ids.iter().filter(sent).count()
    }

    /// Returns how many of the jobs were sent after a time in microseconds.
    fn sent_after(&self, ids: &[String], at: i64) -> usize {
        let sent = |id: &&String| {
            let settled_at = self.watched.settled_at.get(*id);
            let sent = self.watched.outcomes.get(*id).is_some_and(|outcomes| outcomes[0].0 == Fate::Sent);
            sent && settled_at.is_some_and(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000 > at)
        };
        ids.iter().filter(sent).count()
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Watched) -> bool) {
        let watch = self.clock.stopwatch();
        while !done(&self.watched) {
            self.watched.follow(&self.client, Duration::from_millis(100)).await;
            let patience = Duration::from_secs(120);
            assert!(watch.elapsed() < patience, "{what}: not in {patience:?}; it said:\n{}", self.service.log());
        }
    }
}
