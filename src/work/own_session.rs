//! Running tasks in one's own session: tq_drain inside the caller's transaction, tq_run_pending
//! with a commit after each, and `sync`. For tests, scripts, and servers that don't preload.
//!
//! An attempt is a savepoint here. The task's row is locked first, skipping what somebody else
//! has: an executor that picked the task earlier waits for this transaction when it comes to
//! completing, and is fenced if we commit. So nothing runs twice, with or without shared memory.
//!
//! Only tasks whose role is the current user are run: there is no other session to run them in.

use crate::handler::{self, Handler};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::deferred::{self, Declared};
use crate::postgres::error::{Error, Result};
use crate::postgres::interrupt::{self, Mark};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::session::{self, Nest};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, clock, portals, row_lock, sandbox, shmem, subtransaction, timeout, transaction};
use crate::pure::ids::Id;
use crate::pure::interleave;
use crate::pure::state::{AttemptEnd, Ended, Outcome, State, Stored};
use crate::pure::time::{At, Span};
use crate::shared::slot::{Incarnation, Item};
use crate::shared::{self, counters, wake};
use crate::task;
use crate::task::current;
use crate::task::lookup::{self, item_of};
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::task::queue::Queue;
use crate::task::rules::Rules;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::{self, Right};
use crate::tenant::{Tenant, reserved};
use crate::waits::depend::{self, Answer};
use crate::waits::turn::{self, Source};
use crate::waits::{gate, members};
use crate::work::absorb::absorb;
use crate::work::ask;
use crate::work::attempt::{Attempt, Cause, Course, Session, Stage, apply_settings};
use crate::work::complete::{self, Judgement, Verdict};
use crate::work::drain_take;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::CString;
use std::rc::Rc;
use std::time::Duration;

/// Rows that one look brings; a quarter of what has run, if that is more, so that walking over the
/// rows of tasks that are done costs no more than the tasks.
const LOOK: usize = 64;
/// tq_run_pending, while it waits, looks this often: without shared memory nobody could wake it.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is done with the tasks that are due.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// They are run here, those whose code is in the server.
    #[default]
    Run,
    /// Those whose code is outside are handed out.
    HandOut,
}

/// What is due and not dealt with yet, in the order of picking.
#[derive(Default)]
pub struct Due {
    purpose: Purpose,
    queue: VecDeque<Item>,
    /// Incarnations that were dealt with or are left.
    seen: HashSet<Incarnation>,
    /// Those of them that wait for other tasks or at a gate, and why: the end of another task may let them in.
    waiting: Vec<(Incarnation, String)>,
    /// Why tasks are left, and how many.
    left: BTreeMap<String, usize>,
}

impl Due {
    pub fn of(purpose: Purpose) -> Due {
        Due { purpose, ..Due::default() }
    }

    /// The next task due by then.
    pub fn next(&mut self, tenant: &Rc<Tenant>, by: At) -> Result<Option<Item>> {
        if self.queue.is_empty() {
            self.look(tenant, by)?;
        }
        Ok(self.queue.pop_front())
    }

    fn look(&mut self, tenant: &Rc<Tenant>, by: At) -> Result<()> {
        let room = LOOK.max(self.seen.len() / 4);
        let table = tenant.open(tenant.task, Access::Read)?;
        let running = Running::look(tenant, &table);
        let mut sources = turn::sources(tenant, 0);
        let share = room.div_ceil(sources.len());
        // Whatever is done with the others, those of the other kind are found too, to be told of.
        sources.push(Source::External);
        let groups = transaction::with_snapshot(|| {
            sources.iter().map(|source| self.look_at(tenant, &table, source, by, share, &running)).collect::<Result<Vec<_>>>()
        })?;
        self.queue.extend(interleave::interleave(groups));
        Ok(())
    }

