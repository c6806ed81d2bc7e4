//! A corporation, a service whose jobs reach its customers, and their clocks.

use std::sync::Arc;
use std::time::Duration;

use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::job_selector::By;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::{self, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::{Simulator, wecom};

use super::super::wecom::{AGENT, CORP, corporation_at};
use crate::support::api::{self, Watched};
use crate::support::cloud::{PATIENCE, quick};
use crate::support::service::{Backends, Service};

pub(super) const DAY: i64 = 24 * 3_600;
/// The clocks of Shanghai.
pub(super) const AHEAD: i64 = 8 * 3_600;

/// How long a look takes at most, on a machine that compiles.
const A_LOOK: Duration = Duration::from_secs(1);

/// An application for customers, and a carrier for what follows.
pub(super) fn settings(endpoint: &str, more: &str) -> String {
    format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"wecom\"\nmessages = \"customers\"\nendpoint = \"{endpoint}\"\n\
         corp_id = \"{CORP}\"\nagent_id = {AGENT}\nsecret = \"geheim\"\nsender = \"zhang\"\nescalate_to = \"chief\"\n\
         response_timeout = \"2s\"\n{more}[[provider]]\nid = \"carrier\"\npool = \"carrier\"\nkind = \"simulated\"\nkinds = [\"sms\"]\n\
         latency = \"1ms\"\nreceipts = false\n"
    )
}

pub(super) fn customer(id: &str) -> pb::Recipient {
    let wecom = Some(pb::WecomAddress { corp_id: CORP.into(), external_userid: id.into() });
    pb::Recipient { wecom, time_zone: "Asia/Shanghai".into(), ..pb::Recipient::default() }
}

pub(super) fn group(id: &str) -> pb::Recipient {
    pb::Recipient {
        kind: pb::RecipientKind::Group.into(),
        wecom_chat_id: id.into(),
        time_zone: "Asia/Shanghai".into(),
        ..pb::Recipient::default()
    }
}

pub(super) fn spec(topic: &str) -> pb::JobSpec {
    let template = pb::TemplateContent { template: "offer".into(), ..Default::default() };
    pb::JobSpec {
        content: Some(pb::job_spec::Content::Template(template)),
        class: Class::Marketing.into(),
        topic: topic.into(),
        ..pb::JobSpec::default()
    }
}

pub(super) fn with_phone(recipient: pb::Recipient, number: usize) -> pb::Recipient {
    pb::Recipient { phone: format!("+861380000000{number}"), ..recipient }
}

/// Lets a text follow.
pub(super) fn with_text(spec: pb::JobSpec, after_secs: i64) -> pb::JobSpec {
    let sms = pb::SmsContent { text: "come and see".into(), ..Default::default() };
    let after = Some(prost_types::Duration { seconds: after_secs, nanos: 0 });
    let step = pb::FallbackStep { content: Some(pb::fallback_step::Content::Sms(sms)), after, ..Default::default() };
    pb::JobSpec { fallback: vec![step], ..spec }
}

pub(super) fn batch(key: &str, spec: pb::JobSpec, recipients: Vec<pb::Recipient>) -> pb::SubmitBatchRequest {
    let item = |recipient| pb::BatchItem {
        recipient: Some(recipient),
        params: [("name".to_owned(), key.to_owned())].into_iter().collect(),
        ..pb::BatchItem::default()
    };
    let items = recipients.into_iter().map(item).collect();
    pb::SubmitBatchRequest { idempotency_key: key.into(), spec: Some(spec), items }
}

/// A corporation, and a service whose jobs reach its customers.
pub(super) struct Stage {
    pub(super) service: Service,
    pub(super) corporation: wecom::Wecom,
    pub(super) simulator: Simulator,
    /// The corporation's clock.
    clock: Clock,
    tasks: Tasks,
    pub(super) watched: Watched,
}

