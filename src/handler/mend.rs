//! The statement that mends a handler whose tasks are held, and that keeps whatever was said of it.

use crate::handler::{Fault, Handler, signature};
use crate::postgres::catalog;
use crate::pure::fix;
use crate::pure::period::Period;
use crate::tenant::{Tenant, reserved};
use pgrx::spi::quote_literal;
use serde_json::Value as Json;

/// An interval as SQL writes it.
fn interval(period: Period) -> String {
    let (seconds, micros) = (period.micros / 1_000_000, period.micros % 1_000_000);
    let parts = [(period.months.into(), "months"), (period.days.into(), "days"), (seconds, "seconds"), (micros, "microseconds")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n != 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    format!("'{}'", if parts.is_empty() { "0".into() } else { parts.join(" ") })
}

/// What registers a handler of which only the name is known.
pub fn register(tenant: &Tenant, name: &str) -> String {
    let by_hand = || fix::by_hand(&format!("CREATE FUNCTION {} …; {}", catalog::quote(name), registration_by_name(tenant, name)));
    registration_of_function(tenant, name).unwrap_or_else(by_hand)
}

/// The same, if there is a function of that name to be registered.
pub fn registration_of_function(tenant: &Tenant, name: &str) -> Option<String> {
    signature::resolve(&catalog::quote(name), &tenant.path_oids()).ok().map(|_| registration_by_name(tenant, name))
}

fn registration_by_name(tenant: &Tenant, name: &str) -> String {
    format!("SELECT tq_register({}, tenant => {})", quote_literal(name), quote_literal(&tenant.name))
}

impl Handler {
    /// What mends this fault of it, as pure/fix.rs has it.
    pub fn mend(&self, tenant: &Tenant, fault: &Fault) -> String {
        let again = |function: &str| self.registration(tenant, function);
        match fault {
            Fault::Role { .. } if self.is_external() => {
                let role = catalog::quote(self.run_as_name.as_deref().unwrap_or_default());
                fix::noted(&format!("CREATE ROLE {role}"), "or register it with another run_as")
            }
            // What it takes isn't accepted any more, and nobody else can say what it takes now.
            _ if self.is_external() => fix::by_hand(&format!(
                "SELECT tq_register({}, external => true, params => …, {})",
                quote_literal(&self.name),
                self.whose(tenant)
            )),
            Fault::Role { grant: Some(grant), .. } => grant.trim_end_matches(';').into(),
            Fault::Role { .. } => {
                let role = catalog::quote(self.run_as_name.as_deref().unwrap_or_default());
                let owner = catalog::quote(&catalog::role_name(tenant.owner).unwrap_or_default());
                fix::noted(&format!("CREATE ROLE {role} LOGIN; GRANT {role} TO {owner}"), "or register it with another run_as")
            }
            Fault::Changed(_) => again(self.signature.as_ref().filter(|_| self.pinned).map_or(&self.function, |s| &s.identity)),
            // The name may have come back with other parameters.
            Fault::Missing(_) => match signature::resolve_any(&self.function, &tenant.path_oids()) {
                Ok(found) if self.pinned || !self.shared => again(&found.identity),
                _ => fix::by_hand(&format!(
                    "CREATE FUNCTION {} again, or SELECT tq_unregister({}, {})",
                    self.function,
                    quote_literal(&self.name),
                    self.whose(tenant)
                )),
            },
        }
    }

    fn whose(&self, tenant: &Tenant) -> String {
        if self.shared { "shared => true".into() } else { format!("tenant => {}", quote_literal(&tenant.name)) }
    }

    /// The call of tq_register that says of this function what is said of the handler now. Settings that no task may have
    /// are left out.
    fn registration(&self, tenant: &Tenant, function: &str) -> String {
        let settings = self.settings.as_ref().map(reserved::without_reserved).filter(|s| s.as_object().is_none_or(|map| !map.is_empty()));
        let retry = self.retry.as_ref().and_then(|policy| serde_json::to_value(policy).ok());
        let document = |json: Json| quote_literal(json.to_string());
        let aliases: Vec<String> = self.aliases.iter().map(quote_literal).collect();
        let said = [
            ("queue", self.queue.as_ref().map(quote_literal)),
            ("priority", self.priority.map(|n| n.to_string())),
            ("timeout", self.timeout.map(|span| interval(span.into()))),
            ("max_attempts", self.max_attempts.map(|n| n.to_string())),
            ("retry", retry.map(document)),
            ("expires", self.expires.map(interval)),
            ("max_running", self.max_running.map(|n| n.to_string())),
            ("rate", self.rate.map(|rate| quote_literal(rate.to_string().trim_end_matches(" bucket")))),
            ("run_as", self.run_as_name.as_ref().map(quote_literal)),
            ("settings", settings.map(document)),
            ("save", self.save.map(|save| save.to_string())),
            ("result_ttl", self.result_ttl.map(interval)),
            ("aliases", (!aliases.is_empty()).then(|| format!("ARRAY[{}]", aliases.join(", ")))),
        ];
        let said: String = said.into_iter().filter_map(|(name, value)| Some(format!(", {name} => {}", value?))).collect();
        format!("SELECT tq_register({}, {}{said}, {})", quote_literal(&self.name), quote_literal(function), self.whose(tenant))
    }
}
