//! `postrider simulate`: a simulated cloud or SMSC as a process of its own, to rehearse an integration with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{
    Behaviour, Fared, Message, Receipts, Replies, Script, Scripted, Simulator, Vendor, aliyun, aliyun_voice, plain,
    smpp, tencent, twilio, twilio_voice, wechat, wecom,
};
use crate::channel::template::crypt::Crypt;
use crate::config::{self, AesKey, Endpoint, Secret};
use crate::domain::time::Clock;
use crate::shutdown::{Signals, Tasks};

/// The account and secret where none are given.
const ANY: &str = "simulated";
/// The key of callbacks where none is given.
const KEY: &str = "simulated00simulated00simulated00simulated0";
/// How long requests in flight have at the end.
const GRACE: Duration = Duration::from_secs(5);

/// What `postrider simulate` takes.
#[derive(Args, Debug)]
#[command(after_help = "Example, with `endpoint = \"http://127.0.0.1:8090\"` in the provider's settings:
  postrider simulate twilio --port 8090 --account AC0123 --secret token --throttled 0.01")]
pub struct Options {
    /// Which provider
    kind: Kind,
    /// Port to listen on, on loopback; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The account: `account_sid`, `access_key_id`, `secret_id`, `appid`, `corp_id` or `system_id` of the provider's settings; of `smpp`
    /// any, where none is given
    #[arg(long, default_value = ANY)]
    account: String,
    /// Its secret: `auth_token`, `access_key_secret`, `secret_key`, `secret` or `password`
    #[arg(long, default_value = ANY)]
    secret: String,
    /// The application, where the cloud has one: `app_id`
    #[arg(long, default_value = "1400000000")]
    app: String,
    /// Where receipts and replies go, as a whole URL, its secret included; twilio takes the URL for receipts from each
    /// request
    #[arg(long, value_parser = callback_url)]
    callback: Option<String>,
    #[command(flatten)]
    door: Door,
    #[command(flatten)]
    callees: Callees,
    #[command(flatten)]
    manners: Manners,
    /// Answers such a share of messages, or one recipient's, with a code of the provider's own; may be given several times:
    /// `isv.BUSINESS_LIMIT_CONTROL=0.01`, `21211@+8613800000001`, of `smpp` a status as `0x14=0.1`, of `http` `503=0.1` or
    /// `422:blocked=0.1`
    #[arg(long = "error", value_name = "CODE=SHARE|CODE@RECIPIENT")]
    errors: Vec<Scripted>,
}

/// Why a simulator does not run.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its port cannot be listened on.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// It is told to answer with what is no code of the provider's.
    #[error("--error: the provider has no code {code:?}: it is {wanted}")]
    Code {
        /// What was given.
        code: Box<str>,
        /// What codes look like.
        wanted: &'static str,
    },
}

/// Of `wechat` and `wecom`: how it lets in and calls back.
#[derive(Args, Clone, Debug)]
struct Door {
    /// Of `wechat` and `wecom`: the token that callbacks are signed with: `callback_token`
    #[arg(long, default_value = ANY)]
    token: String,
    /// Of `wechat` and `wecom`: the key that callbacks are encrypted with: `aes_key`
    #[arg(long, default_value = KEY, value_parser = aes_key)]
    aes_key: AesKey,
    /// Of `wechat` and `wecom`: how long an access token holds
    #[arg(long, default_value = "2h", value_parser = humantime::parse_duration)]
    token_life: Duration,
    /// Of `wecom`: the application: `agent_id`
    #[arg(long, default_value_t = 1_000_002)]
    agent_id: u32,
    /// Of `wecom`: share of messages to customers that employees confirm
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    confirmed: f64,
    /// Of `wecom`: after which time they do
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    confirm_after: Duration,
    /// Of `wechat`: messages a day, by China's clock
    #[arg(long, default_value_t = 100_000)]
    daily_max: u32,
    /// Of `wechat`: each subscription message needs a consent; no popup is answered, so there is none
    #[arg(long)]
    consents: bool,
}

