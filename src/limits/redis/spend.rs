//! Quotas: what a submit takes of them.

use deadpool_redis::redis::cmd;

use super::wire::{self, Strange};
use super::{Inner, link, met};
use crate::domain::ids::TenantId;
use crate::domain::keys::WordKey;
use crate::domain::time::UnixMicros;
use crate::limits::spend::Counts;
use crate::limits::{LimitsError, Spend, Spent};

/// No quota is without room.
const NONE: u8 = 255;

impl Inner {
    /// Takes what a submit needs.
    pub(super) async fn spend(&self, now: UnixMicros, spend: &Spend) -> Result<Spent, LimitsError> {
        let names = &self.names;
        let memo = spend.key.as_ref().map_or_else(|| names.identity(), |key| names.memo(key.id));
        let mut keys = vec![names.identity(), memo];
        keys.extend(spend.from.iter().map(|allowance| names.counter(&spend.tenant, allowance.key)));
        let (mut key, mut from, mut items) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(remember) = &spend.key {
            key.extend_from_slice(&remember.fingerprint.0);
            wire::put_time(&mut key, remember.until);
        }
        for allowance in &spend.from {
            from.push(u8::from(allowance.counts == Counts::Money));
            put_number(&mut from, allowance.most);
            wire::put_time(&mut from, allowance.ends_at);
        }
        for (count, need) in spend.runs() {
            items.extend_from_slice(&count.to_le_bytes());
            put_number(&mut items, need.jobs);
            put_number(&mut items, need.micros);
        }
        let question = |live: &link::Live| {
            let mut call = self.scripts.spend.call(&keys);
            call.arg(&*live.identity.id).arg(now.0).arg(&key).arg(&from).arg(&items);
            call
        };
        let answer: Vec<u8> = self.link.ask(&self.scripts, question).await?;
        Ok(read(&answer, spend)?)
    }

    /// Returns how much was taken of some allowances, all together.
    pub(super) async fn taken(&self, tenant: &TenantId, allowances: &[WordKey]) -> Result<u64, LimitsError> {
        if allowances.is_empty() {
            return Ok(0);
        }
        let keys: Vec<_> = allowances.iter().map(|&key| self.names.counter(tenant, key)).collect();
        let question = |_: &link::Live| {
            let mut call = cmd("MGET");
            call.arg(&keys);
            call
        };
        let counters: Vec<Option<Vec<u8>>> = self.link.ask(&self.scripts, question).await?;
        let used = counters.iter().flatten().map(|counter| read_number(counter));
        Ok(used.sum::<Result<u64, Strange>>()?)
    }
}

fn read(answer: &[u8], spend: &Spend) -> Result<Spent, Strange> {
    let &[digit, a, b, c, d, full] = answer else { return Err(Strange) };
    Ok(Spent {
        met: met(digit)?,
        items: spend.at_most(u32::from_le_bytes([a, b, c, d])),
        full: (full != NONE).then_some(usize::from(full)),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole numbers below 2^53")]
fn read_number(stored: &[u8]) -> Result<u64, Strange> {
    Ok(f64::from_le_bytes(stored.try_into().map_err(|_| Strange)?) as u64)
}

/// Appends a number: exact up to [`crate::domain::quota::QUOTA_MAX`].
#[expect(clippy::cast_precision_loss, reason = "numbers beyond what quotas may be never fit, however they are rounded")]
fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&(number as f64).to_le_bytes());
}
