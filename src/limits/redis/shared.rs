//! Values that processes share.

use deadpool_redis::redis::Value;

use super::{Inner, link};
use crate::domain::keys::Fingerprint;
use crate::domain::time::UnixMicros;
use crate::limits::{Borrow, Borrowed, LimitsError, Shared};

impl Inner {
    /// Answers an asker.
    pub(super) async fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>) -> Result<Borrowed, LimitsError> {
        let (keys, now) = ([self.names.shared(asked.name)], self.now(now));
        let refused: &[u8] = asked.refused.as_ref().map_or(&[], |mark| &mark.0);
        let question = |_: &link::Live| {
            let mut call = self.scripts.borrow.call(&keys);
            call.arg(now.0).arg(asked.who).arg(refused).arg(asked.renew_until.0);
            call
        };
        let answer: Vec<Value> = self.link.ask(&self.scripts, question).await?;
        borrowed(&answer).ok_or_else(|| LimitsError::Refused("a shared value cannot be read".into()))
    }

    /// Takes a value from the one who renews it.
    pub(super) async fn lend(
        &self,
        now: UnixMicros,
        (name, who): (&str, u64),
        value: &Shared,
    ) -> Result<bool, LimitsError> {
        let (keys, now) = ([self.names.shared(name)], self.now(now));
        let life = u64::try_from(value.until.since(now).as_millis()).unwrap_or(u64::MAX).max(1);
        let question = |_: &link::Live| {
            let mut call = self.scripts.lend.call(&keys);
            call.arg(who).arg(&value.mark.0).arg(&value.sealed[..]).arg(value.renew_at.0).arg(value.until.0).arg(life);
            call
        };
        Ok(self.link.ask::<u8>(&self.scripts, question).await? == 1)
    }
}

fn borrowed(answer: &[Value]) -> Option<Borrowed> {
    let bytes = |value: &Value| if let Value::BulkString(bytes) = value { Some(bytes.clone()) } else { None };
    let time = |value: &Value| Some(UnixMicros(String::from_utf8(bytes(value)?).ok()?.parse().ok()?));
    match answer {
        [Value::Int(0), mark, sealed, renew_at, until] => Some(Borrowed::Value(Shared {
            mark: Fingerprint(bytes(mark)?.try_into().ok()?),
            sealed: bytes(sealed)?.into(),
            renew_at: time(renew_at)?,
            until: time(until)?,
        })),
        [Value::Int(1)] => Some(Borrowed::Yours),
        [Value::Int(2), until] => Some(Borrowed::Wait(time(until)?)),
        _ => None,
    }
}