impl Stage {
    pub(super) async fn start(clock: Clock, more: &str, arguments: &'static [&'static str]) -> Self {
        Self::start_on(Arc::new(Backends::Embedded), clock, more, arguments).await
    }

    pub(super) async fn start_on(
        backends: Arc<Backends>,
        clock: Clock,
        more: &str,
        arguments: &'static [&'static str],
    ) -> Self {
        let tasks = Tasks::new();
        let corporation = corporation_at("http://127.0.0.1:1", &clock);
        let listen = ([127, 0, 0, 1], 0).into();
        let answers = (quick(), 3);
        let simulator =
            Simulator::start(Box::new(corporation.clone()), listen, answers, &tasks, &Clock::system()).await.unwrap();
        let endpoint = format!("http://{}", simulator.address());
        let settings = settings(&endpoint, more).replace("ENDPOINT", &endpoint);
        let start = move || {
            let service = Service::prepare(&backends, &settings, arguments);
            service.restart(None);
            service
        };
        let service = tokio::task::spawn_blocking(start).await.unwrap();
        api::put_template(&service, api::template("offer", "{name}: come and see")).await;
        Self { service, corporation, simulator, clock, tasks, watched: Watched::default() }
    }

    pub(super) async fn submit(&self, key: &str, spec: pb::JobSpec, recipients: Vec<pb::Recipient>) -> Vec<String> {
        api::insist(&api::jobs(&self.service), &batch(key, spec, recipients)).await
    }

    /// Follows the events until something holds.
    pub(super) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let (client, watch) = (api::jobs(&self.service), Clock::system().stopwatch());
        while !holds(self) {
            assert!(watch.elapsed() < 3 * PATIENCE, "{what}; the service said:\n{}", self.service.log());
            self.watched.follow(&client, Duration::from_millis(200)).await;
            if self.clock.stands() {
                // Else nobody would ask what became of anything.
                self.go(10).await;
            }
        }
    }

    /// Says whether all of these are in a state.
    pub(super) fn all_are(&self, ids: &[String], state: pb::State) -> bool {
        ids.iter().all(|id| self.watched.states.get(id) == Some(&state))
    }

    /// Returns each job's only outcome.
    pub(super) fn fate(&self, id: &str) -> (Fate, &str) {
        let [(fate, reason)] = &self.watched.outcomes[id][..] else {
            panic!("{id}: {:?}", self.watched.outcomes.get(id))
        };
        (*fate, reason)
    }

    /// Returns of each list that an employee got how many customers and groups are on it.
    pub(super) fn listed(&self, to: &str) -> Vec<usize> {
        let count = |line: &str| line.split('×').nth(1)?.split(' ').next()?.parse::<usize>().ok();
        self.lists(to).iter().map(|list| list.lines().filter_map(count).sum()).collect()
    }

    pub(super) async fn cancel(&self, by: By) {
        let selector = Some(pb::JobSelector { by: Some(by) });
        api::jobs(&self.service).cancel_jobs(pb::CancelJobsRequest { selector }).await.unwrap();
    }

    pub(super) async fn opt_out(&self, address: pb::Recipient) {
        let address = Some(pb::Recipient { time_zone: String::new(), ..address });
        let suppression = Some(pb::Suppression { address, ..pb::Suppression::default() });
        let mut client = SuppressionServiceClient::new(self.service.connect());
        client.add(pb::SuppressionServiceAddRequest { suppression }).await.unwrap();
    }

    /// Returns the lists that an employee got.
    pub(super) fn lists(&self, to: &str) -> Vec<String> {
        let messages = self.simulator.messages().into_iter();
        messages.filter(|(message, _)| message.to == to).map(|(message, _)| message.text).collect()
    }

    pub(super) async fn finish(self) {
        drop(self.service);
        self.tasks.finish(&Clock::system(), PATIENCE).await;
    }
}

impl Stage {
    /// Moves both clocks on by so many seconds; returns the time that the service shows.
    pub(super) async fn go(&self, secs: i64) -> i64 {
        let by = prost_types::Duration { seconds: secs, nanos: 1_000_000 };
        let request = pb::AdvanceClockRequest { by: Some(by) };
        let mut admin = AdminServiceClient::new(self.service.connect());
        let now = admin.advance_clock(request).await.unwrap().into_inner().now.unwrap().seconds;
        let left = UnixMicros::from_secs(now).since(self.clock.now());
        self.clock.advance(left);
        now
    }

    /// Moves both clocks to a time, in steps of half an hour at most.
    pub(super) async fn play(&self, to: i64) {
        let mut now = self.go(0).await;
        while now < to {
            let (step, lists) = ((to - now).min(1_800), self.corporation.asked("").1);
            now = self.go(step).await;
            let watch = Clock::system().stopwatch();
            // Time stands until the service has looked at what waits: it asks for two lists every minute. A look that was
            // on its way when time moved counts that minute from now on.
            while self.corporation.asked("").1 < lists + 2 && watch.elapsed() < A_LOOK {
                Clock::system().pause(Duration::from_millis(5)).await;
            }
        }
    }
}
