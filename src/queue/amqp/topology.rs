//! What exists on the server: quorum queues with explicit arguments, and nothing else.
//!
//! There is no exchange and no binding of ours. Frames go through the default exchange, which routes to every queue by
//! its name and whose bindings nobody can remove; dead letters do too. The arguments mean the same on every server from
//! 3.10 to 4.x, so its version need not be asked; an older one refuses them in words.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ErrorKind};

use super::Options;
use crate::queue::{QueueError, QueueName};

/// The limit of queues that never set a frame aside. An explicit number: without one 4.x takes 20.
const DELIVERIES_UNLIMITED: u32 = 1_000_000_000;

/// How queues are called and how much they hold.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    prefix: Box<str>,
    lane_length_max: u32,
    backlog_length_max: u32,
}

// === impl Topology ===

impl Topology {
    pub(super) fn new(options: &Options) -> Self {
        let Options { prefix, lane_length_max, backlog_length_max, .. } = options;
        Self { prefix: prefix.clone(), lane_length_max: *lane_length_max, backlog_length_max: *backlog_length_max }
    }

    /// Returns the name of a queue on the server.
    pub(super) fn name(&self, queue: &QueueName) -> ShortString {
        let name = queue.to_string();
        // Display begins with the default prefix.
        let bare = name.strip_prefix("postrider").unwrap_or(&name);
        format!("{}{bare}", self.prefix).into()
    }

    /// Makes sure that every queue of `names` exists with our arguments.
    pub(super) async fn declare(
        &self,
        connection: &Connection,
        names: impl IntoIterator<Item = QueueName>,
    ) -> Result<(), QueueError> {
        let channel = connection.create_channel().await.map_err(describe)?;
        for queue in names {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(self.name(&queue), options, self.arguments(&queue)).await.map_err(describe)?;
        }
        quit(&channel).await;
        Ok(())
    }

    /// Returns how many messages wait in a queue.
    pub(super) async fn depth(&self, connection: &Connection, queue: &QueueName) -> Result<u64, QueueError> {
        let channel = connection.create_channel().await.map_err(describe)?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(self.name(queue), options, FieldTable::default()).await.map_err(describe)?;
        quit(&channel).await;
        Ok(u64::from(found.message_count()))
    }

    fn arguments(&self, queue: &QueueName) -> FieldTable {
        let length_max = match queue {
            QueueName::Lane(_) | QueueName::Suspect(_) => self.lane_length_max,
            QueueName::Soon | QueueName::Later | QueueName::Record | QueueName::Signals | QueueName::Dead => {
                self.backlog_length_max
            }
        };
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        let mut arguments = FieldTable::default();
        let mut set = |name: &'static str, value: AMQPValue| {
            arguments.insert(name.into(), value);
        };
        // Quorum queues alone sync to disk, on a majority of nodes, before they confirm.
        set("x-queue-type", text("quorum"));
        set("x-max-length", AMQPValue::LongLongInt(i64::from(length_max)));
        set("x-overflow", text("reject-publish"));
        let deliveries_max = queue.deliveries_max().unwrap_or(DELIVERIES_UNLIMITED);
        set("x-delivery-limit", AMQPValue::LongLongInt(i64::from(deliveries_max)));
        if *queue != QueueName::Dead {
            set("x-dead-letter-exchange", text(""));
            set("x-dead-letter-routing-key", text(self.name(&QueueName::Dead).as_str()));
            // A frame leaves its queue only when the dead-letter queue has it.
            set("x-dead-letter-strategy", text("at-least-once"));
        }
        if queue.exclusive() {
            set("x-single-active-consumer", AMQPValue::Boolean(true));
        }
        arguments
    }
}

/// Says what went wrong with the server.
pub(super) fn describe(error: lapin::Error) -> QueueError {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => QueueError::Refused(refusal.to_string().into()),
        _ => QueueError::Unreachable(error.to_string().into()),
    }
}

/// Closes a channel. It may have been closed with its connection.
pub(super) async fn quit(channel: &Channel) {
    let _closed_already = channel.close(200, "done".into()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installations_share_a_server_by_their_prefixes() {
        let options = Options { prefix: "blue".into(), ..Options::new("amqp://localhost") };
        let topology = Topology::new(&options);
        assert_eq!(topology.name(&QueueName::Record).as_str(), "blue.record");
        assert_eq!(topology.name(&QueueName::Suspect("main".parse().unwrap())).as_str(), "blue.suspect.main");
        let dead = topology.arguments(&QueueName::Soon).inner().get("x-dead-letter-routing-key").cloned();
        assert_eq!(dead, Some(AMQPValue::LongString("blue.dead".into())));
    }
}
