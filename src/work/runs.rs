//! Workers' tasks lie in runs, one for each handler and queue, which share one order. A walk goes along one of them, from where no
//! live row lies before (shared/runs.rs), so that it passes dead rows once and not at each look.

use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use crate::postgres::scan::{From, Scan};
use crate::pure::ids::{self, Id};
use crate::pure::time::At;
use crate::shared::runs::Known;
use crate::tenant::columns::Tasks;

/// Where a row lies in its run: priority, due time, id.
pub type Key3 = (i16, At, Id);

pub fn key_of(row: &Row<Tasks>) -> Key3 {
    let time = row.get(Tasks::RUN_AT).unwrap_or_default();
    (row.get(Tasks::PRIORITY).unwrap_or(0), time, row.get(Tasks::ID).unwrap_or_default())
}

/// Walks that stay where they are between two rows; each holds some pages in memory. Others are found again.
const KEPT: usize = 16;

/// Rows of one run that are due, one after the other.
pub struct Walk<'t> {
    table: &'t Table<Tasks>,
    run: Id,
    now: At,
    /// What is known of it, the highest priority first, and how many of these the walk has come to.
    known: Vec<Known>,
    passed: usize,
    /// It goes through this priority, from what is known; None: through priorities that nothing is known of.
    within: Option<i16>,
    scan: Option<Scan<'t, Tasks>>,
    /// Where it is, and whether it keeps its scan from one row to the next.
    last: Option<Key3>,
    keeps: bool,
    ended: bool,
    /// The first row that is due and left.
    pub head: Option<Row<Tasks>>,
    /// A row of it, due or not.
    pub sample: Option<Row<Tasks>>,
    /// When the first of those that aren't due yet is.
    pub due: At,
    /// Before which no live row lies, of each priority that it has come to.
    pub first: Vec<Known>,
    /// Priorities of which rows were taken.
    took: Vec<i16>,
}

impl<'t> Walk<'t> {
    fn new(table: &'t Table<Tasks>, run: Id, known: &[Known], now: At) -> Walk<'t> {
        Walk {
            table,
            run,
            now,
            known: known.to_vec(),
            passed: 0,
            within: None,
            scan: None,
            last: None,
            keeps: true,
            ended: false,
            head: None,
            sample: None,
            due: At::NEVER,
            first: Vec::new(),
            took: Vec::new(),
        }
    }

    /// Along this run. `known`: what is known of it.
    fn along(table: &'t Table<Tasks>, run: Id, known: &[Known], now: At) -> Walk<'t> {
        let mut walk = Walk::new(table, run, known, now);
        walk.look_between(None);
        walk.advance();
        walk
    }

    /// Goes to the priorities below this one of which nothing is known.
    fn look_between(&mut self, below: Option<i16>) {
        let mut keys = vec![Tasks::WAITS_FOR.equals(self.run)];
        keys.extend(below.map(|below| Tasks::PRIORITY.below(below)));
        keys.extend(self.known.get(self.passed).map(|next| Tasks::PRIORITY.above(next.priority)));
        self.scan = Some(self.table.scan(&Tasks::WAITING, &keys));
        self.within = None;
    }

    /// Goes through one priority, from there on.
    fn look_within(&mut self, priority: i16, from: From) {
        let keys = [Tasks::WAITS_FOR.equals(self.run), Tasks::PRIORITY.equals(priority)];
        self.scan = Some(self.table.scan(&Tasks::WAITING, &keys).from(Tasks::RUN_AT, Some(&from)));
        self.within = Some(priority);
    }

    /// Comes to the next row that is due.
    pub fn advance(&mut self) {
        self.head = None;
        let passed = self.last.filter(|_| self.scan.is_none() && !self.ended);
        if let Some((priority, time, id)) = passed {
            self.look_within(priority, From { time, id });
        }
        while let Some(scan) = &mut self.scan {
            let found = scan.next().filter(|row| row.get(Tasks::WAITS_FOR) == Some(self.run));
            match found {
                Some(row) if passed == Some(key_of(&row)) => {}
                Some(row) if self.comes_to(&row) => {
                    self.head = Some(row);
                    break;
                }
                Some(row) => {
                    self.sample.get_or_insert(row);
                }
                None => self.go_on(),
            }
        }
        if !self.keeps {
            self.scan = None;
        }
    }

    /// Whether it is due; what is behind one that isn't isn't either, of its priority.
    fn comes_to(&mut self, row: &Row<Tasks>) -> bool {
        let (priority, time, id) = key_of(row);
        if time > self.now {
            self.due = self.due.min(time);
            self.note_first(priority, self.now, Id::NIL);
            self.look_between(Some(priority));
            return false;
        }
        self.note_first(priority, time, id);
        self.last = Some((priority, time, id));
        true
    }

    /// Where it went there is nothing left.
    fn go_on(&mut self) {
        match self.within {
            Some(priority) => {
                self.note_first(priority, self.now, Id::NIL);
                self.look_between(Some(priority));
            }
            None => match self.known.get(self.passed).copied() {
                Some(Known { priority, time, id, .. }) => {
                    self.passed += 1;
                    self.look_within(priority, From { time, id });
                }
                None => (self.scan, self.ended) = (None, true),
            },
        }
    }

    /// Of each priority what is said first.
    fn note_first(&mut self, priority: i16, time: At, id: Id) {
        if self.first.last().is_none_or(|last| last.priority != priority) {
            self.first.push(Known { run: self.run, priority, time, id });
        }
    }

    /// A row of this priority was taken.
    pub fn took(&mut self, priority: i16) {
        if self.took.last() != Some(&priority) {
            self.took.push(priority);
        }
    }

    /// What is to be known from now on: where rows die, because they are taken, or did so before.
    pub fn news(&self) -> impl Iterator<Item = Known> {
        let matters = |first: &&Known| match self.known.iter().find(|known| known.priority == first.priority) {
            Some(known) => known != *first,
            None => self.took.contains(&first.priority),
        };
        self.first.iter().filter(matters).copied()
    }

    fn let_go(&mut self) {
        (self.scan, self.keeps) = (None, false);
    }
}

/// Along each run between two keys of which there are rows.
pub fn present<'t>(table: &'t Table<Tasks>, known: &[Known], (from, to): (Id, Id), now: At) -> Vec<Walk<'t>> {
    let mut walks = Vec::new();
    let unknown = |first: Id, last: Option<Id>, walks: &mut Vec<Walk<'t>>| {
        let Some(last) = last else { return };
        each_unknown(table, (first, last), |run, row, scan| {
            let mut walk = Walk::new(table, run, &[], now);
            walk.begin_with(row, scan);
            add(walks, walk);
        });
    };
    let mut from = Some(from);
    for known in known.chunk_by(|a, b| a.run == b.run) {
        let run = known[0].run;
        if let Some(first) = from
            && (first..=to).contains(&run)
        {
            unknown(first, before(run), &mut walks);
            add(&mut walks, Walk::along(table, run, known, now));
            from = after(run);
        }
    }
    if let Some(first) = from {
        unknown(first, Some(to), &mut walks);
    }
    walks
}

