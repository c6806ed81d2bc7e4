//! Opt-outs.

use super::enums::{kind_filter, known, source_to_pb};
use super::spec::LABEL_CHARS_MAX;
use super::{Invalid, Problem, moment_to_pb, not_yet, text};
use crate::domain::ids::TenantId;
use crate::domain::keys::space;
use crate::domain::suppression::{Scope, Suppression};
use crate::pb;
use crate::seal::Sealer;

/// Checks how far an opt-out of `tenant` reaches.
///
/// # Errors
/// The first field that is wrong; its path starts at the suppression.
pub(crate) fn scope(raw: &pb::Suppression, tenant: &TenantId, sealer: &Sealer) -> Result<Scope, Invalid> {
    use pb::SuppressionScope as Raw;
    let kind = kind_filter("kind", raw.kind)?;
    not_yet("kind", kind.is_none(), "an opt-out of one kind alone is")?;
    let word = text("word", raw.word.clone(), LABEL_CHARS_MAX)?;
    let scope = known::<Raw>("scope", raw.scope)?.unwrap_or(Raw::Brand);
    let takes_word = matches!(scope, Raw::Sender | Raw::Topic);
    let scope = match scope {
        Raw::Unspecified | Raw::Brand => Scope::Brand,
        Raw::Everything => Scope::Everything,
        Raw::Sender => Scope::Sender(sealer.word_key(tenant, space::SENDER, &word)),
        Raw::Topic => Scope::Topic(sealer.word_key(tenant, space::TOPIC, &word)),
        Raw::Signature => return Err(Invalid::new("scope", Problem::NotYet("opt-outs by signature are"))),
        Raw::Global => return Err(Invalid::new("scope", Problem::NotYet("opt-outs from all tenants are"))),
    };
    if takes_word == word.is_empty() {
        return Err(Invalid::new("word", Problem::WordAndScope));
    }
    Ok(scope)
}

/// Shows an opt-out. `shown` is the request's own word and address; what is stored are keyed hashes.
pub(crate) fn suppression_to_pb(suppression: &Suppression, shown: Option<&pb::Suppression>) -> pb::Suppression {
    let scope = match suppression.scope {
        Scope::Sender(_) => pb::SuppressionScope::Sender,
        Scope::Topic(_) => pb::SuppressionScope::Topic,
        Scope::Brand => pb::SuppressionScope::Brand,
        Scope::Everything => pb::SuppressionScope::Everything,
    };
    pb::Suppression {
        address: shown.and_then(|shown| shown.address.clone()),
        scope: scope.into(),
        word: shown.map(|shown| shown.word.clone()).unwrap_or_default(),
        kind: 0,
        source: source_to_pb(suppression.source).into(),
        at: Some(moment_to_pb(suppression.at)),
    }
}
