//! What a tenant is set to: rates, senders, caps, windows.

use super::*;
use crate::domain::cap::{Mode, Window, presets};

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
    cap_says("", |cap| cap.count = pb::CapCount::Attempted.into());
    cap_says("", |cap| cap.per = pb::CapPer::RecipientCampaign.into());
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