/// Of `twilio-voice`: how callees behave. What they do is up to the last digit of their number: 0 lets it ring, 1 and 2
/// press that key, 3 is busy, 4 does not answer, 5 does not exist, 6 is out of reach, 7 is a machine, 8 listens, 9 leaves.
#[derive(Args, Clone, Copy, Debug)]
struct Callees {
    /// Of `twilio-voice`: how long it rings until somebody answers
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    ring: Duration,
    /// Of `twilio-voice`: how long a prompt takes to be heard
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    heard: Duration,
    /// Of `twilio-voice`: how long callees think before they press a key
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    thinks: Duration,
    /// Of `twilio-voice`: share of documents that are asked for twice
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    repeated: f64,
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
    /// Share of messages that are answered with something else
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    replies: f64,
    /// Of `smpp`: messages a second; what comes faster is throttled. 0: as many as come
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Of `smpp`: most binds at a time; more are refused
    #[arg(long, default_value_t = 1_024)]
    binds_max: usize,
    /// Of `smpp`: the `command_status` of what is refused for good
    #[arg(long, default_value_t = smpp::pdu::status::INVALID_DESTINATION)]
    refusal: u32,
    /// Makes another run of chance
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// Twilio Messages
    Twilio,
    /// Twilio's calls; what callees do is up to the last digit of their number
    TwilioVoice,
    /// Aliyun SMS
    AliyunSms,
    /// Aliyun voice
    AliyunVoice,
    /// Tencent Cloud SMS
    TencentSms,
    /// The cloud of the README's provider that settings describe
    Http,
    /// An SMSC over SMPP 3.4
    Smpp,
    /// An official account or a mini program of WeChat
    Wechat,
    /// A corporation at WeCom with one application; whoever's userid begins with `nobody` is no employee. Of its customers
    /// and groups, `stranger…` is a friend no more, `full…` has had as many messages as may come, `nobody…` is none
    Wecom,
}

/// Runs a simulated cloud or SMSC until it is told to stop, and says what it saw.
///
/// # Errors
/// When the port cannot be listened on, or an error is none of the provider's.
pub async fn run(options: Options) -> Result<(), Problem> {
    let clock = Clock::system();
    let tasks = Tasks::new();
    match options.vendor(&tasks, &clock) {
        Some(vendor) => {
            let script = options.script(|code| vendor.is_code(code))?;
            Ok(cloud(&options, (vendor, script), (tasks, clock)).await?)
        }
        None => {
            let script = options.script(|code| smpp::pdu::status_of(code).is_some())?;
            Ok(smsc(&options, script, clock).await?)
        }
    }
}

async fn cloud(
    options: &Options,
    (vendor, script): (Box<dyn Vendor>, Script),
    (tasks, clock): (Tasks, Clock),
) -> std::io::Result<()> {
    let mut signals = Signals::listen();
    let simulator = Simulator::start(vendor, options.listen(), options.manners(), &tasks, &clock).await?;
    simulator.follow(script);
    println!("listening on http://{}", simulator.address());
    signals.next().await;
    tasks.finish(&clock, GRACE).await;
    println!(
        "{}; {} requests not answered, {} callbacks taken",
        tally(&simulator.messages()),
        simulator.lost(),
        simulator.callbacks().0,
    );
    Ok(())
}

async fn smsc(options: &Options, script: Script, clock: Clock) -> std::io::Result<()> {
    let (tasks, mut signals) = (Tasks::new(), Signals::listen());
    let smsc = smpp::Smsc::start(options.account(), options.listen(), options.manners(), &tasks, &clock).await?;
    smsc.follow(script);
    println!("listening on {}", smsc.address());
    signals.next().await;
    tasks.finish(&clock, GRACE).await;
    let stats = smsc.stats();
    println!(
        "{}; {} came too fast, at most {} in a second; {} answers lost, {} receipts and replies taken; at most {} binds, \
         {} refused",
        tally(&smsc.messages()),
        stats.too_fast,
        stats.second_peak,
        stats.lost,
        stats.letters_taken,
        stats.binds_peak,
        stats.binds_refused,
    );
    Ok(())
}

fn tally(messages: &[(Message, Fared)]) -> String {
    let count = |fits: fn(&Fared) -> bool| messages.iter().filter(|(_, fared)| fits(fared)).count();
    let mut tally = format!(
        "{} messages: {} taken, {} throttled, {} refused, {} failed",
        messages.len(),
        count(|fared| matches!(fared, Fared::Taken(_))),
        count(|fared| *fared == Fared::Throttled),
        count(|fared| *fared == Fared::Refused),
        count(|fared| *fared == Fared::Failed),
    );
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, fared) in messages {
        if let Fared::Error(code) = fared {
            *errors.entry(code).or_default() += 1;
        }
    }
    for (code, count) in errors {
        tally.push_str(&format!(", {count} answered {code}"));
    }
    tally
}

// === impl Options ===

