//! What can be wrong with settings, in words that say what to do.

use std::io;
use std::net::AddrParseError;
use std::path::PathBuf;

use super::endpoint::InvalidEndpoint;
use super::template::InvalidTemplate;
use crate::domain::cap::BadCap;
use crate::domain::ids::InvalidName;
use crate::domain::money::InvalidMoney;
use crate::domain::rate::InvalidRate;
use crate::domain::window::InvalidHours;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no TOML.
    #[error("{} is not TOML: {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// There is no such setting.
    #[error("unknown setting `{key}`{}", did_you_mean(.meant.as_deref()))]
    Unknown {
        /// Its full name.
        key: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// The environment holds a variable that looks like a setting and is none.
    #[error("unknown variable {name}{}", did_you_mean(Some(.meant)))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// What was probably meant.
        meant: String,
    },
    /// A value cannot be used.
    #[error("setting `{key}`: {reason}")]
    Invalid {
        /// The setting's full name.
        key: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// Two settings contradict each other.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It is required.
    #[error("must be set")]
    Missing,
    /// Another type is expected.
    #[error("{0}")]
    Type(String),
    /// Not a length of time.
    #[error("not a length of time such as \"500ms\", \"30s\" or \"72h\": {0}")]
    Duration(#[from] humantime::DurationError),
    /// A length of time that makes no sense here.
    #[error("must be between {} and {}", humantime::format_duration(*.min), humantime::format_duration(*.max))]
    DurationRange {
        /// The shortest.
        min: std::time::Duration,
        /// The longest.
        max: std::time::Duration,
    },
    /// Not an address to listen on.
    #[error("not an address and port such as \"127.0.0.1:50051\": {0}")]
    Address(#[from] AddrParseError),
    /// Not a host with a port.
    #[error("not a host and port such as \"smsc.example.com:2775\"")]
    HostPort,
    /// Not hours of a send window.
    #[error("{0}")]
    Hours(#[from] InvalidHours),
    /// A send window that would never open.
    #[error("must hold at least one, such as \"08:00-20:00\"")]
    NoHours,
    /// A calendar that is not there.
    #[error("keeps the holidays of the calendar {0:?}, which is neither shipped nor in `windows.calendars`")]
    NoCalendar(String),
    /// Not a date.
    #[error("{0:?} is no date or no range of dates, such as \"2026-02-15\" or \"2026-02-15..2026-02-23\"")]
    Date(String),
    /// A date under another year.
    #[error("{date} stands under the year {year}")]
    OtherYear {
        /// The date.
        date: String,
        /// The year.
        year: i16,
    },
    /// A day that is free and not free.
    #[error("{0} is both a holiday and worked")]
    HolidayAndWorked(String),
    /// Not the window of a cap.
    #[error(
        "not a window such as \"24h\", \"calendar day\", \"clock hour +08:00\", \"from_first 24h\", \"gap 4h\" or \"bucket 8h\""
    )]
    CapWindow,
    /// A cap that cannot be.
    #[error(transparent)]
    Cap(BadCap),
    /// A preset says it already.
    #[error("cannot be set beside `preset`")]
    WithPreset,
    /// A topic or sender that none can be.
    #[error("holds an empty word, or one of more than {0} characters")]
    Words(usize),
    /// Not a rate.
    #[error(transparent)]
    Rate(#[from] InvalidRate),
    /// Not an amount of money.
    #[error(transparent)]
    Money(#[from] InvalidMoney),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Not one of the words there are.
    #[error("{found:?} is none of {}", .allowed.join(", "))]
    Word {
        /// What was written.
        found: String,
        /// What may be written.
        allowed: Vec<&'static str>,
    },
    /// A number that makes no sense here.
    #[error("must be between {min} and {max}")]
    Range {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// There is no such provider.
    #[error("is no provider; there are {known}")]
    NoProvider {
        /// The providers there are.
        known: String,
    },
    /// No number or code that a reply could come to.
    #[error("must be 1 to 20 letters and digits, with or without + in front")]
    Extension,
    /// A reply to it would lead to two.
    #[error("is another extension's number at this provider, too")]
    SameNumber,
    /// A job could leave from two numbers.
    #[error("has an extension for the same tenant and signature at this provider already: {0}")]
    SameExtension(String),
    /// No provider is in it.
    #[error("is a pool that no provider is in; there are {known}")]
    NoPool {
        /// The pools there are.
        known: String,
    },
    /// The pool does not carry that kind.
    #[error("is a pool that does not carry {0}")]
    PoolWithout(String),
    /// Not a share.
    #[error("must be between 0 and 1")]
    Share,
    /// The protocol has no room for it.
    #[error("has {length} bytes, the protocol allows {max}")]
    TooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        max: usize,
    },
    /// Not the URL of such a server.
    #[error("must start with {}", .allowed.join(" or "))]
    Scheme {
        /// How it may start.
        allowed: &'static [&'static str],
    },
    /// Not a base URL.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// Characters that do not belong there.
    #[error("may hold only {0}")]
    Characters(&'static str),
    /// Required because of another setting.
    #[error("must be set: {0}")]
    Needed(&'static str),
    /// Not a key of WeChat's callbacks.
    #[error("must be the 43 characters that the console shows as EncodingAESKey")]
    AesKey,
    /// A template or an expression that can never work.
    #[error("{0}")]
    Template(Box<InvalidTemplate>),
    /// The environment does not hold it.
    #[error("the environment has no variable {0}")]
    NoVariable(String),
    /// The file with it cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A certificate without its key, or the other way round.
    #[error("`grpc.tls_cert` and `grpc.tls_key` belong together: set both or none")]
    HalfTls,
    /// Callbacks that are signed and not encrypted, or the other way round.
    #[error("`callback_token` and `aes_key` of the provider {0} belong together: set both or none")]
    HalfCrypt(Box<str>),
    /// Keys would cross a network in the clear.
    #[error(
        "`grpc.listen` is beyond loopback and there is no TLS: set `grpc.tls_cert` and `grpc.tls_key`, or, if TLS ends in \
         front of the service, `grpc.allow_plaintext`"
    )]
    PlaintextBeyondLoopback,
    /// What providers say would cross a network in the clear.
    #[error(
        "`receive.listen` is beyond loopback, where receipts and replies cross a network in the clear: listen on loopback \
         behind a proxy that ends TLS, or, if that proxy is on another machine, set `receive.allow_plaintext`"
    )]
    CallbacksBeyondLoopback,
    /// Nobody could tell the provider where to report.
    #[error(
        "provider `{0}` reports by callbacks: set `receive.public_url` to the URL under which it reaches this service, or \
         `receipts = false` for that provider"
    )]
    NoPublicUrl(Box<str>),
    /// Calls would ask another process what to say.
    #[error(
        "provider `{0}` asks the process that calls what to say next: give the role `receive` to each process that has the \
         role `dispatch`, and a `receive.public_url` of its own"
    )]
    DispatchWithoutReceive(Box<str>),
    /// Two servers on one address.
    #[error("`{0}` and `{1}` are the same address")]
    SameListen(&'static str, &'static str),
    /// The embedded backends serve one process.
    #[error(
        "`roles` splits the service, but the embedded backends serve one process: set `queue.url`, `limits.url` and \
         `ledger.url`, or run all roles"
    )]
    SplitEmbedded,
    /// Every process would make keys of its own.
    #[error(
        "`roles` splits the service, whose processes need the same keys: set `seal.key_file` to a copy of one file"
    )]
    SplitWithoutKeys,
    /// A stop could not wait for an answer.
    #[error(
        "`shutdown.grace` is shorter than `response_timeout` of provider `{0}`: a stop would leave hand-overs unresolved \
         that could have been answered"
    )]
    GraceTooShort(Box<str>),
    /// A job would be given up while an employee may still let it go out.
    #[error(
        "`record.receipt_deadline` is shorter than `confirm_within`, twice `poll_every` and an hour of provider `{0}`: jobs \
         would end as unknown that an employee may still let go out"
    )]
    DeadlineBeforeConfirmation(Box<str>),
    /// What users say comes to one of them, and counts for its tenant.
    #[error(
        "providers `{0}` and `{1}` are one account of different tenants: consents can be counted for one of them, so give \
         both the same `tenant`, or leave out `consents`"
    )]
    CountedForTwo(Box<str>, Box<str>),
    /// Nothing of the grace time would be left.
    #[error("`shutdown.lame_duck` is not shorter than `shutdown.grace`")]
    LameDuckTooLong,
    /// Two send windows of one name.
    #[error("two send windows have the name `{0}`")]
    SameWindow(Box<str>),
    /// What both bind could never be sent.
    #[error("the send windows `{0}` and `{1}` bind some of the same jobs and are never open at the same time")]
    WindowsNeverMeet(Box<str>, Box<str>),
    /// Two caps of one name for the same tenant.
    #[error("two caps that count jobs of the same tenant have the name `{0}`")]
    SameCap(Box<str>),
    /// Too many caps for one tenant.
    #[error("more than {0} caps count jobs of the same tenant")]
    TooManyCaps(usize),
    /// Two providers of one name.
    #[error("two providers have the id `{0}`")]
    SameProvider(Box<str>),
    /// A job in a lane must suit every provider of its pool.
    #[error("providers of pool `{0}` carry different kinds: give each kind a pool of its own")]
    MixedPool(Box<str>),
    /// What a pool may cost must be comparable.
    #[error("providers of pool `{0}` have prices in different currencies: give each currency a pool of its own")]
    MixedCurrencies(Box<str>),
    /// A secret in more than one place.
    #[error("provider `{id}` has its {name} in more than one of `{name}`, `{name}_env` and `{name}_file`")]
    ManySecrets {
        /// Which provider.
        id: Box<str>,
        /// Which setting.
        name: &'static str,
    },
    /// It would never be used.
    #[error("provider `{0}` has `tls_ca` or `tls_name`, but `tls` is false")]
    TlsOff(Box<str>),
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default()
}
