//! Twilio's calls against their simulator, and both against Twilio's own library.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::channel::call::twilio::callback::Desk;
use postrider::channel::call::twilio::{self, Settings, Switchboard, Twilio};
use postrider::channel::call::{Carried, Line, Step, Withdrawal};
use postrider::channel::http::client::Client;
use postrider::channel::http::server::{Bounds, Handler, NoBody, Server};
use postrider::channel::http::{Bytes, Parts, Request, Response, StatusCode};
use postrider::channel::login::Login;
use postrider::channel::sms::twilio::signature;
use postrider::channel::{Answer, Channel, Handover, Inbound, News};
use postrider::config::Link;
use postrider::domain::call::{CallReport, CallResult, Plan};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Kind, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::receipt::{Desks, Router};
use postrider::shutdown::Tasks;
use postrider::simulator::twilio_voice::{Manners, TwilioVoice};
use postrider::simulator::{Behaviour, Simulator};
use tokio::sync::mpsc;

use crate::support::cloud::{CLOUD, PATIENCE, ask_python, provider, quick, words};
use crate::support::samples;

const ACCOUNT: &str = "AC00112233445566778899aabbccddeeff";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A line that is never short.
struct AnyLine;

impl Line for AnyLine {
    fn answered(&self) {}

    fn rings(&self) -> bool {
        true
    }

    fn ended(&self, _result: Option<CallResult>) {}
}

/// What was asked of us, and what we answered.
#[derive(Clone)]
struct Exchanged {
    target: String,
    signature: String,
    form: String,
    status: StatusCode,
    answer: String,
}

/// The router, and everything that passed it.
struct Recorder {
    router: Router,
    seen: Mutex<Vec<Exchanged>>,
}

impl Handler for Recorder {
    async fn handle(&self, head: Parts, body: Result<Bytes, NoBody>) -> Option<Response<Bytes>> {
        let target = head.uri.path_and_query().unwrap().to_string();
        let signature = head.headers.get(signature::HEADER).map(|value| value.to_str().unwrap().to_owned());
        let form = String::from_utf8(body.as_ref().unwrap().to_vec()).unwrap();
        let answer = self.router.handle(head, body).await?;
        let said = String::from_utf8(answer.body().to_vec()).unwrap();
        let (signature, status) = (signature.unwrap_or_default(), answer.status());
        self.seen.lock().unwrap().push(Exchanged { target, signature, form, status, answer: said });
        Some(answer)
    }
}

/// An account, both ends of it, and what passes between them.
struct Rig {
    twilio: Twilio,
    account: TwilioVoice,
    simulator: Simulator,
    recorder: Arc<Recorder>,
    url: String,
    inbox: mpsc::Receiver<Inbound>,
    tasks: Tasks,
    clock: Clock,
}

