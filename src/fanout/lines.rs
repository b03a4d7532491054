use crate::postgres::caught::{Failure, Own};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{call, catalog, clock, sandbox, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{FanoutCause, FanoutKind, FanoutState};
use crate::pure::time::At;
use crate::task::options::Options;
use crate::tenant::columns::{FanoutTenants, Fanouts, Tasks};
use crate::tenant::{Tenant, records};
use pgrx::Spi;
use pgrx::datum::DatumWithOid;
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

/// Tenants of one transaction: each takes about fifteen locks.
pub const TENANTS: usize = 50;

/// Times that a row which others keep changing is read again.
const TRIES: usize = 20;

/// The fan-out of those that are to be visited: what all tenants have is to reach them.
pub const VISIT: Id = Id::NIL;

/// After so long the other tenants that are to be visited are left to the next transaction.
pub const STEP: Duration = Duration::from_millis(100);

/// Longest reason that is kept, in bytes.
const REASON: usize = 1000;

thread_local! {
    /// Names that have got a line more than they had: the oldest ones may go. By the spreader, for a tick
    /// waits for nobody.
    pub static TO_PRUNE: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

pub fn prune_later(name: &str) {
    TO_PRUNE.with_borrow_mut(|names| names.insert(name.to_string()));
}

pub fn spi(e: pgrx::spi::Error) -> Error {
    Error::new(SqlState::INTERNAL_ERROR, e.to_string())
}

/// Why work for all tenants leaves tenant `t` out, or NULL; $2 = the setting exclude_schemas.
pub const LEFT_OUT: &str = "CASE WHEN t.name OPERATOR(pg_catalog.=) ANY ($2) THEN 'the schema is one of tenant_q.exclude_schemas'
    WHEN NOT t.fan_out THEN 'fan_out is off'
    WHEN NOT t.ready THEN 'not ready'
    WHEN t.suspended IS NOT NULL THEN pg_catalog.concat('suspended: ', t.suspended)
    WHEN EXISTS (SELECT FROM tenant_q.pause p WHERE p.tenant OPERATOR(pg_catalog.=) ANY (ARRAY['', t.name]) AND p.queue OPERATOR(pg_catalog.=) ''
                    AND p.handler OPERATOR(pg_catalog.=) '' AND p.until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) THEN 'paused' END";

/// What one turn of spreading did.
pub enum Step {
    /// Tenants reached.
    Served(usize),
    /// What is left can't be done before.
    Later(At),
    Nothing,
}

/// Somebody changed what was to be written.
pub fn lost() -> Failure {
    Failure::ours(Own::Changed, SqlState::SERIALIZATION_FAILURE, "the fan-out was changed meanwhile")
}

/// Why a tenant was left out: for people in words, for what is done about it as a cause.
pub struct Skipped {
    pub cause: Option<FanoutCause>,
    pub reason: String,
}

impl From<String> for Skipped {
    fn from(reason: String) -> Skipped {
        Skipped { cause: None, reason }
    }
}

/// What became of it in this tenant, for the first time or anew.
pub fn note(outcomes: &Table<FanoutTenants>, fanout: Id, tenant: &str, state: FanoutState, task: Option<Id>, skipped: Option<&Skipped>) {
    let reason = skipped.map(|s| cut(&s.reason));
    let cause = skipped.and_then(|s| s.cause);
    match outcome(outcomes, fanout, tenant) {
        Some(row) => {
            let changes = [
                FanoutTenants::STATE.to(state),
                FanoutTenants::TASK.to(task),
                FanoutTenants::REASON.to(reason.as_deref()),
                FanoutTenants::FINISHED_AT.null(),
                FanoutTenants::CAUSE.to(cause),
            ];
            // Lost: its retention was faster.
            let _: Write = outcomes.update(&row, &changes);
        }
        None => outcomes.insert(&[
            FanoutTenants::FANOUT.to(fanout),
            FanoutTenants::TENANT.to(tenant),
            FanoutTenants::STATE.to(state),
            FanoutTenants::TASK.to(task),
            FanoutTenants::REASON.to(reason.as_deref()),
            FanoutTenants::CAUSE.to(cause),
        ]),
    }
}

fn cut(text: &str) -> String {
    let clean = text.replace('\0', "");
    clean[..clean.floor_char_boundary(REASON)].to_string()
}

pub fn outcome(outcomes: &Table<FanoutTenants>, fanout: Id, tenant: &str) -> Option<Row<FanoutTenants>> {
    let keys = [FanoutTenants::FANOUT.equals(fanout), FanoutTenants::TENANT.equals(tenant)];
    outcomes.scan(&FanoutTenants::BY_FANOUT, &keys).next()
}

/// What a visit has come to.
pub enum Adopted {
    Whole,
    /// As far as this place.
    Part(String),
    /// Somebody holds its tables.
    Locked,
}

pub enum Served {
    Enqueued(Id),
    /// Its schedule is as the definition says.
    Defined,
    Skipped(Skipped),
    /// Somebody holds its tables.
    Locked,
}

/// Why a tenant has no task of a fan-out: it has one of the same unique_key, which tells others how it ends.
pub const TAKEN: &str = "unique_key is taken by another task";

/// Whether the task that a unique_key has led to belongs to this fan-out: it has taken another one's place.
pub fn is_of(tasks: &Table<Tasks>, id: Id, fanout: Option<Id>) -> bool {
    transaction::see_own_writes();
    tasks.find(Tasks::ID.equals(id)).is_some_and(|row| Options::of(&row).fanout == fanout)
}

/// All have been reached: names that are nobody's are said, and old ones go.
pub fn finish(fanouts: &Table<Fanouts>, row: &Row<Fanouts>) -> std::result::Result<Step, Failure> {
    let id = call::uuid(row.get(Fanouts::ID).unwrap_or_default());
    let name = row.get(Fanouts::NAME).unwrap_or("");
    if row.letter(Fanouts::KIND) == FanoutKind::Definition && !crate::schedules::of_all::is_defined(name)? {
        // Removed everywhere: nothing is left to tell of it.
        run("DELETE FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1", &[id.into()])?;
        return if fanouts.delete(row) == Write::Done { Ok(Step::Served(0)) } else { Err(lost()) };
    }
    if fanouts.update(row, &[Fanouts::SERVED_TO.null(), Fanouts::SPREAD_AGAIN.null()]) == Write::Overtaken {
        return Err(lost());
    }
    run(
        "INSERT INTO tenant_q.fanout_tenant (fanout, tenant, state, reason)
         SELECT DISTINCT $1, n, 's'::pg_catalog.\"char\", 'there is no such tenant any more' FROM pg_catalog.unnest($2) n
          WHERE NOT EXISTS (SELECT FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND o.tenant OPERATOR(pg_catalog.=) n)",
        &[id.into(), row.get(Fanouts::TENANTS).into()],
    )?;
    prune_later(name);
    Ok(Step::Served(0))
}

pub fn run(sql: &str, args: &[DatumWithOid]) -> Result<()> {
    records::run(sql, args).map(|_| ())
}

/// A task has become final: says so where it belongs to a fan-out. In the transaction that ends it.
pub fn ended(tenant: &Tenant, row: &Row<Tasks>, state: FanoutState, why: Option<&str>) -> Result<()> {
    let (Some(fanout), Some(id)) = (Options::of(row).fanout, row.get(Tasks::ID)) else { return Ok(()) };
    report(tenant, fanout, id, state, why, true)
}

/// A finished task is to run again.
pub fn reopened(tenant: &Tenant, id: Id, options: &Options) -> Result<()> {
    match options.fanout {
        Some(fanout) => report(tenant, fanout, id, FanoutState::Enqueued, None, false),
        None => Ok(()),
    }
}

fn report(tenant: &Tenant, fanout: Id, id: Id, state: FanoutState, why: Option<&str>, over: bool) -> Result<()> {
    let outcomes = records::open("fanout_tenant", Access::Write)?;
    let reason = why.map(cut);
    for _ in 0..TRIES {
        // The name as it is now: the batch may have begun before it was changed.
        let name = catalog::schema_name(tenant.oid).unwrap_or_else(|| tenant.name.clone());
        let Some(row) = transaction::with_latest_snapshot(|| outcome(&outcomes, fanout, &name)) else { return Ok(()) };
        // What a tenant writes into its own rows is nothing but its own: the task must be the one of this very tenant.
        if row.get(FanoutTenants::TASK) != Some(id) {
            return Ok(());
        }
        let changes = [
            FanoutTenants::STATE.to(state),
            FanoutTenants::REASON.to(reason.as_deref()),
            FanoutTenants::FINISHED_AT.to(over.then(clock::now)),
        ];
        // Lost: it was pruned, or is another tenant's name by now.
        if outcomes.update(&row, &changes) == Write::Done {
            return Ok(());
        }
    }
    Err(Error::new(SqlState::SERIALIZATION_FAILURE, "what became of a task of all tenants is being changed by others"))
}

pub fn document(sql: &str, args: &[DatumWithOid]) -> Result<Option<Json>> {
    sandbox::as_extension(|| {
        Spi::connect(|c| match c.select(sql, Some(1), args)?.next() {
            Some(row) => Ok(row.get::<pgrx::JsonB>(1)?.map(|j| j.0)),
            None => Ok(None),
        })
    })
    .map_err(spi)
}
