//! What one does with schedules that are there: change, remove, fire, look ahead, carry elsewhere.

pub mod carry;

use crate::fanout::definitions;
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::choice::{Named, OnRedeclared};
use crate::pure::nearest::nearest;
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::rule::{MonthEnd, Rule};
use crate::pure::schedule::{describe, zone};
use crate::pure::time::{At, Span, instant};
use crate::schedules::define::{By as Author, Written, announce, define, warn_of_delays, write};
use crate::schedules::definition::{Definition, DefinitionArgs, check_date};
use crate::schedules::follow::{self, Notes};
use crate::schedules::planning::{self, How, Redefinition};
use crate::schedules::row::Schedule;
use crate::schedules::{self, contended, may_set_condition, of_all};
use crate::task::document::time_json;
use crate::task::queue::Queue;
use crate::tenant::columns::Schedules;
use crate::tenant::rights::{self, By, Caller, author};
use crate::tenant::{self, Tenant};
use crate::work::enqueue::{self, Added};
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

/// Times that a row which a tick keeps changing is looked at again.
const TRIES: usize = 10;
/// Fire times that tq_upcoming foresees; of more it says so instead of showing a part.
const FORESEEN: usize = 100_000;

parameters! {
    TqSchedule of tq_schedule behind DefinitionArgs {
        ON_CONFLICT,
        TENANT,
    }
    TqAlterSchedule of tq_alter_schedule behind DefinitionArgs {
        NEXT_RUN,
        RESET,
        TENANT,
    }
}

fn unknown(name: &str, tenant: &Tenant, table: &Table<Schedules>) -> Error {
    Error::undefined(format!("schedule \"{name}\" does not exist in tenant \"{}\"", tenant.name)).hint(
        match follow::nearest_name(table, name) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => "See the view tq_schedules.".into(),
        },
    )
}

fn name_of(args: &Args) -> Result<String> {
    args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "name is null"))
}

/// tq_alter_schedule(name … description as tq_schedule, next_run, reset, tenant)
pub fn alter(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_alter_schedule()");
    let name = name_of(args)?;
    let tenant = schedules::resolve_to_change(args.text(TqAlterSchedule::TENANT).as_deref())?;
    let given = Definition::of_args(args);
    for (what, n, text) in [("handler", DefinitionArgs::HANDLER, &given.handler), ("rule", DefinitionArgs::RULE, &given.rule)] {
        if args.is_given(n) && text.is_empty() {
            return Err(Error::invalid(format!("{what} is empty")).hint("NULL leaves it as it is."));
        }
    }
    let reset = args.texts(TqAlterSchedule::RESET).unwrap_or_default();
    check_reset(args, &reset)?;
    let next_run = args.time(TqAlterSchedule::NEXT_RUN);
    if next_run.is_some_and(At::is_infinite) {
        return Err(Error::invalid("next_run is infinite").hint("enabled => false stops a schedule."));
    }
    check_date("next_run", next_run)?;
    let others_given = (DefinitionArgs::HANDLER..=TqAlterSchedule::NEXT_RUN).any(|n| n != DefinitionArgs::ENABLED && args.is_given(n));
    let only_disables = given.enabled == Some(false) && reset.is_empty() && !others_given;
    let author = author();
    let table = tenant.open(tenant.schedule, Access::Write)?;
    for _ in 0..TRIES {
        let Some(row) = follow::find(&table, &name) else { return Err(unknown(&name, &tenant, &table)) };
        of_all::refuse(&row)?;
        let changed = if only_disables {
            disable(&table, &row) == Write::Done
        } else {
            change(&tenant, &table, &row, &given, &reset, next_run, &author)?
        };
        if changed {
            return Ok(Ret::Void);
        }
    }
    Err(contended(&name))
}

/// Whatever is wrong with it, it can be stopped.
fn disable(table: &Table<Schedules>, row: &Row<Schedules>) -> Write {
    let mut state = Notes::of(row);
    state.start_over();
    let document = state.document();
    let set = [Schedules::ENABLED.to(false), Schedules::NEXT_RUN.null(), Schedules::PROBLEM.null(), Schedules::STATE.to(document.as_ref())];
    let gone = table.update(row, &set);
    if gone == Write::Done {
        transaction::see_own_writes();
    }
    gone
}

