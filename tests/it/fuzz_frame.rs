//! Any bytes in a queue or in the ledger are an error, never a crash, a hang or unbounded memory.
//!
//! Runs on stable Rust: each run changes a committed seed at random. A seed in `tests/corpus/frame` is a frame with its
//! body unsealed (`header | body`), so that changes reach the decoder behind the seal.

use std::path::Path;

use postrider::queue::FRAME_BYTES_MAX;
use postrider::queue::frame::{Frame, HEADER_BYTES, Summary, open_job, open_reply};
use postrider::seal::Sealer;

/// Bounded, so that CI stays short; `POSTRIDER_FUZZ_RUNS` asks for more.
const RUNS: usize = 40_000;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/frame");
    let seeds: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() >= 5, "the corpus is there");
    seeds
}

/// Changes bytes the ways that break decoders: flips, extremes, cuts, repeats, and lengths that lie.
fn mutate(rng: &mut fastrand::Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            1 if at < bytes.len() => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]).unwrap(),
            2 => bytes.truncate(at),
            3 => {
                let (from, to) = (rng.usize(0..=other.len()), rng.usize(0..=other.len()));
                let part = other[from.min(to)..from.max(to)].to_vec();
                bytes.splice(at..at, part);
            }
            4 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            5 => drop(bytes.splice(at..at, [0xff; 10])),
            6 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.push(rng.u8(..)),
        }
    }
    bytes.truncate(FRAME_BYTES_MAX - 64);
    bytes
}

#[test]
fn the_corpus_is_still_readable() {
    let sealer = Sealer::ephemeral().unwrap();
    for seed in corpus() {
        let (header, body) = seed.split_at(HEADER_BYTES);
        let frame = [header, &sealer.seal(body, header)].concat();
        Frame::decode(&frame, &sealer).unwrap();
    }
}

#[test]
fn no_bytes_break_the_frame_decoder() {
    let runs = std::env::var("POSTRIDER_FUZZ_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let number = fastrand::u64(..);
    println!("seed {number}");
    let mut rng = fastrand::Rng::with_seed(number);
    let (sealer, corpus) = (Sealer::ephemeral().unwrap(), corpus());
    let (mut read, mut refused) = (0_usize, 0_usize);
    for _ in 0..runs {
        let (seed, other) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
        let bytes = mutate(&mut rng, seed, other);
        // As it would come from a queue: sealed elsewhere, or not at all.
        assert!(Frame::decode(&bytes, &sealer).is_err());
        assert!(open_job(&bytes, &sealer).is_err() && open_reply(&bytes, &sealer).is_err());
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
