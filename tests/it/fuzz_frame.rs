//! Any bytes in a queue or in the ledger are an error, never a crash, a hang or unbounded memory.
//!
//! Runs on stable Rust: each run changes a committed seed at random. A seed in `tests/corpus/frame` is a frame with its
//! body unsealed (`header | body`), so that changes reach the decoder behind the seal.

use postrider::queue::FRAME_BYTES_MAX;
use postrider::queue::frame::{Frame, HEADER_BYTES, Summary, open_heard, open_job};
use postrider::seal::Sealer;

use crate::support::fuzz;

/// Bounded, so that CI stays short.
const RUNS: usize = 40_000;

#[test]
fn no_bytes_break_the_frame_decoder() {
    let runs = fuzz::runs(RUNS);
    let mut rng = fuzz::random();
    let (sealer, corpus) = (Sealer::ephemeral().unwrap(), fuzz::corpus("frame"));
    let (mut read, mut refused) = (0_usize, 0_usize);
    for _ in 0..runs {
        let ((_, seed), (_, other)) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
        let bytes = fuzz::mutate(&mut rng, seed, other, FRAME_BYTES_MAX - 64);
        // As it would come from a queue: sealed elsewhere, or not at all.
        assert!(Frame::decode(&bytes, &sealer).is_err());
        assert!(open_job(&bytes, &sealer).is_err() && open_heard(&bytes, &sealer).is_err());
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { continue };
        let frame = [header, &sealer.seal(body, header)].concat();
        match Frame::decode(&frame, &sealer) {
            Ok(frame_read) => {
                // What is read is sound: it can be written, and is read the same again.
                assert_eq!(Summary::read(&frame), frame_read.summary());
                let again = frame_read.encode(&sealer).unwrap();
                assert_eq!(Frame::decode(&again, &sealer).unwrap(), frame_read);
                read += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > runs / 100 && refused > runs / 4, "both ways are taken: {read} read, {refused} refused");
}