impl Rig {
    async fn start(manners: Manners, behaviour: Behaviour, more: &str) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let account = TwilioVoice::new((ACCOUNT.into(), TOKEN.into()), manners, &tasks, &clock);
        let listen = ([127, 0, 0, 1], 0).into();
        let simulator =
            Simulator::start(Box::new(account.clone()), listen, (behaviour, 7), &tasks, &clock).await.unwrap();
        let server = Server::bind(listen).await.unwrap();
        let url = format!("http://{}", server.address());
        let settings = provider(&format!(
            "[receive]\npublic_url = \"{url}\"\n[[provider]]\nid = \"{CLOUD}\"\nkind = \"twilio-voice\"\n\
             endpoint = \"http://{}\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{TOKEN}\"\n\
             callers = [\"+15005550006\"]\nresponse_timeout = \"3s\"\n{more}",
            simulator.address()
        ));
        let Link::TwilioVoice(link) = &settings.providers[0].link else { panic!("twilio") };
        let (sender, inbox) = mpsc::channel(1_000);
        let board = Switchboard::default();
        let desk = Desk::new(CLOUD.parse().unwrap(), &url, link.account.auth_token.clone(), board.clone());
        let desks: Desks = [(CLOUD.parse().unwrap(), Box::new(desk) as _)].into_iter().collect();
        let router = Router::new(desks, sender.clone(), clock.clone());
        let recorder = Arc::new(Recorder { router, seen: Mutex::default() });
        let bounds = Bounds { body_len: 64 * 1024, connections: 100 };
        server.spawn(Arc::clone(&recorder), bounds, &tasks, &clock);
        let api = &link.account.api;
        let client = Client::new(&api.endpoint, None, api.connections, &tasks, &clock).unwrap();
        let settings = Settings {
            provider: CLOUD.parse().unwrap(),
            link: (**link).clone(),
            callback: format!("{url}/callback/{CLOUD}").into(),
            response_timeout: Duration::from_secs(3),
        };
        let twilio = Twilio::new(settings, client, board, sender, (&tasks, &clock));
        Self { twilio, account, simulator, recorder, url, inbox, tasks, clock }
    }

    /// Hands over and returns all answers, in order of the hand-overs.
    async fn submit(&self, handovers: Vec<Handover>) -> Vec<Answer> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        self.twilio.submit(handovers, sender);
        let mut got = Vec::new();
        while let Some(answer) = self.clock.timeout(PATIENCE, answers.recv()).await.expect("an answer") {
            got.push(answer);
        }
        got.sort_by_key(|(index, _)| *index);
        got.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Takes news until a call has ended; returns how, and what other news came.
    async fn ended(&mut self) -> (CallReport, Vec<News>) {
        let mut others = vec![];
        loop {
            let inbound = self.clock.timeout(PATIENCE, self.inbox.recv()).await.expect("news").unwrap();
            inbound.done.send(()).unwrap();
            match inbound.news {
                News::Call(news) => match news.step {
                    Step::Ended(report, _) => return (report, others),
                    Step::Moved(_) => {}
                    other => panic!("{other:?}"),
                },
                other => others.push(other),
            }
        }
    }

    fn seen(&self) -> Vec<Exchanged> {
        self.recorder.seen.lock().unwrap().clone()
    }

    /// Calls us back as somebody else would.
    async fn forge(&self, said: &Exchanged, form: &str, signature: &str) -> StatusCode {
        let client =
            Client::new(&self.url.parse().unwrap(), None, 4.try_into().unwrap(), &self.tasks, &self.clock).unwrap();
        let request = Request::post(&*said.target).header(signature::HEADER, signature);
        let request = request.body(Bytes::from(form.to_owned())).unwrap();
        client.send(request, PATIENCE).await.unwrap().status()
    }

    async fn finish(self) {
        let Self { tasks, clock, inbox, .. } = self;
        drop(inbox);
        assert_eq!(tasks.finish(&clock, PATIENCE).await, 0, "all of it ends");
    }
}

/// Callees who are quick.
fn manners() -> Manners {
    let ms = Duration::from_millis;
    Manners { ring: ms(150), heard: ms(50), thinks: ms(30), ..Manners::default() }
}

/// Returns a call to a number that runs a flow.
fn call(number: &str, flow: &str) -> Handover {
    static JOBS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let entropy = u128::from(JOBS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) << 64;
    let id = JobId::new(UnixMicros::from_secs(1), entropy);
    let recipient = Recipient { phone: Some(number.parse().unwrap()), ..Recipient::default() };
    let plan = Arc::new(Plan { document: flow.into(), ring_max: Duration::from_secs(10), ..Plan::default() });
    let content = Content::Call { flow: "".into(), plan };
    let shared = Shared {
        tenant: "default".parse().unwrap(),
        kind: Kind::Call,
        pool: "voice".parse().unwrap(),
        content: content.clone(),
        expires_at: UnixMicros::MAX,
        ..samples::shared(Class::Notification, UnixMicros(0))
    };
    let job = samples::job(id, recipient.clone());
    let carried = Carried { shared: Arc::new(shared), job, line: Arc::new(AnyLine), withdrawal: Withdrawal::default() };
    Handover {
        job: id,
        attempt: 1,
        kind: Kind::Call,
        class: Class::Notification,
        recipient: Arc::new(recipient),
        sender: "+15005550006".into(),
        content,
        params: vec![("name".into(), "Li & <Söhne>".into())],
        template: None,
        validity: Duration::from_secs(3_600),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: Some(Arc::new(carried)),
    }
}

