//! Rules that cannot be are refused by name when they are set: in the settings, by the API, and on a job.

use std::process::Command;

use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    self, CapRule, CapWindow, Class, LocalTime, RuleFilter, SendWindow, Tenant, WindowRule, cap_window,
};
use tonic::Code;

use super::{named, still_works};
use crate::support::api;
use crate::support::service::{Backends, Service};

/// Settings, and the words that the error has for what is wrong; none: they are right.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    ("a limit of 0 means never", "[[cap]]\nname = \"a\"\nlimit = 0\nwindow = \"24h\"", &[]),
    (
        "a reserve that leaves the lowest class nothing",
        "[[cap]]\nname = \"a\"\nlimit = 2\nwindow = \"24h\"\nreserve = 2",
        &["cap[0].reserve", "never pass"],
    ),
    ("two in a gap", "[[cap]]\nname = \"a\"\nlimit = 2\nwindow = \"gap 4h\"", &["cap[0].limit", "gap"]),
    (
        "segments of what has none",
        "[[cap]]\nname = \"a\"\nlimit = 2\nwindow = \"24h\"\nunit = \"segments\"\nkinds = [\"call\"]",
        &["cap[0].unit", "segments"],
    ),
    (
        "one name twice",
        "[[cap]]\nname = \"a\"\nlimit = 2\nwindow = \"24h\"\n[[cap]]\nname = \"a\"\nlimit = 3\nwindow = \"1h\"",
        &["`a`"],
    ),
    (
        "a name of a preset's rule",
        "[[cap]]\npreset = \"aliyun-voice\"\n[[cap]]\npreset = \"aliyun-voice\"",
        &["aliyun-voice"],
    ),
    (
        "a name that means something else",
        "[[cap]]\nname = \"opt_out\"\nlimit = 2\nwindow = \"24h\"",
        &["cap[0].name", "another name"],
    ),
    ("a window with no hours", "[[window]]\nname = \"w\"\nhours = []", &["window.w.hours"]),
    ("hours that end first", "[[window]]\nname = \"w\"\nhours = [\"20:00-08:00\"]", &["window.w.hours", "no hours"]),
    (
        "windows that never meet",
        "[[window]]\nname = \"w\"\nhours = [\"08:00-12:00\"]\n[[window]]\nname = \"v\"\nhours = [\"13:00-14:00\"]",
        &["`w`", "`v`"],
    ),
    (
        "a window's name twice",
        "[[window]]\nname = \"w\"\nhours = [\"08:00-12:00\"]\n[[window]]\nname = \"w\"\nhours = [\"08:00-14:00\"]",
        &["`w`"],
    ),
    ("an unknown calendar", "[[window]]\nname = \"w\"\nhours = [\"08:00-12:00 MARS\"]", &["window.w.hours", "MARS"]),
];

#[test]
fn settings_with_rules_that_cannot_be_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let arguments = ["config", "check", "--config", file.to_str().unwrap()];
        let done = Command::new(env!("CARGO_BIN_EXE_postrider")).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    for (what, text, words) in SETTINGS {
        let (code, said) = check(&format!("[windows]\ndefaults = \"none\"\n{text}\n"));
        assert_eq!(code, Some(if words.is_empty() { 0 } else { 64 }), "{what}: {said}");
        for word in *words {
            assert!(said.contains(word), "{what}: no {word:?} in {said}");
        }
    }
    let calendar = dir.path().join("XX.toml");
    let days = "name = \"XX\"\n[[year]]\nyear = 2026\nsource = \"-\"\nholidays = [\"2026-02-30\"]\nworked = []\n";
    std::fs::write(&calendar, days).unwrap();
    let (code, said) = check(&format!("[windows]\ncalendars = [{:?}]\n", calendar.display().to_string()));
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("2026-02-30") && said.contains("XX.toml"), "{said}");
}

fn cap() -> CapRule {
    let window = cap_window::Window::Rolling(prost_types::Duration { seconds: 3_600, nanos: 0 });
    CapRule {
        name: "a".into(),
        limit: 2,
        window: Some(CapWindow { window: Some(window), clock_offset_minutes: 0 }),
        ..CapRule::default()
    }
}

fn hours(from_minute: u32, to_minute: u32) -> SendWindow {
    SendWindow { from_minute, to_minute, ..SendWindow::default() }
}

fn window(name: &str, windows: Vec<SendWindow>) -> WindowRule {
    WindowRule { name: name.into(), windows, ..WindowRule::default() }
}

