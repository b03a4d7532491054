//! Locks between the sessions of one tenant, until the end of the transaction: who enqueues the same id or
//! unique key, or defines the same schedule, as somebody else just now waits for them and finds what they made.
//!
//! A tenant may hold them for as long as it likes, in a prepared transaction even. So each is of one tenant only:
//! its key is a hash keyed by a secret of the database, over the tenant and what is locked. No other tenant's
//! lock is the same, and what pg_locks shows to everybody confirms no guess.

use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{invalidation, lock, shmem, worker};
use crate::pure::ids::Id;
use crate::tenant::{self, Tenant};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// What a lock is of; also its class.
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
enum Kind {
    TaskId = 7471,
    UniqueKey,
    ScheduleName,
    /// The order in which schedules of the tenant come after one another.
    After,
    /// One pick at a time of a tenant whose tasks have limits.
    Gates,
    /// What is registered, granted and set up in a schema.
    Declarations,
    /// Who listens to a table.
    Listeners,
    /// The end of a task that a worker has taken.
    Claim,
}

/// What a lock is known by.
fn key(tenant: u32, kind: Kind, what: &[u8]) -> Result<u64> {
    let mut hasher = SipHasher24::new_with_key(&tenant::secret()?);
    hasher.write_u32(tenant);
    hasher.write_u16(kind as u16);
    hasher.write(what);
    Ok(hasher.finish())
}

/// `tenant`: the schema that it is locked in; a table for what is locked of that.
fn take(tenant: u32, kind: Kind, what: &[u8]) -> Result<()> {
    let key = key(tenant, kind, what)?;
    // Whom the scheduler would wait for may hold up all tenants' schedules; it comes again.
    if lock::acquire(shmem::my_database(), kind as u16, key, !worker::is_scheduler()) {
        return Ok(());
    }
    Err(Error::new(SqlState::LOCK_NOT_AVAILABLE, "another transaction of the tenant is enqueuing or defining the same"))
}

/// Who enqueues the same id is waited for: the second then finds the first's task instead of failing.
pub fn task_id(tenant: &Tenant, id: Id) -> Result<()> {
    take(tenant.oid, Kind::TaskId, &id.bytes())
}

/// Who enqueues the same unique key is waited for.
pub fn unique_key(tenant: &Tenant, key: &str) -> Result<()> {
    take(tenant.oid, Kind::UniqueKey, key.as_bytes())
}

/// Who makes a schedule of the same name is waited for, so that one of them finds the other's.
pub fn schedule_name(tenant: &Tenant, name: &str) -> Result<()> {
    take(tenant.oid, Kind::ScheduleName, name.as_bytes())
}

/// Who changes an `after` in this tenant is waited for: two that each close half a circle must not miss each other.
pub fn after(tenant: &Tenant) -> Result<()> {
    take(tenant.oid, Kind::After, &[])
}

/// Who declares something else in this schema is waited for: one lock for all of it, so that no two who declare the same
/// things in another order wait for each other. 0: what is declared for all tenants. It brings in what the other has done.
pub fn declarations(schema: u32) -> Result<()> {
    take(schema, Kind::Declarations, &[])?;
    invalidation::accept();
    Ok(())
}

/// Who changes what listens to this table is waited for. It is its owner's lock, not that of the tenants which listen.
pub fn listeners(table: u32) -> Result<()> {
    take(table, Kind::Listeners, &[])?;
    invalidation::accept();
    Ok(())
}

/// Who is just ending the task of this claim is waited for.
pub fn claim(tenant: u32, id: Id) -> Result<()> {
    take(tenant, Kind::Claim, &id.bytes())
}

/// What `gates` has taken so often is given back before the transaction's end: what was picked is to be seen by others.
pub fn let_gates_go(tenant: u32, times: usize) -> Result<()> {
    let key = key(tenant, Kind::Gates, &[])?;
    for _ in 0..times {
        lock::release(shmem::my_database(), Kind::Gates as u16, key);
    }
    Ok(())
}

/// Picks of one tenant under different roles take turns: from here to the end of the transaction, when the own
/// slot is written.
pub fn gates(tenant: u32) -> Result<()> {
    take(tenant, Kind::Gates, &[])
}
