//! Claims as `claim.lua` reads them: in front what every claim is asked for, then what few are, and once what many share.

use super::wire::{put_name, put_names, put_optional_scope, put_takes, put_time};
use crate::domain::rule::Names;
use crate::domain::suppression::Scope;
use crate::domain::time::UnixMicros;
use crate::limits::core::{kind_number, short, short_job};
use crate::limits::{Against, Claim};

/// The argument that says what claims share, if it is the first that does.
const FIRST_SHARED: usize = 9;
/// The latest time that a double of microseconds holds exactly, in the year 2255; 7 bytes hold it too.
const TIME_MAX: i64 = (1 << 53) - 1;
const SEEN: u8 = 4;
const COLLAPSES: u8 = 8;

/// Claims of one call.
#[derive(Default)]
pub(super) struct Asks {
    /// What every claim is asked for.
    pub claims: Vec<u8>,
    /// What few are asked for.
    pub rests: Vec<u8>,
    /// What claims share.
    pub shared: Vec<Vec<u8>>,
}

impl Asks {
    /// Adds a claim. `tenant` is the index of its rules' keys from 0, `newest` that of its collapse key's among all, or 0;
    /// `log` says it of a log's key, by its bytes.
    pub(super) fn put(&mut self, claim: &Claim, tenant: u16, newest: u16, mut log: impl FnMut([u8; 16]) -> u16) {
        let mut logs: Vec<[u8; 16]> = Vec::new();
        let shared = self.share(claim, tenant, &mut logs);
        let out = &mut self.claims;
        let chained = short(claim.touch) != short_job(claim.job);
        let seen = if claim.seen.is_some() { SEEN } else { 0 };
        out.push(1 + u8::from(chained) + seen + if newest > 0 { COLLAPSES } else { 0 });
        out.extend_from_slice(&shared.to_le_bytes());
        out.extend_from_slice(&short(claim.touch).to_le_bytes());
        out.extend_from_slice(&claim.deadline.0.clamp(0, TIME_MAX).to_le_bytes()[..7]);
        out.extend_from_slice(&claim.attempt.to_le_bytes());
        out.extend_from_slice(&claim.token.to_le_bytes());
        out.extend_from_slice(&short_job(claim.job).to_le_bytes());
        out.extend_from_slice(&claim.supersedes.to_le_bytes());
        let rest = u32::try_from(self.rests.len() + 1).unwrap_or(u32::MAX);
        out.extend_from_slice(&rest.to_le_bytes());
        self.put_rest(claim, newest, logs.into_iter().map(&mut log));
    }

    fn put_rest(&mut self, claim: &Claim, newest: u16, logs: impl ExactSizeIterator<Item = u16>) {
        let (out, against) = (&mut self.rests, &claim.against);
        put_time(out, claim.expires_at);
        put_time(out, claim.seen.unwrap_or(UnixMicros(-1)));
        put_time(out, against.moved_at.unwrap_or(UnixMicros(-1)));
        put_time(out, against.accepted_at);
        out.extend_from_slice(&newest.to_le_bytes());
        out.extend_from_slice(&against.address.0);
        out.extend_from_slice(claim.touch.as_bytes());
        // At most as many as takes.
        out.push(u8::try_from(logs.len()).unwrap_or(u8::MAX));
        logs.for_each(|log| out.extend_from_slice(&log.to_le_bytes()));
        let Names { job, cancel_key, recipient, .. } = claim.names();
        let own = Names { job, cancel_key, recipient, ..Names::default() };
        put_names(out, &claim.tenant, own.each().chain(claim.chain_name()));
    }

    /// Returns the argument that says what the claim shares with others; the logs of its takes that are not the recipient's
    /// own are said in their order.
    fn share(&mut self, claim: &Claim, tenant: u16, logs: &mut Vec<[u8; 16]>) -> u16 {
        let mut said = Vec::with_capacity(64 + 27 * claim.takes.len());
        let Against { kind, class, sender, signature, topic, batch, campaign, run, .. } = claim.against;
        said.extend_from_slice(&tenant.to_le_bytes());
        said.extend_from_slice(&[u8::from(claim.against.touting()), kind_number(Some(kind)), class as u8]);
        put_optional_scope(&mut said, sender.map(Scope::Sender));
        put_optional_scope(&mut said, signature.map(Scope::Signature));
        put_optional_scope(&mut said, topic.map(Scope::Topic));
        put_takes(&mut said, &claim.takes, |log| {
            let known = logs.iter().position(|known| *known == log.0).unwrap_or_else(|| {
                logs.push(log.0);
                logs.len() - 1
            });
            u16::try_from(known + 1).unwrap_or(u16::MAX)
        });
        for name in (Names { batch, campaign, run, ..Names::default() }).each() {
            put_name(&mut said, &claim.tenant, name);
        }
        let known = self.shared.iter().rposition(|known| *known == said).unwrap_or_else(|| {
            self.shared.push(said);
            self.shared.len() - 1
        });
        u16::try_from(FIRST_SHARED + known).unwrap_or(u16::MAX)
    }
}
