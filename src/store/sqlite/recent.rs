//! The newest of something, known by heart.

use foldhash::{HashMap, HashMapExt};
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// The newest keys, with a number each.
pub(super) struct Recent<K> {
    most: usize,
    numbers: HashMap<K, i64>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash> Recent<K> {
    /// Room for `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, numbers: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn get(&self, key: &K) -> Option<i64> {
        self.numbers.get(key).copied()
    }

    /// Adds the newest.
    pub(super) fn add(&mut self, key: K, number: i64) {
        if self.numbers.insert(key, number).is_none() {
            self.order.push_back(key);
        }
    }

    /// Adds one that is older than all others, unless it is there.
    pub(super) fn add_older(&mut self, key: K, number: i64) {
        if let Entry::Vacant(place) = self.numbers.entry(key) {
            place.insert(number);
            self.order.push_front(key);
        }
    }

    /// Forgets the oldest as long as there are too many.
    pub(super) fn trim(&mut self, mut forgotten: impl FnMut(&K, i64)) {
        while self.order.len() > self.most {
            let Some(key) = self.order.pop_front() else { return };
            if let Some(number) = self.numbers.remove(&key) {
                forgotten(&key, number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first_and_said() {
        let mut recent = Recent::new(3);
        recent.add(2, 20);
        recent.add(3, 30);
        recent.add_older(1, 10);
        recent.add_older(2, 99);
        recent.add(4, 40);
        recent.add(3, 31);
        let mut gone = Vec::new();
        recent.trim(|key, number| gone.push((*key, number)));
        assert_eq!(gone, [(1, 10)]);
        assert_eq!([1, 2, 3, 4].map(|key| recent.get(&key)), [None, Some(20), Some(31), Some(40)]);
    }
}
