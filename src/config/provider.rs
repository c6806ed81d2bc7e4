//! Providers: `[[provider]]` in the settings.

pub(super) mod asterisk;
pub(super) mod clouds;
pub(super) mod custom;
pub(super) mod raw;
pub(super) mod trunk;
pub(super) mod twilio_voice;
pub(super) mod wechat;
pub(super) mod wecom;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use self::asterisk::Asterisk;
use self::clouds::{Aliyun, AliyunVoice, Tencent, Twilio};
use self::custom::Custom;
use self::raw::{RawProvider, RawSimulated, RawSmpp};
use self::trunk::SimulatedTrunk;
use self::twilio_voice::TwilioVoice;
use self::wechat::Wechat;
use self::wecom::Wecom;
use super::check::{TIMEOUTS, duration, invalid, optional, parsed, path, required, small, word};
use super::error::{ConfigError, Contradiction, Reason};
use super::secret::Secret;
use crate::domain::ids::{PoolId, ProviderId};
use crate::domain::job::{Kind, words};
use crate::domain::money::Money;
use crate::domain::rate::Rate;

/// A provider as set.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its id.
    pub id: ProviderId,
    /// Its pool.
    pub pool: PoolId,
    /// Its place and share in it.
    pub in_pool: InPool,
    /// The kinds of jobs it carries, never none.
    pub kinds: Vec<Kind>,
    /// Hand-overs per second over all nodes; `None`: as fast as it answers.
    pub rate: Option<Rate>,
    /// What one segment, template message or begun minute of a call costs; `None`: no price is known.
    pub price: Option<Money>,
    /// Whether it sends receipts.
    pub receipts: bool,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How it is reached.
    pub link: Link,
}

/// A provider's place in its pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InPool {
    /// In the order of failover, from 0: it is asked only while nobody of a lower order works.
    pub order: u16,
    /// Its share of the jobs among those of its order, from 1.
    pub weight: u16,
}

/// How a provider is reached.
#[derive(Clone, Debug)]
pub enum Link {
    /// SMPP 3.4.
    Smpp(Smpp),
    /// Twilio Messages.
    Twilio(Twilio),
    /// Aliyun SMS.
    Aliyun(Aliyun),
    /// Tencent Cloud SMS.
    Tencent(Tencent),
    /// A cloud that the settings describe.
    Custom(Box<Custom>),
    /// A cloud that calls: Aliyun voice.
    AliyunVoice(Box<AliyunVoice>),
    /// A cloud that calls: Twilio.
    TwilioVoice(Box<TwilioVoice>),
    /// A telephone exchange.
    Asterisk(Box<Asterisk>),
    /// Lines inside the process.
    SimulatedTrunk(Box<SimulatedTrunk>),
    /// Inside the process.
    Simulated(Simulated),
    /// An official account or a mini program of WeChat.
    Wechat(Wechat),
    /// An application of a corporation at WeCom.
    Wecom(Wecom),
}

/// An SMSC over SMPP 3.4.
#[derive(Clone, Debug)]
pub struct Smpp {
    /// Host and port.
    pub address: Box<str>,
    /// The account.
    pub system_id: Box<str>,
    /// Its password; empty: none.
    pub password: Secret,
    /// Its system type; empty: none.
    pub system_type: Box<str>,
    /// TLS, if any.
    pub tls: Option<SmppTls>,
    /// Connections over all nodes.
    pub binds: NonZeroU32,
    /// Hand-overs in flight per bind.
    pub window: NonZeroU32,
    /// How segments are counted.
    pub counting: Counting,
    /// What its default alphabet means.
    pub alphabet: Alphabet,
    /// How message ids read in answers.
    pub submit_ids: IdForm,
    /// How message ids read in receipts.
    pub receipt_ids: IdForm,
    /// The sender shown when a job names none; empty: the account's.
    pub sender: Box<str>,
    /// How often an idle connection is asked whether it lives.
    pub enquire_link: Duration,
    /// First wait before a new connection.
    pub reconnect_delay: Duration,
}

/// TLS to an SMSC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmppTls {
    /// Certificate authorities in PEM; `None`: the usual public ones.
    pub ca: Option<PathBuf>,
    /// The name in its certificate.
    pub name: Box<str>,
}

