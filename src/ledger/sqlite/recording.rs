//! Writes recordings.

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::{agenda, rules};
use crate::domain::event::Receipt;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::ledger::answers;
use crate::ledger::columns::{self, ChangeColumns, Code, FRAMES_KEPT_SECS};
use crate::ledger::{
    Count, JobRow, LedgerError, NumberedEvent, RECEIPT_MATCH, Recording, SealedReply, SealedSuppression, Segment,
};

/// Writes a recording within a transaction.
pub(super) fn record(tx: &Transaction<'_>, recording: &Recording) -> Result<(), LedgerError> {
    take_turn(tx, recording)?;
    remember_frames(tx, &recording.frames)?;
    insert_jobs(tx, &recording.jobs)?;
    insert_events(tx, &recording.events)?;
    insert_replies(tx, &recording.replies)?;
    put_segments(tx, &recording.segments)?;
    park(tx, recording)?;
    suppress(tx, &recording.suppressed)?;
    unsuppress(tx, &recording.unsuppressed)?;
    rules::add(tx, &recording.ruled)?;
    agenda::put(tx, &recording.entries)?;
    add_counts(tx, &recording.counts)
}

/// Returns which of these frames were recorded before.
pub(super) fn recorded(conn: &Connection, frames: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
    let mut statement = conn.prepare_cached("select 1 from frame where id = ?1")?;
    let mut known = vec![];
    for frame in frames {
        if statement.exists([frame.as_bytes()])? {
            known.push(*frame);
        }
    }
    Ok(known)
}

