//! What a process remembers of what others have written: bounded in number and in bytes, whatever they write.
//!
//! Half of the room is for what was used lately. When that half is full, what the other half has is forgotten and
//! the halves change places; what is asked for again moves over. So what is used stays, at no cost per use, and what
//! was asked for once goes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Of no more than so many things with so many bytes in all, as `insert` is told.
pub struct Bounded<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
    number_max: usize,
    bytes_max: usize,
}

impl<K: Hash + Eq, V: Clone> Bounded<K, V> {
    pub fn new(number_max: usize, bytes_max: usize) -> Self {
        Bounded { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, number_max, bytes_max }
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, bytes)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), bytes);
        Some(value)
    }

    /// What is too large for its half isn't kept.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if self.number_max == 0 || bytes > self.bytes_max / 2 {
            return;
        }
        if self.young.len() >= self.number_max / 2 || self.young_bytes + bytes > self.bytes_max / 2 {
            let young = std::mem::take(&mut self.young);
            // There are no halves of one.
            self.old = if self.number_max < 2 { HashMap::new() } else { young };
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, (value, bytes));
    }

    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, bytes)) = self.young.remove(key) {
            self.young_bytes -= bytes;
            self.old.remove(key);
            return Some(value);
        }
        self.old.remove(key).map(|(value, _)| value)
    }

    pub fn clear(&mut self) {
        self.young = HashMap::new();
        self.old = HashMap::new();
        self.young_bytes = 0;
    }
}
