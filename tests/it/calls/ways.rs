//! What calls may do besides: bring a stored flow, be followed, be put through, hear a machine, and be hung up.

use postrider::pb::after_call;

use super::*;

/// A stored flow, with what follows its calls: by result, by tag, as a job and as an opt-out.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_call_follows_once_and_a_flow_is_stored_like_any_template() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("lines = 6\ncalls_per_s = 20");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    api::put_template(&service, api::template("order-link", "{name}: the link to your order")).await;
    api::put_template(&service, api::template("missed", "{name}: we could not reach you")).await;
    let mut stored = api::template("confirm", "{name}");
    let confirm = flow(12);
    stored.bodies[0] = pb::TemplateBody { call_flow: Some(confirm.clone()), ..pb::TemplateBody::default() };
    api::put_template(&service, stored).await;
    let client = api::jobs(&service);
    let submit = |template: &str| {
        let kind = Kind::Sms.into();
        after_call::Act::Submit(SubmitNode { template: template.into(), kind, params: BTreeMap::new() })
    };
    let follows = |when, act| pb::AfterCall { when: Some(when), act: Some(act) };
    let retries = [CallResult::Busy, CallResult::Network].map(|result| pb::CallRetry {
        result: result.into(),
        after: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        times: u32::from(result == CallResult::Busy),
    });
    let content = CallContent {
        source: Some(call_content::Source::Flow("confirm".into())),
        ring_max: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        retries: retries.into(),
        after: vec![
            follows(after_call::When::Result(CallResult::Busy.into()), submit("missed")),
            follows(after_call::When::Tag("confirmed".into()), submit("missed")),
            follows(
                after_call::When::Result(CallResult::Network.into()),
                after_call::Act::OptOut(OptOutNode::default()),
            ),
        ],
    };
    let spec = JobSpec {
        content: Some(job_spec::Content::Call(content)),
        class: Class::Notification.into(),
        ..JobSpec::default()
    };
    let numbers: Vec<String> = [LINK, BUSY, FAILS, LISTENS].map(|does| number(0, does)).into();
    let ids = submit_calls(&client, "after", spec, &numbers).await;
    for number in &numbers {
        let again = |job: &Job| changes(job).iter().any(|(.., change)| change.until.is_some());
        let job = until(&client, &ids[number], "called", |job| state(job) == State::Settled || again(job)).await;
        // Its rule says so: a network failure settles it, a busy line does not.
        assert_eq!(again(&job), number.ends_with('3'), "{number}: {job:?}");
    }
    let texts = texts(&client, 3).await;
    let mut found: Vec<_> = texts.iter().map(|text| (text.0.as_str(), text.1.as_str())).collect();
    found.sort_unstable();
    let expected =
        [(numbers[0].as_str(), "missed"), (numbers[0].as_str(), "order-link"), (numbers[1].as_str(), "missed")];
    assert_eq!(found, expected);
    // Whom the network kept away was opted out: the one who listened was not.
    let asked = numbers[2..].to_vec();
    let news = api::insist(&client, &api::batch("news", api::text(Class::Marketing, "news"), &asked)).await;
    for (number, id) in asked.iter().zip(news) {
        let job = until(&client, &id, "settled", |job| state(job) == State::Settled).await;
        let fate = Fate::try_from(job.outcome.unwrap().fate).unwrap();
        assert_eq!(fate == Fate::Suppressed, number.ends_with('6'), "{number}: {fate:?}");
    }
    let shown = job(&client, &ids[&numbers[0]]).await;
    assert_eq!(shown.call.unwrap().tags, ["confirmed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ringing_calls_of_a_cancelled_campaign_are_hung_up_and_answered_ones_are_not() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("lines = 6\ncalls_per_s = 20");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    let client = api::jobs(&service);
    let origin = Some(pb::Origin { campaign_id: "spring".into(), ..pb::Origin::default() });
    let spec = JobSpec { origin, ..rings(flow(60), 60) };
    let numbers: Vec<String> = [RINGS, RINGS + 10, LISTENS].map(|does| number(usize::from(does), does % 10)).into();
    let ids = submit_calls(&client, "spring", spec, &numbers).await;
    for number in &numbers {
        let wanted = if number.ends_with('4') { State::Ringing } else { State::Answered };
        until(&client, &ids[number], "on its way", |job| state(job) == wanted).await;
    }
    // An opt-out counts like a cancellation: nobody listens to the phone of a shop that they just told to stop.
    let by = pb::job_selector::By::CampaignId("spring".into());
    let selector = Some(pb::JobSelector { by: Some(by) });
    client.clone().cancel_jobs(pb::CancelJobsRequest { selector }).await.unwrap();
    for number in &numbers[..2] {
        let job = until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
        assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Cancelled), "{number}");
    }
    within_a_minute("only who answered is on the line", || exchange.calls() == 1).await;
    assert_eq!(state(&job(&client, &ids[&numbers[2]]).await), State::Answered, "who answered is not interrupted");
    let gauge = service.metrics().iter().any(|line| line == "postrider_calls_in_progress{trunk=\"trunk\"} 1");
    assert!(gauge, "their lines are free");
}

