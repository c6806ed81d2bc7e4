//! Whatever is written is read again, and nothing else is.

mod arbitrary;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use self::arbitrary::{envelope, frame, plain, reply, signal};
use super::wire::{Reader, Writer};
use super::*;
use crate::domain::call::{After, AfterAct, CallReport, CallResult, Plan, Retry, When};
use crate::domain::job::Content;

#[test]
fn a_report_is_sealed_and_opens() {
    let sealer = Sealer::ephemeral().unwrap();
    let report = CallReport {
        digits: "1#".into(),
        tags: vec!["confirmed".into(), "好".into()],
        talk: Duration::from_millis(12_345),
        hung_up_by: "callee".into(),
        recording: "r-1".into(),
        ..CallReport::unanswered(CallResult::Completed)
    };
    let sealed = seal_report(&report, &sealer);
    assert!(!sealed.contains("confirmed") && open_report(&sealed, &sealer).unwrap() == report);
    assert!(open_report(&sealed[4..], &sealer).is_err() && open_report("not base64!", &sealer).is_err());
}

/// Seals a changed body under the header that goes with it, as only a broken writer could.
fn forge(sealer: &Sealer, header: &[u8], body: &[u8]) -> Vec<u8> {
    [header, &sealer.seal(body, header)].concat()
}

proptest! {
    #[test]
    fn every_frame_is_read_as_it_was_written(frame in frame()) {
        let sealer = Sealer::ephemeral().unwrap();
        let bytes = frame.encode(&sealer).unwrap();
        prop_assert_eq!(Summary::read(&bytes), frame.summary());
        prop_assert!(matches!(&frame, Frame::Facts(_)) || bytes.len() <= frame.bytes_bound());
        prop_assert_eq!(Frame::decode(&bytes, &sealer).unwrap(), frame);
    }

    #[test]
    fn a_body_with_more_or_less_is_refused(frame in frame(), cut in 1_usize..40) {
        let sealer = Sealer::ephemeral().unwrap();
        let bytes = frame.encode(&sealer).unwrap();
        let (header, sealed) = bytes.split_at(HEADER_BYTES);
        let body = sealer.open(sealed, header).unwrap();
        let longer = [&body[..], &[0]].concat();
        prop_assert!(Frame::decode(&forge(&sealer, header, &longer), &sealer).is_err());
        if cut <= body.len() {
            let shorter = &body[..body.len() - cut];
            prop_assert!(Frame::decode(&forge(&sealer, header, shorter), &sealer).is_err());
        }
    }

    #[test]
    fn single_jobs_replies_and_signals_come_back(
        envelope in envelope(),
        reply in reply(),
        signal in signal(),
        plain in plain(),
    ) {
        let sealer = Sealer::ephemeral().unwrap();
        let sealed = seal_jobs(&envelope, &sealer);
        prop_assert_eq!(sealed.len(), envelope.jobs.len());
        for (sealed, job) in sealed.iter().zip(&envelope.jobs) {
            prop_assert_eq!(open_job(sealed, &sealer).unwrap(), envelope.with_jobs(vec![job.clone()]));
            prop_assert!(open_heard(sealed, &sealer).is_err());
        }
        let one = seal_job(&envelope.shared, envelope.due_at, &envelope.jobs[0], &sealer);
        prop_assert_eq!(open_job(&one, &sealer).unwrap(), envelope.with_jobs(vec![envelope.jobs[0].clone()]));
        prop_assert!(open_heard(&seal_plain(&plain, &sealer), &sealer).is_err());
        prop_assert_eq!(open_plain(&seal_plain(&plain, &sealer), &sealer).unwrap(), plain);
        prop_assert_eq!(open_heard(&seal_reply(&reply, &sealer), &sealer).unwrap(), Heard::Reply(reply));
        prop_assert!(seal_signal(&signal, &sealer).len() <= 1 + signal_bytes(&signal) + OVERHEAD_BYTES);
        prop_assert_eq!(open_heard(&seal_signal(&signal, &sealer), &sealer).unwrap(), Heard::Signal(signal));
    }
}

