//! WeCom against its simulator, and both against wechatpy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider::channel::callback::{Call, Callbacks};
use postrider::channel::http::client::Client;
use postrider::channel::http::{Bytes, HeaderMap};
use postrider::channel::sms::cloud::{Cloud, Settings};
use postrider::channel::template::crypt::Crypt;
use postrider::channel::template::token::Alone;
use postrider::channel::template::wecom::{Wecom, callback::Desk};
use postrider::channel::{Answer, Filled, Handover, News};
use postrider::config::{self, Link};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Kind};
use postrider::domain::recipient::{Recipient, RecipientKind};
use postrider::domain::signal::Told;
use postrider::domain::template::Template;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb;
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Fared, Simulator, wecom};

use crate::support::api::{self, Watched};
use crate::support::cloud::{
    PATIENCE, Rig, ask_python, callback_server, each_code_means, provider, quick, short, words,
};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

pub(super) const CORP: &str = "ww0123456789";
pub(super) const AGENT: u32 = 1_000_002;
const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

fn settings(endpoint: &str) -> String {
    format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"wecom\"\nendpoint = \"{endpoint}\"\ncorp_id = \"{CORP}\"\n\
         agent_id = {AGENT}\nsecret = \"geheim\"\ncallback_token = \"token\"\naes_key = \"{KEY}\"\n\
         response_timeout = \"3s\"\n"
    )
}

fn link(endpoint: &str) -> config::Wecom {
    link_of(endpoint, "")
}

/// Returns the same with more settings.
pub(super) fn link_of(endpoint: &str, more: &str) -> config::Wecom {
    let settings = provider(&(settings(endpoint) + more));
    let Link::Wecom(link) = &settings.providers[0].link else { panic!("wecom") };
    link.clone()
}

/// Returns a corporation that goes by a clock.
pub(super) fn corporation_at(url: &str, clock: &Clock) -> wecom::Wecom {
    corporation_with(url, Duration::from_secs(7_200), clock)
}

pub(super) fn corporation(url: &str, token_life: Duration) -> wecom::Wecom {
    corporation_with(url, token_life, &Clock::system())
}

fn corporation_with(url: &str, token_life: Duration, clock: &Clock) -> wecom::Wecom {
    let secrets = link("http://127.0.0.1:1").callbacks.unwrap();
    let callback = Some((url.to_owned(), Crypt::new(secrets, CORP)));
    let (corp_id, secret) = (CORP.to_owned(), "geheim".to_owned());
    wecom::Wecom::new(
        wecom::Corporation {
            corp_id,
            agent_id: AGENT,
            secret,
            token_life,
            callback,
            operators: wecom::Operators::default(),
        },
        clock,
    )
}

async fn start(behaviour: Behaviour) -> (Rig, wecom::Wecom) {
    let (server, url) = callback_server().await;
    let corporation = corporation(&format!("{url}/callback/cloud"), Duration::from_secs(7_200));
    let rig = Rig::start(Box::new(corporation.clone()), behaviour, server, |address| {
        let link = link(&format!("http://{address}"));
        let desk = Desk::new("cloud".parse().unwrap(), &link, link.callbacks.clone().unwrap());
        (Box::new(Wecom::new(link, Arc::new(Alone), &Clock::system())), Box::new(desk))
    });
    (rig.await, corporation)
}

