//! Serving fire times: one transaction enqueues the task and advances the schedule, so each fire
//! time is served exactly once, whoever is killed in between. The task's id is computed from the
//! schedule and the fire time: a second attempt finds the first. What one schedule makes is fire.rs's.

use crate::postgres::caught::{self, Failure};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, row_lock, subtransaction, timeout, transaction};
use crate::pure::time::{At, Span};
use crate::schedules::row::{ROW, Schedule};
use crate::settings;
use crate::shared::entry::Entry;
use crate::shared::{Shared, ready};
use crate::task::queue::Queue;
use crate::tenant::columns::Schedules;
use crate::tenant::rights::{By, Caller};
use crate::tenant::{self, Tenant};
use crate::work::fire::{Changes, Firing};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Schedules of one tenant that one transaction serves.
const SCHEDULES: usize = 200;
/// Fire times of one tenant that one transaction serves.
const FIRE_TIMES: usize = 500;
/// How long one tenant's schedules are served before it is the others' turn.
const TURN: Duration = Duration::from_millis(100);
/// How long a tick goes on before fan-outs and sweeps get theirs.
const PASS: Duration = Duration::from_millis(500);
/// Milliseconds that a lock is waited for: enough for a table to be extended, and nobody's transaction.
const LOCK_TIMEOUT: i32 = 5;
const LOCKED_AGAIN: Span = Span::of_secs(1);
/// Rows of one tenant that somebody has locked, and that one transaction looks at. More than fit into a page, so that the
/// next one gets on (see [`Position`]).
const LOCKED_ROWS: usize = 1000;
const FAILED_AGAIN: Span = Span::of_secs(5);
/// An internal error is the first one again after this.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So many are remembered; with one more all begin anew.
const FAILED_MAX: usize = 1000;
/// Tenants whose rows in front are locked, remembered at a time.
const PLACES_MAX: usize = 10_000;
/// Rows in front that were locked are left out for so long, while there is something to do behind them.
const LEFT_OUT_FOR: Duration = Duration::from_secs(10);
/// Rows that came to be due without a word (by an UPDATE of their owner) are found by a look at all of them.
const LOOK_AT_ALL: Span = Span::of_secs(10);

/// Serves what is due in tenants of this database whose time has come: the one that has waited longest first,
/// and for so long only; the others stay due. False: nothing came of it.
pub fn tick(shared: &Shared, database: u32) -> bool {
    let (began, now) = (clock::steady(), clock::now());
    let is_due = |entry: &Entry| entry.in_use.load() == 1 && entry.database.load() == database && entry.schedule_due.load() <= now;
    let mut due: Vec<(At, usize)> = shared
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| is_due(entry))
        .map(|(index, entry)| (entry.schedule_due.load(), index))
        .collect();
    due.sort();
    let Some(db) = shared.db(database) else { return false };
    let mut came = false;
    for (n, (_, index)) in due.into_iter().enumerate() {
        // One at least: however long it took to look for them, something comes of it.
        if n > 0 && began.elapsed() > PASS {
            // Nobody else notes them again.
            db.ticks_wanted.store(1);
            break;
        }
        // Should this process end meanwhile, the launcher puts it back.
        db.ticking.store(index as u32 + 1);
        // Taken off before the look: whoever sets an earlier one meanwhile is not lost.
        shared.entries[index].schedule_due.store(At::NEVER);
        let before = clock::now();
        let again = take_turn(shared, index);
        // One that is due as it was before has had nothing done for it.
        came |= again > before;
        if again != At::NEVER {
            ready::schedule_due(shared, index as u32, again);
        }
        db.ticking.store(0);
    }
    came
}

