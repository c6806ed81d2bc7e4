//! What providers say becomes durable before they are answered.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::channel::call::Followed;
use crate::channel::call::runner::FollowUp;
use crate::config::Extension;
use crate::domain::call::CallReport;
use crate::domain::event::{Fate, Reply};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Content, Kind, Shared, samples};
use crate::domain::keys::space;
use crate::domain::recipient::Recipient;
use crate::domain::signal::{Signal, Told};
use crate::domain::suppression::{Scope, Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::ledger::sqlite::Sqlite;
use crate::ledger::{JobRow, Recording, Tenant};
use crate::limits;
use crate::queue::Delivery;
use crate::queue::embedded::{Embedded, Options};
use crate::queue::frame::Frame;
use crate::telemetry::exporter;

const FROM: &str = "+4915112345678";

/// Takes jobs that are to follow from calls only after it was asked so often in vain.
#[derive(Default)]
struct Busy {
    in_vain: u32,
    asked: AtomicU32,
}

impl FollowUps for Busy {
    fn submit<'a>(&'a self, _: &'a Followed) -> BoxFuture<'a, Result<(), NotFollowed>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if asked < self.in_vain { Err(NotFollowed::NotNow("the broker is away".into())) } else { Ok(()) }
        })
    }
}

/// Everything real, in a directory of its own.
struct Rig {
    limits: limits::embedded::Embedded,
    ledger: Sqlite,
    queue: Embedded,
    senders: Senders,
    sealer: Sealer,
    clock: Clock,
    follow_ups: Arc<Busy>,
    inbox: mpsc::Sender<Inbound>,
    record: mpsc::Receiver<Delivery>,
    tasks: Tasks,
    _dir: TempDir,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, tasks, sealer) = (Clock::system(), Tasks::new(), Sealer::ephemeral().unwrap());
        let ledger = Sqlite::open(&dir.path().join("ledger.db"), clock.clone()).unwrap();
        ledger.migrate().await.unwrap();
        for id in ["acme", "bright", "corner"] {
            ledger.put_tenant(&tenant(id)).await.unwrap();
        }
        let words = (vec!["Genug!".into()], vec!["wieder".into()]);
        let own = Tenant { stop_words: words.0, start_words: words.1, ..tenant("acme") };
        ledger.put_tenant(&own).await.unwrap();
        let limits = limits::embedded::Embedded::open(&dir.path().join("limits"), clock.now()).unwrap();
        assert!(limits.recovered(&limits.identity().await.unwrap()).await.unwrap());
        let queue = Embedded::open(&dir.path().join("queue"), Options::default(), &tasks, &clock).await.unwrap();
        queue.declare(&[]).await.unwrap();
        let record = queue.consume(QueueName::Record, 100).await.unwrap();
        let (inbox, inbound) = mpsc::channel(100);
        let senders = Senders::new();
        let own = [("10690001", ""), ("10690002", "Corner")].map(|(number, signature)| Extension {
            provider: "carrier".parse().unwrap(),
            number: number.into(),
            code: number.into(),
            tenant: "corner".parse().unwrap(),
            signature: signature.into(),
        });
        // One more than are tried before the driver has to say it again.
        let follow_ups = Arc::new(Busy { in_vain: 6, ..Busy::default() });
        let reception = Reception {
            limits: limits.clone(),
            ledger: ledger.clone(),
            directory: Directory::load(&ledger).await.unwrap(),
            extensions: Arc::new(Extensions::new(&own)),
            senders: senders.clone(),
            prices: Prices::default(),
            counted: Counted::default(),
            sealer: sealer.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            facts: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            follow_ups: follow_ups.clone(),
        };
        reception.spawn(inbound);
        Self { limits, ledger, queue, senders, sealer, clock, follow_ups, inbox, record, tasks, _dir: dir }
    }

    /// Says a reply; returns whether it became durable.
    async fn write_back(&self, to: &str, text: &str) -> bool {
        // A carrier names the number without its plus.
        let (provider, from) = ("carrier".parse().unwrap(), FROM[1..].into());
        let (to, text, at) = (to.into(), text.into(), self.clock.now());
        self.say(News::Reply(Reply { provider, from, to, text, tenant: None, in_reply_to: None, at })).await
    }

    async fn say(&self, news: News) -> bool {
        let (done, durable) = oneshot::channel();
        self.inbox.send(Inbound { news, done }).await.unwrap();
        durable.await.is_ok()
    }

    async fn facts(&mut self) -> Vec<Fact> {
        let delivery = self.record.recv().await.unwrap();
        let Frame::Facts(facts) = Frame::decode(&delivery.frame, &self.sealer).unwrap() else { panic!("no facts") };
        delivery.ack();
        facts
    }

    async fn suppressed(&self) -> Vec<String> {
        let address = self.sealer.address_key(FROM);
        let mut tenants = Vec::new();
        for id in ["acme", "bright", "corner"] {
            let tenant: TenantId = id.parse().unwrap();
            if !self.limits.suppressions(&tenant, address).await.unwrap().is_empty() {
                tenants.push(id.to_owned());
            }
        }
        tenants
    }

    /// Puts a job of a tenant to the address into the ledger.
    async fn accepted(&self, tenant: &str) {
        let row = JobRow {
            id: JobId(Uuid::new_v4()),
            tenant: tenant.parse().unwrap(),
            kind: Kind::Sms,
            class: Class::Marketing,
            accepted_at: self.clock.now(),
            due_at: self.clock.now(),
            expires_at: UnixMicros::MAX,
            address: self.sealer.address_key(FROM),
            recipient: None,
            batch: None,
            campaign: None,
            run: None,
            cancel_key: None,
            fallback_after: None,
            sealed: Bytes::new(),
        };
        let recording = Recording { frames: vec![Uuid::new_v4()], jobs: vec![row], ..Recording::default() };
        self.ledger.record(&recording).await.unwrap();
    }
}

