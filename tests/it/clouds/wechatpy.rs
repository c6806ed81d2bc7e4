//! WeChat and WeCom against a server made of PyPI wechatpy, `tests/peers/wechat.py`: it takes nothing that wechatpy's own
//! client would not send, and what it calls back with is encrypted by wechatpy.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, Fate};
use serde_json::{Value, json};

use super::wechat::{put_template as put_notice, spec as notice};
use crate::support::api::{self, Client, Watched};
use crate::support::cloud::PATIENCE;
use crate::support::janitor::free_port;
use crate::support::peer::Peer;
use crate::support::service::{Backends, Service};

const APPID: &str = "wx0123456789";
const CORP: &str = "ww0123456789";
const AGENT: u32 = 1_000_002;
const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
/// Jobs to each of the two.
const JOBS: usize = 60;

/// A service, and the platform that it sends to and hears from.
struct Beset {
    platform: Peer,
    service: Service,
    client: Client,
}

/// Starts both. `messages` says what the WeChat account sends.
async fn start(messages: &'static str) -> Beset {
    let started = tokio::task::spawn_blocking(move || {
        let port = free_port();
        let setup = json!({
            "appid": APPID, "corp_id": CORP, "agent_id": AGENT, "secret": "geheim", "token": "token", "aes_key": KEY,
        });
        let callbacks = format!("http://127.0.0.1:{port}/callback/");
        let platform = Peer::python("wechat.py", &[&callbacks, &setup.to_string()]);
        let secrets = format!(
            "endpoint = \"http://127.0.0.1:{}\"\nsecret = \"geheim\"\ncallback_token = \"token\"\naes_key = \"{KEY}\"\n",
            platform.port()
        );
        let settings = format!(
            "[receive]\nlisten = \"127.0.0.1:{port}\"\n\
             [[provider]]\nid = \"wechat\"\nkind = \"wechat\"\nappid = \"{APPID}\"\nmessages = \"{messages}\"\n{secrets}\
             [[provider]]\nid = \"wecom\"\nkind = \"wecom\"\npool = \"employees\"\ncorp_id = \"{CORP}\"\n\
             agent_id = {AGENT}\nbatch_max = 7\n{secrets}\
             [[route]]\ntopics = [\"reminders\"]\npool = \"employees\"\n"
        );
        (platform, Service::start(&Backends::Embedded, &settings))
    });
    let (platform, service) = started.await.unwrap();
    let client = api::jobs(&service);
    Beset { platform, service, client }
}

fn batch(key: &str, spec: pb::JobSpec, items: impl Iterator<Item = pb::BatchItem>) -> pb::SubmitBatchRequest {
    pb::SubmitBatchRequest { idempotency_key: key.into(), spec: Some(spec), items: items.collect() }
}

/// A service notice to a follower; every tenth follows no more, and every tenth has blocked the account.
fn follower(number: usize) -> pb::BatchItem {
    let who = ["gone", "blocked"].get(number % 10).unwrap_or(&"o");
    let wechat = vec![pb::WechatAddress { appid: APPID.into(), openid: format!("{who}-{number}") }];
    let params = [("thing1".to_owned(), format!("新鞋 “{number}” & 1=1"))].into_iter().collect();
    let recipient = Some(pb::Recipient { wechat, ..pb::Recipient::default() });
    pb::BatchItem { recipient, params, ..pb::BatchItem::default() }
}

/// A message to an employee; every tenth is none.
fn employee(number: usize) -> pb::BatchItem {
    let who = if number.is_multiple_of(10) { "nobody" } else { "user" };
    let recipient = pb::Recipient {
        wecom_userid: format!("{who}{number}"),
        kind: pb::RecipientKind::Operator.into(),
        ..pb::Recipient::default()
    };
    let params = [("name".to_owned(), format!("{} 篇", number % 3))].into_iter().collect();
    pb::BatchItem { recipient: Some(recipient), params, ..pb::BatchItem::default() }
}

fn reminder() -> pb::JobSpec {
    let template = pb::TemplateContent { template: "reminder".into(), ..Default::default() };
    pb::JobSpec {
        content: Some(pb::job_spec::Content::Template(template)),
        class: Class::Notification.into(),
        topic: "reminders".into(),
        ..pb::JobSpec::default()
    }
}

/// Waits for the outcome of each job.
async fn outcomes(client: &Client, ids: &[String]) -> Vec<(Fate, String)> {
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while ids.iter().any(|id| !watched.outcomes.contains_key(id)) && watch.elapsed() < PATIENCE * 3 {
        watched.follow(client, Duration::from_millis(300)).await;
    }
    ids.iter().map(|id| watched.outcomes.get(id).expect("an outcome")[0].clone()).collect()
}

