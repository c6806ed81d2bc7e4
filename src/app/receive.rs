//! What providers say by themselves, on its way to limits and record.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::follow_ups::FollowUps;
use super::{Base, StartError};
use crate::channel::Inbound;
use crate::channel::http::server::Server;
use crate::receipt::{Prices, Reception, Router};

impl Base {
    /// Starts to serve callbacks; returns where.
    pub(super) async fn callbacks(&self, inbox: mpsc::Sender<Inbound>) -> Result<SocketAddr, StartError> {
        let listen = self.settings.receive.listen;
        let refused = |error| StartError::Listen { what: "receive.listen", listen, error };
        let server = Server::bind(listen).await.map_err(refused)?;
        let address = server.address();
        // Calls go on by callbacks to their end, and what callbacks say is taken by the group after this one.
        Router::new(super::providers::desks(&self.settings, &self.switchboards), inbox, self.clock.clone())
            .spawn(server, &self.groups.callbacks);
        Ok(address)
    }

    /// Starts to take what providers say.
    pub(super) fn receive(&self, inbox: mpsc::Receiver<Inbound>) {
        let prices = self.settings.providers.iter();
        Reception {
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            extensions: Arc::clone(&self.extensions),
            senders: self.senders.clone(),
            prices: Prices::new(prices.filter_map(|provider| Some((provider.id.clone(), provider.price?)))),
            counted: super::providers::counted(&self.settings),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            tasks: self.groups.receive.clone(),
            facts: self.facts.clone(),
            follow_ups: Arc::new(FollowUps::new(self)),
        }
        .spawn(inbox);
    }
}
