//! SQL: whether the engine and what it stands on are as they should be: tq_health.
//!
//! Each check says what it found, and where that is wrong what comes of it and what to do.

use crate::calls::problems;
use crate::calls::problems::reasons::{self, Because, paused};
use crate::calls::problems::workers;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::{catalog, session, shmem};
use crate::pure::fix;
use crate::pure::reason::{Reason, Told};
use crate::pure::server_version::ServerVersion;
use crate::pure::time::At;
use crate::pure::word::SlotState;
use crate::shared::database::db_state;
use crate::shared::entry::Entry;
use crate::shared::role::EXTERNAL;
use crate::shared::wakes::{self, Wakes};
use crate::shared::{self, Shared, blocked, prepared};
use crate::task::document::time_json;
use crate::tenant::pauses::Pause;
use crate::tenant::{self, rights};
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// The reasons for which a process wakes in vain again and again, through a fault of ours.
fn vain_reasons(of: &Wakes) -> Vec<&'static str> {
    let fault = |r: &&wakes::Reason| r.is_fault() && of.in_a_row[**r as usize].load() >= wakes::FAULT;
    wakes::ALL.iter().filter(fault).map(|r| r.name()).collect()
}

/// Rows of tq_health.
struct Checks {
    rows: Vec<Json>,
    /// What keeps everything.
    because: Vec<Because>,
}

/// tq_health(): checks, from what all the others need to what is rarely wrong.
fn health(_args: &Args) -> Result<Ret> {
    let pauses = reasons::pauses()?;
    let mut checks = Checks { rows: vec![], because: reasons::of_all(&pauses)? };
    let shared = shared::get();
    checks.installation(shared.is_some());
    checks.functions()?;
    if let Some(s) = &shared {
        checks.launcher(s.header.launcher_pid.load());
        checks.database(s);
        checks.pauses(s, &pauses)?;
        checks.disk();
        checks.worker_slots(s);
        checks.wakes(s);
        checks.roles(s);
        checks.workers(s);
        checks.claims(s);
        checks.shared_memory(s);
        checks.prepared(s)?;
        checks.sweep(s);
    }
    Ok(Ret::Json(checks.rows.into()))
}

/// As a sentence of its own; names of settings stay as they are.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with("tenant_q") => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        _ => format!("{text}."),
    }
}

impl Checks {
    /// `detail` and `hint` are told where it is not as it should be.
    fn check(&mut self, name: &str, ok: bool, value: String, detail: &str, hint: &str) {
        let (detail, hint) = if ok { (None, None) } else { (Some(detail), Some(hint)) };
        self.rows.push(json!({ "check_name": name, "ok": ok, "value": value, "detail": detail, "hint": hint }));
    }

    /// A check that the list of reasons decides: not ok where one of its reasons is there that something is to be done about.
    fn of_reasons(&mut self, name: &str, value: String) {
        // A database is served by a library of its version.
        let also = |reason| name == "database" && reason == Reason::Version;
        let is_its = |told: &Told| (told.check == Some(name) || also(told.reason)) && told.is_problem;
        let found: Vec<&Because> = self.because.iter().filter(|b| is_its(b.reason.told())).collect();
        let detail = found.iter().map(|b| sentence(&b.text)).collect::<Vec<_>>().join(" ");
        // What is noted behind a statement is behind its end as it stands.
        let hint = found.iter().find_map(|b| b.fix.clone()).map(|fix| if fix.contains("--") { fix } else { format!("{fix};") });
        let detail = (!found.is_empty()).then_some(detail);
        self.rows.push(json!({ "check_name": name, "ok": detail.is_none(), "value": value, "detail": detail, "hint": hint }));
    }

    /// The library, the extension's objects and the switch.
    fn installation(&mut self, preloaded: bool) {
        self.of_reasons("preloaded", preloaded.to_string());
        let version = catalog::extension_version().unwrap_or_default();
        self.of_reasons("version", format!("extension {version}, library {}", env!("CARGO_PKG_VERSION")));
        if let Some(server) = ServerVersion::of(&session::show(c"server_version_num")) {
            let complaint = server.complaint();
            let (detail, hint) = complaint.clone().unwrap_or_default();
            self.check("server_version", complaint.is_none(), server.text(), &detail, &hint);
        }
        self.of_reasons("enabled", settings::enabled().to_string());
    }

