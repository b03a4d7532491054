//! Serving fire times: one transaction enqueues the task and advances the schedule, so each fire
//! time is served exactly once, whoever is killed in between. The task's id is computed from the
//! schedule and the fire time: a second attempt finds the first.

use crate::fanout::{definitions, lines};
use crate::postgres::caught::{self, Failure};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, row_lock, subtransaction, timeout, transaction};
use crate::pure::schedule::catch_up::{self, Overlap};
use crate::pure::schedule::rule::RuleError;
use crate::pure::schedule::spread;
use crate::pure::time::{self, At, Span};
use crate::pure::{ids, state};
use crate::schedules::follow::{self, State};
use crate::schedules::row::{Broken, ROW, Schedule};
use crate::shared::entry::Entry;
use crate::shared::{Shared, ready};
use crate::task::new::NewTask;
use crate::task::queue::Queue;
use crate::tenant::columns::{Schedules, Tasks};
use crate::tenant::rights::{By, Caller};
use crate::tenant::{self, Tenant};
use crate::{handler, settings};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Schedules of one tenant that one transaction serves.
const SCHEDULES: usize = 200;
/// Fire times of one tenant that one transaction serves.
const FIRE_TIMES: usize = 500;
/// A line of tq_fanouts, which has a row for each tenant, counts as so many.
const LINE: usize = 100;
/// How long one tenant's schedules are served before it is the others' turn.
const TURN: Duration = Duration::from_millis(100);
/// How long a tick goes on before fan-outs and sweeps get theirs.
const PASS: Duration = Duration::from_millis(500);
/// Milliseconds that a lock is waited for: enough for a table to be extended, and nobody's transaction.
const LOCK_TIMEOUT: i32 = 5;
const LOCKED_AGAIN: Span = Span::of_secs(1);
/// Rows of one tenant that somebody has locked, and that one transaction looks at. More than fit into a page, so that the
/// next one gets on (see [`Place`]).
const LOCKED_ROWS: usize = 1000;
const FAILED_AGAIN: Span = Span::of_secs(5);
/// An internal error is the first one again after this.
/// So many are remembered; with one more all begin anew.
const FAILED_MAX: usize = 1000;
const REMEMBERED: Duration = Duration::from_secs(600);
/// Tenants whose rows in front are locked, remembered at a time.
const PLACES_MAX: usize = 10_000;
/// Rows in front that were locked are left out for so long, while there is something to do behind them.
const LEFT_OUT_FOR: Duration = Duration::from_secs(10);
/// Rows that came to be due without a word (by an UPDATE of their owner) are found by a look at all of them.
const LOOK_AT_ALL: Span = Span::of_secs(10);
impl From<Broken> for Error {
    fn from(b: Broken) -> Error {
        b.error
    }
}
impl From<RuleError> for Error {
    fn from(e: RuleError) -> Error {
        let mut error = Error::invalid(e.message);
        if let Some(position) = e.position {
            error = error.detail(format!("Parameter {}, at byte {}.", e.field, position + 1));
        } else {
            error = error.detail(format!("Parameter {}.", e.field));
        }
        if let Some(hint) = e.hint {
            error = error.hint(hint);
        }
        error
    }
}

/// Serves what is due in tenants of this database whose time has come: the one that has waited longest first,
/// and for so long only; the others stay due. False: nothing came of it.
pub fn tick(s: &Shared, database: u32) -> bool {
    let (began, now) = (clock::steady(), clock::now());
    let is_due = |e: &Entry| e.in_use.load() == 1 && e.database.load() == database && e.schedule_due.load() <= now;
    let mut due: Vec<(At, usize)> =
        s.entries.iter().enumerate().filter(|(_, e)| is_due(e)).map(|(index, e)| (e.schedule_due.load(), index)).collect();
    due.sort();
    let Some(db) = s.db(database) else { return false };
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
        s.entries[index].schedule_due.store(At::NEVER);
        let before = clock::now();
        let again = take_turn(s, index);
        // One that is due as it was before has had nothing done for it.
        came |= again > before;
        if again != At::NEVER {
            ready::schedule_due(s, index as u32, again);
        }
        db.ticking.store(0);
    }
    came
}

