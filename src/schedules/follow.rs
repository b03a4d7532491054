//! Schedules that come after others (`after`), and what a schedule's row remembers of its tasks.
//!
//! A schedule knows who comes after it (`Notes::before`, kept by whoever changes an `after`), so that
//! the end of its task finds them by name and the end of any other task costs nothing. The transaction
//! that ends the task notes it in each follower's row; the one that completes the follower's list makes
//! the follower due at once. From there on it is a fire time like any other, served by the tick: the
//! release commits with the end that causes it, and the row's own lock puts ends that come at once in
//! line.

use crate::postgres::caught::Failure;
use crate::postgres::column::Set;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, transaction};
use crate::pure::choice::{AfterOutcome, Said};
use crate::pure::ids::Id;
use crate::pure::nearest::nearest;
use crate::pure::schedule::rule::Rule;
use crate::pure::state::{Ended, State};
use crate::pure::time::At;
use crate::schedules::definition::NAME_BYTES;
use crate::schedules::of_all::is_of_all;
use crate::schedules::options::Options;
use crate::shared::wake;
use crate::tenant::columns::{Results, Schedules, Tasks};
use crate::tenant::{Tenant, lock};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Schedules that one may come after.
pub const AFTER_MAX: usize = 100;
/// Schedules that are asked whether they close a circle. Rows are their owner's, who may have written any number.
const CIRCLE: usize = 10_000;
/// Times that a row which others keep changing is read again.
const TRIES: usize = 100;

/// The engine's own notes in a schedule's row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// Schedules that come after this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// Those of `after` that have ended as wanted since this one last ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<String>,
    /// All of them have: next_run is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<At>,
    /// The rule's own next fire time, while next_run is the release's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<At>,
    /// Fire times up to this one are being made up for, some at a time: all are to be served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promised: Option<At>,
    /// The last task whose only_if was not true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The last task, which has ended and left nothing else behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// When one of its tasks last ended well, as far as no result says so any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<At>,
    /// When one last failed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<At>,
    /// What its `repeats` was when it was declared; the column has what is left of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<i32>,
    /// How often the clock was set back so that fire times come again: they are not the same ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub clock: u32,
    /// A deploy has made it (tq_register_many), and nobody has changed it by hand since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}

/// A task, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    pub task: String,
    pub status: String,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Notes {
    /// What can't be read is forgotten: it is nobody's definition.
    pub fn of(row: &Row<Schedules>) -> Notes {
        row.get(Schedules::STATE).and_then(|j| serde_json::from_value(j).ok()).unwrap_or_default()
    }
    /// How its last task ended, if that is this one and it has left nothing else behind.
    pub fn status_of(&self, task: Id) -> Option<&'static str> {
        let task = task.to_string();
        if self.skipped.as_ref() == Some(&task) {
            return Some("skipped");
        }
        let gone = self.gone.as_ref().filter(|gone| gone.task == task)?;
        State::ALL.into_iter().map(State::name).find(|name| *name == gone.status)
    }
    /// None: nothing worth a column.
    pub fn document(&self) -> Option<Jsonb> {
        (*self != Notes::default()).then(|| Jsonb::from_value(serde_json::to_value(self).expect("plain data")))
    }
    /// It is served at once, for this moment; after it comes the rule's own next time.
    pub fn release(&mut self, at: At, planned: Option<At>) {
        self.released = Some(at);
        self.planned = planned;
    }
    /// It has run: whoever it comes after is to end anew.
    pub fn start_over(&mut self) {
        self.ended.clear();
        self.released = None;
        self.planned = None;
    }
}

/// Nobody comes after it, as far as is noted.
pub fn is_last(state: &Notes) -> bool {
    state.before.is_empty()
}

/// Whether a task's end counts for a schedule that comes after its schedule.
fn counts(wanted: AfterOutcome, end: Ended) -> bool {
    match wanted {
        AfterOutcome::Success => end == Ended::Done,
        AfterOutcome::Failure => end == Ended::Failed,
        AfterOutcome::Any => true,
    }
}

/// The names in `after`, as a row's options have them; no more than there may be.
pub fn after_of(row: &Row<Schedules>) -> Vec<String> {
    names_in(Options::of(row).after)
}

pub fn names_in(after: Vec<String>) -> Vec<String> {
    after.into_iter().filter(|name| name.len() <= NAME_BYTES).take(AFTER_MAX).collect()
}

pub fn find(table: &Table<Schedules>, name: &str) -> Option<Row<Schedules>> {
    transaction::with_latest_snapshot(|| table.find(Schedules::NAME.equals(name)))
}

/// Changes a row that others may be changing too: each time as it is then. `f`: what to set; None =
/// nothing. False: there is no such row.
pub fn change(table: &Table<Schedules>, name: &str, mut f: impl FnMut(&Row<Schedules>) -> Option<Rewrite>) -> Result<bool> {
    for _ in 0..TRIES {
        let Some(row) = find(table, name) else { return Ok(false) };
        let Some(change) = f(&row) else { return Ok(true) };
        let document = change.state.document();
        let mut set = change.columns;
        set.push(Schedules::STATE.to(document.as_ref()));
        if table.update(&row, &set) == Write::Done {
            transaction::see_own_writes();
            return Ok(true);
        }
    }
    Err(crate::schedules::contended(name))
}