/// Calls that hints show.
struct Call<'a> {
    schedule: &'a str,
    tenant: &'a str,
}

/// Fire times that are counted before it is enough to know that they are many.
const COUNTED: usize = 1000;

impl Call<'_> {
    /// The next run then, and what else is to be said with it.
    fn alter(&self, at: At, also: &str) -> String {
        let quote = pgrx::spi::quote_literal::<&str>;
        let at = time_json(Some(at));
        let also = if also.is_empty() { String::new() } else { format!(", {also}") };
        format!(
            "SELECT tq_alter_schedule({}{also}, next_run => {}, tenant => {});",
            quote(self.schedule),
            quote(at.as_str().unwrap_or_default()),
            quote(self.tenant)
        )
    }

    fn fire(&self) -> String {
        let quote = pgrx::spi::quote_literal::<&str>;
        format!("For one task now: SELECT tq_fire({}, tenant => {});", quote(self.schedule), quote(self.tenant))
    }

    /// The rule's own fire times up to the one that was asked for are not served: said while somebody looks.
    fn tell_of_passed_over(&self, plan: &Plan, first: At, at: At) {
        let mut passed = 1;
        let mut from = instant(first);
        while passed < COUNTED
            && let Some(next) = plan.next_after(from).filter(|next| At::from(*next) < at)
        {
            (passed, from) = (passed + 1, next);
        }
        let how_many = match passed {
            1 => "1 fire time of its rule before that is".into(),
            COUNTED => format!("{COUNTED} or more fire times of its rule before that are"),
            _ => format!("{passed} fire times of its rule before that are"),
        };
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("schedule \"{}\": {how_many} passed over", self.schedule))
            .detail(format!("The first of them is {}.", time_json(Some(first)).as_str().unwrap_or_default()))
            .hint(format!("This takes it back: {}", self.alter(first, "")))
            .notice();
    }
}

/// False: the row was changed meanwhile.
fn change(
    tenant: &Rc<Tenant>,
    table: &Table<Schedules>,
    row: &Row<Schedules>,
    given: &Definition,
    reset: &[String],
    next_run: Option<At>,
    author: &Caller,
) -> Result<bool> {
    let old = Definition::of_row(row);
    let new = merged(&old, given, reset);
    may_set_condition(tenant, old.only_if.as_deref(), new.only_if.as_deref())?;
    let enabled = new.enabled.unwrap_or(true);
    let call_given = !given.handler.is_empty() || given.args.is_some() || given.time_arg.is_some();
    let checked = new.check(tenant, author, enabled || call_given)?;
    if given.until.is_some() {
        new.check_until()?;
    }
    if new.after() != old.after() && !new.after().is_empty() {
        follow::check(tenant, table, &new.name, new.after())?;
    }
    let now = clock::now();
    let plan = checked.plan(&new, now, row.get(Schedules::ID).unwrap_or_default().low());
    let mut planned = Redefinition::new(row, &old, &new, How::Altered, plan, now).planned()?;
    if let Some(at) = next_run {
        let call = Call { schedule: &new.name, tenant: &tenant.name };
        if !enabled || planned.repeats == 0 {
            let (why, also) = if enabled { ("Its repeats are used up.", "repeats => 1") } else { ("It is disabled.", "enabled => true") };
            return Err(Error::invalid("next_run is given for a schedule that does not fire").detail(why).hint(format!(
                "{} {}",
                call.alter(at, also),
                call.fire()
            )));
        }
        let before = planned.next_of_rule();
        planning::run_at(&mut planned, &new, &plan, at, now)?;
        if let Some(before) = before.filter(|before| *before < at) {
            call.tell_of_passed_over(&plan, before, at);
        }
    }
    if given.jitter.is_some() || given.overlap.is_some() || new.rule != old.rule {
        warn_of_delays(&new, &plan, Span::ZERO);
    }
    if write(table, row, &new, &checked, &planned, author, Author::Hand) == Written::Overtaken {
        return Ok(false);
    }
    if given.after.is_some() {
        // Also those that it named before: it mends what somebody's DELETE took.
        follow::link(table, &new.name, &[], new.after())?;
    }
    follow::link(table, &new.name, old.after(), new.after())?;
    announce(tenant, planned.next)?;
    Ok(true)
}