#[test]
fn a_job_larger_than_a_frame_is_refused_when_it_is_written() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut large = envelope().new_tree(&mut runner).unwrap().current();
    large.jobs.truncate(1);
    large.jobs[0].cancel_key = "x".repeat(FRAME_BYTES_MAX).into();
    let frame = Frame::Jobs(vec![large]);
    assert!(matches!(frame.encode(&Sealer::ephemeral().unwrap()), Err(FrameError::TooLarge(_))));
}

#[test]
fn a_header_that_lies_is_refused() {
    let sealer = Sealer::ephemeral().unwrap();
    let bytes = Frame::Facts(vec![]).encode(&sealer).unwrap();
    let mut header = bytes[..HEADER_BYTES].to_vec();
    header[4] = 9;
    assert_eq!(Frame::decode(&forge(&sealer, &header, &[]), &sealer), Err(FrameError::Header));
    header[2] = 0xff;
    assert_eq!(Frame::decode(&forge(&sealer, &header, &[]), &sealer), Err(FrameError::Truncated));
    header[0] = 2;
    assert_eq!(Frame::decode(&forge(&sealer, &header, &[]), &sealer), Err(FrameError::Version(2)));
    assert_eq!(Summary::read(&vec![1; FRAME_BYTES_MAX + 1]), Err(FrameError::TooLarge(FRAME_BYTES_MAX + 1)));
}

/// Frames of each kind as the fuzz test of the decoder starts from: `header | body`, unsealed.
///
/// After a change of the format, `POSTRIDER_TEST_UPDATE=1 cargo test --lib corpus` writes them anew.
#[test]
fn the_corpus_is_still_readable() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/frame");
    let sealer = Sealer::ephemeral().unwrap();
    if std::env::var_os("POSTRIDER_TEST_UPDATE").is_some() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let (mut written, kinds) = ([0; 3], ["jobs", "checks", "facts"]);
        while written.iter().any(|&count| count < 4) {
            let frame = frame().new_tree(&mut runner).unwrap().current();
            let kind = match &frame {
                Frame::Jobs(_) => 0,
                Frame::Checks(_) => 1,
                Frame::Facts(_) => 2,
            };
            let bytes = frame.encode(&sealer).unwrap();
            let (header, sealed) = bytes.split_at(HEADER_BYTES);
            if written[kind] < 4 {
                written[kind] += 1;
                let name = format!("{}-{}", kinds[kind], written[kind]);
                std::fs::write(folder.join(name), [header, &sealer.open(sealed, header).unwrap()].concat()).unwrap();
            }
        }
    }
    for seed in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(seed.unwrap().path()).unwrap();
        let (header, body) = seed.split_at(HEADER_BYTES);
        Frame::decode(&forge(&sealer, header, body), &sealer).unwrap();
    }
}

/// What was accepted before anything could follow a call is read for as long as it may wait, and written the same.
#[test]
fn a_call_of_before_is_read_as_it_was_accepted() {
    let old = b"\x04\x05hello\x02{}\x1e\xd8\x04\x01\x01\x78\x02";
    let plan = Plan {
        document: "{}".into(),
        ring_max: Duration::from_secs(30),
        talk_max: Duration::from_secs(600),
        retries: vec![Retry { result: CallResult::Busy, after: Duration::from_secs(120), times: 2 }],
        after: vec![],
    };
    let call = |plan: &Plan| Content::Call { flow: "hello".into(), plan: Arc::new(plan.clone()) };
    let mut reader = Reader::new(old);
    assert_eq!(reader.content().unwrap(), call(&plan));
    reader.finish().unwrap();
    let written = |content: &Content| {
        let mut out = vec![];
        Writer { out: &mut out }.content(content);
        out
    };
    assert_eq!(written(&call(&plan)), old);
    let after = vec![After { when: When::Result(CallResult::Busy), act: AfterAct::OptOut { everything: true } }];
    let followed = call(&Plan { after, ..plan });
    let new = written(&followed);
    assert_eq!((new[0], Reader::new(&new).content().unwrap()), (6, followed));
}
