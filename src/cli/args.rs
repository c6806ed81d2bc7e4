//! What people write on the command line, parsed.

use std::str::FromStr;
use std::time::Duration;

use prost_types::Timestamp;

use crate::api;
use crate::config;
use crate::domain::money::InvalidMoney;
use crate::domain::rate::Rate;
use crate::domain::time::Clock;
use crate::domain::window::InvalidHours;
use crate::pb;

/// The addresses of a recipient as they are written: `+8613800000000`, `wechat:APPID/OPENID`, `wecom:CORP/USER`, `chat:ID`
/// or `user:ID`, or several of them with commas between.
#[derive(Clone, Debug)]
pub struct Address(pub(super) pb::Recipient);

/// `name=value`.
#[derive(Clone, Debug)]
pub(super) struct Pair(pub(super) String, pub(super) String);

/// A step of a fallback chain as it is written: `sms:10m=TEXT`, `sms-template:10m=NAME`, `template:10m=NAME` or
/// `call:10m=FLOW`; without a time the service's default holds.
#[derive(Clone, Debug)]
pub(super) struct Fallback(pub(super) pb::FallbackStep);

/// A moment: `2026-12-24T10:00:00+08:00`, or from now: `+90m`.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// A point in time.
    At(jiff::Timestamp),
    /// From now.
    In(Duration),
}

/// A cap as it is written: `NAME=LIMIT/WINDOW`, then options: `daily=3/24h,drop,class=marketing,kind=sms,topic=sale`; or
/// `preset=NAME`.
#[derive(Clone, Debug)]
pub(super) struct Cap(pub(super) pb::CapRule);

/// A pool of senders: its name and its members.
#[derive(Clone, Debug)]
pub(super) struct SenderPool(pub(super) pb::SenderPool);

/// Why a word on the command line is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArg {
    /// No address.
    #[error(
        "write +8613800000000, wechat:APPID/OPENID, wecom:CORP/USER, chat:ID or user:ID; of one recipient, with commas"
    )]
    Address,
    /// No pair.
    #[error("write NAME=VALUE")]
    Pair,
    /// No step of a fallback chain.
    #[error("write sms:10m=TEXT, sms-template:10m=NAME, template:10m=NAME or call:10m=FLOW")]
    Fallback,
    /// No moment.
    #[error("write a time with its offset, such as 2026-12-24T10:00:00+08:00, or a delay, such as +90m")]
    Moment,
    /// No cap.
    #[error(
        "write NAME=LIMIT/WINDOW and options, such as daily=3/24h,drop,class=marketing or \"daily=1/calendar day\", or preset=NAME"
    )]
    Cap,
    /// No pool of senders.
    #[error("write NAME=SENDER,SENDER, such as staff=li,wang,zhao")]
    SenderPool,
    /// No quota.
    #[error(
        "write NAME=JOBS/WINDOW or 'NAME=AMOUNT CURRENCY/WINDOW', such as daily=100000/day or 'budget=1000 CNY/month'"
    )]
    Quota,
    /// No amount of money.
    #[error(transparent)]
    Money(#[from] InvalidMoney),
    /// No time of day on a date.
    #[error("write a date and time without an offset, such as 2026-12-24T10:00")]
    LocalTime,
    /// No window.
    #[error("write NAME=HOURS and options, such as 'day=mon-fri 09:00-18:00;sat 10:00-12:00,drop,class=marketing'")]
    Window,
    /// No option of a window.
    #[error("unknown option {0:?} of a window; use defer, drop, class=, kind=, topic=, sender= or pool=")]
    WindowOption(String),
    /// No hours.
    #[error("{0}")]
    Hours(#[from] InvalidHours),
    /// No option of a cap.
    #[error(
        "unknown option {0:?} of a cap; use defer, drop, shadow, segments, delivered, attempted, class=, kind=, topic=, sender=, per= or reserve="
    )]
    CapOption(String),
}

impl FromStr for Address {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let mut recipient = pb::Recipient::default();
        raw.split(',').try_for_each(|raw| Self::add(&mut recipient, raw))?;
        Ok(Self(recipient))
    }
}

