//! Workers outside of the server that are missing: tasks that nobody offers to do.

use super::problem;
use crate::handler::{self, Handler};
use crate::postgres::caught::Failure;
use crate::postgres::relation::{Access, Table};
use crate::postgres::{clock, shmem};
use crate::pure::ids::{self, Id};
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::Shared;
use crate::shared::entry::Entry;
use crate::shared::role::EXTERNAL;
use crate::shared::takers::Taker;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, Tenant};
use crate::work::runs;
use pgrx::pg_sys;
use pgrx::spi::quote_literal;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Tasks of a handler that are counted; of more it is said that there are.
const COUNTED: usize = 1000;

/// Sessions that take tasks of this database.
pub fn takers(s: &Shared) -> impl Iterator<Item = &'static Taker> {
    s.used_takers().iter().filter(|taker| taker.pid.load() != 0 && taker.database.load() == shmem::my_database())
}

/// Workers that offer to do tasks of this handler in this tenant: those that live, and may.
pub fn offering(s: &Shared, tenant: &Tenant, handler: &Handler) -> Vec<&'static Taker> {
    let may = |taker: &Taker| {
        let role = taker.role.load();
        let is_for = handler.external.as_ref().is_some_and(|external| external.may_be_taken_by(role));
        is_for && rights::has(tenant, pg_sys::Oid::from(role), Right::Work)
    };
    let offers = |taker: &Taker| taker.offers(&handler.name) || handler.aliases.iter().any(|alias| taker.offers(alias));
    takers(s).filter(|taker| offers(taker) && may(taker)).collect()
}

/// Whether nobody has offered to do what was due then for so long that nobody may be about to.
pub fn is_long_ago(due: At) -> bool {
    clock::now() - due >= Span::from(settings::worker_lease())
}

/// What starts a worker for it.
pub fn how_to_offer(handler: &str) -> String {
    format!(
        "Start a worker that takes its tasks: SELECT * FROM tq_take(handlers => ARRAY[{}]), and calls the code.",
        quote_literal(handler)
    )
}

/// Entries of workers' tasks of this database of which some have been due for so long.
pub fn kept_waiting(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| {
        let since = entry.oldest_due.load();
        entry.role.load() == EXTERNAL
            && entry.in_use.load() == 1
            && entry.database.load() == shmem::my_database()
            && since > At::UNSET
            && is_long_ago(since)
    })
}

/// Tasks of one tenant that wait for a worker. Its table is looked into only where shared memory says that some have waited.
pub fn rows(s: &Shared, schema: u32, rows: &mut Vec<Json>) {
    if !kept_waiting(s.entries).any(|entry| entry.tenant.load() == schema) {
        return;
    }
    // Who holds its tables, or has altered them, is told elsewhere.
    let Ok(tenant) = tenant::by_oid(schema) else { return };
    let Ok(Some(table)) = tenant.try_open(tenant.task, Access::Read) else { return };
    let Ok(found) = unoffered(s, &tenant, &table.fetch_at_most(0)) else { return };
    for (name, (count, since)) in found {
        let many = if count > COUNTED {
            format!("more than {COUNTED} tasks wait")
        } else if count == 1 {
            "1 task waits".into()
        } else {
            format!("{count} tasks wait")
        };
        rows.push(problem(
            format!("handler {name} of tenant {}", tenant.name),
            Some(since),
            format!("{many}, no worker offers {name}"),
            crate::pure::fix::by_hand(&how_to_offer(&name)),
        ));
    }
}

/// Due tasks of handlers that nobody offers: how many, and since when the first is due.
fn unoffered(s: &Shared, tenant: &Tenant, table: &Table<Tasks>) -> Result<BTreeMap<String, (usize, At)>, Failure> {
    let now = clock::now();
    let mut found: BTreeMap<String, (usize, At)> = BTreeMap::new();
    for (run, row) in runs::first_rows(table, ids::RUNS) {
        let Some(handler) = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?.filter(|handler| handler.is_external()) else {
            continue;
        };
        if !offering(s, tenant, &handler).is_empty() || tenant.part_paused_until(&handler.name, row.get(Tasks::QUEUE), now).is_some() {
            continue;
        }
        let (count, since) = due(table, run, now);
        if count > 0 && is_long_ago(since) {
            let of = found.entry(handler.name.clone()).or_insert((0, At::NEVER));
            *of = (of.0 + count, of.1.min(since));
        }
    }
    Ok(found)
}

/// Due rows of one run, and when the first came due.
fn due(table: &Table<Tasks>, run: Id, now: At) -> (usize, At) {
    let is_its = [Tasks::WAITS_FOR.equals(run)];
    let times = table.scan(&Tasks::WAITING, &is_its).filter_map(|row| row.get(Tasks::RUN_AT)).filter(|at| *at <= now);
    times.take(COUNTED + 1).fold((0, At::NEVER), |(count, first), at| (count + 1, first.min(at)))
}
