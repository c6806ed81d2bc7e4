//! How signals are written in a frame, and sealed for the ledger.

use super::FrameError;
use super::jobs::{pairs_bytes, recipient_bytes};
use super::wire::{Reader, Writer};
use crate::domain::signal::{Signal, Told};

impl Writer<'_> {
    pub(super) fn signal(&mut self, signal: &Signal) {
        self.uuid(signal.id);
        self.text(signal.provider.as_str());
        self.text(signal.tenant.as_str());
        self.byte(signal.told as u8);
        self.recipient(&signal.recipient);
        self.text(&signal.to);
        self.pairs(&signal.details);
        self.time(signal.at);
    }
}

impl Reader<'_> {
    pub(super) fn signal(&mut self) -> Result<Signal, FrameError> {
        Ok(Signal {
            id: self.uuid()?,
            provider: self.provider()?,
            tenant: self.tenant()?,
            told: self.word(Told::ALL, "signal")?,
            recipient: self.recipient()?,
            to: self.text()?,
            details: self.pairs()?,
            at: self.time()?,
        })
    }
}

/// Returns a bound on the bytes that a signal takes.
pub(in crate::queue) fn signal_bytes(signal: &Signal) -> usize {
    let Signal { id: _, provider, tenant, told: _, recipient, to, details, at: _ } = signal;
    let names = provider.as_str().len() + tenant.as_str().len() + to.len();
    // Id, three lengths, what it says, the time.
    recipient_bytes(recipient) + pairs_bytes(details) + names + 16 + 15 + 1 + 10
}
