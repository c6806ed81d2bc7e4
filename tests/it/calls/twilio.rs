//! Calls over Twilio, simulated: the same flows by documents and callbacks, which come twice, late, out of order or never.

use postrider::shutdown::Tasks;
use postrider::simulator::twilio_voice::{Manners, TwilioVoice};
use postrider::simulator::{Behaviour, Simulator};

use super::*;
use crate::support::cloud::quick;
use crate::support::janitor::free_port;

const ACCOUNT: &str = "AC00112233445566778899aabbccddeeff";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// What callees do, by the last digit of their numbers.
const RINGS_ON: u8 = 0;
const AWAY: u8 = 4;
const NOWHERE: u8 = 5;
const OFF: u8 = 6;
const MACHINE: u8 = 7;
const SILENT: u8 = 8;
const LEAVES_EARLY: u8 = 9;

/// A simulated account, and a service that calls over it.
struct Rig {
    account: TwilioVoice,
    simulator: Simulator,
    service: Service,
    client: Client,
    tasks: Tasks,
}

/// Callees who are quick.
fn manners() -> Manners {
    Manners {
        ring: Duration::from_millis(400),
        heard: Duration::from_millis(150),
        thinks: Duration::from_millis(50),
        ..Manners::default()
    }
}

impl Rig {
    async fn start(manners: Manners, behaviour: Behaviour, more: &str) -> Self {
        let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
        let account = TwilioVoice::new((ACCOUNT.into(), TOKEN.into()), manners, &tasks, &clock);
        let (vendor, listen) = (Box::new(account.clone()), ([127, 0, 0, 1], 0).into());
        let simulator = Simulator::start(vendor, listen, (behaviour, 7), &tasks, &clock).await.unwrap();
        let settings = format!(
            "[receive]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n{TEXTS}[[provider]]\n\
             id = \"trunk\"\nkind = \"twilio-voice\"\nendpoint = \"http://{}\"\naccount_sid = \"{ACCOUNT}\"\n\
             auth_token = \"{TOKEN}\"\ncallers = [\"+15005550006\"]\ncalls_per_s = 50\nresponse_timeout = \"3s\"\n{more}",
            simulator.address()
        );
        let service = Service::start(&Backends::Embedded, &settings);
        api::put_template(&service, api::template("order-link", "{name}: the link to your order")).await;
        let client = api::jobs(&service);
        Self { account, simulator, service, client, tasks }
    }

    /// Returns how often each number was dialled.
    fn dialled(&self) -> HashMap<String, usize> {
        let mut dialled = HashMap::new();
        for (message, _) in self.simulator.messages() {
            *dialled.entry(message.to).or_default() += 1;
        }
        dialled
    }

    /// Returns what a callee heard.
    fn heard(&self, number: &str) -> Vec<String> {
        self.account.calls().into_iter().find(|call| call.to == number).map(|call| call.heard).unwrap_or_default()
    }

    fn lines(&self) -> usize {
        let gauge = "postrider_calls_in_progress{trunk=\"trunk\"} ";
        self.service.metrics().iter().find_map(|line| line.strip_prefix(gauge)?.parse().ok()).unwrap_or(0)
    }

    async fn settled(&self, id: &str) -> Job {
        until(&self.client, id, "settled", |job| state(job) == State::Settled).await
    }

    /// Waits until a call has its outcome, or is to be made again.
    async fn came_to(&self, id: &str) -> Job {
        let again = |job: &Job| changes(job).iter().any(|(.., change)| change.until.is_some());
        until(&self.client, id, "called", |job| state(job) == State::Settled || again(job)).await
    }

    async fn finish(self) {
        drop(self.service);
        self.tasks.finish(&Clock::system(), Duration::from_secs(5)).await;
    }
}

