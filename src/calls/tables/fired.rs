//! The trigger behind tq_listen_table: a change of a table becomes tasks.
//!
//! Whoever may write the table causes them, so nothing comes from the writer but the rows. The trigger names a listener; one
//! that somebody makes by hand on a table of theirs names a listener of somebody else's in vain.

use super::{document_for, may_enqueue, qualified_name};
use crate::postgres::call::{Args, Ret};
use crate::postgres::column::TableId;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::trigger::{self, Fired, Operation, RowChange};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, sandbox, transaction};
use crate::pure::cache::Bounded;
use crate::pure::ids::Id;
use crate::settings;
use crate::task::new::{self, NewTask};
use crate::task::queue::Queue;
use crate::tenant;
use crate::tenant::columns::TableListeners;
use crate::tenant::rights::{By, Caller};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

/// Rows that one task gets of a statement, at most.
const ROWS: usize = 1000;

/// A row of tenant_q.table_listener.
struct TableListener {
    tenant: String,
    relation: u32,
    owner: String,
    task: NewTask,
    by_superuser: bool,
}

/// None: there is no such row.
type Listeners = Bounded<Id, Option<Rc<TableListener>>>;

thread_local! {
    /// Listeners by id, of one epoch of the registry.
    static CACHE: RefCell<(u64, Listeners)> = RefCell::new((0, Bounded::new(KEPT, KEPT_BYTES)));
    /// Tenants whose being detached was said.
    static SAID: RefCell<HashSet<String>> = RefCell::default();
}

/// Listeners that a session remembers, and the bytes that they may take.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 8 << 20;
/// Tenants of which it is remembered that this was said.
const SAID_MAX: usize = 1000;

fn find(id: Id) -> Result<Option<Rc<TableListener>>> {
    let epoch = tenant::epoch();
    let known = CACHE.with_borrow_mut(|(cached, listeners)| {
        if *cached != epoch {
            listeners.clear();
            *cached = epoch;
        }
        listeners.get(&id)
    });
    if let Some(listener) = known {
        return Ok(listener);
    }
    let listener = transaction::with_latest_snapshot(|| read(id))?.map(Rc::new);
    if tenant::epoch() == epoch {
        let args = listener.as_ref().and_then(|l| l.task.args.as_ref()).map_or(0, Jsonb::size);
        CACHE.with_borrow_mut(|(_, listeners)| listeners.insert(id, listener.clone(), size_of::<TableListener>() + 500 + args));
    }
    Ok(listener)
}

fn read(id: Id) -> Result<Option<TableListener>> {
    let table = catalog::relation_oid(tenant::registry()?.schema, "table_listener").and_then(|t| Table::open(TableId::of(t), Access::Read));
    let Some(row) = table.and_then(|t| t.find(TableListeners::ID.equals(id))) else { return Ok(None) };
    let mut task = row.get(TableListeners::TASK).map_or(Ok(NewTask::default()), |object| new::task_object(&object))?;
    task.handler = row.text(TableListeners::HANDLER).unwrap_or_default();
    Ok(Some(TableListener {
        tenant: row.text(TableListeners::TENANT).unwrap_or_default(),
        relation: row.get(TableListeners::RELATION_OID).unwrap_or(0),
        owner: row.text(TableListeners::OWNER).unwrap_or_default(),
        task,
        by_superuser: row.get(TableListeners::BY_SUPERUSER).unwrap_or(false),
    }))
}

/// The trigger.
pub fn table_changed(args: &Args) -> Result<Ret> {
    let Some(fired) = args.trigger() else {
        return Err(Error::new(SqlState::TRIGGER_PROTOCOL_VIOLATED, "tenant_q.table_changed() was not called by a trigger")
            .hint("SELECT tq_listen_table(…) makes the triggers that call it."));
    };
    let forged = || {
        Error::state(format!("trigger \"{}\" is of no listener", fired.name())).hint("DROP it, and listen again with tq_listen_table().")
    };
    let id = fired.argument().and_then(|a| Id::parse(&a)).ok_or_else(forged)?;
    let listener = find(id)?.filter(|_| fired.is_after()).ok_or_else(forged)?;
    // A partition's trigger is a copy of its parent's: the listener is the parent's.
    let relation = if fired.is_clone() || fired.relation() != listener.relation {
        trigger::ancestors(fired.relation()).into_iter().find(|a| *a == listener.relation).unwrap_or(fired.relation())
    } else {
        fired.relation()
    };
    let owner = Table::open_any(relation, Access::Read).map(|t| catalog::relation_owner(&t)).ok_or_else(forged)?;
    if relation != listener.relation && catalog::role_name(owner).as_deref() != Some(&listener.owner) {
        return Err(forged());
    }
    let gone = || match listener.tenant.as_str() {
        "" => Error::state("the tenant that it was for is gone"),
        name => tenant::not_attached(name),
    };
    let tenant = catalog::schema_oid(&listener.tenant).ok_or_else(gone).and_then(tenant::by_oid);
    let tenant = match tenant {
        Ok(tenant) => tenant,
        // Detached: its owner's tables work on without it.
        Err(error) => {
            let is_new = SAID.with_borrow_mut(|said| {
                if said.len() >= SAID_MAX {
                    said.clear();
                }
                said.insert(listener.tenant.clone())
            });
            if is_new {
                Error::new(SqlState::WARNING, format!("nothing is enqueued for changes of {}", qualified_name(relation)))
                    .detail(format!("{}.", error.message))
                    .warn();
            }
            return Ok(Ret::Void);
        }
    };
    may_enqueue(&tenant, owner)?;
    let superuser = listener.by_superuser && sandbox::is_superuser(pg_sys::Oid::from(owner));
    let caller = Caller { name: catalog::role_name(owner).unwrap_or_default(), superuser };
    let queue = Queue::of(tenant.clone(), tenant.open(tenant.task, Access::Write)?, caller, By::Caller);
    let table = qualified_name(relation);
    let operation = fired.operation();
    let enqueue = |args: Jsonb| crate::work::enqueue::add(&queue, &NewTask { args: Some(args), ..listener.task.clone() }).map(|_| ());
    match operation {
        Operation::Truncate => enqueue(document_for(operation, &table, false, &[])?)?,
        _ if fired.is_for_row() => {
            enqueue(document_for(operation, &table, true, &[fired.row()?])?)?;
        }
        _ => statement(&fired, |rows| enqueue(document_for(operation, &table, false, rows)?))?,
    }
    Ok(Ret::Void)
}

/// A statement's rows, as many at a time as a task's arguments take.
fn statement(fired: &Fired, mut enqueue: impl FnMut(&[RowChange]) -> Result<()>) -> Result<()> {
    let room = settings::max_args_bytes() / 2;
    let mut rows: Vec<RowChange> = Vec::new();
    let mut bytes = 0;
    let size = |d: &Option<Jsonb>| d.as_ref().map_or(0, Jsonb::size);
    fired.rows(|change| {
        let more = size(&change.0) + size(&change.1);
        if rows.len() >= ROWS || (bytes + more > room && !rows.is_empty()) {
            enqueue(&rows)?;
            rows.clear();
            bytes = 0;
        }
        bytes += more;
        rows.push(change);
        Ok(())
    })?;
    if rows.is_empty() { Ok(()) } else { enqueue(&rows) }
}
