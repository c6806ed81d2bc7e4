//! Whichever queue the settings choose.

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::amqp::Amqp;
use super::embedded::Embedded;
use super::{Delivery, PublishError, Queue, QueueError, QueueName, Route};
use crate::domain::ids::Lane;

/// One of the backends. Keeps the contract of the port by delegating.
#[derive(Clone, Debug)]
pub enum AnyQueue {
    /// On the local disk.
    Embedded(Embedded),
    /// On a RabbitMQ server.
    Amqp(Amqp),
}

impl Queue for AnyQueue {
    async fn declare(&self, lanes: &[Lane]) -> Result<(), QueueError> {
        match self {
            Self::Embedded(queue) => queue.declare(lanes).await,
            Self::Amqp(queue) => queue.declare(lanes).await,
        }
    }

    async fn publish(&self, id: Uuid, frame: Bytes, route: Route) -> Result<(), PublishError> {
        match self {
            Self::Embedded(queue) => queue.publish(id, frame, route).await,
            Self::Amqp(queue) => queue.publish(id, frame, route).await,
        }
    }

    async fn consume(&self, from: QueueName, prefetch: u16) -> Result<mpsc::Receiver<Delivery>, QueueError> {
        match self {
            Self::Embedded(queue) => queue.consume(from, prefetch).await,
            Self::Amqp(queue) => queue.consume(from, prefetch).await,
        }
    }

    async fn depth(&self, of: &QueueName) -> Result<u64, QueueError> {
        match self {
            Self::Embedded(queue) => queue.depth(of).await,
            Self::Amqp(queue) => queue.depth(of).await,
        }
    }

    async fn close(&self) {
        match self {
            Self::Embedded(queue) => queue.close().await,
            Self::Amqp(queue) => queue.close().await,
        }
    }
}
