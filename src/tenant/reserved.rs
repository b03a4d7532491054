//! Settings that no task may have, since the engine reads, writes and commits under them; and those that would do nothing.

use crate::postgres::error::{Error, Result};

/// Why nobody may have this setting for tasks, as the way to what they want; None = whoever could SET it may. What changes
/// how the engine itself reads, writes or commits, or can't be set where tasks run.
fn reserved(name: &str) -> Option<&'static str> {
    // PostgreSQL knows a setting under any spelling.
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        "role" | "session_authorization" | "search_path" | "timezone" => {
            "Use timezone => and shared_schemas => of tq_set_tenant, and run_as => of tq_register."
        }
        "client_encoding" => "A task has no client; convert_to() and convert_from() convert.",
        "transaction_isolation"
        | "transaction_read_only"
        | "transaction_deferrable"
        | "default_transaction_isolation"
        | "default_transaction_read_only"
        | "default_transaction_deferrable" => {
            "A task that needs a transaction of another kind is a procedure: COMMIT, then SET TRANSACTION."
        }
        "transaction_timeout" => "Use timeout => of tq_register or tq_async.",
        _ if name.starts_with("tenant_q.") => "It is the server's: ALTER SYSTEM.",
        _ => return None,
    })
}

/// Why this setting would do nothing in a task, as the way to what they want. Refused when it is said; where it was said
/// before, it goes on doing nothing.
fn idle(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "statement_timeout" => "Use timeout => of tq_register, tq_set_queue or tq_async, which is of the whole attempt.",
        "idle_in_transaction_session_timeout" | "idle_session_timeout" => "A task is never idle. Its time is timeout => of tq_register.",
        "exit_on_error" => "An attempt that fails ends, and its session serves the next one.",
        _ => return None,
    })
}

/// An object of settings without those that no task may have, or has anything of.
pub fn without_reserved(settings: &serde_json::Value) -> serde_json::Value {
    let mut rest = settings.clone();
    if let Some(map) = rest.as_object_mut() {
        map.retain(|name, _| reserved(name).or_else(|| idle(name)).is_none());
    }
    rest
}

/// Refuses, when it is said, what would do nothing.
pub fn refuse_idle(settings: &serde_json::Value) -> Result<()> {
    for name in settings.as_object().into_iter().flat_map(|map| map.keys()) {
        if let Some(instead) = idle(name) {
            return Err(Error::invalid(format!("setting \"{name}\" has no effect on tasks")).hint(instead));
        }
    }
    Ok(())
}

/// The same of all of them, as an error that names the first. For what was stored before it was refused.
pub fn check_reserved(settings: Option<&serde_json::Value>) -> Result<()> {
    let names = settings.and_then(serde_json::Value::as_object).into_iter().flat_map(|map| map.keys());
    for name in names {
        if let Some(instead) = reserved(name) {
            return Err(Error::invalid(format!("setting \"{name}\" cannot be set for tasks")).hint(instead));
        }
    }
    Ok(())
}
