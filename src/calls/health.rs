//! SQL: whether the engine and what it stands on are as they should be: tq_health.
//!
//! Each check says what it found, and where that is wrong what comes of it and what to do.

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

/// Rows of tq_health.
#[derive(Default)]
struct Checks(Vec<Json>);

/// tq_health(): checks, from what all the others need to what is rarely wrong.
fn health(_args: &Args) -> Result<Ret> {
    let mut checks = Checks::default();
    let shared = shared::get();
    checks.installation(shared.is_some());
    if let Some(s) = &shared {
        let launcher = s.header.launcher_pid.load();
        let alive = launcher > 0 && worker::is_alive(launcher);
        checks.launcher(launcher, alive);
        checks.database(s);
        checks.disk();
        checks.worker_slots(s);
        checks.wakes(s, alive);
        checks.roles(s);
        checks.shared_memory(s);
        checks.sweep(s);
    }
    Ok(Ret::Json(checks.0.into()))
}

impl Checks {
    /// `detail` and `hint` are told where it is not as it should be.
    fn check(&mut self, name: &str, ok: bool, value: String, detail: &str, hint: &str) {
        let (detail, hint) = if ok { (None, None) } else { (Some(detail), Some(hint)) };
        self.0.push(json!({ "check_name": name, "ok": ok, "value": value, "detail": detail, "hint": hint }));
    }

    /// The library, the extension's objects and the switch.
    fn installation(&mut self, preloaded: bool) {
        self.check(
            "preloaded",
            preloaded,
            preloaded.to_string(),
            "tenant_q is not in shared_preload_libraries: tasks are stored, nothing runs.",
            "Add tenant_q to shared_preload_libraries and restart the server.",
        );
        let version = catalog::extension_version().unwrap_or_default();
        self.check(
            "version",
            version == env!("CARGO_PKG_VERSION"),
            format!("extension {version}, library {}", env!("CARGO_PKG_VERSION")),
            "The extension's objects and the library are of different versions: nothing runs.",
            "ALTER EXTENSION tenant_q UPDATE; and restart the server if it still runs the older library.",
        );
        self.check(
            "enabled",
            settings::enabled(),
            settings::enabled().to_string(),
            "tenant_q.enabled is off: no task is started and no schedule fires.",
            "ALTER SYSTEM SET tenant_q.enabled = on; SELECT pg_reload_conf();",
        );
    }

    /// Whoever starts all the others.
    fn launcher(&mut self, launcher: u32, alive: bool) {
        self.check(
            "launcher",
            alive || shmem::in_recovery(),
            launcher.to_string(),
            "There is no launcher: nothing is started.",
            "It is restarted within seconds; otherwise see the server's log.",
        );
    }

    /// Whether this database is served, and by a scheduler that starts.
    fn database(&mut self, s: &Shared) {
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
        self.check("database", text == "served", text.into(), detail, hint);
        if let Some(db) = s.db(shmem::my_database()) {
            let (pid, failures) = (db.scheduler_pid.load(), db.start_failures.load());
            self.check(
                "scheduler",
                failures == 0,
                if pid > 0 { pid.to_string() } else { "none is needed now".into() },
                &format!("The database's scheduler could not start or died, {failures} times in a row: no schedule fires."),
                "It is tried again with growing pauses; the server's log says why.",
            );
        }
    }

    /// Room for tables and WAL.
    fn disk(&mut self) {
        if rights::sees_all()
            && let Some((free, size)) = shmem::disk_of_data()
        {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            self.check(
                "disk",
                free >= size / 20,
                format!("{:.1} of {:.1} GiB free", gib(free), gib(size)),
                "The file system of the data directory is nearly full: without room nothing can be enqueued or ended.",
                "Make room; tq_purge removes results, and retention is set by tq_set_tenant.",
            );
        }
    }

    /// Room for processes.
    fn worker_slots(&mut self, s: &Shared) {
        let max = settings::max_executors(shmem::max_worker_processes());
        let needed = settings::slots_needed(shmem::max_worker_processes());
        self.check(
            "worker_slots",
            !no_slot(s) && needed <= shmem::max_worker_processes(),
            format!(
                "{} of {max} executors, max_worker_processes {}",
                s.slots.iter().filter(|x| x.state.load() != SlotState::Free).count(),
                shmem::max_worker_processes()
            ),
            "Background worker slots are short: one launcher, one scheduler a database and the executors share them with parallel query and logical replication.",
            &format!("Set max_worker_processes to {} or more (restart).", needed + 8),
        );
    }

    /// Processes that wake in vain: a fault of ours.
    fn wakes(&mut self, s: &Shared, launcher_is_alive: bool) {
        let launcher = [("launcher", s.launcher_wakes())].into_iter().filter(|_| launcher_is_alive);
        let schedulers = s.dbs.iter().filter(|db| db.scheduler_pid.load() > 0).map(|db| ("a scheduler", s.scheduler_wakes(db)));
        let live = s.slots.iter().enumerate().filter(|(_, slot)| slot.state.load() == SlotState::Working);
        let executors = live.map(|(place, _)| ("an executor", s.executor_wakes(place)));
        let in_vain: Vec<String> = (launcher.chain(schedulers).chain(executors))
            .map(|(who, of)| (who, vain_reasons(of)))
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(who, reasons)| format!("{who}: {}", reasons.join(", ")))
            .collect();
        self.check(
            "wakes",
            in_vain.is_empty(),
            if in_vain.is_empty() { "none in vain again and again".into() } else { in_vain.join("; ") },
            "Processes wake up for these reasons again and again, and nothing comes of it: a fault of tenant_q's. They do so less and less often, so it costs little; what they wake for is late.",
            "SELECT kind, pid, wakes, vain FROM tq_workers; please report it.",
        );
    }

    /// Roles whose executors don't start, or wait for a place.
    fn roles(&mut self, s: &Shared) {
        let failing = s.roles.iter().filter(|r| r.in_use.load() == 1 && r.start_failures.load() > 0).count();
        self.check(
            "roles",
            failing == 0,
            format!("{failing} failing"),
            "Executors of some roles could not start.",
            "SELECT * FROM tq_problems;",
        );
        let waiting = s.header.waiting_roles.load();
        self.check(
            "places",
            waiting == 0,
            format!("{waiting} roles waiting"),
            "More roles have work than there are executors: they take turns.",
            "Raise tenant_q.max_executors if that is usual.",
        );
    }

    /// Tables that were full.
    fn shared_memory(&mut self, s: &Shared) {
        let entries = s.entries.iter().filter(|e| e.in_use.load() == 1).count();
        let evictions = s.header.evictions.load();
        let tables: Vec<_> = problems::full(s).map(|(kind, _)| kind).collect();
        let names = tables.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        self.check(
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
    }

    /// The look at all tenants.
    fn sweep(&mut self, s: &Shared) {
        if let Some(db) = s.db(shmem::my_database()) {
            let swept = db.swept_at.load();
            self.check(
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
}

sql_functions! {
    tenant_q_health, pg_finfo_tenant_q_health => health;
}
