//! One attempt: the handler's call and its completion in one transaction, in the tenant's schema,
//! as the task's role, under its timeout.
//!
//! The handler runs inside a GUC nest level; what was deferred is made to happen inside it too,
//! because at commit it would run with the session's settings. Nothing of ours locks the tenant's
//! tables while the handler runs.

use crate::handler::arguments::{self, Unfit};
use crate::handler::signature::Signature;
use crate::handler::{self, Handler, invoke};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::code::MayRunCode;
use crate::postgres::interrupt::{self, Mark};
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::session::{self, Nest};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, condition, invalidation, sandbox, timeout, transaction};
use crate::pure::state::{AttemptEnd, Outcome, ended};
use crate::pure::time::{At, Span};
use crate::pure::word::{Stop, Word};
use crate::settings;
use crate::shared::slot::{Item, Slot};
use crate::shared::text::store_text;
use crate::shared::{Shared, cooldown, ready};
use crate::task::current::{self, ASKED, Asked, Call, Current, STAGE, Stage};
use crate::task::options::Options;
use crate::task::rules::Rules;
use crate::task::{self, end, lookup};
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::depend;
use crate::work::ask;
use crate::work::complete::{self, Interrupted, Judgement, Verdict};
use serde_json::Value as Json;
use std::rc::Rc;

/// What ended an attempt that was not done. Judged by where its error came from; its SQLSTATE alone says nothing, because
/// a handler, and any server that it asks, can raise each.
pub enum Cause {
    /// Somebody cancelled, changed or finished the task.
    Overtaken(Failure),
    /// A listener said no.
    Skipped(Failure),
    TimedOut,
    /// This process was cancelled meanwhile.
    Cancelled(Failure),
    /// The handler called this.
    Asked(Call, Failure),
    /// Anything else.
    Failed(Failure),
}

impl Call {
    /// What the handler's call makes of its attempt.
    pub fn judgement(self, failure: Failure) -> Judgement {
        match self {
            Call::Retry(after) => Judgement { delay: after, ..Judgement::of(AttemptEnd::Retry, failure) },
            Call::Fail => Judgement { last: true, ..Judgement::of(AttemptEnd::Failed, failure) },
        }
    }
}

/// `since`: the attempt's beginning. `timed_out`: its timer has fired.
pub fn judge(failure: Failure, since: Mark, timed_out: bool, asked: &Asked) -> Cause {
    let is_cancel = failure.sqlstate == SqlState::QUERY_CANCELED;
    match (failure.own, asked.call) {
        (Some(Own::Fenced | Own::Gone), _) => Cause::Overtaken(failure),
        (Some(Own::Skipped), _) => Cause::Skipped(failure),
        _ if is_cancel && timed_out => Cause::TimedOut,
        _ if is_cancel && since.has_passed() => Cause::Cancelled(failure),
        (_, Some(call)) if failure.sqlstate == call.sqlstate() => Cause::Asked(call, failure),
        _ => Cause::Failed(failure),
    }
}

