//! An executor's attempt: the handler's call and its completion in one transaction, in the tenant's schema, as the task's
//! role, under its timeout. What became of one that was not done is recorded in another (`Undone`).
//!
//! The handler runs inside a GUC nest level; what was deferred is made to happen inside it too,
//! because at commit it would run with the session's settings. Nothing of ours locks the tenant's
//! tables while the handler runs.

use crate::handler::{self, Handler};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::code::MayRunCode;
use crate::postgres::interrupt::{self, Mark};
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::session::{self, Nest};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, invalidation, sandbox, timeout, transaction};
use crate::pure::state::{AttemptEnd, Ended, Outcome};
use crate::pure::time::{At, Span};
use crate::pure::word::{Stop, Word};
use crate::settings;
use crate::shared::slot::{Item, Slot};
use crate::shared::text::store_text;
use crate::shared::{Shared, cooldown, counters, progress, ready};
use crate::task::rules::Rules;
use crate::task::{self, current, end, lookup};
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::{depend, members};
use crate::work::attempt::{Attempt, Cause, Course, Session, Stage};
use crate::work::complete::{self, Interrupted, Judgement, Verdict};
use crate::work::{absorb, ask};
use serde_json::Value as Json;
use std::rc::Rc;

/// Runs one picked task whose slot says so already. `since`: before anybody could have meant this attempt.
pub fn attempt(
    shared: &Shared,
    slot: &Slot,
    index: u32,
    tenant: &Rc<Tenant>,
    row: &Row<Tasks>,
    handler: Option<&Rc<Handler>>,
    since: Mark,
) -> Outcome {
    let item = lookup::item_of(row);
    let started_at = clock::now();
    let too_late = row.get(Tasks::EXPIRES_AT).is_some_and(|expires_at| expires_at <= started_at);
    let is_expired = || transaction::run(|| depend::is_expired(tenant, &tenant.open(tenant.task, Access::Read)?, row, started_at));
    // What can't be looked at just now isn't ended for it.
    if too_late && is_expired().unwrap_or(false) {
        return over(shared, index, &item, transaction::run(|| complete::finish_unrun(tenant, &item, Ended::Expired, None)));
    }
    if row.has(Tasks::WAITS) {
        match transaction::run(|| conditions(tenant, row)) {
            Ok(depend::Answer::Never(failure)) => {
                return over(
                    shared,
                    index,
                    &item,
                    transaction::run(|| complete::finish_unrun(tenant, &item, Ended::Cancelled, Some(&failure))),
                );
            }
            Ok(depend::Answer::Ready) => {}
            // Since it was picked somebody lets one of those that it depends on run again.
            Ok(_) => {
                give_back(shared, index, tenant, row);
                return Outcome::Outdated;
            }
            // What it waits for can't be looked at just now: not without.
            Err(failure) => return over(shared, index, &item, Err(failure)),
        }
    }
    let Some(handler) = handler else {
        return match members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")) {
            true => over(shared, index, &item, transaction::run(|| complete::end_flow(tenant, &item))),
            false => Outcome::Unrecorded,
        };
    };
    invalidation::accept();
    let current = match transaction_as_of_now(tenant, row, handler) {
        Ok(current) => current,
        Err(failure) if failure.is(Own::Outdated) => {
            give_back(shared, index, tenant, row);
            return Outcome::Outdated;
        }
        Err(failure) => return over(shared, index, &item, Err(failure)),
    };
    let (tenant, handler) = current.as_ref().map_or((tenant, handler), |(tenant, handler)| (tenant, handler));
    let attempt = Attempt { tenant, handler, row, item: &item, started_at, session: Session::Executors };
    let course = Course::new(since);
    current::replace_call(None);
    let undone = |failure| Undone { shared, slot, index, attempt, course: &course }.settle(failure);
    // Not in a transaction: what can't be read is caught here.
    let (rules, meta) = match caught::catch(|| (Rules::of(tenant, row, Some(handler)), row.get(Tasks::META))) {
        Ok(read) => read,
        Err(failure) => return undone(failure),
    };
    course.timeout_ms.set(rules.timeout_ms);
    // A pick takes a task of another role for one reason only.
    let asks = handler.run_as != sandbox::session_user().to_u32();
    let deadline = (rules.timeout_ms > 0).then(|| started_at.saturating_add(Span::of_millis(rules.timeout_ms)));
    show(slot, &attempt, deadline);
    current::set_current(Some(attempt.current(&rules, deadline, meta)));

    // In a transaction of its own: the handler's would lock the results for as long as it runs.
    let passed = rules.pass.filter(|_| !asks).map(|from| transaction::run(|| members::passed_result(tenant, from))).transpose();
    if let Some(key) = rules.stands_for.as_deref().filter(|_| !asks) {
        absorb(&attempt, key);
    }
    timeout::arm(rules.timeout_ms);
    let result = passed.and_then(|passed| match asks {
        true => ask_listeners(&attempt, &course),
        false => call_and_complete(&attempt, &rules, &course, passed),
    });
    course.timed_out.set(timeout::disarm());
    if course.timed_out.get() {
        // A call that heeds no cancel may have left it to us.
        interrupt::forget_cancel();
    }
    course.called.replace(current::replace_call(None));
    let elapsed = (clock::now() - started_at).max(Span::ZERO);
    current::set_current(None);

    let outcome = result.unwrap_or_else(undone);
    if let Some(limit) = settings::log_min_duration()
        && elapsed.duration() >= limit
    {
        caught::log_failure(
            &attempt.named(&format!("took {} ms", elapsed.millis())),
            &Failure::new(SqlState::SUCCESSFUL_COMPLETION, format!("{outcome:?}").to_lowercase()),
        );
    }
    outcome
}

