//! The place that writes a new task's row; a flow's own row, which nobody runs, is written by work/flow.rs.

use crate::handler::Handler;
use crate::postgres::error::Result;
use crate::postgres::relation::Table;
use crate::postgres::transaction::LocalId;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, shmem};
use crate::pure::ids::Id;
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::shared::wake;
use crate::task::new::{self, NewTask};
use crate::task::place::{self, First, Place};
use crate::task::rules;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::Caller;
use std::cell::Cell;

thread_local! {
    /// When the last task of this transaction was enqueued.
    static LAST: Cell<Option<(LocalId, At)>> = const { Cell::new(None) };
}

/// When a task is enqueued: later than every other of this transaction, for that is their order, whatever their ids are.
pub fn moment() -> At {
    let (now, this) = (clock::now(), LocalId::now());
    let last = LAST.get().filter(|(of, _)| *of == this).map(|(_, at)| at);
    let at = last.map_or(now, |last| now.max(last + Span::MICROSECOND));
    LAST.set(Some((this, at)));
    at
}

/// Writes the row and notes the wake. Everything has been checked, or doesn't matter: the engine's
/// own tasks (hooks) are written even if their handler is gone, to be seen waiting for it.
pub fn insert(
    tenant: &Tenant,
    table: &Table<Tasks>,
    caller: &Caller,
    new: &NewTask,
    id: Id,
    waits_for: Option<Id>,
    handler: Option<&Handler>,
) -> Result<()> {
    let now = moment();
    let run_at = new.due(tenant, now);
    let expires = new.expires.or(handler.and_then(|h| h.expires)).map(|expires| rules::expires_at(tenant, run_at.max(now), expires));
    let options = new.options();
    let meta = match &new.meta {
        Some(meta) => Some(Jsonb::of(meta)),
        None => new::default_meta()?.map(Jsonb::from_value),
    };
    let queue = new.queue.as_deref().or(handler.and_then(|h| h.queue.as_deref()));
    let set_up = tenant.queue(queue);
    let priority = new.priority.or(handler.and_then(|h| h.priority)).or(set_up.and_then(|q| q.priority)).unwrap_or(0);
    let conditional = waits_for.is_some() || !new.depends_on.is_empty();
    let first = match handler.filter(|handler| handler.is_external()) {
        Some(handler) => First::of(tenant, handler, &options, now)?,
        None => First::Nothing,
    };
    let place = if waits_for.is_some() { Place { state: Stored::Waiting, waits_for } } else { Place::of(tenant, queue, handler, first) };
    let entry = tenant.entry(place::role(tenant, place.state, handler))?;
    let options = options.column();
    table.insert(&[
        Tasks::ID.to(id),
        Tasks::HANDLER.to(handler.map_or(new.handler.as_str(), |h| h.name.as_str())),
        Tasks::STATE.to(place.state),
        Tasks::PRIORITY.to(priority as i16),
        Tasks::ATTEMPTS.to(0),
        Tasks::CRASHES.to(0),
        Tasks::CREATED_AT.to(now),
        Tasks::RUN_AT.to(run_at),
        Tasks::ARGS.to(new.args.as_ref()),
        Tasks::NAME.to(new.name.as_deref()),
        Tasks::GROUP_ID.to(new.group_id.as_deref()),
        Tasks::QUEUE.to(queue),
        Tasks::UNIQUE_KEY.to(new.unique_key.as_deref()),
        Tasks::LOCK_KEY.to(new.lock.as_deref()),
        Tasks::LIMIT_KEY.to(new.limit_key.as_deref()),
        Tasks::PARENT_ID.to(new.parent),
        Tasks::WAITS.to(conditional.then_some(1)),
        Tasks::SCHEDULE.to(new.schedule.as_deref()),
        Tasks::SCHEDULED_FOR.to(new.scheduled_for),
        Tasks::EXPIRES_AT.to(expires),
        Tasks::ENQUEUED_BY.to(caller.name.as_str()),
        Tasks::BY_SUPERUSER.to(caller.superuser),
        Tasks::OPTIONS.to(options.as_ref()),
        Tasks::META.to(meta.as_ref()),
        Tasks::WAITS_FOR.to(place.waits_for),
    ]);
    place::expires(tenant, place.state, expires)?;
    match entry {
        Some(entry) => wake::added(entry, if waits_for.is_some() { At::NEVER } else { run_at }, place.handlers(handler)),
        None if crate::shared::get().is_none() => shmem::warn_not_preloaded(),
        // No room: a sweep finds it.
        None => {}
    }
    Ok(())
}