/// Serves one tenant; when to come again.
fn take_turn(s: &Shared, index: usize) -> At {
    let e = &s.entries[index];
    let began = clock::steady();
    let schema = e.tenant.load();
    let mut care = Care::Batch;
    loop {
        let now = clock::now();
        let full = e.schedule_full.load();
        let all = full > now || now - full > LOOK_AT_ALL;
        let low = e.schedule_low.load();
        let served = transaction::run(|| {
            timeout::limit_locks(LOCK_TIMEOUT);
            serve(s, schema, if all { ready::BEGINNING } else { low }, Place::of(schema), care)
        });
        let failure = match served {
            Ok(Served { next, nothing_before, behind }) => {
                Place::note(schema, behind);
                if let Some(raised) = nothing_before {
                    // Unless somebody has announced another one meanwhile.
                    let _ = e.schedule_low.compare_exchange(low, raised.max(low));
                    if all {
                        e.schedule_full.store(now);
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
    behind: Option<Place>,
}

impl Served {
    fn nothing(next: At) -> std::result::Result<Served, Failure> {
        Ok(Served { next: Step::Next(next), nothing_before: None, behind: None })
    }
}

/// How far the rows of a tenant were looked at that came due first and are all locked. Rows of one fire time are in
/// the order of their pages; within a page HOT updates break it, so a page begun is looked at again.
#[derive(Clone, Copy)]
struct Place {
    due: At,
    page: u64,
    since: Instant,
}

thread_local! {
    static PLACES: RefCell<HashMap<u32, Place>> = RefCell::default();
}

impl Place {
    /// Not for ever: where more comes due than can be served, nobody would look again at what was locked once.
    fn of(tenant: u32) -> Option<Place> {
        let place = PLACES.with_borrow(|places| places.get(&tenant).copied())?;
        (place.since.elapsed() < LEFT_OUT_FOR).then_some(place)
    }
    fn note(tenant: u32, place: Option<Place>) {
        PLACES.with_borrow_mut(|places| {
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
fn serve(s: &Shared, schema: u32, from: At, behind: Option<Place>, care: Care) -> std::result::Result<Served, Failure> {
    let tenant = match tenant::by_oid(schema) {
        Ok(t) => t,
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
    let Some(mut work) = Work::open(s, &tenant, now)? else { return Served::nothing(now + LOCKED_AGAIN) };
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
            let place = Place { due: at, page: row.tid.page(), since: behind.map_or(began, |b| b.since) };
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
        let Some(row) = &work.table.fetch(row.tid) else { return Err(overtaken()) };
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
    s: &'a Shared,
    tenant: &'a Rc<Tenant>,
    table: Table<Schedules>,
    queue: Queue,
    now: At,
}

impl<'a> Work<'a> {
    /// None: somebody has them.
    fn open(s: &'a Shared, tenant: &'a Rc<Tenant>, now: At) -> Result<Option<Work<'a>>> {
        let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(None) };
        let Some(tasks) = tenant.try_open(tenant.task, Access::Write)? else { return Ok(None) };
        let nobody = Caller { name: String::new(), superuser: false };
        let queue = Queue::of(tenant.clone(), tasks.fetch_at_most(ROW), nobody, By::Engine);
        Ok(Some(Work { s, tenant, table: table.fetch_at_most(ROW), queue, now }))
    }

    /// A row that is locked. `left`: fire times that this transaction may still serve.
    fn serve(&mut self, row: &Row<Schedules>, left: &mut usize) -> std::result::Result<Turn, Failure> {
        let changes = match Schedule::of(self.tenant, row) {
            Ok(schedule) if schedule.of_all.is_some() && !tenant::keep(self.tenant)? => {
                return Ok(Turn::LeftOut(self.now + LOCKED_AGAIN));
            }
            Ok(schedule) => fire(self.s, self.tenant, &mut self.queue, row, &schedule, self.now, left)?,
            // A broken schedule says so and stops nothing else.
            Err(broken) => Changes::broken(row, broken.into()),
        };
        self.write(row, &changes)
    }

    /// The same, so that an error takes back nothing but this.
    fn serve_alone(&mut self, row: &Row<Schedules>, left: &mut usize) -> std::result::Result<Turn, Failure> {
        let (s, tenant, now) = (self.s, self.tenant, self.now);
        let served = subtransaction::run(|| match Work::open(s, tenant, now)? {
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

struct Changes {
    next: Option<At>,
    problem: Option<String>,
    served: Option<(At, i64)>,
    last_task: Option<u128>,
    repeats: Option<i32>,
    state: State,
    /// A one-time schedule that has fired: its row goes.
    over: bool,
}

impl Changes {
    /// Not again until somebody mends it.
    fn broken(row: &Row<Schedules>, error: Error) -> Changes {
        Changes {
            next: None,
            problem: Some(error.message),
            served: None,
            last_task: None,
            repeats: None,
            state: if row.outside <= ROW { State::of(row) } else { State::default() },
            over: false,
        }
    }
}

/// `left`: fire times that may be served now.
fn fire(
    s: &Shared,
    tenant: &Rc<Tenant>,
    queue: &mut Queue,
    row: &Row<Schedules>,
    schedule: &Schedule,
    now: At,
    left: &mut usize,
) -> Result<Changes> {
    let mut state = schedule.state.clone();
    let mut repeats = schedule.repeats;
    if row.get(Schedules::ENABLED) != Some(true) {
        state.start_over();
        return Ok(Changes { next: None, problem: None, served: None, last_task: None, repeats: None, state, over: false });
    }
    let plan = schedule.plan();
    // The rule's own fire times, and the one of a release.
    let next_run = row.get(Schedules::NEXT_RUN);
    let waiting_for = if state.released.is_some() { state.planned.filter(|_| !schedule.rule.is_after()) } else { next_run };
    let (mut slots, mut next) = match waiting_for {
        // Before any clock of a computer's: somebody means at once.
        Some(at) if at <= now => {
            let from = time::instant(if at < At::UNIX_EPOCH { now } else { at });
            let part =
                catch_up::part(&plan, from, time::instant(now), &schedule.lateness, state.promised.map(time::instant), (*left).max(1));
            state.promised = part.promised.map(At::from);
            (part.serve, part.next.map(At::from))
        }
        // The owner has written a release into it by hand, and lost the rule's own.
        None if state.released.is_some() => (vec![], plan.next_after(time::instant(now)).map(At::from)),
        at => (vec![], at),
    };
    let released = state.released;
    if let Some(at) = released.filter(|at| schedule.lateness.deadline.is_none_or(|d| time::instant(now) - time::instant(*at) <= d)) {
        slots.push(time::instant(at));
        slots.sort();
        slots.dedup();
    }
    if schedule.of_all.is_some() && !tenant.fan_out {
        // What all tenants are to do, this one isn't: its plan goes on.
        slots.clear();
    }
    *left = left.saturating_sub(slots.len());
    let mut last_task = row.get(Schedules::LAST_TASK);
    let mut served = 0;
    let mut problem = None;
    queue.caller =
        Caller { name: row.text(Schedules::CREATED_BY).unwrap_or_default(), superuser: row.get(Schedules::BY_SUPERUSER).unwrap_or(false) };
    let handler_name = row.text(Schedules::HANDLER).unwrap_or_default();
    if state.released.is_some() || !slots.is_empty() {
        state.start_over();
    }
    for slot in slots {
        if repeats == 0 {
            break;
        }
        let at = At::from(slot);
        // After others it fires at a time of this tenant's own: there is no line of all tenants for it.
        let of_line = schedule.of_all.as_ref().filter(|_| released != Some(at));
        if schedule.active_hours.as_ref().is_some_and(|h| !h.contain(schedule.zone, slot)) {
            continue;
        }
        if repeats > 0 {
            repeats -= 1;
        }
        if let Some(last) = last_task
            && schedule.overlap != Overlap::Allow
            && let Some(unfinished) = queue.table.find(Tasks::ID.equals(last)).filter(|r| state::is_task(r.char(Tasks::STATE)))
        {
            let waits =
                || crate::shared::slot::running(s, tenant.oid, last, unfinished.get(Tasks::CREATED_AT).unwrap_or_default()).is_none();
            let left_out = match schedule.overlap {
                Overlap::Allow => false,
                Overlap::Queue => waits(),
                Overlap::Skip => true,
            };
            if left_out {
                if let Some(all) = of_line {
                    let begun = definitions::fired(tenant, all, row, at, Err("the task of an earlier fire time has not finished".into()))?;
                    *left = left.saturating_sub(if begun { LINE } else { 0 });
                }
                continue;
            }
        }
        let id = ids::fire_id(schedule.id ^ u128::from(state.clock) << 64, at);
        let jitter = if schedule.jitter > Span::ZERO {
            Span::from(spread::jitter(schedule.id as u64, slot, schedule.jitter.into()))
        } else {
            Span::ZERO
        };
        let later = jitter + schedule.of_all.as_ref().map_or(Span::ZERO, |all| all.stagger(tenant));
        // The handler may be gone for a while: the plan goes on.
        let made = task_of(schedule, tenant, row, &handler_name, at).and_then(|new| {
            let fanout = of_line.map(|all| all.line(at));
            let new = NewTask { id: Some(id), run_at: Some(at.saturating_add(later)), only_if: schedule.only_if.clone(), fanout, ..new };
            crate::work::enqueue::add(queue, &new).map(|added| (new, added))
        });
        let made = match made {
            // Somebody enqueues or defines the same just now: that says nothing of the schedule, whose turn comes again.
            Err(error) if error.sqlstate == SqlState::LOCK_NOT_AVAILABLE => return Err(error),
            made => made,
        };
        if let Some(all) = of_line {
            let result = match &made {
                Ok((new, id)) if new.id != Some(*id) && !lines::is_of(&queue.table, *id, new.fanout) => Err(lines::TAKEN.into()),
                Ok((_, id)) => Ok(*id),
                Err(e) => Err(e.message.clone()),
            };
            let begun = definitions::fired(tenant, all, row, at, result)?;
            *left = left.saturating_sub(if begun { LINE } else { 0 });
        }
        match made {
            Ok((new, id)) => {
                crate::work::tell::schedule_fired(queue, &new, id);
                last_task = Some(id);
                served += 1;
                transaction::see_own_writes();
            }
            Err(error) => {
                problem = Some(error.message);
                // It has made no task of it.
                repeats += i32::from(repeats >= 0);
            }
        }
    }
    if repeats == 0 {
        next = None;
    } else if next.is_none()
        && problem.is_none()
        && !schedule.rule.fires_once()
        && !schedule.rule.is_after()
        && schedule.until.is_none_or(|t| t > now)
    {
        problem = Some("its rule has no further fire time".into());
    }
    // One that others come after stays: their names for it would mean nothing.
    let over = schedule.rule.fires_once()
        && next.is_none()
        && repeats < 0
        && problem.is_none()
        && schedule.after.is_empty()
        // That it has run is remembered for as long as it is defined.
        && schedule.of_all.is_none()
        && follow::is_last(&state);
    Ok(Changes { next, problem, served: (served > 0).then_some((now, served)), last_task, repeats: Some(repeats), state, over })
}

/// A task of this schedule for the fire time `at`, but for its id and when it may run.
pub fn task_of(schedule: &Schedule, tenant: &Tenant, row: &Row<Schedules>, handler_name: &str, at: At) -> Result<NewTask> {
    Ok(NewTask {
        handler: handler_name.to_string(),
        args: arguments(tenant, schedule, row, handler_name, time::instant(at))?,
        name: schedule.base.name.clone().or_else(|| Some(schedule.name.clone())),
        delay: None,
        schedule: Some(schedule.name.clone()),
        scheduled_for: Some(at),
        alone: schedule.overlap != Overlap::Allow,
        ..schedule.base.clone()
    })
}

/// The schedule's arguments, with the intended time where `time_arg` asks for it: as the
/// parameter's type has it, in the schedule's zone.
fn arguments(tenant: &Tenant, schedule: &Schedule, row: &Row<Schedules>, handler_name: &str, slot: DateTime<Utc>) -> Result<Option<Jsonb>> {
    let Some(name) = row.text(Schedules::TIME_ARG) else { return Ok(row.document(Schedules::ARGS)) };
    let mut object = match row.get(Schedules::ARGS) {
        None if row.has(Schedules::ARGS) => return Err(Error::invalid("args can not be read")),
        None | Some(Json::Null) => json!({}),
        Some(Json::Object(o)) => Json::Object(o),
        Some(_) => return Err(Error::invalid("time_arg needs args to be an object")),
    };
    let handler = handler::require(tenant, handler_name)?;
    let kind = handler.signature.as_ref().and_then(|sig| sig.params.iter().find(|p| p.name.as_deref() == Some(&name))).map(|p| p.type_oid);
    object[&name] = time::time_text(slot, schedule.zone, kind).into();
    Ok(Some(Jsonb::from_value(object)))
}

/// When the tenant's next schedule comes due; for sweeps.
pub fn first_due(table: &Table<Schedules>) -> Option<At> {
    table.scan(&Schedules::DUE, &[]).next()?.get(Schedules::NEXT_RUN)
}
