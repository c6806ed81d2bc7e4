//! A route over SMPP as a test holds it: hands over, and sees answers and news.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use postrider::channel::sms::smpp::Smpp;
use postrider::channel::sms::smpp::settings::{Account, Backoff, Settings};
use postrider::channel::{Answer, Channel, Handover, Inbound, News};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Kind};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::shutdown::Tasks;
use tokio::sync::mpsc;

/// Longer than anything here takes, on a machine that compiles.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A route to an SMSC, with what comes back from it.
pub(crate) struct Rig {
    pub(crate) smpp: Arc<Smpp>,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) inbox: mpsc::Receiver<Inbound>,
}

/// Returns a route to that port of this machine, quick to come back.
pub(crate) fn settings(port: u16) -> Settings {
    Settings {
        window: NonZeroU32::new(100).unwrap(),
        backoff: Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100) },
        ..Settings::new("carrier-a".parse().unwrap(), &format!("127.0.0.1:{port}"), account())
    }
}

/// Returns the account that every SMSC here knows.
pub(crate) fn account() -> Account {
    Account::new("postrider", "secret", "").unwrap()
}

/// Returns a text to a number of its own.
pub(crate) fn handover(number: u64, text: &str) -> Handover {
    let phone = Some(format!("+49151{number:07}").parse().unwrap());
    Handover {
        job: JobId::new(UnixMicros::from_secs(1), u128::from(number) << 64),
        attempt: 1,
        kind: Kind::Sms,
        class: Class::Marketing,
        recipient: Arc::new(Recipient { phone, ..Recipient::default() }),
        sender: "10690".into(),
        content: Content::Text(text.into()),
        params: Vec::new(),
        template: None,
        validity: Duration::from_secs(3_600),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

// === impl Rig ===

impl Rig {
    /// Starts a route and waits until it is bound.
    pub(crate) async fn start(settings: Settings) -> Self {
        let rig = Self::start_unbound(settings);
        rig.until(|smpp| smpp.health().up).await;
        rig
    }

    /// Starts a route that may never be bound.
    pub(crate) fn start_unbound(settings: Settings) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let (sender, inbox) = mpsc::channel(1_000);
        let smpp = Smpp::start(settings, sender, &tasks, &clock);
        Self { smpp, tasks, clock, inbox }
    }

    /// Waits until something has happened.
    pub(crate) async fn until(&self, condition: impl Fn(&Smpp) -> bool) {
        let waited = self.clock.timeout(PATIENCE, async {
            while !condition(&self.smpp) {
                self.clock.pause(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("it happens");
    }

    /// Hands over and returns all answers, in order of the hand-overs.
    pub(crate) async fn submit(&self, handovers: Vec<Handover>) -> Vec<Answer> {
        let count = handovers.len();
        let (sender, answers) = mpsc::unbounded_channel();
        self.smpp.submit(handovers, sender);
        self.answers(answers, count).await
    }

    /// Returns all answers, in order of the hand-overs.
    pub(crate) async fn answers(
        &self,
        mut answers: mpsc::UnboundedReceiver<(usize, Answer)>,
        count: usize,
    ) -> Vec<Answer> {
        let mut got = Vec::new();
        while let Some(answer) = self.clock.timeout(PATIENCE, answers.recv()).await.expect("an answer") {
            got.push(answer);
        }
        assert_eq!(got.len(), count, "each hand-over is answered exactly once");
        got.sort_by_key(|(index, _)| *index);
        got.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Returns the next news, and tells the SMSC that it is durable.
    pub(crate) async fn news(&mut self) -> News {
        let inbound = self.clock.timeout(PATIENCE, self.inbox.recv()).await.expect("news").unwrap();
        inbound.done.send(()).unwrap();
        inbound.news
    }

    /// Ends the route, in order.
    pub(crate) async fn finish(self) {
        assert_eq!(self.tasks.finish(&self.clock, PATIENCE).await, 0, "the route ends");
    }
}
