//! Lines for calls: a call is claimed once it has one, and holds it until it has ended.

use std::sync::Arc;
use std::time::Duration;

use super::{Hand, Item};
use crate::channel::call::{Carried, Withdrawal};
use crate::dialer::{Ask, NoLine};
use crate::dispatch::gate::Permit;
use crate::domain::time::UnixMicros;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::Queue;

/// Where no call has a line, they are asked for again after this.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_SOON: Duration = Duration::from_millis(2);

impl<Q: Queue, L: Limits, B: Ledger> Hand<'_, Q, L, B> {
    /// Takes a line for each call of a chunk, if its provider has lines; what has none waits behind the others.
    pub(super) async fn take_lines(&mut self, chunk: Vec<Item>, permit: &mut Permit) -> Vec<Item> {
        let Some(lines) = permit.provider.lines.clone() else { return chunk };
        let (mut ready, mut look_at) = (Vec::with_capacity(chunk.len()), UnixMicros::MAX);
        for mut item in chunk {
            // One that comes back holds no line while it asks for another.
            item.handover.call = None;
            let asked = lines.dial(Ask {
                tenant: &item.shared.tenant,
                campaign: &item.shared.origin.campaign_id,
                callee: item.job.recipient.phone.as_ref().map_or("", |phone| phone.as_str()),
                sender: &item.shared.sender,
            });
            match asked {
                Ok(ticket) => {
                    item.handover.sender = ticket.caller().into();
                    let (shared, job) = (Arc::clone(&item.shared), item.job.clone());
                    item.handover.call = Some(Arc::new(Carried {
                        shared,
                        job,
                        line: Arc::new(ticket),
                        withdrawal: Withdrawal::default(),
                    }));
                    ready.push(item);
                }
                Err(no_line) => {
                    if let NoLine::Rate(at) | NoLine::Broken(at) | NoLine::Caller(Some(at)) = no_line {
                        look_at = look_at.min(at);
                    }
                    self.line.push_back(item);
                }
            }
        }
        let units = ready.iter().map(|item| permit.provider.channel.cost(&item.handover)).sum();
        permit.shrink(ready.len(), units);
        if ready.is_empty() {
            let wait = look_at.since(self.context.clock.now());
            self.context.clock.pause(wait.clamp(LOOK_SOON, LOOK_EVERY)).await;
        }
        ready
    }
}