/// Checks what one call came to.
fn came_right(number: &str, job: &Job, heard: &[String]) {
    let does = number.as_bytes()[number.len() - 1] - b'0';
    let report = job.call.clone().unwrap_or_else(|| panic!("{number}: no report: {job:?}"));
    let result = CallResult::try_from(report.result).unwrap();
    let outcome = job.outcome.as_ref().map(|outcome| (Fate::try_from(outcome.fate).unwrap(), outcome.reason.as_str()));
    let again = changes(job).into_iter().rfind(|(.., change)| change.until.is_some());
    let again = again.map(|(_, at, change)| change.until.unwrap().seconds - at / 1_000_000);
    let (expected, ends, least) = match does {
        LINK | STOP | SILENT | LEAVES_EARLY => (CallResult::Completed, Some((Fate::Completed, "")), None),
        BUSY => (CallResult::Busy, None, Some(300)),
        AWAY => (CallResult::NoAnswer, None, Some(3_600)),
        NOWHERE => (CallResult::InvalidNumber, Some((Fate::Undelivered, "invalid_number")), None),
        OFF => (CallResult::Unreachable, None, Some(3 * 3_600)),
        MACHINE => (CallResult::Machine, None, Some(86_400)),
        other => panic!("nobody does {other}"),
    };
    assert_eq!((result, outcome), (expected, ends), "{number}: {heard:?}");
    match (least, again) {
        (Some(least), Some(again)) => assert!((least..=least * 6 / 5 + 1).contains(&again), "{number}: {again}"),
        (least, again) => assert_eq!((least, again), (None, None), "{number}"),
    }
    assert!(!heard.iter().any(|what| what.starts_with("error")), "{number}: {heard:?}");
    let said = |text: &str| format!("say {text}");
    match does {
        LINK | STOP => {
            assert_eq!((report.digits, &*report.hung_up_by, &*report.answered_by), (does.to_string(), "us", "human"));
            assert_eq!(report.tags, if does == LINK { vec!["confirmed"] } else { vec![] });
            assert_eq!(heard, [&*said("您好 Li"), "gather", &said("谢谢，再见"), "hangup"]);
            assert!(report.talk.unwrap().seconds >= 1);
            assert!(came(job, State::Dialing) <= came(job, State::Answered));
        }
        SILENT => {
            assert_eq!((&*report.digits, &*report.hung_up_by, heard.last().unwrap().as_str()), ("", "us", "hangup"))
        }
        LEAVES_EARLY => assert_eq!((&*report.hung_up_by, heard), ("callee", &[said("您好 Li")][..])),
        MACHINE => assert_eq!((&*report.answered_by, heard), ("machine", &["hangup".to_owned()][..])),
        _ => assert_eq!(heard, [""; 0]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_twilio_end_as_their_callees_do_and_what_follows_follows_once() {
    let manners = Manners { doubled: 0.4, late: 0.3, repeated: 0.4, ..manners() };
    let rig = Rig::start(manners, quick(), &format!("lines = {LINES}\ndetect = true\n")).await;
    let does = [LINK, STOP, BUSY, AWAY, NOWHERE, OFF, MACHINE, SILENT, LEAVES_EARLY];
    let numbers: Vec<String> = (0..36).map(|index| number(index, does[index % does.len()])).collect();
    // A machine is called again a day later, which not every class lives to see.
    let spec = JobSpec { class: Class::Marketing.into(), ..call(flow(1)) };
    let ids = submit_calls(&rig.client, "many", spec, &numbers).await;
    let mut lines_most = 0;
    for number in &numbers {
        lines_most = lines_most.max(rig.lines());
        let job = rig.came_to(&ids[number]).await;
        came_right(number, &job, &rig.heard(number));
    }
    assert!(lines_most <= LINES && lines_most > 1, "{lines_most} lines");
    within_a_minute("no line leaks", || rig.lines() == 0).await;
    let dialled = rig.dialled();
    assert!(dialled.len() == numbers.len() && dialled.values().all(|&times| times == 1), "{dialled:?}");
    // One text for each callee who asked for it, accepted while they were on the line.
    let links: Vec<_> = numbers.iter().filter(|number| number.ends_with('1')).collect();
    let texts = texts_of(&rig.client).await;
    assert_eq!(texts.len(), links.len(), "{texts:?}");
    for text in texts {
        let call = job(&rig.client, &ids[&text.recipient.unwrap().phone]).await;
        let accepted = text.accepted_at.unwrap();
        let accepted = accepted.seconds * 1_000_000 + i64::from(accepted.nanos) / 1_000;
        assert!((came(&call, State::Answered)..came(&call, State::Settled)).contains(&accepted));
    }
    opted_out_are_left_alone(&rig.client, &numbers).await;
    rig.finish().await;
}

async fn texts_of(client: &Client) -> Vec<Job> {
    let texts = ListJobsRequest {
        filter: Some(JobFilter { kind: Kind::Sms.into(), ..JobFilter::default() }),
        view: pb::JobView::Full.into(),
        ..ListJobsRequest::default()
    };
    client.clone().list_jobs(texts).await.unwrap().into_inner().jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_is_lost_is_found_by_its_callbacks_and_made_once() {
    let rig = Rig::start(manners(), Behaviour { unanswered: 1.0, ..quick() }, "lines = 12\n").await;
    let numbers: Vec<String> = (0..6).map(|index| number(index, [LINK, BUSY, SILENT][index % 3])).collect();
    let ids = submit_calls(&rig.client, "lost", call(flow(1)), &numbers).await;
    for number in &numbers {
        let job = rig.came_to(&ids[number]).await;
        let result = CallResult::try_from(job.call.unwrap().result).unwrap();
        assert_eq!(result, if number.ends_with('3') { CallResult::Busy } else { CallResult::Completed }, "{number}");
    }
    assert_eq!(rig.simulator.lost(), 6);
    assert!(rig.dialled().values().all(|&times| times == 1), "{:?}", rig.dialled());
    assert_eq!(texts_of(&rig.client).await.len(), 2);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_callbacks_never_come_are_asked_for_and_what_nobody_knows_is_unknown() {
    let rig = Rig::start(Manners { missing: 1.0, ..manners() }, quick(), "lines = 12\n").await;
    let numbers = [number(0, LINK), number(1, BUSY)];
    let ids = submit_calls(&rig.client, "silent", call(flow(1)), &numbers).await;
    let link = rig.settled(&ids[&numbers[0]]).await;
    let report = link.call.unwrap();
    assert_eq!((&*report.digits, CallResult::try_from(report.result)), ("1", Ok(CallResult::Completed)));
    // Neither its answer nor any callback: nobody knows, and nobody calls again.
    rig.simulator.behave(Behaviour { unanswered: 1.0, ..quick() });
    let lost = number(2, AWAY);
    let more = submit_calls(&rig.client, "unknown", call(flow(1)), std::slice::from_ref(&lost)).await;
    let job = rig.settled(&more[&lost]).await;
    assert_eq!(Fate::try_from(job.outcome.unwrap().fate).unwrap(), Fate::Unknown);
    let busy = rig.came_to(&ids[&numbers[1]]).await;
    assert_eq!(CallResult::try_from(busy.call.unwrap().result), Ok(CallResult::Busy));
    within_a_minute("no line leaks", || rig.lines() == 0).await;
    assert!(rig.dialled().len() == 3 && rig.dialled().values().all(|&times| times == 1), "{:?}", rig.dialled());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_rings_over_twilio_is_hung_up_when_the_campaign_is_cancelled() {
    let rig = Rig::start(manners(), quick(), "lines = 12\n").await;
    let spec = JobSpec {
        origin: Some(pb::Origin { campaign_id: "spring".into(), ..pb::Origin::default() }),
        ..rings(flow(20), 60)
    };
    let numbers = [number(0, RINGS_ON), number(1, RINGS_ON), number(2, SILENT)];
    let ids = submit_calls(&rig.client, "cancelled", spec, &numbers).await;
    for (number, wanted) in numbers.iter().zip([State::Ringing, State::Ringing, State::Answered]) {
        until(&rig.client, &ids[number], "up", |job| state(job) == wanted).await;
    }
    let by = pb::job_selector::By::CampaignId("spring".into());
    let selector = Some(pb::JobSelector { by: Some(by) });
    rig.client.clone().cancel_jobs(pb::CancelJobsRequest { selector }).await.unwrap();
    for number in &numbers[..2] {
        let job = rig.settled(&ids[number]).await;
        assert_eq!(Fate::try_from(job.outcome.unwrap().fate).unwrap(), Fate::Cancelled, "{number}");
    }
    let status = |number: &String| rig.account.calls().into_iter().find(|call| call.to == *number).unwrap().status;
    assert_eq!(numbers.each_ref().map(status), ["canceled", "canceled", "in-progress"]);
    within_a_minute("their lines are free", || rig.lines() == 1).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_twilio_that_a_kill_interrupts_are_told_of_and_nobody_is_called_twice() {
    let manners = Manners { ring: Duration::from_secs(4), ..manners() };
    let rig = Rig::start(manners, quick(), "lines = 12\n").await;
    let mut flow = flow(30);
    let stays = GatherNode {
        wait: Some(prost_types::Duration { seconds: 6, nanos: 0 }),
        menu: [("9".to_owned(), "bye".to_owned())].into(),
        ..GatherNode::default()
    };
    flow.nodes.insert("marked".into(), node(flow_node::Act::Gather(stays), ""));
    // One asks for the link and listens on; the others ring when the service dies.
    let (talks, others) = (number(0, LINK), [number(1, SILENT), number(2, AWAY), number(3, LEAVES_EARLY)]);
    let first = submit_calls(&rig.client, "talks", call(flow.clone()), std::slice::from_ref(&talks)).await;
    texts(&rig.client, 1).await;
    let ids = submit_calls(&rig.client, "rings", rings(flow, 60), &others).await;
    for number in &others {
        until(&rig.client, &ids[number], "ringing", |job| state(job) == State::Ringing).await;
    }
    rig.service.kill();
    rig.service.restart(None);
    let client = api::jobs(&rig.service);
    let job = until(&client, &first[&talks], "settled", |job| state(job) == State::Settled).await;
    assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed), "its end was told to the next process");
    assert_eq!(rig.heard(&talks).last().unwrap(), "hangup");
    let again = |job: &Job| changes(job).iter().any(|(.., change)| change.until.is_some());
    for number in &others {
        let job = until(&client, &ids[number], "told of", |job| state(job) == State::Settled || again(job)).await;
        let result = CallResult::try_from(job.call.clone().unwrap().result).unwrap();
        let expected = if number.ends_with('4') { CallResult::NoAnswer } else { CallResult::Completed };
        assert_eq!((result, again(&job)), (expected, number.ends_with('4')), "{number}: {:?}", changes(&job));
    }
    assert_eq!(texts(&client, 1).await.len(), 1);
    let dialled = rig.dialled();
    assert!(dialled.len() == 4 && dialled.values().all(|&times| times == 1), "{dialled:?}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_either_side_of_a_call_over_twilio_dials_nobody_twice() {
    let rig = Rig::start(manners(), quick(), "lines = 12\n").await;
    for (round, crash) in ["after_claim:1", "after_answer:1", "after_event:1"].into_iter().enumerate() {
        rig.service.kill();
        rig.service.restart(Some(crash));
        let client = api::jobs(&rig.service);
        let number = number(round, SILENT);
        let ids = submit_calls(&client, &format!("once-{round}"), call(flow(2)), std::slice::from_ref(&number)).await;
        within_a_minute("it crashes", || rig.service.ended()).await;
        rig.service.restart(None);
        let client = api::jobs(&rig.service);
        let known = |job: &Job| matches!(state(job), State::Settled | State::Unresolved);
        let job = until(&client, &ids[&number], "settled or unresolved", known).await;
        let dialled = rig.dialled().get(&number).copied().unwrap_or(0);
        assert!(dialled <= 1, "{crash}: dialled {dialled} times: {:?}", changes(&job));
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_calls_over_twilio_go_on_to_their_end() {
    let rig = Rig::start(Manners { heard: Duration::from_millis(1_500), ..manners() }, quick(), "lines = 12\n").await;
    let number = number(0, LINK);
    let ids = submit_calls(&rig.client, "stop", call(flow(5)), std::slice::from_ref(&number)).await;
    until(&rig.client, &ids[&number], "answered", |job| state(job) == State::Answered).await;
    rig.service.stop();
    assert_eq!(rig.heard(&number), ["say 您好 Li", "gather", "say 谢谢，再见", "hangup"]);
    rig.service.restart(None);
    let client = api::jobs(&rig.service);
    let job = until(&client, &ids[&number], "settled", |job| state(job) == State::Settled).await;
    assert_eq!(job.call.unwrap().digits, "1");
    assert_eq!(texts(&client, 1).await.len(), 1);
    rig.finish().await;
}
