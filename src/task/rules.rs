//! What decides how an attempt goes on: limits of the task, else of its handler, else of the tenant or server.

use crate::handler::Handler;
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::retry::Policy;
use crate::pure::time::{At, Span};
use crate::settings;
use crate::task::new::TIME_MAX;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;

/// What the task's own options, its handler and the settings say, in this order.
pub struct Rules {
    pub max_attempts: i32,
    pub timeout_ms: i64,
    pub policy: Policy,
    /// None: as the tenant has it.
    pub save: Option<bool>,
    /// What must be true for it to run at all.
    pub only_if: Option<String>,
    /// The step before whose result is the last argument.
    pub pass: Option<Id>,
    /// Its args are many.
    pub each: bool,
    /// The key of those whose work it does.
    pub stands_for: Option<String>,
}

/// Until when a task that may run from `since` on must have started. What is put off on purpose, or waits for others,
/// doesn't grow old meanwhile.
pub fn expires_at(tenant: &Tenant, since: At, expires: Period) -> At {
    tenant.after(since, expires).min(TIME_MAX)
}

/// How long after that an unfinished task expires; None = never.
pub fn expires(row: &Row<Tasks>, handler: Option<&Handler>) -> Option<Period> {
    let until = row.get(Tasks::EXPIRES_AT)?;
    let from_row = || {
        let since = row.get(Tasks::RUN_AT).max(row.get(Tasks::CREATED_AT)).unwrap_or_default();
        until.saturating_since(since).into()
    };
    Some(Options::of(row).expires.or(handler.and_then(|h| h.expires)).unwrap_or_else(from_row))
}

impl Rules {
    pub fn of(tenant: &Tenant, row: &Row<Tasks>, handler: Option<&Handler>) -> Rules {
        let queue = tenant.queue(row.get(Tasks::QUEUE));
        let options = Options::of(row);
        let own_policy = options.retry.and_then(|retry| serde_json::from_value(retry).ok());
        Rules {
            max_attempts: options
                .max_attempts
                .or(handler.and_then(|h| h.max_attempts))
                .or(queue.and_then(|q| q.max_attempts))
                .unwrap_or_else(settings::max_attempts),
            timeout_ms: options
                .timeout
                .or(handler.and_then(|h| h.timeout))
                .or(queue.and_then(|q| q.timeout))
                .map_or_else(settings::timeout_ms, |timeout| if timeout == Span::ZERO { 0 } else { timeout.millis().max(1) }),
            policy: own_policy.or_else(|| handler.and_then(|h| h.retry.clone())).unwrap_or_default(),
            save: options.save.or(handler.and_then(|h| h.save)),
            only_if: options.only_if,
            pass: options.pass,
            each: options.each,
            stands_for: options.stands_for,
        }
    }
}
