//! Whose jobs they are, and who may ask: tenants and their keys.

pub(super) mod keys;

use std::sync::Arc;

use serde_json::{Value, json};

use super::LedgerError;
use super::columns::{self, missing};
use crate::domain::cap::{CalendarUnit, CapRule};
use crate::domain::ids::TenantId;
use crate::domain::job::Shared;
use crate::domain::quota::{Most, Quota};
use crate::domain::rate::Rate;
use crate::domain::route::RouteRule;
use crate::domain::sender::{self, Member, Reassigned, SenderPool};
use crate::domain::time::UnixMicros;
use crate::domain::window::WindowRule;

pub use self::keys::ApiKey;

/// A tenant with its settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// A name for people.
    pub name: Box<str>,
    /// How fast its jobs leave; `None`: as fast as providers allow.
    pub rate: Option<Rate>,
    /// How fast it may submit, in jobs; `None`: as fast as the service allows.
    pub ingress_rate: Option<Rate>,
    /// Most jobs accepted and not settled; `None`: no limit.
    pub outstanding_max: Option<u64>,
    /// Its caps, at most [`crate::domain::cap::CAP_RULES_MAX`].
    pub caps: Vec<CapRule>,
    /// Its send windows instead of the service's, at most [`crate::domain::window::WINDOW_RULES_MAX`]; none: the
    /// service's.
    pub windows: Vec<Arc<WindowRule>>,
    /// Which pool carries what, at most [`crate::domain::route::ROUTES_MAX`]; asked before the service's.
    pub routes: Vec<Arc<RouteRule>>,
    /// Rates of single senders, at most [`SENDER_RATES_MAX`].
    pub sender_rates: Vec<SenderRate>,
    /// IANA time zone, for calendar windows of recipients whose own is unknown; `None`: UTC.
    pub time_zone: Option<Box<str>>,
    /// The most that it may have accepted, or spend, per day or month; at most [`crate::domain::quota::QUOTAS_MAX`].
    pub quotas: Vec<Quota>,
    /// Further words that ask for nothing more, at most [`WORDS_MAX`]; compared as the shipped ones.
    pub stop_words: Vec<Box<str>>,
    /// Further words that take that back, at most [`WORDS_MAX`].
    pub start_words: Vec<Box<str>>,
    /// Pools of senders, at most [`crate::domain::sender::SENDER_POOLS_MAX`].
    pub sender_pools: Vec<SenderPool>,
    /// Who took over from whom, the oldest first; at most [`crate::domain::sender::REASSIGNED_MAX`].
    pub reassigned: Vec<Reassigned>,
    /// When it was created.
    pub created_at: UnixMicros,
}

/// Most senders of a tenant that have a rate of their own.
pub const SENDER_RATES_MAX: usize = 64;
/// Most opt-out words, and most opt-in words, that a tenant may have of its own.
pub const WORDS_MAX: usize = 64;

/// How fast the jobs of one sender leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SenderRate {
    /// The sender.
    pub sender: Box<str>,
    /// Its rate.
    pub rate: Rate,
}

crate::domain::job::words! {
    /// What a key may do.
    Role {
        /// Submit, cancel and read its tenant's jobs.
        Submitter = "submitter",
        /// Read its tenant's jobs.
        Viewer = "viewer",
        /// Everything of its tenant, and its suppressions.
        Admin = "admin",
        /// Everything of every tenant: tenants, keys, providers.
        Operator = "operator",
    }
}

/// Writes rates of senders as JSON.
pub(super) fn sender_rates_json(rates: &[SenderRate]) -> Value {
    rates.iter().map(|of| json!({ "sender": of.sender, "rate": of.rate.to_string() })).collect()
}

/// Reads rates of senders.
pub(super) fn sender_rates(json: &str) -> Result<Vec<SenderRate>, LedgerError> {
    let read = |of: &Value| {
        let (sender, rate) = (of["sender"].as_str()?, of["rate"].as_str()?.parse().ok()?);
        Some(SenderRate { sender: sender.into(), rate })
    };
    let rates = serde_json::from_str::<Vec<Value>>(json).ok();
    rates.and_then(|rates| rates.iter().map(read).collect()).ok_or_else(|| missing("sender_rates"))
}

/// Writes those settings of a tenant that have no column of their own, as JSON.
pub(super) fn further_json(tenant: &Tenant) -> Value {
    let quota = |quota: &Quota| {
        let (name, most) = match quota.most {
            Most::Jobs(jobs) => ("jobs", json!(jobs)),
            Most::Money(money) => ("money", json!(money.to_string())),
        };
        json!({ "name": quota.name.as_str(), "per": quota.per.as_str(), name: most })
    };
    json!({
        "quotas": tenant.quotas.iter().map(quota).collect::<Value>(),
        "routes": columns::routes_json(&tenant.routes),
        "stop_words": tenant.stop_words,
        "start_words": tenant.start_words,
        "sender_pools": tenant.sender_pools.iter().map(pool_json).collect::<Value>(),
        "reassigned": tenant.reassigned.iter().map(|of| json!([of.from, of.to, of.at.0])).collect::<Value>(),
    })
}

