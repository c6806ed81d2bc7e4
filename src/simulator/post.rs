//! The post: what a simulated cloud says by itself, each when its time has come, again until it is thanked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Semaphore;

use super::Post;
use crate::channel::http::client::Client;
use crate::channel::http::{Bytes, Request, Response};
use crate::config::Endpoint;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// Most letters on their way; what is more is lost.
const LETTERS_MAX: usize = 200_000;
/// Most connections to one receiver.
const CONNECTIONS: u32 = 32;
/// Most receivers.
const RECEIVERS_MAX: usize = 16;
/// How long a receiver may take to thank.
const PATIENCE: Duration = Duration::from_secs(15);
/// Until a letter that was not thanked for is sent again, and how often it is sent.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;

pub(super) struct Postman {
    clients: Clients,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
    tasks: Tasks,
    clock: Clock,
}

/// A client for each receiver.
pub(super) struct Clients {
    known: Mutex<HashMap<String, Client>>,
    tasks: Tasks,
    clock: Clock,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    given_up: AtomicU64,
}

impl Postman {
    pub(super) fn new(tasks: &Tasks, clock: &Clock) -> Self {
        Self {
            clients: Clients::new(tasks, clock),
            places: Arc::new(Semaphore::new(LETTERS_MAX)),
            counts: Arc::default(),
            tasks: tasks.clone(),
            clock: clock.clone(),
        }
    }

    /// Returns how many letters were thanked for, and how many were given up.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counts.taken.load(Ordering::Relaxed), self.counts.given_up.load(Ordering::Relaxed))
    }

    /// Sends a letter once `after` has passed.
    pub(super) fn send(&self, post: Post, after: Duration) {
        let (Some((client, target)), Ok(place)) =
            (self.clients.of(&post.url), Arc::clone(&self.places).try_acquire_owned())
        else {
            self.counts.given_up.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (clock, counts, stop) = (self.clock.clone(), Arc::clone(&self.counts), self.tasks.stop().clone());
        self.tasks.spawn("simulated_letter", async move {
            let delivery = async {
                clock.sleep(after).await;
                for _ in 0..TRIES {
                    if thanked(&client, &post, &target).await {
                        return true;
                    }
                    clock.pause(AGAIN).await;
                }
                false
            };
            match stop.run_until_cancelled(delivery).await {
                Some(true) => counts.taken.fetch_add(1, Ordering::Relaxed),
                Some(false) | None => counts.given_up.fetch_add(1, Ordering::Relaxed),
            };
            drop(place);
        });
    }
}

impl Clients {
    pub(super) fn new(tasks: &Tasks, clock: &Clock) -> Self {
        Self { known: Mutex::default(), tasks: tasks.clone(), clock: clock.clone() }
    }

    /// Returns the client for a URL, and the path that it names.
    pub(super) fn of(&self, url: &str) -> Option<(Client, String)> {
        let path = url.find("://").and_then(|at| url[at + 3..].find('/').map(|slash| at + 3 + slash))?;
        let (base, target) = url.split_at(path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(base) {
            return Some((client.clone(), target.to_owned()));
        }
        if known.len() >= RECEIVERS_MAX {
            return None;
        }
        let endpoint: Endpoint = base.parse().ok()?;
        let connections = std::num::NonZeroU32::new(CONNECTIONS)?;
        let client = Client::new(&endpoint, None, connections, &self.tasks, &self.clock).ok()?;
        known.insert(base.to_owned(), client.clone());
        Some((client, target.to_owned()))
    }
}

async fn thanked(client: &Client, post: &Post, target: &str) -> bool {
    sent(client, post, target).await.is_some_and(|answer| answer.status().is_success())
}

/// Sends a letter once; returns its answer, if there is one.
pub(super) async fn sent(client: &Client, post: &Post, target: &str) -> Option<Response<Bytes>> {
    let request =
        post.headers.iter().fold(Request::post(target), |request, (name, value)| request.header(*name, value));
    client.send(request.body(Bytes::from(post.body.clone())).ok()?, PATIENCE).await.ok()
}
