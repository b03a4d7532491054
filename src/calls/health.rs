//! SQL: whether the engine and what it stands on are as they should be: tq_health.

use crate::calls::problems;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::{catalog, clock, shmem, worker};
use crate::pure::time::{At, Span};
use crate::pure::word::SlotState;
use crate::shared::database::db_state;
use crate::shared::wakes::{self, Wakes};
use crate::shared::{self, Shared};
use crate::task::document::time_json;
use crate::tenant::rights;
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};

/// The reasons for which a process wakes in vain again and again, through a fault of ours.
fn vain_reasons(of: &Wakes) -> Vec<&'static str> {
    let fault = |r: &&wakes::Reason| r.is_fault() && of.in_a_row[**r as usize].load() >= wakes::FAULT;
    wakes::ALL.iter().filter(fault).map(|r| r.name()).collect()
}

/// Whether starts fail for want of a background worker slot: they are tried once a second, so the last one was lately.
pub fn no_slot(s: &Shared) -> bool {
    let last = s.header.last_no_slot.load();
    last != At::UNSET && (clock::now() - last).abs() < Span::of_secs(10)
}

/// tq_health(): checks.
fn health(_args: &Args) -> Result<Ret> {
    let mut rows = Vec::new();
    let mut check = |name: &str, ok: bool, value: String, detail: &str, hint: &str| {
        rows.push(json!({ "check_name": name, "ok": ok, "value": value, "detail": if ok { Json::Null } else { detail.into() }, "hint": if ok { Json::Null } else { hint.into() } }));
    };
    let s = shared::get();
    check(
        "preloaded",
        s.is_some(),
        s.is_some().to_string(),
        "tenant_q is not in shared_preload_libraries: tasks are stored, nothing runs.",
        "Add tenant_q to shared_preload_libraries and restart the server.",
    );
    let version = catalog::extension_version().unwrap_or_default();
    check(
        "version",
        version == env!("CARGO_PKG_VERSION"),
        format!("extension {version}, library {}", env!("CARGO_PKG_VERSION")),
        "The extension's objects and the library are of different versions: nothing runs.",
        "ALTER EXTENSION tenant_q UPDATE; and restart the server if it still runs the older library.",
    );
    check(
        "enabled",
        settings::enabled(),
        settings::enabled().to_string(),
        "tenant_q.enabled is off: no task is started and no schedule fires.",
        "ALTER SYSTEM SET tenant_q.enabled = on; SELECT pg_reload_conf();",
    );
    if let Some(s) = s {
        let launcher = s.header.launcher_pid.load();
        let alive = launcher > 0 && worker::is_alive(launcher);
        check(
            "launcher",
            alive || shmem::in_recovery(),
            launcher.to_string(),
            "There is no launcher: nothing is started.",
            "It is restarted within seconds; otherwise see the server's log.",
        );
        let state = s.db(shmem::my_database()).map(|d| d.state.load());
        let (text, detail, hint) = match state {
            Some(db_state::SERVED) => ("served", "", ""),
            Some(db_state::COPY) => {
                ("copy", "This database is a copy that nobody has confirmed: nothing runs.", "SELECT tq_confirm_copy();")
            }
            Some(db_state::SKEWED) => ("version", "Extension and library differ in version.", "ALTER EXTENSION tenant_q UPDATE;"),
            Some(db_state::UNKNOWN) => {
                ("being looked into", "The scheduler has not looked into this database yet.", "It does within seconds.")
            }
            _ => ("not served", "This database is not one of those served.", "See tenant_q.databases and tenant_q.exclude_databases."),
        };
        check("database", text == "served", text.into(), detail, hint);
        if let Some(db) = s.db(shmem::my_database()) {
            let (pid, failures) = (db.scheduler_pid.load(), db.start_failures.load());
            check(
                "scheduler",
                failures == 0,
                if pid > 0 { pid.to_string() } else { "none is needed now".into() },
                &format!("The database's scheduler could not start or died, {failures} times in a row: no schedule fires."),
                "It is tried again with growing pauses; the server's log says why.",
            );
        }
        if rights::sees_all()
            && let Some((free, size)) = shmem::disk_of_data()
        {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            check(
                "disk",
                free >= size / 20,
                format!("{:.1} of {:.1} GiB free", gib(free), gib(size)),
                "The file system of the data directory is nearly full: without room nothing can be enqueued or ended.",
                "Make room; tq_purge removes results, and retention is set by tq_set_tenant.",
            );
        }
        let max = settings::max_executors(shmem::max_worker_processes());
        let needed = settings::slots_needed(shmem::max_worker_processes());
        check(
            "worker_slots",
            !no_slot(&s) && needed <= shmem::max_worker_processes(),
            format!(
                "{} of {max} executors, max_worker_processes {}",
                s.slots.iter().filter(|x| x.state.load() != SlotState::Free).count(),
                shmem::max_worker_processes()
            ),
            "Background worker slots are short: one launcher, one scheduler a database and the executors share them with parallel query and logical replication.",
            &format!("Set max_worker_processes to {} or more (restart).", needed + 8),
        );
        let launcher = [("launcher", s.launcher_wakes())].into_iter().filter(|_| alive);
        let schedulers = s.dbs.iter().filter(|db| db.scheduler_pid.load() > 0).map(|db| ("a scheduler", s.scheduler_wakes(db)));
        let live = s.slots.iter().enumerate().filter(|(_, slot)| slot.state.load() == SlotState::Working);
        let executors = live.map(|(place, _)| ("an executor", s.executor_wakes(place)));
        let in_vain: Vec<String> = (launcher.chain(schedulers).chain(executors))
            .map(|(who, of)| (who, vain_reasons(of)))
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(who, reasons)| format!("{who}: {}", reasons.join(", ")))
            .collect();
        check(
            "wakes",
            in_vain.is_empty(),
            if in_vain.is_empty() { "none in vain again and again".into() } else { in_vain.join("; ") },
            "Processes wake up for these reasons again and again, and nothing comes of it: a fault of tenant_q's. They do so less and less often, so it costs little; what they wake for is late.",
            "SELECT kind, pid, wakes, vain FROM tq_workers; please report it.",
        );
        let failing = s.roles.iter().filter(|r| r.in_use.load() == 1 && r.start_failures.load() > 0).count();
        check(
            "roles",
            failing == 0,
            format!("{failing} failing"),
            "Executors of some roles could not start.",
            "SELECT * FROM tq_problems;",
        );
        let waiting = s.header.waiting_roles.load();
        check(
            "places",
            waiting == 0,
            format!("{waiting} roles waiting"),
            "More roles have work than there are executors: they take turns.",
            "Raise tenant_q.max_executors if that is usual.",
        );
        let entries = s.entries.iter().filter(|e| e.in_use.load() == 1).count();
        let evictions = s.header.evictions.load();
        let tables: Vec<_> = problems::full(&s).map(|(kind, _)| kind).collect();
        let names = tables.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        check(
            "shared_memory",
            evictions == 0 && tables.is_empty(),
            format!("{entries} of {} entries", settings::max_tenants()),
            &if tables.is_empty() {
                "Entries had to be evicted; idle tenants are found again by sweeps.".to_string()
            } else {
                format!("Tables were full within the last hour: {names}. SELECT * FROM tq_problems says what comes of it.")
            },
            &tables.first().map_or("Raise tenant_q.max_tenants (restart).".to_string(), |kind| format!("{};", kind.remedy())),
        );
        if let Some(db) = s.db(shmem::my_database()) {
            let swept = db.swept_at.load();
            check(
                "sweep",
                swept > At::UNSET || db.state.load() != db_state::SERVED,
                if db.sweep_wanted.load() == 1 {
                    format!("at tenant {}", db.swept_tenants.load())
                } else {
                    time_json((swept > At::UNSET).then_some(swept)).as_str().unwrap_or("never").to_string()
                },
                "The first look at all tenants since the start is not over yet.",
                "It goes on; what is enqueued meanwhile runs.",
            );
        }
    }
    Ok(Ret::Json(rows.into()))
}

sql_functions! {
    tenant_q_health, pg_finfo_tenant_q_health => health;
}
