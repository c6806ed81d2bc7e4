//! Many opt-outs at once: imports that say how far they are and what they refuse, exports that can be resumed.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use tonic::Status;

use super::may_say;
use crate::api::access::Caller;
use crate::api::convert::{self, Invalid};
use crate::api::status::Error;
use crate::api::{Ports, tokens};
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::suppression::{Plain, Scope, Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::ledger::{Ledger, SealedSuppression};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::queue::frame::open_plain;

/// Most opt-outs in one request of an import.
const REQUEST_MAX: usize = 10_000;
/// Requests in work at a time: one is checked while others become durable.
const IN_WORK_MAX: usize = 4;
/// Refusals that are told in one answer; the rest is counted.
const TOLD_MAX: usize = 100;
/// Opt-outs checked before other tasks get a turn.
const A_TURN: usize = 500;
/// Opt-outs in one answer of an export.
const PAGE: u32 = 2_000;
/// What a page token is for.
const EXPORT: &[u8] = b"opt-outs";
/// Bytes of a place among a tenant's opt-outs: address, scope, word, kind, source.
const PLACE_BYTES: usize = 16 + 1 + 16 + 1 + 1;
/// In a place: every kind.
const ANY_KIND: u8 = u8::MAX;

/// What one request of an import came to.
struct Taken {
    added: usize,
    refused: usize,
    told: Vec<pb::Refusal>,
}

/// Adds what comes in, in order, and answers each request once its opt-outs bind and are durable.
pub(super) fn import<Q: Queue, L: Limits, B: Ledger>(
    ports: Arc<Ports<Q, L, B>>,
    caller: Caller,
    incoming: impl Stream<Item = Result<pb::SuppressionServiceImportRequest, Status>> + Send + 'static,
) -> impl Stream<Item = Result<pb::SuppressionServiceImportResponse, Status>> + Send {
    let stop = ports.tasks.stop().clone();
    let caller = Arc::new(caller);
    let numbered = incoming.take_until(stop.cancelled_owned()).scan(0_usize, |next, request| {
        let first = *next;
        *next += request.as_ref().map_or(0, |request| request.suppressions.len());
        std::future::ready(Some((first, request)))
    });
    let taken = numbered.map(move |(first, request)| {
        let (ports, caller) = (Arc::clone(&ports), Arc::clone(&caller));
        async move { Ok(ports.take(&caller, first, request?.suppressions).await?) }
    });
    taken.buffered(IN_WORK_MAX).scan((0, 0), |(added, refused), taken: Result<Taken, Status>| {
        let answer = taken.map(|taken| {
            *added += taken.added as u64;
            *refused += taken.refused as u64;
            pb::SuppressionServiceImportResponse { added: *added, refused: *refused, refusals: taken.told }
        });
        std::future::ready(Some(answer))
    })
}

/// Streams a tenant's opt-outs from the place that `token` names.
pub(super) fn export<Q: Queue, L: Limits, B: Ledger>(
    ports: Arc<Ports<Q, L, B>>,
    tenant: TenantId,
    token: &str,
) -> Result<impl Stream<Item = Result<pb::SuppressionServiceExportResponse, Status>> + Send + use<Q, L, B>, Error> {
    let after = match token {
        "" => None,
        token => {
            let place = tokens::take(&ports.sealer, &tenant, EXPORT, ("page_token", token))?;
            let invalid = || Invalid::new("page_token", convert::Problem::Token);
            Some(from_place(&tenant, &place).ok_or_else(invalid)?)
        }
    };
    Ok(stream::try_unfold(Some(after), move |from| {
        let (ports, tenant) = (Arc::clone(&ports), tenant.clone());
        async move {
            let Some(after) = from else { return Ok(None) };
            if ports.tasks.stopping() {
                return Err(Error::Refused(crate::admission::Refusal::Draining).into());
            }
            let page =
                ports.ledger.suppressions_after(Some(&tenant), after.as_ref(), PAGE).await.map_err(Error::from)?;
            let full = u32::try_from(page.len()).is_ok_and(|found| found == PAGE);
            let last = page.last().filter(|_| full).map(|row| row.suppression.clone());
            let next_page_token = last
                .as_ref()
                .map_or_else(String::new, |last| tokens::give(&ports.sealer, &tenant, EXPORT, &place(last)));
            let suppressions = page.iter().map(|row| ports.shown(row)).collect();
            let answer = pb::SuppressionServiceExportResponse { suppressions, next_page_token };
            Ok::<_, Status>(Some((answer, last.map(Some))))
        }
    }))
}

impl<Q: Queue, L: Limits, B: Ledger> Ports<Q, L, B> {
    /// Adds the opt-outs of one request, past those that cannot be.
    async fn take(&self, caller: &Caller, first: usize, raw: Vec<pb::Suppression>) -> Result<Taken, Error> {
        convert::check_count("suppressions", raw.len(), REQUEST_MAX)?;
        let (mut good, mut told, mut refused) = (Vec::with_capacity(raw.len()), Vec::new(), 0);
        for (index, shown) in raw.into_iter().enumerate() {
            if index % A_TURN == A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            match self.import_one(caller, first + index, shown) {
                Ok(opt_out) => good.push(opt_out),
                Err(error) => {
                    refused += 1;
                    if told.len() < TOLD_MAX {
                        told.push(error.into());
                    }
                }
            }
        }
        let added = good.len();
        if added > 0 {
            self.suppress(good).await?;
        }
        Ok(Taken { added, refused, told })
    }

    fn import_one(
        &self,
        caller: &Caller,
        number: usize,
        shown: pb::Suppression,
    ) -> Result<(Suppression, Plain), Error> {
        let parsed = convert::suppression(shown, &caller.tenant.id, &self.sealer);
        let (address, (scope, kind), word) = parsed.map_err(|invalid| invalid.at("suppressions", number))?;
        let (tenant, at) = (caller.tenant.id.clone(), self.clock.now());
        let key = self.sealer.address_key(&address);
        let suppression = Suppression { tenant, address: key, scope, kind, source: Source::Import, at };
        may_say(caller, &suppression, "SuppressionService/Import with this scope")?;
        Ok((suppression, Plain { address, word }))
    }

    /// Shows a stored opt-out with its address and word.
    fn shown(&self, row: &SealedSuppression) -> pb::Suppression {
        let plain = match open_plain(&row.sealed, &self.sealer) {
            Ok(plain) => plain,
            Err(error) => {
                tracing::error!(%error, "cannot open a stored opt-out");
                Plain::default()
            }
        };
        let address = (!plain.address.is_empty()).then(|| convert::address_to_pb(&plain.address));
        let shown = pb::Suppression { address, word: plain.word.into(), ..pb::Suppression::default() };
        convert::suppression_to_pb(&row.suppression, Some(&shown))
    }
}

fn place(last: &Suppression) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    place[..16].copy_from_slice(&last.address.0);
    place[16] = last.scope.width();
    place[17..33].copy_from_slice(&last.scope.word().unwrap_or(WordKey([0; 16])).0);
    place[33] = last.kind.map_or(ANY_KIND, |kind| kind as u8);
    place[34] = last.source as u8;
    place
}

fn from_place(tenant: &TenantId, place: &[u8; PLACE_BYTES]) -> Option<Suppression> {
    let (address, rest) = place.split_first_chunk::<16>()?;
    let (word, rest) = rest[1..].split_first_chunk::<16>()?;
    let kind = if rest[0] == ANY_KIND { None } else { Some(*Kind::ALL.get(usize::from(rest[0]))?) };
    Some(Suppression {
        tenant: tenant.clone(),
        address: AddressKey(*address),
        scope: Scope::of_width(place[16], WordKey(*word))?,
        kind,
        source: *Source::ALL.get(usize::from(rest[1]))?,
        at: UnixMicros::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again() {
        let tenant: TenantId = "acme".parse().unwrap();
        for (scope, kind, source) in [
            (Scope::Signature(WordKey([7; 16])), Some(Kind::Call), Source::Import),
            (Scope::Global, None, Source::Keyword),
        ] {
            let address = AddressKey([3; 16]);
            let last = Suppression { tenant: tenant.clone(), address, scope, kind, source, at: UnixMicros(0) };
            assert_eq!(from_place(&tenant, &place(&last)), Some(last));
        }
        assert_eq!(from_place(&tenant, &[200; PLACE_BYTES]), None);
    }
}