/// Takes away what the task stands for. What stays, because somebody was in the way, runs by itself.
fn absorb(attempt: &Attempt, key: &str) {
    loop {
        match transaction::run(|| absorb::absorb(attempt.tenant, attempt.row, key)) {
            Ok(true) => return,
            Ok(false) => {}
            Err(failure) => return caught::log_failure(&attempt.named("could not take others in"), &failure),
        }
    }
}

/// Says in the slot and in pg_stat_activity what runs.
fn show(slot: &Slot, attempt: &Attempt, deadline: Option<At>) {
    let Attempt { tenant, item, started_at, .. } = *attempt;
    let name = &attempt.handler.name;
    store_text(&slot.handler, name);
    slot.attempt.store(item.attempts + 1);
    progress::begin(slot);
    slot.started_at.store(started_at);
    slot.deadline.store(deadline.unwrap_or_default());
    session::report_activity(Some(&format!(
        "tenant_q: {} {} {} attempt {}",
        caught::one_line(&tenant.name),
        caught::one_line(name),
        item.id,
        item.attempts + 1
    )));
}

/// An attempt must not begin as it was picked; never seen outside.
fn outdated(why: impl Into<String>) -> Failure {
    Failure::ours(Own::Outdated, SqlState::OUTDATED, why)
}

/// A task's tenant and handler.
type Present = (Rc<Tenant>, Rc<Handler>);

/// The tenant and the handler as they are now.
///
/// A picked task may wait behind others for long. Meanwhile its handler's owner may have lost the right to act as its role,
/// the function or the tenant may have another owner, either may be paused. Whoever picks next sees to that; here it is
/// only noticed, in the transaction that is to run it, which has just heard of all changes: while none came, a comparison.
fn as_of_now(tenant: &Rc<Tenant>, row: &Row<Tasks>, handler: &Rc<Handler>) -> Result<Present, Failure> {
    if tenant::epoch() == tenant.epoch {
        return Ok((tenant.clone(), handler.clone()));
    }
    let now = clock::now();
    let name = row.get(Tasks::HANDLER).unwrap_or("");
    let fresh = tenant::by_oid(tenant.oid).map_err(|e| outdated(e.message))?;
    if fresh.suspended.is_some() || !fresh.ready || fresh.paused_until(now).is_some() {
        return Err(outdated("the tenant pauses"));
    }
    if fresh.part_paused_until(name, row.get(Tasks::QUEUE), now).is_some() {
        return Err(outdated("the handler or its queue pauses"));
    }
    // What the session was prepared for.
    if fresh.search_path() != tenant.search_path() || fresh.zone() != tenant.zone() || fresh.settings != tenant.settings {
        return Err(outdated("the tenant's tasks run under other settings now"));
    }
    let current = handler::find(&fresh, name)?.filter(|h| h.fault.is_none() && !h.quarantined);
    match current.filter(|h| h.run_as == handler.run_as && h.is_procedure() == handler.is_procedure()) {
        Some(current) => Ok((fresh, current)),
        None => Err(outdated("the handler can't be called any more, or not as this role")),
    }
}

