//! The youngest frames, so that a consumer that keeps up never reads the disk.

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;
use uuid::Uuid;

/// What an entry costs beyond its frame, so that empty frames are bounded too. Roughly two table entries.
const ENTRY_BYTES: usize = 96;

/// Frames by sequence, first in, first out, bounded by bytes.
pub(super) struct Cache {
    frames: HashMap<u64, (Uuid, Bytes)>,
    order: VecDeque<(u64, usize)>,
    bytes: usize,
    bytes_max: usize,
}

// === impl Cache ===

impl Cache {
    /// Returns an empty cache.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { frames: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Keeps a frame and forgets the oldest ones that it displaces.
    pub(super) fn insert(&mut self, seq: u64, id: Uuid, frame: Bytes) {
        let cost = frame.len() + ENTRY_BYTES;
        self.frames.insert(seq, (id, frame));
        self.order.push_back((seq, cost));
        self.bytes += cost;
        while self.bytes > self.bytes_max {
            let Some((oldest, cost)) = self.order.pop_front() else { break };
            self.bytes -= cost;
            self.frames.remove(&oldest);
        }
    }

    /// Returns a frame that is kept.
    pub(super) fn get(&self, seq: u64) -> Option<(Uuid, Bytes)> {
        self.frames.get(&seq).cloned()
    }

    /// Forgets a frame. What it cost is given back when its turn comes.
    pub(super) fn remove(&mut self, seq: u64) {
        self.frames.remove(&seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_frames_make_room() {
        let mut cache = Cache::new(3 * (100 + ENTRY_BYTES));
        for seq in 0..5 {
            cache.insert(seq, Uuid::nil(), Bytes::from(vec![0; 100]));
        }
        let kept: Vec<u64> = (0..5).filter(|&seq| cache.get(seq).is_some()).collect();
        assert_eq!(kept, [2, 3, 4]);
        cache.remove(4);
        assert!(cache.get(4).is_none());
    }
}