fn tenant(id: &str) -> Tenant {
    Tenant::new(id.parse().unwrap(), UnixMicros::default())
}

fn tenants_of(facts: &[Fact]) -> Vec<&str> {
    let tenant = |fact| match fact {
        &Fact::Suppressed(Suppression { ref tenant, scope: Scope::Brand, source: Source::Keyword, .. }, _) => {
            tenant.as_str()
        }
        other => panic!("{other:?}"),
    };
    facts.iter().map(tenant).collect()
}

#[tokio::test]
async fn stop_binds_whoever_wrote_last_before_the_provider_is_told() {
    let mut rig = Rig::new().await;
    rig.accepted("acme").await;
    assert!(rig.write_back("10690", " \"Stop\" ").await);
    assert_eq!(rig.suppressed().await, ["acme"]);
    assert_eq!(tenants_of(&rig.facts().await), ["acme"]);
}

#[tokio::test]
async fn a_number_that_is_one_tenants_own_needs_no_search() {
    let mut rig = Rig::new().await;
    rig.accepted("acme").await;
    assert!(rig.write_back("10690001", "退订").await);
    assert_eq!(rig.suppressed().await, ["corner"]);
    assert_eq!(tenants_of(&rig.facts().await), ["corner"]);
}

#[tokio::test]
async fn a_number_that_is_a_signatures_leads_to_its_tenant_and_signature() {
    let mut rig = Rig::new().await;
    let (corner, address) = ("corner".parse().unwrap(), rig.sealer.address_key(FROM));
    let signature = Scope::Signature(rig.sealer.word_key(&corner, space::SIGNATURE, "Corner"));
    assert!(rig.write_back("10690002", "TD").await, "no job is needed");
    let scopes = |found: Vec<Suppression>| found.into_iter().map(|one| one.scope).collect::<Vec<_>>();
    assert_eq!(scopes(rig.limits.suppressions(&corner, address).await.unwrap()), [signature]);
    match &rig.facts().await[..] {
        [Fact::Suppressed(suppression, plain)] => {
            assert_eq!((&suppression.tenant, suppression.scope), (&corner, signature));
            assert_eq!((&*plain.address, &*plain.word), (FROM, "Corner"));
        }
        other => panic!("{other:?}"),
    }
    // To the tenant's other number, and back: each takes back its own.
    assert!(rig.write_back("10690001", "STOP").await);
    assert!(rig.write_back("10690002", "START").await);
    assert_eq!(scopes(rig.limits.suppressions(&corner, address).await.unwrap()), [Scope::Brand]);
    assert!(rig.write_back("+10690002", "what is it?").await);
    loop {
        if let [Fact::Reply(reply)] = &rig.facts().await[..] {
            assert_eq!((reply.tenant.as_ref(), &*reply.text), (Some(&corner), "what is it?"));
            return;
        }
    }
}