/// The schedule that somebody may have meant.
pub fn nearest_name(table: &Table<Schedules>, name: &str) -> Option<String> {
    let names: Vec<String> = table.scan(&Schedules::BY_NAME, &[]).filter_map(|row| row.text(Schedules::NAME)).take(10_000).collect();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

/// What to write: the notes, and columns of plain values.
pub struct Rewrite {
    pub state: Notes,
    pub columns: Vec<Set<'static, Schedules>>,
}

/// Whether a schedule of this name may come after those: they exist, and none comes after it. Holds
/// other sessions off that change an `after` in this tenant, until this transaction ends: two that each
/// close half a circle must not miss each other.
pub fn check(tenant: &Tenant, table: &Table<Schedules>, name: &str, after: &[String]) -> Result<()> {
    lock::after(tenant)?;
    for other in after {
        if other != name && find(table, other).is_none() {
            let error = Error::undefined(format!("after names schedule \"{other}\", which does not exist in tenant \"{}\"", tenant.name));
            return Err(error.hint(match nearest_name(table, other) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => "Make that schedule first.".into(),
            }));
        }
    }
    match circle(name, after, |other| find(table, other).map(|row| after_of(&row))) {
        Some(circle) => Err(Error::invalid("after makes a circle").detail(format!("{circle}."))),
        None => Ok(()),
    }
}

/// The circle that `name` would close if it came after those. `after_of`: those that another one comes after.
pub fn circle(name: &str, after: &[String], after_of: impl Fn(&str) -> Option<Vec<String>>) -> Option<String> {
    // Up from each of them, noting from where; whoever was seen leads nowhere new.
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut ways = vec![name.to_string()];
    while let Some(here) = ways.pop() {
        let above = if here == name { after.to_vec() } else { after_of(&here).unwrap_or_default() };
        for other in above {
            if other == name {
                let back = std::iter::successors(Some(&here), |below| seen.get(*below));
                let mut names: Vec<&str> = std::iter::once(name).chain(back.map(String::as_str)).collect();
                names.reverse();
                return Some(format!("\"{}\"", names.join("\" after \"")));
            }
            if seen.len() < CIRCLE && !seen.contains_key(&other) {
                seen.insert(other.clone(), here.clone());
                ways.push(other);
            }
        }
    }
    None
}

/// Tells the schedules named in `old` and `new` who comes after them. One of `new` that somebody has just
/// removed is an error: nobody would ever tell `name` of its end.
pub fn link(table: &Table<Schedules>, name: &str, old: &[String], new: &[String]) -> Result<()> {
    match link_present(table, name, old, new)?.first() {
        None => Ok(()),
        Some(gone) => Err(Error::undefined(format!("after names schedule \"{gone}\", which has just been removed"))),
    }
}

/// The same; those that aren't there are told when they come. Returns them.
pub fn link_present(table: &Table<Schedules>, name: &str, old: &[String], new: &[String]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut changed: Vec<&String> = old.iter().filter(|o| !new.contains(o)).chain(new.iter().filter(|n| !old.contains(n))).collect();
    // Always in the same order, so that two who do this wait for each other in line.
    changed.sort();
    changed.dedup();
    for other in changed {
        let wanted = new.contains(other);
        let found = change(table, other, |row| {
            let mut state = Notes::of(row);
            if state.before.iter().any(|b| b == name) == wanted {
                return None;
            }
            state.before.retain(|b| b != name);
            if wanted {
                state.before.push(name.to_string());
                state.before.sort();
            }
            Some(Rewrite { state, columns: vec![] })
        })?;
        if wanted && !found {
            missing.push(other.clone());
        }
    }
    Ok(missing)
}

/// All in the table that come after this name, whether it is there or not: for when it comes.
pub fn names_after(table: &Table<Schedules>, name: &str) -> Vec<String> {
    let comes_after = |row: &Row<Schedules>| after_of(row).iter().any(|a| a == name);
    table.scan(&Schedules::BY_NAME, &[]).filter(comes_after).filter_map(|row| row.text(Schedules::NAME)).collect()
}

/// Schedules of the tenant's own that really come after this one: notes may be older than the rows. One of
/// all tenants waits where what it comes after is missing; it keeps nobody from removing that.
pub fn followers(table: &Table<Schedules>, row: &Row<Schedules>) -> Vec<String> {
    let name = row.get(Schedules::NAME).unwrap_or("");
    let follows = |other: &String| find(table, other).is_some_and(|r| after_of(&r).iter().any(|a| a == name) && !is_of_all(&r));
    Notes::of(row).before.into_iter().filter(follows).collect()
}

