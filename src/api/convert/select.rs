//! Which jobs a request means.

use std::borrow::Cow;

use uuid::Uuid;

use super::enums::{self, class_filter, kind_filter};
use super::item::{WORD_CHARS_MAX, recipient};
use super::{Invalid, Problem, check_count, moment, not_yet, required, text};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::Kind;
use crate::domain::keys::{WordKey, space};
use crate::domain::recipient::Recipient;
use crate::domain::rule::Names;
use crate::ledger::Filter;
use crate::pb;
use crate::seal::{Sealer, job_address};

/// Most jobs named one by one.
const JOB_IDS_MAX: usize = 1_000;

/// Checks a selector of `tenant`'s jobs.
///
/// # Errors
/// The first field that is wrong; its path starts at the selector.
pub(crate) fn select(raw: Option<pb::JobSelector>, tenant: &TenantId, sealer: &Sealer) -> Result<Vec<Names>, Invalid> {
    use pb::job_selector::By;
    let by = raw.and_then(|raw| raw.by).ok_or_else(|| Invalid::new("", Problem::Missing))?;
    let word = |space: &str, field: &str, raw: String| {
        Ok(Some(sealer.word_key(tenant, space, &required(field, raw, WORD_CHARS_MAX)?)))
    };
    let none = Names::default();
    Ok(vec![match by {
        By::Jobs(jobs) => {
            return Ok(job_ids("jobs.job_ids", &jobs.job_ids)?.into_iter().map(Names::job).collect());
        }
        By::CancelKey(raw) => Names { cancel_key: word(space::CANCEL_KEY, "cancel_key", raw)?, ..none },
        By::BatchId(raw) => Names { batch: Some(batch_id(&raw)?), ..none },
        By::CampaignId(raw) => Names { campaign: word(space::CAMPAIGN, "campaign_id", raw)?, ..none },
        By::RunId(raw) => Names { run: word(space::RUN, "run_id", raw)?, ..none },
        By::Recipient(raw) => named(raw, tenant, sealer).map_err(|invalid| invalid.within("recipient"))?,
        By::Filter(raw) => names(raw, tenant, sealer).map_err(|invalid| invalid.within("filter"))?,
    }])
}

/// Checks a filter that names `tenant`'s jobs for a rule.
fn names(raw: pb::JobFilter, tenant: &TenantId, sealer: &Sealer) -> Result<Names, Invalid> {
    not_yet("state", raw.state == 0, "naming jobs by state is")?;
    let recipient = raw.recipient.clone().map(|raw| named(raw, tenant, sealer)).transpose();
    let Names { recipient, address, .. } =
        recipient.map_err(|invalid| invalid.within("recipient"))?.unwrap_or_default();
    let Filter { batch, campaign, run, kind, class, cancel_key, from, to, .. } = filter(Some(raw), tenant, sealer)?;
    Ok(Names { cancel_key, recipient, address, batch, campaign, run, kind, class, from, to, ..Names::default() })
}

/// Returns the names of a recipient, who is meant by its id or its one address.
fn named(raw: pb::Recipient, tenant: &TenantId, sealer: &Sealer) -> Result<Names, Invalid> {
    let (recipient, kind) = meant(Some(raw))?;
    let address = job_address(kind, &recipient).filter(|_| recipient.id.is_none());
    Ok(Names {
        recipient: Some(sealer.recipient_key(tenant, &recipient, kind)),
        address: address.map(|address| sealer.address_key(&address)),
        ..Names::default()
    })
}

