//! tq_drain_take: workers' tasks handed out inside the caller's transaction, for tests of applications.
//!
//! A claim is one of the transaction's notes (shared/wake.rs) and nothing else: nobody hears of it, no shared memory is needed, and
//! with the transaction, or the savepoint, it is gone. What keeps others off meanwhile is the row's lock. How it ends is in finish.rs,
//! as of any other claim.

use crate::handler::Handler;
use crate::handler::external::External;
use crate::postgres::error::Result;
use crate::postgres::interrupt::Mark;
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, sandbox, subtransaction, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::{At, Span};
use crate::shared::endings::Drained;
use crate::shared::slot::Item;
use crate::shared::wake;
use crate::task::rules::Rules;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::gate;
use crate::work::attempt::{Cause, Course, Stage};
use crate::work::complete;
use crate::work::given;
use crate::work::own_session::{self, Due, LetIn, Purpose, Try};
use crate::work::take::Taken;
use std::rc::Rc;

/// Why a due task of an external handler can't be handed out here; None = it can.
pub fn reason_to_leave(handler: &Handler, external: &External, row: &Row<Tasks>) -> Option<String> {
    let name = &handler.name;
    if wake::all_drained().iter().any(|(drained, is_over)| !is_over && Some(drained.item.id) == row.get(Tasks::ID)) {
        return Some("this transaction has it".into());
    }
    if row.letter(Tasks::STATE) != Stored::External {
        return Some(format!("an executor asks a condition, or a listener, about the task of handler \"{name}\" first"));
    }
    if !external.may_be_taken_by(sandbox::current_user().to_u32()) {
        return Some(format!("tasks of handler \"{name}\" are for members of the role that its run_as names"));
    }
    None
}

/// At most `n` tasks that are due by then, each claimed for this transaction.
pub fn take(tenant: &Rc<Tenant>, n: usize, by: impl Fn() -> At) -> Result<Vec<Taken>> {
    let mut due = Due::of(Purpose::HandOut);
    let mut taken = Vec::new();
    while taken.len() < n {
        let Some(item) = due.next(tenant, by())? else { break };
        match hand_out(tenant, &item)? {
            HandedOut::Task(task) => taken.push(task),
            HandedOut::Over(tried) => {
                due.note(&item, tried);
            }
        }
        pgrx::check_for_interrupts!();
    }
    due.tell();
    transaction::see_own_writes();
    Ok(taken)
}

enum HandedOut {
    Task(Taken),
    /// It has ended without, or can't start.
    Over(Try),
}

fn hand_out(tenant: &Rc<Tenant>, item: &Item) -> Result<HandedOut> {
    let started_at = clock::now();
    let course = Course::new(Mark::now());
    let let_in = subtransaction::run(|| {
        let let_in = own_session::let_in(tenant, item, started_at, &course)?;
        // Arguments that don't fit what is declared now fail, as they do where a worker would take them.
        if let LetIn::To(row, handler) = &let_in
            && let Err(unfit) = given::check(tenant, handler, row)
        {
            course.stage.set(Stage::Completing);
            complete::finish_unrun(tenant, item, Ended::Failed, Some(&unfit))?;
            return Ok(LetIn::Over(Try::Theirs));
        }
        Ok(let_in)
    });
    match let_in {
        Ok(LetIn::To(row, handler)) => Ok(HandedOut::Task(claim(tenant, item, started_at, row, handler))),
        Ok(LetIn::Over(tried)) => Ok(HandedOut::Over(tried)),
        // Somebody has ended it before.
        Err(failure) if course.stage.get() == Stage::Completing && failure.sqlstate == SqlState::UNIQUE_VIOLATION => {
            Ok(HandedOut::Over(Try::Theirs))
        }
        Err(failure) => match course.judge(failure) {
            Cause::Overtaken(_) => Ok(HandedOut::Over(Try::Theirs)),
            Cause::Skipped(failure) | Cause::Cancelled(failure) | Cause::Asked(_, failure) | Cause::Failed(failure) => Err(failure.into()),
            Cause::TimedOut => Err(complete::took_too_long(0).into()),
        },
    }
}

fn claim(tenant: &Rc<Tenant>, item: &Item, started_at: At, row: Row<Tasks>, handler: Rc<Handler>) -> Taken {
    let rules = Rules::of(tenant, &row, Some(&handler));
    let claim = Id::of(uuid::Uuid::new_v4().as_u128());
    let item = Item { gates: gate::named(&gate::of(tenant, &row, Some(&handler))), ..*item };
    let role = sandbox::current_user().to_u32();
    wake::drained(Drained { claim, tenant: tenant.oid, role, item, started_at });
    let deadline = (rules.timeout_ms > 0).then(|| started_at.saturating_add(Span::of_millis(rules.timeout_ms)));
    Taken { claim, tenant: tenant.clone(), handler, row, deadline, max_attempts: rules.max_attempts }
}
