//! Keeps the log small: removes segments nobody needs, and copies the few frames that hold old ones.

use tracing::error;

use super::log::Place;
use super::record::{self, Record};
use super::writer::Writer;

/// How much of an old segment is copied forward in one step, so that publishers hardly notice. Above any record.
const STEP_BYTES: usize = 1024 * 1024;

// === impl Writer ===

impl Writer {
    /// Does one step of cleaning and returns whether another one should follow at once.
    pub(super) fn clean(&mut self) -> bool {
        if let Err(error) = self.log.remove_dead() {
            error!(%error, "cannot remove an old segment of the queue's log");
            return false;
        }
        if !self.log.wasteful() {
            return false;
        }
        match self.copy_step() {
            Ok(more) => more,
            Err(error) => {
                error!(%error, "cannot copy frames out of an old segment of the queue's log");
                false
            }
        }
    }

    /// Copies what still waits in the next part of the oldest segment to the end of the log, durably.
    ///
    /// Only then is the copy known to the index, and the segment without its frames.
    fn copy_step(&mut self) -> Result<bool, Box<str>> {
        let describe = |error: std::io::Error| Box::from(error.to_string());
        let Some(oldest) = self.log.oldest() else { return Ok(false) };
        let from = self.copied.filter(|(segment, _)| *segment == oldest).map_or(0, |(_, offset)| offset);
        let part = self.log.read_oldest(from, STEP_BYTES).map_err(describe)?;
        let (mut bytes, mut copies, mut at) = (Vec::new(), Vec::new(), 0);
        while let Ok((record, length)) = Record::decode(&part[at..]) {
            let place = Place::new(oldest, from + at as u64, length);
            at += length;
            if let Record::Frame { seq, id, targets, frame } = record
                && self.index.place(seq).is_some_and(|current| Some(current) == place)
            {
                let offset = bytes.len();
                record::encode_frame(&mut bytes, seq, id, &self.index.still_needed_by(seq, &targets), frame);
                copies.push((seq, offset..bytes.len()));
            }
        }
        if at == 0 {
            return Err("no whole record where one was".into());
        }
        if !copies.is_empty() {
            let start = self.write(&bytes)?;
            self.sync()?;
            for (seq, within) in copies {
                let place = start.part(within);
                self.log.keep(place);
                if let Some(old) = self.index.relocate(seq, place) {
                    self.log.release(old);
                }
            }
        }
        self.copied = Some((oldest, from + at as u64));
        Ok(true)
    }
}