/// Returns to whom a call went out, and how often.
fn sent(platform: &Peer, call: &str) -> HashMap<String, usize> {
    let mut sent = HashMap::new();
    for event in platform.events("sent").iter().filter(|event| event["call"] == call && event["code"] == 0) {
        for to in event["to"].as_str().unwrap().split('|') {
            *sent.entry(to.to_owned()).or_default() += 1;
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_goes_out_as_wechatpy_would_send_it() {
    let Beset { platform, service, client } = start("template").await;
    put_notice(&service, "wechat").await;
    api::put_template(&service, api::template("reminder", "{name}等您确认")).await;
    let followers = |half: usize| (0..JOBS).filter(move |number| number % 2 == half).map(follower);
    let mut ids = api::insist(&client, &batch("even", notice(Class::Notification), followers(0))).await;
    platform.wait_for("sent", 1).await;
    // Both tokens end while jobs go out.
    platform.command("end wechat");
    ids.extend(api::insist(&client, &batch("odd", notice(Class::Notification), followers(1))).await);
    let mut employees = api::insist(&client, &batch("first", reminder(), (0..JOBS / 2).map(employee))).await;
    outcomes(&client, &employees).await;
    platform.command("end wecom");
    employees.extend(api::insist(&client, &batch("second", reminder(), (JOBS / 2..JOBS).map(employee))).await);
    for (id, (fate, reason)) in outcomes(&client, &ids).await.into_iter().enumerate() {
        let number = id % (JOBS / 2) * 2 + id / (JOBS / 2);
        let expected = match number % 10 {
            0 => (Fate::Rejected, "43004"),
            1 => (Fate::Undelivered, "user block"),
            _ => (Fate::Delivered, ""),
        };
        assert_eq!((fate, &*reason), expected, "{number}");
    }
    for (number, (fate, reason)) in outcomes(&client, &employees).await.into_iter().enumerate() {
        let expected = if number % 10 == 0 { (Fate::Rejected, "invaliduser") } else { (Fate::Sent, "") };
        assert_eq!((fate, &*reason), expected, "{number}");
    }
    assert_eq!(platform.events("odd"), Vec::<Value>::new(), "wechatpy would send the same");
    let tokens = platform.events("token");
    let of = |who: &str| tokens.iter().filter(|token| token["of"] == who).count();
    assert_eq!((of("wechat"), of("wecom")), (2, 2), "the first, and the one after it");
    let notices = sent(&platform, "/cgi-bin/message/template/send");
    assert!(notices.len() == JOBS * 9 / 10 && notices.values().all(|&times| times == 1), "{notices:?}");
    let reminders = sent(&platform, "/cgi-bin/message/send");
    assert!(reminders.len() == JOBS && reminders.values().all(|&times| times == 1), "{reminders:?}");
    let thanked = platform.wait_for("thanked", notices.len()).await;
    assert!(thanked.iter().all(|thanks| thanks["status"] == 200 && thanks["body"] == "success"), "{thanked:?}");
    drop(service);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wechatpy_encrypts_is_watched() {
    let Beset { platform, service, mut client } = start("subscribe").await;
    put_notice(&service, "wechat").await;
    let ids = api::insist(&client, &batch("notices", notice(Class::Notification), (2..9).map(follower))).await;
    assert!(outcomes(&client, &ids).await.iter().all(|(fate, _)| *fate == Fate::Sent));
    assert_eq!(platform.events("odd"), Vec::<Value>::new());
    for of in ["wechat", "wecom"] {
        platform.command(&format!("greet {of}"));
    }
    let greeted = platform.wait_for("greeted", 2).await;
    assert!(greeted.iter().all(|greeted| greeted["good"] == true), "{greeted:?}");
    platform.command("event wechat <Event>subscribe</Event><EventKey><![CDATA[qrscene_7]]></EventKey>");
    platform.command(
        "event wecom <Event>change_external_contact</Event><ChangeType>add_external_contact</ChangeType>\
         <UserID>zhang</UserID><ExternalUserID>wm1</ExternalUserID><State><![CDATA[门店 7]]></State>",
    );
    let request = pb::WatchEventsRequest { from_start: true, ..pb::WatchEventsRequest::default() };
    let mut stream = client.watch_events(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while told.len() < 2 {
        let answer = Clock::system().timeout(PATIENCE, stream.message()).await.expect("signals").unwrap().unwrap();
        told.extend(answer.events.into_iter().filter_map(|event| match event.what {
            Some(pb::event::What::Signal(signal)) => Some((signal.kind(), signal.details)),
            _ => None,
        }));
    }
    assert_eq!([told[0].0, told[1].0], [pb::SignalKind::Subscribed, pb::SignalKind::FriendAdded]);
    assert_eq!((&*told[0].1["scene"], &*told[1].1["state"]), ("7", "门店 7"));
    drop(service);
}