/// Parameters that can go back to what is inherited, and aren't given at the same time.
fn check_reset(args: &Args, reset: &[String]) -> Result<()> {
    for parameter in reset {
        match DefinitionArgs::NAMES.iter().position(|p| p == parameter) {
            Some(DefinitionArgs::NAME..=DefinitionArgs::RULE) => {
                return Err(Error::invalid(format!("reset names \"{parameter}\", which a schedule can not be without")));
            }
            Some(n) if args.is_given(n) => {
                return Err(Error::invalid(format!("{parameter} is given, and reset names it too")));
            }
            Some(_) => {}
            None => {
                let error = Error::invalid(format!("reset names \"{parameter}\", which is no parameter of a schedule"));
                return Err(match nearest(parameter, DefinitionArgs::NAMES.iter().copied()) {
                    Some(near) => error.detail(format!("The nearest is \"{near}\".")),
                    None => error,
                });
            }
        }
    }
    Ok(())
}

fn merged(old: &Definition, given: &Definition, reset: &[String]) -> Definition {
    let text = |given: &String, old: &String| if given.is_empty() { old.clone() } else { given.clone() };
    macro_rules! pick {
        ($($field:ident),*) => {
            Definition {
                name: old.name.clone(),
                handler: text(&given.handler, &old.handler),
                rule: text(&given.rule, &old.rule),
                $($field: if reset.iter().any(|r| r == stringify!($field)) {
                    None
                } else {
                    given.$field.clone().or_else(|| old.$field.clone())
                },)*
            }
        };
    }
    let mut new = pick!(
        args,
        tz,
        start_at,
        until,
        repeats,
        catch_up,
        catch_up_limit,
        deadline,
        overlap,
        jitter,
        month_end,
        day_and,
        time_arg,
        only_if,
        active_hours,
        after,
        after_outcome,
        task,
        enabled,
        tags,
        description
    );
    if new.after().is_empty() {
        // An empty list is none; what counts after nobody is nothing.
        new.after = None;
        if given.after_outcome.is_none() {
            new.after_outcome = None;
        }
    }
    new
}

/// tq_unschedule(name, tenant)
pub fn unschedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unschedule()");
    let name = name_of(args)?;
    let tenant = schedules::resolve_to_change(args.text(1).as_deref())?;
    Ok(Ret::Bool(remove(&tenant, &name)?))
}

/// False: there is none of this name.
pub fn remove(tenant: &Rc<Tenant>, name: &str) -> Result<bool> {
    let table = tenant.open(tenant.schedule, Access::Write)?;
    // A tick may be advancing the row just now: what it makes of it goes too.
    for _ in 0..TRIES {
        let Some(row) = follow::find(&table, name) else { return Ok(false) };
        of_all::refuse(&row)?;
        let followers = follow::followers(&table, &row);
        if let Some(first) = followers.first() {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("schedule \"{name}\" can't go while others come after it"),
            )
            .detail(format!("They are \"{}\".", followers.join("\", \"")))
            .hint(format!("Run tq_alter_schedule({}, after => …) first, or remove it.", pgrx::spi::quote_literal(first))));
        }
        if table.delete(&row) == Write::Done {
            transaction::see_own_writes();
            follow::link(&table, name, &follow::after_of(&row), &[])?;
            // It may have stood in the way of one of all tenants.
            definitions::visit(&tenant.name)?;
            return Ok(true);
        }
    }
    Err(contended(name))
}

