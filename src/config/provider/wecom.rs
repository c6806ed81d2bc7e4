//! Providers at WeCom.

use std::num::NonZeroU32;
use std::time::Duration;

use super::clouds::{Api, api, plain};
use super::raw::RawWecom;
use super::wechat::{Crypt, crypt};
use super::{Link, Place, Places, Provider, fitting, in_pool, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, required, small, word};
use crate::config::error::{ConfigError, Reason};
use crate::config::secret::Secret;
use crate::domain::ids::TenantId;
use crate::domain::job::{Kind, words};

words! {
    /// Whom the jobs of an application reach.
    To {
        /// The corporation's employees.
        Employees = "employees",
        /// Its customers and their groups, once an employee has confirmed it.
        Customers = "customers",
        /// Customers who have just become an employee's friends.
        Welcome = "welcome",
    }
}

/// An application of a corporation at WeCom.
#[derive(Clone, Debug)]
pub struct Wecom {
    /// How it is reached.
    pub api: Api,
    /// The corporation.
    pub corp_id: Box<str>,
    /// The application.
    pub agent_id: NonZeroU32,
    /// Its secret.
    pub secret: Secret,
    /// The tenant whose corporation it is.
    pub tenant: TenantId,
    /// Whom its jobs reach.
    pub messages: To,
    /// The employee who is to confirm messages to customers where the job names none; empty: the job must.
    pub sender: Box<str>,
    /// How long that may take; then the message is stopped.
    pub confirm_within: Duration,
    /// How often WeCom is asked what became of messages to customers.
    pub poll_every: Duration,
    /// How long something waits before the employee gets a list.
    pub remind_after: Duration,
    /// What stands above such a list.
    pub reminder: Box<str>,
    /// The employee who is told of what was not confirmed; empty: nobody.
    pub escalate_to: Box<str>,
    /// What stands above that.
    pub escalation: Box<str>,
    /// Most jobs in a request.
    pub batch_max: NonZeroU32,
    /// How it calls back; `None`: it does not.
    pub callbacks: Option<Crypt>,
}

/// What message/send takes, and half of what add_msg_template does.
const BATCH_MAX: u32 = 1_000;
/// How long an employee may take. WeCom is asked for the messages of at most a month, and a receipt is waited for three days.
const CONFIRMATIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(48 * 3_600));
/// WeCom lets itself be asked 10 000 times a minute.
const POLLS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));
/// Longest heading of a list, in bytes.
const HEADING_LEN_MAX: usize = 512;
/// Longest userid, in bytes (developer.work.weixin.qq.com/document/path/90195).
const USERID_LEN_MAX: usize = 64;
/// So much later than it should be, for whatever reason, what an employee did not confirm may be stopped.
const LATE: Duration = Duration::from_secs(3_600);

// === impl Wecom ===

impl Wecom {
    /// Returns by when it is known whether an employee has confirmed a message to customers, from its hand-over on; `None`:
    /// nobody is asked.
    pub(in crate::config) fn confirmed_by(&self) -> Option<Duration> {
        (self.messages == To::Customers).then(|| self.confirm_within + 2 * self.poll_every + LATE)
    }
}

/// Returns whether an id can be one employee's: `|` parts several, and `@all` is everybody.
pub fn is_employee(userid: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    let begins = userid.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && userid.len() <= USERID_LEN_MAX && userid.bytes().all(plain)
}

fn employee(key: &str, userid: &str) -> Result<Box<str>, ConfigError> {
    if userid.is_empty() || is_employee(userid) {
        Ok(userid.into())
    } else {
        Err(invalid(key, Reason::Characters("the userid of one employee: letters, digits, `-`, `_`, `.` and `@`")))
    }
}

pub(super) fn wecom(
    raw: &RawWecom,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places { name: "secret", plain: &raw.secret, variable: &raw.secret_env, file: &raw.secret_file };
    let token = (&*raw.callback_token, &*raw.callback_token_env, &*raw.callback_token_file);
    let aes_key = (&*raw.aes_key, &*raw.aes_key_env, &*raw.aes_key_file);
    let messages = word(&key("messages"), &raw.messages, To::ALL, To::as_str)?;
    let link = Wecom {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        corp_id: plain(&key("corp_id"), &raw.corp_id)?,
        agent_id: small(&key("agent_id"), raw.agent_id, u32::MAX)?,
        secret: Secret::new(required(&key("secret"), &secret(&places, place, environment)?)?),
        tenant: parsed(&key("tenant"), &raw.tenant)?,
        messages,
        sender: employee(&key("sender"), &raw.sender)?,
        confirm_within: duration(&key("confirm_within"), &raw.confirm_within, CONFIRMATIONS)?,
        poll_every: duration(&key("poll_every"), &raw.poll_every, POLLS)?,
        remind_after: duration(&key("remind_after"), &raw.remind_after, CONFIRMATIONS)?,
        reminder: fitting(&key("reminder"), &raw.reminder, HEADING_LEN_MAX)?,
        escalate_to: employee(&key("escalate_to"), &raw.escalate_to)?,
        escalation: fitting(&key("escalation"), &raw.escalation, HEADING_LEN_MAX)?,
        batch_max: small(&key("batch_max"), raw.batch_max, BATCH_MAX)?,
        callbacks: crypt(token, aes_key, place, environment)?,
    };
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Template])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        // Nothing tells whether an employee has an application's message.
        receipts: messages == To::Customers,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Wecom(link),
    })
}
