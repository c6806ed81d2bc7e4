//! Campaigns that are taken back, trunks that fail, and calls that are lost, on a clock that stands until it is moved.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postrider::pb::{
    CallRetry, CancelJobsRequest, FallbackStep, JobSelector, RescheduleJobsRequest, SmsContent, SubmitRequest,
    fallback_step, job_selector,
};
use tonic_types::StatusExt as _;

use super::*;

/// A trunk on which everybody answers, once it has rung.
pub(super) fn answering(more: &str) -> String {
    let none = ["busy", "no_answer", "declined", "invalid_number", "unreachable", "network"];
    let kept = |line: &&str| !none.iter().any(|result| line.starts_with(&format!("{result} =")));
    let parts =
        none.map(|result| format!("{result} = {}\n", if more.contains(result) { "1.0" } else { "0.0" })).concat();
    let lines: Vec<_> = TRUNK.lines().filter(kept).collect();
    lines.join("\n").replace("seed = 7", &format!("seed = 7\n{parts}"))
}

fn changed(job: &Job, to: State) -> bool {
    job.events.iter().any(|event| match &event.what {
        Some(event::What::StateChange(change)) => change.state == i32::from(to),
        _ => false,
    })
}

fn put_off(job: &Job) -> bool {
    job.events.iter().any(|event| match &event.what {
        Some(event::What::StateChange(change)) => change.until.is_some(),
        _ => false,
    })
}