impl Address {
    fn add(recipient: &mut pb::Recipient, raw: &str) -> Result<(), InvalidArg> {
        let two = |rest: &str| {
            let (account, id) = rest.split_once('/').ok_or(InvalidArg::Address)?;
            Ok::<_, InvalidArg>((account.to_owned(), id.to_owned()))
        };
        match raw.split_once(':') {
            None if raw.starts_with('+') && recipient.phone.is_empty() => raw.clone_into(&mut recipient.phone),
            Some(("wechat", rest)) => {
                let (appid, openid) = two(rest)?;
                recipient.wechat.push(pb::WechatAddress { appid, openid });
            }
            Some(("wecom", rest)) => {
                let (corp_id, external_userid) = two(rest)?;
                recipient.wecom = Some(pb::WecomAddress { corp_id, external_userid });
            }
            Some(("chat", id)) => {
                id.clone_into(&mut recipient.wecom_chat_id);
                recipient.kind = pb::RecipientKind::Group.into();
            }
            Some(("user", id)) => {
                id.clone_into(&mut recipient.wecom_userid);
                recipient.kind = pb::RecipientKind::Operator.into();
            }
            _ => return Err(InvalidArg::Address),
        }
        Ok(())
    }
}

impl FromStr for Fallback {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        use pb::fallback_step::Content;
        let (how, what) = raw.split_once('=').ok_or(InvalidArg::Fallback)?;
        let (kind, after) = how.split_once(':').map_or((how, None), |(kind, after)| (kind, Some(after)));
        let after = after.map(humantime::parse_duration).transpose().map_err(|_| InvalidArg::Fallback)?;
        let (text, name) = (what.to_owned(), what.to_owned());
        let content = match kind {
            "sms" => Content::Sms(pb::SmsContent { text, template: String::new() }),
            "sms-template" => Content::Sms(pb::SmsContent { text: String::new(), template: name }),
            "template" => Content::Template(pb::TemplateContent { template: name, ..Default::default() }),
            "call" => {
                let source = Some(pb::call_content::Source::Flow(name));
                Content::Call(pb::CallContent { source, ..Default::default() })
            }
            _ => return Err(InvalidArg::Fallback),
        };
        Ok(Self(pb::FallbackStep {
            content: Some(content),
            after: after.map(api::duration_to_pb),
            ..Default::default()
        }))
    }
}

impl FromStr for Pair {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let (name, value) = raw.split_once('=').ok_or(InvalidArg::Pair)?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

impl FromStr for Moment {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        match raw.strip_prefix('+') {
            Some(delay) => humantime::parse_duration(delay).map(Self::In).map_err(|_| InvalidArg::Moment),
            None => raw.parse().map(Self::At).map_err(|_| InvalidArg::Moment),
        }
    }
}

/// Returns what the machine's clock says, to the second.
pub(super) fn now() -> Timestamp {
    Timestamp { seconds: Clock::system().now().as_secs(), nanos: 0 }
}

impl Moment {
    /// Returns the point in time, where the machine's clock says `now`.
    pub(super) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond().max(0) },
            Self::In(delay) => {
                let seconds = now.seconds.saturating_add(i64::try_from(delay.as_secs()).unwrap_or(i64::MAX));
                Timestamp { seconds, nanos: now.nanos }
            }
        }
    }
}

impl FromStr for SenderPool {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let (name, senders) = raw.split_once('=').ok_or(InvalidArg::SenderPool)?;
        let senders = senders.split(',').map(|sender| sender.trim().to_owned()).collect();
        Ok(Self(pb::SenderPool { name: name.trim().into(), senders }))
    }
}

