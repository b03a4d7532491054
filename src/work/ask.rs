//! Listeners that may say no: to enqueuing a task and to running it.
//!
//! Each is asked as its own role, in a session of that role.

use crate::handler::listeners::{self, ASKING, Event, Listener};
use crate::handler::{self, Handler, arguments, invoke};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::code::MayRunCode;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{condition, sandbox, session, transaction};
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::shared::slot::Item;
use crate::task::document::{Seen, TaskDocument};
use crate::task::lookup;
use crate::task::new::NewTask;
use crate::task::options::{Asked, Options};
use crate::task::place::{self, First, Place};
use crate::task::queue::Queue;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::By;
use serde_json::Value as Json;
use std::ffi::CString;
use std::rc::Rc;

/// The SQLSTATE of a listener's "no" to a task that is being enqueued.
const VETO: SqlState = SqlState::VETO;

/// The listener's function, called in the present transaction as the present user.
fn ask(handler: &Handler, document: &Jsonb, code: &MayRunCode) -> std::result::Result<Jsonb, Failure> {
    let signature = match (&handler.signature, &handler.fault) {
        (Some(signature), None) if !handler.is_procedure() => signature,
        (_, Some(fault)) => {
            return Err(Failure::new(SqlState::UNDEFINED_FUNCTION, format!("listener \"{}\": {}", handler.name, fault.text())));
        }
        _ => return Err(Failure::new(SqlState::UNDEFINED_FUNCTION, format!("listener \"{}\" is not a function", handler.name))),
    };
    let was = ASKING.replace(true);
    let answer = caught::catch(|| {
        let bound = arguments::bind(signature, Some(document), code)?;
        invoke::call(signature, &bound, code)
    });
    ASKING.set(was);
    answer.and_then(|r| r)
}

fn is_no(answer: &Jsonb) -> bool {
    answer.value() == Json::Bool(false)
}

/// A task is being enqueued: a listener's false refuses it, as its error does. Returns whether nobody need be asked any
/// more: in any session but that of all the listeners' role they are asked before the first attempt.
///
/// In the sandbox: who enqueues may not know what it would leave behind in their session.
pub fn enqueue(queue: &Queue, new: &NewTask, handler: &Handler, id: Id, run_at: At) -> Result<bool> {
    let tenant = &queue.tenant;
    let listening = listeners::listeners(tenant)?.of(Event::Enqueue, &handler.name);
    if listening.is_empty() {
        return Ok(false);
    }
    if ASKING.get() {
        return Ok(true);
    }
    if queue.by == By::Engine {
        return Ok(false);
    }
    let mut able = Vec::with_capacity(listening.len());
    for listener in listening {
        let listening_handler = listeners::listening_handler(tenant, &listener)?;
        listeners::check_superuser(tenant, &listener, listening_handler.run_as, queue.caller.superuser)?;
        let Some(code) = listening_handler.code_at_enqueue(tenant) else { return Ok(false) };
        able.push((listener, listening_handler, code));
    }
    let document = TaskDocument::to_be(tenant, new, &handler.name, id, run_at, &queue.caller.name, Event::Enqueue);
    let document = document.into_argument()?;
    for (listener, listening_handler, code) in able {
        let answer = sandbox::as_owner(pgrx::pg_sys::Oid::from(code.role()), || {
            for (name, value) in [("search_path", tenant.search_path()), ("TimeZone", tenant.zone())] {
                if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
                    session::set_local(&name, &value);
                }
            }
            ask(&listening_handler, &document, &code)
        })?;
        if is_no(&answer) {
            return Err(Error::new(VETO, format!("listener \"{}\" refused a task of handler \"{}\"", listener.handler, handler.name))
                .hint("tq_events shows who listens; tq_off() ends it."));
        }
    }
    // What listeners have written is to be seen by what follows.
    transaction::see_own_writes();
    Ok(true)
}

/// Who is still to be asked about a task that is in the table.
fn pending(tenant: &Tenant, row: &Row<Tasks>, handler: &Handler) -> Result<Vec<Rc<Listener>>> {
    // Nobody listens, as a rule: then nothing of the row is looked at.
    if listeners::listeners(tenant)?.of(Event::Enqueue, &handler.name).is_empty() {
        return Ok(vec![]);
    }
    place::pending(tenant, &handler.name, &Options::of(row), row.get(Tasks::CREATED_AT).unwrap_or_default())
}

/// Before the task is run an executor of this role asks who runs as it; None: those of the task's own role do.
pub fn asked_next(tenant: &Tenant, row: &Row<Tasks>, handler: &Handler) -> Result<Option<u32>> {
    for listener in pending(tenant, row, handler)? {
        if let Some(asked) = handler::find(tenant, &listener.handler)?.filter(|h| h.run_as != handler.run_as) {
            return Ok(Some(asked.run_as));
        }
    }
    // Its condition is the tenant's code, and no worker's.
    Ok((handler.is_external() && Options::of(row).only_if.is_some()).then_some(tenant.owner))
}

/// Asks those about a task's being enqueued who run as the present role, which is `code`'s; returns their names, and
/// those who run as others.
fn ask_pending(
    tenant: &Tenant,
    row: &Row<Tasks>,
    handler: &Handler,
    item: &Item,
    started_at: At,
    code: &MayRunCode,
) -> std::result::Result<(Vec<String>, Vec<String>), Failure> {
    let (mut names, mut others) = (Vec::new(), Vec::new());
    let mut made = None;
    for listener in pending(tenant, row, handler)? {
        let listening_handler = listeners::listening_handler(tenant, &listener)?;
        if listening_handler.run_as != code.role() {
            others.push(listener.handler.clone());
            continue;
        }
        listeners::check_superuser(tenant, &listener, code.role(), row.get(Tasks::BY_SUPERUSER) == Some(true))?;
        let document = match &made {
            Some(made) => made,
            None => made.insert(running_document(tenant, row, Event::Enqueue, item, started_at)?),
        };
        if is_no(&ask(&listening_handler, document, code)?) {
            return Err(Failure::ours(Own::Skipped, VETO, format!("listener \"{}\" refused it", listener.handler)));
        }
        names.push(listener.handler.clone());
    }
    Ok((names, others))
}

