//! What a callee does. Pure: chance comes from the job's id, the attempt and the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::config::SimulatedTrunk;
use crate::domain::call::CallResult;
use crate::domain::ids::JobId;

/// What callees say.
const WORDS: [&str; 8] = ["yes", "no", "please", "call", "me", "tomorrow", "thank", "you"];

/// What one callee does in one call.
#[derive(Clone, Debug)]
pub(super) struct Callee {
    /// How long the network takes to say anything.
    pub(super) latency: Duration,
    /// How the call ends; a machine listens as well.
    pub(super) result: CallResult,
    /// How long it rings until somebody answers or declines.
    pub(super) ring: Duration,
    /// How long they stay on the line at most.
    pub(super) stays: Duration,
    /// How long they think before they press a key.
    pub(super) thinks: Duration,
    keys: Vec<(char, f64)>,
    chance: Rng,
}

impl Callee {
    /// Draws what the callee of an attempt does.
    pub(super) fn draw(link: &SimulatedTrunk, job: JobId, attempt: u16) -> Self {
        let mut chance = Rng::with_seed(mix(link.seed, job.0.as_u128(), attempt));
        let lot = chance.f64();
        let mut sum = 0.0;
        let result = link.results.iter().find(|(_, share)| {
            sum += share;
            lot < sum
        });
        Self {
            latency: spread(link.latency, &mut chance),
            result: result.map_or(CallResult::Completed, |(result, _)| *result),
            ring: spread(link.ring, &mut chance),
            stays: spread(link.talk, &mut chance),
            thinks: spread(link.thinks, &mut chance),
            keys: link.keys.clone(),
            chance,
        }
    }

    /// Draws what they say when they are recorded.
    pub(super) fn says(&mut self) -> String {
        let many = 2 + self.chance.usize(..5);
        let words: Vec<_> = (0..many).map(|_| WORDS[self.chance.usize(..WORDS.len())]).collect();
        words.join(" ")
    }

    /// Draws what they press when they are asked; `None`: nothing.
    pub(super) fn presses(&mut self) -> Option<char> {
        if self.result != CallResult::Completed {
            return None;
        }
        let lot = self.chance.f64();
        let mut sum = 0.0;
        let key = self.keys.iter().find(|(_, share)| {
            sum += share;
            lot < sum
        });
        key.map(|(key, _)| *key)
    }
}

/// Returns a time from half of the average to one and a half of it.
fn spread(average: Duration, chance: &mut Rng) -> Duration {
    average.mul_f64(0.5 + chance.f64())
}

fn mix(seed: u64, job: u128, attempt: u16) -> u64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&job.to_be_bytes());
    hash.update(&attempt.to_be_bytes());
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(hash.finalize()) << 17 ^ u64::from(attempt)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::config::{self, Link};

    fn link(more: &str) -> SimulatedTrunk {
        let text = format!("[[provider]]\nid = \"sim\"\nkind = \"simulated-trunk\"\n{more}");
        let loaded = config::parse(Some((Path::new("test.toml"), &text)), &[]).unwrap();
        match loaded.settings.providers.into_iter().next().unwrap().link {
            Link::SimulatedTrunk(link) => *link,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn callees_are_drawn_as_the_settings_say_and_the_same_again() {
        let link = link(
            "busy = 0.25\nno_answer = 0.25\ndeclined = 0.0\ninvalid_number = 0.0\nunreachable = 0.0\nnetwork = 0.0\nkeys = [\"1 0.5\", \"2 0.25\"]\nring = \"4s\"",
        );
        let mut results = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for number in 0..4_000_u128 {
            let job = JobId(Uuid::from_u128(number));
            let mut callee = Callee::draw(&link, job, 1);
            assert!((2.0..6.0).contains(&callee.ring.as_secs_f64()), "{:?}", callee.ring);
            let again = Callee::draw(&link, job, 1);
            assert_eq!((callee.result, callee.ring), (again.result, again.ring));
            *results.entry(callee.result.as_str()).or_insert(0) += 1;
            if callee.result == CallResult::Completed {
                *keys.entry(callee.presses()).or_insert(0) += 1;
            }
        }
        let about = |is: i32, of: i32| assert!((is - of).abs() < 150, "{is}, not about {of}: {results:?} {keys:?}");
        about(results["busy"], 1_000);
        about(results["no_answer"], 1_000);
        about(results["completed"], 2_000);
        about(keys[&Some('1')], results["completed"] / 2);
        about(keys[&Some('2')], results["completed"] / 4);
    }
}
