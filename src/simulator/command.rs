//! `postrider simulate`: a simulated cloud as a process of its own, to rehearse an integration with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Behaviour, Fared, Receipts, Replies, Simulator, Vendor, aliyun, plain, tencent, twilio};
use crate::config::Endpoint;
use crate::domain::time::Clock;
use crate::shutdown::{Signals, Tasks};

/// How long requests in flight have at the end.
const GRACE: Duration = Duration::from_secs(5);

/// What `postrider simulate` takes.
#[derive(Args, Debug)]
#[command(after_help = "Example, with `endpoint = \"http://127.0.0.1:8090\"` in the provider's settings:
  postrider simulate twilio --port 8090 --account AC0123 --secret token --throttled 0.01")]
pub struct Options {
    /// Which cloud
    kind: Kind,
    /// Port to listen on, on loopback; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The account: `account_sid`, `access_key_id` or `secret_id` of the provider's settings
    #[arg(long, default_value = "simulated")]
    account: String,
    /// Its secret: `auth_token`, `access_key_secret`, `secret_key` or `secret`
    #[arg(long, default_value = "simulated")]
    secret: String,
    /// The application, where the cloud has one: `app_id`
    #[arg(long, default_value = "1400000000")]
    app: String,
    /// Where receipts and replies go, as a whole URL, its secret included; twilio takes the URL for receipts from each
    /// request
    #[arg(long, value_parser = callback_url)]
    callback: Option<String>,
    #[command(flatten)]
    manners: Manners,
}

/// How it behaves. Shares are between 0 and 1.
#[derive(Args, Clone, Copy, Debug)]
struct Manners {
    /// Time to an answer, on average
    #[arg(long, default_value = "20ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Share of messages that are throttled
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    throttled: f64,
    /// Share of messages that are refused for good
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    refused: f64,
    /// Share of messages that are answered with an error of the cloud's own
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    failed: f64,
    /// Share of messages that are taken and never answered
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    unanswered: f64,
    /// Time from an answer to the receipt, on average
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    receipt_after: Duration,
    /// Share of receipts that say `undelivered`
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    undelivered: f64,
    /// Share of receipts that come ten times later
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    late: f64,
    /// Share of receipts that come twice
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    doubled: f64,
    /// Share of receipts that come before the answer
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    early: f64,
    /// Share of receipts that never come
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    missing: f64,
    /// Share of recipients that answer with STOP
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    stop_replies: f64,
    /// Makes another run of chance
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// Twilio Messages
    Twilio,
    /// Aliyun SMS
    AliyunSms,
    /// Tencent Cloud SMS
    TencentSms,
    /// The cloud of the README's provider that settings describe
    Http,
}

/// Runs a simulated cloud until it is told to stop, and says what it saw.
///
/// # Errors
/// When the port cannot be listened on.
pub async fn run(options: Options) -> std::io::Result<()> {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let mut signals = Signals::listen();
    let (behaviour, seed) = (options.manners.behaviour(), options.manners.seed);
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), options.port);
    let simulator = Simulator::start(options.vendor(), listen, (behaviour, seed), &tasks, &clock).await?;
    println!("listening on http://{}", simulator.address());
    signals.next().await;
    tasks.finish(&clock, GRACE).await;
    let messages = simulator.messages();
    let count = |fits: fn(&Fared) -> bool| messages.iter().filter(|(_, fared)| fits(fared)).count();
    println!(
        "{} messages: {} taken, {} throttled, {} refused, {} failed; {} requests not answered, {} callbacks taken",
        messages.len(),
        count(|fared| matches!(fared, Fared::Taken(_))),
        count(|fared| *fared == Fared::Throttled),
        count(|fared| *fared == Fared::Refused),
        count(|fared| *fared == Fared::Failed),
        simulator.lost(),
        simulator.callbacks().0,
    );
    Ok(())
}

// === impl Options ===

impl Options {
    fn vendor(self) -> Box<dyn Vendor> {
        let Self { kind, account, secret, app, callback, .. } = self;
        match kind {
            Kind::Twilio => Box::new(twilio::Twilio { account_sid: account, auth_token: secret, inbound: callback }),
            Kind::AliyunSms => Box::new(aliyun::Aliyun {
                access_key_id: account,
                access_key_secret: secret,
                callback,
                nonces: aliyun::Nonces::default(),
            }),
            Kind::TencentSms => {
                Box::new(tencent::Tencent { secret_id: account, secret_key: secret, app_id: app, callback })
            }
            Kind::Http => Box::new(plain::Plain { secret, callback }),
        }
    }
}

impl Manners {
    fn behaviour(&self) -> Behaviour {
        let Self { undelivered, late, doubled, early, missing, .. } = *self;
        let receipts = Receipts { after: self.receipt_after, undelivered, late, doubled, early, missing };
        Behaviour {
            latency: self.latency,
            throttled: self.throttled,
            refused: self.refused,
            not_sent: self.failed,
            unanswered: self.unanswered,
            receipts: Some(receipts),
            replies: Replies { stop: self.stop_replies, ..Behaviour::default().replies },
            ..Behaviour::default()
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share is between 0 and 1".to_owned())
}

/// Returns a URL whose server can be called back.
fn callback_url(text: &str) -> Result<String, String> {
    let base = text.find("://").and_then(|at| text[at + 3..].find('/').map(|slash| &text[..at + 3 + slash]));
    let base = base.ok_or_else(|| "a whole URL such as http://127.0.0.1:8025/callback/ID is expected".to_owned())?;
    base.parse::<Endpoint>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}
