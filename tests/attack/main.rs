//! Attacks and outages, written as the attacker or the operator would: each broke a promise once. One module a kind of
//! hold that somebody gets; what must hold all the same is said by each test's name.

/// What one attempt does to the executor that runs it.
mod attempts;
/// Code that a tenant attaches to what others do.
mod code;
/// Conditions and deferred work: whose operators, at whose COMMIT.
mod conditions;
/// Statements about databases, refused, cancelled or prepared.
mod databases;
/// Gauges and quotas, whatever transactions do.
mod gauges;
/// Code on a tenant's tables, held locks, roles that cannot work.
mod hostile;
/// Memory: what grows, and what happens when there is none.
mod memory;
/// Places, slots and workers: who holds them, who wakes in vain.
mod processes;
/// Rights that were taken away, quotas that were passed by.
mod rights;
/// Shapes of a tenant's tables: what is refused and what is not.
mod shapes;
/// Locks, keys and fixed tables that all tenants share.
mod shared;

/// Workers outside of the server: what they hold, and what lies in the tables that they take from.
mod workers;

use cluster::site;