/// The same in a transaction of its own, if anything may have changed: the handler's would lock the registry for as long as
/// it runs. None: nothing has.
fn transaction_as_of_now(tenant: &Rc<Tenant>, row: &Row<Tasks>, handler: &Rc<Handler>) -> Result<Option<Present>, Failure> {
    if tenant::epoch() == tenant.epoch {
        return Ok(None);
    }
    transaction::run(|| as_of_now(tenant, row, handler)).map(Some)
}

/// From here on nothing is the handler's any more. Who holds a lock on the queue is waited for as
/// long as the attempt has run, so that long work isn't thrown away, but a place isn't lost either.
fn begin_completion(course: &Course, started_at: At) {
    course.stage.set(Stage::Completing);
    timeout::limit_locks(patience(started_at));
    // The handler may have enqueued or changed its own tenant's rows: see them.
    transaction::refresh_snapshot();
}

/// In milliseconds.
fn patience(started_at: At) -> i32 {
    (clock::now() - started_at).millis().clamp(1000, 30_000) as i32
}

/// Commits are asynchronous, unless the handler's setting says otherwise because somebody reads its effects
/// from outside: outside of the handler's own settings, which are over when it commits.
fn apply_durability(handler: &Handler) {
    const NAME: &std::ffi::CStr = c"synchronous_commit";
    let settings = handler.settings.as_ref().and_then(Json::as_object);
    let value =
        settings.and_then(|s| s.iter().find(|(name, _)| name.eq_ignore_ascii_case("synchronous_commit"))).and_then(|(_, v)| v.as_str());
    if let Some(value) = value.and_then(|v| std::ffi::CString::new(v).ok()) {
        session::set_local(NAME, &value);
    }
}

/// Whether what the task waits for has ended so that it can run.
fn conditions(tenant: &Tenant, row: &Row<Tasks>) -> Result<depend::Answer, Failure> {
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    Ok(depend::evaluate(&tasks, &results, row))
}

/// The handler's call and its completion, in one transaction; of a procedure's several in the last.
fn call_and_complete(attempt: &Attempt, rules: &Rules, course: &Course, passed: Option<Json>) -> Result<Outcome, Failure> {
    transaction::run(|| {
        let (tenant, handler) = &as_of_now(attempt.tenant, attempt.row, attempt.handler)?;
        let attempt = Attempt { tenant, handler, ..*attempt };
        attempt.check_identity()?;
        // None around a procedure: its COMMIT leaves every level.
        let nest = (!handler.is_procedure()).then(|| {
            apply_durability(handler);
            Nest::enter()
        });
        timeout::limit_locks(0);
        course.stage.set(Stage::Handler);
        attempt.apply_settings();
        let result = attempt.handle(rules, || Ok(passed))?;
        transaction::fire_deferred()?;
        course.check_time(timeout::has_fired())?;
        if let Some(nest) = nest {
            nest.leave();
        }
        begin_completion(course, attempt.started_at);
        attempt.complete(rules, result.as_ref())?;
        Ok(if result.is_some() { Outcome::Done } else { Outcome::Over })
    })
}