/// tq_fire(name, tenant): one task of the schedule now. The plan is not touched, and nothing that belongs
/// to it is asked: neither its hours nor its condition nor how often it may still fire.
pub fn fire(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_fire()");
    let name = name_of(args)?;
    let tenant = schedules::resolve_to_change(args.text(1).as_deref())?;
    let table = tenant.open(tenant.schedule, Access::Write)?;
    let Some(row) = follow::find(&table, &name) else { return Err(unknown(&name, &tenant, &table)) };
    let schedule = Schedule::of(&tenant, &row)?;
    let tasks = tenant.open(tenant.task, Access::Write)?;
    // Who fires it answers for the task.
    let queue = Queue::of(tenant.clone(), tasks, author(), By::Caller);
    let now = clock::now();
    let handler_name = row.text(Schedules::HANDLER).unwrap_or_default();
    let task = crate::work::fire::task_of(&schedule, &tenant, &row, &handler_name, now)?;
    let id = match enqueue::add_unless_taken(&queue, &task)? {
        Added::Task(id) => id,
        // Not a task of this schedule's.
        Added::Theirs(theirs) => return Ok(Ret::Uuid(theirs)),
    };
    follow::change(&table, &name, |row| {
        let runs = row.get(Schedules::RUN_COUNT).unwrap_or(0).saturating_add(1);
        let columns = vec![Schedules::LAST_RUN.to(now), Schedules::LAST_TASK.to(id), Schedules::RUN_COUNT.to(runs)];
        Some(follow::Rewrite { state: Notes::of(row), columns })
    })?;
    Ok(Ret::Uuid(id))
}

/// A schedule on its way through the coming fire times.
struct Ahead {
    schedule: Schedule,
    left: i32,
    /// What is due already, and the next one.
    known: VecDeque<At>,
    /// Whether there may be more behind those.
    goes_on: bool,
}

impl Ahead {
    fn of(schedule: Schedule, next_run: At, now: At) -> Ahead {
        let mut state = schedule.state.clone();
        let (due, next) = schedule.due(Some(next_run), &mut state, now, FORESEEN);
        let known = due.into_iter().map(At::from).chain(next).collect();
        Ahead { left: schedule.repeats, known, goes_on: next.is_some(), schedule }
    }

    /// The one behind `at`.
    fn next(&mut self, at: At) -> Option<At> {
        match self.known.pop_front() {
            None if self.goes_on => self.schedule.plan().next_after(instant(at)).map(At::from),
            known => known,
        }
    }

    /// Whether it runs at one of its fire times.
    fn runs_at(&mut self, at: At) -> bool {
        let open = self.schedule.active_hours.as_ref().is_none_or(|hours| hours.contain(self.schedule.zone, instant(at)));
        if open {
            self.left -= i32::from(self.left > 0);
        }
        open
    }
}

/// tenant_q.upcoming(until, tenant): fire times of all schedules in order.
pub fn upcoming(args: &Args) -> Result<Ret> {
    let until = args.time(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "until is null"))?;
    let tenant = schedules::resolve_to_read(args.text(1).as_deref())?;
    let table = tenant.open_to_look(tenant.schedule)?;
    let now = clock::now();
    let mut ahead: Vec<Ahead> = Vec::new();
    let mut heap: BinaryHeap<Reverse<(At, usize)>> = BinaryHeap::new();
    for row in table.scan(&Schedules::DUE, &[Schedules::NEXT_RUN.at_most(until)]) {
        if row.get(Schedules::ENABLED) == Some(true)
            && let Some(next) = row.get(Schedules::NEXT_RUN)
            && let Ok(schedule) = Schedule::of(&tenant, &row)
            && (schedule.of_all.is_none() || tenant.fan_out)
        {
            let mut coming = Ahead::of(schedule, next, now);
            heap.extend(coming.next(next).map(|at| Reverse((at, ahead.len()))));
            ahead.push(coming);
        }
    }
    let mut rows: Vec<Json> = Vec::new();
    while let Some(Reverse((at, place))) = heap.pop() {
        if at > until {
            break;
        }
        pgrx::check_for_interrupts!();
        let coming = &mut ahead[place];
        if coming.left == 0 {
            continue;
        }
        if rows.len() >= FORESEEN {
            return Err(Error::limit(format!("more than {FORESEEN} fire times come until then"))
                .detail(format!("So many come until {}.", time_json(Some(at)).as_str().unwrap_or_default()))
                .hint("Pass an earlier until, or look at one rule with tq_next_runs()."));
        }
        if coming.runs_at(at) {
            rows.push(json!({ "schedule": coming.schedule.name, "fire_time": time_json(Some(at)) }));
        }
        heap.extend(coming.next(at).map(|next| Reverse((next, place))));
    }
    Ok(Ret::Json(rows.into()))
}

