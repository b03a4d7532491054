//! Settings of this session: of a moment, of a batch, of a worker's whole life.

use crate::postgres::{catalog, sandbox, transaction};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

fn set(
    name: &CStr,
    value: &CStr,
    context: pg_sys::GucContext::Type,
    source: pg_sys::GucSource::Type,
    action: pg_sys::GucAction::Type,
) -> bool {
    // SAFETY: both are C strings that the call copies.
    let set = unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
        pg_sys::set_config_option(name.as_ptr(), value.as_ptr(), context, source, action, true, 0, false)
    };
    set > 0
}

/// Sets for the current nest level; gone when it is left or the transaction ends.
pub fn set_local(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION, pg_sys::GucAction::GUC_ACTION_SAVE);
}

/// Sets for the rest of the session (of a worker).
///
/// A setting that this server version doesn't have is left out.
pub fn set_session(name: &CStr, value: &str) {
    if is_known(name)
        && let Ok(value) = CString::new(value)
    {
        set(name, &value, pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_OVERRIDE, pg_sys::GucAction::GUC_ACTION_SET);
    }
}

/// Sets the base value that a task of this tenant starts with, as the tenant's role.
pub fn set_base(name: &str, value: &str) -> bool {
    match (CString::new(name), CString::new(value)) {
        (Ok(name), Ok(value)) => {
            set(&name, &value, pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION, pg_sys::GucAction::GUC_ACTION_SET)
        }
        _ => false,
    }
}

/// Makes a worker's session its own role's again, where ALTER ROLE or ALTER DATABASE … SET role, or, of a superuser,
/// session_authorization has made it another's from the start; for RESET, too. False: it is still another's.
pub fn be_role(role: u32) -> bool {
    let role = pg_sys::Oid::from(role);
    if sandbox::session_user() != role {
        // Looked up by name, so in a transaction. Where it fails, the answer says so.
        let _ = transaction::run(|| {
            if let Some(name) = catalog::role_name(role.to_u32()) {
                set_session(c"session_authorization", &name);
            }
            Ok(())
        });
    }
    // Of itself, too: RESET ROLE would go back to what was set.
    set_session(c"role", "none");
    sandbox::session_user() == role && sandbox::current_user() == role
}

fn is_known(name: &CStr) -> bool {
    // SAFETY: missing_ok: NULL for an unknown name.
    unsafe { !pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() }
}

/// The current value as SHOW prints it.
pub fn show(name: &CStr) -> String {
    // SAFETY: missing_ok: NULL for an unknown name, else a string of the server's.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { String::new() } else { CStr::from_ptr(value).to_string_lossy().into_owned() }
    }
}

/// What RESET would make of it: the value of the server, database and role.
pub fn reset_value(name: &CStr) -> String {
    // SAFETY: the setting exists; a string of the server's.
    unsafe {
        let value = pg_sys::GetConfigOptionResetString(name.as_ptr());
        if value.is_null() { String::new() } else { CStr::from_ptr(value).to_string_lossy().into_owned() }
    }
}

/// A nest level: what a handler SETs inside is undone when it is left; where it isn't, because of an ERROR, by the abort.
#[must_use]
pub struct Nest(i32);
impl Nest {
    pub fn enter() -> Nest {
        // SAFETY: increments a counter.
        Nest(unsafe { pg_sys::NewGUCNestLevel() })
    }
    /// Undoes everything that was set inside.
    pub fn leave(self) {
        // SAFETY: the level that enter() made, left once.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
    }
}

/// What pg_stat_activity.query says of this process; None = idle.
pub fn report_activity(text: Option<&str>) {
    let state = if text.is_some() { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    let text = text.and_then(|t| CString::new(t).ok());
    // SAFETY: copies the string.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr())) };
}

pub fn report_appname(name: &str) {
    set_session(c"application_name", name);
}

/// Sends this process's table statistics: without it autovacuum never sees the queue's churn.
pub fn report_statistics(force: bool) {
    // SAFETY: between transactions.
    unsafe { pg_sys::pgstat_report_stat(force) };
}

/// Back to what the session started with.
pub fn reset_base(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: NULL means RESET.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                std::ptr::null(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SET,
                true,
                0,
                false,
            );
        }
    }
}

/// random() goes on unpredictably, whatever setseed() a task has called.
pub fn forget_random_state() {
    use pgrx::IntoDatum;
    let seed = (crate::postgres::clock::monotonic_ns() % 2_000_003) as f64 / 1_000_001.5 - 1.0;
    // SAFETY: the SQL function setseed with its one argument, in range.
    unsafe {
        let _: Option<()> = pgrx::direct_function_call(pg_sys::setseed, &[seed.into_datum()]);
    }
}

/// Whether this user could set it so.
pub fn is_valid(name: &str, value: &str) -> bool {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return false };
    // SAFETY: changeVal false: checks only; the level makes a refusal silent.
    let checked = crate::postgres::caught::catch(|| unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_TEST,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            false,
            pgrx::PgLogLevel::DEBUG5 as i32,
            false,
        )
    });
    matches!(checked, Ok(n) if n != 0) && !show(&name).is_empty() | name.to_bytes().contains(&b'.')
}

/// Where the client of this session is: its address, or '[local]'.
pub fn client_host() -> String {
    let host = pgrx::Spi::get_one::<String>("SELECT pg_catalog.host(pg_catalog.inet_client_addr())");
    host.ok().flatten().unwrap_or_else(|| "[local]".into())
}

/// Has the system find out within a minute that the client is gone, though nothing is sent; unless somebody has said otherwise.
pub fn probe_client() {
    for (name, value) in [(c"tcp_keepalives_idle", "30"), (c"tcp_keepalives_interval", "10"), (c"tcp_keepalives_count", "3")] {
        if show(name) == "0" {
            set_session(name, value);
        }
    }
}