/// Asks listeners who run as this session's role about a task of another role's.
fn ask_listeners(attempt: &Attempt, course: &Course) -> Result<Outcome, Failure> {
    let Attempt { tenant, handler, row, item, started_at, .. } = *attempt;
    transaction::run(|| {
        let code = MayRunCode::in_attempt(sandbox::session_user().to_u32())?;
        let nest = Nest::enter();
        timeout::limit_locks(0);
        course.stage.set(Stage::Handler);
        let answer = ask::ask_for_others(tenant, row, handler, item, started_at, &code)?;
        transaction::fire_deferred()?;
        course.check_time(timeout::has_fired())?;
        nest.leave();
        begin_completion(course, started_at);
        match answer {
            Some(answer) => ask::note_asked(tenant, item, handler, answer).map(|()| Outcome::Asked),
            None => complete::skipped(tenant, item, None).map(|()| Outcome::Over),
        }
    })
}

/// An attempt that was not done.
struct Undone<'a> {
    shared: &'a Shared,
    slot: &'a Slot,
    index: u32,
    attempt: Attempt<'a>,
    course: &'a Course,
}

/// What is to be recorded of it.
enum Decided {
    /// Somebody has cancelled this process, without a word for the task.
    Interrupted(Failure),
    Judged(Judgement),
}

impl Undone<'_> {
    fn unrecorded(&self, failure: &Failure) -> Outcome {
        caught::log_failure(&self.attempt.named("could not be completed"), failure);
        cooldown::begin(self.shared, self.index, self.attempt.item.id);
        ready::wake(self.shared, self.index, At::LOWEST);
        Outcome::Unrecorded
    }

    /// Whether this very attempt was cancelled by tq_cancel.
    fn is_cancelled(&self) -> bool {
        let (slot, item) = (self.slot, self.attempt.item);
        slot.cancel_reason.load() == Stop::Cancelled && slot.cancel_created_at.load() == item.created_at && slot.cancel_id.load() == item.id
    }

    /// Err: nothing is to be recorded, or it is already.
    fn decide(&self, failure: Failure) -> std::result::Result<Decided, Outcome> {
        let Undone { shared, index, attempt: Attempt { tenant, row, item, .. }, course, .. } = *self;
        if failure.is(Own::Outdated) {
            give_back(shared, index, tenant, row);
            return Err(Outcome::Outdated);
        }
        let own_doing = failure.is(Own::Gone) && is_unchanged(tenant, item);
        let failure = if own_doing { complete::deleted_itself() } else { failure };
        match course.judge(failure) {
            Cause::Overtaken(_) => {
                // Their word stands, our effects are gone.
                ready::wake(shared, index, At::LOWEST);
                Err(Outcome::Over)
            }
            Cause::Skipped(why) => {
                let ended = transaction::run(|| complete::finish_unrun(tenant, item, Ended::Cancelled, Some(&why)));
                Err(over(shared, index, item, ended))
            }
            // pg_cancel_backend, or a word for an attempt that is over.
            Cause::Cancelled(failure) if !self.is_cancelled() || is_unchanged(tenant, item) => Ok(Decided::Interrupted(failure)),
            // No attempt of the handler's: it did its work, and does it again, or it never began.
            Cause::Failed(failure) if course.stage.get() != Stage::Handler && failure.sqlstate.is_contention() => {
                Err(self.unrecorded(&failure))
            }
            cause => Ok(Decided::Judged(course.judgement(cause))),
        }
    }

    /// Records what is made of it, in a transaction of its own.
    fn settle(&self, failure: Failure) -> Outcome {
        // Without the postmaster much fails that is none of the task's faults.
        interrupt::leave_orphaned();
        let Undone { shared, index, attempt: Attempt { tenant, handler, row, item, started_at, .. }, .. } = *self;
        let decided = match self.decide(failure) {
            Ok(decided) => decided,
            Err(outcome) => return outcome,
        };
        let recorded = transaction::run(|| {
            timeout::limit_locks(patience(started_at));
            match &decided {
                Decided::Interrupted(failure) => complete::interrupted(tenant, item, Some(handler), started_at, failure),
                Decided::Judged(judgement) => {
                    let verdict = complete::failed(tenant, item, Some(handler), started_at, judgement)?;
                    Ok(Interrupted::Counted(judgement.failure.clone(), verdict))
                }
            }
        });
        let count = |failure: &Failure, timed_out: bool| {
            counters::failed(shared, tenant.oid, handler.run_as, &task::counted(row), failure, timed_out);
        };
        let (failure, verdict) = match (recorded, &decided) {
            (Ok(Interrupted::Counted(failure, verdict)), _) => (failure, verdict),
            (Ok(Interrupted::Again(times)), Decided::Interrupted(failure)) => {
                count(failure, false);
                let what = format!("was interrupted at attempt {}, {times} times in a row", item.attempts + 1);
                caught::log_failure(&self.attempt.named(&what), failure);
                cooldown::after_interruption(shared, index, item.id, times as u32);
                ready::wake(shared, index, At::LOWEST);
                return Outcome::Unrecorded;
            }
            (Ok(_), _) => return Outcome::Over,
            (Err(why), _) => return self.unrecorded(&why),
        };
        let is_failure = match &decided {
            Decided::Judged(judgement) => verdict.is_failure_of(judgement),
            Decided::Interrupted(_) => verdict != Verdict::Overtaken,
        };
        if is_failure {
            count(&failure, matches!(&decided, Decided::Judged(judgement) if judgement.how == AttemptEnd::TimedOut));
        }
        if verdict != Verdict::Overtaken {
            cooldown::forget_ends(shared, index, item.id);
        }
        match verdict {
            Verdict::RetryAt(at) => {
                // The slot still names the task: lower the cursor before it leaves it.
                ready::wake_at(shared, index, at, 0);
                if !is_failure {
                    return Outcome::Over;
                }
                shared.entries[index as usize].retried.fetch_add(1);
                Outcome::Retry
            }
            Verdict::Failed => {
                caught::log_failure(&self.attempt.named(&format!("failed at attempt {}", item.attempts + 1)), &failure);
                Outcome::Failed
            }
            Verdict::Overtaken => Outcome::Over,
        }
    }
}