fn gap() -> Option<CapWindow> {
    let gap = cap_window::Window::Gap(prost_types::Duration { seconds: 3_600, nanos: 0 });
    Some(CapWindow { window: Some(gap), clock_offset_minutes: 0 })
}

/// What is set, on which path of an update, and which field the answer names; empty: it is right.
fn tenants() -> Vec<(&'static str, Tenant, &'static str, &'static str)> {
    let caps = |caps: Vec<CapRule>| Tenant { caps, ..Tenant::default() };
    let windows = |windows: Vec<WindowRule>| Tenant { windows, ..Tenant::default() };
    let calls = RuleFilter { kinds: vec![pb::Kind::Call.into()], ..RuleFilter::default() };
    let segments = CapRule { unit: pb::CapUnit::Segments.into(), filter: Some(calls), ..cap() };
    let day = || vec![hours(480, 720)];
    vec![
        ("a limit of 0 means never", caps(vec![CapRule { limit: 0, ..cap() }]), "caps", ""),
        ("a reserve of all", caps(vec![CapRule { reserve: 2, ..cap() }]), "caps", "tenant.caps[0].reserve"),
        ("two in a gap", caps(vec![CapRule { window: gap(), ..cap() }]), "caps", "tenant.caps[0].limit"),
        ("segments of calls", caps(vec![segments]), "caps", "tenant.caps[0].unit"),
        ("one name twice", caps(vec![cap(), cap()]), "caps", "tenant.caps[1].name"),
        (
            "a name of the settings",
            caps(vec![CapRule { name: "house".into(), ..cap() }]),
            "caps",
            "tenant.caps[0].name",
        ),
        ("another reason", caps(vec![CapRule { name: "rate".into(), ..cap() }]), "caps", "tenant.caps[0].name"),
        ("no hours", windows(vec![window("w", vec![])]), "windows", "tenant.windows[0].windows"),
        (
            "hours that end first",
            windows(vec![window("w", vec![hours(720, 480)])]),
            "windows",
            "tenant.windows[0].windows[0].to_minute",
        ),
        (
            "windows that never meet",
            windows(vec![window("w", day()), window("v", vec![hours(800, 900)])]),
            "windows",
            "tenant.windows[1].name",
        ),
        ("a name twice", windows(vec![window("w", day()), window("w", day())]), "windows", "tenant.windows[1].name"),
        (
            "a zone on Mars",
            Tenant { time_zone: "Mars/Olympus".into(), ..Tenant::default() },
            "time_zone",
            "tenant.time_zone",
        ),
    ]
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused_by_the_api_when_they_are_set() {
    let house = "\n[[cap]]\nname = \"house\"\nlimit = 5\nwindow = \"24h\"\n";
    let service = Service::start(&Backends::Embedded, house);
    for (what, tenant, path, field) in tenants() {
        let tenant = Some(Tenant { tenant_id: "default".into(), ..tenant });
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
        let request = pb::UpdateTenantRequest { tenant, update_mask };
        let answer = TenantServiceClient::new(service.connect()).update_tenant(request).await;
        match answer {
            Ok(_) => assert_eq!(field, "", "{what} was taken"),
            Err(status) => named(what, &status, Code::InvalidArgument, field),
        }
    }
    // And on a job.
    let client = api::jobs(&service);
    let mut february = api::submit("", api::text(Class::Otp, "hello"), "+4915112345678");
    let day = LocalTime { year: 2026, month: 2, day: 30, hour: 10, ..LocalTime::default() };
    let start = Some(pb::schedule::Start::LocalTime(day));
    february.spec.as_mut().unwrap().schedule = Some(pb::Schedule { start, ..pb::Schedule::default() });
    let status = client.clone().submit(february).await.unwrap_err();
    named("30 February", &status, Code::InvalidArgument, "spec.schedule.local_time.day");
    assert!(status.message().contains("28 days"), "{status:?}");
    let mut closed = api::submit("", api::text(Class::Otp, "hello"), "+4915112345678");
    let schedule = pb::Schedule { windows: vec![hours(720, 720)], ..pb::Schedule::default() };
    closed.spec.as_mut().unwrap().schedule = Some(schedule);
    let status = client.clone().submit(closed).await.unwrap_err();
    named("no hours of its own", &status, Code::InvalidArgument, "spec.schedule.windows[0].to_minute");
    still_works(&service).await;
}
