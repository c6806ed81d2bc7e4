//! One recipient of a request, with its parameters.

use std::collections::BTreeMap;

use super::enums::recipient_kind;
use super::template::bad_values;
use super::time::start;
use super::{Invalid, Lines, Pairs, Problem, Spec, check_count, check_text, required, text};
use crate::admission::Item;
use crate::domain::job::Kind;
use crate::domain::recipient::{InvalidMsisdn, Recipient, Wechat, Wecom};
use crate::domain::template::BadValues;
use crate::domain::text::is_name;
use crate::pb;
use crate::policy::zones;

/// Most characters in ids and keys that the tenant chooses.
pub(super) const WORD_CHARS_MAX: usize = 128;
/// Most characters in an account's id.
const ACCOUNT_CHARS_MAX: usize = 64;
/// Most openids of a recipient.
const WECHAT_MAX: usize = 8;
/// Longest locale that BCP 47 asks implementations to take.
pub(super) const LOCALE_CHARS_MAX: usize = 35;
/// Most parameters of a job.
pub(super) const PARAMS_MAX: usize = 32;
/// Most characters in a parameter's value.
pub(super) const PARAM_CHARS_MAX: usize = 1_000;

/// Checks item `index` of a request against what its spec needs.
///
/// # Errors
/// The first field that is wrong; its path starts at the item.
pub(crate) fn item(index: u32, raw: pb::BatchItem, spec: &Spec) -> Result<Item, Invalid> {
    let recipient = recipient(raw.recipient).map_err(|invalid| invalid.within("recipient"))?;
    if let Some(missing) = missing_address(spec.kind, &recipient) {
        return Err(Invalid::new("recipient", Problem::NoAddress(missing)));
    }
    for (at, step) in spec.fallback.iter().enumerate() {
        if let Some(missing) = missing_address(step.kind, &recipient) {
            return Err(Invalid::new("recipient", Problem::NoAddressForStep(at, step.kind, missing)));
        }
    }
    Ok(Item {
        index,
        recipient,
        params: params(raw.params, spec)?,
        cancel_key: text("cancel_key", raw.cancel_key, WORD_CHARS_MAX)?,
        collapse_key: text("collapse_key", raw.collapse_key, WORD_CHARS_MAX)?,
        send_at: raw.send_at.map(|at| start("send_at", &at, spec.now)).transpose()?,
    })
}

/// Checks a recipient, whatever addresses it has.
///
/// # Errors
/// The first field that is wrong; its path starts at the recipient.
pub(crate) fn recipient(raw: Option<pb::Recipient>) -> Result<Recipient, Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("", Problem::Missing))?;
    check_count("wechat", raw.wechat.len(), WECHAT_MAX)?;
    let wechat = raw.wechat.into_iter().enumerate();
    Ok(Recipient {
        id: optional(text("recipient_id", raw.recipient_id, WORD_CHARS_MAX)?),
        kind: recipient_kind("kind", raw.kind)?,
        phone: match raw.phone.parse() {
            Ok(phone) => Some(phone),
            Err(InvalidMsisdn::Empty) => None,
            Err(error) => return Err(Invalid::new("phone", error)),
        },
        wechat: wechat
            .map(|(index, at)| self::wechat(at).map_err(|invalid| invalid.at("wechat", index)))
            .collect::<Result<_, _>>()?,
        wecom: raw.wecom.map(wecom).transpose().map_err(|invalid| invalid.within("wecom"))?,
        wecom_chat_id: optional(text("wecom_chat_id", raw.wecom_chat_id, WORD_CHARS_MAX)?),
        wecom_userid: optional(text("wecom_userid", raw.wecom_userid, WORD_CHARS_MAX)?),
        time_zone: zone("time_zone", raw.time_zone)?,
        locale: optional(locale("locale", raw.locale)?),
    })
}

