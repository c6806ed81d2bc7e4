//! `postrider tenant` and `postrider key`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::To;
use super::args::{self, Cap, Moment, SenderPool};
use super::connect::Failure;
use super::print::{self, word};
use super::quota::{self, Quota};
use super::window;
use super::window::Window;
use crate::api;
use crate::config;
use crate::domain::rate::Rate;
use crate::pb;

pub(super) const EXAMPLES: &str = "Examples:
  postrider tenant create acme --name 'Acme Ltd' --rate 500/s
  postrider tenant set acme --cap daily=3/24h,class=marketing --cap weekly=7/7d,drop,class=marketing
  postrider tenant set acme --window 'day=mon-fri 09:00-12:00 CN;14:00-18:00,class=marketing' --window 'call=10:00-12:00,drop,kind=call'
  postrider tenant set acme --quota daily=100000/day --quota 'budget=1000 CNY/month'
  postrider tenant set acme --sender-pool staff=li,wang,zhao
  postrider tenant set acme --no-rate
  postrider tenant list --json";

pub(super) const KEY_EXAMPLES: &str = "Examples:
  postrider key create --tenant acme --role submitter
  postrider key create --role viewer --expires +90d
  postrider key list --tenant acme
  postrider key revoke 5c1f0e7a9b3d2c48";

/// What to do with tenants.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create a tenant
    Create {
        /// Its id: a-z, 0-9, '-' and '_'
        tenant_id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List tenants
    List,
    /// Change the settings that are given, and no others
    Set {
        /// Its id
        tenant_id: String,
        #[command(flatten)]
        settings: Settings,
    },
}

/// A tenant's settings.
#[derive(Args, Debug)]
pub struct Settings {
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// How fast its jobs leave, such as 500/s or 500/s:1000 (burst)
    #[arg(long)]
    rate: Option<Rate>,
    /// As fast as providers allow
    #[arg(long, conflicts_with = "rate")]
    no_rate: bool,
    /// How fast it may submit, in jobs
    #[arg(long)]
    ingress_rate: Option<Rate>,
    /// As fast as the service allows
    #[arg(long, conflicts_with = "ingress_rate")]
    no_ingress_rate: bool,
    /// Most jobs accepted and not settled
    #[arg(long)]
    outstanding_max: Option<u64>,
    /// How often a recipient may be reached, as `NAME=LIMIT/WINDOW` with a window such as `24h`, `calendar day`, `clock
    /// hour +08:00`, `from_first 24h`, `gap 4h` or `bucket 8h`; then if wanted `,drop` `,shadow` `,delivered` `,segments`
    /// `,class=..` `,kind=..` `,topic=..` `,sender=..` `,per=..` `,reserve=..`; or `preset=NAME`; replaces all caps
    #[arg(long = "cap", value_name = "CAP")]
    caps: Vec<Cap>,
    /// No caps at all
    #[arg(long, conflicts_with = "caps")]
    no_caps: bool,
    /// When jobs may be sent, as `NAME=HOURS`, then more hours after `;`, then if wanted `,drop` `,class=..` `,kind=..`
    /// `,topic=..` `,sender=..` `,pool=..`; replaces all windows
    #[arg(long = "window", value_name = "WINDOW")]
    windows: Vec<Window>,
    /// Where it is, such as Asia/Shanghai: for calendar windows of caps, where a recipient's own zone is unknown; empty: UTC
    #[arg(long)]
    time_zone: Option<String>,
    /// The most that it may have accepted or spend, as `NAME=JOBS/day`, `NAME=JOBS/month`, or with an amount such as `1000
    /// CNY` instead of the jobs; replaces all quotas
    #[arg(long = "quota", value_name = "QUOTA")]
    quotas: Vec<Quota>,
    /// No quotas at all
    #[arg(long, conflicts_with = "quotas")]
    no_quotas: bool,
    /// A further word that asks for nothing more, beside STOP and the like; replaces all
    #[arg(long = "stop-word", value_name = "WORD")]
    stop_words: Vec<String>,
    /// A further word that takes that back, beside START; replaces all
    #[arg(long = "start-word", value_name = "WORD")]
    start_words: Vec<String>,
    /// Only the shipped words
    #[arg(long, conflicts_with_all = ["stop_words", "start_words"])]
    no_words: bool,
    /// The windows of the service
    #[arg(long, conflicts_with = "windows")]
    no_windows: bool,
    /// Senders that stand in for one another, as `NAME=SENDER,SENDER,..`: a job with the sender NAME leaves from one of them,
    /// and a recipient keeps theirs; replaces all pools of senders
    #[arg(long = "sender-pool", value_name = "POOL")]
    sender_pools: Vec<SenderPool>,
    /// No pools of senders at all
    #[arg(long, conflicts_with = "sender_pools")]
    no_sender_pools: bool,
}