/// A task has ended for good, in this transaction: its schedule counts it, and whoever comes after that is told.
pub fn ended(tenant: &Tenant, task: &Row<Tasks>, state: Ended) -> std::result::Result<(), Failure> {
    if !task.has(Tasks::SCHEDULE) {
        return Ok(());
    }
    let Some(name) = task.text(Tasks::SCHEDULE) else { return Ok(()) };
    let table = tenant.open(tenant.schedule, Access::Write)?;
    let Some(row) = find(&table, &name) else { return Ok(()) };
    if state == Ended::Failed {
        let succeeded = last_success_before(tenant, &name)?;
        change(&table, &name, |row| {
            let failures = row.get(Schedules::FAIL_COUNT).unwrap_or(0).saturating_add(1);
            let mut state = Notes::of(row);
            state.succeeded = state.succeeded.max(succeeded);
            state.failed = Some(clock::now());
            Some(Rewrite { state, columns: vec![Schedules::FAIL_COUNT.to(failures)] })
        })?;
    }
    tell_followers(tenant, &table, &row, state)
}

/// When the schedule's last task before this one ended, if it did well: behind many failures nobody would look for it.
fn last_success_before(tenant: &Tenant, name: &str) -> Result<Option<At>> {
    let Some(results) = tenant.try_open(tenant.result, Access::Read)? else { return Ok(None) };
    Ok(LastEnds::among(&results.fetch_at_most(0), name, 2).success)
}

/// When the schedule's tasks last ended well, and failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastEnds {
    pub success: Option<At>,
    pub failure: Option<At>,
}

impl LastEnds {
    /// Among so many of the newest results.
    pub fn among(results: &Table<Results>, name: &str, newest: usize) -> LastEnds {
        let mut last = LastEnds::default();
        if !results.has(&Results::BY_SCHEDULE) {
            return last;
        }
        for row in results.scan(&Results::BY_SCHEDULE, &[Results::SCHEDULE.equals(name)]).backward().take(newest) {
            let kind = match row.letter(Results::STATE) {
                Ended::Done => &mut last.success,
                Ended::Failed | Ended::Expired | Ended::Quarantined => &mut last.failure,
                _ => continue,
            };
            *kind = kind.or(row.get(Results::FINISHED_AT));
            if last.success.is_some() && last.failure.is_some() {
                break;
            }
        }
        last
    }

    /// With what its row notes of results that are gone.
    pub fn or_noted(self, row: &Row<Schedules>) -> LastEnds {
        let notes = Notes::of(row);
        LastEnds { success: self.success.max(notes.succeeded), failure: self.failure.max(notes.failed) }
    }
}

/// A task of this schedule has ended for good: whoever comes after it is told.
pub fn tell_followers(tenant: &Tenant, table: &Table<Schedules>, row: &Row<Schedules>, state: Ended) -> std::result::Result<(), Failure> {
    let name = row.text(Schedules::NAME).unwrap_or_default();
    let mut released = None;
    for follower in Notes::of(row).before {
        change(table, &follower, |row| {
            let now = clock::now();
            let state = after_end(row, &name, state, now)?;
            let Some(at) = state.released else { return Some(Rewrite { state, columns: vec![] }) };
            released = Some(at);
            Some(Rewrite { state, columns: vec![Schedules::NEXT_RUN.to(at)] })
        })?;
    }
    if let Some(at) = released
        && let Ok(Some(entry)) = tenant.entry(tenant.owner)
    {
        wake::schedule_changed(entry, at);
    }
    Ok(())
}

/// A follower's notes after the end of `name`; None: it doesn't matter to it.
fn after_end(row: &Row<Schedules>, name: &str, end: Ended, now: At) -> Option<Notes> {
    let options = Options::of(row);
    let wanted = options.after_outcome.as_ref().and_then(Said::choice).unwrap_or_default();
    let after = names_in(options.after);
    if !after.iter().any(|a| a == name) || !counts(wanted, end) {
        return None;
    }
    let fires_no_more = row.get(Schedules::ENABLED) != Some(true)
        || row.get(Schedules::REPEATS) == Some(0)
        || row.get(Schedules::UNTIL).is_some_and(|t| t < now)
        || row.get(Schedules::START_AT).is_some_and(|t| t > now);
    let mut state = Notes::of(row);
    if fires_no_more || state.released.is_some() || state.ended.iter().any(|e| e == name) {
        return None;
    }
    state.ended.push(name.to_string());
    let any = Rule::parse(row.get(Schedules::RULE).unwrap_or(""), false).is_ok_and(|rule| rule.is_after_any());
    if any || after.iter().all(|a| state.ended.contains(a)) {
        state.release(now, row.get(Schedules::NEXT_RUN));
    }
    Some(state)
}

/// A task has ended without having run, because of its schedule's condition.
pub fn skipped(tenant: &Tenant, task: &Row<Tasks>) -> std::result::Result<(), Failure> {
    let Some(name) = task.text(Tasks::SCHEDULE) else { return Ok(()) };
    let table = tenant.open(tenant.schedule, Access::Write)?;
    let id = task.get(Tasks::ID).map(|id| id.to_string());
    change(&table, &name, |row| Some(Rewrite { state: Notes { skipped: id.clone(), ..Notes::of(row) }, columns: vec![] }))?;
    Ok(())
}