words! {
    /// How segments are counted.
    Counting {
        /// 160 or 153 septets where GSM-7 can write the text, else 70 or 67 characters.
        GsmIntl = "gsm_intl",
        /// 70 or 67 characters always.
        CnDomestic = "cn_domestic",
    }
}

words! {
    /// What data coding 0 means to an SMSC.
    Alphabet {
        /// GSM-7, one septet an octet.
        Gsm7 = "gsm7",
        /// ISO 8859-1.
        Latin1 = "latin1",
    }
}

words! {
    /// How a message id reads.
    IdForm {
        /// Compared as it is.
        Text = "text",
        /// A number in hexadecimal digits.
        Hex = "hex",
        /// A number in decimal digits.
        Decimal = "decimal",
    }
}

/// A provider inside the process. Shares are between 0 and 1.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Hand-overs in flight.
    pub window: NonZeroU32,
    /// Time to its answer, on average.
    pub latency: Duration,
    /// Time from answer to receipt, on average.
    pub receipt_after: Duration,
    /// Share of hand-overs that are throttled.
    pub throttled: f64,
    /// Share of hand-overs that are refused for good.
    pub refused: f64,
    /// Share of hand-overs without an answer.
    pub unanswered: f64,
    /// Share of receipts that say `undelivered`.
    pub undelivered: f64,
    /// Share of recipients that reply STOP.
    pub stop_replies: f64,
}

/// What SMPP 3.4 has room for, without the closing zero (issue 1.2, 4.1.1 and 4.4.1).
const SYSTEM_ID_MAX: usize = 15;
const PASSWORD_MAX: usize = 8;
const SYSTEM_TYPE_MAX: usize = 12;
const ADDRESS_MAX: usize = 20;

/// More is no window any more, and each place in it takes memory.
const WINDOW_MAX: u32 = 100_000;
const BINDS_MAX: u32 = 1_000;
/// Shares finer than a thousandth, and more places than providers, are mistakes.
const WEIGHT_MAX: u16 = 1_000;
const ORDER_MAX: u16 = 100;

