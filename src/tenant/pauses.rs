//! What is paused: all of a tenant, a queue or a handler of it, or the same of all tenants; and the call that ends it.

use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::pure::time::{At, instant};
use crate::tenant::Registry;
use crate::tenant::columns::Pauses;
use pgrx::spi::quote_literal;

/// Something that doesn't run for now.
#[derive(Clone, Debug)]
pub struct Pause {
    /// '' = all tenants.
    pub tenant: String,
    /// '' = any.
    pub queue: String,
    /// '' = any.
    pub handler: String,
    pub until: At,
    pub since: At,
    pub by: String,
}

impl Pause {
    fn of(row: &Row<Pauses>) -> Pause {
        Pause {
            tenant: row.text(Pauses::TENANT).unwrap_or_default(),
            queue: row.text(Pauses::QUEUE).unwrap_or_default(),
            handler: row.text(Pauses::HANDLER).unwrap_or_default(),
            until: row.get(Pauses::UNTIL).unwrap_or(At::NEVER),
            since: row.get(Pauses::SINCE).unwrap_or(At::UNSET),
            by: row.text(Pauses::BY_ROLE).unwrap_or_default(),
        }
    }

    /// Whether it is of all tenants.
    pub fn is_of_all(&self) -> bool {
        self.tenant.is_empty()
    }

    /// Whether it is of everything that the tenant, or all of them, have to do.
    pub fn is_whole(&self) -> bool {
        self.queue.is_empty() && self.handler.is_empty()
    }

    /// Whether it keeps tasks of this handler in this queue; None = the default queue.
    pub fn holds(&self, handler: &str, queue: Option<&str>) -> bool {
        (self.handler.is_empty() || self.handler == handler) && (self.queue.is_empty() || self.queue == queue.unwrap_or("default"))
    }

    /// What is paused, by whom, until when: a sentence without its end.
    pub fn text(&self) -> String {
        let Pause { tenant, queue, handler, by, .. } = self;
        let what = match (tenant.as_str(), queue.as_str(), handler.as_str()) {
            ("", "", "") => "all tenants are paused".to_string(),
            (_, "", "") => format!("tenant \"{tenant}\" is paused"),
            (_, queue, "") => format!("queue \"{queue}\" is paused"),
            (_, "", handler) => format!("handler \"{handler}\" is paused"),
            (_, queue, handler) => format!("handler \"{handler}\" is paused in queue \"{queue}\""),
        };
        let whose = if self.is_of_all() && !self.is_whole() { " in all tenants" } else { "" };
        let until =
            if self.until == At::NEVER { String::new() } else { format!(" until {}", instant(self.until).format("%Y-%m-%d %H:%M:%SZ")) };
        format!("{what}{whose}{until}, by role \"{by}\"")
    }

    /// The call that ends it.
    pub fn resume(&self) -> String {
        let mut arguments = Vec::new();
        if !self.is_of_all() {
            arguments.push(quote_literal(&self.tenant));
        }
        for (name, value) in [("queue", &self.queue), ("handler", &self.handler)] {
            if !value.is_empty() {
                arguments.push(format!("{name} => {}", quote_literal(value)));
            }
        }
        format!("SELECT {}({})", if self.is_of_all() { "tq_resume_all" } else { "tq_resume" }, arguments.join(", "))
    }
}

/// Those that are of one tenant, and those of all tenants, over ones included.
pub(super) fn of_tenant(registry: &Registry, name: &str) -> Vec<Pause> {
    let Some(table) = Table::open(registry.pause, Access::Read) else { return vec![] };
    [name, ""].iter().flat_map(|who| table.scan(&Pauses::BY_WHAT, &[Pauses::TENANT.equals(who)]).map(|row| Pause::of(&row))).collect()
}

/// All that are in force in this database.
pub fn in_force(registry: &Registry, now: At) -> Vec<Pause> {
    let Some(table) = Table::open(registry.pause, Access::Read) else { return vec![] };
    table.scan(&Pauses::BY_WHAT, &[]).map(|row| Pause::of(&row)).filter(|pause| pause.until > now).collect()
}