/// A message to an employee.
pub(super) fn handover(number: u64, userid: &str, text: &str) -> Handover {
    let template = Template {
        name: "reminder".into(),
        version: 1,
        variables: vec![],
        bodies: vec![],
        providers: vec![],
        stored_at: UnixMicros(0),
    };
    let recipient =
        Recipient { wecom_userid: Some(userid.into()), kind: RecipientKind::Operator, ..Recipient::default() };
    let (name, signature) = ("reminder".into(), "".into());
    Handover {
        job: JobId::new(UnixMicros::from_secs(1), u128::from(number) << 64),
        attempt: 1,
        kind: Kind::Template,
        class: Class::Notification,
        recipient: Arc::new(recipient),
        sender: "".into(),
        content: Content::Template { name, version: 1, locale: "".into(), signature, plan: Arc::default() },
        params: vec![],
        template: Some(Filled { template: Arc::new(template), locale: "".into(), text: text.into(), id: None }),
        validity: Duration::from_secs(3_600),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

/// The only connection is in use until one of them has expired: the others go, in one request.
#[tokio::test]
async fn what_expires_while_it_waits_for_a_connection_does_not_go_out() {
    let (rig, _corporation) = start(quick()).await;
    let endpoint = format!("http://{}", rig.simulator.address());
    let client = Client::new(&endpoint.parse().unwrap(), None, 1.try_into().unwrap(), &rig.tasks, &rig.clock).unwrap();
    let settings = Settings {
        provider: "cloud".parse().unwrap(),
        window: 10.try_into().unwrap(),
        rate_per_s: 0.0,
        response_timeout: Duration::from_secs(8),
    };
    let api = Box::new(Wecom::new(link(&endpoint), Arc::new(Alone), &rig.clock));
    let cloud = Cloud::new(api, client, settings, &rig.tasks, &rig.clock);
    assert_eq!(words(&rig.submit_to(&cloud, vec![handover(0, "warm", "a token")]).await), ["taken"]);
    rig.simulator.behave(Behaviour { latency: Duration::from_millis(1_200), ..quick() });
    let soon = rig.clock.now().plus(Duration::from_millis(400));
    let late = |number| Handover { expires_at: soon, ..handover(number, &format!("late{number}"), "two posts wait") };
    let (first, second, third) = tokio::join!(
        rig.submit_to(&cloud, vec![handover(1, "holds", "the connection")]),
        async {
            rig.clock.pause(Duration::from_millis(50)).await;
            rig.simulator.behave(quick());
            rig.submit_to(
                &cloud,
                vec![late(2), handover(3, "li", "two posts wait"), handover(4, "wu", "two posts wait")],
            )
            .await
        },
        async {
            rig.clock.pause(Duration::from_millis(100)).await;
            rig.submit_to(&cloud, vec![late(5)]).await
        },
    );
    assert_eq!(short(&first), ["taken"]);
    assert_eq!(short(&second), ["not sent expires_at 0s", "taken", "taken"]);
    assert_eq!(short(&third), ["not sent expires_at 0s"]);
    let messages = rig.simulator.messages();
    let ids: Vec<_> = messages
        .iter()
        .filter(|(message, _)| message.text == "two posts wait")
        .map(|(message, _)| &message.id)
        .collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "those that have time go together: {ids:?}");
    assert!(!messages.iter().any(|(message, _)| message.to.starts_with("late")));
    rig.finish().await;
}

#[tokio::test]
async fn equal_messages_share_a_request_and_each_has_its_own_answer() {
    let (rig, corporation) = start(quick()).await;
    // Two texts in turn, and every tenth is nobody.
    let jobs: Vec<_> = (0..100)
        .map(|number: u64| {
            let who = if number % 10 == 9 { "Nobody" } else { "user" };
            handover(
                number,
                &format!("{who}{number}"),
                if number.is_multiple_of(2) { "two posts wait" } else { "one post waits" },
            )
        })
        .collect();
    let answers = rig.submit(jobs).await;
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Answer::Taken { receipt_expected: false, .. } => assert_ne!(number % 10, 9),
            Answer::Refused { code } => assert!(**code == *"invaliduser" && number % 10 == 9),
            other => panic!("{number}: {other:?}"),
        }
    }
    let mut requests: HashMap<String, Vec<String>> = HashMap::new();
    for (message, _) in rig.simulator.messages() {
        requests.entry(message.id).or_default().push(message.text);
    }
    assert_eq!(requests.len(), 2, "one request for each text");
    for texts in requests.values() {
        assert!(texts.len() == 50 && texts.iter().all(|text| *text == texts[0]));
    }
    assert_eq!(corporation.tokens(), (1, 1));
    rig.finish().await;
}

#[tokio::test]
async fn a_token_that_ends_and_a_request_that_names_nobody_cost_the_others_nothing() {
    let (rig, corporation) = start(quick()).await;
    assert_eq!(words(&rig.submit(vec![handover(1, "zhang", "a")]).await), ["taken"]);
    corporation.end_token();
    let jobs = vec![handover(2, "zhang", "b"), handover(3, "li", "b"), handover(4, "nobody", "c")];
    assert_eq!(words(&rig.submit(jobs).await), ["taken", "taken", "refused"]);
    assert_eq!(corporation.tokens(), (2, 2));
    rig.finish().await;
}

