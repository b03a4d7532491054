//! The trigger behind tq_listen_table: a change of a table becomes tasks.
//!
//! Whoever may write the table causes them, so nothing comes from the writer but the rows. The trigger names a listener; one
//! that somebody makes by hand on a table of theirs names a listener of somebody else's in vain, as does one of a dump where
//! nobody knows it: the row is written, nothing is enqueued, and a session hears so once.
//!
//! With a unique_key a transaction enqueues one task, whatever others have enqueued: which of them are one, the first that
//! begins finds out (work/absorb.rs).

use super::{document_for, may_enqueue, qualified_name};
use crate::postgres::call::{Args, Ret};
use crate::postgres::column::TableId;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction::LocalId;
use crate::postgres::trigger::{self, Fired, Operation, RowChange};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, sandbox, transaction};
use crate::pure::cache::Bounded;
use crate::pure::choice::{OnConflict, UniqueUntil};
use crate::pure::ids::Id;
use crate::settings;
use crate::task::new::{self, NewTask};
use crate::task::queue::Queue;
use crate::tenant;
use crate::tenant::columns::{TableListeners, Tasks};
use crate::tenant::rights::{By, Caller};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Rows that one task gets of a statement, at most.
const ROWS: usize = 1000;

/// A row of tenant_q.table_listener.
struct TableListener {
    tenant: String,
    relation: u32,
    name: String,
    owner: String,
    task: NewTask,
    by_superuser: bool,
    /// One task of a transaction is enough.
    is_one: bool,
}

/// None: there is no such row.
type Listeners = Bounded<Id, Option<Rc<TableListener>>>;

thread_local! {
    /// Listeners by id, of one epoch of the registry.
    static CACHE: RefCell<(u64, Listeners)> = RefCell::new((0, Bounded::new(KEPT, KEPT_BYTES)));
    /// By listener: the task of which one is enough, and the transaction that enqueued it.
    static ENQUEUED: RefCell<HashMap<Id, (LocalId, Id)>> = RefCell::default();
    /// Tenants whose being detached was said, and triggers of which it was said that nobody listens.
    static SAID: RefCell<HashSet<String>> = RefCell::default();
}

/// Listeners that a session remembers, and the bytes that they may take.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 8 << 20;
/// Of how many it is remembered that this was said.
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
    let is_one = is_one(&task);
    if is_one {
        task = stands_for_all(task);
    }
    Ok(Some(TableListener {
        tenant: row.text(TableListeners::TENANT).unwrap_or_default(),
        relation: row.get(TableListeners::RELATION_OID).unwrap_or(0),
        name: row.text(TableListeners::RELATION).unwrap_or_default(),
        owner: row.text(TableListeners::OWNER).unwrap_or_default(),
        task,
        is_one,
        by_superuser: row.get(TableListeners::BY_SUPERUSER).unwrap_or(false),
    }))
}

/// Warns, unless the session has been told of it.
fn say_once(what: &str, warning: impl FnOnce() -> Error) {
    let is_new = SAID.with_borrow_mut(|said| {
        if said.len() >= SAID_MAX {
            said.clear();
        }
        said.insert(what.to_string())
    });
    if is_new {
        warning().warn();
    }
}

/// Whether tasks of this listener stand for each other: they have a key, and one that waits stays where it is.
pub fn is_one(task: &NewTask) -> bool {
    task.unique_key.is_some()
        && matches!(task.on_conflict, None | Some(OnConflict::Skip))
        && task.unique_until != Some(UniqueUntil::Deleted)
}

/// Such a task doesn't hold its key, for which others would have to wait: it finds the others by their group, and is kept
/// from running beside them by their lock.
fn stands_for_all(task: NewTask) -> NewTask {
    let key = task.unique_key;
    NewTask {
        lock: task.lock.or_else(|| key.clone()),
        group_id: task.group_id.or_else(|| key.clone()),
        stands_for: key,
        unique_key: None,
        unique_until: None,
        on_conflict: None,
        ..task
    }
}

/// Whether this transaction has enqueued one already, which is still there: nobody has begun it, for nobody else sees it.
fn has_enqueued(queue: &Queue, listener: Id) -> bool {
    let known = ENQUEUED.with_borrow(|enqueued| enqueued.get(&listener).copied());
    known.is_some_and(|(transaction, task)| {
        transaction == LocalId::now() && {
            transaction::see_own_writes();
            transaction::with_latest_snapshot(|| queue.table.find(Tasks::ID.equals(task))).is_some()
        }
    })
}

