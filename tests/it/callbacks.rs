//! Callbacks that are not the provider's, not whole, not new or for nobody: refused, counted, and no harm to what follows.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use postrider::channel::callback::Callbacks;
use postrider::channel::sms::twilio::{callback::Desk, signature};
use postrider::channel::template::{crypt::Crypt, wechat};
use postrider::channel::{Inbound, News};
use postrider::config::{self, Secret};
use postrider::domain::ids::ProviderId;
use postrider::domain::time::Clock;
use postrider::receipt::{Desks, Router};
use postrider::shutdown::Tasks;
use postrider::telemetry::exporter;
use tokio::sync::mpsc;

use crate::support::cloud::{PATIENCE, callback_server, provider};

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
        Self::with(id, |id, url| Box::new(Desk::new(id, url, Secret::new(TOKEN)))).await
    }

    /// Starts with another parser of callbacks, made of its id and URL.
    async fn with(id: &str, desk: impl FnOnce(ProviderId, &str) -> Box<dyn Callbacks>) -> Self {
        exporter::install();
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let (server, url) = callback_server().await;
        let address = server.address();
        let path = format!("/callback/{id}");
        let id: ProviderId = id.parse().unwrap();
        let desk = desk(id.clone(), &url);
        let (sender, inbox) = mpsc::channel(10);
        let desks: Desks = [(id, desk)].into_iter().collect();
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

fn wechat_account() -> config::Wechat {
    let settings = provider(&format!(
        "[[provider]]\nid = \"wechat\"\nkind = \"wechat\"\nappid = \"wx1\"\nsecret = \"x\"\ncallback_token = \"{TOKEN}\"\n\
         aes_key = \"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG\"\n"
    ));
    let config::Link::Wechat(link) = &settings.providers[0].link else { panic!("wechat") };
    link.clone()
}

fn wechat_crypt(account: &str) -> Crypt {
    Crypt::new(wechat_account().callbacks.unwrap(), account)
}

/// A callback of WeChat to an account, signed and encrypted at a time.
fn wechat_post(path: &str, account: &str, at: i64, said: &str) -> Vec<u8> {
    let crypt = wechat_crypt(account);
    let (encrypted, at) = (crypt.seal(said.as_bytes(), [9; 16]), at.to_string());
    let target = format!("{path}?timestamp={at}&nonce=n&msg_signature={}", crypt.sign(&at, "n", Some(&encrypted)));
    post(&target, "", format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>").as_bytes())
}

const WECHAT_DONE: &str = "<xml><MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event><MsgID>1</MsgID>\
                           <Status>success</Status></xml>";

#[tokio::test]
async fn what_is_not_wechats_is_refused_and_counted_and_does_no_harm() {
    let account = wechat_account();
    let desk =
        |id, _: &str| Box::new(wechat::callback::Desk::new(id, &account, account.callbacks.clone().unwrap())) as _;
    let mut beset = Beset::with("wechat", desk).await;
    let now = beset.clock.now().as_secs();
    let (path, forbidden, bad) = (beset.path.clone(), "HTTP/1.1 403 Forbidden", "HTTP/1.1 400 Bad Request");
    // Of another account, changed on the way, not encrypted, not XML.
    assert_eq!(beset.ask(wechat_post(&path, "wx2", now, WECHAT_DONE)).await, forbidden);
    let good = String::from_utf8(wechat_post(&path, "wx1", now, WECHAT_DONE)).unwrap();
    assert_eq!(beset.ask(good.replace("msg_signature=", "msg_signature=0").into_bytes()).await, forbidden);
    assert_eq!(beset.ask(post(&path, "", WECHAT_DONE.as_bytes())).await, forbidden);
    assert_eq!(beset.ask(post(&path, "", b"\xff\x00{}")).await, forbidden);
    // An entity that grows, in what anybody may send and in what is signed.
    let bomb = "<!DOCTYPE x [<!ENTITY a 'xxxxxxxxxx'><!ENTITY b '&a;&a;&a;&a;'>]><xml><Encrypt>&b;</Encrypt></xml>";
    assert_eq!(beset.ask(post(&path, "", bomb.as_bytes())).await, forbidden);
    assert_eq!(beset.ask(wechat_post(&path, "wx1", now, bomb)).await, bad);
    // Old, and to come.
    for apart in [-3_600, 3_600] {
        assert_eq!(beset.ask(wechat_post(&path, "wx1", now + apart, WECHAT_DONE)).await, forbidden);
    }
    let huge = beset.ask(wechat_post(&path, "wx1", now, &"x".repeat(10 * 1024 * 1024))).await;
    assert!(["", "HTTP/1.1 413 Payload Too Large"].contains(&&*huge), "{huge}");
    assert!(beset.inbox.try_recv().is_err(), "none of it says anything");
    // What is WeChat's is taken, once.
    let (status, news) = beset.ask_and_take(good.clone().into_bytes()).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(matches!(news, News::Receipt(_)));
    assert_eq!(beset.ask(good.into_bytes()).await, "HTTP/1.1 200 OK");
    assert!(beset.inbox.try_recv().is_err(), "a replay says nothing");
    // It asks who listens.
    let greeting = |signature: String| {
        let target = format!("{path}?timestamp={now}&nonce=n&echostr=5838&signature={signature}");
        format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()
    };
    let signature = wechat_crypt("wx1").sign(&now.to_string(), "n", None);
    assert_eq!(beset.ask(greeting(signature)).await, "HTTP/1.1 200 OK");
    assert_eq!(beset.ask(greeting("0".repeat(40))).await, forbidden);
    let counts =
        ["taken", "replayed", "signature", "stale", "unreadable", "body"].map(|result| counted("wechat", result));
    assert_eq!(counts, [2.0, 1.0, 6.0, 2.0, 1.0, 1.0]);
    assert_eq!(beset.tasks.finish(&beset.clock, PATIENCE).await, 0, "tasks left");
}
