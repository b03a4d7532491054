//! Why tasks don't run, as it stands now: what pure/reason.rs lists, found, put into words, with the SQL that ends it.
//!
//! tq_health, tq_problems, tq_why, tq_tenants and tq_metrics ask here, and tq_resume says what still keeps what it lets go.

pub mod paused;
pub mod tenants;

use crate::postgres::error::Result;
use crate::postgres::{catalog, clock, session, shmem, worker};
use crate::pure::fix;
use crate::pure::reason::{Keeps, Reason};
use crate::pure::time::{At, Span};
use crate::pure::word::SlotState;
use crate::shared::Shared;
use crate::shared::database::db_state;
use crate::tenant::pauses::Pause;
use crate::tenant::{self, identity};
use crate::{settings, shared};
use pgrx::spi::quote_literal;

/// A reason that is there.
#[derive(Clone)]
pub struct Because {
    pub reason: Reason,
    pub since: Option<At>,
    /// A sentence without its end.
    pub text: String,
    /// SQL that ends it, to be run as it stands. None: it ends by itself, or the text says what a person has to do.
    pub fix: Option<String>,
}

impl Because {
    pub fn new(reason: Reason, text: impl Into<String>, fix: Option<String>) -> Because {
        Because { reason, since: None, text: text.into(), fix }
    }

    pub fn paused(reason: Reason, pause: &Pause) -> Because {
        let since = Some(pause.since).filter(|since| *since > At::UNSET);
        Because { reason, since, text: pause.text(), fix: Some(pause.resume()) }
    }

    /// On one line.
    pub fn line(&self) -> String {
        self.fix.as_ref().map_or_else(|| self.text.clone(), |fix| format!("{}: {fix}", self.text))
    }

    /// Whose affair it is, where it keeps everything.
    pub fn what(&self) -> String {
        match self.reason {
            Reason::Copy | Reason::Excluded | Reason::NotServed | Reason::PausedAll | Reason::PausedPart => "this database".into(),
            _ => "the server".into(),
        }
    }
}

/// The status of a tenant of which this is said: `on`, or the word of what keeps all of it.
pub fn status<'a>(because: impl IntoIterator<Item = &'a Because>) -> &'static str {
    let mut all = because.into_iter().filter(|b| matches!(b.reason.keeps(), Keeps::Everything | Keeps::Tenant));
    all.next().map_or("on", |b| b.reason.word())
}

/// All of it on one line, as tq_tenants has it; None: nothing keeps it.
pub fn in_words<'a>(because: impl IntoIterator<Item = &'a Because>) -> Option<String> {
    const SHOWN: usize = 3;
    let all: Vec<&Because> = because.into_iter().collect();
    let mut lines: Vec<String> = all.iter().take(SHOWN).map(|b| b.line()).collect();
    if all.len() > SHOWN {
        lines.push(format!("and {} more: SELECT * FROM tq_problems", all.len() - SHOWN));
    }
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// Pauses that are in force in this database.
pub fn pauses() -> Result<Vec<Pause>> {
    Ok(tenant::pauses::in_force(&tenant::registry()?, clock::now()))
}

/// What keeps every task of this database, and pauses of parts of all tenants.
pub fn of_all(pauses: &[Pause]) -> Result<Vec<Because>> {
    let mut found = of_server()?;
    for pause in pauses.iter().filter(|pause| pause.is_of_all()) {
        found.push(Because::paused(if pause.is_whole() { Reason::PausedAll } else { Reason::PausedPart }, pause));
    }
    Ok(found)
}

/// What keeps every task of this database but for pauses.
pub fn of_server() -> Result<Vec<Because>> {
    let s = shared::get();
    let mut found = Vec::new();
    if s.is_none() {
        let text = "tenant_q is not in shared_preload_libraries: tasks are stored, nothing runs";
        found.push(Because::new(Reason::NotPreloaded, text, Some(preload())));
    }
    found.extend(version());
    let standby = shmem::in_recovery();
    if standby {
        found.push(Because::new(Reason::Standby, "this server is a standby: tasks run on its primary, and here once it is promoted", None));
    }
    if !settings::enabled() {
        let fix = fix::noted("ALTER SYSTEM SET tenant_q.enabled = on", "then SELECT pg_reload_conf()");
        found.push(Because::new(Reason::Disabled, "tenant_q.enabled is off: no task is started and no schedule fires", Some(fix)));
    }
    let launcher = s.as_ref().map(|s| s.header.launcher_pid.load());
    if !standby && launcher.is_some_and(|pid| pid == 0 || !worker::is_alive(pid)) {
        let text = "there is no launcher, so nothing is started; it is restarted within seconds, else the server's log says why";
        found.push(Because::new(Reason::Launcher, text, None));
    }
    if !identity::confirmed()? {
        let text = "this database is a copy that nobody has confirmed: nothing runs";
        found.push(Because::new(Reason::Copy, text, Some("SELECT tq_confirm_copy()".into())));
    }
    if let Some(s) = s.filter(|_| !standby) {
        // The database's state follows from what is said already.
        if !found.iter().any(|b| matches!(b.reason, Reason::Version | Reason::Copy)) {
            found.extend(served(&s));
        }
        found.extend(no_slot_free(&s));
    }
    Ok(found)
}

/// What loads the library when the server starts, beside those that are loaded now.
fn preload() -> String {
    let others = session::show(c"shared_preload_libraries");
    let others = others.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty());
    let all: Vec<String> = others.chain(["tenant_q"]).map(quote_literal).collect();
    fix::noted(&format!("ALTER SYSTEM SET shared_preload_libraries = {}", all.join(", ")), "then restart the server")
}

