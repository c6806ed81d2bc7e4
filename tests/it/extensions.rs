//! Numbers that are a signature's own: its jobs leave from them, and STOP to one binds the signature, though nobody was
//! written to before.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, RehearseRequest, RuleVerdict};

use crate::support::api::{self, Client, numbers};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

const EXTENSIONS: &str = r#"
[[extension]]
provider = "carrier-a"
number = "1069001"
tenant = "default"
signature = "Acme"

[[extension]]
provider = "carrier-a"
number = "1069002"
tenant = "default"
"#;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_number_leads_to_its_signature_embedded() {
    a_number_leads_to_its_signature(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_leads_to_its_signature_on_servers() {
    a_number_leads_to_its_signature(&Backends::servers()).await;
}

async fn a_number_leads_to_its_signature(backends: &Backends) {
    let sink = Sink::start(&[]);
    let service = Service::start(backends, &(smpp_provider(sink.port(), "binds = 1\nwindow = 10\n") + EXTENSIONS));
    let client = api::jobs(&service);
    let written_to = numbers(0, 2);
    for (number, text) in written_to.iter().zip(["【Acme】news", "【Other】news"]) {
        api::insist(&client, &api::batch("", api::text(Class::Marketing, text), std::slice::from_ref(number))).await;
    }
    until("both are sent", async || sink.reached(&written_to) == 2).await;
    let mut from: Vec<_> = sink.taken().into_iter().map(|submit| (submit.text, submit.from)).collect();
    from.sort();
    let expected = [("【Acme】news", "1069001"), ("【Other】news", "1069002")];
    assert_eq!(from, expected.map(|(text, from)| (text.to_owned(), from.to_owned())));

    // Nobody wrote to them, and one of the tenant's own words is known for no number.
    let (one, all) = ("+8613900000001", "+8613900000002");
    sink.say("mo 8613900000001 1069001 TD");
    sink.say("mo 8613900000002 1069002 STOP");
    let suppressed = |rule: &str| (RuleVerdict::Suppress, rule.to_owned());
    let pass = || (RuleVerdict::Pass, String::new());
    until("both opt-outs bind", async || {
        says(&client, one, "【Acme】more").await == suppressed("opt_out_signature")
            && says(&client, all, "【Acme】more").await == suppressed("opt_out")
    })
    .await;
    assert_eq!(says(&client, one, "【Other】more").await, pass());
    assert_eq!(says(&client, one, "more").await, pass());
    assert_eq!(says(&client, all, "【Other】more").await, suppressed("opt_out"));
    // START to the number takes back what came to it, and only that.
    sink.say("mo 8613900000002 1069001 START");
    sink.say("mo 8613900000001 1069001 START");
    until("the opt-out is taken back", async || says(&client, one, "【Acme】more").await == pass()).await;
    assert_eq!(says(&client, all, "【Acme】more").await, suppressed("opt_out"));
}

/// Returns what a rehearsal says of a marketing text to a number, and by which rule.
async fn says(client: &Client, number: &str, text: &str) -> (RuleVerdict, String) {
    let items = vec![pb::BatchItem { recipient: Some(api::phone(number)), ..pb::BatchItem::default() }];
    let request = RehearseRequest { spec: Some(api::text(Class::Marketing, text)), items };
    let item = client.clone().rehearse(request).await.unwrap().into_inner().items.remove(0);
    (item.verdict(), item.rule)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    while !holds().await {
        assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}");
        clock.pause(Duration::from_millis(100)).await;
    }
}
