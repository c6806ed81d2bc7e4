//! What is in the dead-letter queue, and its way back.

use hashbrown::HashSet;
use tracing::info;
use uuid::Uuid;

use super::Admin;
use crate::api::convert::{self, Invalid, Problem};
use crate::api::status::Error;
use crate::domain::time::UnixMicros;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::dead::{self, Letter};
use crate::queue::{Delivery, Queue, QueueName};
use crate::seal::Sealer;

/// Most frames named in one call.
const NAMED_MAX: usize = 1_000;

impl<Q: Queue, L: Limits, B: Ledger> Admin<Q, L, B> {
    pub(super) async fn dead_letters(
        &self,
        raw: &pb::ListDeadLettersRequest,
    ) -> Result<pb::ListDeadLettersResponse, Error> {
        let size = usize::try_from(convert::page_size(raw.page_size)?).unwrap_or(usize::MAX);
        let after = match raw.page_token.as_str() {
            "" => None,
            token => Some(place(token).ok_or_else(|| Invalid::new("page_token", Problem::Token))?),
        };
        let mut letters: Vec<Letter> = self.letters().await?.into_iter().map(|(letter, _)| letter).collect();
        letters.sort_by_key(order);
        letters.retain(|letter| after.is_none_or(|after| order(letter) > after));
        let more = letters.len() > size;
        letters.truncate(size);
        // Letters are the operator's own: where the page ended may be read by anybody who sees it.
        let token = |letter: &Letter| format!("{}.{}", order(letter).0.0, letter.id);
        let next_page_token = letters.last().filter(|_| more).map(token).unwrap_or_default();
        let letters = letters.iter().map(|letter| show(letter, &self.ports.sealer)).collect();
        Ok(pb::ListDeadLettersResponse { letters, next_page_token })
    }

    pub(super) async fn back_to_work(&self, raw: &pb::RedriveRequest) -> Result<pb::RedriveResponse, Error> {
        if raw.frame_ids.len() > NAMED_MAX {
            let is = i64::try_from(raw.frame_ids.len()).unwrap_or(i64::MAX);
            return Err(Invalid::new("frame_ids", Problem::OutOfRange { is, least: 0, most: 1_000 }).into());
        }
        let mut wanted = HashSet::new();
        for (index, id) in raw.frame_ids.iter().enumerate() {
            let path = format!("frame_ids[{index}]");
            wanted.insert(Uuid::try_parse(id).map_err(|_| Invalid::new(path, Problem::FrameId))?);
        }
        let mut frames = 0;
        for (letter, delivery) in self.letters().await? {
            if wanted.is_empty() || wanted.contains(&letter.id) {
                letter.redrive(&self.ports.queue, &self.ports.sealer).await.map_err(Error::NotDurable)?;
                delivery.ack();
                info!(frame = %letter.id, "dead letter put back to work");
                frames += 1;
            }
        }
        Ok(pb::RedriveResponse { frames })
    }

    async fn letters(&self) -> Result<Vec<(Letter, Delivery)>, Error> {
        dead::look(&self.ports.queue, &self.ports.clock).await.map_err(Error::from)
    }
}

/// Oldest first.
fn order(letter: &Letter) -> (UnixMicros, Uuid) {
    (letter.at.unwrap_or(UnixMicros::MAX), letter.id)
}

fn place(token: &str) -> Option<(UnixMicros, Uuid)> {
    let (at, id) = token.split_once('.')?;
    Some((UnixMicros(at.parse().ok()?), Uuid::try_parse(id).ok()?))
}

/// Returns what may be shown of a letter: which jobs, never to whom or what.
fn show(letter: &Letter, sealer: &Sealer) -> pb::DeadLetter {
    let envelopes = letter.work(sealer).unwrap_or_default();
    let jobs = envelopes.iter().flat_map(|envelope| &envelope.jobs);
    pb::DeadLetter {
        frame_id: letter.id.to_string(),
        job_ids: jobs.map(|job| job.id.to_string()).collect(),
        queue: letter.from.as_ref().map(QueueName::to_string).unwrap_or_default(),
        at: letter.at.map(convert::moment_to_pb),
        reason: letter.reason.to_string(),
        expires_at: envelopes.iter().map(|envelope| envelope.shared.expires_at).max().map(convert::moment_to_pb),
    }
}
