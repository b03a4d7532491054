//! Why a call about one task has done nothing, and what to call instead: said in a NOTICE, while somebody looks.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::ids::Id;
use crate::pure::state::State;
use crate::task::lookup::{self, Found};
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::why;
use std::rc::Rc;

/// What was asked of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// That it runs once more.
    Again,
    /// That it is otherwise.
    Change,
}

pub fn tell(tenant: &Rc<Tenant>, id: Id, asked: Asked) -> Result<()> {
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    let call = |what: &str, more: &str| format!("SELECT {what}('{id}'{more}, tenant => {});", pgrx::spi::quote_literal(&tenant.name));
    let why = call("* FROM tq_why", "");
    let found = transaction::with_latest_snapshot(|| match lookup::look_up(&tasks, &results, id) {
        Found::Nothing => None,
        Found::Finished(row) => Some((row.letter(Results::STATE).seen(), row.get(Results::FINISHED_AT))),
        Found::Unfinished(row) => Some((why::state(tenant, &row, clock::now()), row.get(Tasks::RUN_AT))),
    });
    let notice = |what: &str| Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("task {id} {what}"));
    let notice = match (found, asked) {
        (None, _) => notice(&format!("is neither waiting nor kept in tenant \"{}\"", tenant.name))
            .hint("Retention may have removed its result; an id of another tenant needs tenant => '…'."),
        (Some((State::Running, _)), Asked::Again) => {
            notice("is running").hint(format!("To stop it: {} Then it can be run again.", call("tq_cancel", "")))
        }
        (Some((State::Running, _)), Asked::Change) => {
            notice("is running or about to: it is not changed").hint(format!("To stop it: {}", call("tq_cancel", "")))
        }
        (Some((State::Delayed | State::Retrying, _)), Asked::Again) => notice("is not finished: it runs by itself when it is due")
            .hint(format!("To run it now: {}", call("tq_update", ", run_at => now()"))),
        (Some((state, _)), Asked::Again) if !state.is_final() => {
            notice("is not finished: it runs by itself").hint(format!("What it waits for: {why}"))
        }
        (Some((state, _)), Asked::Change) if state.is_final() => notice(&format!("is {}: what is over is not changed", state.name()))
            .hint(format!("To run it once more: {}", call("tq_requeue", ""))),
        _ => return Ok(()),
    };
    notice.notice();
    Ok(())
}