/// Calls somebody and puts them through to `desk`.
async fn put_through(client: &Client, key: &str, number: &str, desk: &str) -> String {
    let transfer = pb::TransferNode { target: "{desk}".into() };
    let nodes = [
        ("hello", say("您好", "desk")),
        ("desk", node(flow_node::Act::Transfer(transfer), "after")),
        ("after", node(flow_node::Act::Tag(TagNode { tag: "after".into() }), "bye")),
        ("bye", say("谢谢，再见", "")),
    ];
    let nodes = nodes.map(|(name, node)| (name.to_owned(), node)).into();
    let flow = pb::CallFlow { start: "hello".into(), nodes, locale: "zh-CN".into(), ..pb::CallFlow::default() };
    let mut request = api::batch(key, call(flow), &[number.to_owned()]);
    request.items[0].params.insert("desk".into(), desk.into());
    api::insist(client, &request).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_put_through_and_goes_on_when_nobody_is_there_any_more() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("transfer = \"PJSIP/{number}@carrier\"");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    let client = api::jobs(&service);
    // One desk answers and hangs up after a second, one is not there, one is no number at all.
    let (answers, nobody) = ("8613800099997", "8613800099995");
    for (index, desk) in [answers, nobody, "PJSIP/1@elsewhere"].into_iter().enumerate() {
        let id = put_through(&client, desk, &number(index, LISTENS), desk).await;
        let job = until(&client, &id, "settled", |job| state(job) == State::Settled).await;
        assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed), "{desk}");
        let report = job.call.unwrap();
        assert_eq!((&*report.tags, &*report.hung_up_by), (&["after".to_owned()][..], "us"), "{desk}");
    }
    within_a_minute("nobody is left on a line", || exchange.calls() == 0).await;
    let dialled = exchange.dialled();
    assert_eq!((dialled.get(&format!("+{answers}")), dialled.len()), (Some(&1), 5), "{dialled:?}");
    // The callee hangs up while somebody rings for them: that ends as well.
    let id = put_through(&client, "leaves", &number(9, LEAVES), &number(8, RINGS)).await;
    let job = until(&client, &id, "settled", |job| state(job) == State::Settled).await;
    assert_eq!(job.call.unwrap().hung_up_by, "callee");
    within_a_minute("nobody rings for nobody", || exchange.calls() == 0).await;
}