    /// At most `room` due tasks of one source.
    fn look_at(
        &mut self,
        tenant: &Rc<Tenant>,
        table: &Table<Tasks>,
        source: &Source,
        by: At,
        room: usize,
        running: &Running,
    ) -> Result<Vec<Item>> {
        let mut found = Vec::new();
        let mut below = None;
        while let Some(priority) = source.first_priority(table, below, None) {
            let keys = [source.is_its(), Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.at_most(by)];
            for row in table.scan(source.index(), &keys) {
                let item = item_of(&row);
                if !self.seen.insert(item.incarnation()) {
                    continue;
                }
                match reason_to_leave(tenant, &row, running, self.purpose)? {
                    None => found.push(item),
                    Some(reason) => *self.left.entry(reason).or_default() += 1,
                }
                if found.len() >= room {
                    return Ok(found);
                }
            }
            below = Some(priority);
        }
        Ok(found)
    }

    /// What an attempt came to, and whether it ran.
    pub fn note(&mut self, item: &Item, tried: Try) -> Option<Ran> {
        match tried {
            Try::Ran(ran) => {
                for (key, _) in self.waiting.drain(..) {
                    self.seen.remove(&key);
                }
                Some(ran)
            }
            Try::Waits(why) => {
                self.waiting.push((item.incarnation(), why));
                None
            }
            Try::Theirs => None,
        }
    }

    /// Tells the caller what was left, and why.
    pub fn tell(&mut self) {
        for (_, why) in self.waiting.drain(..) {
            *self.left.entry(why).or_default() += 1;
        }
        for (reason, count) in &self.left {
            let what = if *count == 1 { "1 due task is left".to_string() } else { format!("{count} due tasks are left") };
            Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{what}: {reason}")).notice();
        }
    }
}

/// What executors have of a tenant.
struct Running {
    tasks: HashSet<Id>,
    /// Schedules of these tasks.
    schedules: HashSet<String>,
}

impl Running {
    fn look(tenant: &Tenant, table: &Table<Tasks>) -> Running {
        let tasks: HashSet<Id> = shared::get().map_or_else(HashSet::new, |s| {
            let database = shmem::my_database();
            let ours = s.slots.iter().filter(|x| x.tenant.load() == tenant.oid && x.database.load() == database);
            ours.flat_map(|x| x.live_items()).map(|i| i.id).chain(s.claims_of(tenant.oid).map(|claim| claim.item_id.load())).collect()
        });
        let schedule = |id: &Id| table.find(Tasks::ID.equals(*id))?.text(Tasks::SCHEDULE);
        let schedules = transaction::with_snapshot(|| tasks.iter().filter_map(schedule).collect());
        Running { tasks, schedules }
    }

    /// Whether another task of its schedule runs, and they may not overlap.
    fn overlap(&self, row: &Row<Tasks>) -> bool {
        row.get(Tasks::SCHEDULE).is_some_and(|schedule| self.schedules.contains(schedule)) && Options::of(row).alone
    }
}

/// Why a due task can't be run here; None = it can.
fn reason_to_leave(tenant: &Rc<Tenant>, row: &Row<Tasks>, running: &Running, purpose: Purpose) -> Result<Option<String>> {
    if running.tasks.contains(&row.get(Tasks::ID).unwrap_or_default()) {
        let who = if row.letter(Tasks::STATE) == Stored::External { "a worker" } else { "an executor" };
        return Ok(Some(format!("{who} has it")));
    }
    if running.overlap(row) {
        return Ok(Some(format!("a task of schedule \"{}\" runs", row.get(Tasks::SCHEDULE).unwrap_or(""))));
    }
    let name = row.get(Tasks::HANDLER).unwrap_or("");
    if members::is_flow(name) {
        // Nobody is called for one.
        return Ok(None);
    }
    let Some(handler) = handler::find(tenant, name)? else {
        return Ok(Some(format!("handler \"{name}\" is not registered")));
    };
    if let Some(fault) = &handler.fault {
        return Ok(Some(fault.text().to_string()));
    }
    if handler.quarantined {
        return Ok(Some(format!("handler \"{name}\" is quarantined")));
    }
    if let Some(pause) = tenant.part_pauses(name, row.get(Tasks::QUEUE), clock::now()).next() {
        return Ok(Some(pause.text()));
    }
    if let Some(external) = &handler.external {
        return Ok(match purpose {
            Purpose::Run => Some(format!("handler \"{name}\" is external: tq_drain_take hands its tasks out")),
            Purpose::HandOut => drain_take::reason_to_leave(&handler, external, row),
        });
    }
    if purpose == Purpose::HandOut {
        return Ok(Some(format!("handler \"{name}\" is in the server: tq_drain runs its tasks")));
    }
    if handler.run_as != sandbox::current_user().to_u32() {
        let role = catalog::role_name(handler.run_as).unwrap_or_default();
        return Ok(Some(format!("handler \"{name}\" runs as role \"{role}\"")));
    }
    if let Some(role) = ask::asked_next(tenant, row, &handler)? {
        let role = catalog::role_name(role).unwrap_or_default();
        return Ok(Some(format!("a listener who runs as role \"{role}\" is to be asked first")));
    }
    if handler.is_procedure() {
        return Ok(Some(format!("handler \"{name}\" is a procedure, which may COMMIT")));
    }
    Ok(None)
}

