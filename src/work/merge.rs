//! A walk over some of the runs in which workers' tasks lie (runs.rs), in one order: it pays nothing for what lies in the others.

use crate::postgres::caught::Failure;
use crate::postgres::relation::Table;
use crate::tenant::columns::Tasks;
use crate::work::runs::{Key3, Walk, key_of};
use crate::work::scan::Scan;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The first row of a run that is left: the one with the greatest priority, then the earliest, comes first.
fn rank(walk: &Walk, nth: usize) -> Option<(i16, Reverse<Key3>, usize)> {
    walk.head.as_ref().map(|row| {
        let key = key_of(row);
        (key.0, Reverse(key), nth)
    })
}

impl Scan<'_> {
    /// Takes due rows of several runs in one order.
    pub(super) fn merge(&mut self, table: &Table<Tasks>, walks: &mut [Walk]) -> Result<(), Failure> {
        let mut heads: BinaryHeap<_> = walks.iter().enumerate().filter_map(|(nth, walk)| rank(walk, nth)).collect();
        while let Some((priority, Reverse((_, time, id)), nth)) = heads.pop() {
            let walk = &mut walks[nth];
            let Some(row) = walk.head.take() else { continue };
            if self.is_enough(&row) {
                break;
            }
            let have = self.found.rows.len();
            self.consider(table, row, (time, id))?;
            if self.found.rows.len() > have {
                walk.took(priority);
            }
            if self.is_over() {
                break;
            }
            walk.advance();
            heads.extend(rank(walk, nth));
        }
        for walk in walks.iter() {
            self.look_again(walk.due);
            self.found.runs.extend(walk.news());
        }
        Ok(())
    }
}