/// What to do with keys.
#[derive(Subcommand, Debug)]
pub enum KeyCommand {
    /// Create a key and print it, this once
    Create {
        /// Whose; without it, your own tenant's
        #[arg(long, default_value = "", hide_default_value = true)]
        tenant: String,
        /// What it may do
        #[arg(long, value_enum, default_value = "submitter")]
        role: Role,
        /// From when on it is refused: a time with its offset, or a delay such as +90d; without it, it holds until it is
        /// revoked
        #[arg(long)]
        expires: Option<Moment>,
    },
    /// List keys without their secrets
    List {
        /// Whose; without it, your own tenant's
        #[arg(long, default_value = "", hide_default_value = true)]
        tenant: String,
    },
    /// Revoke a key
    Revoke {
        /// The public part of the key, between pr_ and the next _
        key_id: String,
    },
}

/// What a key may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// Submit, cancel and read its tenant's jobs
    Submitter,
    /// Read its tenant's jobs
    Viewer,
    /// Everything of its tenant
    Admin,
    /// Everything of its tenant, and tenants, keys and providers of all
    Operator,
}

impl Command {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let mut client = to.service.tenants();
        match self {
            Self::Create { tenant_id, settings } => {
                let (tenant, _) = settings.into_pb(tenant_id);
                let request = pb::CreateTenantRequest { tenant: Some(tenant) };
                show(&to, client.create_tenant(request).await?.into_inner().tenant)
            }
            Self::Set { tenant_id, settings } => {
                let (tenant, paths) = settings.into_pb(tenant_id);
                if paths.is_empty() {
                    return Err(Failure::Usage("nothing to set; see `postrider tenant set --help`".into()));
                }
                let update_mask = Some(prost_types::FieldMask { paths: paths.into_iter().map(String::from).collect() });
                let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
                show(&to, client.update_tenant(request).await?.into_inner().tenant)
            }
            Self::List => {
                let (mut rows, mut page_token) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListTenantsRequest { page_size: 1000, page_token };
                    let page = client.list_tenants(request).await?.into_inner();
                    rows.extend(page.tenants.iter().map(tenant_json));
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        break;
                    }
                }
                to.out.list(
                    &[
                        "tenant_id",
                        "display_name",
                        "rate",
                        "ingress_rate",
                        "outstanding_max",
                        "caps",
                        "windows",
                        "quotas",
                    ],
                    &rows,
                )?;
                Ok(())
            }
        }
    }
}

impl Settings {
    /// Returns the tenant, and which of its fields were given.
    fn into_pb(self, tenant_id: String) -> (pb::Tenant, Vec<&'static str>) {
        let given = [
            ("display_name", self.name.is_some()),
            ("rate", self.rate.is_some() || self.no_rate),
            ("ingress_rate", self.ingress_rate.is_some() || self.no_ingress_rate),
            ("outstanding_max", self.outstanding_max.is_some()),
            ("caps", !self.caps.is_empty() || self.no_caps),
            ("windows", !self.windows.is_empty() || self.no_windows),
            ("time_zone", self.time_zone.is_some()),
            ("stop_words", !self.stop_words.is_empty() || self.no_words),
            ("start_words", !self.start_words.is_empty() || self.no_words),
            ("quotas", !self.quotas.is_empty() || self.no_quotas),
            ("sender_pools", !self.sender_pools.is_empty() || self.no_sender_pools),
        ];
        let tenant = pb::Tenant {
            tenant_id,
            display_name: self.name.unwrap_or_default(),
            rate: self.rate.map(args::rate),
            ingress_rate: self.ingress_rate.map(args::rate),
            outstanding_max: self.outstanding_max,
            caps: self.caps.into_iter().map(|Cap(cap)| cap).collect(),
            windows: self.windows.into_iter().map(|Window(window)| window).collect(),
            time_zone: self.time_zone.unwrap_or_default(),
            quotas: self.quotas.into_iter().map(|Quota(quota)| quota).collect(),
            stop_words: self.stop_words,
            start_words: self.start_words,
            sender_pools: self.sender_pools.into_iter().map(|SenderPool(pool)| pool).collect(),
            ..pb::Tenant::default()
        };
        (tenant, given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path).collect())
    }
}

impl KeyCommand {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let mut client = to.service.tenants();
        match self {
            Self::Create { tenant, role, expires } => {
                let expires_at = expires.map(|at| at.resolve(args::now()));
                let request = pb::CreateApiKeyRequest { tenant_id: tenant, role: role.to_pb().into(), expires_at };
                let created = client.create_api_key(request).await?.into_inner();
                let mut shown = key_json(&created.api_key.unwrap_or_default());
                shown["key"] = json!(created.secret);
                to.out.object(&shown, || created.secret.clone())?;
            }
            Self::List { tenant } => {
                let request = pb::ListApiKeysRequest { tenant_id: tenant, page_size: 1000, page_token: String::new() };
                let page = client.list_api_keys(request).await?.into_inner();
                let rows: Vec<_> = page.api_keys.iter().map(key_json).collect();
                to.out.list(&["key_id", "tenant_id", "role", "created_at", "expires_at", "revoked_at"], &rows)?;
            }
            Self::Revoke { key_id } => {
                let request = pb::RevokeApiKeyRequest { key_id };
                let key = client.revoke_api_key(request).await?.into_inner().api_key.unwrap_or_default();
                to.out.object(&key_json(&key), || format!("revoked {}", key.key_id))?;
            }
        }
        Ok(())
    }
}