/// A flow that does everything that there is.
const EVERYTHING: &str = r##"{"start": "hello", "locale": "zh-CN", "nodes": {
    "hello": {"say": {"text": "您好 {name}", "repeats": 2}, "next": "jingle"},
    "jingle": {"play": {"media": "spring/jingle 1.mp3"}, "next": "menu"},
    "menu": {"gather": {"digits_max": 1, "wait": "1s", "menu": {"1": "speak"}, "otherwise": "speak"}},
    "speak": {"record": {"length_max": "20s"}, "next": "link"},
    "link": {"submit": {"kind": "sms", "template": "link"}, "next": "desk"},
    "desk": {"transfer": "+861050", "next": "stop"},
    "stop": {"opt_out": "everything", "next": "code"},
    "code": {"gather": {"digits_max": 4, "wait": "1s", "menu": {"#": "bye"}, "otherwise": "bye"}},
    "bye": {"tag": "heard", "next": "end"},
    "end": {"say": {"text": "再见"}}
}}"##;

const SHORT: &str = r#"{"start": "a", "nodes": {"a": {"say": {"text": "hello"}}}}"#;
const ALL: &str =
    "transfer = true\nmedia_url = \"http://127.0.0.1:1/media\"\nvoice = \"Polly.Zhiyu\"\ntranscribe = true\n";

#[tokio::test]
async fn a_flow_that_does_everything_is_run_by_documents() {
    let mut rig = Rig::start(Manners { repeated: 1.0, ..manners() }, quick(), ALL).await;
    let answers = rig.submit(vec![call("+8613800000001", EVERYTHING)]).await;
    let [Answer::Taken { message_ids, segments: 1, receipt_expected: true }] = &answers[..] else {
        panic!("not taken: {answers:?}")
    };
    let (report, others) = rig.ended().await;
    assert_eq!((report.result, &*report.digits, &*report.tags), (CallResult::Completed, "11", &["heard".into()][..]));
    assert_eq!(&*report.intent, "speak");
    assert!(report.recording.starts_with("https://api.twilio.com/"), "{}", report.recording);
    assert_eq!(*report.transcript, format!("{}/Transcriptions.json", report.recording));
    let [News::FollowUp(followed), News::OptOut(opted_out)] = &others[..] else { panic!("{others:?}") };
    assert_eq!((&*followed.follow_up.from, opted_out.everything), ("link", true));
    let calls = rig.account.calls();
    assert_eq!((&*calls[0].id, &*calls[0].status), (&*message_ids[0], "completed"));
    let hello = "say 您好 Li & <Söhne>";
    let jingle = "play http://127.0.0.1:1/media/spring/jingle%201.mp3";
    let expected = [hello, hello, jingle, "gather", "record", "dial +861050", "gather", "say 再见", "hangup"];
    assert_eq!(calls[0].heard, expected);
    rig.finish().await;
}