/// Runs one picked task whose slot says so already. `since`: before anybody could have meant this attempt.
pub fn attempt(
    s: &Shared,
    slot: &Slot,
    index: u32,
    tenant: &Rc<Tenant>,
    row: &Row<Tasks>,
    handler: Option<&Rc<Handler>>,
    since: Mark,
) -> Outcome {
    let item = lookup::item_of(row);
    let started_at = clock::now();
    if row.get(Tasks::EXPIRES_AT).is_some_and(|t| t <= started_at) {
        return over(s, index, &item, transaction::run(|| complete::finish_unrun(tenant, &item, ended::EXPIRED, None)));
    }
    if row.has(Tasks::WAITS) {
        match transaction::run(|| conditions(tenant, row)) {
            Ok(depend::Answer::Never(failure)) => {
                return over(s, index, &item, transaction::run(|| complete::finish_unrun(tenant, &item, ended::CANCELLED, Some(&failure))));
            }
            Ok(_) => {}
            // What it waits for can't be looked at just now: not without.
            Err(failure) => return over(s, index, &item, Err(failure)),
        }
    }
    let Some(handler) = handler else { return Outcome::Unrecorded };
    invalidation::accept();
    let current = match transaction_as_of_now(tenant, row, handler) {
        Ok(current) => current,
        Err(failure) if failure.is(Own::Outdated) => {
            give_back(s, index, tenant, row);
            return Outcome::Outdated;
        }
        Err(failure) => return over(s, index, &item, Err(failure)),
    };
    let (tenant, handler) = current.as_ref().map_or((tenant, handler), |(t, h)| (t, h));
    ASKED.with_borrow_mut(|a| *a = Asked::default());
    STAGE.set(Stage::Preparing);
    let undone = |timeout_ms| Undone { s, slot, index, tenant, handler, row, item: &item, started_at, timeout_ms };
    // Not in a transaction: what can't be read is caught here.
    let (rules, meta) = match caught::catch(|| (Rules::of(tenant, row, Some(handler)), row.get(Tasks::META))) {
        Ok(read) => read,
        Err(failure) => return undone(0).settle(failure, since, false),
    };
    // A pick takes a task of another role for one reason only.
    let asks = handler.run_as != sandbox::session_user().to_u32();
    let name = row.get(Tasks::HANDLER).unwrap_or("");
    store_text(&slot.handler, name);
    slot.attempt.store(item.attempts + 1);
    crate::shared::progress::begin(slot);
    slot.started_at.store(started_at);
    let deadline = (rules.timeout_ms > 0).then(|| started_at.saturating_add(Span::of_millis(rules.timeout_ms)));
    slot.deadline.store(deadline.unwrap_or_default());
    session::report_activity(Some(&format!(
        "tenant_q: {} {} {} attempt {}",
        caught::one_line(&tenant.name),
        caught::one_line(name),
        item.id,
        item.attempts + 1
    )));
    current::set_current(Some(Current {
        id: item.id,
        tenant: tenant.name.clone(),
        handler: name.to_string(),
        attempt: item.attempts + 1,
        max_attempts: rules.max_attempts,
        schedule: row.text(Tasks::SCHEDULE),
        scheduled_for: row.get(Tasks::SCHEDULED_FOR),
        deadline,
        meta,
    }));

    // In a transaction of its own: the handler's would lock the results for as long as it runs.
    let passed =
        rules.pass.filter(|_| !asks).map(|from| transaction::run(|| crate::waits::members::passed_result(tenant, from))).transpose();
    timeout::arm(rules.timeout_ms);
    let result = passed.and_then(|passed| {
        if asks {
            ask_listeners(tenant, row, handler, &item, started_at)
        } else if handler.is_procedure() {
            procedure(tenant, row, handler, &item, started_at, &rules, passed)
        } else {
            function(tenant, row, handler, &item, started_at, &rules, passed)
        }
    });
    let timed_out = timeout::disarm();
    let elapsed = (clock::now() - started_at).max(Span::ZERO);
    current::set_current(None);

    let outcome = match result {
        Ok(outcome) => outcome,
        Err(failure) => undone(rules.timeout_ms).settle(failure, since, timed_out),
    };
    if let Some(limit) = settings::log_min_duration()
        && elapsed.duration() >= limit
    {
        caught::log_failure(
            &format!("{} {} {} took {} ms", caught::one_line(&tenant.name), caught::one_line(name), item.id, elapsed.millis()),
            &Failure::new(SqlState::SUCCESSFUL_COMPLETION, format!("{outcome:?}").to_lowercase()),
        );
    }
    outcome
}

/// Whether a success leaves a result: a flow gathers its members'.
pub fn is_saved(rules: &Rules, tenant: &Tenant, row: &Row<Tasks>) -> bool {
    rules.save.unwrap_or(tenant.save_limit >= 0 || row.has(Tasks::PARENT_ID))
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

/// What must hold before a task's own code runs, whatever the queue's rows say.
fn check_identity(tenant: &Tenant, row: &Row<Tasks>, handler: &Handler) -> Result<(), Failure> {
    let role = sandbox::session_user();
    if sandbox::current_user() != role || role.to_u32() != handler.run_as {
        return Err(Failure::new(SqlState::INSUFFICIENT_PRIVILEGE, "the executor is not the role that the handler runs as"));
    }
    if sandbox::is_superuser(role) {
        ASKED.with_borrow_mut(|a| a.in_vain = true);
        if !settings::allow_superuser() {
            return Err(Failure::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "the task would run as a superuser, and tenant_q.allow_superuser is off",
            ));
        }
        if row.get(Tasks::BY_SUPERUSER) != Some(true) {
            return Err(Failure::new(SqlState::INSUFFICIENT_PRIVILEGE, "the task would run as a superuser, but no superuser enqueued it"));
        }
        if let Some(why) = tenant.distrust() {
            return Err(Failure::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("the task would run as a superuser, but {why}")));
        }
        ASKED.with_borrow_mut(|a| a.in_vain = false);
    }
    Ok(())
}

/// From here on nothing is the handler's any more. Who holds a lock on the queue is waited for as
/// long as the attempt has run, so that long work isn't thrown away, but a place isn't lost either.
fn begin_completion(started_at: At) {
    STAGE.set(Stage::Completing);
    timeout::limit_locks(patience(started_at));
}

