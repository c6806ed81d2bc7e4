//! Callbacks that are not the provider's, not whole, not new or for nobody: refused, counted, and no harm to what follows.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use postrider::channel::sms::twilio::{callback::Desk, signature};
use postrider::channel::{Inbound, News};
use postrider::config::Secret;
use postrider::domain::ids::ProviderId;
use postrider::domain::time::Clock;
use postrider::receipt::{Desks, Router};
use postrider::shutdown::Tasks;
use postrider::telemetry::exporter;
use tokio::sync::mpsc;

use crate::support::cloud::{PATIENCE, callback_server};

const TOKEN: &str = "12345";
const RECEIPT: &str = "MessageSid=SM1&MessageStatus=delivered";

struct Beset {
    address: SocketAddr,
    path: String,
    url: String,
    tasks: Tasks,
    clock: Clock,
    inbox: mpsc::Receiver<Inbound>,
}

impl Beset {
    async fn start(id: &str) -> Self {
        exporter::install();
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let (server, url) = callback_server().await;
        let address = server.address();
        let path = format!("/callback/{id}");
        let id: ProviderId = id.parse().unwrap();
        let desk = Desk::new(id.clone(), &url, Secret::new(TOKEN));
        let (sender, inbox) = mpsc::channel(10);
        let desks: Desks = [(id, Box::new(desk) as _)].into_iter().collect();
        Router::new(desks, sender, clock.clone()).spawn(server, &tasks);
        Self { address, path, url, tasks, clock, inbox }
    }

    fn signed(&self, target: &str, body: &str) -> Vec<u8> {
        let signature = signature::sign(TOKEN, &format!("{}{target}", self.url), body.as_bytes());
        post(target, &signature, body.as_bytes())
    }

    /// Sends bytes and returns the status line; empty when the connection is closed without one.
    async fn ask(&self, bytes: Vec<u8>) -> String {
        let address = self.address;
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // It may be refused before all of it is written.
            let _refused = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
        });
        asked.await.unwrap()
    }

    /// Asks, and says that what comes of it is durable.
    async fn ask_and_take(&mut self, bytes: Vec<u8>) -> (String, News) {
        let address = self.address;
        let asking = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        });
        let inbound = self.clock.timeout(PATIENCE, self.inbox.recv()).await.expect("news").unwrap();
        inbound.done.send(()).unwrap();
        (asking.await.unwrap(), inbound.news)
    }
}

fn post(target: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nx-twilio-signature: {signature}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn counted(provider: &str, result: &str) -> f64 {
    let line = format!("postrider_callbacks_total{{provider=\"{provider}\",result=\"{result}\"}} ");
    let text = exporter::install().render();
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0.0)
}

#[tokio::test]
async fn what_is_not_the_providers_is_refused_and_counted_and_does_no_harm() {
    let mut beset = Beset::start("beset").await;
    // Nobody's, and not signed.
    assert_eq!(beset.ask(beset.signed("/callback/nobody", RECEIPT)).await, "HTTP/1.1 404 Not Found");
    assert_eq!(beset.ask(beset.signed("/other", RECEIPT)).await, "HTTP/1.1 404 Not Found");
    assert_eq!(beset.ask(post(&beset.path, "AAAA", RECEIPT.as_bytes())).await, "HTTP/1.1 403 Forbidden");
    let signed_for_another = beset.signed("/callback/nobody", RECEIPT);
    let stolen = String::from_utf8(signed_for_another).unwrap().replace("/callback/nobody", &beset.path);
    assert_eq!(beset.ask(stolen.into_bytes()).await, "HTTP/1.1 403 Forbidden");
    // Signed, and says nothing.
    assert_eq!(beset.ask(beset.signed(&beset.path, "colour=blue")).await, "HTTP/1.1 400 Bad Request");
    let get = format!("GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", beset.path);
    assert_eq!(beset.ask(get.into_bytes()).await, "HTTP/1.1 405 Method Not Allowed");
    // No HTTP, and a head without end.
    assert_eq!(beset.ask(b"\x16\x03\x01garbage\r\n\r\n".to_vec()).await, "HTTP/1.1 400 Bad Request");
    let long = format!("POST {} HTTP/1.1\r\nhost: {}\r\n\r\n", beset.path, "x".repeat(100_000));
    assert!(["", "HTTP/1.1 431 Request Header Fields Too Large"].contains(&&*beset.ask(long.into_bytes()).await));
    // 10 MiB: refused as soon as that shows, whoever sent it.
    let huge = beset.ask(beset.signed(&beset.path, &"x".repeat(10 * 1024 * 1024))).await;
    assert!(["", "HTTP/1.1 413 Payload Too Large"].contains(&&*huge), "{huge}");
    // A body that breaks off.
    let half = String::from_utf8(beset.signed(&beset.path, RECEIPT)).unwrap().replace("delivered", "deli");
    assert_eq!(beset.ask(half.into_bytes()).await, "");
    assert!(beset.inbox.try_recv().is_err(), "none of it says anything");
    // What is the provider's is taken.
    let (status, news) = beset.ask_and_take(beset.signed(&beset.path, RECEIPT)).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(matches!(news, News::Receipt(_)));
    // Once.
    assert_eq!(beset.ask(beset.signed(&beset.path, RECEIPT)).await, "HTTP/1.1 200 OK");
    assert!(beset.inbox.try_recv().is_err(), "a replay says nothing");
    let counts = ["taken", "replayed", "signature", "unreadable", "body"].map(|result| counted("beset", result));
    assert_eq!(counts, [1.0, 1.0, 2.0, 2.0, 2.0]);
    assert!(counted("unknown", "unknown") >= 2.0);
    assert_eq!(beset.tasks.finish(&beset.clock, PATIENCE).await, 0, "tasks left");
}

#[tokio::test]
async fn what_does_not_become_durable_is_said_again_and_taken_then() {
    let mut beset = Beset::start("beset-again").await;
    let request = beset.signed(&beset.path, "MessageSid=SM2&MessageStatus=delivered");
    let (inbox, clock) = (&mut beset.inbox, beset.clock.clone());
    let dropping = async { drop(clock.timeout(PATIENCE, inbox.recv()).await.expect("news")) };
    let address = beset.address;
    let body = request.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    });
    dropping.await;
    assert_eq!(asking.await.unwrap(), "HTTP/1.1 503");
    let (status, _) = beset.ask_and_take(request).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_slow_peer_holds_up_nobody() {
    let mut beset = Beset::start("beset-slowly").await;
    let slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(beset.address).unwrap();
            stream.write_all(b"POST /callback/be").unwrap();
            stream
        })
        .collect();
    let request = beset.signed(&beset.path, "MessageSid=SM3&MessageStatus=sent");
    assert_eq!(beset.ask_and_take(request).await.0, "HTTP/1.1 200 OK");
    drop(slow);
    beset.clock.pause(Duration::from_millis(1)).await;
}
