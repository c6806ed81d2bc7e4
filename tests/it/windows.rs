//! Send windows on the virtual clock, through the whole service: nothing leaves outside them, whatever it waited for.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::schedule::Start;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    self, AdvanceClockRequest, Class, Fate, GetJobRequest, Job, LocalTime, OnMissed, Recipient, Schedule, SendWindow,
    State, event,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::api::{self, Client};
use crate::support::service::{Backends, Service};

/// Answers at once and sends no receipts: the virtual clock stands still between two steps, and so would its answers.
const SETTINGS: &str = "\n[windows]\ndefaults = \"shipped\"\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\n\
                        latency = \"0s\"\nreceipts = false\n";
const SHANGHAI: &str = "Asia/Shanghai";
/// Longer than anything takes on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service whose clock stands at a time of the test's choosing.
struct Stage {
    service: Service,
    jobs: Client,
    /// The day after which the test plays.
    day: jiff::civil::Date,
}

impl Stage {
    /// Starts a service and moves its clock to the next Monday in Shanghai, at `time`.
    async fn at(time: &str) -> Self {
        let service = Service::prepare(&Backends::Embedded, SETTINGS, &["--clock", "virtual"]);
        service.restart(None);
        let jobs = api::jobs(&service);
        let mut stage = Self { service, jobs, day: jiff::civil::date(2000, 1, 1) };
        let now = Timestamp::from_second(stage.advance(Duration::from_millis(1)).await).unwrap();
        let today = now.to_zoned(TimeZone::get(SHANGHAI).unwrap()).date();
        stage.day = today.nth_weekday(1, jiff::civil::Weekday::Monday).unwrap();
        stage.go(SHANGHAI, 0, time).await;
        stage
    }

    /// Returns the time, in seconds since the epoch, at which clocks of `zone` show `time` so many days after the first.
    fn when(&self, zone: &str, days: i64, time: &str) -> i64 {
        let day = self.day.checked_add(Span::new().days(days)).unwrap();
        let local: DateTime = format!("{day}T{time}").parse().unwrap();
        TimeZone::get(zone).unwrap().to_timestamp(local).unwrap().as_second()
    }

    /// Moves the clock to that time.
    async fn go(&self, zone: &str, days: i64, time: &str) -> i64 {
        let to = self.when(zone, days, time);
        let now = self.advance(Duration::from_millis(1)).await;
        let left = u64::try_from(to - now).expect("time goes one way");
        self.advance(Duration::from_secs(left)).await
    }

    async fn advance(&self, by: Duration) -> i64 {
        let by = prost_types::Duration { seconds: by.as_secs().cast_signed(), nanos: by.subsec_nanos().cast_signed() };
        let mut admin = AdminServiceClient::new(self.service.connect());
        admin.advance_clock(AdvanceClockRequest { by: Some(by) }).await.unwrap().into_inner().now.unwrap().seconds
    }

    async fn submit(&self, spec: pb::JobSpec, recipient: Recipient) -> Result<String, tonic::Status> {
        let request = pb::SubmitRequest { spec: Some(spec), recipient: Some(recipient), ..Default::default() };
        Ok(self.jobs.clone().submit(request).await?.into_inner().job_id)
    }

