//! One channel for publishing: many frames in flight, each confirmed by itself.
//!
//! The client library attaches a returned message to whichever confirm completes next, so a confirm alone does not say
//! whether *its* frame was returned. But a return always comes before its own confirm. Hence the task takes in every
//! confirm that is there before it answers any, keeps the confirms of publishers that gave up, and remembers of every
//! frame in flight whether a confirm carried it back: it is taken for durable only when its own confirm is a plain ack
//! and no confirm up to then did.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Shared;
use crate::domain::time::Clock;
use crate::queue::PublishError;
use crate::rate_limited;

/// Delivery mode of messages that are kept on disk.
const PERSISTENT: u8 = 2;

/// A publishing channel, for publishers.
#[derive(Clone)]
pub(super) struct Outlet {
    /// One for each message in flight.
    pub(super) permits: Arc<Semaphore>,
    // Bounded by the permits.
    jobs: mpsc::UnboundedSender<Job>,
}

/// A message to publish.
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) frame: Bytes,
    /// The queue's name on the server.
    pub(super) queue: ShortString,
    pub(super) reply: oneshot::Sender<Result<(), PublishError>>,
    /// Held until the message is confirmed, also when the publisher has given up.
    pub(super) permit: OwnedSemaphorePermit,
}

/// The task of a publishing channel.
struct Publisher {
    channel: Channel,
    status: ConnectionStatus,
    over: CancellationToken,
    clock: Clock,
    /// How long a message may be without its confirm.
    silence_max: Duration,
}

/// A message in flight: its frame, and the queue's name on the server.
type Key = (Uuid, ShortString);

/// The messages in flight that are not answered yet.
type InFlight = HashMap<Key, Copies>;

/// The copies of a message that are in flight: mostly one.
#[derive(Default)]
struct Copies {
    count: u32,
    /// One of them came back. Nobody knows which, so none of them is taken for durable.
    came_back: bool,
}

/// A message whose fate on this channel is known.
struct Settled {
    key: Key,
    reply: oneshot::Sender<Result<(), PublishError>>,
    /// `None`: the channel failed, or does not confirm it.
    confirmed: Option<Confirmation>,
}

// === impl Outlet ===

impl Outlet {
    /// Opens a channel with confirms, and starts its task, which ends with the connection.
    pub(super) async fn open(
        connection: &Connection,
        shared: &Shared,
        over: &CancellationToken,
    ) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (jobs, inbox) = mpsc::unbounded_channel();
        let publisher = Publisher {
            channel,
            status: connection.status().clone(),
            over: over.clone(),
            clock: shared.clock.clone(),
            silence_max: shared.options.publish_timeout * 2,
        };
        shared.tasks.spawn("queue publisher", publisher.run(inbox));
        Ok(Self { permits: Arc::new(Semaphore::new(usize::from(shared.options.in_flight))), jobs })
    }

    /// Hands a message to the channel. If the channel is gone, so is the reply.
    pub(super) fn send(&self, job: Job) {
        let _gone = self.jobs.send(job);
    }
}

// === impl Publisher ===