#[tokio::test]
async fn throttles_and_refusals_of_calls_are_told_apart() {
    let behaviour = Behaviour { throttled: 0.3, refused: 0.2, ..quick() };
    let mut rig = Rig::start(manners(), behaviour, "").await;
    let calls = (0..60).map(|number| call(&format!("+86138{number:07}3"), SHORT)).collect();
    let answers = rig.submit(calls).await;
    let (said, messages) = (words(&answers), rig.simulator.messages());
    assert_eq!(messages.len(), 60, "nothing is asked twice");
    for word in ["taken", "throttled", "refused"] {
        assert!(said.contains(&word), "{word}: {said:?}");
    }
    for _ in said.iter().filter(|word| **word == "taken") {
        assert_eq!(rig.ended().await.0.result, CallResult::Busy);
    }
    // A bad number is Twilio's to refuse; what nobody could make of a flow is refused before.
    let refused = |code: &str| Answer::Refused { code: code.into() };
    let play = r#"{"start": "a", "nodes": {"a": {"play": {"media": "x.mp3"}}}}"#;
    let transfer = r#"{"start": "a", "nodes": {"a": {"transfer": "+8610"}}}"#;
    let bad = vec![call("+8613800000008", play), call("+8613800000008", transfer), call("+8613800000008", "{}")];
    let answers = rig.submit(bad).await;
    assert_eq!(answers, [refused("play_unsupported"), refused("transfer_unsupported"), refused("bad_flow")]);
    rig.finish().await;
}

#[tokio::test]
async fn an_attempt_that_is_driven_is_not_made_again() {
    let mut rig = Rig::start(manners(), quick(), "").await;
    let once = call("+8613800000008", SHORT);
    assert_eq!(words(&rig.submit(vec![once.clone()]).await), ["taken"]);
    assert_eq!(words(&rig.submit(vec![once.clone()]).await), ["no_answer"]);
    rig.ended().await;
    assert_eq!(words(&rig.submit(vec![once]).await), ["no_answer"], "nor after its end");
    assert_eq!(rig.simulator.messages().len(), 1);
    // What was throttled was not made, and may be tried again under the same number.
    rig.simulator.behave(Behaviour { throttled: 1.0, ..quick() });
    let other = call("+8613800000008", SHORT);
    assert_eq!(words(&rig.submit(vec![other.clone()]).await), ["throttled"]);
    rig.simulator.behave(quick());
    assert_eq!(words(&rig.submit(vec![other]).await), ["taken"]);
    rig.ended().await;
    rig.finish().await;
}

/// A call that expires while it waits for a connection is not made then, and nobody is to blame.
#[tokio::test]
async fn a_call_that_has_expired_is_not_made() {
    let slow = Behaviour { latency: Duration::from_millis(100), ..quick() };
    let mut rig = Rig::start(
        manners(),
        slow,
        "connections = 1
",
    )
    .await;
    let (first, mut second) = (call("+8613800000008", SHORT), call("+8613800000018", SHORT));
    let answers = {
        let (sender, mut answers) = mpsc::unbounded_channel();
        rig.twilio.submit(vec![first], sender);
        while rig.simulator.messages().is_empty() {
            rig.clock.pause(Duration::from_millis(5)).await;
        }
        second.expires_at = rig.clock.now().plus(Duration::from_millis(1));
        let late = rig.submit(vec![second.clone()]).await;
        [rig.clock.timeout(PATIENCE, answers.recv()).await.unwrap().unwrap().1, late[0].clone()]
    };
    assert!(matches!(&answers[0], Answer::Taken { .. }), "{answers:?}");
    let late = Answer::NotSent { code: "expires_at".into(), retry_after: Some(Duration::ZERO) };
    assert_eq!(answers[1], late);
    rig.ended().await;
    assert_eq!(rig.simulator.messages().len(), 1);
    rig.finish().await;
}

