//! WeChat against its simulator, and both against wechatpy.

use std::sync::Arc;
use std::time::Duration;

use postrider::channel::callback::{Call, Callbacks};
use postrider::channel::http::{Bytes, HeaderMap};
use postrider::channel::template::crypt::Crypt;
use postrider::channel::template::token::Alone;
use postrider::channel::template::wechat::{Wechat, callback::Desk};
use postrider::channel::{Answer, Filled, Handover, News, Opens};
use postrider::config::{self, Link};
use postrider::domain::event::{Fate, Report};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Kind};
use postrider::domain::recipient::{self, Recipient};
use postrider::domain::template::Template;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb;
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Fared, Receipts, Simulator, wechat};
use tonic::Code;

use crate::support::api::{self, Watched};
use crate::support::cloud::{PATIENCE, Rig, ask_python, callback_server, each_code_means, provider, quick, words};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

pub(super) const APPID: &str = "wx0123456789";
const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// The settings of an account; `more` goes on with them.
pub(super) fn settings(endpoint: &str, more: &str) -> String {
    format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"wechat\"\nendpoint = \"{endpoint}\"\nappid = \"{APPID}\"\n\
         callback_token = \"token\"\naes_key = \"{KEY}\"\nresponse_timeout = \"3s\"\n{more}"
    )
}

fn link(endpoint: &str, more: &str) -> config::Wechat {
    let settings = provider(&settings(endpoint, more));
    let Link::Wechat(link) = &settings.providers[0].link else { panic!("wechat") };
    link.clone()
}

/// A simulated account with this secret, that calls back to `url`.
pub(super) fn account(url: &str, clock: &Clock, change: impl FnOnce(&mut wechat::Account)) -> wechat::Wechat {
    let secrets = link("http://127.0.0.1:1", "secret = \"x\"").callbacks.unwrap();
    let mut account = wechat::Account {
        appid: APPID.into(),
        secret: "geheim".into(),
        token_life: Duration::from_secs(7_200),
        daily_max: 100_000,
        consents: false,
        callback: Some((url.into(), Crypt::new(secrets, APPID))),
    };
    change(&mut account);
    wechat::Wechat::new(account, clock)
}

struct Beset {
    rig: Rig,
    account: wechat::Wechat,
}

async fn start(behaviour: Behaviour, more: &str, change: impl FnOnce(&mut wechat::Account)) -> Beset {
    let (server, url) = callback_server().await;
    let account = account(&format!("{url}/callback/cloud"), &Clock::system(), change);
    let rig = Rig::start(Box::new(account.clone()), behaviour, server, |address| {
        let link = link(&format!("http://{address}"), more);
        let desk = Desk::new("cloud".parse().unwrap(), &link, link.callbacks.clone().unwrap());
        (Box::new(Wechat::new(link, true, Arc::new(Alone), &Clock::system())), Box::new(desk))
    });
    Beset { rig: rig.await, account }
}

pub(super) const GOOD: &str = "secret = \"geheim\"\n";