/// Checks a filter over `tenant`'s jobs.
///
/// # Errors
/// The first field that is wrong; its path starts at the filter.
pub(crate) fn filter(raw: Option<pb::JobFilter>, tenant: &TenantId, sealer: &Sealer) -> Result<Filter, Invalid> {
    let Some(raw) = raw else { return Ok(Filter::default()) };
    enums::known::<pb::State>("state", raw.state)?;
    not_yet("state", raw.state == 0, "lists by state are")?;
    not_yet("labels", raw.labels.is_empty(), "lists by label are")?;
    let word = |space: &str, field: &str, raw: String| -> Result<Option<WordKey>, Invalid> {
        let word = text(field, raw, WORD_CHARS_MAX)?;
        Ok((!word.is_empty()).then(|| sealer.word_key(tenant, space, &word)))
    };
    let from = raw.accepted_from.map(|at| moment("accepted_from", &at)).transpose()?;
    let to = raw.accepted_to.map(|at| moment("accepted_to", &at)).transpose()?;
    if from.zip(to).is_some_and(|(from, to)| to <= from) {
        return Err(Invalid::new("accepted_to", Problem::EndsFirst));
    }
    let mut filter = Filter {
        batch: if raw.batch_id.is_empty() { None } else { Some(batch_id(&raw.batch_id)?) },
        campaign: word(space::CAMPAIGN, "campaign_id", raw.campaign_id)?,
        run: word(space::RUN, "run_id", raw.run_id)?,
        kind: kind_filter("kind", raw.kind)?,
        class: class_filter("class", raw.class)?,
        cancel_key: word(space::CANCEL_KEY, "cancel_key", raw.cancel_key)?,
        from,
        to,
        ..Filter::default()
    };
    if raw.recipient.is_some() {
        let (recipient, kind) = meant(raw.recipient).map_err(|invalid| invalid.within("recipient"))?;
        match &recipient.id {
            Some(id) => filter.recipient = Some(sealer.recipient_id_key(tenant, id)),
            None => filter.address = job_address(kind, &recipient).map(|address| sealer.address_key(&address)),
        }
    }
    Ok(filter)
}

/// Checks a list of job ids.
pub(crate) fn job_ids(field: &str, raw: &[String]) -> Result<Vec<JobId>, Invalid> {
    check_count(field, raw.len(), JOB_IDS_MAX)?;
    if raw.is_empty() {
        return Err(Invalid::new(field, Problem::Missing));
    }
    raw.iter().enumerate().map(|(index, id)| job_id("", id).map_err(|invalid| invalid.at(field, index))).collect()
}

/// Checks a job's id.
pub(crate) fn job_id(field: &str, raw: &str) -> Result<JobId, Invalid> {
    if raw.is_empty() {
        return Err(Invalid::new(field, Problem::Missing));
    }
    raw.parse().map_err(|error: crate::domain::ids::InvalidJobId| Invalid::new(field, error))
}

/// Checks that exactly one address is given, and returns it as jobs use it.
///
/// # Errors
/// The first field that is wrong; its path starts at the recipient.
pub(crate) fn one_address(raw: Option<pb::Recipient>) -> Result<Box<str>, Invalid> {
    let recipient = recipient(raw)?;
    let kind = address_kind(&recipient)?;
    let address = job_address(kind, &recipient).map(Cow::into_owned);
    address.map(String::into_boxed_str).ok_or_else(|| Invalid::new("", Problem::NotOneAddress))
}

/// Returns the recipient that is meant, by its id or its one address, with a kind that uses that address.
fn meant(raw: Option<pb::Recipient>) -> Result<(Recipient, Kind), Invalid> {
    let recipient = recipient(raw)?;
    let kind = if recipient.id.is_some() { Kind::Sms } else { address_kind(&recipient)? };
    Ok((recipient, kind))
}

fn address_kind(recipient: &Recipient) -> Result<Kind, Invalid> {
    let phones = usize::from(recipient.phone.is_some());
    let others = recipient.wechat.len()
        + usize::from(recipient.wecom.is_some())
        + usize::from(recipient.wecom_chat_id.is_some())
        + usize::from(recipient.wecom_userid.is_some());
    match (phones, others) {
        (1, 0) => Ok(Kind::Sms),
        (0, 1) => Ok(Kind::Template),
        _ => Err(Invalid::new("", Problem::NotOneAddress)),
    }
}

fn batch_id(raw: &str) -> Result<Uuid, Invalid> {
    if raw.is_empty() {
        return Err(Invalid::new("batch_id", Problem::Missing));
    }
    Uuid::try_parse(raw).map_err(|_| Invalid::new("batch_id", Problem::BatchId))
}