/// The extension's objects and the library are of one version, or nothing runs.
fn version() -> Option<Because> {
    const LIBRARY: &str = env!("CARGO_PKG_VERSION");
    let extension = catalog::extension_version().unwrap_or_default();
    if extension == LIBRARY {
        return None;
    }
    let numbers = |version: &str| version.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    let both = format!("the extension's objects are of version {extension}, the library is of {LIBRARY}: nothing runs");
    Some(if numbers(&extension) < numbers(LIBRARY) {
        Because::new(Reason::Version, both, Some("ALTER EXTENSION tenant_q UPDATE".into()))
    } else {
        Because::new(Reason::Version, format!("{both}; restart the server, which still runs the older library"), None)
    })
}

/// Whether this database is served: what the launcher has made of the settings, which it hears of a moment after they change.
fn served(s: &Shared) -> Option<Because> {
    let db = s.db(shmem::my_database());
    if db.is_some_and(|db| db.state.load() == db_state::SERVED) {
        return None;
    }
    let name = worker::database_name(shmem::my_database()).unwrap_or_default();
    if let Some((setting, value)) = settings::left_out(&name) {
        let fix = format!("ALTER SYSTEM SET {setting} = {}", quote_literal(value.join(", ")));
        let text = format!("this database is not served, as {setting} says: nothing runs");
        return Some(Because::new(Reason::Excluded, text, Some(fix::noted(&fix, "then SELECT pg_reload_conf()"))));
    }
    let failures = db.map_or(0, |db| db.start_failures.load());
    let text = match failures {
        0 => "this database has not been looked into yet: that is done within a minute".into(),
        _ => format!("its scheduler could not start or died, {failures} times in a row: nothing runs; the server's log says why"),
    };
    Some(Because::new(Reason::NotServed, text, None))
}

/// Starts fail for want of a background worker slot, and nobody lives who could run anything here.
fn no_slot_free(s: &Shared) -> Option<Because> {
    let lives = |slot: &crate::shared::slot::Slot| slot.state.load() == SlotState::Working && slot.database.load() == shmem::my_database();
    (no_slot(s) && !s.slots.iter().any(lives)).then(|| {
        let text = "no background worker slot is free: nothing is started until one is";
        Because::new(Reason::WorkerSlots, text, Some(more_slots()))
    })
}

/// What makes room for all workers.
pub fn more_slots() -> String {
    let needed = settings::slots_needed(shmem::max_worker_processes()) + 8;
    fix::noted(&format!("ALTER SYSTEM SET max_worker_processes = {needed}"), "then restart the server")
}

/// Whether starts fail for want of a background worker slot: they are tried once a second, so the last one was lately.
pub fn no_slot(s: &Shared) -> bool {
    let last = s.header.last_no_slot.load();
    last != At::UNSET && (clock::now() - last).abs() < Span::of_secs(10)
}

/// Why no executor can be a session of this role, who is the tenant's owner, say, and what lets it.
pub fn role_fault(role: u32, who: &str) -> Option<(String, Option<String>)> {
    let name = catalog::role_name(role).unwrap_or_default();
    let quoted = catalog::quote(&name);
    if !worker::NOLOGIN_WORKS && !catalog::may_login(role) {
        let text = format!("{who} \"{name}\" may not log in, so no executor can be its session");
        // Predefined roles can't be altered: schema public belongs to one.
        return Some(match name.starts_with("pg_") {
            true => (format!("{text}: give the schema to a role with LOGIN (ALTER SCHEMA … OWNER TO …)"), None),
            false => (text, Some(fix::noted(&format!("ALTER ROLE {quoted} LOGIN"), "it needs no password"))),
        });
    }
    (!catalog::may_connect(shmem::my_database(), role)).then(|| {
        let database = catalog::quote(&worker::database_name(shmem::my_database()).unwrap_or_default());
        let fix = format!("GRANT CONNECT ON DATABASE {database} TO {quoted}");
        (format!("{who} \"{name}\" may not connect to this database"), Some(fix))
    })
}
