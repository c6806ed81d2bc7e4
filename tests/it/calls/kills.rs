//! Calls while things break: we die, or Asterisk does, or what is around a call is bad.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_a_kill_interrupts_are_found_again_and_nobody_is_called_twice() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("lines = 6\ncalls_per_s = 20");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    api::put_template(&service, api::template("missed", "{name}: sorry, we were interrupted")).await;
    let client = api::jobs(&service);
    let numbers: Vec<String> = (0..8).map(|index| number(index, if index < 4 { LISTENS } else { RINGS })).collect();
    // A phone rings for longer than the service takes to come back.
    let mut spec = rings(flow(60), 60);
    let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
    let text = SubmitNode { template: "missed".into(), kind: Kind::Sms.into(), params: BTreeMap::new() };
    content.after = vec![pb::AfterCall {
        when: Some(pb::after_call::When::Result(CallResult::Completed.into())),
        act: Some(pb::after_call::Act::Submit(text)),
    }];
    let ids = submit_calls(&client, "killed", spec, &numbers[..6]).await;
    for number in &numbers[..4] {
        until(&client, &ids[number], "answered", |job| state(job) == State::Answered).await;
    }
    for number in &numbers[4..6] {
        until(&client, &ids[number], "ringing", |job| state(job) == State::Ringing).await;
    }
    service.kill();
    assert_eq!(exchange.calls(), 6, "the calls go on without us");
    service.restart(None);
    let client = api::jobs(&service);
    for number in &numbers[..6] {
        let job = until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
        let fate = Fate::try_from(job.outcome.unwrap().fate).unwrap();
        let expected = if number.ends_with('8') { Fate::Completed } else { Fate::Unknown };
        assert_eq!(fate, expected, "{number}");
    }
    // What follows by the result follows all the same, once.
    let mut followed: Vec<_> = texts(&client, 4).await.into_iter().map(|(number, _)| number).collect();
    followed.sort();
    assert_eq!(followed, numbers[..4]);
    // The last is told of before it is wholly gone.
    within_a_minute("no line leaks", || exchange.calls() == 0).await;
    // The lines are whole: as many calls again.
    let more: Vec<String> = (10..16).map(|index| number(index, LISTENS)).collect();
    let ids = submit_calls(&client, "again", call(flow(1)), &more).await;
    for number in &more {
        let job = until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
        assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed));
    }
    let dialled = exchange.dialled();
    assert!(dialled.len() == 12 && dialled.values().all(|&times| times == 1), "{dialled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_either_side_of_a_call_dials_nobody_twice() {
    let Some(exchange) = Exchange::start() else { return };
    for (round, crash) in ["after_claim:1", "after_answer:1", "after_event:1"].into_iter().enumerate() {
        let provider = exchange.provider("lines = 6\ncalls_per_s = 20");
        let service = Service::prepare(&Backends::Embedded, &(TEXTS.to_owned() + &provider), &[]);
        service.restart(Some(crash));
        let client = api::jobs(&service);
        let number = number(round, LISTENS);
        let ids = submit_calls(&client, "once", call(flow(2)), std::slice::from_ref(&number)).await;
        within_a_minute("it crashes", || service.ended()).await;
        service.restart(None);
        let client = api::jobs(&service);
        let known = |job: &Job| matches!(state(job), State::Settled | State::Unresolved);
        let job = until(&client, &ids[&number], "settled or unresolved", known).await;
        let dialled = || exchange.dialled().get(&number).copied().unwrap_or(0);
        if crash != "after_claim:1" {
            // It was handed over, so the phone rang; what Asterisk still has of it is told.
            within_a_minute(crash, || dialled() >= 1).await;
        }
        assert!(dialled() <= 1, "{crash}: dialled {} times: {:?}", dialled(), changes(&job));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_followed_in_mid_call_follows_once_through_a_kill() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("lines = 6\ncalls_per_s = 20");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    api::put_template(&service, api::template("order-link", "{name}: the link to your order")).await;
    let client = api::jobs(&service);
    let mut flow = flow(30);
    let stays = GatherNode {
        wait: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        menu: [("9".to_owned(), "bye".to_owned())].into(),
        ..GatherNode::default()
    };
    flow.nodes.insert("marked".into(), node(flow_node::Act::Gather(stays), ""));
    let numbers = [number(0, LINK)];
    let ids = submit_calls(&client, "link", call(flow), &numbers).await;
    texts(&client, 1).await;
    assert_eq!(state(&job(&client, &ids[&numbers[0]]).await), State::Answered, "somebody is on the line");
    service.kill();
    service.restart(None);
    let client = api::jobs(&service);
    let job = until(&client, &ids[&numbers[0]], "settled", |job| state(job) == State::Settled).await;
    assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed));
    assert_eq!(texts(&client, 1).await.len(), 1);
    assert_eq!(exchange.dialled().values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_around_calls_costs_no_other_call() {
    let Some(exchange) = Exchange::start() else { return };
    let hanging = exchange.provider("speech = [\"sleep\", \"60\"]\nresponse_timeout = \"2s\"\napp = \"hanging\"");
    let hanging = hanging.replace("\"trunk\"", "\"mute\"").replace("kind", "pool = \"voice\"\nkind");
    let garbled = exchange.provider("speech = [\"echo\", \"rubbish\"]\napp = \"garbled\"");
    let garbled = garbled.replace("\"trunk\"", "\"garbled\"").replace("kind", "pool = \"voice\"\nkind");
    let wrong = exchange.provider("app = \"wrong\"").replace("\"trunk\"", "\"stranger\"").replace("sesame", "guess");
    let nobody = exchange.unreachable("nobody");
    let media = tempfile::tempdir().unwrap();
    let good = format!("lines = 4\ncalls_per_s = 20\nmedia_dir = \"{}\"", media.path().display());
    let settings = [TEXTS, &exchange.provider(&good), &hanging, &garbled, &wrong, &nobody].concat();
    let service = Service::start(&Backends::Embedded, &settings);
    let client = api::jobs(&service);
    let numbers: Vec<String> = (0..12).map(|index| number(index, LISTENS)).collect();
    let ids = submit_calls(&client, "broken", call(flow(1)), &numbers).await;
    for number in &numbers {
        let job = until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
        assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed), "{number}");
    }
    let log = service.log();
    let said = |of: &str, what: &str| log.lines().any(|line| line.contains(of) && line.contains(what));
    // The log says such things six times a minute, whoever it is about.
    assert!(said("mute", "did not end in time and was killed") || said("garbled", "wrote no recording"), "{log}");
    assert!(said("stranger", "no connection to Asterisk") && said("stranger", "401"), "{log}");
    assert!(said("nobody", "no connection to Asterisk"), "{log}");
    assert!(!log.contains("guess") && !log.contains("+86"), "{log}");
    bad_recordings_end_their_own_calls(media.path(), &client).await;
    assert!(service.log().contains("does not play; the call ends"), "{}", service.log());
    // Asterisk dies with calls in it, and comes back.
    let more: Vec<String> = (20..22).map(|index| number(index, LISTENS)).collect();
    let ids = submit_calls(&client, "dies", call(flow(60)), &more).await;
    for number in &more {
        until(&client, &ids[number], "answered", |job| state(job) == State::Answered).await;
    }
    exchange.kill();
    exchange.restart();
    for number in &more {
        let job = until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
        assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed), "{number}");
    }
    let last = number(30, LISTENS);
    let ids = submit_calls(&client, "last", call(flow(1)), std::slice::from_ref(&last)).await;
    until(&client, &ids[&last], "settled", |job| state(job) == State::Settled).await;
    let dialled = exchange.dialled();
    assert!(dialled.values().all(|&times| times == 1), "{dialled:?}");
}

