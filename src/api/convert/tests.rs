//! Every field of every request that is parsed here: what it takes, and what it says of what it does not.

mod selectors;
mod tenants;

use std::collections::BTreeMap;

use super::*;
use crate::domain::call::{CallReport, CallResult};
use crate::domain::event::{Change, Event};
use crate::domain::ids::JobId;
use crate::domain::job::{Class, Content, Kind};
use crate::domain::time::UnixMicros;
use crate::leave::{Ruling, Said};
use crate::ledger::NumberedEvent;
use crate::pb;
use crate::queue::frame::seal_report;
use crate::seal::Sealer;

/// 2026-01-01T00:00:00Z.
const NOW: UnixMicros = UnixMicros::from_secs(1_767_225_600);
const DAY: i64 = 24 * 3600;

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: NOW.as_secs() + seconds, nanos: 0 }
}

fn good_spec() -> pb::JobSpec {
    let text = pb::SmsContent { text: "Hi {name}".into(), template: String::new() };
    pb::JobSpec {
        content: Some(pb::job_spec::Content::Sms(text)),
        class: pb::Class::Marketing.into(),
        ..pb::JobSpec::default()
    }
}

fn good_item() -> pb::BatchItem {
    let recipient = pb::Recipient { phone: "+4915112345678".into(), ..pb::Recipient::default() };
    pb::BatchItem {
        recipient: Some(recipient),
        params: BTreeMap::from([("name".into(), "Anna".into())]),
        ..pb::BatchItem::default()
    }
}