/// In milliseconds.
fn patience(started_at: At) -> i32 {
    (clock::now() - started_at).millis().clamp(1000, 30_000) as i32
}

pub fn apply_settings(handler: &Handler) {
    if let Some(serde_json::Value::Object(settings)) = &handler.settings {
        for (name, value) in settings {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            if let (Ok(name), Ok(value)) = (std::ffi::CString::new(name.as_str()), std::ffi::CString::new(value)) {
                session::set_local(&name, &value);
            }
        }
    }
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

fn signature_of(handler: &Handler) -> Result<&Signature, Failure> {
    handler.signature.as_ref().ok_or_else(|| Failure::new(SqlState::UNDEFINED_FUNCTION, "the handler's function is gone"))
}

/// The arguments of each call: one, but for a chunk of an iteration.
fn arguments_of(row: &Row<Tasks>, handler: &Handler, passed: Option<Json>) -> Result<Arguments, Failure> {
    let args = row.document(Tasks::ARGS);
    if let Some(passed) = passed {
        let args = crate::waits::members::with_result(handler, args.as_ref().map(Jsonb::value), passed)?;
        return Ok(Arguments::One(Some(Jsonb::from_value(args))));
    }
    if row.has(Tasks::PARENT_ID)
        && Options::of(row).each
        && let Some(items) = args.as_ref().and_then(Jsonb::elements)
    {
        return Ok(Arguments::Each(items.map(Jsonb::from_value).collect()));
    }
    Ok(Arguments::One(args))
}

enum Arguments {
    One(Option<Jsonb>),
    Each(Vec<Jsonb>),
}

/// Arguments that nobody could look at before, and that don't fit: another attempt would find the same.
fn unfit(unfit: Unfit) -> Failure {
    let of_foreign_type = unfit.of_foreign_type;
    let mut failure = Failure::from(unfit);
    // A lock, a deadlock: none of the value's.
    if of_foreign_type && !failure.sqlstate.is_contention() {
        ASKED.with_borrow_mut(|a| a.in_vain = true);
        failure.hint.get_or_insert_with(|| "It is not tried again. tq_requeue(id, args => '…') runs it with other arguments.".into());
    }
    failure
}

/// Calls the handler, once or for each of a chunk.
pub fn call(row: &Row<Tasks>, handler: &Handler, passed: Option<Json>, code: &MayRunCode) -> Result<Jsonb, Failure> {
    let signature = signature_of(handler)?;
    let once = |args: Option<&Jsonb>| invoke::call(signature, &arguments::bind(signature, args, code).map_err(unfit)?, code);
    match arguments_of(row, handler, passed)? {
        Arguments::One(args) => once(args.as_ref()),
        Arguments::Each(items) => {
            let results = items.iter().map(|args| Ok(once(Some(args))?.value())).collect::<Result<Vec<_>, Failure>>()?;
            Ok(Jsonb::from_value(results.into()))
        }
    }
}

fn function(
    tenant: &Rc<Tenant>,
    row: &Row<Tasks>,
    handler: &Rc<Handler>,
    item: &Item,
    started_at: At,
    rules: &Rules,
    passed: Option<Json>,
) -> Result<Outcome, Failure> {
    transaction::run(|| {
        let (tenant, handler) = &as_of_now(tenant, row, handler)?;
        check_identity(tenant, row, handler)?;
        let code = MayRunCode::in_attempt(handler.run_as)?;
        apply_durability(handler);
        let nest = Nest::enter();
        timeout::limit_locks(0);
        STAGE.set(Stage::Handler);
        apply_settings(handler);
        if !is_wanted(rules, &code)? {
            transaction::fire_deferred()?;
            nest.leave();
            return skip(tenant, item, started_at, rules);
        }
        ask::before_run(tenant, row, handler, item, started_at, &code)?;
        let result = call(row, handler, passed, &code)?;
        ask::after_run(tenant, row, handler, item, started_at, &result, &code)?;
        transaction::fire_deferred()?;
        nest.leave();
        begin_completion(started_at);
        // The handler may have enqueued or changed its own tenant's rows: see them.
        transaction::refresh_snapshot();
        complete::done(tenant, item, started_at, &result, is_saved(rules, tenant, row))?;
        Ok(Outcome::Done)
    })
}

/// Asks listeners who run as this session's role about a task of another role's.
fn ask_listeners(tenant: &Tenant, row: &Row<Tasks>, handler: &Handler, item: &Item, started_at: At) -> Result<Outcome, Failure> {
    transaction::run(|| {
        let code = MayRunCode::in_attempt(sandbox::session_user().to_u32())?;
        let nest = Nest::enter();
        timeout::limit_locks(0);
        STAGE.set(Stage::Handler);
        let asked = ask::ask_for_others(tenant, row, handler, item, started_at, &code)?;
        transaction::fire_deferred()?;
        nest.leave();
        begin_completion(started_at);
        transaction::refresh_snapshot();
        ask::note_asked(tenant, item, asked)?;
        Ok(Outcome::Asked)
    })
}

/// What the task's schedule asks before it lets it run, as the task's own role.
pub fn is_wanted(rules: &Rules, code: &MayRunCode) -> Result<bool, Failure> {
    rules.only_if.as_deref().map_or(Ok(true), |expression| condition::is_true(expression, code))
}

/// Ends the task without a call, in the transaction that asked.
fn skip(tenant: &Tenant, item: &Item, started_at: At, rules: &Rules) -> Result<Outcome, Failure> {
    begin_completion(started_at);
    transaction::refresh_snapshot();
    complete::skipped(tenant, item, rules.save)?;
    Ok(Outcome::Over)
}

fn procedure(
    tenant: &Rc<Tenant>,
    row: &Row<Tasks>,
    handler: &Rc<Handler>,
    item: &Item,
    started_at: At,
    rules: &Rules,
    passed: Option<Json>,
) -> Result<Outcome, Failure> {
    transaction::run(|| {
        let (tenant, handler) = &as_of_now(tenant, row, handler)?;
        check_identity(tenant, row, handler)?;
        let code = MayRunCode::in_attempt(handler.run_as)?;
        timeout::limit_locks(0);
        STAGE.set(Stage::Handler);
        apply_settings(handler);
        if !is_wanted(rules, &code)? {
            transaction::fire_deferred()?;
            return skip(tenant, item, started_at, rules);
        }
        let signature = signature_of(handler)?;
        let Arguments::One(args) = arguments_of(row, handler, passed)? else {
            return Err(Failure::new(SqlState::FEATURE_NOT_SUPPORTED, "a procedure can't be called for a chunk of an iteration"));
        };
        let bound = arguments::bind(signature, args.as_ref(), &code).map_err(unfit)?;
        ask::before_run(tenant, row, handler, item, started_at, &code)?;
        let result = invoke::call_procedure(signature, &bound, &code)?;
        ask::after_run(tenant, row, handler, item, started_at, &result, &code)?;
        transaction::fire_deferred()?;
        begin_completion(started_at);
        transaction::ensure_snapshot();
        complete::done(tenant, item, started_at, &result, is_saved(rules, tenant, row))?;
        Ok(Outcome::Done)
    })
}

/// An attempt that was not done.
struct Undone<'a> {
    s: &'a Shared,
    slot: &'a Slot,
    index: u32,
    tenant: &'a Rc<Tenant>,
    handler: &'a Rc<Handler>,
    row: &'a Row<Tasks>,
    item: &'a Item,
    started_at: At,
    timeout_ms: i64,
}