    /// Whether handlers find tq_current() and its kin without naming the schema.
    fn functions(&mut self) -> Result<()> {
        let Some(functions) = tenant::functions()? else { return Ok(()) };
        let name = catalog::quote(&functions.schema);
        let named = settings::shared_schemas().contains(&functions.schema);
        let ok = (named || functions.is_for_all) && functions.may_be_used;
        let (detail, hint) = match functions.may_be_used {
            false => (
                "Not everybody may use the schema of the extension's functions.".into(),
                format!("GRANT USAGE ON SCHEMA {name} TO PUBLIC;"),
            ),
            true => (
                format!(
                    "Others than its owner may create something in schema {name}, so it is not on the search_path of handlers: they find tq_current() and its kin only as {name}.tq_current()."
                ),
                format!("REVOKE CREATE ON SCHEMA {name} from whoever has it, or name it in tenant_q.shared_schemas."),
            ),
        };
        self.check("functions", ok, format!("in schema {name}"), &detail, &hint);
        Ok(())
    }

    /// Whoever starts all the others.
    fn launcher(&mut self, launcher: u32) {
        self.of_reasons("launcher", launcher.to_string());
    }

    /// Whether this database is served, and by a scheduler that starts.
    fn database(&mut self, s: &Shared) {
        let is = |reason| self.because.iter().any(|b| b.reason == reason);
        let state = match () {
            () if is(Reason::Standby) => "standby",
            () if is(Reason::Copy) => "copy",
            () if is(Reason::Version) => "version",
            () if is(Reason::Excluded) => "not served",
            () if is(Reason::NotServed) => "being looked into",
            () => "served",
        };
        // A standby is as it should be.
        self.of_reasons("database", state.into());
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

    /// Pauses that hold something up, and tenants with tasks that aren't ready.
    fn pauses(&mut self, s: &Shared, pauses: &[Pause]) -> Result<()> {
        const SHOWN: usize = 10;
        let of_all = self.because.iter().filter(|b| matches!(b.reason, Reason::PausedAll | Reason::PausedPart));
        let mut found: Vec<(String, String)> = of_all.map(|b| (b.text.clone(), b.fix.clone().unwrap_or_default())).collect();
        let (with_work, not_looked) = paused::with_work(pauses)?;
        found.extend(with_work.iter().map(|(pause, waits)| (format!("{}: {waits}", pause.text()), pause.resume())));
        found.extend(not_ready(s).map(|(name, tasks)| {
            let because = reasons::tenants::not_ready(&name);
            (format!("tenant \"{name}\" is not ready: {tasks} tasks wait"), because.fix.unwrap_or_default())
        }));
        let (count, shown) = (found.len(), found.iter().take(SHOWN));
        let (texts, calls): (Vec<String>, Vec<String>) = shown.map(|(text, fix)| (sentence(text), format!("{fix};"))).unzip();
        let rest = if count > SHOWN { " SELECT * FROM tq_problems has the others." } else { "" };
        let value = match not_looked {
            0 => format!("{count} that hold something up"),
            more => format!("{count} that hold something up; {more} were not looked into"),
        };
        self.check("pauses", count == 0, value, &format!("{}{rest}", texts.join(" ")), &calls.join(" "));
        Ok(())
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
            !reasons::no_slot(s) && needed <= shmem::max_worker_processes(),
            format!(
                "{} of {max} executors, max_worker_processes {}",
                s.slots.iter().filter(|x| x.state.load() != SlotState::Free).count(),
                shmem::max_worker_processes()
            ),
            "Background worker slots are short: one launcher, one scheduler a database and the executors share them with parallel query and logical replication.",
            &reasons::more_slots(),
        );
    }