/// The tenant, if the caller may run its tasks and nothing keeps them from running.
pub fn resolve(named: Option<&str>) -> Result<Rc<Tenant>> {
    if current::current().is_some() {
        return Err(Error::state("a task cannot run other tasks").hint("Let it end, or use tq_async(…, sync => true)."));
    }
    let tenant = rights::resolve(named, &[Right::Work])?;
    let quoted = || pgrx::spi::quote_literal(&tenant.name);
    let state = |what: &str| Error::state(format!("tenant \"{}\" is {what}, so its tasks are not run", tenant.name));
    if tenant.suspended.is_some() {
        return Err(state("suspended"));
    }
    if !tenant.ready {
        return Err(state("not ready").hint(format!("SELECT tq_set_tenant({}, ready => true);", quoted())));
    }
    if let Some(pause) = tenant.whole_pauses(clock::now()).next() {
        return Err(state("paused").hint(format!("{};", pause.resume())));
    }
    reserved::check_reserved(tenant.settings.as_ref())?;
    Ok(tenant)
}

/// What became of an attempt here.
pub struct Ran {
    pub state: State,
    /// The row as it was before.
    pub row: Option<Row<Tasks>>,
    pub result: Option<Jsonb>,
}

impl Ran {
    fn without_row(state: State) -> Ran {
        Ran { state, row: None, result: None }
    }
}

/// What a try to run a task came to.
pub enum Try {
    Ran(Ran),
    /// It can't run yet, for this reason.
    Waits(String),
    /// Somebody else has the task, or it is gone.
    Theirs,
}

/// As an executor counts its attempts (tq_stats, tq_failures). It is counted when it ends, whatever becomes of the
/// transaction around it: it has been made.
fn count(tenant: &Tenant, row: &Row<Tasks>, outcome: Outcome, started_at: At, judgement: Option<&Judgement>) {
    let Some(s) = shared::get() else { return };
    let counted = task::counted(row);
    counters::ended(&s, tenant.oid, &counted, outcome, started_at);
    if let Some(Judgement { failure, how, .. }) = judgement {
        counters::failed(&s, tenant.oid, sandbox::current_user().to_u32(), &counted, failure, *how == AttemptEnd::TimedOut);
    }
}

