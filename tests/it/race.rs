//! What people and callers want while ten thousand jobs are on their way: hundreds of opt-outs, cancellations,
//! replacements and moves, given by many at a time while the jobs leave. Whatever was answered before a job was claimed
//! binds it, also where another process dispatches than answers.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb::job_selector::By;
use postrider::pb::{self, Class, Fate};
use prost_types::Timestamp;

use crate::support::api::{self, Client, Watched};
use crate::support::service::{Backends, Service};

const PEOPLE: usize = 496;
/// Jobs for each of them, in as many rounds.
const EACH: usize = 20;
/// Acts that wait for their answer at the same time.
const HANDS: usize = 8;
/// How long after an answer a job may still reach the provider that was claimed before it. All ten thousand take ten
/// times as long.
const IN_FLIGHT: Duration = Duration::from_secs(2);
const PROVIDER: &str = "\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"0s\"\nreceipts = false\n\
                        window = 64\nrate = \"500/s\"\n";
const HOUR: i64 = 3_600;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_answered_before_the_claim_binds_embedded() {
    let service = Service::start(&Backends::Embedded, PROVIDER);
    whatever_was_answered_before_the_claim_binds(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_answered_before_the_claim_binds_on_servers() {
    let backends = Backends::servers();
    let service = Service::start(&backends, PROVIDER);
    let _dispatches_too = service.join(&backends, "dispatch,feed", PROVIDER);
    whatever_was_answered_before_the_claim_binds(&service).await;
}

/// What is done about the jobs of a person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Act {
    Nothing,
    OptOut,
    CancelRecipient,
    CancelKey,
    CancelJobs,
    Collapse,
    MoveRecipient,
    MoveJobs,
}

const ACTS: [Act; 8] = [
    Act::Nothing,
    Act::OptOut,
    Act::CancelRecipient,
    Act::CancelKey,
    Act::CancelJobs,
    Act::Collapse,
    Act::MoveRecipient,
    Act::MoveJobs,
];

/// A person, their jobs, and when what was done about them was answered.
struct Person {
    number: String,
    act: Act,
    jobs: Vec<String>,
    answered: UnixMicros,
    /// What replaced the jobs.
    instead: Vec<String>,
}

async fn whatever_was_answered_before_the_claim_binds(service: &Service) {
    let mut crowd = Crowd::new(service);
    let mut people = crowd.queue_up().await;
    crowd.until("some were sent", |watched| watched.outcomes.len() >= 200).await;
    // Everybody in turn, and so in the middle of the queue as well as at its end.
    let share = people.len().div_ceil(HANDS);
    join_all(people.chunks_mut(share).map(|people| crowd.act(people))).await;
    let acted_in = crowd.watch.elapsed();

    let moves = |person: &Person| matches!(person.act, Act::MoveRecipient | Act::MoveJobs);
    let ends: Vec<String> = people
        .iter()
        .filter(|person| !moves(person))
        .flat_map(|person| person.jobs.iter().chain(&person.instead))
        .cloned()
        .collect();
    crowd.until("what was not moved ends", |watched| ends.iter().all(|id| watched.outcomes.contains_key(id))).await;
    // What was moved and not sent before has an hour to wait: nothing of it comes in the time that all of it needs.
    crowd.watched.follow(&crowd.client, 2 * IN_FLIGHT).await;
    crowd.check(&people, acted_in);

    let now = Some(pb::schedule::Start::SendAt(crowd.in_secs(0)));
    for person in people.iter().filter(|person| moves(person)) {
        crowd.reschedule(By::Recipient(api::phone(&person.number)), now).await;
    }
    let moved: Vec<&String> = people.iter().filter(|person| moves(person)).flat_map(|person| &person.jobs).collect();
    crowd.until("what was moved comes", |watched| moved.iter().all(|id| watched.outcomes.contains_key(*id))).await;
    for id in moved {
        assert_eq!(crowd.watched.outcomes[id], [(Fate::Sent, String::new())], "once");
    }
}

/// A service and what is known of it.
struct Crowd<'a> {
    service: &'a Service,
    client: Client,
    clock: Clock,
    watch: postrider::domain::time::Stopwatch,
    watched: Watched,
}

impl<'a> Crowd<'a> {
    fn new(service: &'a Service) -> Self {
        let clock = Clock::system();
        Self { service, client: api::jobs(service), watch: clock.stopwatch(), clock, watched: Watched::default() }
    }

    /// Submits a job for everybody, round by round.
    async fn queue_up(&self) -> Vec<Person> {
        let person = |number: usize| Person {
            number: format!("+8613{number:09}"),
            act: ACTS[number % ACTS.len()],
            jobs: vec![],
            answered: UnixMicros::MAX,
            instead: vec![],
        };
        let mut people: Vec<Person> = (0..PEOPLE).map(person).collect();
        for round in 0..EACH {
            let numbers: Vec<String> = people.iter().map(|person| person.number.clone()).collect();
            let ids = self.submit(&format!("round-{round}"), &numbers, |index| format!("{index}-{round}")).await;
            people.iter_mut().zip(ids).for_each(|(person, id)| person.jobs.push(id));
        }
        people
    }