/// What an executor that isn't the task's own has found out about it.
pub struct Answer {
    /// Listeners who have let it pass.
    asked: Vec<String>,
    /// Its condition is true, and was to be asked here.
    is_true: bool,
}

/// The same in an executor that isn't the task's own; of an external task its condition is asked as well. What it answers is to be
/// noted by `note_asked`. None: the condition isn't true.
pub fn ask_for_others(
    tenant: &Tenant,
    row: &Row<Tasks>,
    handler: &Handler,
    item: &Item,
    started_at: At,
    code: &MayRunCode,
) -> std::result::Result<Option<Answer>, Failure> {
    let (asked, others) = ask_pending(tenant, row, handler, item, started_at, code)?;
    let mut is_true = false;
    if handler.is_external()
        && others.is_empty()
        && code.role() == tenant.owner
        && let Some(expression) = Options::of(row).only_if
    {
        if !condition::is_true(&expression, code)? {
            return Ok(None);
        }
        is_true = true;
    }
    Ok(Some(Answer { asked, is_true }))
}

/// That need not be asked about the task any more.
pub fn note_asked(tenant: &Tenant, item: &Item, handler: &Handler, answer: Answer) -> std::result::Result<(), Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let overtaken = || Failure::ours(Own::Fenced, SqlState::FENCED, "the task was changed, cancelled or finished meanwhile");
    let row = lookup::find(&table, item).ok_or_else(overtaken)?;
    let mut options = Options::of(&row);
    let mut asked = match options.asked {
        Some(Asked::These(names)) => names,
        Some(Asked::All) | None => vec![],
    };
    asked.extend(answer.asked);
    options.asked = Some(Asked::These(asked));
    if answer.is_true {
        options.only_if = None;
    }
    let first = First::of(tenant, handler, &options, row.get(Tasks::CREATED_AT).unwrap_or_default())?;
    let options = options.column();
    let mut changes = vec![Tasks::OPTIONS.to(options.as_ref())];
    if handler.is_external() {
        changes.extend(Place::of(tenant, row.get(Tasks::QUEUE), Some(handler), first).changes());
    }
    match table.update(&row, &changes) {
        Write::Done => Ok(()),
        Write::Overtaken => Err(overtaken()),
    }
}

/// What a finished or changed task's options say of it if it is run again: who was asked has said yes to what was done
/// then, and is asked anew about other arguments.
pub fn options_again(tenant: &Tenant, mut options: Options, was_done: bool, other_args: bool) -> Result<Options> {
    if listeners::asks(tenant)? {
        match (other_args, was_done) {
            (true, _) => options.asked = None,
            (false, true) => options.asked = Some(Asked::All),
            (false, false) => {}
        }
    }
    Ok(options)
}

/// A task is about to run: in its transaction, as its role, in its search_path. A listener's false
/// ends it: Skipped. First those who listen to tasks being enqueued and could not be asked then.
pub fn before_run(
    tenant: &Tenant,
    row: &Row<Tasks>,
    handler: &Handler,
    item: &Item,
    started_at: At,
    code: &MayRunCode,
) -> std::result::Result<(), Failure> {
    if listeners::listeners(tenant)?.all.is_empty() {
        return Ok(());
    }
    let (_, others) = ask_pending(tenant, row, handler, item, started_at, code)?;
    if let Some(other) = others.first() {
        let failure = Failure::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("listener \"{other}\" is to be asked first, as another role than the task's"),
        );
        return Err(Failure { hint: Some("An executor of its role asks it: leave the task to the workers.".into()), ..failure });
    }
    let listening = listeners::listeners(tenant)?.of(Event::BeforeRun, &handler.name);
    if listening.is_empty() {
        return Ok(());
    }
    let document = running_document(tenant, row, Event::BeforeRun, item, started_at)?;
    for listener in listening {
        if is_no(&ask(&*listeners::listening_to_run(tenant, &listener, row, code)?, &document, code)?) {
            return Err(Failure::ours(Own::Skipped, VETO, format!("listener \"{}\" skipped it", listener.handler)));
        }
    }
    Ok(())
}

fn running_document(tenant: &Tenant, row: &Row<Tasks>, event: Event, item: &Item, started_at: At) -> Result<Jsonb> {
    let seen = Seen { state: "running", attempt: item.attempts + 1, started_at: Some(started_at), ..Seen::default() };
    TaskDocument::in_event(tenant, row, event, seen).into_argument()
}

/// A handler has returned: in its transaction, as its role, in its search_path. An error fails the
/// attempt.
pub fn after_run(
    tenant: &Tenant,
    row: &Row<Tasks>,
    handler: &Handler,
    item: &Item,
    started_at: At,
    result: &Jsonb,
    code: &MayRunCode,
) -> std::result::Result<(), Failure> {
    let listening = listeners::listeners(tenant)?.of(Event::AfterRun, &handler.name);
    if listening.is_empty() {
        return Ok(());
    }
    let seen = Seen { state: "done", attempt: item.attempts + 1, started_at: Some(started_at), result: Some(result), error: None };
    let document = TaskDocument::in_event(tenant, row, Event::AfterRun, seen);
    let document = document.into_argument()?;
    for listener in listening {
        ask(&*listeners::listening_to_run(tenant, &listener, row, code)?, &document, code)?;
    }
    Ok(())
}
