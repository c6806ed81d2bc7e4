//! Calls of a robot over Aliyun voice, simulated: their results, and where they were recorded.

use postrider::shutdown::Tasks;
use postrider::simulator::{Simulator, aliyun, aliyun_voice};

use super::*;
use crate::support::cloud::quick;
use crate::support::janitor::free_port;

const TOKEN: &str = "a-secret-in-the-path";

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_robots_call_says_where_it_was_recorded() {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let vendor = Box::new(aliyun_voice::AliyunVoice(aliyun::Aliyun {
        access_key_id: "LTAI5t".into(),
        access_key_secret: "geheim".into(),
        callback: Some(format!("http://127.0.0.1:{port}/callback/robot/{TOKEN}")),
        nonces: aliyun::Nonces::default(),
    }));
    let simulator = Simulator::start(vendor, ([127, 0, 0, 1], 0).into(), (quick(), 7), &tasks, &clock).await.unwrap();
    let settings = format!(
        "[receive]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n[[provider]]\n\
         id = \"robot\"\nkind = \"aliyun-voice\"\nendpoint = \"http://{}\"\naccess_key_id = \"LTAI5t\"\n\
         access_key_secret = \"geheim\"\ncallback_token = \"{TOKEN}\"\ntemplate = \"TTS_2\"\nsmart = true\n\
         record = true\n",
        simulator.address()
    );
    let service = Service::start(&Backends::Embedded, &settings);
    api::put_template(&service, api::template("order", "{name}: your order is on its way")).await;
    let client = api::jobs(&service);
    let source = Some(call_content::Source::Flow("order".into()));
    let content = CallContent { source, ..CallContent::default() };
    let spec = JobSpec {
        content: Some(job_spec::Content::Call(content)),
        class: Class::Notification.into(),
        ..JobSpec::default()
    };
    let called = number(0, LISTENS);
    let ids = submit_calls(&client, "robot", spec, std::slice::from_ref(&called)).await;
    let recorded = |job: &Job| job.call.as_ref().is_some_and(|call| !call.recording_ref.is_empty());
    let job = until(&client, &ids[&called], "recorded", |job| recorded(job) && state(job) == State::Settled).await;
    let report = job.call.clone().unwrap();
    assert_eq!(job.outcome.as_ref().unwrap().fate, i32::from(Fate::Completed));
    assert_eq!((report.result, &*report.digits, &*report.hung_up_by), (CallResult::Completed.into(), "1", "us"));
    assert_eq!(report.talk.unwrap().seconds, 9);
    let call = simulator.messages()[0].0.id.clone();
    assert_eq!(report.recording_ref, format!("http://record.oss.example/{call}.mp3?Expires=1"));
    let told = changes(&job).into_iter().filter(|(.., change)| change.reason == "recorded").count();
    assert_eq!(told, 1, "{:?}", job.events);
    assert!(!service.log().contains("record.oss.example"), "where it is stays out of the log");
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