    /// Processes that wake in vain: a fault of ours.
    fn wakes(&mut self, s: &Shared) {
        let launcher_is_alive = !self.because.iter().any(|b| b.reason == Reason::Launcher);
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

    /// Whether there are workers for tasks that wait for some.
    fn workers(&mut self, s: &Shared) {
        let takers = workers::takers(s).count();
        let mine = |entry: &&Entry| self.sees(entry.tenant.load());
        let waiting = workers::kept_waiting(s.entries).filter(mine).count();
        self.check(
            "workers",
            takers > 0 || waiting == 0,
            format!("{takers} outside of the server"),
            &format!(
                "Tasks of {waiting} {} wait for a worker outside of the server, and none is connected.",
                if waiting == 1 { "tenant" } else { "tenants" }
            ),
            "Start one; tq_problems says for which handlers.",
        );
    }

    /// Whether workers may take what waits for them.
    fn claims(&mut self, s: &Shared) {
        let taken = s.header.claims.load() as usize;
        let is_full = |role: &u32| s.may_be_too_many(taken) && s.claims_left(*role) == 0;
        let full: BTreeSet<u32> = workers::takers(s).map(|taker| taker.role.load()).filter(is_full).collect();
        let seen = full.iter().filter(|role| rights::sees(**role) || rights::sees_all());
        let names: Vec<String> = seen.filter_map(|role| catalog::role_name(*role)).collect();
        let waits = |e: &Entry| e.in_use.load() == 1 && e.role.load() == EXTERNAL && e.oldest_due.load() > At::UNSET;
        let waiting = s.entries.iter().any(|e| waits(e) && e.database.load() == shmem::my_database() && self.sees(e.tenant.load()));
        let most = s.claims.len();
        self.check(
            "claims",
            names.is_empty() || !waiting,
            format!("{taken} of {most} tasks taken by workers"),
            &format!(
                "Tasks wait, and workers of role {} have taken as many as they may: a role may have as many as are left for all others.",
                names.join(", ")
            ),
            &format!(
                "Let each take no more than it can do soon; or {};",
                fix::noted(&format!("ALTER SYSTEM SET tenant_q.max_claims = {}", (most * 2).min(100_000)), "then restart the server")
            ),
        );
    }

    /// Whether the caller may know what becomes of this schema's tasks.
    fn sees(&self, schema: u32) -> bool {
        rights::sees_all() || catalog::schema_owner(schema).is_some_and(rights::sees)
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
        let (waiting, lost) = (s.header.waiting_roles.load(), s.header.lost.load());
        let (detail, hint) = match lost {
            0 => ("More roles have work than there are executors: they take turns.", "Raise tenant_q.max_executors if that is usual."),
            _ => (
                "Executors that were told to end are in calls that heed no interrupt. Others have their places meanwhile.",
                "SELECT * FROM tq_problems;",
            ),
        };
        let unstoppable = if lost == 0 { String::new() } else { format!(", {lost} executors that can't be stopped") };
        self.check("places", waiting == 0 && lost == 0, format!("{waiting} roles waiting{unstoppable}"), detail, hint);
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

    /// Transactions that somebody has prepared: what they have noted is told when they are committed.
    fn prepared(&mut self, s: &Shared) -> Result<()> {
        let (all, unknown) = prepared::unknown(s)?;
        self.check(
            "prepared",
            unknown == 0,
            format!("{all} prepared transactions"),
            &format!(
                "Of {unknown} of them it isn't known for which tenants they have enqueued: they were prepared before the server was started, or by no statement. When one is committed all tenants of the database are looked at."
            ),
            "SELECT gid, prepared, owner FROM pg_prepared_xacts; COMMIT PREPARED or ROLLBACK PREPARED.",
        );
        Ok(())
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

/// Tenants that the caller may see, that aren't ready, and whose tasks executors have come upon: names, and how many wait.
fn not_ready(s: &Shared) -> impl Iterator<Item = (String, i64)> + use<> {
    let here = |e: &&Entry| e.in_use.load() == 1 && e.database.load() == shmem::my_database();
    let marked = |e: &&Entry| e.blocked_reason.load() == blocked::Reason::NotReady;
    let schemas: BTreeSet<u32> = s.entries.iter().filter(here).filter(marked).map(|e| e.tenant.load()).collect();
    let (s, all) = (*s, rights::sees_all());
    schemas.into_iter().filter(move |oid| all || catalog::schema_owner(*oid).is_some_and(rights::sees)).filter_map(move |oid| {
        let ready = tenant::by_oid(oid).is_ok_and(|t| t.ready);
        let entries: Vec<&Entry> = s.entries_of(shmem::my_database(), oid).map(|index| &s.entries[index as usize]).collect();
        let tasks = reasons::tenants::waiting(&s, oid, &entries);
        (!ready && tasks > 0).then(|| catalog::schema_name(oid).map(|name| (name, tasks)))?
    })
}

sql_functions! {
    tenant_q_health, pg_finfo_tenant_q_health => health;
}
