//! The place that writes a new task's row; a flow's own row, which nobody runs, is written by work/flow.rs.

use crate::handler::Handler;
use crate::postgres::error::Result;
use crate::postgres::relation::{Table, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, shmem};
use crate::pure::state::stored;
use crate::pure::time;
use crate::shared::wake;
use crate::task::new::{self, NewTask, TIME_MAX};
use crate::task::place::Place;
use crate::tenant::Tenant;
use crate::tenant::rights::Caller;

/// Writes the row and notes the wake. Everything has been checked, or doesn't matter: the engine's
/// own tasks (hooks) are written even if their handler is gone, to be seen waiting for it.
pub fn insert(
    tenant: &Tenant,
    table: &Table,
    caller: &Caller,
    new: &NewTask,
    id: u128,
    waits_for: Option<u128>,
    handler: Option<&Handler>,
) -> Result<()> {
    let entry = tenant.entry(handler.map_or(tenant.owner, |h| h.run_as))?;
    let now = clock::now();
    let run_at = new.run_at.or(new.delay.map(|d| now.saturating_add(d))).unwrap_or(now);
    // From when it may run: what is put off on purpose doesn't grow old meanwhile.
    let expires = new.expires.or(handler.and_then(|h| h.expires)).map(|e| run_at.max(now).saturating_add(e).min(TIME_MAX));
    let options = new.options().map(Jsonb::from_value);
    let meta = match &new.meta {
        Some(meta) => Some(Jsonb::of(meta)),
        None => new::default_meta()?.map(Jsonb::from_value),
    };
    let queue = new.queue.as_deref().or(handler.and_then(|h| h.queue.as_deref()));
    let set_up = tenant.queue(queue);
    let priority = new.priority.or(handler.and_then(|h| h.priority)).or(set_up.and_then(|q| q.priority)).unwrap_or(0);
    let conditional = waits_for.is_some() || !new.depends_on.is_empty();
    let place = if waits_for.is_some() { Place { state: stored::WAITING, waits_for } } else { Place::of(tenant, queue) };
    table.insert(&[
        Value::Uuid(id),
        Value::Text(handler.map_or(new.handler.as_str(), |h| h.name.as_str())),
        Value::Char(place.state),
        Value::I16(priority as i16),
        Value::I32(0),
        Value::I32(0),
        Value::Time(now),
        Value::Time(run_at),
        Value::json(new.args.as_ref()),
        Value::text(new.name.as_deref()),
        Value::text(new.group_id.as_deref()),
        Value::text(queue),
        Value::text(new.unique_key.as_deref()),
        Value::text(new.lock.as_deref()),
        Value::text(new.limit_key.as_deref()),
        Value::uuid(new.parent),
        if conditional { Value::I32(1) } else { Value::Null },
        Value::text(new.schedule.as_deref()),
        Value::time(new.scheduled_for),
        Value::time(expires),
        Value::Text(&caller.name),
        Value::Bool(caller.superuser),
        Value::json(options.as_ref()),
        Value::json(meta.as_ref()),
        Value::Null,
        Value::uuid(place.waits_for),
    ]);
    match entry {
        Some(entry) => wake::enqueued(entry, if waits_for.is_some() { time::NEVER } else { run_at }),
        None if crate::shared::get().is_none() => shmem::warn_not_preloaded(),
        // No room: a sweep finds it.
        None => {}
    }
    Ok(())
}