    async fn job(&self, id: &str) -> Job {
        let (clock, request) = (Clock::system(), GetJobRequest { job_id: id.to_owned(), ..GetJobRequest::default() });
        let watch = clock.stopwatch();
        loop {
            match self.jobs.clone().get_job(request.clone()).await {
                Ok(answer) => return answer.into_inner().job.unwrap(),
                // The ledger has not heard of it yet.
                Err(status) => assert!(status.code() == Code::NotFound && watch.elapsed() < PATIENCE, "{status:?}"),
            }
            clock.pause(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a job is as it should be.
    async fn until(&self, id: &str, condition: impl Fn(&Job) -> bool) -> Job {
        let clock = Clock::system();
        let watch = clock.stopwatch();
        loop {
            let job = self.job(id).await;
            if condition(&job) {
                return job;
            }
            assert!(watch.elapsed() < PATIENCE, "{job:?}; the service said:\n{}", self.service.log());
            clock.pause(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a job was sent, and checks that it was so at `at` on the stage's clock, within the steps it takes.
    async fn sent_at(&self, id: &str, at: i64) {
        let job = self.until(id, |job| job.outcome.is_some()).await;
        let outcome = job.outcome.unwrap();
        assert_eq!(outcome.fate(), Fate::Sent, "{}", outcome.reason);
        let sent = job.events.last().unwrap().at.unwrap().seconds;
        assert!((at..at + 10).contains(&sent), "sent {} s after {at}", sent - at);
    }

    /// Waits until a job has ended as `fate`, for `reason`.
    async fn ended(&self, id: &str, fate: Fate, reason: &str) {
        let outcome = self.until(id, |job| job.outcome.is_some()).await.outcome.unwrap();
        assert_eq!((outcome.fate(), &*outcome.reason), (fate, reason));
        assert_eq!(outcome.reason_code(), pb::ReasonCode::Window);
    }

    /// Waits until dispatch has put a job off; returns why and until when.
    async fn deferred(&self, id: &str) -> (String, i64) {
        let scheduled = |job: &Job| job.events.iter().any(|event| deferral(event).is_some());
        let job = self.until(id, scheduled).await;
        job.events.iter().rev().find_map(deferral).unwrap()
    }

    async fn set_windows(&self, windows: Vec<pb::WindowRule>) {
        let tenant = pb::Tenant { tenant_id: "default".into(), windows, ..pb::Tenant::default() };
        self.update(tenant, "windows").await;
    }

    async fn update(&self, tenant: pb::Tenant, path: &str) {
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
        let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
        TenantServiceClient::new(self.service.connect()).update_tenant(request).await.unwrap();
    }
}

fn deferral(event: &pb::Event) -> Option<(String, i64)> {
    let Some(event::What::StateChange(change)) = &event.what else { return None };
    (change.state() == State::Scheduled).then(|| (change.reason.clone(), change.until.unwrap().seconds))
}

fn marketing(schedule: Schedule) -> pb::JobSpec {
    pb::JobSpec { schedule: Some(schedule), ..api::text(Class::Marketing, "sale") }
}

fn hours(from: u32, to: u32) -> SendWindow {
    SendWindow { from_minute: from * 60, to_minute: to * 60, ..SendWindow::default() }
}

fn rule(from: u32, to: u32) -> pb::WindowRule {
    pb::WindowRule { name: "day".into(), windows: vec![hours(from, to)], ..pb::WindowRule::default() }
}

fn timestamp(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_leaves_when_its_window_opens_where_its_recipient_is() {
    let stage = Stage::at("21:00:00").await;
    let night = stage.when(SHANGHAI, 0, "21:00:00");
    let plain = || marketing(Schedule::default());
    let shanghai = stage.submit(plain(), api::phone("+8613800000000")).await.unwrap();
    let berlin = stage.submit(plain(), api::phone("+4915112345678")).await.unwrap();
    let narrow = marketing(Schedule { windows: vec![hours(10, 11)], ..Schedule::default() });
    let narrow = stage.submit(narrow, api::phone("+8613800000001")).await.unwrap();
    let drop = marketing(Schedule { on_missed: OnMissed::Drop.into(), ..Schedule::default() });
    let dropped = stage.submit(drop, api::phone("+8613800000002")).await.unwrap();
    let otp = stage.submit(api::text(Class::Otp, "1234"), api::phone("+12025550100")).await.unwrap();

    // Afternoon in Berlin; a one-time password asks for no zone.
    stage.sent_at(&berlin, night).await;
    stage.sent_at(&otp, night).await;
    stage.ended(&dropped, Fate::Expired, "window:marketing-sms").await;
    let morning = stage.when(SHANGHAI, 1, "08:00:00");
    assert_eq!(stage.job(&shanghai).await.due_at.unwrap().seconds, morning);

    stage.go(SHANGHAI, 1, "07:59:59").await;
    Clock::system().pause(Duration::from_millis(500)).await;
    assert!(stage.job(&shanghai).await.outcome.is_none(), "a second early");
    stage.go(SHANGHAI, 1, "08:00:00").await;
    stage.sent_at(&shanghai, morning).await;
    assert!(stage.job(&narrow).await.outcome.is_none());
    let at = stage.go(SHANGHAI, 1, "10:00:00").await;
    stage.sent_at(&narrow, at).await;

    let deferred = "postrider_jobs_deferred_total{reason=\"window:marketing-sms\"} 2";
    assert!(stage.service.metrics().iter().any(|line| line == deferred), "{:?}", stage.service.metrics());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_time_comes_once_in_each_zone() {
    let stage = Stage::at("12:00:00").await;
    let day = stage.day.checked_add(Span::new().days(2)).unwrap();
    let local = LocalTime {
        year: day.year().into(),
        month: day.month().into(),
        day: day.day().into(),
        hour: 10,
        ..LocalTime::default()
    };
    let zones = ["Pacific/Auckland", SHANGHAI, "Europe/Berlin", "America/New_York", "Pacific/Honolulu"];
    let items = zones.iter().enumerate().map(|(index, zone)| pb::BatchItem {
        recipient: Some(Recipient {
            time_zone: (*zone).to_owned(),
            phone: format!("+1202555010{index}"),
            ..Recipient::default()
        }),
        ..pb::BatchItem::default()
    });
    let mut items: Vec<_> = items.collect();
    items.push(pb::BatchItem { recipient: Some(api::phone("+12025550109")), ..pb::BatchItem::default() });
    let earlier = stage.when(SHANGHAI, 0, "12:30:00");
    items.push(pb::BatchItem {
        recipient: Some(api::phone("+8613800000000")),
        send_at: Some(timestamp(earlier)),
        ..pb::BatchItem::default()
    });
    let spec = marketing(Schedule { start: Some(Start::LocalTime(local)), ..Schedule::default() });
    let request = pb::SubmitBatchRequest { spec: Some(spec), items, ..pb::SubmitBatchRequest::default() };
    let answer = stage.jobs.clone().submit_batch(request).await.unwrap().into_inner();
    assert_eq!((answer.accepted, answer.refused), (6, 1));
    let mut ids = Vec::new();
    for result in answer.results {
        match result.result.unwrap() {
            pb::batch_item_result::Result::JobId(id) => ids.push(id),
            pb::batch_item_result::Result::Refusal(refusal) => {
                assert_eq!((result.index, &*refusal.field), (5, "items[5].recipient.time_zone"));
                assert_eq!(refusal.code, i32::from(Code::InvalidArgument));
            }
        }
    }
    let at = stage.go(SHANGHAI, 0, "12:30:00").await;
    stage.sent_at(&ids[5], at).await;
    for (id, zone) in ids.iter().zip(zones) {
        assert!(stage.job(id).await.outcome.is_none(), "{zone} is not there yet");
        let at = stage.go(zone, 2, "10:00:00").await;
        stage.sent_at(id, at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_binds_what_waits() {
    let stage = Stage::at("12:00:00").await;
    stage.set_windows(vec![rule(0, 24)]).await;
    let at = |days, time: &str| Some(Start::SendAt(timestamp(stage.when(SHANGHAI, days, time))));
    let waits = marketing(Schedule { start: at(0, "22:00:00"), ..Schedule::default() });
    let waits = stage.submit(waits, api::phone("+8613800000000")).await.unwrap();
    let expires = Schedule {
        start: at(0, "22:00:00"),
        expires_at: Some(timestamp(stage.when(SHANGHAI, 0, "23:30:00"))),
        ..Schedule::default()
    };
    let expires = stage.submit(marketing(expires), api::phone("+8613800000001")).await.unwrap();
    let zoneless = stage.submit(api::text(Class::Notification, "news"), api::phone("+12025550100")).await.unwrap();
    stage.until(&zoneless, |job| job.outcome.is_some()).await;
    stage.set_windows(vec![rule(8, 20)]).await;
    stage.go(SHANGHAI, 0, "22:00:00").await;
    let morning = stage.when(SHANGHAI, 1, "08:00:00");
    assert_eq!(stage.deferred(&waits).await, ("window:day".into(), morning));
    stage.ended(&expires, Fate::Expired, "window:day").await;
    // Wider again, but not for what has been put off; narrower, and it is put off once more.
    stage.set_windows(vec![rule(9, 20)]).await;
    stage.go(SHANGHAI, 1, "08:00:00").await;
    let until = stage.when(SHANGHAI, 1, "09:00:00");
    stage.until(&waits, |job| job.events.iter().rev().find_map(deferral) == Some(("window:day".into(), until))).await;
    let at = stage.go(SHANGHAI, 1, "09:00:00").await;
    stage.sent_at(&waits, at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_opens_at_night_waits_for_the_morning() {
    let stage = Stage::at("18:00:00").await;
    let rolling = pb::cap_window::Window::Rolling(prost_types::Duration { seconds: 4 * 3600, nanos: 0 });
    let cap = pb::CapRule {
        name: "every-4-hours".into(),
        limit: 1,
        window: Some(pb::CapWindow { window: Some(rolling), ..pb::CapWindow::default() }),
        ..pb::CapRule::default()
    };
    let tenant = pb::Tenant { tenant_id: "default".into(), caps: vec![cap], ..pb::Tenant::default() };
    stage.update(tenant, "caps").await;
    let first = stage.submit(marketing(Schedule::default()), api::phone("+8613800000000")).await.unwrap();
    stage.until(&first, |job| job.outcome.is_some()).await;
    let second = stage.submit(marketing(Schedule::default()), api::phone("+8613800000000")).await.unwrap();
    let morning = stage.when(SHANGHAI, 1, "08:00:00");
    assert_eq!(stage.deferred(&second).await, ("every-4-hours".into(), morning));
    stage.go(SHANGHAI, 1, "08:00:00").await;
    stage.sent_at(&second, morning).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_leave_is_refused_by_name() {
    let stage = Stage::at("21:00:00").await;
    let refused = async |schedule: Schedule, number: &str, field: &str, word: &str| {
        let status = stage.submit(marketing(schedule), api::phone(number)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(word), "{:?} does not say {word:?}", status.message());
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    };
    let china = "+8613800000000";
    // What was accepted under a key stays accepted when its window has closed.
    let keyed = |schedule: Schedule| api::submit("evening", marketing(schedule), "+4915112345678");
    let evening =
        Schedule { expires_at: Some(timestamp(stage.when("Europe/Berlin", 0, "23:00:00"))), ..Schedule::default() };
    let first = stage.jobs.clone().submit(keyed(evening.clone())).await.unwrap().into_inner().job_id;
    refused(Schedule::default(), "+12025550100", "recipient.time_zone", "send window").await;
    let tonight = Some(timestamp(stage.when(SHANGHAI, 0, "23:00:00")));
    let expires = Schedule { expires_at: tonight, ..Schedule::default() };
    refused(expires, china, "spec.schedule.expires_at", "`marketing-sms` opens next").await;
    let night = Schedule { windows: vec![hours(21, 23)], ..Schedule::default() };
    refused(night, china, "spec.schedule.windows", "`marketing-sms`").await;
    stage.go("Europe/Berlin", 0, "20:30:00").await;
    let again = stage.jobs.clone().submit(keyed(evening)).await.unwrap().into_inner().job_id;
    assert_eq!(again, first);
    let unknown = SendWindow { holidays: "XX".into(), ..hours(9, 10) };
    let unknown = Schedule { windows: vec![unknown], ..Schedule::default() };
    refused(unknown, china, "spec.schedule.windows[0].holidays", "calendar").await;
    let narrow = Schedule { windows: vec![hours(9, 10)], ..Schedule::default() };
    let spec = pb::JobSpec { class: Class::Transactional.into(), ..marketing(narrow) };
    let status = stage.submit(spec, api::phone("+12025550100")).await.unwrap_err();
    assert!(status.message().contains("recipient.time_zone"), "windows of its own need a zone: {status:?}");
    let local = LocalTime { year: 2027, month: 2, day: 30, hour: 10, ..LocalTime::default() };
    let local = Schedule { start: Some(Start::LocalTime(local)), ..Schedule::default() };
    refused(local, china, "spec.schedule.local_time.day", "month 2 of 2027 has 28 days").await;
}