fn wechat(raw: pb::WechatAddress) -> Result<Wechat, Invalid> {
    Ok(Wechat {
        appid: required("appid", raw.appid, ACCOUNT_CHARS_MAX)?,
        openid: required("openid", raw.openid, WORD_CHARS_MAX)?,
    })
}

fn wecom(raw: pb::WecomAddress) -> Result<Wecom, Invalid> {
    Ok(Wecom {
        corp_id: required("corp_id", raw.corp_id, ACCOUNT_CHARS_MAX)?,
        external_userid: required("external_userid", raw.external_userid, WORD_CHARS_MAX)?,
    })
}

pub(super) fn zone(field: &str, raw: String) -> Result<Option<Box<str>>, Invalid> {
    if raw.is_empty() {
        return Ok(None);
    }
    zones::named(&raw).ok_or_else(|| Invalid::new(field, Problem::Zone))?;
    Ok(Some(raw.into_boxed_str()))
}

/// Checks a locale: its form, not whether anybody speaks it.
pub(super) fn locale(field: &str, raw: String) -> Result<Box<str>, Invalid> {
    let tag = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    if raw.is_empty() || (raw.len() <= LOCALE_CHARS_MAX && raw.split('-').all(tag)) {
        Ok(raw.into_boxed_str())
    } else {
        Err(Invalid::new(field, Problem::Locale))
    }
}

fn params(raw: BTreeMap<String, String>, spec: &Spec) -> Result<Pairs, Invalid> {
    check_count("params", raw.len(), PARAMS_MAX)?;
    let steps = spec.fallback.iter().flat_map(|step| &step.placeholders);
    if let Some(name) = spec.placeholders.iter().chain(steps).find(|name| !raw.contains_key(&***name)) {
        return Err(Invalid::new("params", Problem::NoParam(name.clone())));
    }
    let params: Pairs = raw
        .into_iter()
        .map(|(name, value)| {
            if !is_name(&name) {
                return Err(Invalid::new("params", Problem::ParamName));
            }
            check_text(&format!("params[{name}]"), &value, PARAM_CHARS_MAX, Lines::Many)?;
            Ok((name.into_boxed_str(), value.into_boxed_str()))
        })
        .collect::<Result<_, _>>()?;
    values(spec, &params).map_err(bad_values)?;
    Ok(params)
}

/// Says whether parameters fill all the templates of a spec and its steps, and are known to one of them. A text takes any
/// others.
fn values(spec: &Spec, params: &Pairs) -> Result<(), BadValues> {
    let of_steps = || spec.fallback.iter().map(|step| step.template.as_ref());
    let all = || std::iter::once(spec.template.as_ref()).chain(of_steps());
    match (&spec.template, spec.fallback.is_empty()) {
        (Some(template), true) => return template.check(params),
        _ => all().flatten().try_for_each(|template| template.fits(params))?,
    }
    if all().any(|template| template.is_none()) {
        return Ok(());
    }
    let known: Vec<Box<str>> =
        all().flatten().flat_map(|template| &template.variables).map(|variable| variable.name.clone()).collect();
    match params.iter().find(|(name, _)| !known.contains(name)) {
        Some((name, _)) => {
            let template = spec.template.as_ref().map_or_else(Box::default, |template| template.name.clone());
            Err(BadValues::Unknown { name: name.clone(), template, known })
        }
        None => Ok(()),
    }
}

/// Returns what a recipient lacks to be reached by `kind`.
fn missing_address(kind: Kind, recipient: &Recipient) -> Option<&'static str> {
    match kind {
        Kind::Sms | Kind::Call => recipient.phone.is_none().then_some("phone"),
        Kind::Template => {
            let reachable = !recipient.wechat.is_empty()
                || recipient.wecom.is_some()
                || recipient.wecom_chat_id.is_some()
                || recipient.wecom_userid.is_some();
            (!reachable).then_some("wechat, wecom, wecom_chat_id or wecom_userid")
        }
    }
}

fn optional(value: Box<str>) -> Option<Box<str>> {
    (!value.is_empty()).then_some(value)
}
