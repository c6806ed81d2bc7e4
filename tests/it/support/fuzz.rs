//! Changed bytes for decoders. Runs on stable Rust: each run changes a committed seed at random.

use std::path::Path;

use fastrand::Rng;

/// Returns how many runs to make: `usual`, bounded so that CI stays short, or what `POSTRIDER_FUZZ_RUNS` asks for.
pub(crate) fn runs(usual: usize) -> usize {
    std::env::var("POSTRIDER_FUZZ_RUNS").map_or(usual, |runs| runs.parse().expect("a number"))
}

/// Returns a random source, and prints the number that makes the same one again.
pub(crate) fn random() -> Rng {
    let seed =
        std::env::var("POSTRIDER_FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("POSTRIDER_FUZZ_SEED={seed}");
    Rng::with_seed(seed)
}

/// Returns the seeds in `tests/corpus` under that name, by name.
pub(crate) fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("a seed"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("bytes")))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 5, "the corpus is there");
    seeds
}

/// Changes bytes the ways that break decoders: flips, extremes, cuts, repeats, and lengths that lie.
pub(crate) fn mutate(rng: &mut Rng, seed: &[u8], other: &[u8], len_max: usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            1 if at < bytes.len() => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]).expect("a choice"),
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
    bytes.truncate(len_max);
    bytes
}