/// wechatpy reads what our simulator says and speaks to it; we read what wechatpy encrypts.
#[tokio::test]
async fn wechatpy_agrees() {
    let (rig, corporation) = start(quick()).await;
    let added = "<Event><![CDATA[change_external_contact]]></Event><ChangeType>add_external_contact</ChangeType>\
                 <UserID>zhang</UserID><ExternalUserID>wm1</ExternalUserID><State>shop-7</State>\
                 <WelcomeCode>w1</WelcomeCode>";
    let post = corporation.event(added).unwrap();
    let at = rig.clock.now().as_secs().to_string();
    let asked = serde_json::json!({
        "api": format!("http://{}", rig.simulator.address()), "corp_id": CORP, "agent_id": AGENT, "secret": "geheim",
        "token": "token", "aes_key": KEY, "url": post.url, "body": post.body, "at": at,
    });
    let said = ask_python("wecom", &asked).await;
    assert_eq!(said["sent"], serde_json::json!([0, "nobody1"]));
    assert_eq!((&said["posted"], corporation.posted()), (&serde_json::json!([0, ["nobody"]]), (1, 0)));
    assert_eq!(said["event"], serde_json::json!(["ChangeExternalContactEvent", "wm1", "shop-7", "w1"]));
    let encrypted = said["encrypted"].as_str().unwrap();
    let signature = encrypted.split_once("<MsgSignature><![CDATA[").unwrap().1.split_once("]]>").unwrap().0;
    let target = format!("/callback/cloud?timestamp={at}&nonce=a-nonce&msg_signature={signature}");
    let link = link("http://127.0.0.1:1");
    let desk = Desk::new("cloud".parse().unwrap(), &link, link.callbacks.clone().unwrap());
    let body = Bytes::copy_from_slice(encrypted.as_bytes());
    let call = Call { token: "", target: &target, headers: &HeaderMap::new(), body: &body };
    let news = desk.read(&call, rig.clock.now()).unwrap();
    let [News::Signal(signal)] = &news[..] else { panic!("{news:?}") };
    assert_eq!((signal.told, &*signal.recipient.wecom.as_ref().unwrap().external_userid), (Told::FriendAdded, "wm9"));
    assert!(signal.details.contains(&("welcome_code".into(), "WELCOMECODE".into())));
    rig.finish().await;
}

/// Employees of the whole service: who is there is told once, who is not is rejected by name, and a friend who is added
/// comes to those who watch once, though WeCom says it three times.
#[tokio::test]
async fn employees_are_told_and_friends_are_watched() {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let corporation = corporation(&format!("http://127.0.0.1:{port}/callback/cloud"), Duration::from_secs(1));
    let listen = ([127, 0, 0, 1], 0).into();
    let behaviour = Behaviour { throttled: 0.05, not_sent: 0.05, ..quick() };
    let simulator =
        Simulator::start(Box::new(corporation.clone()), listen, (behaviour, 3), &tasks, &clock).await.unwrap();
    let endpoint = format!("http://{}", simulator.address());
    let settings = format!("[receive]\nlisten = \"127.0.0.1:{port}\"\n{}batch_max = 7\n", settings(&endpoint));
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    api::put_template(&service, api::template("reminder", "{name} posts wait")).await;
    let mut client = api::jobs(&service);
    let template = pb::TemplateContent { template: "reminder".into(), ..Default::default() };
    let spec = pb::JobSpec {
        content: Some(pb::job_spec::Content::Template(template)),
        class: pb::Class::Notification.into(),
        ..pb::JobSpec::default()
    };
    let item = |number: usize| {
        let who = if number % 10 == 9 { "nobody" } else { "user" };
        let recipient = pb::Recipient {
            wecom_userid: format!("{who}{number}"),
            kind: pb::RecipientKind::Operator.into(),
            ..pb::Recipient::default()
        };
        let params = [("name".to_owned(), (number % 3).to_string())].into_iter().collect();
        pb::BatchItem { recipient: Some(recipient), params, ..pb::BatchItem::default() }
    };
    let request = pb::SubmitBatchRequest {
        idempotency_key: "reminders".into(),
        spec: Some(spec),
        items: (0..100).map(item).collect(),
    };
    let ids = api::insist(&client, &request).await;
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while watched.outcomes.len() < ids.len() && watch.elapsed() < Duration::from_secs(60) {
        watched.follow(&client, Duration::from_millis(300)).await;
    }
    let messages = simulator.messages();
    for (number, id) in ids.iter().enumerate() {
        let [(fate, reason)] = &watched.outcomes[id][..] else { panic!("{number}") };
        let expected = if number % 10 == 9 { pb::Fate::Rejected } else { pb::Fate::Sent };
        assert_eq!(*fate, expected, "{number}: {reason}");
        let to = format!("user{number}");
        let taken = messages.iter().filter(|(message, fared)| message.to == to && matches!(fared, Fared::Taken(_)));
        assert_eq!(taken.count(), usize::from(number % 10 != 9));
    }
    what_customers_do_is_watched_once(&corporation, &simulator, &mut client).await;
    drop(service);
    tasks.finish(&clock, PATIENCE).await;
}