/// What is to be recorded of it.
enum Decided {
    /// Somebody has cancelled this process, without a word for the task.
    Interrupted(Failure),
    Judged(Judgement),
}

impl Undone<'_> {
    fn named(&self, what: &str) -> String {
        format!("{} {} {} {what}", caught::one_line(&self.tenant.name), caught::one_line(&self.handler.name), self.item.id)
    }

    fn unrecorded(&self, failure: &Failure) -> Outcome {
        caught::log_failure(&self.named("could not be completed"), failure);
        cooldown::begin(self.s, self.index, self.item.id);
        ready::wake(self.s, self.index, At::LOWEST);
        Outcome::Unrecorded
    }

    /// Whether this very attempt was cancelled by tq_cancel.
    fn is_cancelled(&self) -> bool {
        let (slot, item) = (self.slot, self.item);
        slot.cancel_reason.load() == Stop::Cancelled && slot.cancel_created_at.load() == item.created_at && slot.cancel_id.load() == item.id
    }

    /// `since`: the attempt's beginning. `timed_out`: its timer has fired. Err: nothing is to be recorded, or it is already.
    fn decide(&self, failure: Failure, since: Mark, timed_out: bool) -> std::result::Result<Decided, Outcome> {
        let Undone { s, index, tenant, row, item, .. } = *self;
        if failure.is(Own::Outdated) {
            give_back(s, index, tenant, row);
            return Err(Outcome::Outdated);
        }
        let own_doing = failure.is(Own::Gone) && is_unchanged(tenant, item);
        let failure = if own_doing { complete::deleted_itself() } else { failure };
        let asked = ASKED.with_borrow(|a| a.clone());
        Ok(Decided::Judged(match judge(failure, since, timed_out, &asked) {
            Cause::Overtaken(_) => {
                // Their word stands, our effects are gone.
                ready::wake(s, index, At::LOWEST);
                return Err(Outcome::Over);
            }
            Cause::Skipped(why) => {
                let ended = transaction::run(|| complete::finish_unrun(tenant, item, ended::CANCELLED, Some(&why)));
                return Err(over(s, index, item, ended));
            }
            // pg_cancel_backend, or a word for an attempt that is over.
            Cause::Cancelled(failure) if !self.is_cancelled() || is_unchanged(tenant, item) => return Ok(Decided::Interrupted(failure)),
            // No attempt of the handler's: it did its work, and does it again, or it never began.
            Cause::Failed(failure) if STAGE.get() != Stage::Handler && failure.sqlstate.is_contention() => {
                return Err(self.unrecorded(&failure));
            }
            Cause::TimedOut => Judgement::of(AttemptEnd::TimedOut, complete::took_too_long(self.timeout_ms)),
            Cause::Asked(call, failure) => call.judgement(failure),
            Cause::Cancelled(failure) | Cause::Failed(failure) => {
                Judgement { last: asked.in_vain, ..Judgement::of(AttemptEnd::Failed, failure) }
            }
        }))
    }

    /// Records what is made of it, in a transaction of its own.
    fn settle(&self, failure: Failure, since: Mark, timed_out: bool) -> Outcome {
        // Without the postmaster much fails that is none of the task's faults.
        interrupt::leave_orphaned();
        let Undone { s, index, tenant, handler, row, item, started_at, .. } = *self;
        let decided = match self.decide(failure, since, timed_out) {
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
            crate::shared::counters::failed(s, tenant.oid, handler.run_as, &task::counted(row), failure, timed_out);
        };
        let (failure, verdict) = match (recorded, &decided) {
            (Ok(Interrupted::Counted(failure, verdict)), _) => (failure, verdict),
            (Ok(Interrupted::Again(times)), Decided::Interrupted(failure)) => {
                count(failure, false);
                let what = format!("was interrupted at attempt {}, {times} times in a row", item.attempts + 1);
                caught::log_failure(&self.named(&what), failure);
                cooldown::after_interruption(s, index, item.id, times as u32);
                ready::wake(s, index, At::LOWEST);
                return Outcome::Unrecorded;
            }
            (Ok(_), _) => return Outcome::Over,
            (Err(why), _) => return self.unrecorded(&why),
        };
        if verdict != Verdict::Overtaken {
            count(&failure, matches!(&decided, Decided::Judged(j) if j.how == AttemptEnd::TimedOut));
            cooldown::forget_ends(s, index, item.id);
        }
        match verdict {
            Verdict::RetryAt(at) => {
                s.entries[index as usize].retried.fetch_add(1);
                // The slot still names the task: lower the cursor before it leaves it.
                ready::wake_at(s, index, at);
                Outcome::Retry
            }
            Verdict::Failed => {
                caught::log_failure(&self.named(&format!("failed at attempt {}", item.attempts + 1)), &failure);
                Outcome::Failed
            }
            Verdict::Overtaken => Outcome::Over,
        }
    }
}

/// Lets the task be picked again, by whoever it belongs to now.
fn give_back(s: &Shared, index: u32, tenant: &Tenant, row: &Row<Tasks>) {
    ready::wake(s, index, At::LOWEST);
    let entry = transaction::run(|| {
        // Detached, dropped: nobody's.
        let Ok(fresh) = tenant::by_oid(tenant.oid) else { return Ok(None) };
        Ok(lookup::entry_of(&fresh, row)?)
    });
    if let Ok(Some(entry)) = entry
        && entry.index != index
    {
        s.reach(entry, |index| ready::wake(s, index, At::LOWEST));
    }
}

fn is_unchanged(tenant: &Tenant, item: &Item) -> bool {
    transaction::run(|| complete::is_unchanged(tenant, item)).unwrap_or(false)
}

fn over(s: &Shared, index: u32, item: &Item, result: Result<(), Failure>) -> Outcome {
    match result {
        Ok(()) => Outcome::Over,
        Err(f) if end::is_fenced(&f) => Outcome::Over,
        Err(why) => {
            caught::log_failure(&format!("task {} could not be ended", item.id), &why);
            cooldown::begin(s, index, item.id);
            ready::wake(s, index, At::LOWEST);
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