fn add<'t>(walks: &mut Vec<Walk<'t>>, mut walk: Walk<'t>) {
    if walks.len() >= KEPT {
        walk.let_go();
    }
    if walk.head.is_some() || walk.sample.is_some() {
        walks.push(walk);
    }
}

/// The first row of each run between two keys, whoever is looking.
pub fn first_rows(table: &Table<Tasks>, range: (Id, Id)) -> Vec<(Id, Row<Tasks>)> {
    let mut found = Vec::new();
    each_unknown(table, range, |run, row, _| found.push((run, row)));
    found
}

/// Rows of one run that are looked at for one that expires.
const IN_FRONT: usize = 100;

/// When the first of the rows expires that stand in front of each run, later than `after`; NEVER: none does.
pub fn first_expiry(table: &Table<Tasks>, after: At) -> At {
    let front = |run: Id| table.scan(&Tasks::WAITING, &[Tasks::WAITS_FOR.equals(run)]).take(IN_FRONT);
    let all = first_rows(table, ids::RUNS).into_iter().flat_map(|(run, _)| front(run));
    all.filter_map(|row| row.get(Tasks::EXPIRES_AT)).filter(|at| *at > after).min().unwrap_or(At::NEVER)
}

/// Runs between two keys, each with its first row, and the scan that has found it.
fn each_unknown<'t>(table: &'t Table<Tasks>, (first, last): (Id, Id), mut f: impl FnMut(Id, Row<Tasks>, Scan<'t, Tasks>)) {
    let mut from = Some(first);
    while let Some(first) = from.filter(|first| *first <= last) {
        let within = [Tasks::WAITS_FOR.at_least(first), Tasks::WAITS_FOR.at_most(last)];
        let mut scan = table.scan(&Tasks::WAITING, &within);
        let Some(row) = scan.next() else { return };
        let run = row.get(Tasks::WAITS_FOR).unwrap_or_default();
        if ids::is_run(run) {
            f(run, row, scan);
        }
        from = after(run);
    }
}

fn before(id: Id) -> Option<Id> {
    id.number().checked_sub(1).map(Id::of)
}

fn after(id: Id) -> Option<Id> {
    id.number().checked_add(1).map(Id::of)
}

impl<'t> Walk<'t> {
    /// Its first row was found, by a walk along several runs.
    fn begin_with(&mut self, row: Row<Tasks>, scan: Scan<'t, Tasks>) {
        self.scan = Some(scan);
        if self.comes_to(&row) {
            self.head = Some(row);
        } else {
            self.sample = Some(row);
            self.advance();
        }
    }

    /// A row of the run.
    pub fn any(&self) -> Option<&Row<Tasks>> {
        self.head.as_ref().or(self.sample.as_ref())
    }
}