/// Whoever hangs up after their message has left it, whether that or the end of the call is told first.
#[tokio::test]
async fn a_recording_that_ends_with_the_call_is_kept_and_what_follows_it_follows() {
    let mut rig = Rig::start(manners(), quick(), "").await;
    let flow = r#"{"start": "a", "nodes": {
        "a": {"record": {"length_max": "20s"}, "next": "b"},
        "b": {"submit": {"kind": "sms", "template": "thanks"}, "next": "c"},
        "c": {"tag": "spoke"}
    }}"#;
    for _ in 0..12 {
        assert_eq!(words(&rig.submit(vec![call("+8613800000009", flow)]).await), ["taken"]);
        let (report, others) = rig.ended().await;
        assert_eq!((report.result, &*report.tags), (CallResult::Completed, &["spoke".into()][..]));
        assert!(report.recording.contains("/Recordings/RE"), "{}", report.recording);
        assert_eq!(&*report.transcript, "", "nobody asked for one");
        assert!(matches!(&others[..], [News::FollowUp(_)]), "{others:?}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn who_forges_a_callback_is_turned_away() {
    let mut rig = Rig::start(manners(), quick(), "").await;
    rig.submit(vec![call("+8613800000008", SHORT)]).await;
    rig.ended().await;
    let seen = rig.seen();
    for said in &seen {
        assert_eq!(rig.forge(said, &said.form, "").await, StatusCode::FORBIDDEN);
        assert_eq!(rig.forge(said, &format!("{}&Digits=1", said.form), &said.signature).await, StatusCode::FORBIDDEN);
        let other = Exchanged { target: said.target.replace("attempt=1", "attempt=2"), ..said.clone() };
        assert_eq!(rig.forge(&other, &said.form, &said.signature).await, StatusCode::FORBIDDEN);
        // What Twilio itself said is taken again, and changes nothing.
        assert_eq!(rig.forge(said, &said.form, &said.signature).await, StatusCode::OK);
    }
    while let Ok(Inbound { news, .. }) = rig.inbox.try_recv() {
        let moved = matches!(&news, News::Call(news) if matches!(news.step, Step::Moved(_)));
        assert!(moved, "what comes late is no news: {news:?}");
    }
    // Signed, and about nothing of ours.
    let form = "CallSid=CA1&CallStatus=completed";
    for (query, expected) in [("", StatusCode::BAD_REQUEST), ("?job=x&attempt=1", StatusCode::BAD_REQUEST)] {
        let target = format!("/callback/{CLOUD}{query}");
        let signature = signature::sign(TOKEN, &format!("{}{target}", rig.url), form.as_bytes());
        let said = Exchanged { target, ..seen[0].clone() };
        assert_eq!(rig.forge(&said, form, &signature).await, expected, "{query}");
    }
    rig.finish().await;
}

/// Twilio's own library calls through the simulator, takes its callbacks, and writes our documents.
#[tokio::test]
async fn twilios_library_agrees_about_calls() {
    let mut rig = Rig::start(manners(), quick(), &format!("{ALL}detect = true\n")).await;
    for number in ["+8613800000001", "+8613800000007", "+8613800000003"] {
        rig.submit(vec![call(number, EVERYTHING)]).await;
        rig.ended().await;
    }
    let seen = rig.seen();
    let callback = |said: &Exchanged| {
        let url = format!("{}{}", rig.url, said.target);
        serde_json::json!({ "url": url, "form": said.form, "signature": said.signature })
    };
    let documents: Vec<_> = seen.iter().map(|said| &said.answer).filter(|said| said.contains("<Response>")).collect();
    let mut verbs = BTreeMap::new();
    for verb in ["Say", "Play", "Gather", "Record", "Dial", "Redirect", "Hangup"] {
        let open = format!("<{verb}");
        verbs.insert(verb, documents.iter().filter(|document| document.contains(&open)).count());
    }
    assert!(verbs.values().all(|&count| count > 0), "every verb is judged: {verbs:?}");
    assert!(seen.iter().all(|said| said.status == StatusCode::OK));
    let api = format!("http://{}", rig.simulator.address());
    // A form that no call of ours is about, so that the library's call says nothing to us.
    let asked = serde_json::json!({
        "account": ACCOUNT, "token": TOKEN, "api": api, "url": format!("{}/nobody", rig.url),
        "callbacks": seen.iter().map(callback).collect::<Vec<_>>(), "documents": documents,
    });
    let said = ask_python("twilio_voice", &asked).await;
    let all = |what: &str, expected: bool, count: usize| {
        let found = said[what].as_array().unwrap();
        assert!(found.len() == count && found.iter().all(|found| *found == expected), "{what}: {said}");
    };
    all("taken", true, seen.len());
    all("tampered", false, seen.len());
    all("documents", true, documents.len());
    assert_eq!(said["made"], serde_json::json!(["queued", "+8613800000000", true]));
    assert_eq!((&said["listed"], &said["wrong"]["number"]), (&true.into(), &serde_json::json!([400, 21_211])));
    assert_eq!(said["wrong"]["token"], serde_json::json!([401, 20_003]));
    assert_eq!(said["wrong"]["unknown"], serde_json::json!([404, 20_404]));
    let canceled = || rig.account.calls().iter().any(|call| call.to.ends_with('0') && call.status == "canceled");
    while !canceled() {
        rig.clock.pause(Duration::from_millis(5)).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_account_is_let_in_or_not_and_nobody_is_called() {
    let rig = Rig::start(manners(), quick(), "").await;
    let said = async |token: &str| {
        let settings = provider(&format!(
            "[receive]\npublic_url = \"https://x.example.com\"\n[[provider]]\nid = \"{CLOUD}\"\nkind = \"twilio-voice\"\n\
             endpoint = \"http://{}\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{token}\"\ncallers = [\"+15005550006\"]\n",
            rig.simulator.address()
        ));
        let Link::TwilioVoice(link) = &settings.providers[0].link else { panic!("twilio") };
        let client = Client::new(&link.account.api.endpoint, None, 2.try_into().unwrap(), &rig.tasks, &rig.clock);
        twilio::log_in(link, &client.unwrap(), PATIENCE, &rig.clock).await
    };
    assert_eq!(said(TOKEN).await, Login::Good);
    assert_eq!(said("another").await, Login::Refused("20003".into()));
    assert!(rig.simulator.messages().is_empty());
    rig.finish().await;
}

/// What Twilio is told when it asks of a call that nobody drives, as after a restart.
#[tokio::test]
async fn a_call_that_nobody_drives_is_hung_up_on_and_its_end_is_news() {
    let mut rig = Rig::start(manners(), quick(), "").await;
    let job = JobId::new(UnixMicros::from_secs(2), 5 << 64);
    let said = |query: &str, form: &str| {
        let target = format!("/callback/{CLOUD}?job={job}&attempt=3{query}");
        let signature = signature::sign(TOKEN, &format!("{}{target}", rig.url), form.as_bytes());
        (
            Exchanged {
                target,
                signature: String::new(),
                form: String::new(),
                status: StatusCode::OK,
                answer: String::new(),
            },
            signature,
        )
    };
    let form = "CallSid=CA1&CallStatus=in-progress";
    let (asks, signature) = said("&step=2", form);
    assert_eq!(rig.forge(&asks, form, &signature).await, StatusCode::OK);
    assert!(rig.seen().last().unwrap().answer.contains("<Response><Hangup/></Response>"));
    let form = "CallSid=CA1&CallStatus=completed&CallDuration=9";
    let (ends, signature) = said("", form);
    let (status, (report, _)) = tokio::join!(
        async {
            let client = Client::new(&rig.url.parse().unwrap(), None, 4.try_into().unwrap(), &rig.tasks, &rig.clock);
            let request = Request::post(&*ends.target).header(signature::HEADER, &*signature);
            client.unwrap().send(request.body(Bytes::from(form)).unwrap(), PATIENCE).await.unwrap().status()
        },
        async {
            let inbound = rig.inbox.recv().await.unwrap();
            let News::Call(news) = inbound.news else { panic!("not of a call") };
            assert_eq!((news.job, news.attempt), (job, 3));
            let Step::Ended(report, None) = news.step else { panic!("{:?}", news.step) };
            inbound.done.send(()).unwrap();
            (report, ())
        }
    );
    assert_eq!((status, report.result, report.talk), (StatusCode::OK, CallResult::Completed, Duration::from_secs(9)));
    rig.finish().await;
}
