//! Commands about whole databases, the extension and prepared transactions, noticed as they are given: workers leave
//! a database that is dropped, renamed, moved or copied, and look again where the extension came or went. PostgreSQL
//! itself only ever terminates autovacuum for these.
//!
//! Nobody is sent away for a command that PostgreSQL refuses: of DROP DATABASE we hear after its own check
//! (postgres/access_hook.rs), for the others we ask first what it will ask. They keep away as long as the command's transaction
//! lasts; with its end, whichever it is, they are let in again.

use crate::calls::tables::orphans;
use crate::postgres::error::Error;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::utility::{self, Command};
use crate::postgres::{access_hook, call, catalog, database, latch, sandbox, transaction, worker};
use crate::pure::word::SlotState;
use crate::shared::away::{self, Away};
use crate::shared::{self, Shared, prepared, slot, wake};
use pgrx::PgLogLevel;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// PostgreSQL waits five seconds for other sessions to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(4);

/// Hooks in; while preloading.
pub fn register() {
    utility::hook(before, after);
    access_hook::on_drop_database(|oid| meant(Some(oid), database::may_go));
}

fn before(command: &Command, is_top_level: bool) {
    let alone = || !transaction::is_in_block(is_top_level);
    match command {
        Command::Rename { database: name, to } if transaction::is_writable() => {
            meant(catalog::database_oid(name), |oid| database::may_rename(oid, to));
        }
        Command::Move { database: name, tablespace } if transaction::is_writable() && alone() => {
            meant(catalog::database_oid(name), |oid| database::may_move(oid, tablespace));
        }
        Command::Copy { template, name } if transaction::is_writable() && alone() => {
            meant(catalog::database_oid(template), |oid| database::may_copy(oid, name));
        }
        Command::DropExtension => say_what_stays(),
        Command::Prepare(gid) => prepared::preparing(gid),
        Command::Finish { gid, commit } if alone() => prepared::finishing(gid, *commit),
        _ => {}
    }
}

/// Has the workers of a database leave, if the command is one that the caller may give.
fn meant(database: Option<u32>, may: impl FnOnce(u32) -> bool) {
    if let Some(oid) = database.filter(|oid| may(*oid)) {
        send_away(oid);
    }
}

fn after(command: &Command) {
    match command {
        Command::Drop | Command::Rename { .. } | Command::Move { .. } | Command::Copy { .. } => wake::databases_changed(),
        Command::Extension | Command::DropExtension => wake::probe_database(),
        Command::Prepare(_) => {}
        Command::Finish { .. } => wake::has_finished(),
        // Should it fail, nobody's schema has changed hands.
        Command::Reassign => {
            if shared::get().is_some()
                && let Err(error) = crate::calls::registered::reassigned()
            {
                call::report(error, PgLogLevel::ERROR);
            }
        }
    }
}

/// What is the tenants' own stays theirs.
fn say_what_stays() {
    if !sandbox::is_superuser(sandbox::current_user()) {
        return;
    }
    let (tenants, listened) = match orphans::left_behind() {
        Ok(left) => left,
        Err(error) => return call::report(error, PgLogLevel::WARNING),
    };
    let mut stays = Vec::new();
    if tenants > 0 {
        stays.push(format!("schemas that are attached: {tenants}, with their tables tq_task, tq_result and tq_schedule"));
    }
    if listened > 0 {
        stays.push(format!("tables that are listened to: {listened}, with triggers and functions tq_listen_… that do nothing from now on"));
    }
    if stays.is_empty() {
        return;
    }
    Error::new(SqlState::SUCCESSFUL_COMPLETION, "what belongs to tenants stays when extension tenant_q goes")
        .detail(format!("{}.", stays.join("; ")))
        .hint("CREATE EXTENSION and tq_attach(…, adopt => true) take it up again. To be rid of it call tq_unlisten_table() and tq_detach(…, drop_data => true) before.")
        .notice();
}

/// The workers of the database leave, and keep away until the transaction is over.
fn send_away(database: u32) {
    let Some(s) = shared::get() else { return };
    if s.db(database).is_none() {
        return;
    }
    if let Some(away) = Away::begin(&s, database) {
        wake::left(away);
    }
    let begin = Instant::now();
    // Their places in our tables are free a moment before PostgreSQL has forgotten them.
    let mut leaving = HashSet::new();
    while begin.elapsed() < LEAVE_WITHIN {
        let there = workers_of(&s, database);
        leaving.extend(there.iter().copied().filter(|pid| *pid != 0));
        leaving.retain(|pid| worker::is_alive(*pid));
        if there.is_empty() && leaving.is_empty() {
            return;
        }
        // One that was just starting hears of it now.
        away::dismiss(&s, database);
        if let Some(db) = s.db(database) {
            worker::signal(db.scheduler_pid.load(), libc::SIGTERM);
        }
        latch::wait(Some(Duration::from_millis(10)));
    }
}

/// The processes of a database's workers; 0 = one that hasn't begun yet.
fn workers_of(s: &Shared, database: u32) -> Vec<u32> {
    let of = |slot: &&slot::Slot| slot.state.load() != SlotState::Free && slot.database.load() == database;
    let executors = s.slots.iter().filter(of).map(|slot| slot.pid.load());
    let scheduler = s.db(database).map(|db| db.scheduler_pid.load()).filter(|pid| *pid != 0);
    executors.chain(scheduler).collect()
}