/// Serves one tenant; when to come again.
fn take_turn(shared: &Shared, index: usize) -> At {
    let entry = &shared.entries[index];
    let began = clock::steady();
    let schema = entry.tenant.load();
    let mut care = Care::Batch;
    loop {
        let now = clock::now();
        let full = entry.schedule_full.load();
        let all = full > now || now - full > LOOK_AT_ALL;
        let low = entry.schedule_low.load();
        let served = transaction::run(|| {
            timeout::limit_locks(LOCK_TIMEOUT);
            serve(shared, schema, if all { ready::BEGINNING } else { low }, Position::of(schema), care)
        });
        let failure = match served {
            Ok(Served { next, nothing_before, behind }) => {
                Position::note(schema, behind);
                if let Some(raised) = nothing_before {
                    // Unless somebody has announced another one meanwhile.
                    let _ = entry.schedule_low.compare_exchange(low, raised.max(low));
                    if all {
                        entry.schedule_full.store(now);
                    }
                }
                match next {
                    Step::More if began.elapsed() < TURN => {
                        care = Care::Batch;
                        continue;
                    }
                    Step::More => return clock::now(),
                    Step::Next(at) => return at,
                }
            }
            Err(failure) => failure,
        };
        if care == Care::Batch {
            // Which one of them it was: the others are not to suffer.
            care = Care::Single;
            continue;
        }
        if !matches!(
            failure.sqlstate,
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                | SqlState::FEATURE_NOT_SUPPORTED
                | SqlState::INVALID_SCHEMA_NAME
                | SqlState::UNDEFINED_OBJECT
                | SqlState::UNDEFINED_TABLE
        ) {
            caught::log_failure("schedules could not be served", &failure);
        }
        return clock::now() + FAILED_AGAIN;
    }
}

/// What a failure takes back: all that is served in one transaction, or the one schedule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    Batch,
    Single,
}

/// Whether an error says something of the moment, not of the schedule: locks, resources, an operator,
/// the state of the tenant; or somebody enqueues the very task by hand.
fn passes(sqlstate: SqlState) -> bool {
    sqlstate.may_pass() || ["55", "08", "25", "3F"].contains(&sqlstate.class()) || sqlstate == SqlState::UNDEFINED_TABLE
}

thread_local! {
    /// Schedules that failed with an error of the server's own, and when: it may have been something that
    /// somebody was just dropping.
    static FAILED_ONCE: RefCell<HashMap<(u32, String), Instant>> = RefCell::default();
}

/// Whether it is an internal error that this schedule hasn't had lately.
fn is_first(tenant: u32, name: &str, sqlstate: SqlState) -> bool {
    sqlstate.class() == "XX"
        && FAILED_ONCE.with_borrow_mut(|failed| {
            failed.retain(|_, at| at.elapsed() < REMEMBERED);
            if failed.len() >= FAILED_MAX {
                failed.clear();
            }
            failed.insert((tenant, name.to_string()), Instant::now()).is_none()
        })
}

enum Step {
    /// There is more that is due.
    More,
    Next(At),
}

struct Served {
    next: Step,
    /// What is left to be served comes due at this or later, as far as it could be seen.
    nothing_before: Option<At>,
    /// So many rows are locked that the next transaction begins behind these.
    behind: Option<Position>,
}

impl Served {
    fn nothing(next: At) -> std::result::Result<Served, Failure> {
        Ok(Served { next: Step::Next(next), nothing_before: None, behind: None })
    }
}

/// How far the rows of a tenant were looked at that came due first and are all locked. Rows of one fire time are in
/// the order of their pages; within a page HOT updates break it, so a page begun is looked at again.
#[derive(Clone, Copy)]
struct Position {
    due: At,
    page: u64,
    since: Instant,
}

thread_local! {
    static POSITIONS: RefCell<HashMap<u32, Position>> = RefCell::default();
}

impl Position {
    /// Not for ever: where more comes due than can be served, nobody would look again at what was locked once.
    fn of(tenant: u32) -> Option<Position> {
        let place = POSITIONS.with_borrow(|places| places.get(&tenant).copied())?;
        (place.since.elapsed() < LEFT_OUT_FOR).then_some(place)
    }
    fn note(tenant: u32, place: Option<Position>) {
        POSITIONS.with_borrow_mut(|places| {
            if places.len() >= PLACES_MAX {
                // What is forgotten is found again, by looking from the beginning.
                places.clear();
            }
            match place {
                Some(place) => drop(places.insert(tenant, place)),
                None => drop(places.remove(&tenant)),
            }
        });
    }
    fn key(&self) -> (At, u64) {
        (self.due, self.page)
    }
}