#[tokio::test]
async fn a_tenant_that_wrote_just_now_is_bound_with_the_one_in_the_ledger() {
    let rig = Rig::new().await;
    rig.accepted("acme").await;
    rig.senders.note(&"bright".parse().unwrap(), [rig.sealer.address_key(FROM)], rig.clock.now());
    assert!(rig.write_back("10690", "TD").await);
    assert_eq!(rig.suppressed().await, ["acme", "bright"]);
}

#[tokio::test]
async fn with_the_ledger_away_memory_says_whose_it_is_and_else_everybody_is_bound() {
    let mut rig = Rig::new().await;
    rig.ledger.close().await;
    rig.senders.note(&"bright".parse().unwrap(), [rig.sealer.address_key(FROM)], rig.clock.now());
    assert!(rig.write_back("10690", "STOP").await);
    assert_eq!(rig.suppressed().await, ["bright"]);
    assert_eq!(tenants_of(&rig.facts().await), ["bright"]);

    let mut rig = Rig::new().await;
    rig.ledger.close().await;
    assert!(rig.write_back("10690", "STOP").await);
    assert_eq!(rig.suppressed().await, ["acme", "bright", "corner"]);
    assert_eq!(tenants_of(&rig.facts().await), ["acme", "bright", "corner"]);
}

#[tokio::test]
async fn start_takes_a_stop_back_and_is_still_a_reply() {
    let mut rig = Rig::new().await;
    rig.accepted("acme").await;
    assert!(rig.write_back("10690", "STOP").await);
    assert!(rig.write_back("10690", "Start").await);
    assert!(rig.suppressed().await.is_empty());
    rig.facts().await;
    let facts = rig.facts().await;
    assert!(matches!(&facts[..], [Fact::Unsuppressed(_, Source::Keyword), Fact::Reply(_)]), "{facts:?}");
}

#[tokio::test]
async fn a_tenants_own_words_are_words_to_it_alone() {
    let mut rig = Rig::new().await;
    rig.accepted("acme").await;
    assert!(rig.write_back("10690001", "genug").await);
    let facts = rig.facts().await;
    assert!(matches!(&facts[..], [Fact::Reply(_)]), "it is the number of another tenant: {facts:?}");
    assert!(rig.write_back("10690", "GENUG").await);
    assert_eq!(rig.suppressed().await, ["acme"]);
    assert_eq!(tenants_of(&rig.facts().await), ["acme"]);
    assert!(rig.write_back("10690", "genug jetzt").await);
    assert!(matches!(&rig.facts().await[..], [Fact::Reply(_)]));
    assert!(rig.write_back("10690", "„Wieder“").await);
    assert!(rig.suppressed().await.is_empty());
}

#[tokio::test]
async fn start_takes_back_what_a_word_brought_and_nothing_else() {
    let rig = Rig::new().await;
    rig.accepted("acme").await;
    let tenant: TenantId = "acme".parse().unwrap();
    let address = rig.sealer.address_key(FROM);
    let (scope, source, at) = (Scope::Everything, Source::Api, rig.clock.now());
    let by_api = Suppression { tenant: tenant.clone(), address, scope, kind: None, source, at };
    let imported = Suppression { scope: Scope::Brand, source: Source::Import, ..by_api.clone() };
    rig.limits.suppress(&[by_api.clone(), imported.clone()]).await.unwrap();
    assert!(rig.write_back("10690", "STOP").await);
    assert_eq!(rig.limits.suppressions(&tenant, address).await.unwrap().len(), 3);
    assert!(rig.write_back("10690", "START").await);
    let mut left = rig.limits.suppressions(&tenant, address).await.unwrap();
    left.sort_by_key(|suppression| suppression.source);
    assert_eq!(left, [by_api, imported]);
}