/// A service notice to an openid of its own.
fn handover(number: u64) -> Handover {
    let template = Template {
        name: "order".into(),
        version: 1,
        variables: vec![],
        bodies: vec![],
        providers: vec![],
        stored_at: UnixMicros(0),
    };
    let wechat = vec![recipient::Wechat { appid: APPID.into(), openid: format!("o-{number}").into() }];
    let (name, signature) = ("order".into(), "".into());
    Handover {
        job: JobId::new(UnixMicros::from_secs(1), u128::from(number) << 64),
        attempt: 1,
        kind: Kind::Template,
        class: Class::Notification,
        recipient: Arc::new(Recipient { wechat, ..Recipient::default() }),
        sender: "".into(),
        content: Content::Template { name, version: 1, locale: "".into(), signature, plan: Arc::default() },
        params: vec![("thing1".into(), "新鞋".into())],
        template: Some(Filled {
            template: Arc::new(template),
            locale: "".into(),
            text: "".into(),
            id: Some("tpl-1".into()),
        }),
        validity: Duration::from_secs(3_600),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

fn handovers(numbers: std::ops::Range<u64>) -> Vec<Handover> {
    numbers.map(handover).collect()
}

#[tokio::test]
async fn each_message_has_its_answer_and_its_receipt() {
    let Beset { mut rig, account } = start(Behaviour { refused: 0.2, ..quick() }, GOOD, |_| {}).await;
    let answers = rig.submit(handovers(0..200)).await;
    let messages = rig.simulator.messages();
    let mut taken = 0;
    for (number, answer) in answers.iter().enumerate() {
        let (message, fared) = messages.iter().find(|(message, _)| message.to == format!("o-{number}")).unwrap();
        match (fared, answer) {
            (Fared::Taken(_), Answer::Taken { message_ids, receipt_expected: true, .. }) => {
                assert_eq!(*message_ids[0], message.id);
                assert_eq!(message.text, "tpl-1 thing1=新鞋");
                taken += 1;
            }
            (Fared::Refused, Answer::Refused { code }) => assert_eq!(&**code, "43004"),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!((1..200).contains(&taken));
    let news = rig.news_until_thanked(taken).await;
    let delivered = |news: &News| matches!(news, News::Receipt(receipt) if receipt.report == Report::Final(Fate::Delivered) && receipt.code.is_empty());
    assert!(news.len() as u64 == taken && news.iter().all(delivered), "{news:?}");
    assert_eq!(account.tokens(), (1, 1), "a hundred jobs that need a token ask for one");
    rig.finish().await;
}

#[tokio::test]
async fn subscription_messages_say_nothing_of_their_fate() {
    for messages in ["subscribe", "mini_program"] {
        let Beset { rig, .. } = start(quick(), &format!("{GOOD}messages = \"{messages}\"\n"), |_| {}).await;
        let answers = rig.submit(handovers(0..3)).await;
        let sent = |answer: &Answer| matches!(answer, Answer::Taken { message_ids, receipt_expected: false, .. } if message_ids.is_empty());
        assert!(answers.iter().all(sent), "{messages}: {answers:?}");
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_token_that_ends_under_load_costs_one_renewal_and_no_job() {
    let Beset { rig, account } = start(quick(), GOOD, |_| {}).await;
    assert_eq!(words(&rig.submit(handovers(0..50)).await), ["taken"; 50]);
    // Somebody refreshes it by force: whoever comes with the old one is turned away.
    account.end_token();
    assert_eq!(words(&rig.submit(handovers(50..150)).await), ["taken"; 100]);
    assert_eq!(account.tokens(), (2, 2));
    rig.finish().await;
    // Its life ends: it is renewed before.
    let Beset { rig, account } = start(quick(), GOOD, |account| account.token_life = Duration::from_secs(1)).await;
    let watch = rig.clock.stopwatch();
    let mut number = 0;
    while watch.elapsed() < Duration::from_secs(4) {
        assert_eq!(words(&rig.submit(handovers(number..number + 20)).await), ["taken"; 20]);
        number += 20;
        rig.clock.pause(Duration::from_millis(10)).await;
    }
    let (given, asked) = account.tokens();
    assert!((3..=6).contains(&given) && asked <= given + 2, "{given} given, {asked} asked for");
    rig.finish().await;
}

#[tokio::test]
async fn a_wrong_secret_costs_no_job_its_chance_and_asks_once() {
    let Beset { rig, account } = start(quick(), "secret = \"another\"\n", |_| {}).await;
    let answers = rig.submit(handovers(0..50)).await;
    let wrong = |answer: &Answer| matches!(answer, Answer::NotSent { code, .. } if **code == *"40125");
    assert!(answers.iter().all(wrong), "{answers:?}");
    assert_eq!(account.tokens().0, 0);
    rig.finish().await;
}

#[tokio::test]
async fn what_was_taken_is_not_sent_again_within_its_time() {
    let unanswered = Behaviour { unanswered: 1.0, ..quick() };
    let Beset { rig, .. } = start(unanswered, GOOD, |_| {}).await;
    assert_eq!(words(&rig.submit(handovers(0..3)).await), ["no_answer"; 3]);
    rig.simulator.behave(quick());
    let again = rig.submit(handovers(0..3)).await;
    assert_eq!(words(&again), ["taken"; 3], "WeChat has them from the first time");
    assert_eq!(rig.simulator.messages().len(), 3, "and sends each once");
    rig.finish().await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_pauses_the_account_until_chinas_next_day() {
    let Beset { rig, .. } = start(quick(), GOOD, |account| account.daily_max = 5).await;
    assert_eq!(words(&rig.submit(handovers(0..5)).await), ["taken"; 5]);
    let answers = rig.submit(handovers(5..6)).await;
    let opens = Opens::NextDay { ahead: Duration::from_secs(8 * 3_600) };
    assert_eq!(answers, [Answer::Closed { code: "45009".into(), opens }], "until midnight in China");
    rig.finish().await;
}

/// wechatpy reads what our simulator says and speaks to it; we read what wechatpy encrypts.
#[tokio::test]
async fn wechatpy_agrees() {
    let Beset { rig, account } = start(quick(), GOOD, |_| {}).await;
    let post = account.event("o-7", TEMPLATE_DONE).unwrap();
    let at = rig.clock.now().as_secs().to_string();
    let asked = serde_json::json!({
        "api": format!("http://{}", rig.simulator.address()), "appid": APPID, "secret": "geheim", "token": "token",
        "aes_key": KEY, "url": post.url, "body": post.body, "at": at,
    });
    let said = ask_python("wechat", &asked).await;
    assert_eq!(said["template"], 0);
    assert!(said["msgid"].as_u64().is_some_and(|id| id > 0));
    assert_eq!(said["subscribe"], serde_json::json!({"errcode": 0, "errmsg": "ok"}));
    assert_eq!(said["wrong"], 40_125);
    let event = ["TemplateSendJobFinishEvent", "200163836", "success", "o-7"];
    assert_eq!(said["event"], serde_json::json!(event));
    let encrypted = said["encrypted"].as_str().unwrap();
    let between = |from: &str, to: &str| encrypted.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let signature = between("<MsgSignature><![CDATA[", "]]>");
    let target = format!("/callback/cloud?timestamp={at}&nonce=a-nonce&msg_signature={signature}");
    let link = link("http://127.0.0.1:1", GOOD);
    let desk = Desk::new("cloud".parse().unwrap(), &link, link.callbacks.clone().unwrap());
    let body = Bytes::copy_from_slice(encrypted.as_bytes());
    let call = Call { token: "", target: &target, headers: &HeaderMap::new(), body: &body };
    let news = desk.read(&call, rig.clock.now()).unwrap();
    let [News::Receipt(receipt)] = &news[..] else { panic!("{news:?}") };
    assert_eq!((&*receipt.message_id, &*receipt.code), ("200163836", "system failed"));
    rig.finish().await;
}

const TEMPLATE_DONE: &str = "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event>\
                             <MsgID>200163836</MsgID><Status><![CDATA[success]]></Status>";

/// What has expired when it is to be sent is not, nor are others that would share its request held up by it.
#[tokio::test]
async fn what_has_expired_is_not_sent() {
    let Beset { rig, .. } = start(quick(), GOOD, |_| {}).await;
    let mut jobs = handovers(0..3);
    jobs[1].expires_at = rig.clock.now();
    let answers = rig.submit(jobs).await;
    assert_eq!(words(&answers), ["taken", "not_sent", "taken"]);
    assert!(matches!(&answers[1], Answer::NotSent { code, .. } if **code == *"expires_at"));
    assert_eq!(rig.simulator.messages().len(), 2);
    rig.finish().await;
}

/// Jobs of a run.
const JOBS: usize = 200;

fn recipients() -> Vec<pb::BatchItem> {
    let recipient = |number| pb::Recipient {
        wechat: vec![pb::WechatAddress { appid: APPID.into(), openid: format!("o-{number}") }],
        ..pb::Recipient::default()
    };
    let params = || [("thing1".to_owned(), "新鞋".to_owned())].into_iter().collect();
    let item =
        |number| pb::BatchItem { recipient: Some(recipient(number)), params: params(), ..pb::BatchItem::default() };
    (0..JOBS).map(item).collect()
}

pub(super) async fn put_template(service: &Service, provider: &str) {
    api::put_template(service, template(provider)).await;
}

/// A template that a provider has approved.
pub(super) fn template(provider: &str) -> pb::Template {
    let variable = pb::TemplateVariable { name: "thing1".into(), r#type: "thing".into(), ..Default::default() };
    let at = pb::ProviderTemplate {
        provider_id: provider.into(),
        template_id: "tpl-1".into(),
        approval: pb::ApprovalState::Approved.into(),
    };
    let body = pb::TemplateBody { sms_text: "您的{thing1}已发货".into(), ..Default::default() };
    let (variables, bodies, providers) = (vec![variable], vec![body], vec![at]);
    pb::Template { name: "order".into(), variables, bodies, providers, ..Default::default() }
}

pub(super) fn spec(class: pb::Class) -> pb::JobSpec {
    let template = pb::TemplateContent { template: "order".into(), ..Default::default() };
    pb::JobSpec {
        content: Some(pb::job_spec::Content::Template(template)),
        class: class.into(),
        ..pb::JobSpec::default()
    }
}

/// The whole service on an account whose tokens end every second, that throttles, refuses and loses answers: every job
/// has the outcome that its message had, and marketing never enters.
#[tokio::test]
async fn every_job_of_a_service_has_its_outcome_and_marketing_none() {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let account = account(&format!("{url}/callback/cloud"), &clock, |account| {
        account.token_life = Duration::from_secs(1);
    });
    let receipts = Receipts {
        after: Duration::from_millis(100),
        undelivered: 0.1,
        doubled: 0.3,
        early: 0.3,
        ..Receipts::default()
    };
    let beset = Behaviour {
        latency: Duration::from_millis(20),
        throttled: 0.03,
        refused: 0.05,
        unanswered: 0.05,
        receipts: Some(receipts),
        ..Behaviour::default()
    };
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = Simulator::start(Box::new(account.clone()), listen, (beset, 11), &tasks, &clock).await.unwrap();
    let settings = format!(
        "[record]\nreceipt_deadline = \"20s\"\n[receive]\nlisten = \"127.0.0.1:{port}\"\n{}",
        settings(&format!("http://{}", simulator.address()), GOOD)
    );
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    put_template(&service, "cloud").await;
    let client = api::jobs(&service);
    let request = |class, key: &str| pb::SubmitBatchRequest {
        idempotency_key: key.into(),
        spec: Some(spec(class)),
        items: recipients(),
    };
    let refused = client.clone().submit_batch(request(pb::Class::Marketing, "marketing")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("service notices and carry no marketing"), "{refused:?}");
    let ids = api::insist(&client, &request(pb::Class::Notification, "notices")).await;
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while watched.outcomes.len() < JOBS && watch.elapsed() < Duration::from_secs(90) {
        watched.follow(&client, Duration::from_millis(500)).await;
    }
    let messages = simulator.messages();
    let mut unknown = 0;
    for (number, id) in ids.iter().enumerate() {
        let [(fate, reason)] = &watched.outcomes[id][..] else { panic!("{:?}", watched.outcomes[id]) };
        let mine = messages.iter().filter(|(message, _)| message.to == format!("o-{number}"));
        let times: Vec<_> = mine.map(|(_, fared)| fared.clone()).collect();
        assert!(times.iter().filter(|fared| matches!(fared, Fared::Taken(_))).count() <= 1, "{number} {times:?}");
        let expected = match times.last().unwrap() {
            Fared::Taken(Fate::Delivered) => pb::Fate::Delivered,
            Fared::Taken(_) => pb::Fate::Undelivered,
            Fared::Refused => pb::Fate::Rejected,
            Fared::Throttled | Fared::Failed | Fared::Error(_) => panic!("{number} was left"),
        };
        // Its answer was lost, and with it the number by which its receipt names it.
        let lost = *fate == pb::Fate::Unknown && watched.unresolved.contains(id);
        unknown += usize::from(lost);
        assert!(lost || *fate == expected, "{number} is {fate:?} ({reason}): {times:?}");
    }
    assert!(unknown > 0 && unknown as u64 <= simulator.lost(), "{unknown} of {}", simulator.lost());
    let (given, asked) = account.tokens();
    assert!(given >= 1 && asked <= given + 2, "{given} given, {asked} asked for");
    drop(service);
    tasks.finish(&clock, PATIENCE).await;
}

/// What users do comes to those who watch, each once, though WeChat says it three times and the process is killed between.
#[tokio::test]
async fn what_users_do_is_watched_once_and_soon() {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let url = format!("http://127.0.0.1:{port}/callback/cloud");
    let account = account(&url, &clock, |_| {});
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = Simulator::start(Box::new(account.clone()), listen, (quick(), 1), &tasks, &clock).await.unwrap();
    let endpoint = format!("http://{}", simulator.address());
    let settings = format!("[receive]\nlisten = \"127.0.0.1:{port}\"\n{}", settings(&endpoint, GOOD));
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let mut client = api::jobs(&service);
    let mut stream = client.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    let (mut latencies, mut told) = (Vec::new(), 0);
    // One after the other, each as its own call: WeChat encrypts anew at each try.
    for number in 0..EVENTS {
        let event = format!("<MsgType>event</MsgType><Event>subscribe</Event><EventKey>qrscene_{number}</EventKey>");
        let watch = clock.stopwatch();
        simulator.post(account.event(&format!("o-{number}"), &event));
        let answer = clock.timeout(PATIENCE, stream.message()).await.expect("a signal").unwrap().unwrap();
        latencies.push(watch.elapsed());
        let [pb::Event { what: Some(pb::event::What::Signal(signal)), .. }] = &answer.events[..] else {
            panic!("{:?}", answer.events.len())
        };
        assert_eq!(signal.kind(), pb::SignalKind::Subscribed);
        assert_eq!(signal.recipient.as_ref().unwrap().wechat[0].openid, format!("o-{number}"));
        assert_eq!((signal.details["scene"].clone(), &*signal.to), (number.to_string(), APPID));
        told += 1;
    }
    latencies.sort_unstable();
    println!("callback to watcher: p50 {:?}, p99 {:?}", latencies[EVENTS / 2], latencies[EVENTS * 99 / 100]);
    // The same again, twice, the second time to another process of the service: nothing new.
    let again = "<MsgType>event</MsgType><Event>unsubscribe</Event>";
    let at = clock.now().as_secs();
    let before = simulator.callbacks().0;
    for (taken, restart) in (before + 1..).zip([false, true, false]) {
        if restart {
            service.kill();
            service.restart(None);
        }
        simulator.post(account.event_at("o-1", again, at));
        thanked(&simulator, taken).await;
    }
    // So it is with whatever they do.
    let place = "<MsgType>event</MsgType><Event>LOCATION</Event><Latitude>23.1</Latitude><Longitude>113.3</Longitude>";
    let taken = simulator.callbacks().0 + 9;
    for _ in 0..3 {
        simulator.post(account.event_at("o-2", place, at));
        simulator.post(account.popup_at("o-2", "tpl-1", true, at));
        simulator.post(account.popup_at("o-2", "tpl-2", false, at));
    }
    thanked(&simulator, taken).await;
    let last = account.event("o-last", again);
    simulator.post(last);
    let request = pb::WatchEventsRequest { from_start: true, ..pb::WatchEventsRequest::default() };
    let mut stream = client.watch_events(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while !seen.iter().any(|(_, openid)| openid == "o-last") {
        let answer = clock.timeout(PATIENCE, stream.message()).await.expect("signals").unwrap().unwrap();
        for event in answer.events {
            let Some(pb::event::What::Signal(signal)) = event.what else { panic!("a signal") };
            seen.push((signal.kind(), signal.recipient.unwrap().wechat[0].openid.clone()));
        }
    }
    assert_eq!(seen.len(), told + 5);
    let count = |wanted| seen.iter().filter(|(kind, _)| *kind == wanted).count();
    assert_eq!(count(pb::SignalKind::Unsubscribed), 2);
    let others = [pb::SignalKind::Location, pb::SignalKind::PopupAccepted, pb::SignalKind::PopupRejected];
    assert_eq!(others.map(count), [1; 3]);
    drop(service);
    tasks.finish(&clock, PATIENCE).await;
}

/// Waits until the service has thanked so often.
async fn thanked(simulator: &Simulator, times: u64) {
    let clock = Clock::system();
    let thanked = clock.timeout(PATIENCE, async {
        while simulator.callbacks().0 < times {
            clock.pause(Duration::from_millis(10)).await;
        }
    });
    thanked.await.expect("thanks");
}

/// Events whose way is measured.
const EVENTS: usize = 100;

/// Two processes send for one account, and somebody else's refresh by force ends its token under them: one renewal in all,
/// and no job that failed.
#[tokio::test]
async fn two_processes_share_a_token_and_renew_it_once() {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let account = account(&format!("http://127.0.0.1:{port}/callback/cloud"), &clock, |_| {});
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = Simulator::start(Box::new(account.clone()), listen, (quick(), 1), &tasks, &clock).await.unwrap();
    let provider = settings(&format!("http://{}", simulator.address()), &format!("{GOOD}rate = \"400/s\"\n"));
    let first = format!("[receive]\nlisten = \"127.0.0.1:{port}\"\n{provider}");
    let second = format!("[receive]\nlisten = \"127.0.0.1:{}\"\n{provider}", free_port());
    let backends = Backends::servers();
    let started = tokio::task::spawn_blocking(move || {
        let service = Service::start(&backends, &first);
        let other = service.join(&backends, "dispatch", &second);
        (service, other)
    });
    let (service, other) = started.await.unwrap();
    put_template(&service, "cloud").await;
    let client = api::jobs(&service);
    let mut ids = Vec::new();
    for batch in 0..10 {
        let key = format!("notices-{batch}");
        let request = pb::SubmitBatchRequest {
            idempotency_key: key,
            spec: Some(spec(pb::Class::Notification)),
            items: recipients(),
        };
        ids.extend(api::insist(&client, &request).await);
        if batch == 4 {
            let sending = async {
                while simulator.messages().is_empty() {
                    clock.pause(Duration::from_millis(10)).await;
                }
            };
            clock.timeout(PATIENCE, sending).await.expect("a message under the first token");
            account.end_token();
        }
    }
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while watched.outcomes.len() < ids.len() && watch.elapsed() < Duration::from_secs(90) {
        watched.follow(&client, Duration::from_millis(500)).await;
    }
    for id in &ids {
        let outcomes = watched.outcomes.get(id);
        assert_eq!(outcomes.map(|outcomes| outcomes[0].0), Some(pb::Fate::Delivered), "{outcomes:?}");
    }
    assert!(simulator.messages().iter().all(|(_, fared)| matches!(fared, Fared::Taken(_))));
    // Both sent: each process tells how many it handed over.
    let sent = |service: &Service| {
        let attempts = "postrider_attempts_total{provider=\"cloud\",verdict=\"taken\"} ";
        let lines = service.metrics();
        lines.iter().find_map(|line| line.strip_prefix(attempts)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let (here, there) = (sent(&service), sent(&other));
    assert!(here > 0.0 && there > 0.0 && (here + there) as usize == ids.len(), "{here} and {there}");
    assert_eq!(account.tokens(), (2, 2), "the first, and the one after it");
    drop((service, other));
    tasks.finish(&clock, PATIENCE).await;
}

#[tokio::test]
async fn each_error_means_what_wechat_says() {
    let Beset { rig, .. } = start(quick(), GOOD, |_| {}).await;
    let codes = [
        ("43004", "refused 43004"),
        ("40003", "refused 40003"),
        ("45009", "closed 45009"),
        ("45011", "throttled"),
        ("-1", "not sent -1"),
    ];
    each_code_means(&rig, &codes, |number| format!("o-{number}"), handover).await;
    rig.finish().await;
}