pub(super) fn providers(raw: Vec<RawProvider>, environment: &[(String, String)]) -> Result<Vec<Provider>, ConfigError> {
    let mut providers: Vec<Provider> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let provider = match raw {
            RawProvider::Smpp(raw) => smpp(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::Twilio(raw) => clouds::twilio(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::Aliyun(raw) => clouds::aliyun(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::AliyunVoice(raw) => clouds::aliyun_voice(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::TwilioVoice(raw) => {
                twilio_voice::twilio_voice(&raw, &Place { index, id: &raw.id }, environment)?
            }
            RawProvider::Tencent(raw) => clouds::tencent(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::Http(raw) => custom::custom(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::Asterisk(raw) => asterisk::asterisk(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::SimulatedTrunk(raw) => trunk::simulated(&raw, &Place { index, id: &raw.id })?,
            RawProvider::Simulated(raw) => simulated(&raw, &Place { index, id: &raw.id })?,
            RawProvider::Wechat(raw) => wechat::wechat(&raw, &Place { index, id: &raw.id }, environment)?,
            RawProvider::Wecom(raw) => wecom::wecom(&raw, &Place { index, id: &raw.id }, environment)?,
        };
        if providers.iter().any(|other| other.id == provider.id) {
            return Err(Contradiction::SameProvider(provider.id.as_str().into()).into());
        }
        if providers.iter().any(|other| other.pool == provider.pool && other.kinds != provider.kinds) {
            return Err(Contradiction::MixedPool(provider.pool.as_str().into()).into());
        }
        let elsewhere =
            |other: &Provider| other.price.zip(provider.price).is_some_and(|(a, b)| a.currency != b.currency);
        if providers.iter().any(|other| other.pool == provider.pool && elsewhere(other)) {
            return Err(Contradiction::MixedCurrencies(provider.pool.as_str().into()).into());
        }
        providers.push(provider);
    }
    Ok(providers)
}

impl Link {
    /// Returns whether such a provider is told with each job where to call back.
    pub fn asks_for_callbacks(&self) -> bool {
        match self {
            Self::Twilio(_) | Self::TwilioVoice(_) => true,
            Self::Aliyun(_)
            | Self::AliyunVoice(_)
            | Self::Tencent(_)
            | Self::Custom(_)
            | Self::Smpp(_)
            | Self::Asterisk(_)
            | Self::SimulatedTrunk(_)
            | Self::Simulated(_)
            | Self::Wechat(_)
            | Self::Wecom(_) => false,
        }
    }

    /// Returns whether it may call back without being told where.
    pub fn calls_back(&self) -> bool {
        match self {
            Self::Wechat(link) => link.callbacks.is_some(),
            Self::Wecom(link) => link.callbacks.is_some(),
            other => other.callback_token().is_some(),
        }
    }

    /// Returns by when it is known, from its hand-over on, whether an employee has let a job go out; `None`: nobody is asked.
    pub(super) fn confirmed_by(&self) -> Option<Duration> {
        match self {
            Self::Wecom(link) => link.confirmed_by(),
            Self::Aliyun(_)
            | Self::AliyunVoice(_)
            | Self::TwilioVoice(_)
            | Self::Tencent(_)
            | Self::Twilio(_)
            | Self::Custom(_)
            | Self::Smpp(_)
            | Self::Asterisk(_)
            | Self::SimulatedTrunk(_)
            | Self::Simulated(_)
            | Self::Wechat(_) => None,
        }
    }

    /// Returns whether what calls back goes on with what it hears from the process that asked it to.
    pub fn converses(&self) -> bool {
        matches!(self, Self::TwilioVoice(_))
    }

    /// Returns the secret at the end of its callbacks' path, if it has one: then it may call back.
    pub fn callback_token(&self) -> Option<&Secret> {
        match self {
            Self::Aliyun(link) => link.callback_token.as_ref(),
            Self::AliyunVoice(link) => Some(&link.callback_token),
            Self::Tencent(link) => link.callback_token.as_ref(),
            Self::Custom(link) => link.callbacks.as_ref().map(|callbacks| &callbacks.token),
            Self::Twilio(_)
            | Self::TwilioVoice(_)
            | Self::Smpp(_)
            | Self::Asterisk(_)
            | Self::SimulatedTrunk(_)
            | Self::Simulated(_)
            | Self::Wechat(_)
            | Self::Wecom(_) => None,
        }
    }
}

/// Which provider an error is about.
struct Place<'a> {
    index: usize,
    id: &'a str,
}

impl Place<'_> {
    fn key(&self, name: &str) -> String {
        match self.id {
            "" => format!("provider[{}].{name}", self.index),
            id => format!("provider[{id}].{name}"),
        }
    }
}

fn smpp(raw: &RawSmpp, place: &Place<'_>, environment: &[(String, String)]) -> Result<Provider, ConfigError> {
    let key = |name| place.key(name);
    let kinds = kinds(&key("kinds"), &raw.kinds, &[Kind::Sms])?;
    let address = required(&key("address"), &raw.address)?;
    let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().map(|_| host));
    let host = port.filter(|host| !host.is_empty()).ok_or_else(|| invalid(&key("address"), Reason::HostPort))?;
    let tls_details = !raw.tls_ca.is_empty() || !raw.tls_name.is_empty();
    if tls_details && !raw.tls {
        return Err(Contradiction::TlsOff(raw.id.as_str().into()).into());
    }
    let name = if raw.tls_name.is_empty() { host.trim_matches(['[', ']']) } else { &raw.tls_name };
    let link = Smpp {
        address: address.into(),
        system_id: fitting(&key("system_id"), required(&key("system_id"), &raw.system_id)?, SYSTEM_ID_MAX)?,
        password: password(raw, place, environment)?,
        system_type: fitting(&key("system_type"), &raw.system_type, SYSTEM_TYPE_MAX)?,
        tls: raw.tls.then(|| SmppTls { ca: path(&raw.tls_ca), name: name.into() }),
        binds: small(&key("binds"), raw.binds, BINDS_MAX)?,
        window: small(&key("window"), raw.window, WINDOW_MAX)?,
        counting: word(&key("counting"), &raw.counting, Counting::ALL, Counting::as_str)?,
        alphabet: word(&key("alphabet"), &raw.alphabet, Alphabet::ALL, Alphabet::as_str)?,
        submit_ids: word(&key("submit_ids"), &raw.submit_ids, IdForm::ALL, IdForm::as_str)?,
        receipt_ids: word(&key("receipt_ids"), &raw.receipt_ids, IdForm::ALL, IdForm::as_str)?,
        sender: fitting(&key("sender"), &raw.sender, ADDRESS_MAX)?,
        enquire_link: duration(&key("enquire_link"), &raw.enquire_link, TIMEOUTS)?,
        reconnect_delay: duration(&key("reconnect_delay"), &raw.reconnect_delay, TIMEOUTS)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Smpp(link),
    })
}

fn simulated(raw: &RawSimulated, place: &Place<'_>) -> Result<Provider, ConfigError> {
    let key = |name| place.key(name);
    let wait = (Duration::ZERO, TIMEOUTS.1);
    let link = Simulated {
        window: small(&key("window"), raw.window, WINDOW_MAX)?,
        latency: duration(&key("latency"), &raw.latency, wait)?,
        receipt_after: duration(&key("receipt_after"), &raw.receipt_after, wait)?,
        throttled: share(&key("throttled"), raw.throttled)?,
        refused: share(&key("refused"), raw.refused)?,
        unanswered: share(&key("unanswered"), raw.unanswered)?,
        undelivered: share(&key("undelivered"), raw.undelivered)?,
        stop_replies: share(&key("stop_replies"), raw.stop_replies)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, Kind::ALL)?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Simulated(link),
    })
}