/// One attempt in a savepoint, its failure recorded in a second one.
///
/// `declared`: constraints are put back to it; None = the transaction ends next.
pub fn attempt(tenant: &Rc<Tenant>, item: &Item, declared: Option<&Declared>) -> Result<Try> {
    let started_at = clock::now();
    interrupt::watch();
    let course = Course::new(Mark::now());
    let failure = match subtransaction::run(|| try_to_run(tenant, item, started_at, &course, declared)) {
        Ok(tried) => {
            if let Try::Ran(Ran { state: State::Done, row: Some(row), .. }) = &tried {
                count(tenant, row, Outcome::Done, started_at, None);
            }
            return Ok(tried);
        }
        Err(failure) => failure,
    };
    let failure = match failure.is(Own::Gone) && complete::is_unchanged(tenant, item)? {
        true => {
            course.stage.set(Stage::Handler);
            complete::deleted_itself()
        }
        false => failure,
    };
    let completing = course.stage.get() == Stage::Completing;
    if completing && failure.sqlstate == SqlState::UNIQUE_VIOLATION {
        // Somebody has done it before.
        return Ok(Try::Theirs);
    }
    let judgement = match course.judge(failure) {
        Cause::Overtaken(_) => return Ok(Try::Theirs),
        Cause::Skipped(why) => {
            subtransaction::run(|| complete::finish_unrun(tenant, item, Ended::Cancelled, Some(&why)))?;
            return Ok(Try::Ran(Ran::without_row(State::Cancelled)));
        }
        // None of the handler's: a lock wasn't to be had, the caller is cancelled.
        Cause::Asked(_, failure) | Cause::Failed(failure) if completing => return Err(failure.into()),
        Cause::Cancelled(failure) => return Err(failure.into()),
        cause => course.judgement(cause),
    };
    let table = tenant.open(tenant.task, Access::Read)?;
    let row = transaction::with_snapshot(|| find(&table, item));
    drop(table);
    let name = row.as_ref().and_then(|row| row.get(Tasks::HANDLER)).unwrap_or("");
    let handler = handler::find(tenant, name)?;
    let verdict = subtransaction::run(|| complete::failed(tenant, item, handler.as_deref(), started_at, &judgement))?;
    if let (Some(row), Some(counted)) = (&row, verdict.outcome().filter(|_| verdict.is_failure_of(&judgement))) {
        count(tenant, row, counted, started_at, Some(&judgement));
    }
    Ok(match verdict {
        Verdict::RetryAt(at) => {
            if let Some(entry) = tenant.entry(sandbox::current_user().to_u32())? {
                wake::changed_row(entry, at);
            }
            Try::Ran(Ran::without_row(State::Retrying))
        }
        Verdict::Failed => Try::Ran(Ran::without_row(State::Failed)),
        Verdict::Overtaken => Try::Theirs,
    })
}

/// What may keep it from running, then the call: all of it in the savepoint.
fn try_to_run(
    tenant: &Rc<Tenant>,
    item: &Item,
    started_at: At,
    course: &Course,
    declared: Option<&Declared>,
) -> std::result::Result<Try, Failure> {
    let (row, handler) = match let_in(tenant, item, started_at, course)? {
        LetIn::To(row, handler) => (row, handler),
        LetIn::Over(tried) => return Ok(tried),
    };
    let attempt = Attempt { tenant, handler: &handler, row: &row, item, started_at, session: Session::Callers };
    let result = call(&attempt, course, declared)?;
    let state = if result.is_some() { State::Done } else { State::Cancelled };
    Ok(Try::Ran(Ran { state, row: Some(row), result }))
}

/// What stands before a task's code.
pub enum LetIn {
    /// Nothing: its row, which is locked, and its handler.
    To(Row<Tasks>, Rc<Handler>),
    /// It isn't called, and this is why.
    Over(Try),
}

/// The row locked, and what keeps it from running, or ends it without.
pub fn let_in(tenant: &Rc<Tenant>, item: &Item, started_at: At, course: &Course) -> std::result::Result<LetIn, Failure> {
    let over = |tried| Ok(LetIn::Over(tried));
    let Some(row) = lock(tenant, item)? else { return over(Try::Theirs) };
    // With time travel, as late as it would have been started.
    let at = started_at.max(row.get(Tasks::RUN_AT).unwrap_or_default());
    let tasks = tenant.open(tenant.task, Access::Write)?;
    if transaction::with_snapshot(|| depend::is_expired(tenant, &tasks, &row, at))? {
        course.stage.set(Stage::Completing);
        complete::finish_unrun(tenant, item, Ended::Expired, None)?;
        return over(Try::Ran(Ran { state: State::Expired, row: Some(row), result: None }));
    }
    if row.has(Tasks::WAITS) {
        let results = tenant.open(tenant.result, Access::Read)?;
        match transaction::with_snapshot(|| depend::look(&tasks, &results, &row)) {
            Answer::Ready => {}
            Answer::Never(why) => {
                course.stage.set(Stage::Completing);
                complete::finish_unrun(tenant, item, Ended::Cancelled, Some(&why))?;
                return over(Try::Ran(Ran { state: State::Cancelled, row: Some(row), result: None }));
            }
            // Nothing is written: until our commit the end of what it waits for would not see it.
            _ => return over(Try::Waits("it depends on tasks that are not final".into())),
        }
    }
    if members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")) {
        course.stage.set(Stage::Completing);
        complete::end_flow(tenant, item)?;
        return over(Try::Ran(Ran::without_row(State::Done)));
    }
    let handler = handler::require(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    // As when it was looked for, unless something was taken away or stopped meanwhile.
    if let Some(why) = handler.fault.as_ref().map(|fault| fault.text()).or_else(|| handler.why_quarantined()) {
        return over(Try::Waits(why.to_string()));
    }
    match gate::why(tenant, &row, Some(&handler)).into_iter().next() {
        Some(shut) => over(Try::Waits(shut.what)),
        None => Ok(LetIn::To(row, handler)),
    }
}