/// WeCom says everything three times.
async fn what_customers_do_is_watched_once(
    corporation: &wecom::Wecom,
    simulator: &Simulator,
    client: &mut api::Client,
) {
    let clock = Clock::system();
    let contact = |change: &str, more: &str| {
        format!(
            "<Event><![CDATA[change_external_contact]]></Event><ChangeType>{change}</ChangeType><UserID>zhang</UserID>\
             <ExternalUserID>wm1</ExternalUserID>{more}"
        )
    };
    let group = |detail: &str| {
        format!(
            "<Event><![CDATA[change_external_chat]]></Event><ChatId>wr1</ChatId><ChangeType>update</ChangeType>\
             <UpdateDetail>{detail}</UpdateDetail><MemChangeCnt>1</MemChangeCnt><MemChangeList><Item>wm1</Item>\
             </MemChangeList>"
        )
    };
    let events = [
        contact("add_external_contact", "<State>shop-7</State><WelcomeCode>w1</WelcomeCode>"),
        group("add_member"),
        group("del_member"),
        "<Event>LOCATION</Event><Latitude>23.1</Latitude><Longitude>113.3</Longitude>".to_owned(),
        contact("del_follow_user", ""),
    ];
    for (at, event) in (clock.now().as_secs()..).zip(&events) {
        let thanked = simulator.callbacks().0 + 3;
        (0..3).for_each(|_| simulator.post(corporation.event_at(event, at)));
        let thanks = clock.timeout(PATIENCE, async {
            while simulator.callbacks().0 < thanked {
                clock.pause(Duration::from_millis(10)).await;
            }
        });
        thanks.await.expect("thanks");
    }
    simulator.post(corporation.event(&events[0].replace("wm1", "wm2")));
    let request = pb::WatchEventsRequest { from_start: true, ..pb::WatchEventsRequest::default() };
    let mut stream = client.watch_events(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, who, _)| who != "wm2") {
        let answer = clock.timeout(PATIENCE, stream.message()).await.expect("signals").unwrap().unwrap();
        for event in answer.events {
            let Some(pb::event::What::Signal(signal)) = event.what else { continue };
            let (kind, who) = (signal.kind(), signal.recipient.unwrap());
            let person = who.wecom.map(|at| at.external_userid).unwrap_or(who.wecom_userid);
            seen.push((kind, person, who.wecom_chat_id));
        }
    }
    let expected = [
        (pb::SignalKind::FriendAdded, "wm1", ""),
        (pb::SignalKind::GroupJoined, "wm1", "wr1"),
        (pb::SignalKind::GroupLeft, "wm1", "wr1"),
        (pb::SignalKind::Location, "sys", ""),
        (pb::SignalKind::FriendRemoved, "wm1", ""),
        (pb::SignalKind::FriendAdded, "wm2", ""),
    ];
    assert_eq!(seen, expected.map(|(kind, who, group)| (kind, who.to_owned(), group.to_owned())), "each once");
}

#[tokio::test]
async fn each_error_means_what_wecom_says() {
    let (rig, _corporation) = start(quick()).await;
    let codes = [
        ("81013", "refused 81013"),
        ("45009", "throttled 60s"),
        ("45033", "throttled"),
        ("60020", "closed 60020"),
        ("-1", "not sent -1"),
    ];
    let to = |number| format!("user{number}");
    each_code_means(&rig, &codes, to, |number| handover(number, &to(number), "hi")).await;
    rig.finish().await;
}
