//! Numbered places for values of one kind, in chunks that never move: growing copies nothing and leaves no holes behind,
//! so that memory is what is in use and little more.

use std::ops::{Index, IndexMut};

/// Places in a chunk: small against a shard, large against the list of chunks.
const CHUNK: usize = 256;

/// Values by number. Numbers of freed places are given again.
pub(super) struct Places<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Places<T> {
    /// Returns how many places there are, free ones included.
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Puts a value into a free place, or a new one, and returns its number.
    pub(super) fn put(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self[place] = value;
            return place;
        }
        // More than four billion entries in one shard do not fit into any machine's memory.
        let place = u32::try_from(self.len()).unwrap_or(u32::MAX);
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(value),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
        place
    }

    /// Lets a place be taken again. Its value stays until then.
    pub(super) fn free(&mut self, place: u32) {
        self.free.push(place);
    }

    /// Returns a value.
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)
    }

    /// Returns a value to be changed.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.chunks.get_mut(place as usize / CHUNK)?.get_mut(place as usize % CHUNK)
    }

    /// Returns the values of all places, free ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { chunks: vec![], free: vec![] }
    }
}

impl<T> Index<u32> for Places<T> {
    type Output = T;
    fn index(&self, place: u32) -> &T {
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Places<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_freed_ones_come_again() {
        let mut places = Places::default();
        let numbers: Vec<u32> = (0..1_000).map(|value| places.put(value)).collect();
        assert!(numbers.iter().enumerate().all(|(value, &place)| places[place] == value));
        assert_eq!((places.len(), places.iter().count()), (1_000, 1_000));
        places.free(numbers[300]);
        assert_eq!(places.put(7), numbers[300]);
        assert_eq!((places[numbers[300]], places.len()), (7, 1_000));
        assert_eq!(places.put(8), 1_000);
        assert_eq!(places.get(1_001), None);
    }
}