impl Role {
    fn to_pb(self) -> pb::Role {
        match self {
            Self::Submitter => pb::Role::Submitter,
            Self::Viewer => pb::Role::Viewer,
            Self::Admin => pb::Role::Admin,
            Self::Operator => pb::Role::Operator,
        }
    }
}

fn show(to: &To, tenant: Option<pb::Tenant>) -> Result<(), Failure> {
    let shown = tenant_json(&tenant.unwrap_or_default());
    to.out.object(&shown, || {
        let line = |name: &str| match &shown[name] {
            Value::Null => format!("  {name:<16} -"),
            Value::String(text) => format!("  {name:<16} {text}"),
            other => format!("  {name:<16} {other}"),
        };
        let rates = ["display_name", "rate", "ingress_rate", "outstanding_max"];
        let rest =
            ["caps", "windows", "quotas", "stop_words", "start_words", "sender_pools", "time_zone", "created_at"];
        let lines: Vec<_> = rates.iter().chain(&rest).map(|name| line(name)).collect();
        format!("{}\n{}", shown["tenant_id"].as_str().unwrap_or("-"), lines.join("\n"))
    })?;
    Ok(())
}

fn tenant_json(tenant: &pb::Tenant) -> Value {
    let rate = |rate: &pb::Rate| format!("{}/s:{}", rate.per_second, rate.burst);
    json!({
        "tenant_id": tenant.tenant_id,
        "display_name": tenant.display_name,
        "rate": tenant.rate.as_ref().map(rate),
        "ingress_rate": tenant.ingress_rate.as_ref().map(rate),
        "outstanding_max": tenant.outstanding_max,
        "caps": tenant.caps.iter().map(cap_text).collect::<Vec<_>>(),
        "windows": tenant.windows.iter().map(window::text).collect::<Vec<_>>(),
        "quotas": tenant.quotas.iter().map(quota::text).collect::<Vec<_>>(),
        "stop_words": tenant.stop_words,
        "start_words": tenant.start_words,
        "sender_pools": tenant.sender_pools.iter().map(pool_text).collect::<Vec<_>>(),
        "time_zone": tenant.time_zone,
        "created_at": print::time(tenant.created_at.as_ref()),
    })
}

/// Returns a pool of senders as `--sender-pool` takes it.
fn pool_text(pool: &pb::SenderPool) -> String {
    format!("{}={}", pool.name, pool.senders.join(","))
}

/// Returns a cap as `--cap` takes it.
fn cap_text(cap: &pb::CapRule) -> String {
    let window = cap.window.as_ref().and_then(api::window_from_pb).map_or_else(|| "?".into(), config::window_text);
    let mut text = format!("{}={}/{window}", cap.name, cap.limit);
    if cap.on_limit() == pb::OnLimit::Drop {
        text.push_str(",drop");
    }
    if cap.mode() == pb::RuleMode::Shadow {
        text.push_str(",shadow");
    }
    if cap.unit() == pb::CapUnit::Segments {
        text.push_str(",segments");
    }
    if !matches!(cap.count(), pb::CapCount::Unspecified | pb::CapCount::Submitted) {
        text.push_str(&format!(",{}", word(cap.count().as_str_name(), "CAP_COUNT_")));
    }
    let per = word(cap.per().as_str_name(), "CAP_PER_").replace('_', "+");
    if cap.per() != pb::CapPer::Recipient {
        text.push_str(&format!(",per={per}"));
    }
    if cap.reserve > 0 {
        text.push_str(&format!(",reserve={}", cap.reserve));
    }
    text.push_str(&filter_text(cap.filter.as_ref()));
    text
}

/// Returns a filter as options read.
pub(super) fn filter_text(filter: Option<&pb::RuleFilter>) -> String {
    let mut text = String::new();
    if let Some(filter) = filter {
        let classes = filter.classes().map(|class| ("class", word(class.as_str_name(), "CLASS_")));
        let kinds = filter.kinds().map(|kind| ("kind", word(kind.as_str_name(), "KIND_")));
        let topics = filter.topics.iter().map(|topic| ("topic", topic.clone()));
        let senders = filter.senders.iter().map(|sender| ("sender", sender.clone()));
        for (name, value) in classes.chain(kinds).chain(topics).chain(senders) {
            text.push_str(&format!(",{name}={value}"));
        }
    }
    text
}

fn key_json(key: &pb::ApiKey) -> Value {
    json!({
        "key_id": key.key_id,
        "tenant_id": key.tenant_id,
        "role": word(key.role().as_str_name(), "ROLE_"),
        "created_at": print::time(key.created_at.as_ref()),
        "expires_at": print::time(key.expires_at.as_ref()),
        "revoked_at": print::time(key.revoked_at.as_ref()),
    })
}