/// tq_schedule(name, handler, rule, args, tz, start_at, until, repeats, catch_up, catch_up_limit, deadline, overlap,
/// jitter, month_end, day_and, time_arg, only_if, active_hours, after, after_outcome, task, enabled, tags,
/// description, on_conflict, tenant)
fn schedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_schedule()");
    let definition = Definition::of_args(args);
    definition.check_given()?;
    let tenant = schedules::resolve_to_change(args.text(TqSchedule::TENANT).as_deref())?;
    let conflict = args.text(TqSchedule::ON_CONFLICT).map_or(Ok(OnRedeclared::default()), |word| OnRedeclared::known("on_conflict", &word));
    if conflict.is_err() {
        // What is wrong with the schedule itself comes first.
        definition.check(&tenant, &rights::author(), true)?;
    }
    let defined = define(&tenant, &definition, conflict?.into(), &rights::author(), Author::Hand)?;
    if settings::exclude_schemas().contains(&tenant.name) {
        Error::new(SqlState::WARNING, format!("no schedule runs in tenant \"{}\"", tenant.name))
            .detail("The schema is one of tenant_q.exclude_schemas.")
            .hint("Take it off that setting, or schedule in another tenant.")
            .warn();
    }
    Ok(Ret::Uuid(defined.id))
}

/// tenant_q.next_runs(rule, tz, after, n, start_at, month_end, day_and): an array of instants.
fn next_runs(args: &Args) -> Result<Ret> {
    let rule = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "rule is null"))?;
    let rule = Rule::parse(&rule, args.bool(6).unwrap_or(false))?;
    let tz = args.text(1);
    let zone = match (&tz, tenant::resolve(None)) {
        (Some(tz), _) => zone::parse_zone(tz)?,
        (None, Ok(tenant)) => schedules::zone::of(&tenant, None)?,
        (None, Err(_)) => schedules::zone::default()?,
    };
    let after = args.time(2).unwrap_or_else(clock::now);
    let n = args.int(3).unwrap_or(5);
    if !(0..=10_000).contains(&n) {
        return Err(Error::invalid(format!("n is {n}")).hint("Between 0 and 10,000 fire times are computed."));
    }
    let start_at = args.time(4);
    check_date("after", Some(after))?;
    check_date("start_at", start_at)?;
    let month_end = args.text(5).as_deref().map_or(Ok(MonthEnd::Clamp), MonthEnd::parse)?;
    let anchor = start_at.unwrap_or(after);
    let plan = Plan {
        rule: &rule,
        zone,
        anchor: instant(anchor),
        start_at: start_at.map(instant),
        until: None,
        active_hours: None,
        back_to: None,
        month_end,
        seed: 0,
    };
    let mut found = Vec::new();
    let mut from = instant(after);
    while found.len() < n as usize
        && let Some(next) = plan.next_after(from)
    {
        found.push(At::from(next));
        from = next;
    }
    Ok(Ret::Times(found))
}

/// tq_describe(rule)
fn describe_rule(args: &Args) -> Result<Ret> {
    let text = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "rule is null"))?;
    Ok(Ret::Text(describe::describe(&Rule::parse(&text, false)?)))
}

/// tenant_q.tzdata_version()
fn tzdata(_args: &Args) -> Result<Ret> {
    Ok(Ret::Text(zone::TZDATA_VERSION.to_string()))
}

sql_functions! {
    tq_schedule, pg_finfo_tq_schedule => schedule;
    tq_alter_schedule, pg_finfo_tq_alter_schedule => alter;
    tq_unschedule, pg_finfo_tq_unschedule => unschedule;
    tq_fire, pg_finfo_tq_fire => fire;
    tenant_q_upcoming, pg_finfo_tenant_q_upcoming => upcoming;
    tq_export_all, pg_finfo_tq_export_all => carry::export;
    tq_import, pg_finfo_tq_import => carry::import;
    tenant_q_next_runs, pg_finfo_tenant_q_next_runs => next_runs;
    tq_describe, pg_finfo_tq_describe => describe_rule;
    tenant_q_tzdata_version, pg_finfo_tenant_q_tzdata_version => tzdata;
}
