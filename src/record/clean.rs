//! Takes out of facts what a ledger cannot hold, so that no provider's odd byte makes a whole frame unwritable.

use crate::domain::event::{Change, Fact};

/// What stands in place of a zero byte: PostgreSQL has no text that holds one.
const REPLACEMENT: &str = "\u{fffd}";

/// Cleans the texts that come from outside. Ids stay comparable: equal ones are cleaned alike.
pub(super) fn fact(fact: &mut Fact) {
    match fact {
        Fact::Event(event) => match &mut event.change {
            Change::Sent { message_ids, .. } => message_ids.iter_mut().for_each(text),
            Change::Settled(outcome) => text(&mut outcome.reason),
            Change::Deferred { reason, .. } => text(reason),
            Change::Unresolved { .. } | Change::Progress(_) | Change::Called { .. } | Change::Recorded { .. } => {}
        },
        Fact::Receipt(receipt) => {
            text(&mut receipt.message_id);
            text(&mut receipt.code);
        }
        // Sealed before they are stored, or hashes.
        Fact::Reply(_)
        | Fact::Called(_)
        | Fact::Signal(_)
        | Fact::Owed(_)
        | Fact::Suppressed(..)
        | Fact::Unsuppressed(..)
        | Fact::Ruled(_)
        | Fact::Elapsed(..) => {}
    }
}

fn text(text: &mut Box<str>) {
    if text.contains('\0') {
        *text = text.replace('\0', REPLACEMENT).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Fate, Receipt, Report};
    use crate::domain::time::UnixMicros;

    #[test]
    fn zero_bytes_are_replaced_and_nothing_else_is_touched() {
        let receipt = |message_id: &str| Receipt {
            provider: "carrier".parse().unwrap(),
            message_id: message_id.into(),
            job: None,
            report: Report::Final(Fate::Delivered),
            code: "000".into(),
            at: UnixMicros::default(),
        };
        let mut dirty = Fact::Receipt(receipt("a\0b"));
        fact(&mut dirty);
        assert_eq!(dirty, Fact::Receipt(receipt("a\u{fffd}b")));
        let mut plain = Fact::Receipt(receipt("é-1"));
        fact(&mut plain);
        assert_eq!(plain, Fact::Receipt(receipt("é-1")));
    }
}