/// The very row, locked; None = it isn't to be had.
fn lock(tenant: &Rc<Tenant>, item: &Item) -> Result<Option<Row<Tasks>>> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let row = find(&table, item);
    Ok(row.filter(|r| row_lock::try_lock(&table, r)))
}

fn find(table: &Table<Tasks>, item: &Item) -> Option<Row<Tasks>> {
    lookup::find(table, item).filter(|row| row.letter(Tasks::STATE).is_runnable())
}

/// The handler and the completion, in the (sub)transaction that is open, with an active snapshot. None: its
/// schedule's condition isn't true, so it has ended without.
fn call(attempt: &Attempt, course: &Course, declared: Option<&Declared>) -> std::result::Result<Option<Jsonb>, Failure> {
    attempt.check_identity()?;
    let rules = Rules::of(attempt.tenant, attempt.row, Some(attempt.handler));
    course.timeout_ms.set(rules.timeout_ms);
    if let Some(key) = &rules.stands_for {
        while !transaction::with_snapshot(|| absorb(attempt.tenant, attempt.row, key))? {}
    }
    let outer = current::current();
    // Inside of another task its timer is the one.
    let timed = outer.is_none();
    if timed {
        timeout::register()?;
    }
    let own_deadline = (timed && rules.timeout_ms > 0).then(|| attempt.started_at.saturating_add(Span::of_millis(rules.timeout_ms)));
    let deadline = own_deadline.or(outer.as_ref().and_then(|outer| outer.deadline));
    current::set_current(Some(attempt.current(&rules, deadline, attempt.row.get(Tasks::META))));
    let outer_call = timed.then(|| current::replace_call(None));
    course.stage.set(Stage::Handler);
    if timed {
        timeout::arm_cancels(rules.timeout_ms);
    }
    // What raises below it is caught here, so that the session is itself again on every way out.
    let result = caught::catch(|| handle(attempt, &rules, declared)).and_then(|result| result);
    let result = result.and_then(|result| course.check_time(timed && timeout::has_fired()).map(|()| result));
    if timed {
        course.timed_out.set(timeout::disarm());
        if course.timed_out.get() {
            // A call that heeds no cancel may have left it to us.
            interrupt::forget_cancel();
        }
    }
    if let Some(outer_call) = outer_call {
        course.called.replace(current::replace_call(outer_call));
    }
    current::set_current(outer);
    let result = result?;
    course.stage.set(Stage::Completing);
    // The handler may have enqueued or changed its own tenant's rows: see them.
    transaction::with_snapshot(|| attempt.complete(&rules, result.as_ref()))?;
    Ok(result)
}

fn handle(attempt: &Attempt, rules: &Rules, declared: Option<&Declared>) -> std::result::Result<Option<Jsonb>, Failure> {
    let tenant = attempt.tenant;
    let body = || {
        let nest = Nest::enter();
        set("search_path", &tenant.search_path());
        set("TimeZone", &tenant.zone());
        if let Some(Json::Object(settings)) = &tenant.settings {
            apply_settings(settings);
        }
        attempt.apply_settings();
        let result = attempt.handle(rules, || rules.pass.map(|from| members::passed_result(tenant, from)).transpose())?;
        match declared {
            Some(declared) => declared.fire()?,
            None => deferred::fire()?,
        }
        nest.leave();
        Ok(result)
    };
    if sandbox::is_own_session() {
        return body();
    }
    subtransaction::run(|| {
        let result = sandbox::keep_role(body)?;
        // It would be filled at the commit, as whoever the session is by then.
        portals::close_holdable();
        Ok(result)
    })
}