/// The schedules of one tenant that are due, from those of `from` on; those before `behind` have just been found locked.
fn serve(shared: &Shared, schema: u32, from: At, behind: Option<Position>, care: Care) -> std::result::Result<Served, Failure> {
    let tenant = match tenant::by_oid(schema) {
        Ok(tenant) => tenant,
        // Detached or dropped: whoever attaches it again wakes it.
        Err(_) => return Served::nothing(At::NEVER),
    };
    let now = clock::now();
    if !tenant.ready || tenant.suspended.is_some() || settings::exclude_schemas().contains(&tenant.name) {
        return Served::nothing(At::NEVER);
    }
    if let Some(until) = tenant.paused_until(now) {
        return Served::nothing(until);
    }
    let Some(mut work) = Work::open(shared, &tenant, now)? else { return Served::nothing(now + LOCKED_AGAIN) };
    let mut due = Vec::new();
    let mut keys = vec![Schedules::NEXT_RUN.at_most(now)];
    let from = behind.map_or(from, |place| place.due.max(from));
    if from > ready::BEGINNING {
        keys.push(Schedules::NEXT_RUN.at_least(from));
    }
    // What is left out for now: until when, and since when at least it is due.
    let (mut again, mut left_out) = (if behind.is_some() { now + LOCKED_AGAIN } else { At::NEVER }, At::NEVER);
    let (mut locked, mut cut) = (0, None);
    let began = clock::steady();
    // What is due is fetched when it is served: two hundred times what one may take would be too much.
    work.table.fetching_at_most(0, || {
        for row in work.table.scan(&Schedules::DUE, &keys) {
            let at = row.get(Schedules::NEXT_RUN).unwrap_or(from);
            let place = Position { due: at, page: row.tid.page(), since: behind.map_or(began, |behind| behind.since) };
            if behind.is_none_or(|behind| place.key() >= behind.key()) {
                // Somebody is changing it, or the end of a task notes itself in it: that isn't waited for.
                if row_lock::try_lock(&work.table, &row) {
                    due.push(row);
                } else {
                    locked += 1;
                    again = now + LOCKED_AGAIN;
                    left_out = left_out.min(at);
                }
            }
            // Somebody may have locked any number of them.
            if locked == LOCKED_ROWS || began.elapsed() > TURN {
                cut = Some(place);
            }
            if due.len() == SCHEDULES || cut.is_some() {
                break;
            }
        }
    });
    let mut more = due.len() == SCHEDULES || cut.is_some();
    let mut left = FIRE_TIMES;
    let mut any = false;
    let began = clock::steady();
    for row in &due {
        if left == 0 || began.elapsed() > TURN {
            more = true;
            break;
        }
        let Some(row) = &work.table.fetch(row.tid) else {
            // It comes after one that was served just now, and was told so: as it is now it is looked at anew.
            (more, any) = (true, true);
            continue;
        };
        let served = match care {
            Care::Batch => work.serve(row, &mut left)?,
            Care::Single => work.serve_alone(row, &mut left)?,
        };
        match served {
            Turn::Over(next) => {
                any = true;
                more |= next.is_some_and(|next| next <= now);
            }
            Turn::LeftOut(at) => {
                again = again.min(at);
                left_out = left_out.min(row.get(Schedules::NEXT_RUN).unwrap_or(from));
            }
        }
    }
    if more {
        let behind = match cut {
            // Where there are so many of one fire time that a turn does not get past them, it begins anew.
            Some(cut) if !any => Some(cut).filter(|cut| behind.is_none_or(|behind| cut.key() > behind.key())),
            _ => behind,
        };
        // Where all of them are left out, trying at once again would be in vain.
        let next = if any || cut.is_some() && behind.is_some() { Step::More } else { Step::Next(again.min(now + LOCKED_AGAIN)) };
        return Ok(Served { next, nothing_before: None, behind });
    }
    transaction::refresh_snapshot();
    let later = work.table.scan(&Schedules::DUE, &[Schedules::NEXT_RUN.above(now)]).next();
    let next = again.min(later.and_then(|row| row.get(Schedules::NEXT_RUN)).unwrap_or(At::NEVER));
    let nothing_before = if behind.is_none() { Some(left_out.min(now)) } else { None };
    Ok(Served { next: Step::Next(next), nothing_before, behind: None })
}

/// What came of a schedule that was due.
enum Turn {
    /// Its next fire time.
    Over(Option<At>),
    /// It stays due, and is looked at again then.
    LeftOut(At),
}

/// A tenant's tables while its schedules are served.
struct Work<'a> {
    shared: &'a Shared,
    tenant: &'a Rc<Tenant>,
    table: Table<Schedules>,
    queue: Queue,
    now: At,
}