/// Returns a second of a tone as a WAV file: 8 kHz, 16 bit, one channel.
fn tone() -> Vec<u8> {
    let samples = 8_000_u32;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + samples * 2).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1_u16, 1].map(u16::to_le_bytes).concat());
    wav.extend([8_000_u32, 16_000].map(u32::to_le_bytes).concat());
    wav.extend([2_u16, 16].map(u16::to_le_bytes).concat());
    wav.extend(b"data");
    wav.extend((samples * 2).to_le_bytes());
    wav.extend((0..samples).flat_map(|sample| if sample / 10 % 2 == 0 { 6_000_i16 } else { -6_000 }.to_le_bytes()));
    wav
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_played_and_what_is_said_then_is_recorded() {
    let Some(exchange) = Exchange::start() else { return };
    let media = tempfile::tempdir().unwrap();
    std::fs::write(media.path().join("welcome.wav"), tone()).unwrap();
    let provider = exchange.provider(&format!("media_dir = \"{}\"", media.path().display()));
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    let client = api::jobs(&service);
    let length_max = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let nodes = [
        ("play", node(flow_node::Act::Play(pb::PlayNode { media: "welcome".into(), repeats: 1 }), "record")),
        ("record", node(flow_node::Act::Record(pb::RecordNode { length_max }), "after")),
        ("after", node(flow_node::Act::Tag(TagNode { tag: "after".into() }), "")),
    ];
    let nodes = nodes.map(|(name, node)| (name.to_owned(), node)).into();
    let records = pb::CallFlow { start: "play".into(), nodes, ..pb::CallFlow::default() };
    let spec = call(records);
    let ids = submit_calls(&client, "records", spec.clone(), &[number(0, HELLO)]).await;
    let job = until(&client, &ids[&number(0, HELLO)], "settled", |job| state(job) == State::Settled).await;
    let report = job.call.unwrap();
    assert_eq!((report.result, &*report.tags), (CallResult::Completed.into(), &["after".to_owned()][..]));
    assert_eq!((report.hung_up_by.as_str(), report.transcript_ref.as_str()), ("us", ""));
    assert!(report.talk.unwrap().seconds >= 1, "the tone was heard to its end");
    assert!(exchange.keeps(&report.recording_ref), "{:?}; the log:\n{}", report.recording_ref, service.log());
    // What cannot be recorded is not asked for, and the result leads nobody to what is not there.
    exchange.stop_recording();
    let ids = submit_calls(&client, "records-not", spec, &[number(1, HELLO)]).await;
    let job = until(&client, &ids[&number(1, HELLO)], "settled", |job| state(job) == State::Settled).await;
    let report = job.call.unwrap();
    assert_eq!((report.result, report.tags.len(), &*report.recording_ref), (CallResult::Completed.into(), 0, ""));
    assert!(service.log().contains("does not record what is said"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_hung_up_on_and_a_person_is_talked_to() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("detect = \"listens\"");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    let client = api::jobs(&service);
    // Who says a word and waits is a person, who speaks on and on is a machine.
    let numbers = [HELLO, GREETS].map(|does| number(usize::from(does), does));
    // A machine is called again a day later, if the job lives so long.
    let seconds = Clock::system().now().as_secs() + 3 * 86_400;
    let expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    let schedule = Some(pb::Schedule { expires_at, ..pb::Schedule::default() });
    let ids = submit_calls(&client, "who", JobSpec { schedule, ..call(flow(1)) }, &numbers).await;
    let person = until(&client, &ids[&numbers[0]], "settled", |job| state(job) == State::Settled).await;
    let report = person.call.unwrap();
    assert_eq!((report.result, &*report.answered_by), (CallResult::Completed.into(), "human"));
    let again = |job: &Job| changes(job).iter().any(|(.., change)| change.until.is_some());
    let machine = until(&client, &ids[&numbers[1]], "put off", again).await;
    let report = machine.call.clone().unwrap();
    assert_eq!((report.result, &*report.answered_by), (CallResult::Machine.into(), "machine"));
    assert_eq!((report.hung_up_by.as_str(), report.digits.as_str()), ("us", ""));
    let (_, at, change) = changes(&machine).into_iter().find(|(.., change)| change.until.is_some()).unwrap();
    let wait = change.until.unwrap().seconds - at / 1_000_000;
    assert!((86_400..=86_400 * 6 / 5 + 1).contains(&wait), "a day later, not {wait} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_come_from_the_near_number_until_its_day_is_full_and_from_all_in_turn() {
    let Some(exchange) = Exchange::start() else { return };
    let (near, far) = ("+862085550100", "+861085550100");
    let callers = format!("callers = [\"{near} near +861380000\", \"{far}\"]\ncaller_day_max = 3\nlines = 1");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &exchange.provider(&callers)));
    let client = api::jobs(&service);
    // A call that comes before the exchange is connected takes a place of the day all the same.
    let up = |line: &String| line.starts_with("postrider_provider_up{provider=\"trunk\"}") && line.ends_with(" 1");
    let looks = (0..200).take_while(|_| !service.metrics().iter().any(up));
    looks.for_each(|_| std::thread::sleep(Duration::from_millis(50)));
    // Whoever lives near its number is called from it; of those who do not, each number calls the next.
    let abroad = |index: usize| format!("+4915100000{index:02}7");
    let called = [number(0, LEAVES), number(1, LEAVES), abroad(0), abroad(1), number(2, LEAVES)];
    for (index, number) in called.iter().enumerate() {
        let ids = submit_calls(&client, &format!("turn-{index}"), call(flow(30)), std::slice::from_ref(number)).await;
        until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
    }
    let seen = exchange.callers();
    let seen: Vec<&str> = called.iter().map(|number| seen[number].as_str()).collect();
    assert_eq!(seen, [near, near, far, near, far], "the near number has made its three calls of the day");
}