/// Returns the last number and how far the deadline sweep has come.
pub(super) fn last_seq(conn: &Connection) -> Result<(i64, i64), LedgerError> {
    let mut statement = conn.prepare_cached("select last_seq, swept_to from progress")?;
    Ok(statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Lets the recorder through that has seen everything before.
fn take_turn(tx: &Transaction<'_>, recording: &Recording) -> Result<(), LedgerError> {
    let last = answers::last_seq(recording)?;
    let turns = tx
        .prepare_cached("update progress set last_seq = ?2, swept_to = coalesce(?3, swept_to) where last_seq = ?1")?
        .execute(params![recording.after, last, recording.swept_to])?;
    if turns == 1 { Ok(()) } else { Err(LedgerError::Overtaken) }
}

fn remember_frames(tx: &Transaction<'_>, frames: &[Uuid]) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached("insert or ignore into frame values (?1, unixepoch())")?;
    for frame in frames {
        if insert.execute([frame.as_bytes()])? == 0 {
            return Err(LedgerError::Overtaken);
        }
    }
    // Twice as many are forgotten as are added, so that the old ones never pile up.
    tx.prepare_cached(
        "delete from frame where id in (select id from frame where at < unixepoch() - ?1 order by at limit ?2)",
    )?
    .execute(params![FRAMES_KEPT_SECS, i64::try_from(frames.len() * 2).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn insert_jobs(tx: &Transaction<'_>, jobs: &[JobRow]) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached(
        "insert or ignore into job values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    for job in jobs {
        insert.execute(params![
            job.id.0.as_bytes(),
            job.tenant.as_str(),
            job.kind.code(),
            job.class.code(),
            job.accepted_at.0,
            job.due_at.0,
            job.expires_at.0,
            columns::immediate(job),
            job.address.0,
            job.recipient.map(|key| key.0),
            job.batch.map(Uuid::into_bytes),
            job.campaign.map(|key| key.0),
            job.run.map(|key| key.0),
            job.cancel_key.map(|key| key.0),
            &job.sealed[..],
            job.fallback_after.map(columns::micros),
        ])?;
    }
    Ok(())
}

fn insert_events(tx: &Transaction<'_>, events: &[NumberedEvent]) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached(
        "insert into event values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    for NumberedEvent { seq, event } in events {
        let change = ChangeColumns::of(event);
        let message_ids = (!change.message_ids.is_empty()).then(|| serde_json::json!(change.message_ids).to_string());
        insert.execute(params![
            seq,
            event.job.0.as_bytes(),
            event.tenant.as_str(),
            event.kind.code(),
            event.class.code(),
            event.at.0,
            event.attempt,
            change.what.code(),
            change.state.code(),
            change.fate.map(Code::code),
            change.reason,
            change.provider,
            change.until.map(|until| until.0),
            message_ids,
            change.receipt_expected,
            change.cost.map(|cost| cost.to_string()),
        ])?;
    }
    Ok(())
}

fn insert_replies(tx: &Transaction<'_>, replies: &[SealedReply]) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached("insert into reply values (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for reply in replies {
        insert.execute(params![
            reply.seq,
            reply.tenant.as_ref().map(|tenant| tenant.as_str()),
            reply.in_reply_to.map(|job| job.0.into_bytes()),
            reply.at.0,
            &reply.sealed[..],
            reply.signal.map(Uuid::into_bytes),
        ])?;
    }
    Ok(())
}

fn put_segments(tx: &Transaction<'_>, segments: &[Segment]) -> Result<(), LedgerError> {
    let mut put = tx.prepare_cached("insert or replace into segment values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for segment in segments {
        put.execute(params![
            segment.provider.as_str(),
            segment.message_id,
            segment.job.0.as_bytes(),
            segment.attempt,
            segment.index,
            segment.of,
            segment.fate.map(Code::code),
            segment.at.0,
        ])?;
    }
    Ok(())
}

fn park(tx: &Transaction<'_>, recording: &Recording) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached("insert into parked values (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for receipt in &recording.parked {
        let Receipt { provider, message_id, job, report, code, at } = receipt;
        let (sort, detail) = columns::report_columns(*report);
        let job = job.map(|job| job.0.into_bytes());
        insert.execute(params![provider.as_str(), message_id, job, sort, detail, code, at.0])?;
    }
    let mut delete = tx.prepare_cached("delete from parked where provider = ?1 and message_id = ?2")?;
    for (provider, message_id) in &recording.unparked {
        delete.execute(params![provider.as_str(), message_id])?;
    }
    if let Some(newest) = recording.parked.iter().map(|receipt| receipt.at).max() {
        // A receipt that found no job for so long never will.
        tx.prepare_cached("delete from parked where at < ?1")?.execute([newest.minus(RECEIPT_MATCH).0])?;
    }
    Ok(())
}

fn suppress(tx: &Transaction<'_>, suppressed: &[SealedSuppression]) -> Result<(), LedgerError> {
    let mut put = tx.prepare_cached(
        "insert into suppression values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         on conflict do update set at = max(at, excluded.at), sealed = excluded.sealed",
    )?;
    for SealedSuppression { suppression, sealed } in suppressed {
        let (sort, word) = columns::scope_columns(&suppression.scope);
        put.execute(params![
            suppression.tenant.as_str(),
            suppression.address.0,
            sort,
            word,
            columns::bound_kind_column(suppression.kind),
            suppression.source.code(),
            suppression.at.0,
            &sealed[..],
        ])?;
    }
    Ok(())
}

fn unsuppress(tx: &Transaction<'_>, taken_back: &[(Suppression, Source)]) -> Result<(), LedgerError> {
    // An opt-out that came after it was taken back stands, whatever the order they are recorded in.
    let mut delete = tx.prepare_cached(
        "delete from suppression where tenant = ?1 and address = ?2 and scope = ?3 and word = ?4 and kind = ?5 \
         and (source = ?6 or ?6 = ?7) and at <= ?8",
    )?;
    // Any operator takes back what another one said.
    let mut delete_global = tx.prepare_cached(
        "delete from suppression where scope = 6 and address = ?1 and kind = ?2 and (source = ?3 or ?3 = ?4) and at <= ?5",
    )?;
    for (suppression, source) in taken_back {
        let (sort, word) = columns::scope_columns(&suppression.scope);
        let (address, kind) = (suppression.address.0, columns::bound_kind_column(suppression.kind));
        let (source, every, at) = (source.code(), Source::Api.code(), suppression.at.0);
        if sort == columns::GLOBAL {
            delete_global.execute(params![address, kind, source, every, at])?;
        } else {
            delete.execute(params![suppression.tenant.as_str(), address, sort, word, kind, source, every, at])?;
        }
    }
    Ok(())
}

fn add_counts(tx: &Transaction<'_>, counts: &[Count]) -> Result<(), LedgerError> {
    let mut add = tx.prepare_cached(
        "insert into count values (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         on conflict do update set jobs = jobs + excluded.jobs",
    )?;
    for Count { tenant, hour: UnixMicros(hour), kind, class, what, reason, jobs } in counts {
        add.execute(params![tenant.as_str(), hour, kind.code(), class.code(), what, reason, jobs])?;
    }
    Ok(())
}