impl<'a> Work<'a> {
    /// None: somebody has them.
    fn open(shared: &'a Shared, tenant: &'a Rc<Tenant>, now: At) -> Result<Option<Work<'a>>> {
        let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(None) };
        let Some(tasks) = tenant.try_open(tenant.task, Access::Write)? else { return Ok(None) };
        let nobody = Caller { name: String::new(), superuser: false };
        let queue = Queue::of(tenant.clone(), tasks.fetch_at_most(ROW), nobody, By::Engine);
        Ok(Some(Work { shared, tenant, table: table.fetch_at_most(ROW), queue, now }))
    }

    /// A row that is locked. `left`: fire times that this transaction may still serve.
    fn serve(&mut self, row: &Row<Schedules>, left: &mut usize) -> std::result::Result<Turn, Failure> {
        let changes = match Schedule::of(self.tenant, row) {
            Ok(schedule) if schedule.of_all.is_some() && !tenant::keep(self.tenant)? => {
                return Ok(Turn::LeftOut(self.now + LOCKED_AGAIN));
            }
            Ok(schedule) => {
                let Work { shared, tenant, ref mut queue, now, .. } = *self;
                Firing { shared, tenant, queue, row, schedule: &schedule, now, left, given_up: 0 }.fire()?
            }
            // A broken schedule says so and stops nothing else.
            Err(broken) => Changes::broken(row, broken.into()),
        };
        self.write(row, &changes)
    }

    /// The same, so that an error takes back nothing but this.
    fn serve_alone(&mut self, row: &Row<Schedules>, left: &mut usize) -> std::result::Result<Turn, Failure> {
        let (shared, tenant, now) = (self.shared, self.tenant, self.now);
        let served = subtransaction::run(|| match Work::open(shared, tenant, now)? {
            Some(mut work) => work.serve(row, left),
            None => Ok(Turn::LeftOut(now + LOCKED_AGAIN)),
        });
        let failure = match served {
            Ok(turn) => return Ok(turn),
            Err(failure) => failure,
        };
        let name = row.text(Schedules::NAME).unwrap_or_default();
        if failure.sqlstate.class() == "40" || failure.sqlstate == SqlState::LOCK_NOT_AVAILABLE {
            return Ok(Turn::LeftOut(now + LOCKED_AGAIN));
        }
        if passes(failure.sqlstate) || is_first(tenant.oid, &name, failure.sqlstate) {
            caught::log_failure("a schedule could not be served", &failure);
            return Ok(Turn::LeftOut(now + FAILED_AGAIN));
        }
        // Whatever is in it, it must not come again and again: not tried until somebody mends it.
        self.write(row, &Changes::broken(row, Error::new(SqlState::INTERNAL_ERROR, failure.message)))
    }

    fn write(&self, row: &Row<Schedules>, changes: &Changes) -> std::result::Result<Turn, Failure> {
        if changes.over {
            return match self.table.delete(row) {
                Write::Done => Ok(Turn::Over(None)),
                Write::Overtaken => Err(overtaken()),
            };
        }
        let state = changes.state.document();
        let mut set = vec![Schedules::NEXT_RUN.to(changes.next), Schedules::PROBLEM.to(changes.problem.as_deref())];
        // What is too large to be read stays as it is.
        if row.outside <= ROW {
            set.push(Schedules::STATE.to(state.as_ref()));
        }
        if let Some((at, count)) = changes.served {
            set.push(Schedules::LAST_RUN.to(at));
            set.push(Schedules::RUN_COUNT.to(row.get(Schedules::RUN_COUNT).unwrap_or(0).saturating_add(count)));
        }
        if let Some(id) = changes.last_task {
            set.push(Schedules::LAST_TASK.to(id));
        }
        if changes.failed > 0 {
            set.push(Schedules::FAIL_COUNT.to(row.get(Schedules::FAIL_COUNT).unwrap_or(0).saturating_add(changes.failed)));
        }
        if let Some(n) = changes.repeats {
            set.push(Schedules::REPEATS.to(n));
        }
        match self.table.update(row, &set) {
            Write::Done => Ok(Turn::Over(changes.next)),
            // It was locked; only this transaction itself could have.
            Write::Overtaken => Err(overtaken()),
        }
    }
}

fn overtaken() -> Failure {
    Failure::new(SqlState::SERIALIZATION_FAILURE, "the schedule was changed meanwhile")
}

/// When the tenant's next schedule comes due; for sweeps.
pub fn first_due(table: &Table<Schedules>) -> Option<At> {
    table.scan(&Schedules::DUE, &[]).next()?.get(Schedules::NEXT_RUN)
}
