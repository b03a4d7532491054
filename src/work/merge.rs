//! Workers' tasks lie in runs, one for each handler and queue, which share one order: a walk over some of the runs that pays nothing
//! for what lies in the others.

use crate::postgres::caught::Failure;
use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use crate::postgres::scan::From;
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::task;
use crate::tenant::columns::Tasks;
use crate::work::scan::Scan;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The first row of a run that is left: the one with the greatest priority, then the earliest, comes first.
struct Head {
    nth: usize,
    key: (i16, At, Id),
    row: Row<Tasks>,
}

impl Head {
    fn rank(&self) -> (i16, Reverse<At>, Reverse<Id>) {
        (self.key.0, Reverse(self.key.1), Reverse(self.key.2))
    }
}
impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.rank() == other.rank()
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Scan<'_> {
    /// Takes due rows of several runs in one order. Each is looked at from its beginning: there are more of them than an entry
    /// remembers places.
    pub(super) fn merge(&mut self, table: &Table<Tasks>, runs: &[Id]) -> Result<(), Failure> {
        let mut heads = BinaryHeap::new();
        for (nth, run) in runs.iter().enumerate() {
            heads.extend(self.head(table, *run, nth, None)?);
        }
        while let Some(Head { nth, key, row, .. }) = heads.pop() {
            if self.has_its_share() {
                self.full = true;
                self.leave(task::due(&row));
                return Ok(());
            }
            self.examined += 1;
            if self.examined > self.may_examine {
                self.cut = true;
                self.leave(task::due(&row));
                return Ok(());
            }
            self.consider(table, row, (key.1, key.2))?;
            if self.full {
                return Ok(());
            }
            heads.extend(self.head(table, runs[nth], nth, Some(key))?);
        }
        Ok(())
    }

    /// The first due row of a run behind `after`; of those of each priority that aren't due yet it is noted when the first is.
    fn head(&mut self, table: &Table<Tasks>, run: Id, nth: usize, after: Option<(i16, At, Id)>) -> Result<Option<Head>, Failure> {
        let is_its = Tasks::WAITS_FOR.equals(run);
        let mut found = match after {
            None => table.scan(&Tasks::WAITING, &[is_its]).next(),
            Some((priority, time, id)) => {
                let from = From { time, id };
                let keys = [is_its, Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.at_most(self.look.now)];
                let behind =
                    |row: &Row<Tasks>| (row.get(Tasks::RUN_AT).unwrap_or_default(), row.get(Tasks::ID).unwrap_or_default()) > (time, id);
                let next = table.scan(&Tasks::WAITING, &keys).from(Tasks::RUN_AT, Some(&from)).find(behind);
                if next.is_none() {
                    let later = [Tasks::WAITS_FOR.equals(run), Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.above(self.look.now)];
                    let due = table.scan(&Tasks::WAITING, &later).next().and_then(|row| row.get(Tasks::RUN_AT));
                    self.look_again(due.unwrap_or(At::NEVER));
                }
                match next {
                    Some(next) => Some(next),
                    None => table.scan(&Tasks::WAITING, &[Tasks::WAITS_FOR.equals(run), Tasks::PRIORITY.below(priority)]).next(),
                }
            }
        };
        while let Some(row) = found {
            let priority = row.get(Tasks::PRIORITY).unwrap_or(0);
            let (run_at, id) = (row.get(Tasks::RUN_AT).unwrap_or_default(), row.get(Tasks::ID).unwrap_or_default());
            if run_at <= self.look.now {
                return Ok(Some(Head { nth, key: (priority, run_at, id), row }));
            }
            self.look_again(run_at);
            found = table.scan(&Tasks::WAITING, &[Tasks::WAITS_FOR.equals(run), Tasks::PRIORITY.below(priority)]).next();
        }
        Ok(None)
    }
}
