//! What an attempt is, whoever makes it: an executor in a transaction of its own (run.rs), or somebody in their own session
//! in a savepoint (own_session.rs).
//!
//! Both ask the same before a task's code runs, call its handler in the same way, and judge in the same way what ended it.
//! What differs is theirs: which transaction there is, what it leaves deferred, how long is waited, and who is told.
//!
//! An ERROR brings nothing along but itself. So how far the attempt had come is noted beside it, in a `Course` on the
//! stack of whoever makes it.

use crate::handler::arguments::{self, Unfit};
use crate::handler::{Handler, invoke};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::code::MayRunCode;
use crate::postgres::interrupt::Mark;
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{condition, sandbox, session};
use crate::pure::state::AttemptEnd;
use crate::pure::time::At;
use crate::settings;
use crate::shared::slot::Item;
use crate::task::current::{Call, Current};
use crate::task::options::Options;
use crate::task::rules::Rules;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::members;
use crate::work::ask;
use crate::work::complete::{self, Judgement};
use serde_json::Value as Json;
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::rc::Rc;

/// Whose statements an attempt runs at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Ours, before anything of the tenant's.
    Preparing,
    /// The tenant's: conditions, listeners, the handler, what it has deferred.
    Handler,
    /// Ours again: what fails now is no attempt of the handler's.
    Completing,
}

/// How an attempt goes, for whoever judges what ended it.
pub struct Course {
    /// Its beginning, or before anybody could have meant it.
    pub since: Mark,
    pub stage: Cell<Stage>,
    /// Its timer has fired.
    pub timed_out: Cell<bool>,
    /// In milliseconds; 0: it has none, or has not come so far.
    pub timeout_ms: Cell<i64>,
    /// By what call its handler has ended it.
    pub called: RefCell<Option<Call>>,
}

impl Course {
    pub fn new(since: Mark) -> Course {
        let called = RefCell::new(None);
        Course { since, stage: Cell::new(Stage::Preparing), timed_out: Cell::new(false), timeout_ms: Cell::new(0), called }
    }

    /// The handler has returned, perhaps too late: it may have caught the cancel, or called what heeds none.
    pub fn check_time(&self, is_over: bool) -> Result<(), Failure> {
        if is_over { Err(complete::took_too_long(self.timeout_ms.get())) } else { Ok(()) }
    }

    /// Judged by where the error came from.
    pub fn judge(&self, failure: Failure) -> Cause {
        let is_cancel = failure.sqlstate == SqlState::QUERY_CANCELED;
        match (failure.own, self.called.borrow().clone()) {
            (Some(Own::Fenced | Own::Gone), _) => Cause::Overtaken(failure),
            (Some(Own::Skipped), _) => Cause::Skipped(failure),
            _ if is_cancel && self.timed_out.get() => Cause::TimedOut,
            _ if is_cancel && self.since.has_passed() => Cause::Cancelled(failure),
            (_, Some(call)) if failure.sqlstate == call.sqlstate() => Cause::Asked(call, failure),
            _ => Cause::Failed(failure),
        }
    }

    /// What is recorded of an attempt that this has ended.
    pub fn judgement(&self, cause: Cause) -> Judgement {
        match cause {
            Cause::TimedOut => Judgement::of(AttemptEnd::TimedOut, complete::took_too_long(self.timeout_ms.get())),
            Cause::Asked(Call::Retry(again), failure) => {
                let how = if again.counts { AttemptEnd::Retry } else { AttemptEnd::Snoozed };
                Judgement { again: Some(again), ..Judgement::of(how, failure) }
            }
            Cause::Asked(Call::Fail, failure) => Judgement { last: true, ..Judgement::of(AttemptEnd::Failed, failure) },
            Cause::Overtaken(failure) | Cause::Skipped(failure) | Cause::Cancelled(failure) | Cause::Failed(failure) => {
                Judgement { last: failure.is(Own::InVain), ..Judgement::of(AttemptEnd::Failed, failure) }
            }
        }
    }
}

/// What ended an attempt that was not done. Its SQLSTATE alone says nothing, because a handler, and any server that it asks,
/// can raise each.
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

/// In whose session a task's code is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// An executor's, which is the role's, between transactions: a procedure may COMMIT.
    Executors,
    /// Of somebody who has the role, inside of a statement.
    Callers,
}

/// A task, and what it is run by.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub tenant: &'a Rc<Tenant>,
    pub handler: &'a Rc<Handler>,
    pub row: &'a Row<Tasks>,
    pub item: &'a Item,
    pub started_at: At,
    pub session: Session,
}