/// Returns the tenant with the settings that [`further_json`] wrote; what it does not name is as a new tenant's.
pub(super) fn with_further(tenant: Tenant, json: &str) -> Result<Tenant, LedgerError> {
    let further: Value = serde_json::from_str(json).map_err(|_| missing("further"))?;
    let quota = |of: &Value| {
        let name = of["name"].as_str()?.parse().ok()?;
        let per = CalendarUnit::from_word(of["per"].as_str()?)?;
        let most = match of["money"].as_str() {
            Some(money) => Most::Money(money.parse().ok()?),
            None => Most::Jobs(of["jobs"].as_u64()?),
        };
        Some(Quota { name, per, most })
    };
    let all = further["quotas"].as_array().into_iter().flatten();
    let quotas = all.map(|of| quota(of).ok_or_else(|| missing("quota"))).collect::<Result<_, _>>()?;
    let routes = match &further["routes"] {
        Value::Null => vec![],
        routes => columns::routes(routes)?,
    };
    let words = |name: &str| -> Result<Vec<Box<str>>, LedgerError> {
        let all = further[name].as_array().into_iter().flatten();
        all.map(|word| word.as_str().map(Into::into).ok_or_else(|| missing("word"))).collect()
    };
    let (stop_words, start_words) = (words("stop_words")?, words("start_words")?);
    let all = |name: &str| further[name].as_array().cloned().unwrap_or_default();
    let sender_pools =
        all("sender_pools").iter().map(pool).collect::<Option<_>>().ok_or_else(|| missing("sender_pools"))?;
    let noted = all("reassigned").iter().map(reassigned).collect::<Option<_>>().ok_or_else(|| missing("reassigned"))?;
    Ok(Tenant { quotas, routes, stop_words, start_words, sender_pools, reassigned: noted, ..tenant })
}

fn pool_json(pool: &SenderPool) -> Value {
    let members = |members: &[Member]| members.iter().map(|of| json!([of.sender, of.since.0])).collect::<Value>();
    json!({ "name": pool.name, "members": members(&pool.members), "left": members(&pool.left) })
}

fn pool(json: &Value) -> Option<SenderPool> {
    let member =
        |of: &Value| Some(Member { sender: of.get(0)?.as_str()?.into(), since: UnixMicros(of.get(1)?.as_i64()?) });
    let members = |name: &str| json.get(name)?.as_array()?.iter().map(member).collect::<Option<Vec<_>>>();
    Some(SenderPool { name: json.get("name")?.as_str()?.into(), members: members("members")?, left: members("left")? })
}

fn reassigned(json: &Value) -> Option<Reassigned> {
    let (from, to) = (json.get(0)?.as_str()?.into(), json.get(1)?.as_str()?.into());
    Some(Reassigned { from, to, at: UnixMicros(json.get(2)?.as_i64()?) })
}

// === impl Tenant ===

impl Tenant {
    /// Returns a tenant without settings, whose name is its id.
    pub fn new(id: TenantId, created_at: UnixMicros) -> Self {
        Self {
            name: id.as_str().into(),
            id,
            rate: None,
            ingress_rate: None,
            outstanding_max: None,
            caps: vec![],
            windows: vec![],
            routes: vec![],
            sender_rates: vec![],
            time_zone: None,
            quotas: vec![],
            stop_words: vec![],
            start_words: vec![],
            sender_pools: vec![],
            reassigned: vec![],
            created_at,
        }
    }

    /// Returns the pool of senders of that name.
    pub fn sender_pool(&self, name: &str) -> Option<&SenderPool> {
        self.sender_pools.iter().find(|pool| *pool.name == *name)
    }

    /// Returns whom jobs leave from as of `at`: the sender that they were accepted with, or who took over from it since.
    pub fn sender_of<'a>(&'a self, shared: &'a Shared, at: UnixMicros) -> &'a str {
        sender::successor(&self.reassigned, &shared.sender, (shared.accepted_at, at)).unwrap_or(&shared.sender)
    }

    /// Returns the rate that a sender has of its own.
    pub fn sender_rate(&self, sender: &str) -> Option<Rate> {
        self.sender_rates.iter().find(|of| *of.sender == *sender).map(|of| of.rate)
    }

    /// Returns the mark that a sender's agenda entries bear: 0 where it has no rate of its own.
    pub fn mark(&self, sender: &str) -> u32 {
        self.sender_rates.iter().find(|of| *of.sender == *sender).map_or(0, SenderRate::mark)
    }

    /// Returns the sender that a mark stands for.
    pub fn marked(&self, mark: u32) -> Option<&SenderRate> {
        self.sender_rates.iter().find(|of| mark != 0 && of.mark() == mark)
    }
}

impl SenderRate {
    fn mark(&self) -> u32 {
        crc32fast::hash(self.sender.as_bytes()).max(1)
    }
}