/// Changes one field of a good spec, and names what is said of it; an empty path: it is taken.
#[track_caller]
fn spec_says(path: &str, change: impl FnOnce(&mut pb::JobSpec)) {
    let mut raw = good_spec();
    change(&mut raw);
    let said = spec(Some(raw), NOW).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[track_caller]
fn item_says(path: &str, change: impl FnOnce(&mut pb::BatchItem)) {
    let mut raw = good_item();
    change(&mut raw);
    let spec = spec(Some(good_spec()), NOW).unwrap();
    let said = item(0, raw, &spec).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[track_caller]
fn recipient_says(path: &str, change: impl FnOnce(&mut pb::Recipient)) {
    item_says(path, |item| change(item.recipient.as_mut().unwrap()));
}

#[track_caller]
fn schedule_says(path: &str, schedule: pb::Schedule) {
    spec_says(path, |spec| spec.schedule = Some(schedule));
}

fn sms(text: String) -> Option<pb::job_spec::Content> {
    Some(pb::job_spec::Content::Sms(pb::SmsContent { text, template: String::new() }))
}

fn template(template: &str, locale: &str) -> Option<pb::job_spec::Content> {
    let content = pb::TemplateContent { template: template.into(), locale: locale.into(), target: String::new() };
    Some(pb::job_spec::Content::Template(content))
}

fn call(source: Option<pb::call_content::Source>) -> Option<pb::job_spec::Content> {
    Some(pb::job_spec::Content::Call(pb::CallContent { source, ..pb::CallContent::default() }))
}

#[test]
fn a_good_request_is_taken_as_it_is() {
    let spec = spec(Some(good_spec()), NOW).unwrap();
    assert_eq!(spec.kind, Kind::Sms);
    assert!(spec.content == Content::Text("Hi {name}".into()));
    assert_eq!(spec.placeholders.iter().map(|name| &**name).collect::<Vec<_>>(), ["name"]);
    let item = item(7, good_item(), &spec).unwrap();
    assert_eq!(item.index, 7);
    assert_eq!(item.recipient.phone.unwrap().as_str(), "+4915112345678");
    assert_eq!((item.params.len(), &*item.params[0].0, &*item.params[0].1), (1, "name", "Anna"));
}

#[test]
fn contents() {
    spec_says("content", |spec| spec.content = None);
    spec_says("sms.text", |spec| spec.content = sms(String::new()));
    spec_says("sms.text", |spec| spec.content = sms("x".repeat(2_001)));
    spec_says("sms.text", |spec| spec.content = sms("bell \u{7}".into()));
    spec_says("", |spec| spec.content = sms("two\nlines 你好".into()));
    spec_says("", |spec| spec.content = sms("字".repeat(2_000)));
    spec_says("template.template", |spec| spec.content = template("", ""));
    spec_says("template.template", |spec| spec.content = template("Order Shipped", ""));
    spec_says("template.locale", |spec| spec.content = template("order", "zh CN"));
    spec_says("template.locale", |spec| spec.content = template("order", &"zh-".repeat(20)));
    spec_says("", |spec| spec.content = template("order", "zh-Hans-CN"));
    spec_says("call.flow", |spec| spec.content = call(None));
    spec_says("call.flow", |spec| spec.content = call(Some(pb::call_content::Source::Flow(String::new()))));
    spec_says("", |spec| spec.content = call(Some(pb::call_content::Source::Flow("confirm".into()))));
    spec_says("call.inline_flow.nodes", |spec| {
        spec.content = call(Some(pb::call_content::Source::InlineFlow(pb::CallFlow::default())));
    });
}

#[test]
fn what_jobs_share() {
    spec_says("class", |spec| spec.class = 0);
    spec_says("class", |spec| spec.class = 99);
    spec_says("class", |spec| spec.class = -1);
    spec_says("sender", |spec| spec.sender = "x".repeat(65));
    spec_says("sender", |spec| spec.sender = "a\nb".into());
    spec_says("topic", |spec| spec.topic = "x".repeat(65));
    spec_says("priority", |spec| spec.priority = 101);
    spec_says("priority", |spec| spec.priority = -101);
    spec_says("priority", |spec| spec.priority = i32::MIN);
    spec_says("", |spec| spec.priority = -100);
    spec_says("labels", |spec| spec.labels = (0..17).map(|n| (n.to_string(), String::new())).collect());
    spec_says("labels", |spec| spec.labels = [(String::new(), "x".into())].into());
    spec_says("labels", |spec| spec.labels = [("x".into(), "x".repeat(257))].into());
    spec_says("labels", |spec| spec.labels = [("x\0".into(), String::new())].into());
    spec_says("links", |spec| spec.links = vec![pb::Link::default()]);
    spec_says("require_link", |spec| spec.require_link = true);
}

fn step(text: &str, after_secs: Option<i64>) -> pb::FallbackStep {
    let content = pb::fallback_step::Content::Sms(pb::SmsContent { text: text.into(), template: String::new() });
    let after = after_secs.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    pb::FallbackStep { content: Some(content), after, sender: String::new() }
}

#[test]
fn fallbacks() {
    let one = |path: &str, step: pb::FallbackStep| spec_says(path, |spec| spec.fallback = vec![step]);
    one("", step("hello", None));
    one("", step("hello", Some(10)));
    one("", step("hello", Some(72 * 3600)));
    one("fallback[0].content", pb::FallbackStep::default());
    one("fallback[0].sms.text", step("", None));
    one("fallback[0].after", step("hello", Some(9)));
    one("fallback[0].after", step("hello", Some(72 * 3600 + 1)));
    one("fallback[0].after", step("hello", Some(-60)));
    one("fallback[0].sender", pb::FallbackStep { sender: "x".repeat(65), ..step("hello", None) });
    spec_says("fallback[1].sms.text", |spec| spec.fallback = vec![step("hello", None), step("", None)]);
    spec_says("", |spec| spec.fallback = vec![step("hello", None); 3]);
    spec_says("fallback", |spec| spec.fallback = vec![step("hello", None); 4]);
}

#[test]
fn a_step_asks_for_what_it_needs() {
    let says = |path: &str, step: pb::FallbackStep, item: pb::BatchItem| {
        let spec = spec(Some(pb::JobSpec { fallback: vec![step], ..good_spec() }), NOW).unwrap();
        let said = super::item(0, item, &spec).err();
        assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
    };
    says("", step("hello", None), good_item());
    says("params", step("hello {unknown}", None), good_item());
    let template =
        pb::fallback_step::Content::Template(pb::TemplateContent { template: "order".into(), ..Default::default() });
    says("recipient", pb::FallbackStep { content: Some(template), ..step("", None) }, good_item());
}

#[test]
fn origins() {
    let long = || "x".repeat(129);
    let origin = |spec: &mut pb::JobSpec, change: fn(&mut pb::Origin, String)| {
        let mut origin = pb::Origin::default();
        change(&mut origin, long());
        spec.origin = Some(origin);
    };
    spec_says("origin.campaign_id", |spec| origin(spec, |origin, long| origin.campaign_id = long));
    spec_says("origin.journey_id", |spec| origin(spec, |origin, long| origin.journey_id = long));
    spec_says("origin.version", |spec| origin(spec, |origin, long| origin.version = long));
    spec_says("origin.run_id", |spec| origin(spec, |origin, long| origin.run_id = long));
    spec_says("origin.step", |spec| origin(spec, |origin, long| origin.step = long));
    spec_says("origin.variant", |spec| origin(spec, |origin, long| origin.variant = long));
    spec_says("origin.touch_id", |spec| origin(spec, |origin, long| origin.touch_id = long));
}

#[test]
fn schedules() {
    let send_at =
        |seconds| pb::Schedule { start: Some(pb::schedule::Start::SendAt(at(seconds))), ..pb::Schedule::default() };
    let expires = |schedule: pb::Schedule, seconds| pb::Schedule { expires_at: Some(at(seconds)), ..schedule };
    schedule_says("", send_at(-DAY));
    schedule_says("", send_at(400 * DAY));
    schedule_says("schedule.send_at", send_at(400 * DAY + 1));
    schedule_says(
        "schedule.send_at",
        pb::Schedule {
            start: Some(pb::schedule::Start::SendAt(prost_types::Timestamp { seconds: 1, nanos: 1_000_000_000 })),
            ..pb::Schedule::default()
        },
    );
    schedule_says(
        "schedule.send_at",
        pb::Schedule {
            start: Some(pb::schedule::Start::SendAt(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })),
            ..pb::Schedule::default()
        },
    );
    schedule_says("", expires(send_at(DAY), 2 * DAY));
    // In the past: admission says so, once it knows that it is no repetition.
    schedule_says("", expires(pb::Schedule::default(), -1));
    schedule_says("schedule.expires_at", expires(send_at(DAY), DAY));
    schedule_says("schedule.expires_at", expires(send_at(DAY), 431 * DAY));
    schedule_says("schedule.on_missed", pb::Schedule { on_missed: 7, ..pb::Schedule::default() });
}

#[test]
fn items() {
    item_says("", |_| {});
    item_says("recipient", |item| item.recipient = None);
    item_says("params", |item| item.params.clear());
    item_says("params", |item| item.params.extend((0..32).map(|n| (format!("p{n}"), String::new()))));
    item_says("params", |item| drop(item.params.insert("a b".into(), String::new())));
    item_says("params[name]", |item| drop(item.params.insert("name".into(), "x".repeat(1_001))));
    item_says("params[name]", |item| drop(item.params.insert("name".into(), "\u{1b}[2J".into())));
    item_says("cancel_key", |item| item.cancel_key = "x".repeat(129));
    item_says("", |item| item.collapse_key = "x".into());
    item_says("collapse_key", |item| item.collapse_key = "x".repeat(129));
    item_says("", |item| item.send_at = Some(at(400 * DAY)));
    item_says("send_at", |item| item.send_at = Some(at(400 * DAY + 1)));
}

#[test]
fn recipients() {
    recipient_says("recipient", |recipient| recipient.phone.clear());
    recipient_says("recipient.phone", |recipient| recipient.phone = "015112345678".into());
    recipient_says("recipient.phone", |recipient| recipient.phone = "+49 151 1234567".into());
    recipient_says("recipient.phone", |recipient| recipient.phone = "+1234567890123456".into());
    recipient_says("recipient.phone", |recipient| recipient.phone = "+４９１５１１２３４５６".into());
    recipient_says("recipient.recipient_id", |recipient| recipient.recipient_id = "x".repeat(129));
    recipient_says("recipient.recipient_id", |recipient| recipient.recipient_id = "a\tb".into());
    recipient_says("recipient.kind", |recipient| recipient.kind = 42);
    recipient_says("recipient.time_zone", |recipient| recipient.time_zone = "Mars/Olympus".into());
    recipient_says("", |recipient| recipient.time_zone = "Asia/Shanghai".into());
    recipient_says("recipient.locale", |recipient| recipient.locale = "zh_CN".into());
    recipient_says("recipient.wechat", |recipient| recipient.wechat = vec![pb::WechatAddress::default(); 9]);
    recipient_says("recipient.wechat[0].appid", |recipient| {
        recipient.wechat = vec![pb::WechatAddress { appid: String::new(), openid: "o".into() }];
    });
    recipient_says("recipient.wechat[0].openid", |recipient| {
        recipient.wechat = vec![pb::WechatAddress { appid: "wx".into(), openid: "x".repeat(129) }];
    });
    recipient_says("recipient.wecom.corp_id", |recipient| recipient.wecom = Some(pb::WecomAddress::default()));
    recipient_says("recipient.wecom_chat_id", |recipient| recipient.wecom_chat_id = "x".repeat(129));
    recipient_says("recipient.wecom_userid", |recipient| recipient.wecom_userid = "x".repeat(129));
}

#[test]
fn a_template_needs_an_address_of_its_own() {
    let raw = pb::JobSpec { content: template("order", ""), ..good_spec() };
    let spec = spec(Some(raw), NOW).unwrap();
    let said = item(0, good_item(), &spec).err().unwrap();
    assert!(matches!(said.problem, Problem::NoAddress(_)), "{said}");
    let mut chat = good_item();
    chat.recipient = Some(pb::Recipient { wecom_chat_id: "g1".into(), ..pb::Recipient::default() });
    assert!(item(0, chat, &spec).is_ok());
}

#[test]
fn errors_read_as_sentences_with_a_way_out() {
    let said = Invalid::new("phone", "15112345678".parse::<crate::domain::recipient::Msisdn>().unwrap_err());
    assert_eq!(
        said.within("recipient").at("items", 17).to_string(),
        "items[17].recipient.phone must start with '+' and the country code, as in +8613800000000"
    );
    let said = Invalid::new("links", Problem::NotYet("links need link domains, which are")).within("spec");
    assert_eq!(said.to_string(), "spec.links: links need link domains, which are not available yet");
}

#[test]
fn local_times() {
    let local = |year, month, day, hour| pb::Schedule {
        start: Some(pb::schedule::Start::LocalTime(pb::LocalTime { year, month, day, hour, minute: 0, second: 0 })),
        ..pb::Schedule::default()
    };
    schedule_says("", local(2026, 12, 24, 10));
    // A past moment means now; 2024 had a leap day.
    schedule_says("", local(2024, 2, 29, 23));
    schedule_says("schedule.local_time.day", local(2025, 2, 29, 10));
    schedule_says("schedule.local_time.day", local(2026, 2, 30, 10));
    schedule_says("schedule.local_time.day", local(2026, 4, 31, 10));
    schedule_says("schedule.local_time.day", local(2026, 4, 0, 10));
    schedule_says("schedule.local_time.month", local(2026, 13, 1, 10));
    schedule_says("schedule.local_time.year", local(26, 1, 1, 10));
    schedule_says("schedule.local_time.hour", local(2026, 1, 1, 24));
    schedule_says("schedule.local_time", local(2028, 2, 29, 10));
    let spec = spec(Some(pb::JobSpec { schedule: Some(local(2026, 2, 30, 10)), ..good_spec() }), NOW);
    assert_eq!(spec.err().unwrap().to_string(), "schedule.local_time.day is 30, but month 2 of 2026 has 28 days");
}

#[test]
fn times_and_pages() {
    let moment = |seconds, nanos| moment("t", &prost_types::Timestamp { seconds, nanos });
    assert_eq!(moment(1, 999_999_999), Ok(UnixMicros(1_999_999)));
    assert_eq!(moment_to_pb(UnixMicros(1_999_999)), prost_types::Timestamp { seconds: 1, nanos: 999_999_000 });
    for (seconds, nanos) in [(-1, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(moment(seconds, nanos), Err(Invalid::new("t", Problem::Time)), "{seconds} {nanos}");
    }
    assert_eq!(page_size(0), Ok(100));
    assert_eq!(page_size(1000), Ok(1000));
    assert!(page_size(1001).is_err() && page_size(-1).is_err());
}

fn hours(from_minute: u32, to_minute: u32) -> pb::SendWindow {
    pb::SendWindow { from_minute, to_minute, ..pb::SendWindow::default() }
}

#[test]
fn windows_of_a_job() {
    let windows = |windows: Vec<pb::SendWindow>| pb::Schedule { windows, ..pb::Schedule::default() };
    schedule_says("", windows(vec![hours(480, 1200), hours(0, 1440)]));
    schedule_says("schedule.windows[1].to_minute", windows(vec![hours(480, 1200), hours(480, 480)]));
    schedule_says("schedule.windows[0].to_minute", windows(vec![hours(480, 1441)]));
    schedule_says("schedule.windows[0].from_minute", windows(vec![hours(1440, 1440)]));
    schedule_says("schedule.windows", windows(vec![hours(0, 1); 15]));
    let bad_day = pb::SendWindow { weekdays: vec![1, 8], ..hours(0, 1) };
    schedule_says("schedule.windows[0].weekdays", windows(vec![bad_day]));
    let bad_calendar = pb::SendWindow { holidays: "no calendar".into(), ..hours(0, 1) };
    schedule_says("schedule.windows[0].holidays", windows(vec![bad_calendar]));
    let known = crate::domain::window::Calendars::from([("CN".into(), Default::default())]);
    let keeps = |name: &str| format!("08:00-20:00 {name}").parse::<crate::domain::window::Hours>().unwrap();
    assert_eq!(calendars(&[keeps("CN")], &known), Ok(()));
    assert_eq!(calendars(&[keeps("CN"), keeps("DE")], &known).unwrap_err().path, "windows[1].holidays");
}

#[test]
fn why_a_job_waits_is_told_from_who_decided_it() {
    let shown = |reason: &str| {
        let change = Change::Deferred { reason: reason.into(), until: NOW };
        let (tenant, kind, class) = ("acme".parse().unwrap(), Kind::Sms, Class::Marketing);
        let event = Event { job: JobId(uuid::Uuid::nil()), tenant, kind, class, at: NOW, attempt: 0, change };
        let Some(pb::event::What::StateChange(change)) = event_to_pb(&event).what else { panic!("a change of state") };
        (change.reason_code(), change.reason)
    };
    let said = |code: pb::ReasonCode, reason: &str| (code, reason.to_owned());
    assert_eq!(shown("daily"), said(pb::ReasonCode::Cap, "daily"));
    assert_eq!(shown("rate"), said(pb::ReasonCode::Rate, "rate"));
    assert_eq!(shown("window:night"), said(pb::ReasonCode::Window, "window:night"));
    assert_eq!(shown("provider:daily"), said(pb::ReasonCode::Provider, "daily"));
    assert_eq!(shown("busy"), said(pb::ReasonCode::Busy, "busy"));
    assert_eq!(shown("dead_letter"), said(pb::ReasonCode::Unspecified, "dead_letter"));
    let ruling = Ruling::new(NOW, "provider:isv.limit", Said::Defer, None);
    let shown = ruling_to_pb(&ruling, &Default::default());
    assert_eq!((shown.reason_code(), &*shown.rule), (pb::ReasonCode::Provider, "isv.limit"));
}

#[test]
fn a_call_is_shown_with_its_own_recording_and_not_with_that_of_the_one_before() {
    let sealer = Sealer::ephemeral().unwrap();
    let report = |recording: &str| {
        let recording = recording.into();
        seal_report(&CallReport { recording, ..CallReport::unanswered(CallResult::Machine) }, &sealer)
    };
    let event = |attempt, change| {
        let (job, tenant, kind, class) =
            (JobId(uuid::Uuid::nil()), "acme".parse().unwrap(), Kind::Call, Class::Notification);
        NumberedEvent { seq: 1, event: Event { job, tenant, kind, class, at: NOW, attempt, change } }
    };
    let called = |attempt| {
        let (provider, result, report) = ("voice".parse().unwrap(), CallResult::Machine, report(""));
        event(attempt, Change::Called { provider, result, report, cost: None })
    };
    let recorded = |attempt, at: &str| event(attempt, Change::Recorded { report: report(at) });
    let shown = |events: &[NumberedEvent]| {
        let mut job = pb::Job::default();
        show_call(&mut job, events, &sealer);
        job.call.unwrap().recording_ref
    };
    let first = [called(1), recorded(1, "first")];
    assert_eq!(shown(&first), "first");
    let second = [&first[..], &[called(2)]].concat();
    assert_eq!(shown(&second), "");
    assert_eq!(shown(&[&second[..], &[recorded(2, "second")]].concat()), "second");
}
