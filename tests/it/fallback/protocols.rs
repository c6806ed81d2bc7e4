//! A chain through protocols as they are: a service notice of WeChat, then a text through one of two providers, then a call
//! over Twilio. One touch, and what each of them cost.

use std::time::Duration;

use postrider::channel::template::crypt::Crypt;
use postrider::config::Link;
use postrider::domain::time::Clock;
use postrider::pb::{self, AttemptVerdict, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::smpp::{Account, Smsc};
use postrider::simulator::twilio_voice::{Manners, TwilioVoice};
use postrider::simulator::{Behaviour, Receipts, Simulator, Vendor, twilio, wechat};

use super::{call, chain, ended, sms, step_id, submit};
use crate::support::api;
use crate::support::cloud::{provider, quick, script};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service, smpp_provider};

const APPID: &str = "wx0123456789";
const SID: &str = "AC00112233445566778899aabbccddeeff";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Two callees who listen to the end.
const REFUSED: &str = "+8613800000008";
const BLOCKED: &str = "+8613800000018";

/// The vendors, and what the settings say of them.
struct Vendors {
    messenger: Simulator,
    cloud: Simulator,
    carrier: Smsc,
    calls: TwilioVoice,
    settings: String,
    tasks: Tasks,
}

impl Vendors {
    /// Starts all of them. Whoever is reached by a notice or a text does not get it in the end, WeChat refuses one
    /// follower at once, and the account of the cloud for texts is closed.
    async fn start() -> Self {
        let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
        let url = format!("http://127.0.0.1:{port}");
        let receipts = quick().receipts.map(|receipts| Receipts { undelivered: 1.0, ..receipts });
        let lost = Behaviour { receipts, ..quick() };
        let account = wechat::Account {
            appid: APPID.into(),
            secret: "geheim".into(),
            token_life: Duration::from_secs(7_200),
            daily_max: 1_000,
            consents: false,
            callback: Some((format!("{url}/callback/messenger"), crypt())),
        };
        let serve = async |vendor: Box<dyn Vendor>, behaviour| {
            Simulator::start(vendor, ([127, 0, 0, 1], 0).into(), (behaviour, 7), &tasks, &clock).await.unwrap()
        };
        let messenger = serve(Box::new(wechat::Wechat::new(account, &clock)), lost).await;
        messenger.follow(script(&[(format!("o{REFUSED}"), "43004")]));
        let texts = twilio::Twilio { account_sid: SID.into(), auth_token: TOKEN.into(), inbound: None };
        let cloud = serve(Box::new(texts), quick()).await;
        cloud.follow(script(&[(REFUSED.into(), "20003"), (BLOCKED.into(), "20003")]));
        let short = Duration::from_millis(100);
        let manners = Manners { ring: short, heard: short, thinks: short, ..Manners::default() };
        let calls = TwilioVoice::new((SID.into(), TOKEN.into()), manners, &tasks, &clock);
        let trunk = serve(Box::new(calls.clone()), quick()).await;
        let carrier =
            Smsc::start(Account::default(), ([127, 0, 0, 1], 0).into(), (lost, 7), &tasks, &clock).await.unwrap();
        let account = format!("account_sid = \"{SID}\"\nauth_token = \"{TOKEN}\"\n");
        let settings = format!(
            "[receive]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"{url}\"\n{}price = \"0.02 CNY\"\n\
             endpoint = \"http://{}\"\n\
             [[provider]]\nid = \"cloud\"\nkind = \"twilio\"\npool = \"texts\"\nendpoint = \"http://{}\"\n{account}\
             sender = \"+15005550006\"\nprice = \"0.05 CNY\"\n{}\
             [[provider]]\nid = \"trunk\"\nkind = \"twilio-voice\"\npool = \"calls\"\nendpoint = \"http://{}\"\n{account}\
             callers = [\"+15005550006\"]\nprice = \"0.10 CNY\"\n\
             [[cap]]\nname = \"touch\"\nlimit = 1\nwindow = \"24h\"\non_limit = \"drop\"\n",
            MESSENGER,
            messenger.address(),
            cloud.address(),
            smpp_provider(carrier.address().port(), "pool = \"texts\"\norder = 1\nprice = \"0.045 CNY\""),
            trunk.address(),
        );
        Self { messenger, cloud, carrier, calls, settings, tasks }
    }
}