impl Attempt<'_> {
    /// What must hold before a task's own code runs, whatever the queue's rows say.
    pub fn check_identity(&self) -> Result<(), Failure> {
        let Attempt { tenant, handler, row, .. } = *self;
        let role = sandbox::current_user();
        if role.to_u32() != handler.run_as || self.session == Session::Executors && sandbox::session_user() != role {
            return Err(Failure::new(SqlState::INSUFFICIENT_PRIVILEGE, "the session's user is not the role that the handler runs as"));
        }
        if let Some(fault) = &handler.fault {
            return Err(Failure::new(SqlState::UNDEFINED_FUNCTION, fault.text()));
        }
        if sandbox::is_superuser(role) {
            let refused = |why: &str| {
                let message = format!("the task would run as a superuser, {why}");
                Err(Failure::ours(Own::InVain, SqlState::INSUFFICIENT_PRIVILEGE, message))
            };
            if !settings::allow_superuser() {
                return refused("and tenant_q.allow_superuser is off");
            }
            if row.get(Tasks::BY_SUPERUSER) != Some(true) {
                return refused("but no superuser enqueued it");
            }
            if let Some(why) = tenant.distrust() {
                return refused(&format!("but {why}"));
            }
        }
        Ok(())
    }

    /// The handler's own settings, until the nest level or the transaction is left.
    pub fn apply_settings(&self) {
        // Of the tenant's it is the one that isn't in the session's base, where the engine's own waits would end by it.
        if let Some(Json::Object(settings)) = &self.tenant.settings
            && let Some((name, value)) = settings.iter().find(|(name, _)| name.eq_ignore_ascii_case("lock_timeout"))
        {
            apply_setting(name, value);
        }
        if let Some(Json::Object(settings)) = &self.handler.settings {
            apply_settings(settings);
        }
    }

    /// The condition of its schedule, listeners that may say no, the handler, listeners that look at its result. `passed`
    /// looks up what the step before hands on. None: the condition isn't true, and nothing was called.
    pub fn handle(&self, rules: &Rules, passed: impl FnOnce() -> Result<Option<Json>, Failure>) -> Result<Option<Jsonb>, Failure> {
        let Attempt { tenant, handler, row, item, started_at, .. } = *self;
        let code = MayRunCode::in_attempt(handler.run_as)?;
        if let Some(expression) = &rules.only_if
            && !condition::is_true(expression, &code)?
        {
            return Ok(None);
        }
        ask::before_run(tenant, row, handler, item, started_at, &code)?;
        let result = self.call(passed()?, &code)?;
        ask::after_run(tenant, row, handler, item, started_at, &result, &code)?;
        Ok(Some(result))
    }

    /// Calls the handler, once or for each of a chunk.
    fn call(&self, passed: Option<Json>, code: &MayRunCode) -> Result<Jsonb, Failure> {
        let gone = || Failure::new(SqlState::UNDEFINED_FUNCTION, "the handler's function is gone");
        let signature = self.handler.signature.as_ref().ok_or_else(gone)?;
        let commits = self.session == Session::Executors && self.handler.is_procedure();
        let bind = |args: Option<&Jsonb>| arguments::bind(signature, args, code).map_err(unfit);
        match self.arguments(passed)? {
            Arguments::One(args) if commits => invoke::call_procedure(signature, &bind(args.as_ref())?, code),
            Arguments::One(args) => invoke::call(signature, &bind(args.as_ref())?, code),
            Arguments::Each(_) if commits => {
                Err(Failure::new(SqlState::FEATURE_NOT_SUPPORTED, "a procedure can't be called for a chunk of an iteration"))
            }
            Arguments::Each(items) => {
                let once = |args: &Jsonb| Ok(invoke::call(signature, &bind(Some(args))?, code)?.value());
                Ok(Jsonb::from_value(items.iter().map(once).collect::<Result<Vec<_>, Failure>>()?.into()))
            }
        }
    }

    fn arguments(&self, passed: Option<Json>) -> Result<Arguments, Failure> {
        let args = self.row.document(Tasks::ARGS);
        let with_passed = |args: Option<Json>| match &passed {
            Some(passed) => Ok(Some(members::with_result(self.handler, args, passed.clone())?)),
            None => Ok::<_, Failure>(args),
        };
        if self.row.has(Tasks::PARENT_ID)
            && Options::of(self.row).each
            && let Some(items) = args.as_ref().and_then(Jsonb::elements)
        {
            let one = |args| Ok(with_passed(Some(args))?.map_or_else(Jsonb::null, Jsonb::from_value));
            return items.map(one).collect::<Result<_, Failure>>().map(Arguments::Each);
        }
        match passed {
            Some(_) => Ok(Arguments::One(with_passed(args.as_ref().map(Jsonb::value))?.map(Jsonb::from_value))),
            None => Ok(Arguments::One(args)),
        }
    }

    /// Records the success, or that it was not to run, in the attempt's own transaction.
    pub fn complete(&self, rules: &Rules, result: Option<&Jsonb>) -> Result<(), Failure> {
        let Attempt { tenant, row, item, started_at, .. } = *self;
        match result {
            Some(result) => {
                // A flow gathers its members' results, also of those that are not to be kept longer.
                let save = row.has(Tasks::PARENT_ID) || rules.save.unwrap_or(tenant.save_limit >= 0);
                complete::done(tenant, item, started_at, result, save)
            }
            None => complete::skipped(tenant, item, rules.save),
        }
    }

    /// For the log: whose, what, which, and this.
    pub fn named(&self, what: &str) -> String {
        let (tenant, handler) = (caught::one_line(&self.tenant.name), caught::one_line(&self.handler.name));
        format!("{tenant} {handler} {} {what}", self.item.id)
    }

    /// What tq_current() tells meanwhile.
    pub fn current(&self, rules: &Rules, deadline: Option<At>, meta: Option<Json>) -> Current {
        let Attempt { tenant, handler, row, item, .. } = *self;
        Current {
            id: item.id,
            tenant: tenant.name.clone(),
            handler: handler.name.clone(),
            attempt: item.attempts + 1,
            max_attempts: rules.max_attempts,
            schedule: row.text(Tasks::SCHEDULE),
            scheduled_for: row.get(Tasks::SCHEDULED_FOR),
            deadline,
            meta,
            pass: rules.pass,
            each: rules.each && row.has(Tasks::PARENT_ID),
        }
    }
}

/// The arguments of each call: one, but for a chunk of an iteration.
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
        failure.own = Some(Own::InVain);
        failure.hint.get_or_insert_with(|| "It is not tried again. tq_requeue(id, args => '…') runs it with other arguments.".into());
    }
    failure
}

/// Sets them until the nest level or the transaction is left.
pub fn apply_settings(settings: &serde_json::Map<String, Json>) {
    for (name, value) in settings {
        apply_setting(name, value);
    }
}

fn apply_setting(name: &str, value: &Json) {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
        session::set_local(&name, &value);
    }
}