    /// Submits jobs that `name` gives a collapse key each; its first part is their cancel key.
    async fn submit(&self, key: &str, numbers: &[String], name: impl Fn(usize) -> String) -> Vec<String> {
        let mut request = api::batch(key, api::text(Class::Marketing, "member day"), numbers);
        for (index, item) in request.items.iter_mut().enumerate() {
            item.collapse_key = name(index);
            item.cancel_key = item.collapse_key.split('-').next().unwrap_or_default().to_owned();
        }
        api::insist(&self.client, &request).await
    }

    async fn act(&self, people: &mut [Person]) {
        for person in people {
            let ids = || pb::JobIds { job_ids: person.jobs.clone() };
            let name = person.number[5..].trim_start_matches('0');
            let name = if name.is_empty() { "0" } else { name }.to_owned();
            let later = || Some(pb::schedule::Start::SendAt(self.in_secs(HOUR)));
            match person.act {
                Act::Nothing => continue,
                Act::OptOut => api::opt_out(self.service, &person.number, pb::SuppressionScope::Brand).await,
                Act::CancelRecipient => self.cancel(By::Recipient(api::phone(&person.number))).await,
                Act::CancelKey => self.cancel(By::CancelKey(name)).await,
                Act::CancelJobs => self.cancel(By::Jobs(ids())).await,
                Act::Collapse => {
                    let numbers = vec![person.number.clone(); EACH];
                    let key = format!("instead-{name}");
                    person.instead = self.submit(&key, &numbers, |round| format!("{name}-{round}")).await;
                }
                Act::MoveRecipient => self.reschedule(By::Recipient(api::phone(&person.number)), later()).await,
                Act::MoveJobs => self.reschedule(By::Jobs(ids()), later()).await,
            }
            person.answered = self.clock.now();
        }
    }

    /// Checks what became of everybody's jobs, and that nothing left that was bound.
    fn check(&self, people: &[Person], acted_in: Duration) {
        let (mut sent, mut in_flight) = (HashMap::<Act, usize>::new(), 0);
        for person in people {
            for id in &person.instead {
                assert_eq!(self.watched.outcomes[id], [(Fate::Sent, String::new())], "the newest");
            }
            for id in &person.jobs {
                let ended = self.watched.outcomes.get(id).map_or(&[][..], |ended| &ended[..]);
                let (act, what) = (person.act, ended.first().map(|(fate, reason)| (*fate, reason.as_str())));
                assert!(ended.len() <= 1, "{act:?}: {ended:?}");
                match (act, what) {
                    (_, Some((Fate::Sent, _))) => {
                        *sent.entry(act).or_default() += 1;
                        let since = self.sent_at(id).since(person.answered);
                        assert!(since < IN_FLIGHT, "{act:?} was answered {since:?} before a job was sent");
                        in_flight += usize::from(!since.is_zero());
                    }
                    (Act::OptOut, Some((Fate::Suppressed, _)))
                    | (Act::CancelRecipient | Act::CancelKey | Act::CancelJobs, Some((Fate::Cancelled, "request")))
                    | (Act::Collapse, Some((Fate::Cancelled, "collapsed")))
                    | (Act::MoveRecipient | Act::MoveJobs, None) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let of_each = PEOPLE / ACTS.len() * EACH;
        for act in ACTS.into_iter().filter(|act| *act != Act::Nothing) {
            let sent = sent.get(&act).copied().unwrap_or(0);
            assert!(sent < of_each, "{act:?} came when all was sent: nothing was tried");
        }
        let mut sent: Vec<_> = sent.into_iter().collect();
        sent.sort_unstable();
        println!(
            "{} acts in {acted_in:?}; of {of_each} jobs each were sent before: {sent:?}; {in_flight} were in flight at \
             their answer",
            PEOPLE - PEOPLE / ACTS.len(),
        );
    }

    fn sent_at(&self, id: &str) -> UnixMicros {
        let at = self.watched.settled_at[id];
        UnixMicros::from_secs(at.seconds).plus(Duration::from_nanos(u64::try_from(at.nanos).unwrap()))
    }

    async fn cancel(&self, by: By) {
        let request = pb::CancelJobsRequest { selector: Some(pb::JobSelector { by: Some(by) }) };
        self.insist(async || self.client.clone().cancel_jobs(request.clone()).await).await;
    }

    async fn reschedule(&self, by: By, start: Option<pb::schedule::Start>) {
        let selector = Some(pb::JobSelector { by: Some(by) });
        let schedule = Some(pb::Schedule { start, ..pb::Schedule::default() });
        let request = pb::RescheduleJobsRequest { selector, schedule };
        self.insist(async || self.client.clone().reschedule_jobs(request.clone()).await).await;
    }

    /// Asks until it is answered: on a busy machine the queue may confirm too late, and says so.
    async fn insist<T>(&self, ask: impl AsyncFn() -> Result<T, tonic::Status>) {
        let watch = self.clock.stopwatch();
        while let Err(status) = ask().await {
            assert!(status.code() == tonic::Code::Unavailable && watch.elapsed() < PATIENCE, "{status:?}");
        }
    }

    fn in_secs(&self, secs: i64) -> Timestamp {
        Timestamp { seconds: self.clock.now().as_secs() + secs, nanos: 0 }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Watched) -> bool) {
        let watch = self.clock.stopwatch();
        while !done(&self.watched) {
            self.watched.follow(&self.client, Duration::from_millis(100)).await;
            assert!(watch.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        }
    }
}
