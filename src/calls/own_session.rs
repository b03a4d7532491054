//! SQL: tasks run in one's own session: tq_drain, tq_run_pending.

use crate::postgres::call::{Args, Ret};
use crate::postgres::deferred::Declared;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, latch, transaction};
use crate::pure::time::At;
use crate::shared::slot::Item;
use crate::sql_functions;
use crate::task::document::TaskDocument;
use crate::task::lookup::{self, Found};
use crate::tenant::Tenant;
use crate::waits::why;
use crate::work::own_session::{self, Due, LOOK_AGAIN, Ran};
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

thread_local! {
    /// Between the steps of one tq_run_pending.
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

/// tenant_q.drain(max_tasks, as_of, tenant): each attempt as a document.
fn drain(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_drain()");
    let most = match args.int(0) {
        Some(n) if n < 0 => return Err(Error::invalid("max_tasks is negative")),
        Some(n) => n as usize,
        None => usize::MAX,
    };
    // The default, now(), is when the transaction began; what it has enqueued since is due as well.
    let as_of = args.time(1).filter(|t| *t != transaction::started_at());
    if as_of.is_some_and(At::is_infinite) {
        return Err(Error::invalid("as_of is infinite").hint("A task that is retried for ever would never end."));
    }
    let tenant = own_session::resolve(args.text(2).as_deref())?;
    let mut due = Due::default();
    let mut declared = None;
    let mut shown = Vec::new();
    while shown.len() < most {
        let Some(item) = due.next(&tenant, as_of.unwrap_or_else(clock::now))? else { break };
        if declared.is_none() {
            // What the caller has deferred comes before the tasks, as it would at a commit; and a
            // task is not to fail for it.
            let as_declared = Declared::read();
            as_declared.fire()?;
            declared = Some(as_declared);
        }
        let tried = own_session::attempt(&tenant, &item, declared.as_ref())?;
        if let Some(ran) = due.note(&item, tried) {
            shown.push(describe(&tenant, &item, ran)?);
        }
        pgrx::check_for_interrupts!();
    }
    due.tell();
    transaction::see_own_writes();
    let too_large = |error: Error| {
        error.detail("What the tasks took and returned is told in one document.").hint("Run fewer at a time: max_tasks => 10.")
    };
    Ok(Ret::Document(Jsonb::array(&shown).map_err(too_large)?))
}

/// The task as it is after the attempt.
fn describe(tenant: &Rc<Tenant>, item: &Item, ran: Ran) -> Result<Jsonb> {
    transaction::see_own_writes();
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    match lookup::look_up(&tasks, &results, item.id) {
        Found::Finished(row) => TaskDocument::finished(tenant, &row).into_row(),
        Found::Unfinished(row) => why::describe(tenant, &row, clock::now()).into_row(),
        // Its result wasn't to be saved.
        Found::Nothing => {
            let (state, attempt, result) = (ran.state, item.attempts + 1, ran.result);
            match &ran.row {
                Some(row) => why::describe(tenant, row, clock::now()).after(state, attempt, result).into_row(),
                None => Ok(Jsonb::from_value(json!({ "state": state.name(), "attempt": attempt }))),
            }
        }
    }
}

/// One tq_run_pending between its transactions.
struct Pending {
    due: Due,
    idle_since: Option<Instant>,
}

/// tenant_q.pending_begin(tenant): whose tasks the steps that follow are to run.
fn pending_begin(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_run_pending()");
    if transaction::is_in_block(true) {
        return Err(Error::new(SqlState::INVALID_TRANSACTION_TERMINATION, "tq_run_pending() can't commit inside a transaction block")
            .detail("It runs each task in a transaction of its own. Many drivers begin a transaction with the first statement.")
            .hint("SELECT * FROM tq_drain() runs what is due in your transaction. Or CALL it in autocommit."));
    }
    let tenant = own_session::resolve(args.text(0).as_deref())?;
    PENDING.set(Some(Pending { due: Due::default(), idle_since: None }));
    Ok(Ret::Text(tenant.name.clone()))
}

/// tenant_q.pending_step(tenant, wait): 'ran' one task, to be committed; 'waited' a while, to be
/// called again; 'idle': nothing has been due for `wait`.
fn pending_step(args: &Args) -> Result<Ret> {
    let wait = args.interval(1).unwrap_or_default();
    if wait.is_negative() {
        return Err(Error::invalid("wait is negative").hint("0 does not wait."));
    }
    let tenant = own_session::resolve(args.text(0).as_deref())?;
    // Taken out while tasks run: they may CALL whatever they like.
    let mut pending = PENDING.take().unwrap_or(Pending { due: Due::default(), idle_since: None });
    while let Some(item) = pending.due.next(&tenant, clock::now())? {
        let tried = own_session::attempt(&tenant, &item, None)?;
        if pending.due.note(&item, tried).is_some() {
            pending.idle_since = None;
            PENDING.set(Some(pending));
            return Ok(Ret::Text("ran".into()));
        }
        pgrx::check_for_interrupts!();
    }
    let since = *pending.idle_since.get_or_insert_with(clock::steady);
    let rest = wait.duration().saturating_sub(since.elapsed());
    if rest.is_zero() {
        pending.due.tell();
        return Ok(Ret::Text("idle".into()));
    }
    PENDING.set(Some(pending));
    latch::wait(Some(rest.min(LOOK_AGAIN)));
    Ok(Ret::Text("waited".into()))
}

sql_functions! {
    tenant_q_drain, pg_finfo_tenant_q_drain => drain;
    tenant_q_pending_begin, pg_finfo_tenant_q_pending_begin => pending_begin;
    tenant_q_pending_step, pg_finfo_tenant_q_pending_step => pending_step;
}
