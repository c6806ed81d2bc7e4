//! Chains through kills: wherever the process dies, each step starts, and goes out once.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Receipts, Simulator, plain::Plain};

use super::{chain, ended, sms, step_id, submit};
use crate::support::api;
use crate::support::service::{Backends, Service};

const CHAINS: usize = 12;

/// Starts a service whose messenger refuses everything and whose carrier is a cloud outside of it.
async fn through(kills: &[Option<&str>]) {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let receipts = Receipts { missing: 1.0, ..Receipts::default() };
    let behaviour = Behaviour { latency: Duration::from_millis(30), receipts: Some(receipts), ..Behaviour::default() };
    let vendor = Plain { secret: "geheim".into(), callback: None };
    let cloud =
        Simulator::start(Box::new(vendor), ([127, 0, 0, 1], 0).into(), (behaviour, 5), &tasks, &clock).await.unwrap();
    let settings = format!(
        "[record]\nreceipt_deadline = \"4s\"\n[[provider]]\nid = \"messenger\"\npool = \"messenger\"\nkind = \"simulated\"\n\
         kinds = [\"template\"]\nlatency = \"10ms\"\nrefused = 1.0\n[[provider]]\nid = \"cloud\"\npool = \"cloud\"\n\
         kind = \"http\"\nendpoint = \"http://{}\"\npath = \"/v1/messages\"\n\
         headers = {{ authorization = \"Bearer {{{{ secret }}}}\" }}\n\
         body = '{{\"to\": {{{{ to }}}}, \"from\": {{{{ sender }}}}, \"text\": {{{{ text }}}}, \"ref\": {{{{ job }}}}}}'\n\
         secret = \"geheim\"\nmessage_id = \"body.id\"\nresponse_timeout = \"2s\"\n",
        cloud.address()
    );
    let service = Service::start(&Backends::Embedded, &settings);
    api::put_template(&service, api::template("hello", "hello")).await;
    let (mut firsts, mut number) = (Vec::new(), 0);
    for kill in kills {
        service.kill();
        service.restart(*kill);
        for _ in 0..CHAINS {
            // Never the same twice: what is answered with an error may have been accepted.
            number += 1;
            let number = format!("+8613{number:09}");
            let request = chain(Class::Marketing, vec![sms("hello", 600)]);
            // Where it died before, it stays dead until its turn is over.
            if service.ended() {
                break;
            }
            let submitted = super::try_submit(&service, request, super::recipient(&number)).await;
            firsts.extend(submitted.ok());
        }
        match kill {
            Some(point) => died_at(&service, point, &clock).await,
            None => clock.pause(Duration::from_millis(150)).await,
        }
    }
    service.kill();
    service.restart(None);
    firsts.push(submit(&service, chain(Class::Marketing, vec![sms("hello", 600)]), "+8614800000001").await);
    let mut unknown = 0;
    for first in &firsts {
        let (_, fate) = ended(&service, first).await;
        // What was claimed when the process died may have been handed over: nobody knows, and the next step starts when its
        // time is over, or the receipt's.
        assert!(matches!(fate, Fate::Rejected | Fate::Unknown), "{first}: {fate:?}");
        let (step, fate) = ended(&service, &step_id(first, 1)).await;
        assert!(matches!(fate, Fate::Sent | Fate::Unknown), "{first}: {fate:?}");
        assert_eq!(step.fallback_of, *first);
        unknown += usize::from(fate == Fate::Unknown);
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for (message, _) in cloud.messages() {
        *times.entry(message.to).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "a step went out more than once: {times:?}");
    assert!(
        times.len() + unknown >= firsts.len(),
        "{} of {} steps went out, {unknown} unknown",
        times.len(),
        firsts.len()
    );
    println!("{} chains through {} kills: {} steps out, {unknown} unknown", firsts.len(), kills.len() + 1, times.len());
    tasks.finish(&clock, Duration::from_secs(5)).await;
}

/// Waits until the process has died where it was told to.
async fn died_at(service: &Service, point: &str, clock: &Clock) {
    let watch = clock.stopwatch();
    while !service.ended() {
        assert!(watch.elapsed() < Duration::from_secs(30), "{point} was not reached:\n{}", service.log());
        clock.pause(Duration::from_millis(20)).await;
    }
    let (point, _) = point.split_once(':').unwrap();
    assert!(service.log().contains(&format!("crash point {point}")), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_starts_and_goes_out_once_wherever_dispatch_or_record_dies() {
    through(&[
        Some("before_record:3"),
        Some("after_record:3"),
        Some("before_record:8"),
        Some("after_record:8"),
        Some("after_claim:5"),
        Some("after_answer:5"),
        Some("after_event:5"),
        None,
        None,
    ])
    .await;
}