fn fate(job: &Job) -> Option<Fate> {
    job.outcome.as_ref().map(|outcome| Fate::try_from(outcome.fate).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_campaign_dials_nobody_more_and_hangs_up_on_nobody_who_answered() {
    let mut desk = Desk::open(&answering(""));
    let numbers = api::numbers(0, 40);
    api::insist(&desk.client, &api::batch("cancelled", calls("spring"), &numbers)).await;
    // Until somebody is talked to while somebody else's phone rings.
    let (mut talked_to, mut ringing) = (0, 0);
    while talked_to == 0 || ringing == 0 {
        desk.pass(Duration::from_secs(1)).await;
        Clock::system().pause(Duration::from_millis(200)).await;
        let jobs = desk.jobs(Kind::Call).await;
        let are = |state: State| jobs.iter().filter(|job| job.state == i32::from(state)).count();
        (talked_to, ringing) = (are(State::Answered), are(State::Ringing));
    }
    let by = job_selector::By::CampaignId("spring".into());
    let selector = Some(JobSelector { by: Some(by) });
    desk.client.clone().cancel_jobs(CancelJobsRequest { selector }).await.unwrap();
    // The clock stands: no phone that rings is answered before it is hung up.
    let mut turns = 0;
    while desk.lines() > talked_to {
        turns += 1;
        assert!(turns < 600, "{} lines are in use, {talked_to} are talked on", desk.lines());
        Clock::system().pause(Duration::from_millis(100)).await;
    }
    let before = desk.jobs(Kind::Call).await.iter().filter(|job| changed(job, State::Dialing)).count();
    let jobs = desk.settle(40).await;
    assert_eq!(jobs.iter().filter(|job| changed(job, State::Dialing)).count(), before, "nobody more is dialled");
    for job in &jobs {
        let expected = if changed(job, State::Answered) { Fate::Completed } else { Fate::Cancelled };
        assert_eq!(fate(job), Some(expected), "{job:?}");
    }
    assert_eq!(desk.lines(), 0, "no line leaks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_fails_rests_instead_of_failing_every_call() {
    let mut desk = Desk::open(&answering("network"));
    let numbers = api::numbers(0, 40);
    api::insist(&desk.client, &api::batch("failing", calls("spring"), &numbers)).await;
    while desk.calls_ended().await < 10 {
        desk.pass(Duration::from_millis(250)).await;
    }
    // Eight seconds would do for all of them. Its lines are free, and still only what was up when it broke goes on.
    for _ in 0..56 {
        desk.pass(Duration::from_millis(250)).await;
    }
    let failed = desk.calls_ended().await;
    assert!((10..10 + LINES).contains(&failed), "{failed} calls");
    // Then it is tried by one call at a time.
    let mut tried = failed;
    for _ in 0..240 {
        desk.pass(Duration::from_millis(500)).await;
        let ended = desk.calls_ended().await;
        assert!(ended <= tried + 1, "{} calls at once", ended - tried);
        tried = ended;
    }
    assert!((failed + 1..failed + 6).contains(&tried), "{tried} calls, {failed} of them before it rested");
}

/// An answer that comes after its frame was let go has its check like any other: of a call that is up when its process is
/// killed nobody tells anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_taken_late_and_lost_with_its_process_ends_as_unknown() {
    let mut desk = Desk::open(&answering(""));
    api::insist(&desk.client, &api::batch("late", calls("spring"), &api::numbers(0, 1))).await;
    let clock = Clock::system();
    let mut turns = 0..3_000;
    while desk.lines() == 0 {
        turns.next().expect("it takes a line");
        clock.pause(Duration::from_millis(20)).await;
    }
    // The clock stands, so the trunk says nothing; a frame is held for 20 s of real time.
    clock.pause(Duration::from_millis(20_500)).await;
    desk.pass(Duration::from_secs(1)).await;
    while !changed(&desk.jobs(Kind::Call).await[0], State::Ringing) {
        turns.next().expect("it rings");
        clock.pause(Duration::from_millis(20)).await;
    }
    clock.pause(Duration::from_secs(1)).await;
    desk.service.kill();
    desk.service.restart(None);
    desk.client = api::jobs(&desk.service);
    let jobs = desk.settle(1).await;
    assert_eq!(fate(&jobs[0]), Some(Fate::Unknown));
    assert_eq!(jobs[0].outcome.as_ref().unwrap().reason, "call_lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_called_gets_the_next_step_of_their_chain() {
    let mut desk = Desk::open(&answering("no_answer"));
    let mut spec = calls("");
    let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
    let after = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    content.after = vec![];
    content.retries = vec![CallRetry { result: CallResult::NoAnswer.into(), after: after(60), times: 1 }];
    let text = SmsContent { text: "we could not reach you".into(), ..SmsContent::default() };
    let text = Some(fallback_step::Content::Sms(text));
    spec.fallback = vec![FallbackStep { content: text, after: after(3_600), ..FallbackStep::default() }];
    api::insist(&desk.client, &api::batch("chain", spec, &api::numbers(0, 3))).await;
    let jobs = desk.settle(3).await;
    for job in &jobs {
        assert_eq!(tries(job).len(), 2, "its own rule: once more: {job:?}");
        assert_eq!(fate(job), Some(Fate::Undelivered));
    }
    while desk.jobs(Kind::Sms).await.len() < 3 {
        desk.pass(Duration::from_secs(10)).await;
    }
    assert_eq!(desk.jobs(Kind::Sms).await.len(), 3);
}

/// Somebody who is asked whether to go on by text, by a call that is completed: the tag decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_pressed_in_a_call_leads_to_the_next_step_of_its_chain() {
    let mut desk = Desk::open(&answering(""));
    let mut spec = calls("");
    let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
    let act = || Some(pb::after_call::Act::NextStep(pb::NextStepNode {}));
    content.after = vec![pb::AfterCall { when: Some(pb::after_call::When::Tag("yes".into())), act: act() }];
    // Nowhere to go.
    let status = desk.client.clone().submit_batch(api::batch("alone", spec.clone(), &api::numbers(0, 1))).await;
    let details = status.unwrap_err().get_details_bad_request().unwrap();
    assert_eq!(details.field_violations[0].field, "spec.call.after[0].next_step");
    let text = SmsContent { text: "here it is".into(), ..SmsContent::default() };
    let text = Some(fallback_step::Content::Sms(text));
    spec.fallback = vec![FallbackStep { content: text, ..FallbackStep::default() }];
    api::insist(&desk.client, &api::batch("chain", spec, &api::numbers(0, 2))).await;
    let jobs = desk.settle(2).await;
    for job in &jobs {
        assert_eq!((fate(job), &*job.outcome.clone().unwrap().reason), (Some(Fate::Completed), "next_step"));
    }
    for _ in 0..600 {
        if desk.jobs(Kind::Sms).await.len() >= 2 {
            break;
        }
        desk.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(desk.jobs(Kind::Sms).await.len(), 2, "the next step of each");
}

/// What is said into a recording is there to be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_call_says_where_recording_and_transcript_are() {
    let mut desk = Desk::open(&answering(""));
    let mut spec = calls("");
    let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
    let length_max = Some(prost_types::Duration { seconds: 20, nanos: 0 });
    let record = pb::RecordNode { length_max };
    let node = pb::FlowNode { act: Some(flow_node::Act::Record(record)), next: String::new() };
    let flow =
        pb::CallFlow { start: "speak".into(), nodes: [("speak".into(), node)].into(), ..pb::CallFlow::default() };
    (content.source, content.after) = (Some(call_content::Source::InlineFlow(flow)), vec![]);
    api::insist(&desk.client, &api::batch("recorded", spec, &api::numbers(0, 1))).await;
    let report = desk.settle(1).await.remove(0).call.unwrap();
    assert!(report.transcript_ref.starts_with("data:,") && !report.recording_ref.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_called_outside_the_hours_of_calls_where_they_are() {
    let mut desk = Desk::open(&(answering("busy") + "\n[windows]\ndefaults = \"shipped\"\n"));
    let client = desk.client.clone();
    let submit = async |number: &str, times: u32| {
        let mut spec = calls("");
        spec.class = Class::Notification.into();
        let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
        let after = Some(prost_types::Duration { seconds: 1_800, nanos: 0 });
        content.retries = vec![CallRetry { result: CallResult::Busy.into(), after, times }];
        let recipient = Some(api::phone(number));
        client.clone().submit(SubmitRequest { spec: Some(spec), recipient, ..SubmitRequest::default() }).await
    };
    // A number that may be in any of several zones.
    let status = submit("+12025550100", 0).await.unwrap_err();
    assert!(status.message().contains("recipient.time_zone"), "{status:?}");
    let (china, germany, late) = ("+8613800000001", "+4915112345678", "+8613800000002");
    let (shanghai, berlin) = ("Asia/Shanghai", "Europe/Berlin");
    desk.go(shanghai, "08:30:00").await;
    submit(china, 0).await.unwrap();
    submit(germany, 0).await.unwrap();
    desk.go(shanghai, "08:59:50").await;
    desk.dialled(china, 1).await;
    // Busy before the hours end: the next call would come half an hour later, which is after them.
    desk.go(shanghai, "11:40:00").await;
    submit(late, 1).await.unwrap();
    desk.dialled(late, 1).await;
    desk.go(shanghai, "12:40:00").await;
    desk.go(shanghai, "13:59:50").await;
    desk.dialled(late, 2).await;
    desk.go(berlin, "08:59:50").await;
    desk.dialled(germany, 1).await;
    for job in desk.jobs(Kind::Call).await {
        let zone = if job.recipient.clone().unwrap().phone == germany { berlin } else { shanghai };
        for at in dials(&job) {
            let hour = Timestamp::from_second(at).unwrap().to_zoned(TimeZone::get(zone).unwrap()).hour();
            assert!((9..12).contains(&hour) || (14..20).contains(&hour), "dialled at {hour} in {zone}");
        }
    }
}

/// One pool of two: what one of its providers cannot do is refused by its field, and not when it is that one's turn.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pool_cannot_do_in_calls_is_refused_when_it_is_submitted() {
    let bare = "[[provider]]\nid = \"bare\"\nkind = \"asterisk\"\nendpoint = \"http://127.0.0.1:1\"\nuser = \"dialer\"\n\
                password = \"sesame\"\ntrunk = \"PJSIP/{number}@carrier\"\n";
    let desk = Desk::open(&(TRUNK.to_owned() + bare));
    let transfer = flow_node::Act::Transfer(pb::TransferNode { target: "+861050".into() });
    let node = pb::FlowNode { act: Some(transfer), next: String::new() };
    let flow = pb::CallFlow { start: "desk".into(), nodes: [("desk".into(), node)].into(), ..pb::CallFlow::default() };
    let source = Some(call_content::Source::InlineFlow(flow));
    let puts_through = CallContent { source, ..CallContent::default() };
    let source = Some(call_content::Source::Flow("not-stored".into()));
    let unknown = CallContent { source, ..CallContent::default() };
    let call = |call: &CallContent| JobSpec {
        content: Some(job_spec::Content::Call(call.clone())),
        class: Class::Transactional.into(),
        ..JobSpec::default()
    };
    let step =
        FallbackStep { content: Some(fallback_step::Content::Call(puts_through.clone())), ..FallbackStep::default() };
    let chain = JobSpec { fallback: vec![step], ..api::text(Class::Transactional, "first") };
    for (spec, field, says) in [
        (call(&puts_through), "spec.call", "set its `transfer`"),
        (call(&unknown), "spec.call", "no template is called so"),
        (chain, "spec.fallback[0]", "set its `transfer`"),
    ] {
        let request = SubmitRequest {
            spec: Some(spec),
            recipient: Some(api::phone("+8613800000001")),
            ..SubmitRequest::default()
        };
        let status = desk.client.clone().submit(request).await.unwrap_err();
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, field);
        assert!(status.message().contains(says), "{}", status.message());
    }
}

/// Who was called for one campaign is not called for another on the same day; a call that is made again is the same.
#[tokio::test(flavor = "multi_thread")]
async fn callees_are_called_as_often_as_caps_let_whichever_campaign_calls() {
    let cap = "\n[[cap]]\nname = \"calls\"\nkinds = [\"call\"]\nlimit = 1\nwindow = \"24h\"\non_limit = \"drop\"\n";
    let mut desk = Desk::open(&(answering("busy") + cap));
    let numbers = api::numbers(0, 3);
    api::insist(&desk.client, &api::batch("spring", calls("spring"), &numbers)).await;
    for _ in 0..600 {
        if desk.calls_ended().await >= 3 {
            break;
        }
        desk.pass(Duration::from_secs(1)).await;
    }
    let others = api::insist(&desk.client, &api::batch("summer", calls("summer"), &numbers)).await;
    for job in desk.settle(6).await {
        let capped = others.contains(&job.job_id);
        let expected = if capped { (Fate::Suppressed, 0) } else { (Fate::Undelivered, 3) };
        assert_eq!((fate(&job).unwrap(), tries(&job).len()), expected, "{job:?}");
    }
}

/// Returns when somebody was dialled.
pub(super) fn dials(job: &Job) -> Vec<i64> {
    let dialled = |event: &pb::Event| match &event.what {
        // A result that ends a call which nobody heard ring has that state, too.
        Some(event::What::StateChange(change)) if change.state() == State::Dialing && change.reason.is_empty() => {
            Some(event.at?.seconds)
        }
        _ => None,
    };
    job.events.iter().filter_map(dialled).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_of_calls_is_paused_drained_and_resumed_by_moving_it() {
    let mut desk = Desk::open(TRUNK);
    let numbers = api::numbers(0, 40);
    api::insist(&desk.client, &api::batch("paused", calls("spring"), &numbers)).await;
    while desk.pass(Duration::from_secs(1)).await < LINES {}
    // Paused for a month: what is up goes on to its end, nothing more is dialled.
    let now = desk.now().await;
    let far = prost_types::Timestamp { seconds: now.seconds + 30 * 24 * HOUR, ..now };
    desk.reschedule("spring", Some(pb::schedule::Start::SendAt(far))).await;
    let waits = |job: &Job| !changed(job, State::Dialing) && !put_off(job);
    while desk.pass(Duration::from_millis(200)).await > 0 || desk.jobs(Kind::Call).await.iter().any(waits) {}
    // What is put off is on its way to the agenda, in real time.
    Clock::system().pause(Duration::from_secs(2)).await;
    let dialled = desk.calls_ended().await;
    assert!(dialled < 40, "{dialled} calls");
    for _ in 0..20 {
        assert_eq!(desk.pass(Duration::from_secs(30)).await, 0, "nobody is dialled in a campaign that is paused");
    }
    assert_eq!(desk.calls_ended().await, dialled);
    desk.reschedule("spring", None).await;
    desk.settle(40).await;
    assert!(desk.lines_most <= LINES);
}

impl Desk {
    /// Moves the clock to the next time at which clocks of `zone` show this.
    pub(super) async fn go(&mut self, zone: &str, time: &str) {
        let now = self.now().await;
        let now = Timestamp::from_second(now.seconds).unwrap().to_zoned(TimeZone::get(zone).unwrap());
        let time: jiff::civil::Time = time.parse().unwrap();
        let then = now.date().to_datetime(time).to_zoned(now.time_zone().clone()).unwrap();
        let then = if then > now { then } else { then.tomorrow().unwrap() };
        let left = then.timestamp().as_second() - now.timestamp().as_second();
        self.pass(Duration::from_secs(left.cast_unsigned())).await;
    }

    /// Lets some minutes pass, slowly, until somebody was dialled so often and that is over.
    pub(super) async fn dialled(&mut self, number: &str, times: usize) {
        for _ in 0..900 {
            let jobs = self.jobs(Kind::Call).await;
            let is = |job: &&Job| job.recipient.as_ref().is_some_and(|recipient| recipient.phone == number);
            let dialled = jobs.iter().find(is).is_some_and(|job| dials(job).len() >= times);
            if self.pass(Duration::from_secs(1)).await == 0 && dialled {
                return;
            }
            Clock::system().pause(Duration::from_millis(30)).await;
        }
        panic!("{number} is not dialled {times} times; the log:\n{}", self.service.log());
    }

    pub(super) async fn now(&mut self) -> prost_types::Timestamp {
        let by = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
        let mut admin = AdminServiceClient::new(self.service.connect());
        admin.advance_clock(AdvanceClockRequest { by }).await.unwrap().into_inner().now.unwrap()
    }

    /// Returns how many calls have ended, by the metrics.
    async fn calls_ended(&self) -> usize {
        let results = self.service.metrics();
        let ended = results.iter().filter(|line| line.starts_with("postrider_call_results_total{"));
        ended.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    async fn reschedule(&self, campaign: &str, start: Option<pb::schedule::Start>) {
        let by = job_selector::By::CampaignId(campaign.into());
        let selector = Some(JobSelector { by: Some(by) });
        let schedule = Some(pb::Schedule { start, ..pb::Schedule::default() });
        self.client.clone().reschedule_jobs(RescheduleJobsRequest { selector, schedule }).await.unwrap();
    }
}