impl Publisher {
    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Job>) {
        let mut flight = FuturesUnordered::new();
        let mut settled = Vec::new();
        let mut in_flight = InFlight::new();
        loop {
            tokio::select! {
                job = inbox.recv() => {
                    let Some(job) = job else { break };
                    in_flight.entry((job.id, job.queue.clone())).or_default().count += 1;
                    flight.push(self.publish(job));
                }
                Some(first) = flight.next() => {
                    settled.push(first);
                    // A look may end early, at messages that are not ready; it passes one at least. So as many looks as there
                    // are messages pass all that were ready.
                    for _ in 0..flight.len() {
                        settled.extend(flight.next().now_or_never().flatten());
                    }
                    if !answer(&mut settled, &mut in_flight) {
                        self.over.cancel();
                        break;
                    }
                }
                () = self.over.cancelled() => break,
            }
        }
        // Whoever waits for one that is left is told by the end of its reply.
    }

    /// Publishes a message and waits for its confirm.
    ///
    /// One that does not come is waited for no longer than `silence_max`, whatever else is confirmed: the server's side of
    /// a channel remembers queues, and takes what goes to one that was removed and declared again for the continuation of
    /// what the other had, which never confirms. A new channel is good again. An alarm is silent too, and ends by itself.
    async fn publish(&self, job: Job) -> Settled {
        let Job { id, frame, queue, reply, permit } = job;
        let mut confirm = pin!(self.confirm(id, &frame, queue.clone()));
        let confirmed = loop {
            match self.clock.timeout(self.silence_max, confirm.as_mut()).await {
                Ok(confirmed) => break confirmed.ok(),
                Err(_) if self.status.blocked() => {}
                Err(_) => {
                    rate_limited!(per_min = 6, warn, %queue, "the queue server does not confirm: connecting again");
                    break None;
                }
            }
        };
        drop(permit);
        Settled { key: (id, queue), reply, confirmed }
    }

    async fn confirm(&self, id: Uuid, frame: &[u8], queue: ShortString) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        // Fresh properties: what a redelivered frame carried (x-death) would count against it.
        let properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(id.to_string().into());
        // Written in order of the first polls, which is the order of the jobs.
        self.channel.basic_publish(ShortString::default(), queue, options, frame, properties).await?.await
    }
}

/// Answers all who were confirmed; returns whether the channel still works.
///
/// Once one confirm is not waited for, nothing on the channel is durable any more for all we know: the return of another
/// message may have been attached to that confirm.
fn answer(settled: &mut Vec<Settled>, in_flight: &mut InFlight) -> bool {
    for key in settled.iter().filter_map(Settled::returned) {
        // One that is answered by now was refused, as its confirm carried another message.
        in_flight.entry(key).and_modify(|copies| copies.came_back = true);
    }
    let works = settled.iter().all(|settled| settled.confirmed.is_some());
    for Settled { key, reply, confirmed } in settled.drain(..) {
        let came_back = land(in_flight, key);
        let result = match confirmed {
            Some(Confirmation::Ack(None)) if !works => Err(PublishError::Disconnected),
            Some(Confirmation::Ack(None)) if !came_back => Ok(()),
            // Also when it carries another message: its own return may be attached to a later confirm.
            Some(Confirmation::Ack(_)) => Err(PublishError::Unroutable),
            Some(Confirmation::Nack(_)) => Err(PublishError::Full),
            Some(Confirmation::NotRequested) | None => Err(PublishError::Disconnected),
        };
        // The publisher may have given up.
        let _gone = reply.send(result);
    }
    works
}

/// Takes a copy of a message out of flight; returns whether it may be the one that came back.
fn land(in_flight: &mut InFlight, key: Key) -> bool {
    match in_flight.entry(key) {
        Entry::Occupied(entry) if entry.get().count <= 1 => entry.remove().came_back,
        Entry::Occupied(mut entry) => {
            entry.get_mut().count -= 1;
            entry.get().came_back
        }
        // Every message is entered before it is published.
        Entry::Vacant(_) => true,
    }
}

// === impl Settled ===

impl Settled {
    /// Returns which message came back with this confirm.
    fn returned(&self) -> Option<Key> {
        let message: &BasicReturnMessage = match self.confirmed.as_ref()? {
            Confirmation::Ack(message) | Confirmation::Nack(message) => message.as_ref()?,
            Confirmation::NotRequested => return None,
        };
        let id = message.delivery.properties.message_id().as_ref()?.as_str().parse().ok()?;
        Some((id, message.delivery.routing_key.clone()))
    }
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery;

    use super::*;

    /// A channel's messages in flight, by number.
    #[derive(Default)]
    struct Flight {
        in_flight: InFlight,
    }

    impl Flight {
        fn publish(&mut self, numbers: impl IntoIterator<Item = u128>) {
            for number in numbers {
                self.in_flight.entry(key(number)).or_default().count += 1;
            }
        }

