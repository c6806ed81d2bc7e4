//! Every field of every request that is parsed here: what it takes, and what it says of what it does not.

use std::collections::BTreeMap;

use super::suppression::reach;
use super::*;
use crate::domain::cap::{Mode, Window, presets};
use crate::domain::job::{Content, Kind};
use crate::domain::rule::Names;
use crate::domain::suppression::Scope;
use crate::domain::time::UnixMicros;
use crate::pb;
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

fn selector(by: pb::job_selector::By) -> Result<Vec<Names>, Invalid> {
    let sealer = Sealer::ephemeral().unwrap();
    select(Some(pb::JobSelector { by: Some(by) }), &"acme".parse().unwrap(), &sealer)
}

#[track_caller]
fn selector_says(path: &str, by: pb::job_selector::By) {
    let said = selector(by).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[test]
fn selectors() {
    use pb::job_selector::By;
    let jobs = |ids: Vec<String>| By::Jobs(pb::JobIds { job_ids: ids });
    let good = "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".to_owned();
    selector_says("", jobs(vec![good.clone()]));
    selector_says("jobs.job_ids", jobs(vec![]));
    selector_says("jobs.job_ids", jobs(vec![good.clone(); 1_001]));
    selector_says("jobs.job_ids[1]", jobs(vec![good, "x".into()]));
    selector_says("cancel_key", By::CancelKey(String::new()));
    selector_says("cancel_key", By::CancelKey("x".repeat(129)));
    selector_says("batch_id", By::BatchId("x".into()));
    selector_says("campaign_id", By::CampaignId(String::new()));
    selector_says("run_id", By::RunId("x\n".into()));
    selector_says("recipient", By::Recipient(pb::Recipient::default()));
    selector_says("", By::Recipient(pb::Recipient { recipient_id: "anna".into(), ..pb::Recipient::default() }));
    selector_says("", By::Filter(pb::JobFilter::default()));
    selector_says("", By::Filter(pb::JobFilter { run_id: "r".into(), class: 1, ..pb::JobFilter::default() }));
    selector_says("filter.state", By::Filter(pb::JobFilter { state: 1, ..pb::JobFilter::default() }));
    selector_says("filter.kind", By::Filter(pb::JobFilter { kind: 9, ..pb::JobFilter::default() }));
    let nobody = Some(pb::Recipient::default());
    selector_says("filter.recipient", By::Filter(pb::JobFilter { recipient: nobody, ..pb::JobFilter::default() }));
    let sealer = Sealer::ephemeral().unwrap();
    assert!(select(None, &"acme".parse().unwrap(), &sealer).is_err());
}

#[track_caller]
fn filter_says(path: &str, change: impl FnOnce(&mut pb::JobFilter)) {
    let mut raw = pb::JobFilter::default();
    change(&mut raw);
    let said = filter(Some(raw), &"acme".parse().unwrap(), &Sealer::ephemeral().unwrap()).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[test]
fn filters() {
    filter_says("", |_| {});
    filter_says("batch_id", |filter| filter.batch_id = "x".into());
    filter_says("campaign_id", |filter| filter.campaign_id = "x".repeat(129));
    filter_says("recipient", |filter| filter.recipient = Some(pb::Recipient::default()));
    filter_says("kind", |filter| filter.kind = 9);
    filter_says("cancel_key", |filter| filter.cancel_key = "\0".into());
    filter_says("accepted_from", |filter| {
        filter.accepted_from = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
    });
    filter_says("accepted_to", |filter| (filter.accepted_from, filter.accepted_to) = (Some(at(2)), Some(at(1))));
    filter_says("", |filter| filter.class = 1);
    filter_says("class", |filter| filter.class = 77);
    filter_says("state", |filter| filter.state = 1);
    filter_says("labels", |filter| drop(filter.labels.insert("a".into(), "b".into())));
    filter_says("", |filter| filter.run_id = "r".into());
    filter_says("run_id", |filter| filter.run_id = "r".repeat(129));
}

#[track_caller]
fn scope_says(path: &str, scope: pb::SuppressionScope, word: &str) {
    let raw = pb::Suppression { scope: scope.into(), word: word.into(), ..pb::Suppression::default() };
    let said = reach(&raw, &"acme".parse().unwrap(), &Sealer::ephemeral().unwrap()).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[test]
fn scopes() {
    use pb::SuppressionScope as Raw;
    scope_says("", Raw::Unspecified, "");
    scope_says("", Raw::Everything, "");
    scope_says("", Raw::Topic, "sale");
    scope_says("word", Raw::Topic, "");
    scope_says("word", Raw::Sender, "");
    scope_says("word", Raw::Brand, "sale");
    scope_says("word", Raw::Sender, &"x".repeat(65));
    scope_says("", Raw::Signature, "x");
    scope_says("word", Raw::Signature, "");
    scope_says("", Raw::Global, "");
    scope_says("word", Raw::Global, "x");
    let raw = pb::Suppression { scope: 99, ..pb::Suppression::default() };
    let sealer = Sealer::ephemeral().unwrap();
    assert_eq!(reach(&raw, &"a".parse().unwrap(), &sealer).unwrap_err().path, "scope");
    let brand = reach(&pb::Suppression::default(), &"a".parse().unwrap(), &sealer);
    assert_eq!(brand, Ok(((Scope::Brand, None), "".into())));
    let raw = pb::Suppression { kind: pb::Kind::Call.into(), ..pb::Suppression::default() };
    let calls = reach(&raw, &"a".parse().unwrap(), &sealer);
    assert_eq!(calls, Ok(((Scope::Brand, Some(Kind::Call)), "".into())));
    let raw = pb::Suppression { kind: 9, ..pb::Suppression::default() };
    assert_eq!(reach(&raw, &"a".parse().unwrap(), &sealer).unwrap_err().path, "kind");
}

#[test]
fn an_address_is_shown_as_it_was_given() {
    for address in ["+8613800000000", "wechat:wx1/o-1/2", "wecom:ww1/wm1", "wecom-chat:wr1", "wecom-user:zhang"] {
        assert_eq!(one_address(Some(address_to_pb(address))).as_deref(), Ok(address));
    }
}

#[test]
fn an_opt_out_names_one_address() {
    let address = |change: fn(&mut pb::Recipient)| {
        let mut raw = pb::Recipient::default();
        change(&mut raw);
        one_address(Some(raw)).map_err(|invalid| invalid.problem)
    };
    assert_eq!(address(|raw| raw.phone = "+4915112345678".into()), Ok("+4915112345678".into()));
    assert_eq!(address(|raw| raw.wecom_chat_id = "g".into()), Ok("wecom-chat:g".into()));
    assert_eq!(address(|_| {}), Err(Problem::NotOneAddress));
    assert_eq!(
        address(|raw| (raw.phone, raw.wecom_userid) = ("+4915112345678".into(), "u".into())),
        Err(Problem::NotOneAddress)
    );
}

fn good_tenant() -> pb::Tenant {
    let rolling = pb::cap_window::Window::Rolling(prost_types::Duration { seconds: DAY, nanos: 0 });
    let cap = pb::CapRule {
        name: "daily".into(),
        limit: 3,
        window: Some(pb::CapWindow { window: Some(rolling), clock_offset_minutes: 0 }),
        ..pb::CapRule::default()
    };
    pb::Tenant {
        tenant_id: "acme".into(),
        rate: Some(pb::Rate { per_second: 10, burst: 0 }),
        caps: vec![cap],
        ..pb::Tenant::default()
    }
}

#[track_caller]
fn tenant_says(path: &str, change: impl FnOnce(&mut pb::Tenant)) {
    let mut raw = good_tenant();
    change(&mut raw);
    let said = tenant(Some(raw), NOW).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[track_caller]
fn cap_says(path: &str, change: impl FnOnce(&mut pb::CapRule)) {
    tenant_says(path, |tenant| change(&mut tenant.caps[0]));
}

#[test]
fn pools_of_senders() {
    let pool = |name: &str, senders: &[&str]| {
        let senders = senders.iter().map(ToString::to_string).collect();
        pb::SenderPool { name: name.into(), senders }
    };
    let says = |path: &str, pools: Vec<pb::SenderPool>| tenant_says(path, |tenant| tenant.sender_pools = pools);
    says("", vec![pool("staff", &["li", "王"]), pool("shops", &["li"])]);
    says("sender_pools[1].name", vec![pool("staff", &["li"]), pool("staff", &["wang"])]);
    says("sender_pools[0].name", vec![pool("Staff!", &["li"])]);
    says("sender_pools[0].senders", vec![pool("staff", &[])]);
    says("sender_pools[0].senders[1]", vec![pool("staff", &["li", "li"])]);
    says("sender_pools[0].senders[0]", vec![pool("staff", &[""])]);
    says("sender_pools[0].senders", vec![pool("staff", &["li"; 257])]);
    says("sender_pools", vec![pool("staff", &["li"]); 65]);
}

#[test]
fn who_stays_in_a_pool_is_who_it_was() {
    let with = |senders: &[&str], at| {
        let senders = senders.iter().map(ToString::to_string).collect();
        let sender_pools = vec![pb::SenderPool { name: "staff".into(), senders }];
        tenant(Some(pb::Tenant { sender_pools, ..good_tenant() }), at).unwrap()
    };
    let mut old = with(&["li"], UnixMicros(1));
    let mask = prost_types::FieldMask { paths: vec!["sender_pools".into()] };
    apply_mask(&mut old, with(&["wang", "li"], UnixMicros(2)), Some(mask)).unwrap();
    let members: Vec<_> = old.sender_pools[0].members.iter().map(|of| (&*of.sender, of.since)).collect();
    assert_eq!(members, [("wang", UnixMicros(2)), ("li", UnixMicros(1))]);
}

#[test]
fn tenants() {
    let shown = tenant_to_pb(&tenant(Some(good_tenant()), NOW).unwrap());
    assert_eq!((shown.display_name.as_str(), shown.rate.unwrap().burst), ("acme", 10));
    assert_eq!(tenant(Some(shown.clone()), NOW).map(|tenant| tenant_to_pb(&tenant)), Ok(shown));
    tenant_says("tenant_id", |tenant| tenant.tenant_id.clear());
    tenant_says("tenant_id", |tenant| tenant.tenant_id = "Acme Ltd".into());
    tenant_says("tenant_id", |tenant| tenant.tenant_id = "x".repeat(64));
    tenant_says("display_name", |tenant| tenant.display_name = "x".repeat(129));
    tenant_says("rate.per_second", |tenant| tenant.rate = Some(pb::Rate::default()));
    tenant_says("rate.per_second", |tenant| tenant.rate = Some(pb::Rate { per_second: 1_000_001, burst: 1 }));
    tenant_says("ingress_rate.burst", |tenant| {
        tenant.ingress_rate = Some(pb::Rate { per_second: 1, burst: u32::MAX });
    });
    tenant_says("caps", |tenant| tenant.caps = vec![tenant.caps[0].clone(); 17]);
    tenant_says("caps[1].name", |tenant| tenant.caps.push(tenant.caps[0].clone()));
    let route = |countries: &[&str], prefixes: &[&str], pool: &str| pb::TenantRoute {
        countries: countries.iter().map(ToString::to_string).collect(),
        prefixes: prefixes.iter().map(ToString::to_string).collect(),
        pool: pool.into(),
        ..pb::TenantRoute::default()
    };
    tenant_says("", |tenant| tenant.routes.push(route(&["CN"], &["+86138"], "sms")));
    tenant_says("routes[0].pool", |tenant| tenant.routes.push(route(&[], &[], "")));
    tenant_says("routes[1].countries[1]", |tenant| {
        tenant.routes = vec![route(&[], &[], "sms"), route(&["CN", "cn"], &[], "sms")];
    });
    tenant_says("routes[0].prefixes[0]", |tenant| tenant.routes.push(route(&[], &["86138"], "sms")));
    tenant_says("routes", |tenant| tenant.routes = vec![route(&[], &[], "sms"); 65]);
    let rate = |per_second| Some(pb::Rate { per_second, burst: 0 });
    let sender = |sender: &str, per_second| pb::SenderRate { sender: sender.into(), rate: rate(per_second) };
    tenant_says("", |tenant| tenant.sender_rates = vec![sender("Acme", 1), sender("Bolt", 1)]);
    tenant_says("sender_rates[0].sender", |tenant| tenant.sender_rates.push(sender("", 1)));
    tenant_says("sender_rates[0].rate", |tenant| {
        tenant.sender_rates.push(pb::SenderRate { rate: None, ..sender("Acme", 1) });
    });
    tenant_says("sender_rates[0].rate.per_second", |tenant| tenant.sender_rates.push(sender("Acme", 0)));
    tenant_says("sender_rates[1].sender", |tenant| tenant.sender_rates = vec![sender("Acme", 1), sender("Acme", 2)]);
    tenant_says("sender_rates", |tenant| tenant.sender_rates = vec![sender("Acme", 1); 65]);
    tenant_says("time_zone", |tenant| tenant.time_zone = "Mars/Olympus".into());
    tenant_says("", |tenant| tenant.time_zone = "Asia/Shanghai".into());
    tenant_says("", |tenant| tenant.stop_words.push("halt".into()));
    tenant_says("stop_words[0]", |tenant| tenant.stop_words.push("“!”".into()));
    tenant_says("stop_words[0]", |tenant| tenant.stop_words.push("x".repeat(33)));
    tenant_says("stop_words", |tenant| tenant.stop_words = vec!["halt".into(); 65]);
    tenant_says("start_words[1]", |tenant| {
        tenant.stop_words.push("halt".into());
        tenant.start_words = vec!["go".into(), "HALT!".into()];
    });
}

#[test]
fn caps() {
    use pb::cap_window::Window as Raw;
    let window = |raw| Some(pb::CapWindow { window: Some(raw), clock_offset_minutes: 0 });
    let length = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let rolling = |seconds, nanos| window(Raw::Rolling(prost_types::Duration { seconds, nanos }));
    let clock = |clock_offset_minutes| {
        let clock = Raw::Clock(pb::ClockUnit::Hour.into());
        Some(pb::CapWindow { clock_offset_minutes, window: Some(clock) })
    };
    cap_says("caps[0].name", |cap| cap.name.clear());
    cap_says("caps[0].limit", |cap| cap.limit = 201);
    cap_says("", |cap| cap.limit = 0);
    cap_says("caps[0].window", |cap| cap.window = None);
    cap_says("caps[0].window.rolling", |cap| cap.window = rolling(0, 999_999_999));
    cap_says("caps[0].window.rolling", |cap| cap.window = rolling(31 * DAY + 1, 0));
    cap_says("caps[0].window.rolling", |cap| cap.window = rolling(-1, 0));
    cap_says("caps[0].window.rolling", |cap| cap.window = rolling(60, -1));
    cap_says("caps[0].window.rolling", |cap| cap.window = rolling(60, 500));
    cap_says("", |cap| cap.window = window(Raw::Calendar(pb::CalendarUnit::Month.into())));
    cap_says("caps[0].window.calendar", |cap| cap.window = window(Raw::Calendar(0)));
    cap_says("caps[0].window.calendar", |cap| cap.window = window(Raw::Calendar(9)));
    cap_says("", |cap| cap.window = clock(480));
    cap_says("caps[0].window", |cap| cap.window = clock(841));
    cap_says("caps[0].window.clock_offset_minutes", |cap| cap.window = clock(100_000));
    cap_says("caps[0].window.clock", |cap| cap.window = window(Raw::Clock(0)));
    cap_says("caps[0].window.clock_offset_minutes", |cap| {
        cap.window = Some(pb::CapWindow { clock_offset_minutes: 60, ..rolling(60, 0).unwrap() });
    });
    cap_says("caps[0].window.from_first", |cap| cap.window = window(Raw::FromFirst(length(0))));
    cap_says("", |cap| cap.window = window(Raw::FromFirst(length(DAY))));
    cap_says("caps[0].limit", |cap| cap.window = window(Raw::Gap(length(DAY))));
    cap_says("", |cap| (cap.window, cap.limit) = (window(Raw::Gap(length(DAY))), 1));
    cap_says("caps[0].window.bucket.refill", |cap| cap.window = window(Raw::Bucket(pb::BucketWindow::default())));
    cap_says("", |cap| cap.window = window(Raw::Bucket(pb::BucketWindow { refill: Some(length(DAY)) })));
    cap_says("caps[0].on_limit", |cap| cap.on_limit = 5);
    cap_says("caps[0].per", |cap| cap.per = 9);
    cap_says("caps[0].unit", |cap| cap.unit = 9);
    cap_says("caps[0].unit", |cap| {
        cap.unit = pb::CapUnit::Segments.into();
        cap.filter.get_or_insert_default().kinds = vec![pb::Kind::Call.into()];
    });
    cap_says("", |cap| cap.count = pb::CapCount::Delivered.into());
    cap_says("caps[0].count", |cap| cap.count = 9);
    cap_says("caps[0].mode", |cap| cap.mode = 9);
    cap_says("caps[0].reserve", |cap| cap.reserve = cap.limit);
    cap_says("caps[0].preset", |cap| cap.preset = "aliyun-sms".into());
    cap_says("caps[0].preset", |cap| *cap = pb::CapRule { preset: "aliyun".into(), ..Default::default() });
    let filter = |change: fn(&mut pb::RuleFilter)| {
        let mut filter = pb::RuleFilter::default();
        change(&mut filter);
        Some(filter)
    };
    cap_says("caps[0].filter.classes", |cap| cap.filter = filter(|filter| filter.classes = vec![0]));
    cap_says("caps[0].filter.kinds", |cap| cap.filter = filter(|filter| filter.kinds = vec![9]));
    cap_says("caps[0].filter.topics", |cap| cap.filter = filter(|filter| filter.topics = vec![String::new()]));
    cap_says("caps[0].filter.senders", |cap| cap.filter = filter(|filter| filter.senders = vec!["x".into(); 65]));
    let kept = tenant(Some(good_tenant()), NOW).unwrap().caps.remove(0);
    assert_eq!(kept.window, Window::Rolling(std::time::Duration::from_secs(86_400)));
}

#[test]
fn every_rule_is_shown_as_it_was_set() {
    let mut raw = good_tenant();
    raw.caps = presets::names()
        .into_iter()
        .map(|preset| pb::CapRule { preset: preset.into(), ..Default::default() })
        .collect();
    raw.caps.truncate(5);
    let filter = pb::RuleFilter { senders: vec!["Acme".into()], ..Default::default() };
    let mode = pb::RuleMode::Shadow.into();
    raw.caps[0] = pb::CapRule { filter: Some(filter), mode, ..raw.caps[0].clone() };
    let set = tenant(Some(raw), NOW).unwrap();
    assert_eq!(set.caps.len(), 13);
    assert!(set.caps[..5].iter().all(|rule| rule.mode == Mode::Shadow && &*rule.senders[0] == "Acme"));
    assert!(set.caps[5..].iter().all(|rule| rule.mode == Mode::Enforce && rule.senders.is_empty()));
    let again = tenant(Some(tenant_to_pb(&set)), NOW).unwrap();
    assert_eq!(again.caps, set.caps);
}

#[test]
fn a_mask_changes_what_it_names_and_nothing_else() {
    let old = tenant(Some(good_tenant()), NOW).unwrap();
    let mut raw = good_tenant();
    (raw.display_name, raw.rate, raw.caps) = ("Acme".into(), None, vec![]);
    let new = tenant(Some(raw), NOW).unwrap();
    let masked = |paths: &[&str]| {
        let mut changed = old.clone();
        let mask = prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        apply_mask(&mut changed, new.clone(), Some(mask)).map(|()| changed)
    };
    let changed = masked(&["rate"]).unwrap();
    assert_eq!((changed.rate, &*changed.name, changed.caps.len()), (None, "acme", 1));
    let changed = masked(&["caps", "display_name"]).unwrap();
    assert_eq!((changed.rate, &*changed.name, changed.caps.len()), (old.rate, "Acme", 0));
    assert_eq!(masked(&[]).unwrap_err().problem, Problem::Missing);
    assert_eq!(masked(&["tenant_id"]).unwrap_err().problem, Problem::Mask("tenant_id".into()));
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

#[track_caller]
fn window_says(path: &str, change: impl FnOnce(&mut pb::WindowRule)) {
    let mut rule = pb::WindowRule { name: "day".into(), windows: vec![hours(480, 1200)], ..pb::WindowRule::default() };
    change(&mut rule);
    tenant_says(path, |tenant| tenant.windows = vec![rule]);
}

#[test]
fn windows_of_a_tenant() {
    window_says("", |_| {});
    window_says("windows[0].name", |rule| rule.name.clear());
    window_says("windows[0].windows", |rule| rule.windows.clear());
    window_says("windows[0].windows[0].to_minute", |rule| rule.windows[0].to_minute = 400);
    window_says("windows[0].filter.classes", |rule| {
        rule.filter = Some(pb::RuleFilter { classes: vec![7], ..pb::RuleFilter::default() });
    });
    window_says("windows[0].pools", |rule| rule.pools = vec!["Fast pool".into()]);
    window_says("windows[0].on_missed", |rule| rule.on_missed = 9);
    let rule = |name: &str, from, to| pb::WindowRule {
        name: name.into(),
        windows: vec![hours(from, to)],
        ..Default::default()
    };
    tenant_says("windows", |tenant| tenant.windows = vec![rule("day", 0, 1); 33]);
    tenant_says("windows[1].name", |tenant| tenant.windows = vec![rule("day", 0, 1), rule("day", 0, 1)]);
    // What both bind could never be sent.
    tenant_says("windows[1].name", |tenant| tenant.windows = vec![rule("am", 0, 720), rule("pm", 720, 1440)]);
    let whole = pb::WindowRule {
        filter: Some(pb::RuleFilter {
            classes: vec![pb::Class::Marketing.into()],
            kinds: vec![pb::Kind::Sms.into()],
            topics: vec!["sale".into()],
            senders: vec!["10690".into()],
        }),
        windows: vec![pb::SendWindow { weekdays: vec![1, 7], holidays: "CN".into(), ..hours(540, 1440) }],
        on_missed: pb::OnMissed::Drop.into(),
        pools: vec!["fast".into()],
        ..rule("whole", 0, 1)
    };
    let shown = tenant_to_pb(&tenant(Some(pb::Tenant { windows: vec![whole.clone()], ..good_tenant() }), NOW).unwrap());
    assert_eq!(shown.windows, [whole]);
}