impl Options {
    fn listen(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    fn manners(&self) -> (Behaviour, u64) {
        (self.manners.behaviour(), self.manners.seed)
    }

    /// Returns the errors it is told to answer with, each a code of the provider's.
    fn script(&self, is_code: impl Fn(&str) -> bool) -> Result<Script, Problem> {
        let script = Script::new(self.errors.clone());
        let strange = script.codes().find(|code| !is_code(code)).map(Box::from);
        strange.map_or(Ok(script), |code| Err(Problem::Code { code, wanted: self.kind.codes() }))
    }

    fn account(&self) -> smpp::Account {
        let Manners { rate, binds_max, refusal, .. } = self.manners;
        // Without a word about it, any account is let in.
        let given = |text: &str| if text == ANY { String::new() } else { text.to_owned() };
        smpp::Account { system_id: given(&self.account), password: given(&self.secret), binds_max, rate, refusal }
    }

    /// Returns the cloud; `None` for an SMSC, which is none.
    fn vendor(&self, tasks: &Tasks, clock: &Clock) -> Option<Box<dyn Vendor>> {
        let Self { kind, account, secret, app, callback, .. } = self;
        let (account, secret, callback) = (account.clone(), secret.clone(), callback.clone());
        let aliyun = |access_key_id, access_key_secret, callback| {
            let nonces = aliyun::Nonces::default();
            aliyun::Aliyun { access_key_id, access_key_secret, callback, nonces }
        };
        let vendor: Box<dyn Vendor> = match kind {
            Kind::Smpp => return None,
            Kind::Twilio => Box::new(twilio::Twilio { account_sid: account, auth_token: secret, inbound: callback }),
            Kind::TwilioVoice => {
                let manners = self.callees.manners(&self.manners);
                Box::new(twilio_voice::TwilioVoice::new((account, secret), manners, tasks, clock))
            }
            Kind::AliyunSms => Box::new(aliyun(account, secret, callback)),
            Kind::AliyunVoice => Box::new(aliyun_voice::AliyunVoice(aliyun(account, secret, callback))),
            Kind::TencentSms => {
                Box::new(tencent::Tencent { secret_id: account, secret_key: secret, app_id: app.clone(), callback })
            }
            Kind::Http => Box::new(plain::Plain { secret, callback }),
            Kind::Wechat => Box::new(wechat::Wechat::new(self.door.account(account, secret, callback), clock)),
            Kind::Wecom => Box::new(wecom::Wecom::new(self.door.corporation(account, secret, callback), clock)),
        };
        Some(vendor)
    }
}

impl Kind {
    /// Returns what its codes look like.
    fn codes(self) -> &'static str {
        match self {
            Self::Twilio | Self::TwilioVoice => "a number such as 21211",
            Self::AliyunSms | Self::AliyunVoice => "a word such as isv.BUSINESS_LIMIT_CONTROL",
            Self::TencentSms => "a word such as LimitExceeded.PhoneNumberDailyLimit",
            Self::Http => "an HTTP status such as 503, or with an error 422:blocked",
            Self::Smpp => "a command_status such as 0x14 or 88",
            Self::Wechat | Self::Wecom => "an errcode such as 45009 or -1",
        }
    }
}

impl Door {
    fn callback(&self, account: &str, url: Option<String>) -> Option<(String, Crypt)> {
        let secrets = config::Crypt { token: Secret::new(&self.token), key: self.aes_key.clone() };
        url.map(|url| (url, Crypt::new(secrets, account)))
    }

    fn corporation(&self, corp_id: String, secret: String, callback: Option<String>) -> wecom::Corporation {
        let callback = self.callback(&corp_id, callback);
        let (agent_id, token_life) = (self.agent_id, self.token_life);
        let operators = wecom::Operators { confirm: self.confirmed, after: self.confirm_after };
        wecom::Corporation { corp_id, agent_id, secret, token_life, callback, operators }
    }

    fn account(&self, appid: String, secret: String, callback: Option<String>) -> wechat::Account {
        let callback = self.callback(&appid, callback);
        let Self { token_life, daily_max, consents, .. } = *self;
        wechat::Account { appid, secret, token_life, daily_max, consents, callback }
    }
}

impl Callees {
    fn manners(&self, manners: &Manners) -> twilio_voice::Manners {
        let Self { ring, heard, thinks, repeated } = *self;
        let Manners { doubled, late, missing, .. } = *manners;
        twilio_voice::Manners { ring, heard, thinks, doubled, late, missing, repeated }
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
            replies: Replies { stop: self.stop_replies, other: self.replies, ..Behaviour::default().replies },
            ..Behaviour::default()
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share is between 0 and 1".to_owned())
}

fn aes_key(text: &str) -> Result<AesKey, String> {
    AesKey::read(text).ok_or_else(|| "a key has 43 letters and digits".to_owned())
}

/// Returns a URL whose server can be called back.
fn callback_url(text: &str) -> Result<String, String> {
    let base = text.find("://").and_then(|at| text[at + 3..].find('/').map(|slash| &text[..at + 3 + slash]));
    let base = base.ok_or_else(|| "a whole URL such as http://127.0.0.1:8025/callback/ID is expected".to_owned())?;
    base.parse::<Endpoint>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}