        /// Settles messages at once; returns whether the channel still works, and what their publishers are told.
        fn settle<const N: usize>(
            &mut self,
            confirms: [(u128, Option<Confirmation>); N],
        ) -> (bool, [Result<(), PublishError>; N]) {
            let mut settled = vec![];
            let answers = confirms.map(|(number, confirmed)| {
                let (reply, answer) = oneshot::channel();
                settled.push(Settled { key: key(number), reply, confirmed });
                answer
            });
            let works = answer(&mut settled, &mut self.in_flight);
            (works, answers.map(|mut answer| answer.try_recv().unwrap()))
        }
    }

    fn key(number: u128) -> Key {
        (Uuid::from_u128(number), "lane".into())
    }

    fn ack() -> Option<Confirmation> {
        Some(Confirmation::Ack(None))
    }

    /// An ack to which the return of a message is attached.
    fn ack_with(number: u128) -> Option<Confirmation> {
        let (id, queue) = key(number);
        let mut delivery = Delivery::mock(0, "".into(), queue, false, vec![]);
        delivery.properties = BasicProperties::default().with_message_id(id.to_string().into());
        let message = BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() };
        Some(Confirmation::Ack(Some(message)))
    }

    const GONE: Result<(), PublishError> = Err(PublishError::Disconnected);
    const UNROUTABLE: Result<(), PublishError> = Err(PublishError::Unroutable);

    #[test]
    fn nothing_is_durable_beside_a_confirm_that_is_not_waited_for() {
        let told = |first, second| {
            let mut flight = Flight::default();
            flight.publish(1..=2);
            flight.settle([(1, first), (2, second)])
        };
        assert_eq!(told(ack(), ack()), (true, [Ok(()), Ok(())]));
        assert_eq!(told(ack(), Some(Confirmation::Nack(None))), (true, [Ok(()), Err(PublishError::Full)]));
        assert_eq!(told(ack(), None), (false, [GONE, GONE]));
        assert_eq!(told(None, ack()), (false, [GONE, GONE]));
    }

    #[test]
    fn a_message_that_came_back_with_anothers_confirm_is_not_durable() {
        let mut flight = Flight::default();
        flight.publish(1..=6);
        // At once, in either order.
        assert_eq!(flight.settle([(1, ack_with(2)), (2, ack())]), (true, [UNROUTABLE, UNROUTABLE]));
        // Answered before its own confirm was there.
        assert_eq!(flight.settle([(3, ack_with(4))]), (true, [UNROUTABLE]));
        assert_eq!(flight.settle([(5, ack())]), (true, [Ok(())]));
        assert_eq!(flight.settle([(4, ack())]), (true, [UNROUTABLE]));
        // Answered when another's return had taken its place.
        flight.publish(7..=8);
        assert_eq!(flight.settle([(7, ack_with(8))]), (true, [UNROUTABLE]));
        assert_eq!(flight.settle([(8, ack_with(7))]), (true, [UNROUTABLE]));
        assert_eq!(flight.settle([(6, ack())]), (true, [Ok(())]));
        assert!(flight.in_flight.is_empty(), "nothing is remembered of messages that are answered");
        // The same message again, which is durable this time.
        flight.publish([4]);
        assert_eq!(flight.settle([(4, ack())]), (true, [Ok(())]));
    }

    #[test]
    fn of_a_message_in_flight_more_than_once_no_copy_is_durable_once_one_came_back() {
        let mut flight = Flight::default();
        flight.publish([1, 1, 2]);
        assert_eq!(flight.settle([(1, ack()), (1, ack())]), (true, [Ok(()), Ok(())]));
        flight.publish([1, 1]);
        assert_eq!(flight.settle([(2, ack_with(1))]), (true, [UNROUTABLE]));
        assert_eq!(flight.settle([(1, ack())]), (true, [UNROUTABLE]));
        // Published again before the other copy is answered.
        flight.publish([1]);
        assert_eq!(flight.settle([(1, ack())]), (true, [UNROUTABLE]));
        assert_eq!(flight.settle([(1, ack())]), (true, [UNROUTABLE]));
        assert!(flight.in_flight.is_empty(), "nothing is remembered of messages that are answered");
        flight.publish([1]);
        assert_eq!(flight.settle([(1, ack())]), (true, [Ok(())]));
    }
}
