//! One-time consents.

use super::wire::Strange;
use super::{Inner, link};
use crate::limits::LimitsError;
use crate::limits::consent::{CONSENT_LIFE, ConsentAct, Consented};

const NONE: u16 = 256;
const UNKNOWN: u16 = 257;

impl Inner {
    /// Does what happens to consents, in order.
    pub(super) async fn consent(&self, acts: &[ConsentAct]) -> Result<Vec<Consented>, LimitsError> {
        let (mut keys, mut packed) = (Vec::with_capacity(acts.len() + 1), Vec::with_capacity(acts.len() * 13));
        keys.push(self.names.identity());
        for ConsentAct { tenant, of, act } in acts {
            let (number, id, second) = act.parts();
            keys.push(self.names.consent(tenant, *of));
            packed.push(number);
            packed.extend_from_slice(&id.to_le_bytes());
            packed.extend_from_slice(&second.to_le_bytes());
        }
        let life = u64::try_from(CONSENT_LIFE.as_millis()).unwrap_or(u64::MAX);
        let question = |live: &link::Live| {
            let mut call = self.scripts.consent.call(&keys);
            call.arg(&*live.identity.id).arg(life).arg(&packed);
            call
        };
        let answer: Vec<u8> = self.link.ask(&self.scripts, question).await?;
        Ok(consented(&answer, acts.len())?)
    }
}

fn consented(answer: &[u8], count: usize) -> Result<Vec<Consented>, Strange> {
    let (answers, rest) = answer.as_chunks::<2>();
    if answers.len() != count || !rest.is_empty() {
        return Err(Strange);
    }
    let read = |&bytes: &[u8; 2]| match u16::from_le_bytes(bytes) {
        NONE => Ok(Consented::None),
        UNKNOWN => Ok(Consented::Unknown),
        left => u8::try_from(left).map(Consented::Left).map_err(|_| Strange),
    };
    answers.iter().map(read).collect()
}
