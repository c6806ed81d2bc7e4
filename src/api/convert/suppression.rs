//! Opt-outs.

use super::enums::{kind_filter, kind_to_pb, known, source_to_pb};
use super::select::one_address;
use super::spec::LABEL_CHARS_MAX;
use super::{Invalid, Problem, moment_to_pb, text};
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::keys::space;
use crate::domain::suppression::{Scope, Suppression};
use crate::pb;
use crate::seal::Sealer;

/// How far an opt-out reaches: its scope and, where it binds one alone, its kind.
pub(crate) type Reach = (Scope, Option<Kind>);

/// Checks an opt-out of `tenant`; returns its address, how far it reaches, and the word that its scope names.
///
/// # Errors
/// The first field that is wrong; its path starts at the opt-out.
pub(crate) fn suppression(
    raw: pb::Suppression,
    tenant: &TenantId,
    sealer: &Sealer,
) -> Result<(Box<str>, Reach, Box<str>), Invalid> {
    let (reach, word) = reach(&raw, tenant, sealer)?;
    let address = one_address(raw.address).map_err(|invalid| invalid.within("address"))?;
    Ok((address, reach, word))
}

/// Checks how far an opt-out of `tenant` reaches, and returns the word that its scope names.
///
/// # Errors
/// The first field that is wrong; its path starts at the opt-out.
pub(crate) fn reach(raw: &pb::Suppression, tenant: &TenantId, sealer: &Sealer) -> Result<(Reach, Box<str>), Invalid> {
    use pb::SuppressionScope as Raw;
    let kind = kind_filter("kind", raw.kind)?;
    let word = text("word", raw.word.clone(), LABEL_CHARS_MAX)?;
    let scope = known::<Raw>("scope", raw.scope)?.unwrap_or(Raw::Brand);
    let takes_word = matches!(scope, Raw::Sender | Raw::Signature | Raw::Topic);
    let scope = match scope {
        Raw::Unspecified | Raw::Brand => Scope::Brand,
        Raw::Everything => Scope::Everything,
        Raw::Sender => Scope::Sender(sealer.word_key(tenant, space::SENDER, &word)),
        Raw::Signature => Scope::Signature(sealer.word_key(tenant, space::SIGNATURE, &word)),
        Raw::Topic => Scope::Topic(sealer.word_key(tenant, space::TOPIC, &word)),
        Raw::Global => Scope::Global,
    };
    if takes_word == word.is_empty() {
        return Err(Invalid::new("word", Problem::WordAndScope));
    }
    Ok(((scope, kind), word))
}

/// Shows an opt-out. `shown` is the request's own word and address; what is stored are keyed hashes.
pub(crate) fn suppression_to_pb(suppression: &Suppression, shown: Option<&pb::Suppression>) -> pb::Suppression {
    let scope = match suppression.scope {
        Scope::Sender(_) => pb::SuppressionScope::Sender,
        Scope::Signature(_) => pb::SuppressionScope::Signature,
        Scope::Topic(_) => pb::SuppressionScope::Topic,
        Scope::Brand => pb::SuppressionScope::Brand,
        Scope::Everything => pb::SuppressionScope::Everything,
        Scope::Global => pb::SuppressionScope::Global,
    };
    pb::Suppression {
        address: shown.and_then(|shown| shown.address.clone()),
        scope: scope.into(),
        word: shown.map(|shown| shown.word.clone()).unwrap_or_default(),
        kind: suppression.kind.map_or(0, |kind| kind_to_pb(kind).into()),
        source: source_to_pb(suppression.source).into(),
        at: Some(moment_to_pb(suppression.at)),
    }
}

/// Shows an address as [`one_address`] returned it.
pub(crate) fn address_to_pb(address: &str) -> pb::Recipient {
    let mut shown = pb::Recipient::default();
    let two = |rest: &str| {
        let (account, id) = rest.split_once('/').unwrap_or((rest, ""));
        (account.to_owned(), id.to_owned())
    };
    match address.split_once(':') {
        Some(("wechat", rest)) => {
            let (appid, openid) = two(rest);
            shown.wechat.push(pb::WechatAddress { appid, openid });
        }
        Some(("wecom", rest)) => {
            let (corp_id, external_userid) = two(rest);
            shown.wecom = Some(pb::WecomAddress { corp_id, external_userid });
        }
        Some(("wecom-chat", id)) => id.clone_into(&mut shown.wecom_chat_id),
        Some(("wecom-user", id)) => id.clone_into(&mut shown.wecom_userid),
        Some(_) | None => address.clone_into(&mut shown.phone),
    }
    shown
}