impl FromStr for Cap {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let mut parts = raw.split(',');
        let (name, rest) = parts.next().and_then(|part| part.split_once('=')).ok_or(InvalidArg::Cap)?;
        if name == "preset" {
            let mut cap = pb::CapRule { preset: rest.to_owned(), ..pb::CapRule::default() };
            options(&mut cap, parts)?;
            return Ok(Self(cap));
        }
        let (limit, window) = rest.split_once('/').ok_or(InvalidArg::Cap)?;
        let mut cap = pb::CapRule {
            name: name.to_owned(),
            limit: limit.parse().map_err(|_| InvalidArg::Cap)?,
            window: Some(api::window_to_pb(config::window(window).ok_or(InvalidArg::Cap)?)),
            ..pb::CapRule::default()
        };
        options(&mut cap, parts)?;
        Ok(Self(cap))
    }
}

/// Adds an option such as `class=marketing` to a filter; returns whether it is one.
pub(super) fn narrow(filter: &mut pb::RuleFilter, option: &str) -> bool {
    match option.split_once('=') {
        Some(("class", word)) => class(word).map(|class| filter.classes.push(class.into())).is_some(),
        Some(("kind", word)) => kind(word).map(|kind| filter.kinds.push(kind.into())).is_some(),
        Some(("topic", word)) => {
            filter.topics.push(word.to_owned());
            true
        }
        Some(("sender", word)) => {
            filter.senders.push(word.to_owned());
            true
        }
        Some(_) | None => false,
    }
}

/// Puts the options of a cap into it.
fn options<'a>(cap: &mut pb::CapRule, parts: impl Iterator<Item = &'a str>) -> Result<(), InvalidArg> {
    let mut filter = pb::RuleFilter::default();
    for part in parts {
        let unknown = || InvalidArg::CapOption(part.to_owned());
        match part.split_once('=') {
            None if part == "defer" => cap.on_limit = pb::OnLimit::Defer.into(),
            None if part == "drop" => cap.on_limit = pb::OnLimit::Drop.into(),
            None if part == "shadow" => cap.mode = pb::RuleMode::Shadow.into(),
            None if part == "segments" => cap.unit = pb::CapUnit::Segments.into(),
            None if part == "delivered" => cap.count = pb::CapCount::Delivered.into(),
            None if part == "attempted" => cap.count = pb::CapCount::Attempted.into(),
            Some(("per", word)) => {
                let name = format!("CAP_PER_{}", word.to_ascii_uppercase().replace('+', "_"));
                cap.per = pb::CapPer::from_str_name(&name).ok_or_else(unknown)?.into();
            }
            Some(("reserve", places)) => cap.reserve = places.parse().map_err(|_| unknown())?,
            _ if narrow(&mut filter, part) => {}
            _ => return Err(unknown()),
        }
    }
    if filter != pb::RuleFilter::default() {
        cap.filter = Some(filter);
    }
    Ok(())
}

/// Returns a length of time for the API.
pub(super) fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// Returns a rate for the API.
pub(super) fn rate(rate: Rate) -> pb::Rate {
    pb::Rate { per_second: rate.per_s.get(), burst: rate.burst.get() }
}

fn class(word: &str) -> Option<pb::Class> {
    pb::Class::from_str_name(&format!("CLASS_{}", word.to_ascii_uppercase()))
}

fn kind(word: &str) -> Option<pb::Kind> {
    pb::Kind::from_str_name(&format!("KIND_{}", word.to_ascii_uppercase()))
}

/// By which means a job goes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Kind {
    /// A text message
    Sms,
    /// A template message
    Template,
    /// A smart call
    Call,
}

impl Kind {
    /// Returns the kind for the API.
    pub(super) fn to_pb(self) -> pb::Kind {
        match self {
            Self::Sms => pb::Kind::Sms,
            Self::Template => pb::Kind::Template,
            Self::Call => pb::Kind::Call,
        }
    }
}

/// How much a job matters.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Class {
    /// One-time passwords
    Otp,
    /// What the recipient's own act calls for
    Transactional,
    /// Service notices
    Notification,
    /// Everything that sells
    Marketing,
}

impl Class {
    /// Returns the class for the API.
    pub(super) fn to_pb(self) -> pb::Class {
        match self {
            Self::Otp => pb::Class::Otp,
            Self::Transactional => pb::Class::Transactional,
            Self::Notification => pb::Class::Notification,
            Self::Marketing => pb::Class::Marketing,
        }
    }
}