fn set(name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
        session::set_local(&name, &value);
    }
}

/// Whether a task can be run at once, here.
pub fn check_sync(queue: &Queue, new: &NewTask) -> Result<()> {
    if new.run_at.is_some() || new.delay.is_some() || !new.depends_on.is_empty() {
        return Err(Error::invalid("sync excludes run_at, delay and depends_on").hint("Leave sync out: the task then runs when it is due."));
    }
    let handler = handler::require(&queue.tenant, &new.handler)?;
    if handler.is_external() {
        return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("handler \"{}\" is external", handler.name))
            .detail("sync runs a task in your session, and its code is in a worker outside of the server.")
            .hint("Leave sync out; in tests SELECT * FROM tq_drain_take() hands its tasks out."));
    }
    if handler.run_as != sandbox::current_user().to_u32() {
        let role = catalog::role_name(handler.run_as).unwrap_or_default();
        return Err(Error::denied(format!("handler \"{}\" runs as role \"{role}\"", handler.name))
            .detail("sync runs it in your session, so only as that role.")
            .hint("SET ROLE to it, or leave sync out."));
    }
    match &handler.fault {
        Some(fault) => Err(Error::new(SqlState::UNDEFINED_FUNCTION, fault.text())),
        None => Ok(()),
    }
}

/// `sync => true`: enqueued and run at once, in the caller's transaction. An error is the task's
/// own, and takes everything back with the caller's statement.
pub fn enqueue_and_run(queue: &Queue, new: &NewTask) -> Result<Id> {
    check_sync(queue, new)?;
    let id = crate::work::enqueue::add(queue, new)?;
    run_members(queue, std::iter::once((id, false)))?;
    Ok(id)
}

/// Runs the tasks that this statement has just enqueued, one after the other.
///
/// Each with whether one goes on: its failure is recorded with it, and is no error of the caller's.
pub fn run_members(queue: &Queue, tasks: impl Iterator<Item = (Id, bool)>) -> Result<()> {
    let tenant = &queue.tenant;
    interrupt::watch();
    let declared = Declared::read();
    for (id, go_on) in tasks {
        let row = transaction::with_snapshot(|| queue.table.find(Tasks::ID.equals(id)));
        // An id that was known already is a task already, and is none of this call.
        let Some(row) = row.filter(|row| row.own && row.letter(Tasks::STATE).is_runnable() && row.get(Tasks::ATTEMPTS) == Some(0)) else {
            continue;
        };
        if members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")) {
            transaction::with_snapshot(|| complete::end_empty_flow(tenant, &queue.table, id))?;
            continue;
        }
        let handler = handler::require(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
        if let Some(shut) = gate::why(tenant, &row, Some(&handler)).into_iter().next() {
            return Err(Error::new(SqlState::LOCK_NOT_AVAILABLE, shut.what)
                .detail(shut.detail)
                .hint("Leave sync out: the task then runs as soon as it may."));
        }
        let (item, started_at) = (item_of(&row), clock::now());
        let course = Course::new(Mark::now());
        let attempt = Attempt { tenant, handler: &handler, row: &row, item: &item, started_at, session: Session::Callers };
        let once = || call(&attempt, &course, Some(&declared));
        let ran = if go_on { subtransaction::run(once) } else { transaction::with_snapshot(once) };
        if let Err(failure) = ran {
            // There is no other attempt, whatever it has called.
            course.called.replace(None);
            let judgement = match course.judge(failure) {
                // None of the handler's: the caller is cancelled.
                Cause::Cancelled(failure) | Cause::Overtaken(failure) => return Err(failure.into()),
                cause => course.judgement(cause),
            };
            // Nor this: a lock wasn't to be had.
            if !go_on || course.stage.get() == Stage::Completing {
                return Err(judgement.failure.into());
            }
            let judgement = Judgement { last: true, ..judgement };
            subtransaction::run(|| complete::failed(tenant, &item, Some(&handler), started_at, &judgement))?;
            count(tenant, &row, Outcome::Failed, started_at, Some(&judgement));
        } else {
            count(tenant, &row, Outcome::Done, started_at, None);
        }
        transaction::see_own_writes();
    }
    Ok(())
}