fn in_pool(place: &Place<'_>, order: i64, weight: i64) -> Result<InPool, ConfigError> {
    let within = |name: &str, number: i64, (least, most): (u16, u16)| {
        let fitting = u16::try_from(number).ok().filter(|number| (least..=most).contains(number));
        fitting.ok_or_else(|| invalid(&place.key(name), Reason::Range { min: least.into(), max: most.into() }))
    };
    Ok(InPool { order: within("order", order, (0, ORDER_MAX))?, weight: within("weight", weight, (1, WEIGHT_MAX))? })
}

fn kinds(key: &str, words: &[String], possible: &[Kind]) -> Result<Vec<Kind>, ConfigError> {
    let mut kinds = words.iter().map(|text| word(key, text, possible, Kind::as_str)).collect::<Result<Vec<_>, _>>()?;
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() { Err(invalid(key, Reason::Missing)) } else { Ok(kinds) }
}

/// Where a secret may stand: in the settings, in a variable, in a file.
struct Places<'a> {
    name: &'static str,
    plain: &'a str,
    variable: &'a str,
    file: &'a str,
}

fn secret(places: &Places<'_>, place: &Place<'_>, environment: &[(String, String)]) -> Result<String, ConfigError> {
    let name = places.name;
    if [places.plain, places.variable, places.file].iter().filter(|text| !text.is_empty()).count() > 1 {
        return Err(Contradiction::ManySecrets { id: place.id.into(), name }.into());
    }
    if !places.variable.is_empty() {
        let found = environment.iter().find(|(name, _)| name == places.variable).map(|(_, value)| value.clone());
        let missing = || invalid(&place.key(&format!("{name}_env")), Reason::NoVariable(places.variable.to_owned()));
        found.ok_or_else(missing)
    } else if let Some(path) = path(places.file) {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            invalid(&place.key(&format!("{name}_file")), Reason::Unreadable { path: path.clone(), error })
        })?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    } else {
        Ok(places.plain.to_owned())
    }
}

fn password(raw: &RawSmpp, place: &Place<'_>, environment: &[(String, String)]) -> Result<Secret, ConfigError> {
    let places =
        Places { name: "password", plain: &raw.password, variable: &raw.password_env, file: &raw.password_file };
    let text = secret(&places, place, environment)?;
    fitting(&place.key("password"), &text, PASSWORD_MAX).map(|text| Secret::new(&text))
}

fn fitting(key: &str, text: &str, max: usize) -> Result<Box<str>, ConfigError> {
    if text.len() > max { Err(invalid(key, Reason::TooLong { length: text.len(), max })) } else { Ok(text.into()) }
}

pub(super) fn share(key: &str, number: f64) -> Result<f64, ConfigError> {
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err(invalid(key, Reason::Share)) }
}
