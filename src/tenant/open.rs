//! Opening a tenant's tables.
//!
//! They are its owner's, who may alter them at any time, so nothing is read from one or written into it before it was
//! looked at since its last change (shape.rs); and somebody may lock them for as long as they like, so who serves many
//! tenants doesn't wait (`try_open`), and who has been asked by a person doesn't wait long (`open_to_look`).

use super::{Tenant, gauge, remembered, shape};
use crate::postgres::column::{Any, Relation, TableId};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Locked, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{latch, sandbox, shmem, timeout};
use crate::pure::fix;
use pgrx::{Spi, pg_sys};
use std::time::{Duration, Instant};

impl Tenant {
    /// Opens one of its tables, after its shape was found right.
    pub fn open<R: Relation>(&self, id: TableId<R>, access: Access) -> Result<Table<R>> {
        let table = Table::open_any(id.oid(), access).ok_or_else(|| self.gone())?;
        self.check_shape(&table, |other| Ok(Some(Table::open_any(other, Access::Read).ok_or_else(|| self.gone())?)))?;
        Ok(self.counted(table.of()?))
    }
    /// Rows of unfinished tasks are counted by whoever writes them.
    fn counted<R: Relation>(&self, table: Table<R>) -> Table<R> {
        if table.oid() == self.task.oid() { table.tallied(gauge::tally(self)) } else { table }
    }
    /// The same for whoever looks at the tenant from outside of its work: a lock that is held for long isn't waited for, unless
    /// lock_timeout says how long it is to be.
    pub fn open_to_look<R: Relation>(&self, id: TableId<R>) -> Result<Table<R>> {
        const STEP: Duration = Duration::from_millis(20);
        const PATIENCE: Duration = Duration::from_secs(1);
        let patience = timeout::lock_timeout().unwrap_or(PATIENCE);
        let begun = Instant::now();
        loop {
            if let Some(table) = self.try_open(id, Access::Read)? {
                return Ok(table);
            }
            if begun.elapsed() >= patience {
                break;
            }
            latch::wait(Some(STEP));
            pgrx::check_for_interrupts!();
        }
        let (detail, hint) = self.who_locks();
        Err(Error::new(SqlState::LOCK_NOT_AVAILABLE, format!("the tables of tenant \"{}\" are locked", self.name))
            .detail(format!("{detail}."))
            .hint(hint.trim_start_matches("-- ")))
    }
    /// Who holds a lock on its tables that keeps everybody out, and how it ends.
    pub fn who_locks(&self) -> (String, String) {
        // A prepared transaction has no process, and a lock on its own transaction like any other.
        let sql = "SELECT l.pid, p.gid FROM pg_catalog.pg_locks l
                     LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype OPERATOR(pg_catalog.=) 'transactionid'
                       AND x.virtualtransaction OPERATOR(pg_catalog.=) l.virtualtransaction
                     LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction OPERATOR(pg_catalog.=) x.transactionid
                    WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock'
                      AND l.database OPERATOR(pg_catalog.=) $1 AND l.relation OPERATOR(pg_catalog.=) ANY ($2) ORDER BY l.pid, p.gid LIMIT 1";
        let relations: Vec<pg_sys::Oid> = self.tables().into_iter().map(pg_sys::Oid::from).collect();
        let found = sandbox::as_extension(|| {
            Spi::connect(|c| {
                let mut rows = c.select(sql, Some(1), &[pg_sys::Oid::from(shmem::my_database()).into(), relations.into()])?;
                rows.next().map(|row| Ok((row.get::<i32>(1)?, row.get::<String>(2)?))).transpose()
            })
        });
        match found {
            Ok::<_, pgrx::spi::Error>(Some((Some(pid), _))) => (
                format!("Process {pid} holds a lock on them"),
                fix::noted(&format!("SELECT pg_terminate_backend({pid})"), "or wait until its transaction ends"),
            ),
            Ok(Some((None, Some(gid)))) => (
                "A prepared transaction holds a lock on them".into(),
                fix::noted(&format!("ROLLBACK PREPARED {}", pgrx::spi::quote_literal(gid)), "or COMMIT PREPARED"),
            ),
            _ => ("Somebody holds a lock on them, or waits for one".into(), fix::by_hand("it goes on when that transaction ends")),
        }
    }
    /// The same without waiting for a lock: `Ok(None)` = somebody has it.
    pub fn try_open<R: Relation>(&self, id: TableId<R>, access: Access) -> Result<Option<Table<R>>> {
        match Table::try_open_any(id.oid(), access) {
            Err(Locked) => Ok(None),
            Ok(None) => Err(self.gone()),
            Ok(Some(table)) => {
                let other = |other| Table::try_open_any(other, Access::Read).map_or(Ok(None), |t| t.map(Some).ok_or_else(|| self.gone()));
                Ok(if self.check_shape(&table, other)? { Some(self.counted(table.of()?)) } else { None })
            }
        }
    }
    /// OIDs of its tables.
    pub fn tables(&self) -> [u32; 3] {
        [self.task.oid(), self.result.oid(), self.schedule.oid()]
    }
    fn gone(&self) -> Error {
        Error::new(SqlState::UNDEFINED_TABLE, format!("a table of tenant \"{}\" is gone", self.name))
    }
    /// From here on changes of its tables are noted.
    pub(super) fn watch(&self) {
        remembered::know_tables(self.oid, self.tables());
    }
    /// False: one of the others, as `open` opens them, is locked.
    fn check_shape(&self, table: &Table<Any>, open: impl Fn(u32) -> Result<Option<Table<Any>>>) -> Result<bool> {
        // Before the look: what changes meanwhile belongs to the next one.
        let epoch = remembered::shape_epoch(self.oid);
        if self.shape_checked.get() == Some(epoch) && !remembered::is_stale() {
            return Ok(true);
        }
        // Whoever holds on to a tenant across a change of the epoch is heard of no more.
        self.watch();
        shape::check(self, table)?;
        if table.oid() == self.task.oid() {
            // The other two are checked when they are opened: a flag per table would be no gain,
            // so the flag is set only after all three.
            for other in [self.result.oid(), self.schedule.oid()] {
                let Some(other) = open(other)? else { return Ok(false) };
                shape::check(self, &other)?;
            }
            self.shape_checked.set(Some(epoch));
        }
        Ok(true)
    }
}
