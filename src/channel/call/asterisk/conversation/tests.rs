//! Calls that are recorded, over an exchange that answers as it is told to.

use std::io;
use std::sync::Mutex;

use super::super::Settings;
use super::*;
use crate::channel::call::flow::{self, Form};
use crate::channel::call::{CallNews, Line, Step, Withdrawal};
use crate::channel::http::server::{Bounds, Handler, NoBody, Server};
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer};
use crate::channel::{Inbound, News};
use crate::config;
use crate::domain::ids::JobId;
use crate::domain::job::{Class, Content, Kind, samples};
use crate::domain::recipient::Recipient;
use crate::domain::time::{Clock, UnixMicros};
use crate::shutdown::Tasks;

const TWICE: &str = r#"{"start": "a", "nodes": {"a": {"record": {}, "next": "b"}, "b": {"record": {}}}}"#;

/// An exchange that does everything, but answers so when it is asked to record; once it has no more of these, not at all.
struct Exchange(Mutex<Vec<u16>>);

impl Handler for Exchange {
    async fn handle(&self, head: Parts, _: Result<Bytes, NoBody>) -> Option<Response<Bytes>> {
        let status = if head.uri.path().ends_with("/record") { self.0.lock().unwrap().pop()? } else { 204 };
        Some(answer(StatusCode::from_u16(status).unwrap(), "application/json", ""))
    }
}

struct AnyLine;

impl Line for AnyLine {
    fn answered(&self) {}

    fn rings(&self) -> bool {
        false
    }

    fn ended(&self, _: Option<CallResult>) {}
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn shared(exchange: Exchange, inbox: mpsc::Sender<Inbound>) -> Arc<Shared> {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let text = format!(
        "[[provider]]\nid = \"trunk\"\nkind = \"asterisk\"\nendpoint = \"http://{}\"\nuser = \"dialer\"\n\
         password = \"sesame\"\ntrunk = \"PJSIP/{{number}}\"\n",
        server.address()
    );
    server.spawn(Arc::new(exchange), Bounds { body_len: 4_096, connections: 1 }, &tasks, &clock);
    let loaded = config::parse(Some((Path::new("test"), &text)), &[]).unwrap();
    let config::Link::Asterisk(link) = &loaded.settings.providers[0].link else { panic!("asterisk") };
    let (provider, response_timeout) = ("trunk".parse().unwrap(), Duration::from_secs(10));
    let settings = Settings { provider, link: (**link).clone(), speech_dir: "none".into(), response_timeout };
    Arc::new(Shared::new(settings, inbox, &tasks, &clock).unwrap())
}

fn handover() -> Handover {
    Handover {
        job: JobId(uuid::Uuid::nil()),
        attempt: 1,
        kind: Kind::Call,
        class: Class::Notification,
        recipient: Arc::new(Recipient::default()),
        sender: "".into(),
        content: Content::Text("".into()),
        params: vec![],
        template: None,
        validity: Duration::MAX,
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

/// Has a call recorded twice over an exchange that answers so, the last first, while this happens to it; returns the number
/// of the recording in its report, and whether somebody is asked to look for a fault.
async fn went(answers: &[u16], signals: &[Signal]) -> (Option<String>, bool) {
    let log = Log::default();
    let writer = log.clone();
    let to_log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(to_log);
    let ((inbox, mut inbound), (to_call, happens)) = (mpsc::channel(9), mpsc::channel(9));
    let shared = shared(Exchange(Mutex::new(answers.to_vec())), inbox).await;
    let (handover, line) = (handover(), Arc::new(AnyLine));
    let job = samples::job(handover.job, Recipient::default());
    let common = Arc::new(samples::shared(handover.class, UnixMicros(0)));
    let carried = Arc::new(Carried { shared: common, job, line, withdrawal: Withdrawal::default() });
    let flow = Arc::new(flow::parse(TWICE, Form::Json).unwrap());
    for signal in signals {
        to_call.try_send(signal.clone()).unwrap();
    }
    let call = Conversation::new(shared, &handover, carried, flow, happens);
    let told = async {
        loop {
            let Inbound { news, done } = inbound.recv().await.unwrap();
            done.send(()).unwrap();
            if let News::Call(CallNews { step: Step::Ended(report, _), .. }) = news {
                return report.recording;
            }
        }
    };
    let ((), recording) = tokio::join!(call.run(Duration::from_secs(10)), told);
    let warned = String::from_utf8(log.0.lock().unwrap().clone()).unwrap().contains("does not record what is said");
    (recording.rsplit_once('-').map(|(_, number)| number.to_owned()), warned)
}

#[tokio::test]
async fn a_report_names_what_is_kept_before_what_may_be() {
    use Signal::{Destroyed, Recorded, Started};
    let (first, second) = (Some("0".to_owned()), Some("1".to_owned()));
    let (good, over) = ([200, 200], Destroyed(16));
    assert_eq!(went(&good, &[Started(None), over.clone()]).await, (first.clone(), false), "nobody knows");
    let kept = [Started(None), Recorded(true)];
    assert_eq!(went(&good, &[Started(None), Recorded(true), over.clone()]).await, (first.clone(), false));
    assert_eq!(went(&good, &[&kept[..], &[Recorded(false), over.clone()]].concat()).await, (first, true));
    assert_eq!(went(&good, &[&kept[..], &[Recorded(true), over]].concat()).await, (second, false));
}

#[tokio::test]
async fn who_hangs_up_and_an_exchange_that_is_away_are_no_reason_to_look_for_a_fault() {
    use Signal::{Destroyed, HangsUp, Recorded, Started};
    let over = Destroyed(16);
    assert_eq!(went(&[200], &[Started(None), Recorded(false), over.clone()]).await, (None, true));
    assert_eq!(went(&[200], &[Started(None), HangsUp, Recorded(false), over.clone()]).await, (None, false));
    for (answers, faulty) in [(vec![500], true), (vec![404], false), (vec![409], false), (vec![], false)] {
        assert_eq!(went(&answers, &[Started(None), over.clone()]).await, (None, faulty), "{answers:?}");
    }
}