#[tokio::test]
async fn any_other_reply_is_a_fact_with_the_number_as_jobs_name_it() {
    let mut rig = Rig::new().await;
    assert!(rig.write_back("10690", "T恤多少钱").await);
    let facts = rig.facts().await;
    let [Fact::Reply(reply)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((&*reply.from, &*reply.text), (FROM, "T恤多少钱"));
    assert!(rig.suppressed().await.is_empty());
}

#[tokio::test]
async fn a_signal_goes_ahead_of_what_waits_to_be_recorded() {
    let rig = Rig::new().await;
    let signal = Signal {
        id: Uuid::from_u128(7),
        provider: "cloud".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        told: Told::FriendAdded,
        recipient: Recipient::default(),
        to: "corp".into(),
        details: vec![],
        at: rig.clock.now(),
    };
    assert!(rig.say(News::Signal(Box::new(signal.clone()))).await);
    assert_eq!(rig.queue.depth(&QueueName::Record).await, Ok(0));
    let delivery = rig.queue.consume(QueueName::Signals, 1).await.unwrap().recv().await.unwrap();
    let Frame::Facts(facts) = Frame::decode(&delivery.frame, &rig.sealer).unwrap() else { panic!("no facts") };
    assert!(matches!(&facts[..], [Fact::Signal(told)] if **told == signal), "{facts:?}");
}

#[tokio::test]
async fn receipts_are_told_once_they_are_durable_and_not_before() {
    let mut rig = Rig::new().await;
    let receipt = |message_id: &str| {
        let (provider, report) = ("carrier".parse().unwrap(), Report::Final(Fate::Delivered));
        let (message_id, code, at) = (message_id.into(), "".into(), UnixMicros::from_secs(1));
        News::Receipt(Receipt { provider, message_id, job: None, report, code, at })
    };
    assert!(rig.say(receipt("a")).await);
    let facts = rig.facts().await;
    assert!(matches!(&facts[..], [Fact::Receipt(receipt)] if &*receipt.message_id == "a"), "{facts:?}");
    rig.queue.close().await;
    assert!(!rig.say(receipt("b")).await);
    assert_eq!(rig.tasks.finish(&rig.clock, Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn what_follows_from_a_call_is_not_told_to_be_durable_before_it_is() {
    let rig = Rig::new().await;
    let shared = Shared {
        kind: Kind::Call,
        content: Content::Call { flow: "hello".into(), plan: Arc::default() },
        ..samples::shared(Class::Notification, rig.clock.now())
    };
    let follow_up = FollowUp { from: "link".into(), kind: Kind::Sms, template: "link".into(), params: vec![] };
    let (job, recipient, at) = (JobId(Uuid::nil()), Recipient::default(), rig.clock.now());
    let followed = Followed { job, shared: Arc::new(shared), recipient, follow_up, at };
    let news = || News::FollowUp(Box::new(followed.clone()));
    assert!(!rig.say(news()).await, "nobody has taken it: its driver says it again");
    assert!(rig.say(news()).await);
    assert_eq!(rig.follow_ups.asked.load(Ordering::SeqCst), 7, "once it is taken, nobody is asked again");
}

#[test]
fn a_call_is_counted_by_how_it_went_and_not_by_where_its_recording_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counted = exporter::capture(|| {
        runtime.block_on(async {
            let rig = Rig::new().await;
            for report in [Report::Called(CallResult::Completed), Report::Recorded] {
                let (provider, message_id, code) = ("cloud".parse().unwrap(), "a".into(), "".into());
                let receipt = Receipt { provider, message_id, job: None, report, code, at: rig.clock.now() };
                let went = CallReport::unanswered(CallResult::Completed);
                assert!(rig.say(News::CallReceipt(receipt, Box::new(went))).await);
            }
        });
    });
    for line in ["postrider_call_results_total{result=\"completed\"} 1", "postrider_call_talk_seconds_count 1"] {
        assert!(counted.lines().any(|counted| counted == line), "no {line:?} in:\n{counted}");
    }
}