const MESSENGER: &str = "[[provider]]\nid = \"messenger\"\nkind = \"wechat\"\npool = \"messenger\"\n\
                         appid = \"wx0123456789\"\nsecret = \"geheim\"\ncallback_token = \"token\"\n\
                         aes_key = \"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG\"\n";

/// What the account's callbacks are encrypted with.
fn crypt() -> Crypt {
    let settings = provider(MESSENGER);
    let Link::Wechat(link) = &settings.providers[0].link else { panic!("wechat") };
    Crypt::new(link.callbacks.clone().unwrap(), APPID)
}

fn micros(cost: Option<&pb::Money>) -> Option<i64> {
    cost.map(|cost| cost.micros)
}

/// Follows a chain to its end; returns what became of its first job.
async fn follow(service: &Service, number: &str) -> pb::Job {
    // Two segments.
    let steps = vec![sms(&"x".repeat(200), 600), call(600)];
    let first = submit(service, chain(Class::Notification, steps), number).await;
    let (notice, fate) = ended(service, &first).await;
    assert!([Fate::Rejected, Fate::Undelivered].contains(&fate), "{notice:?}");
    let (text, fate) = ended(service, &step_id(&first, 1)).await;
    assert_eq!(fate, Fate::Undelivered);
    let taken: Vec<_> = text.attempts.iter().filter(|one| one.verdict() == AttemptVerdict::Settled).collect();
    assert!(matches!(&taken[..], [one] if one.provider_id == "carrier-a"), "{text:?}");
    assert_eq!(micros(taken[0].cost.as_ref()), Some(90_000));
    assert_eq!(micros(text.outcome.as_ref().unwrap().cost.as_ref()), Some(90_000));
    let (talk, fate) = ended(service, &step_id(&first, 2)).await;
    assert_eq!((fate, micros(talk.outcome.as_ref().unwrap().cost.as_ref())), (Fate::Completed, Some(100_000)));
    assert_eq!(talk.fallback_of, first);
    notice
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_a_text_and_a_call_by_real_protocols_are_one_touch_and_each_has_its_cost() {
    let vendors = Vendors::start().await;
    let settings = vendors.settings.clone();
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let approved = pb::ProviderTemplate {
        provider_id: "messenger".into(),
        template_id: "tpl-1".into(),
        approval: pb::ApprovalState::Approved.into(),
    };
    let template = pb::Template { providers: vec![approved], ..api::template("hello", "hello") };
    api::put_template(&service, template).await;

    let refused = follow(&service, REFUSED).await;
    let outcome = refused.outcome.as_ref().unwrap();
    assert_eq!((outcome.fate(), &*outcome.reason, micros(outcome.cost.as_ref())), (Fate::Rejected, "43004", None));
    let blocked = follow(&service, BLOCKED).await;
    let outcome = blocked.outcome.as_ref().unwrap();
    assert_eq!((outcome.fate(), micros(outcome.cost.as_ref())), (Fate::Undelivered, Some(20_000)), "{outcome:?}");

    // Each went out once by each way, the texts in two segments, and the account that is closed was asked for no more than that.
    assert_eq!((vendors.messenger.messages().len(), vendors.carrier.messages().len()), (2, 4));
    assert!(vendors.cloud.messages().len() <= 2 && !vendors.cloud.messages().is_empty());
    let heard: Vec<_> = vendors.calls.calls().into_iter().map(|call| (call.to, call.heard)).collect();
    let said = |(to, heard): &(String, Vec<String>), number: &str| to == number && heard[0] == "say hello";
    assert!(matches!(&heard[..], [one, two] if said(one, REFUSED) && said(two, BLOCKED)), "{heard:?}");

    // All three were one touch, and there is room for one.
    let more = submit(&service, api::text(Class::Notification, "more"), REFUSED).await;
    let (more, fate) = ended(&service, &more).await;
    assert_eq!((fate, &*more.outcome.unwrap().reason), (Fate::Suppressed, "touch"));

    let stats = api::jobs(&service).get_stats(pb::GetStatsRequest::default()).await.unwrap().into_inner();
    let mut sums: Vec<_> = stats.rows.iter().filter_map(|row| Some((row.kind(), micros(row.cost.as_ref())?))).collect();
    sums.sort();
    assert_eq!(sums, [(pb::Kind::Sms, 180_000), (pb::Kind::Template, 20_000), (pb::Kind::Call, 200_000)]);
    drop((service, vendors.messenger, vendors.cloud, vendors.carrier));
    vendors.tasks.finish(&Clock::system(), Duration::from_secs(5)).await;
}
