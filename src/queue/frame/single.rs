//! Single jobs, replies, signals, reports of calls and what opt-outs stand for, sealed for the ledger.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;

use super::wire::{Reader, Writer};
use super::{FrameError, VERSION, jobs};
use crate::domain::call::CallReport;
use crate::domain::event::Reply;
use crate::domain::job::{Envelope, Job, Shared};
use crate::domain::signal::Signal;
use crate::domain::suppression::Plain;
use crate::domain::time::UnixMicros;
use crate::seal::{FRONT_BYTES, OVERHEAD_BYTES, Sealer};

/// Binds a sealed job to its purpose.
const JOB_AAD: &[u8] = b"postrider job 1";
/// Binds a sealed reply to its purpose.
const REPLY_AAD: &[u8] = b"postrider reply 1";
/// Binds the sealed report of a call to its purpose.
const REPORT_AAD: &[u8] = b"postrider call 1";
/// Binds the words of a sealed opt-out to their purpose.
const OPT_OUT_AAD: &[u8] = b"postrider opt-out 1";

/// In front of a sealed signal, which stands among the replies.
const SIGNAL: u8 = 0x80 | VERSION;

/// What stands among the replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A reply.
    Reply(Reply),
    /// A signal.
    Signal(Box<Signal>),
}

/// Seals one job with what it shares, as a single-job envelope. See [`seal_jobs`] for many.
pub fn seal_job(shared: &Arc<Shared>, due_at: UnixMicros, job: &Job, sealer: &Sealer) -> Bytes {
    let mut common = vec![];
    front(&mut common, shared, due_at);
    seal_behind(&common, job, sealer)
}

/// Seals each job of an envelope as a single-job envelope, in order; what the jobs share is written once and copied.
pub fn seal_jobs(envelope: &Envelope, sealer: &Sealer) -> Vec<Bytes> {
    let mut common = vec![];
    front(&mut common, &envelope.shared, envelope.due_at);
    envelope.jobs.iter().map(|job| seal_behind(&common, job, sealer)).collect()
}

/// Opens what [`seal_job`] sealed: an envelope with one job.
///
/// # Errors
/// [`FrameError`] when it is not whole or not ours.
pub fn open_job(sealed: &[u8], sealer: &Sealer) -> Result<Envelope, FrameError> {
    let plain = sealer.open(sealed, JOB_AAD)?;
    let mut reader = Reader::new(&plain);
    version(&mut reader)?;
    let envelope = reader.envelope()?;
    reader.finish()?;
    Ok(envelope)
}

/// Seals a reply.
pub fn seal_reply(reply: &Reply, sealer: &Sealer) -> Bytes {
    let mut plain = vec![VERSION];
    Writer { out: &mut plain }.reply(reply);
    sealer.seal(&plain, REPLY_AAD).into()
}

/// Seals a signal, to stand among the replies.
pub fn seal_signal(signal: &Signal, sealer: &Sealer) -> Bytes {
    let mut plain = vec![SIGNAL];
    Writer { out: &mut plain }.signal(signal);
    sealer.seal(&plain, REPLY_AAD).into()
}

/// Opens what [`seal_reply`] or [`seal_signal`] sealed.
///
/// # Errors
/// [`FrameError`] when it is not whole or not ours.
pub fn open_heard(sealed: &[u8], sealer: &Sealer) -> Result<Heard, FrameError> {
    let plain = sealer.open(sealed, REPLY_AAD)?;
    let mut reader = Reader::new(&plain);
    let heard = match reader.byte()? {
        VERSION => Heard::Reply(reader.reply()?),
        SIGNAL => Heard::Signal(Box::new(reader.signal()?)),
        other => return Err(FrameError::Version(other)),
    };
    reader.finish()?;
    Ok(heard)
}

/// Seals how a call went, as text.
pub fn seal_report(report: &CallReport, sealer: &Sealer) -> Box<str> {
    let mut plain = vec![VERSION];
    Writer { out: &mut plain }.report(report);
    BASE64.encode(sealer.seal(&plain, REPORT_AAD)).into()
}

/// Opens what [`seal_report`] sealed.
///
/// # Errors
/// [`FrameError`] when it is not whole or not ours.
pub fn open_report(sealed: &str, sealer: &Sealer) -> Result<CallReport, FrameError> {
    let sealed = BASE64.decode(sealed).map_err(|_| FrameError::Field("report"))?;
    let plain = sealer.open(&sealed, REPORT_AAD)?;
    let mut reader = Reader::new(&plain);
    version(&mut reader)?;
    let report = reader.report()?;
    reader.finish()?;
    Ok(report)
}

/// Seals what an opt-out's keys stand for.
pub fn seal_plain(plain: &Plain, sealer: &Sealer) -> Bytes {
    let mut bytes = vec![VERSION];
    Writer { out: &mut bytes }.plain(plain);
    sealer.seal(&bytes, OPT_OUT_AAD).into()
}

/// Opens what [`seal_plain`] sealed.
///
/// # Errors
/// [`FrameError`] when it is not whole or not ours.
pub fn open_plain(sealed: &[u8], sealer: &Sealer) -> Result<Plain, FrameError> {
    let bytes = sealer.open(sealed, OPT_OUT_AAD)?;
    let mut reader = Reader::new(&bytes);
    version(&mut reader)?;
    let plain = reader.plain()?;
    reader.finish()?;
    Ok(plain)
}

/// Writes everything up to the job itself.
fn front(out: &mut Vec<u8>, shared: &Shared, due_at: UnixMicros) {
    out.extend_from_slice(&[0; FRONT_BYTES]);
    let mut writer = Writer { out };
    writer.byte(VERSION);
    writer.shared(shared);
    writer.time(due_at);
    writer.count(1);
}

fn seal_behind(common: &[u8], job: &Job, sealer: &Sealer) -> Bytes {
    let mut out = Vec::with_capacity(common.len() + jobs::job_bytes(job) + OVERHEAD_BYTES);
    out.extend_from_slice(common);
    Writer { out: &mut out }.job(job);
    sealer.seal_in_place(&mut out, 0, JOB_AAD);
    out.into()
}

fn version(reader: &mut Reader<'_>) -> Result<(), FrameError> {
    match reader.byte()? {
        VERSION => Ok(()),
        other => Err(FrameError::Version(other)),
    }
}
