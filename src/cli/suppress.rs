//! `postrider suppress`.

mod bulk;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::To;
use super::args::Address;
use super::connect::Failure;
use super::print::{self, word};
use crate::pb;

pub(super) const EXAMPLES: &str = "Examples:
  postrider suppress add +8613800000000
  postrider suppress add +8613800000000 --scope topic --word sale
  postrider suppress remove +8613800000000
  postrider suppress check +8613800000000 --json
  postrider suppress import opt-outs.csv
  postrider suppress export > opt-outs.csv";

/// What to do with opt-outs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Opt an address out
    Add(OptOut),
    /// Take an opt-out back
    Remove(OptOut),
    /// Show which opt-outs hold for an address
    Check {
        /// The address: +NUMBER, wechat:APPID/OPENID, wecom:CORP/USER, chat:ID or user:ID
        address: Address,
    },
    /// Opt out many: one a line, ADDRESS[,SCOPE[,WORD[,KIND]]]
    Import {
        /// The file; - for standard input
        file: PathBuf,
    },
    /// Print all opt-outs, as an import reads them
    Export,
}

/// An opt-out.
#[derive(Args, Debug)]
pub struct OptOut {
    /// The address: +NUMBER, wechat:APPID/OPENID, wecom:CORP/USER, chat:ID or user:ID
    address: Address,
    /// How far it reaches
    #[arg(long, value_enum, default_value = "brand")]
    scope: Scope,
    /// The sender, signature or topic that the scope names
    #[arg(long, default_value = "", hide_default_value = true)]
    word: String,
    /// The kind that it binds; every kind that uses the address, unless given
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// How far an opt-out reaches.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Scope {
    /// What one sender sends
    Sender,
    /// What carries one signature
    Signature,
    /// What is about one topic
    Topic,
    /// Marketing and notification: what STOP means
    Brand,
    /// Everything, one-time passwords included
    Everything,
    /// Marketing and notification of every tenant, for operators
    Global,
}

/// By which means a job reaches its recipient.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Kind {
    /// Text messages
    Sms,
    /// Template messages
    Template,
    /// Calls
    Call,
}

impl Command {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let mut client = to.service.suppressions();
        match self {
            Self::Add(opt_out) => {
                let request = pb::SuppressionServiceAddRequest { suppression: Some(opt_out.into_pb()) };
                let kept = client.add(request).await?.into_inner().suppression.unwrap_or_default();
                to.out.object(&shown(&kept), || "opted out".into())?;
            }
            Self::Remove(opt_out) => {
                let suppression = opt_out.into_pb();
                let mut gone = shown(&suppression);
                gone["removed"] = json!(true);
                client.remove(pb::SuppressionServiceRemoveRequest { suppression: Some(suppression) }).await?;
                to.out.object(&gone, || "opted in again".into())?;
            }
            Self::Import { file } => bulk::import(to, &file).await?,
            Self::Export => bulk::export(to).await?,
            Self::Check { address: Address(address) } => {
                let request = pb::SuppressionServiceCheckRequest { address: Some(address) };
                let found = client.check(request).await?.into_inner();
                let rows: Vec<_> = found.suppressions.iter().map(shown).collect();
                to.out.object(&json!({"suppressed": found.suppressed, "suppressions": rows}), || {
                    let line = |row: &Value| format!("\n  {} by {} at {}", row["scope"], row["source"], row["at"]);
                    let head = if found.suppressed { "suppressed" } else { "not suppressed" };
                    format!("{head}{}", rows.iter().map(line).collect::<String>().replace('"', ""))
                })?;
            }
        }
        Ok(())
    }
}

impl OptOut {
    fn into_pb(self) -> pb::Suppression {
        let scope = match self.scope {
            Scope::Sender => pb::SuppressionScope::Sender,
            Scope::Signature => pb::SuppressionScope::Signature,
            Scope::Topic => pb::SuppressionScope::Topic,
            Scope::Brand => pb::SuppressionScope::Brand,
            Scope::Everything => pb::SuppressionScope::Everything,
            Scope::Global => pb::SuppressionScope::Global,
        };
        let kind = self.kind.map_or(pb::Kind::Unspecified, |kind| match kind {
            Kind::Sms => pb::Kind::Sms,
            Kind::Template => pb::Kind::Template,
            Kind::Call => pb::Kind::Call,
        });
        let Address(address) = self.address;
        pb::Suppression {
            address: Some(address),
            scope: scope.into(),
            word: self.word,
            kind: kind.into(),
            ..pb::Suppression::default()
        }
    }
}

fn shown(suppression: &pb::Suppression) -> Value {
    json!({
        "scope": word(suppression.scope().as_str_name(), "SUPPRESSION_SCOPE_"),
        "word": suppression.word,
        "kind": if suppression.kind == 0 { None } else { Some(word(suppression.kind().as_str_name(), "KIND_")) },
        "source": word(suppression.source().as_str_name(), "SUPPRESSION_SOURCE_"),
        "at": print::time(suppression.at.as_ref()),
    })
}