/// Lets the task be picked again, by whoever it belongs to now.
fn give_back(shared: &Shared, index: u32, tenant: &Tenant, row: &Row<Tasks>) {
    ready::wake(shared, index, At::LOWEST);
    let entry = transaction::run(|| {
        // Detached, dropped: nobody's.
        let Ok(fresh) = tenant::by_oid(tenant.oid) else { return Ok(None) };
        Ok(lookup::entry_of(&fresh, row)?)
    });
    if let Ok(Some(entry)) = entry
        && entry.index != index
    {
        shared.reach(entry, |index| ready::wake(shared, index, At::LOWEST));
    }
}

fn is_unchanged(tenant: &Tenant, item: &Item) -> bool {
    transaction::run(|| complete::is_unchanged(tenant, item)).unwrap_or(false)
}

fn over(shared: &Shared, index: u32, item: &Item, result: Result<(), Failure>) -> Outcome {
    match result {
        Ok(()) => Outcome::Over,
        Err(f) if end::is_fenced(&f) => Outcome::Over,
        Err(why) => {
            caught::log_failure(&format!("task {} could not be ended", item.id), &why);
            cooldown::begin(shared, index, item.id);
            ready::wake(shared, index, At::LOWEST);
            Outcome::Unrecorded
        }
    }
}

/// Claims the next task of the own list; its place in it.
pub fn start_next(slot: &Slot) -> Option<usize> {
    loop {
        let word = Word::load(slot);
        if word.next >= word.end {
            slot.busy_since.store(0);
            return None;
        }
        slot.cancel_reason.store(Stop::No);
        let new = Word { running: true, next: word.next + 1, ..word };
        if word.replace(slot, new) {
            slot.busy_since.store(if new.next < new.end { clock::monotonic_ns() } else { 0 });
            return Some(word.next);
        }
    }
}

/// The running task is over, committed or aborted.
pub fn ended_one(slot: &Slot) {
    loop {
        let word = Word::load(slot);
        if word.replace(slot, Word { running: false, ..word }) {
            break;
        }
    }
    slot.started_at.store(At::UNSET);
}
