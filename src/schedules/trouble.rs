//! What is wrong with a schedule that can't be served, and the call that mends it: for tq_problems.
//!
//! Told from the row and the registry alone: whoever looks at problems may be anybody, so nobody's code runs for it.

use crate::handler;
use crate::postgres::catalog;
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::pure::fix;
use crate::schedules::definition::Definition;
use crate::schedules::follow::{self, Notes};
use crate::schedules::of_all;
use crate::schedules::row::{ROW, Schedule};
use crate::tenant::Tenant;
use crate::tenant::columns::Schedules;
use std::rc::Rc;

/// The call that mends a schedule which can't be served, and its trouble; None: there is none.
pub fn trouble(tenant: &Rc<Tenant>, row: &Row<Schedules>) -> Option<(String, String)> {
    let name = row.text(Schedules::NAME).unwrap_or_default();
    let (quoted, who) = (pgrx::spi::quote_literal(&name), pgrx::spi::quote_literal(&tenant.name));
    let of_all = of_all::is_of_all(row);
    // One of all tenants is made anew from its definition when the tenant is visited.
    let visit = |also: &str| match tenant.ready {
        true => format!("SELECT tq_set_tenant({who}, ready => true{also})"),
        false => fix::by_hand("it is made anew from its definition when the tenant is ready"),
    };
    let alter = |what: &str| match of_all {
        true => visit(""),
        false => format!("SELECT tq_alter_schedule({quoted}, {what}, tenant => {who})"),
    };
    // What only its author can say.
    let say = |what: &str| match of_all {
        true => fix::by_hand(&format!("SELECT tq_schedule_all({quoted}, …, on_conflict => 'replace') with another {what}")),
        false => fix::by_hand(&alter(&format!("{what} => '…'"))),
    };
    let schedule = match Schedule::of(tenant, row) {
        Ok(schedule) => schedule,
        Err(broken) => {
            let fix = match broken.parameter {
                "tz" if !row.has(Schedules::TZ) && of_all => visit(", reset => '{timezone}'"),
                "tz" if !row.has(Schedules::TZ) => format!("SELECT tq_set_tenant({who}, reset => '{{timezone}}')"),
                // Too large to be looked into.
                _ if of_all && row.outside > ROW => {
                    format!("DELETE FROM {}.tq_schedule WHERE name = {quoted}", catalog::quote(&tenant.name))
                }
                _ if of_all => visit(""),
                "name" => format!("SELECT tq_unschedule({quoted}, tenant => {who})"),
                "reset" => alter("reset => '{active_hours,only_if,after,after_outcome}'"),
                "rule" | "handler" => say(broken.parameter),
                // Nobody can say it for somebody else.
                "created_by" => format!("SELECT tq_unschedule({quoted}, tenant => {who})"),
                // Back to what is inherited always works.
                parameter => alter(&format!("reset => '{{{parameter}}}'")),
            };
            return Some((broken.error.message, fix));
        }
    };
    let handler_name = row.text(Schedules::HANDLER).unwrap_or_default();
    let problem = row.text(Schedules::PROBLEM);
    match handler::find(tenant, &handler_name) {
        _ if handler_name.is_empty() => return Some(("it has no handler".into(), say("handler"))),
        Ok(None) => {
            let fix = handler::register(tenant, &handler_name);
            return Some((problem.unwrap_or_else(|| format!("handler \"{handler_name}\" is not registered")), fix));
        }
        Err(error) => return Some((error.message, say("handler"))),
        Ok(Some(h)) if h.fault.is_some() => {
            // Its tasks are held, and tq_problems has the handler too.
            problem.as_ref()?;
        }
        _ => {}
    }
    if let Some(fault) = after_trouble(tenant, &schedule) {
        let fix = match &fault.after[..] {
            _ if of_all => fix::by_hand(&format!("SELECT tq_schedule({}, …, tenant => {who})", pgrx::spi::quote_literal(&fault.missing))),
            [] => alter("reset => '{after,after_outcome}'"),
            after => alter(&format!("after => {}", pgrx::spi::quote_literal(array(after)))),
        };
        return Some((fault.message, fix));
    }
    let text = problem?;
    // Whoever looks at problems may be anybody, and doesn't wait for code of the tenant's.
    let fits = handler::require(tenant, &handler_name).and_then(|h| Definition::of_row(row).check_args(&h, None)).is_ok();
    // Where nothing is wrong with it any more it is only to be planned again.
    let fix = if fits { alter("enabled => true") } else { say("args") };
    Some((text, fix))
}

struct AfterTrouble {
    message: String,
    /// The first one that isn't there.
    missing: String,
    /// Those that it can come after.
    after: Vec<String>,
}

/// Whether the schedules that this one comes after are there and know of it.
fn after_trouble(tenant: &Tenant, schedule: &Schedule) -> Option<AfterTrouble> {
    if schedule.after.is_empty() {
        return None;
    }
    let table = tenant.try_open(tenant.schedule, Access::Read).ok()??;
    let (mut message, mut missing) = (None, String::new());
    let mut after = Vec::new();
    for name in &schedule.after {
        match follow::find(&table, name) {
            None => {
                message = Some(format!("it comes after schedule \"{name}\", which does not exist"));
                missing = name.clone();
            }
            Some(row) => {
                if !Notes::of(&row).before.contains(&schedule.name) {
                    message.get_or_insert(format!("it comes after schedule \"{name}\", which does not know of it"));
                }
                after.push(name.clone());
            }
        }
    }
    message.map(|message| AfterTrouble { message, missing, after })
}

/// A text[] as SQL writes it.
fn array(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| format!("\"{}\"", i.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}
