//! Callbacks that are not the provider's, not whole, not new or for nobody: refused, counted, and no harm to what follows.

mod unsigned;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider::channel::call::twilio::{self as voice, Switchboard};
use postrider::channel::callback::Callbacks;
use postrider::channel::sms::twilio::{callback::Desk, signature};
use postrider::channel::template::{crypt::Crypt, wechat, wecom};
use postrider::channel::{Inbound, News};
use postrider::config::{self, Link, Secret};
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

/// The same of calls, where nobody drives the call that they are about.
#[tokio::test]
async fn what_twilio_did_not_say_of_a_call_is_refused_and_counted_and_does_no_harm() {
    let desk =
        |id, url: &str| Box::new(voice::callback::Desk::new(id, url, Secret::new(TOKEN), Switchboard::default())) as _;
    let mut beset = Beset::with("beset-voice", desk).await;
    let about = format!("{}?job=0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11&attempt=1", beset.path);
    let ended = "CallSid=CA0123456789abcdef0123456789abcdef&CallStatus=busy&From=%2B15005550006&To=%2B8613800000001";
    assert_eq!(beset.ask(post(&about, "AAAA", ended.as_bytes())).await, "HTTP/1.1 403 Forbidden");
    let of_another = String::from_utf8(beset.signed(&about, ended)).unwrap().replace("attempt=1", "attempt=2");
    assert_eq!(beset.ask(of_another.into_bytes()).await, "HTTP/1.1 403 Forbidden");
    assert_eq!(beset.ask(beset.signed(&about, "colour=blue")).await, "HTTP/1.1 400 Bad Request");
    assert_eq!(beset.ask(beset.signed(&beset.path, ended)).await, "HTTP/1.1 400 Bad Request", "of no job");
    let huge = beset.ask(beset.signed(&about, &"x".repeat(10 * 1024 * 1024))).await;
    assert!(["", "HTTP/1.1 413 Payload Too Large"].contains(&&*huge), "{huge}");
    // Who asks what to say to the callee of a call that nobody drives is told to hang up.
    assert_eq!(beset.ask(beset.signed(&format!("{about}&step=0"), ended)).await, "HTTP/1.1 200 OK");
    assert!(beset.inbox.try_recv().is_err(), "none of it says anything");
    let (status, news) = beset.ask_and_take(beset.signed(&about, ended)).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(matches!(news, News::Call(_)), "{news:?}");
    assert_eq!(beset.ask(beset.signed(&about, ended)).await, "HTTP/1.1 200 OK");
    assert!(beset.inbox.try_recv().is_err(), "a replay says nothing");
    let counts = ["taken", "replayed", "signature", "unreadable", "body"].map(|result| counted("beset-voice", result));
    assert_eq!(counts, [2.0, 1.0, 2.0, 2.0, 1.0]);
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

/// The platform's secrets of the accounts that are tried.
fn secrets() -> config::Crypt {
    let Link::Wechat(link) = link("wechat", "appid = \"wx1\"\n") else { panic!("wechat") };
    link.callbacks.unwrap()
}

fn link(kind: &str, more: &str) -> Link {
    let settings = provider(&format!(
        "[[provider]]\nid = \"x\"\nkind = \"{kind}\"\n{more}secret = \"x\"\ncallback_token = \"{TOKEN}\"\n\
         aes_key = \"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG\"\n"
    ));
    settings.providers[0].link.clone()
}

/// A callback of the platform to an account, signed and encrypted at a time.
fn sealed_post(path: &str, account: &str, at: i64, said: &str) -> Vec<u8> {
    let crypt = Crypt::new(secrets(), account);
    signed_post(path, at, &crypt.seal(said.as_bytes(), [9; 16]))
}

/// A callback whose signature is good, whatever was encrypted.
fn signed_post(path: &str, at: i64, encrypted: &str) -> Vec<u8> {
    let at = at.to_string();
    let signature = Crypt::new(secrets(), "").sign(&at, "n", Some(encrypted));
    let target = format!("{path}?timestamp={at}&nonce=n&msg_signature={signature}");
    post(&target, "", format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>").as_bytes())
}

/// Tries everything that is not the platform's on the callbacks of `account`, to which `good` is said by it.
async fn what_is_not_the_platforms(beset: &mut Beset, id: &str, account: &str, good: &str) {
    let now = beset.clock.now().as_secs();
    let (path, forbidden, bad) = (beset.path.clone(), "HTTP/1.1 403 Forbidden", "HTTP/1.1 400 Bad Request");
    // Of another account, changed on the way, not encrypted, not XML.
    assert_eq!(beset.ask(sealed_post(&path, "another", now, good)).await, forbidden);
    let whole = String::from_utf8(sealed_post(&path, account, now, good)).unwrap();
    assert_eq!(beset.ask(whole.replace("msg_signature=", "msg_signature=0").into_bytes()).await, forbidden);
    assert_eq!(beset.ask(post(&path, "", good.as_bytes())).await, forbidden);
    assert_eq!(beset.ask(post(&path, "", b"\xff\x00{}")).await, forbidden);
    // Whoever has the token alone learns nothing from changes of the last block: each is answered as all are.
    let encrypted = Crypt::new(secrets(), account).seal(good.as_bytes(), [9; 16]);
    let mut bytes = STANDARD.decode(encrypted).unwrap();
    let place = bytes.len() - 17;
    for value in (0..=u8::MAX).step_by(17) {
        bytes[place] ^= value | 1;
        assert_eq!(beset.ask(signed_post(&path, now, &STANDARD.encode(&bytes))).await, forbidden);
        bytes[place] ^= value | 1;
    }
    // An entity that grows, and attributes without end, in what anybody may send and in what is signed.
    let attributes: String = (0..100_000).map(|number| format!(" a{number}=''")).collect();
    let entities = "<!DOCTYPE x [<!ENTITY a 'xxxxxxxxxx'><!ENTITY b '&a;&a;&a;&a;'>]><xml><Encrypt>&b;</Encrypt></xml>";
    let bombs = [entities.to_owned(), format!("<xml{attributes}/>"), format!("<xml>{}</xml>", "<a/>".repeat(50_000))];
    for bomb in &bombs {
        assert_eq!(beset.ask(post(&path, "", bomb.as_bytes())).await, forbidden);
    }
    assert_eq!(beset.ask(sealed_post(&path, account, now, entities)).await, bad);
    // Old, and to come.
    for apart in [-3_600, 3_600] {
        assert_eq!(beset.ask(sealed_post(&path, account, now + apart, good)).await, forbidden);
    }
    let huge = beset.ask(sealed_post(&path, account, now, &"x".repeat(10 * 1024 * 1024))).await;
    assert!(["", "HTTP/1.1 413 Payload Too Large"].contains(&&*huge), "{huge}");
    assert!(beset.inbox.try_recv().is_err(), "none of it says anything");
    // What is the platform's is taken, once.
    let (status, _) = beset.ask_and_take(whole.clone().into_bytes()).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(beset.ask(whole.into_bytes()).await, "HTTP/1.1 200 OK");
    assert!(beset.inbox.try_recv().is_err(), "a replay says nothing");
    let counts = ["taken", "replayed", "signature", "stale", "unreadable", "body"].map(|result| counted(id, result));
    assert_eq!(counts, [1.0, 1.0, 23.0, 2.0, 1.0, 1.0]);
}

#[tokio::test]
async fn what_is_not_wechats_is_refused_and_counted_and_does_no_harm() {
    let Link::Wechat(account) = link("wechat", "appid = \"wx1\"\n") else { panic!("wechat") };
    let desk = |id, _: &str| Box::new(wechat::callback::Desk::new(id, &account, secrets())) as _;
    let mut beset = Beset::with("wechat", desk).await;
    let done = "<xml><MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event><MsgID>1</MsgID>\
                <Status>success</Status></xml>";
    what_is_not_the_platforms(&mut beset, "wechat", "wx1", done).await;
    // It asks who listens.
    let now = beset.clock.now().as_secs();
    let (path, crypt) = (beset.path.clone(), Crypt::new(secrets(), "wx1"));
    let greeting =
        |signature: String| get(&format!("{path}?timestamp={now}&nonce=n&echostr=5838&signature={signature}"));
    assert_eq!(beset.ask(greeting(crypt.sign(&now.to_string(), "n", None))).await, "HTTP/1.1 200 OK");
    assert_eq!(beset.ask(greeting("0".repeat(40))).await, "HTTP/1.1 403 Forbidden");
    assert_eq!([counted("wechat", "taken"), counted("wechat", "signature")], [2.0, 24.0]);
    assert_eq!(beset.tasks.finish(&beset.clock, PATIENCE).await, 0, "tasks left");
}

#[tokio::test]
async fn what_is_not_wecoms_is_refused_and_counted_and_does_no_harm() {
    let Link::Wecom(application) = link("wecom", "corp_id = \"ww1\"\nagent_id = 1\n") else { panic!("wecom") };
    let desk = |id, _: &str| Box::new(wecom::callback::Desk::new(id, &application, secrets())) as _;
    let mut beset = Beset::with("wecom", desk).await;
    let added = "<xml><CreateTime>1</CreateTime><MsgType>event</MsgType><Event>change_external_contact</Event>\
                 <ChangeType>add_external_contact</ChangeType><UserID>li</UserID><ExternalUserID>wm1</ExternalUserID></xml>";
    what_is_not_the_platforms(&mut beset, "wecom", "ww1", added).await;
    // It asks who listens, with a word that only who has the key can read.
    let (now, path) = (beset.clock.now().as_secs(), beset.path.clone());
    let greeting = |account: &str| {
        let crypt = Crypt::new(secrets(), account);
        let word = crypt.seal(b"5838", [1; 16]);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("timestamp", &now.to_string())
            .append_pair("nonce", "n")
            .append_pair("msg_signature", &crypt.sign(&now.to_string(), "n", Some(&word)))
            .append_pair("echostr", &word)
            .finish();
        get(&format!("{path}?{query}"))
    };
    assert_eq!(beset.ask(greeting("ww1")).await, "HTTP/1.1 200 OK");
    assert_eq!(beset.ask(greeting("ww2")).await, "HTTP/1.1 403 Forbidden");
    assert_eq!([counted("wecom", "taken"), counted("wecom", "signature")], [2.0, 24.0]);
    assert_eq!(beset.tasks.finish(&beset.clock, PATIENCE).await, 0, "tasks left");
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()
}