fn note_enqueued(listener: Id, task: Id) {
    ENQUEUED.with_borrow_mut(|enqueued| {
        let now = LocalId::now();
        if enqueued.len() >= KEPT {
            enqueued.retain(|_, (transaction, _)| *transaction == now);
        }
        enqueued.insert(listener, (now, task));
    });
}

/// The trigger.
pub fn table_changed(args: &Args) -> Result<Ret> {
    let Some(fired) = args.trigger() else {
        return Err(Error::new(SqlState::TRIGGER_PROTOCOL_VIOLATED, "tenant_q.table_changed() was not called by a trigger")
            .hint("SELECT tq_listen_table(…) makes the triggers that call it."));
    };
    if !fired.is_after() {
        return Err(Error::new(SqlState::TRIGGER_PROTOCOL_VIOLATED, format!("trigger \"{}\" fires before the change", fired.name()))
            .hint("SELECT tq_listen_table(…) makes the triggers that call it."));
    }
    // A function of the table's own schema stands for this one, and the extension isn't here.
    if tenant::registry().is_err() && catalog::extension_version().is_none() {
        return Ok(Ret::Void);
    }
    let orphan = || {
        say_once(&fired.name(), || {
            let table = qualified_name(fired.relation());
            Error::new(SqlState::WARNING, format!("nothing is enqueued for changes of {table}: trigger {} is of no listener", fired.name()))
                .detail("It was made in another database, by hand, or before the extension was dropped.")
                .hint(format!(
                    "SELECT tq_listen_table('{table}', …) takes its place; DROP TRIGGER {} ON {table}; ends this.",
                    catalog::quote(&fired.name())
                ))
        });
        Ok(Ret::Void)
    };
    let Some(id) = fired.argument().and_then(|a| Id::parse(&a)) else { return orphan() };
    let Some(listener) = find(id)? else { return orphan() };
    // A partition's trigger is a copy of its parent's: the listener is the parent's.
    let relation = if fired.is_clone() || fired.relation() != listener.relation {
        let above = trigger::ancestors(fired.relation());
        let its = |relation: &&u32| **relation == listener.relation || qualified_name(**relation) == listener.name;
        above.iter().find(its).copied().unwrap_or(fired.relation())
    } else {
        fired.relation()
    };
    let Some(owner) = Table::open_any(relation, Access::Read).map(|t| catalog::relation_owner(&t)) else { return orphan() };
    // After a restore the table has another OID: then its name, or that there is no other, and its owner's name tell.
    let is_its = relation == listener.relation
        || catalog::role_name(owner).as_deref() == Some(&listener.owner)
            && (qualified_name(relation) == listener.name || catalog::relation_name(listener.relation).is_none());
    if !is_its {
        return orphan();
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
            say_once(&listener.tenant, || {
                Error::new(SqlState::WARNING, format!("nothing is enqueued for changes of {}", qualified_name(relation)))
                    .detail(format!("{}.", error.message))
            });
            return Ok(Ret::Void);
        }
    };
    may_enqueue(&tenant, owner)?;
    let superuser = listener.by_superuser && sandbox::is_superuser(pg_sys::Oid::from(owner));
    let caller = Caller { name: catalog::role_name(owner).unwrap_or_default(), superuser };
    let queue = Queue::of(tenant.clone(), tenant.open(tenant.task, Access::Write)?, caller, By::Caller);
    let table = qualified_name(relation);
    let operation = fired.operation();
    let enqueue = |args: Jsonb| {
        let task = crate::work::enqueue::add(&queue, &NewTask { args: Some(args), ..listener.task.clone() })?;
        if listener.is_one {
            note_enqueued(id, task);
        }
        Ok(())
    };
    if listener.is_one && has_enqueued(&queue, id) {
        return Ok(Ret::Void);
    }
    match operation {
        Operation::Truncate => enqueue(document_for(operation, &table, false, &[])?)?,
        _ if fired.is_for_row() => {
            enqueue(document_for(operation, &table, true, &[fired.row()?])?)?;
        }
        _ => statement(&fired, |rows| {
            let is_enough = listener.is_one && has_enqueued(&queue, id);
            if is_enough { Ok(()) } else { enqueue(document_for(operation, &table, false, rows)?) }
        })?,
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