/// A recording that is not there, and one that is none: nobody is asked after a prompt that they did not hear.
async fn bad_recordings_end_their_own_calls(media: &std::path::Path, client: &Client) {
    std::fs::write(media.join("rubbish.wav"), "no recording at all").unwrap();
    for (index, media) in ["no/such/recording", "rubbish"].into_iter().enumerate() {
        let play = pb::PlayNode { media: media.into(), repeats: 1 };
        let nodes = [
            ("play", node(flow_node::Act::Play(play), "never")),
            ("never", node(flow_node::Act::Tag(TagNode { tag: "asked".into() }), "")),
        ];
        let nodes = nodes.map(|(name, node)| (name.to_owned(), node)).into();
        let bad = pb::CallFlow { start: "play".into(), nodes, ..pb::CallFlow::default() };
        let silent = number(15 + index, LISTENS);
        let ids = submit_calls(client, media, call(bad), std::slice::from_ref(&silent)).await;
        let job = until(client, &ids[&silent], "settled", |job| state(job) == State::Settled).await;
        let report = job.call.unwrap();
        assert_eq!((report.hung_up_by.as_str(), report.tags.len()), ("us", 0), "{media}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_channels_that_nobody_knows_harm_no_call() {
    let Some(exchange) = Exchange::start() else { return };
    let provider = exchange.provider("lines = 4\ncalls_per_s = 20");
    let service = Service::start(&Backends::Embedded, &(TEXTS.to_owned() + &provider));
    let client = api::jobs(&service);
    // Somebody else's channel, and one that looks like ours, of a job that there never was.
    let (foreign, lost) = ("somebody-else", "postrider.00000000-0000-7000-8000-000000000000.1");
    // Our application takes events before it dials.
    let warm = number(0, LEAVES);
    let ids = submit_calls(&client, "warm", call(flow(1)), std::slice::from_ref(&warm)).await;
    until(&client, &ids[&warm], "settled", |job| state(job) == State::Settled).await;
    for (index, channel) in [foreign, lost].into_iter().enumerate() {
        exchange.call_as(channel, &number(90 + index, LISTENS));
    }
    let numbers: Vec<String> = (1..5).map(|index| number(index, LISTENS)).collect();
    let ids = submit_calls(&client, "ours", call(flow(1)), &numbers).await;
    for number in &numbers {
        let job = until(&client, &ids[number], "settled", |job| state(job) == State::Settled).await;
        assert_eq!(job.outcome.unwrap().fate, i32::from(Fate::Completed), "{number}");
    }
    assert!(exchange.has(foreign) && exchange.has(lost), "what is not driven here is left alone");
    // After a restart, what looks like a call of the process before is hung up; what is somebody else's is not.
    service.kill();
    service.restart(None);
    within_a_minute("the lost call is hung up", || !exchange.has(lost)).await;
    assert!(exchange.has(foreign), "{}", service.log());
    let client = api::jobs(&service);
    let last = number(6, LISTENS);
    let ids = submit_calls(&client, "after", call(flow(1)), std::slice::from_ref(&last)).await;
    until(&client, &ids[&last], "settled", |job| state(job) == State::Settled).await;
}
