//! Work for all tenants. The caller writes one row; the scheduler spreads it after the commit, a few
//! tenants a transaction, because one transaction that touched all of them would run the server out of
//! locks.
//!
//! Each tenant has a row of its own that says what became of it there, written in the transaction that
//! enqueues its task: that row is why a kill loses nothing and doubles nothing, and why tenants that finish
//! at the same time don't wait for each other. Completing a task that belongs to a fan-out updates it by
//! OID, as everything of ours is written: the executor's role needs no right on the registry.

use crate::calls::tasks::task_object;
use crate::calls::tenants::{self, require_any_handler};
use crate::calls::views as monitor;
use crate::postgres::call::{self, Args, Ret};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::clock::{self, Micros, NEVER};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Compare, Gone, Key, Row, Table, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, row_lock, sandbox, timeout, transaction};
use crate::pure::schedule::spread;
use crate::shared::{Db, wake};
use crate::task::{self, col};
use crate::tenant::{self, Tenant};
use crate::work::enqueue::{By, Caller, NewTask, Queue};
use crate::{handler, settings, sql_functions};
use chrono::TimeDelta;
use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

/// Tenants of one transaction: each takes about fifteen locks.
const TENANTS: usize = 50;
/// Tenants that one process reaches: each costs it memory for good.
const WORN: usize = 1000;
/// A tenant whose tables somebody holds is tried again after this.
const LOCKED_AGAIN: Micros = 1_000_000;
const LOG_EVERY: Micros = 60_000_000;
/// When the registry itself can't be written.
const FAILED_AGAIN: Micros = 5_000_000;
/// A tenant that fails when it is visited.
const VISIT_AGAIN: Micros = 60_000_000;
/// Lines that are removed at a time, each in a transaction of its own.
const PRUNED: i64 = 20;
/// Milliseconds that a lock is waited for.
const LOCK_TIMEOUT: i32 = 5;
/// Times that a row which others keep changing is read again.
const TRIES: usize = 20;
/// The fan-out of those that are to be visited: what all tenants have is to reach them.
pub const VISIT: u128 = 0;
/// A tenant that one step has not brought everything goes on after this.
const PART_AGAIN: Micros = 100_000;
/// After so long the other tenants that are to be visited are left to the next transaction.
pub const STEP: Duration = Duration::from_millis(100);
/// Longest reason that is kept, in bytes.
const REASON: usize = 1000;

/// Columns of tenant_q.fanout (sql/fanout.sql).
pub mod fcol {
    pub const ID: usize = 1;
    pub const KIND: usize = 2;
    pub const NAME: usize = 3;
    pub const HANDLER: usize = 5;
    pub const ARGS: usize = 6;
    pub const TASK: usize = 7;
    pub const TENANTS: usize = 8;
    pub const STAGGER: usize = 9;
    pub const CREATED_BY: usize = 10;
    pub const BY_SUPERUSER: usize = 11;
    pub const CREATED_AT: usize = 12;
    pub const SERVED_TO: usize = 13;
    pub const SPREAD_AGAIN: usize = 14;
}
/// `tenant_q.fanout.kind`.
pub mod kind {
    pub const TASKS: u8 = b'a';
    pub const DEFINITION: u8 = b'd';
}
/// Columns of tenant_q.fanout_tenant.
mod ocol {
    pub const FANOUT: usize = 1;
    pub const TENANT: usize = 2;
    pub const STATE: usize = 3;
    pub const TASK: usize = 4;
    pub const REASON: usize = 5;
    pub const FINISHED_AT: usize = 6;
}
/// `tenant_q.fanout_tenant.state`; how a task ended is written as in tq_result.
pub mod state {
    pub const ENQUEUED: u8 = b'q';
    /// A definition has reached the tenant.
    pub const DEFINED: u8 = b'd';
    pub const SKIPPED: u8 = b's';
    pub const QUARANTINED: u8 = b'x';
}

thread_local! {
    /// Names that have got a line more than they had: the oldest ones may go. By the spreader, for a tick
    /// waits for nobody.
    static TO_PRUNE: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

pub fn prune_later(name: &str) {
    TO_PRUNE.with_borrow_mut(|names| names.insert(name.to_string()));
}

/// One of the extension's own tables.
pub fn open(name: &str, access: Access) -> Result<Table> {
    let gone = || Error::state(format!("table tenant_q.{name} is gone"));
    let oid = catalog::relation_oid(tenant::registry()?.schema, name).ok_or_else(gone)?;
    Table::open(oid, access).ok_or_else(gone)
}

pub fn spi(e: pgrx::spi::Error) -> Error {
    Error::new("XX000", e.to_string())
}

/// Why work for all tenants leaves tenant `t` out, or NULL; $2 = the setting exclude_schemas.
pub const LEFT_OUT: &str = "CASE WHEN t.name OPERATOR(pg_catalog.=) ANY ($2) THEN 'the schema is one of tenant_q.exclude_schemas'
    WHEN NOT t.fan_out THEN 'fan_out is off'
    WHEN NOT t.ready THEN 'not ready'
    WHEN t.suspended IS NOT NULL THEN pg_catalog.concat('suspended: ', t.suspended)
    WHEN EXISTS (SELECT FROM tenant_q.pause p WHERE p.tenant OPERATOR(pg_catalog.=) ANY (ARRAY['', t.name]) AND p.queue OPERATOR(pg_catalog.=) ''
                    AND p.handler OPERATOR(pg_catalog.=) '' AND p.until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) THEN 'paused' END";

/// A tenant's place within `stagger`: always the same.
pub fn stagger(tenant: &str, limit: Micros) -> Micros {
    let seed = task::fan_id(0, tenant) as u64;
    spread::stagger(seed, TimeDelta::microseconds(limit.max(0))).num_microseconds().unwrap_or(0)
}

/// Names of a `tenants =>` parameter, all of them tenants.
pub fn check_tenants(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::invalid("tenants is empty").hint("Leave it out for all tenants."));
    }
    let known = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT n FROM pg_catalog.unnest($1) n WHERE NOT EXISTS (SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) n) LIMIT 1",
                None,
                &[names.to_vec().into()],
            )?
            .map(|row| row.get::<String>(1))
            .collect::<std::result::Result<Vec<_>, _>>()
        })
    })
    .map_err(spi)?;
    match known.into_iter().flatten().next() {
        None => Ok(()),
        Some(unknown) => Err(tenant::not_attached(&unknown)).map_err(|e| Error::undefined(format!("tenants: {}", e.message))),
    }
}

/// tq_async_all(handler, args, tenants, stagger, task)
fn async_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async_all()");
    let handler = args
        .text(0)
        .filter(|h| !h.is_empty())
        .ok_or_else(|| Error::new("22004", "handler is null or empty").hint("Pass the name of a registered handler."))?;
    require_any_handler(&handler)?;
    let document = args.json(4);
    let mut base = document.as_ref().map_or(Ok(NewTask::default()), |d| task_object(&d.value()))?;
    if !base.handler.is_empty() || base.args.is_some() || base.id.is_some() {
        return Err(Error::invalid("task says what the call says: handler, args or id")
            .hint("Leave these keys out; every tenant's task gets an id of its own."));
    }
    base.args = args.json(1);
    base.check()?;
    base.refuse_sync("all tenants")?;
    if let Some(names) = args.texts(2) {
        check_tenants(&names)?;
    }
    if args.interval(3).is_some_and(|i| i < 0) {
        return Err(Error::invalid("stagger is negative"));
    }
    let user = sandbox::current_user();
    let caller = Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser: sandbox::is_superuser(user) };
    let (id, now) = (task::new_id(), clock::now());
    let name = base.name.clone().unwrap_or_else(|| handler.clone());
    open("fanout", Access::Write)?.insert(&[
        Value::Uuid(id),
        Value::Char(kind::TASKS),
        Value::Text(&name),
        Value::Time(now),
        Value::Text(&handler),
        Value::json(base.args.as_ref()),
        Value::json(document.as_ref()),
        args.value(2),
        args.value(3),
        Value::Text(&caller.name),
        Value::Bool(caller.superuser),
        Value::Time(now),
        Value::Null,
        Value::Time(now),
    ]);
    wake::fan_out();
    if crate::shared::get().is_none() {
        crate::work::enqueue::warn_not_preloaded();
    }
    Ok(Ret::Uuid(id))
}

/// What one turn of spreading did.
enum Step {
    /// Tenants reached.
    Served(usize),
    /// What is left can't be done before.
    Later(Micros),
    Nothing,
}

/// Spreads what is to go to all tenants; one a scheduler.
#[derive(Default)]
pub struct Spreader {
    /// `Db::fanouts` as it was when there was last something to wait for.
    seen: u32,
    again: Micros,
    /// So many tenants are served in transactions of their own, because one of them fails.
    singly: usize,
    reached: usize,
    /// When an error that passes was last told of.
    logged: Micros,
}

impl Spreader {
    /// One transaction's worth; false: there is nothing to do now.
    pub fn turn(&mut self, db: &Db) -> bool {
        if let Some(name) = TO_PRUNE.with_borrow_mut(BTreeSet::pop_first) {
            prune(&name);
        }
        let wanted = db.fanouts.load(SeqCst);
        if wanted == 0 || wanted == self.seen && clock::now() < self.again {
            return false;
        }
        (self.seen, self.again) = (wanted, 0);
        match self.step() {
            Step::Served(n) => self.reached += n,
            Step::Later(at) => self.again = at,
            // Unless another one has committed meanwhile.
            Step::Nothing => drop(db.fanouts.compare_exchange(wanted, 0, SeqCst, SeqCst)),
        }
        true
    }
    /// When there is something to do again.
    pub fn due(&self, db: &Db) -> Micros {
        if TO_PRUNE.with_borrow(|names| !names.is_empty()) {
            return 0;
        }
        match db.fanouts.load(SeqCst) {
            0 => NEVER,
            wanted if wanted != self.seen => 0,
            _ => self.again,
        }
    }
    /// Tenants that were handed something.
    pub fn reached(&self) -> usize {
        self.reached
    }
    /// A fresh process is to go on.
    pub fn is_worn(&self) -> bool {
        self.reached >= WORN
    }

    fn step(&mut self) -> Step {
        let limit = if self.singly > 0 { 1 } else { TENANTS };
        let at = RefCell::new(None);
        let spread = || {
            // Who is waited for may be waiting for a name that is kept here.
            timeout::limit_locks(LOCK_TIMEOUT);
            spread(limit, &at)
        };
        let failure = match transaction::run(spread) {
            Ok(step) => {
                self.singly = self.singly.saturating_sub(1);
                return step;
            }
            Err(failure) => failure,
        };
        if failure.is(Own::Changed) {
            // Nothing was written: once more, as it is now.
            return Step::Served(0);
        }
        let (fanout, tenant) = match at.into_inner() {
            Some((fanout, Some(tenant))) => (fanout, tenant),
            place => {
                self.log("work for all tenants could not be spread", &failure);
                let put_off = place.is_some_and(|(fanout, _)| transaction::run(|| put_off(fanout)).is_ok());
                return if put_off { Step::Served(0) } else { Step::Later(clock::now() + FAILED_AGAIN) };
            }
        };
        if limit > 1 {
            // Which one of them it was: the others are not to suffer.
            self.singly = TENANTS;
            return Step::Served(0);
        }
        self.singly -= 1;
        self.log(&format!("work for all tenants could not be handed to {}", caught::one_line(&tenant)), &failure);
        let pass_by = || {
            timeout::limit_locks(LOCK_TIMEOUT);
            pass_by(fanout, &tenant, &failure)
        };
        match transaction::run(pass_by) {
            Ok(()) => Step::Served(1),
            Err(_) => Step::Later(clock::now() + FAILED_AGAIN),
        }
    }

    /// One that passes by itself comes again every second or two.
    fn log(&mut self, what: &str, failure: &Failure) {
        if !passes(&failure.sqlstate) || clock::now() - self.logged > LOG_EVERY {
            self.logged = clock::now();
            caught::log_failure(what, failure);
        }
    }
}

/// Errors that pass by themselves: locks, conflicts, cancels, resources; somebody enqueues the very task by hand.
fn passes(sqlstate: &str) -> bool {
    matches!(sqlstate, "55P03" | "23505") || ["40", "53", "57", "58"].iter().any(|class| sqlstate.starts_with(class))
}

/// Somebody changed what was to be written.
fn lost() -> Failure {
    Failure::ours(Own::Changed, "40001", "the fan-out was changed meanwhile")
}

/// The other fan-outs go on before one that can't be ended.
fn put_off(fanout: u128) -> std::result::Result<(), Failure> {
    let fanouts = open("fanout", Access::Write)?;
    let Some(row) = fanouts.find(&[fcol::ID as i16], Value::Uuid(fanout)) else { return Ok(()) };
    if row_lock::try_lock(&fanouts, &row)
        && fanouts.update(&row, &[(fcol::SPREAD_AGAIN, Value::Time(clock::now() + FAILED_AGAIN))]) == Gone::Done
    {
        return Ok(());
    }
    Err(lost())
}

/// The others go on behind a tenant that fails: for good, or until all have been reached.
fn pass_by(fanout: u128, tenant: &str, failure: &Failure) -> std::result::Result<(), Failure> {
    if fanout == VISIT {
        let outcomes = open("fanout_tenant", Access::Write)?;
        let again = clock::now() + if passes(&failure.sqlstate) { LOCKED_AGAIN } else { VISIT_AGAIN };
        if let Some(row) = outcome(&outcomes, VISIT, tenant)
            && row_lock::try_lock(&outcomes, &row)
        {
            let _: Gone = outcomes.update(&row, &[(ocol::FINISHED_AT, Value::Time(again))]);
        }
        return Ok(());
    }
    let fanouts = open("fanout", Access::Write)?;
    let Some(row) = fanouts.find(&[fcol::ID as i16], Value::Uuid(fanout)) else { return Ok(()) };
    if !passes(&failure.sqlstate) {
        note(&open("fanout_tenant", Access::Write)?, fanout, tenant, state::SKIPPED, None, Some(&failure.message));
    }
    match fanouts.update(&row, &[(fcol::SERVED_TO, Value::Text(tenant))]) {
        Gone::Done => Ok(()),
        Gone::Lost => Err(lost()),
    }
}

/// What became of it in this tenant, for the first time or anew.
pub fn note(outcomes: &Table, fanout: u128, tenant: &str, state: u8, task: Option<u128>, reason: Option<&str>) {
    let reason = reason.map(cut);
    match outcome(outcomes, fanout, tenant) {
        Some(row) => {
            let changes = [
                (ocol::STATE, Value::Char(state)),
                (ocol::TASK, Value::uuid(task)),
                (ocol::REASON, Value::text(reason.as_deref())),
                (ocol::FINISHED_AT, Value::Null),
            ];
            // Lost: its retention was faster.
            let _: Gone = outcomes.update(&row, &changes);
        }
        None => outcomes.insert(&[
            Value::Uuid(fanout),
            Value::Text(tenant),
            Value::Char(state),
            Value::uuid(task),
            Value::text(reason.as_deref()),
            Value::Null,
        ]),
    }
}

fn cut(text: &str) -> String {
    let clean = text.replace('\0', "");
    clean[..clean.floor_char_boundary(REASON)].to_string()
}

pub fn outcome(outcomes: &Table, fanout: u128, tenant: &str) -> Option<Row> {
    let mut found = None;
    let keys = [
        Key { column: 1, compare: Compare::Eq, value: Value::Uuid(fanout) },
        Key { column: 2, compare: Compare::Eq, value: Value::Text(tenant) },
    ];
    outcomes.scan(outcomes.index_with(&[ocol::FANOUT as i16, ocol::TENANT as i16]), &keys, None, false, |row| {
        found = Some(row);
        false
    });
    found
}

struct Next {
    name: String,
    schema: u32,
    left_out: Option<String>,
}

/// Tenants that this one hasn't reached, in the order of their names.
fn next_tenants(fanout: &Row, after: &str, limit: usize) -> Result<Vec<Next>> {
    let id = call::uuid(fanout.uuid(fcol::ID).unwrap_or(0));
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                &format!("SELECT t.name, t.schema_oid, {LEFT_OUT} FROM tenant_q.tenant t
                  WHERE t.name OPERATOR(pg_catalog.>) $4 AND ($3 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($3))
                    AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND o.tenant OPERATOR(pg_catalog.=) t.name)
                  ORDER BY t.name LIMIT $5"),
                None,
                &[id.into(), settings::exclude_schemas().into(), fanout.texts(fcol::TENANTS).into(), after.into(), (limit as i64).into()],
            )?
            .map(|row| {
                Ok(Next {
                    name: row.get::<String>(1)?.unwrap_or_default(),
                    schema: row.get::<pg_sys::Oid>(2)?.map_or(0, |o| o.to_u32()),
                    left_out: row.get::<String>(3)?,
                })
            })
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)
}

/// Brings what all tenants have to those that are to be visited: how many, and when to come again.
fn visit(limit: usize, at: &RefCell<Place>, now: Micros) -> std::result::Result<(usize, Micros), Failure> {
    let outcomes = open("fanout_tenant", Access::Write)?;
    let (mut rows, mut later) = (Vec::new(), NEVER);
    let key = Key { column: 1, compare: Compare::Eq, value: Value::Uuid(VISIT) };
    // `finished_at`: not before; `reason`: how far it has got.
    outcomes.scan(outcomes.index_with(&[ocol::FANOUT as i16, ocol::TENANT as i16]), &[key], None, false, |row| {
        match row.time(ocol::FINISHED_AT) {
            Some(again) if again > now => later = later.min(again),
            _ if row_lock::try_lock(&outcomes, &row) => rows.push(row),
            // Somebody asks for it anew just now.
            _ => later = later.min(now + LOCKED_AGAIN),
        }
        rows.len() < limit
    });
    let began = clock::tick();
    let mut visited = 0;
    for row in &rows {
        if visited > 0 && began.elapsed() > STEP {
            break;
        }
        let name = row.text(ocol::TENANT).unwrap_or_default();
        *at.borrow_mut() = Some((VISIT, Some(name.clone())));
        // Whoever is no tenant any more is visited when it is one again.
        let adopted = match catalog::schema_oid(&name).map(tenant::by_oid) {
            Some(Ok(tenant)) if !tenant::keep(&tenant)? => Adopted::Locked,
            Some(Ok(tenant)) => crate::fanout::definitions::adopt(&tenant, &outcomes, row.str(ocol::REASON), now)?,
            _ => Adopted::Whole,
        };
        let gone = match adopted {
            Adopted::Whole => outcomes.delete(row),
            Adopted::Part(place) => {
                let again = Value::Time(now + PART_AGAIN);
                outcomes.update(row, &[(ocol::REASON, Value::Text(&place)), (ocol::FINISHED_AT, again)])
            }
            Adopted::Locked => outcomes.update(row, &[(ocol::FINISHED_AT, Value::Time(now + LOCKED_AGAIN))]),
        };
        if gone == Gone::Lost {
            return Err(lost());
        }
        visited += 1;
    }
    Ok((visited, later))
}

/// What a transaction of spreading was about: a fan-out, and there one tenant.
type Place = Option<(u128, Option<String>)>;

/// Hands the oldest open fan-out to its next tenants; `at` says to which, should it fail.
fn spread(limit: usize, at: &RefCell<Place>) -> std::result::Result<Step, Failure> {
    let now = clock::now();
    let (visited, mut later) = visit(limit, at, now)?;
    if visited > 0 {
        return Ok(Step::Served(visited));
    }
    let fanouts = open("fanout", Access::Write)?;
    let mut first = None;
    fanouts.scan(fanouts.index_with(&[fcol::SPREAD_AGAIN as i16, fcol::ID as i16]), &[], None, false, |row| {
        // One that somebody is just changing (a tenant's new name in its list, say) is not waited for.
        if row_lock::try_lock(&fanouts, &row) {
            first = Some(row);
        } else {
            later = later.min(now + LOCKED_AGAIN);
        }
        first.is_none()
    });
    let Some(row) = first else { return Ok(if later == NEVER { Step::Nothing } else { Step::Later(later) }) };
    let again = row.time(fcol::SPREAD_AGAIN).unwrap_or(now);
    if again > now {
        return Ok(Step::Later(again.min(later)));
    }
    let id = row.uuid(fcol::ID).unwrap_or(0);
    *at.borrow_mut() = Some((id, None));
    let served_to = row.text(fcol::SERVED_TO);
    let mut tenants = next_tenants(&row, served_to.as_deref().unwrap_or(""), limit)?;
    if tenants.is_empty() && served_to.is_some() {
        // Those that were locked, or got a name before the last one, once more from the start.
        tenants = next_tenants(&row, "", 1)?;
        if !tenants.is_empty() {
            let changes = [(fcol::SERVED_TO, Value::Null), (fcol::SPREAD_AGAIN, Value::Time(now + LOCKED_AGAIN))];
            return if fanouts.update(&row, &changes) == Gone::Done { Ok(Step::Served(0)) } else { Err(lost()) };
        }
    }
    let Some(last) = tenants.last().map(|t| t.name.clone()) else { return finish(&fanouts, &row) };
    let outcomes = open("fanout_tenant", Access::Write)?;
    let tasks = row.char(fcol::KIND) == kind::TASKS;
    for Next { name, schema, left_out } in &tenants {
        *at.borrow_mut() = Some((id, Some(name.clone())));
        let served = match (left_out, tenant::by_oid(*schema)) {
            // Whoever is just being renamed, detached or dropped is what it will be then.
            (_, Ok(tenant)) if tenant.name != *name || !tenant::keep(&tenant)? => Served::Locked,
            (Some(reason), _) if tasks => Served::Skipped(reason.clone()),
            (_, Err(error)) => Served::Skipped(error.message),
            (_, Ok(tenant)) if tasks => enqueue(&row, id, &tenant, now)?,
            (_, Ok(tenant)) => crate::fanout::definitions::serve(&row, &tenant)?,
        };
        match served {
            Served::Defined => note(&outcomes, id, name, state::DEFINED, None, None),
            Served::Enqueued(task) => note(&outcomes, id, name, state::ENQUEUED, Some(task), None),
            Served::Skipped(reason) => note(&outcomes, id, name, state::SKIPPED, None, Some(&reason)),
            Served::Locked => {}
        }
    }
    *at.borrow_mut() = Some((id, None));
    match fanouts.update(&row, &[(fcol::SERVED_TO, Value::Text(&last))]) {
        Gone::Done => Ok(Step::Served(tenants.len())),
        Gone::Lost => Err(lost()),
    }
}

/// What a visit has come to.
pub enum Adopted {
    Whole,
    /// As far as this place.
    Part(String),
    /// Somebody holds its tables.
    Locked,
}

pub enum Served {
    Enqueued(u128),
    /// Its schedule is as the definition says.
    Defined,
    Skipped(String),
    /// Somebody holds its tables.
    Locked,
}

/// A tenant's task of tq_async_all. What is wrong with this tenant is an outcome, no error.
fn enqueue(row: &Row, fanout: u128, tenant: &Rc<Tenant>, now: Micros) -> Result<Served> {
    let skipped = |e: Error| {
        Ok(Served::Skipped(match e.detail {
            Some(detail) => format!("{}: {detail}", e.message),
            None => e.message,
        }))
    };
    let table = match tenant.try_open(tenant.task, Access::Write) {
        Ok(Some(table)) => table,
        Ok(None) => return Ok(Served::Locked),
        Err(e) => return skipped(e),
    };
    let handler = match handler::require(tenant, row.str(fcol::HANDLER).unwrap_or("")) {
        Ok(handler) => handler,
        Err(e) => return Ok(Served::Skipped(e.message)),
    };
    // Before anything is written: a full table of entries is everybody's trouble, and passes.
    tenant.entry(handler.run_as)?;
    let base = row.json(fcol::TASK).map_or(Ok(NewTask::default()), |d| task_object(&d))?;
    let asked = row.time(fcol::CREATED_AT).unwrap_or(now);
    let start = base.run_at.or(base.delay.map(|d| asked.saturating_add(d))).unwrap_or(asked);
    let limit = row.interval(fcol::STAGGER).map_or(0, |i| call::micros_of(&i));
    let new = NewTask {
        handler: handler.name.clone(),
        args: row.raw(fcol::ARGS).map(Jsonb::from_datum),
        id: Some(task::fan_id(fanout, &tenant.name)),
        run_at: Some(start.saturating_add(stagger(&tenant.name, limit))),
        delay: None,
        fanout: Some(fanout),
        ..base
    };
    let caller = Caller { name: row.text(fcol::CREATED_BY).unwrap_or_default(), superuser: row.bool(fcol::BY_SUPERUSER).unwrap_or(false) };
    let queue = Queue::of(tenant.clone(), table, caller, By::Engine);
    match crate::work::enqueue::add(&queue, &new) {
        Ok(id) if new.id != Some(id) && !is_of(&queue.table, id, Some(fanout)) => Ok(Served::Skipped(TAKEN.into())),
        Ok(id) => Ok(Served::Enqueued(id)),
        Err(e) => skipped(e),
    }
}

/// Why a tenant has no task of a fan-out: it has one of the same unique_key, which tells others how it ends.
pub const TAKEN: &str = "unique_key is taken by another task";

/// Whether the task that a unique_key has led to belongs to this fan-out: it has taken another one's place.
pub fn is_of(tasks: &Table, id: u128, fanout: Option<u128>) -> bool {
    transaction::see_own_writes();
    tasks.find(&[col::ID as i16], Value::Uuid(id)).is_some_and(|row| of_options(row.json(col::OPTIONS)) == fanout)
}

/// All have been reached: names that are nobody's are said, and old ones go.
fn finish(fanouts: &Table, row: &Row) -> std::result::Result<Step, Failure> {
    let id = call::uuid(row.uuid(fcol::ID).unwrap_or(0));
    let name = row.str(fcol::NAME).unwrap_or("");
    if row.char(fcol::KIND) == kind::DEFINITION && !crate::fanout::definitions::is_defined(name)? {
        // Removed everywhere: nothing is left to tell of it.
        run("DELETE FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1", &[id.into()])?;
        return if fanouts.delete(row) == Gone::Done { Ok(Step::Served(0)) } else { Err(lost()) };
    }
    if fanouts.update(row, &[(fcol::SERVED_TO, Value::Null), (fcol::SPREAD_AGAIN, Value::Null)]) == Gone::Lost {
        return Err(lost());
    }
    run(
        "INSERT INTO tenant_q.fanout_tenant (fanout, tenant, state, reason)
         SELECT DISTINCT $1, n, 's'::pg_catalog.\"char\", 'there is no such tenant any more' FROM pg_catalog.unnest($2) n
          WHERE NOT EXISTS (SELECT FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND o.tenant OPERATOR(pg_catalog.=) n)",
        &[id.into(), row.texts(fcol::TENANTS).into()],
    )?;
    prune_later(name);
    Ok(Step::Served(0))
}

pub fn run(sql: &str, args: &[DatumWithOid]) -> Result<()> {
    tenants::run(sql, args).map(|_| ())
}

/// The newest of each name are kept, and none for longer than a year. A line of which somebody holds a row (a
/// tenant that is just being renamed) stays until the next time.
fn prune(name: &str) {
    let old = transaction::run(|| Ok(old_lines(name)?));
    for id in old.iter().flatten() {
        let pruned = transaction::run(|| {
            timeout::limit_locks(LOCK_TIMEOUT);
            let id = call::uuid(*id);
            run("DELETE FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1", &[id.into()])?;
            run("DELETE FROM tenant_q.fanout f WHERE f.id OPERATOR(pg_catalog.=) $1", &[id.into()])?;
            Ok(())
        });
        if let Err(failure) = pruned
            && failure.sqlstate != "55P03"
        {
            caught::log_failure("an old line of tq_fanouts could not be removed", &failure);
        }
    }
}

fn old_lines(name: &str) -> Result<Vec<u128>> {
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "(SELECT f.id FROM tenant_q.fanout f
                   WHERE f.spread_again IS NULL AND f.kind OPERATOR(pg_catalog.<>) 'd' AND f.name OPERATOR(pg_catalog.=) $1
                   ORDER BY f.fire_time DESC, f.id DESC OFFSET $2 LIMIT $3)
                 UNION
                 (SELECT f.id FROM tenant_q.fanout f WHERE f.spread_again IS NULL AND f.kind OPERATOR(pg_catalog.<>) 'd'
                     AND f.fire_time OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) '1 year'::pg_catalog.interval) LIMIT $3)",
                None,
                &[name.into(), settings::fanout_keep().into(), PRUNED.into()],
            )?
            .map(|row| Ok(row.get::<pgrx::Uuid>(1)?.map_or(0, |id| u128::from_be_bytes(*id.as_bytes()))))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)
}

/// The fan-out that a task's options name.
fn of_options(options: Option<Json>) -> Option<u128> {
    let text = options?.get("fanout")?.as_str()?.to_string();
    uuid::Uuid::parse_str(&text).ok().map(|u| u.as_u128())
}

/// A task has become final: says so where it belongs to a fan-out. In the transaction that ends it.
pub fn ended(tenant: &Tenant, row: &Row, state: u8, why: Option<&str>) -> Result<()> {
    // Plain tasks have no options: they pay for nothing more than this look.
    if row.raw(col::OPTIONS).is_none() {
        return Ok(());
    }
    let (Some(fanout), Some(id)) = (of_options(row.json(col::OPTIONS)), row.uuid(col::ID)) else { return Ok(()) };
    report(tenant, fanout, id, state, why, true)
}

/// A finished task is to run again.
pub fn reopened(tenant: &Tenant, id: u128, options: Option<Json>) -> Result<()> {
    match of_options(options) {
        Some(fanout) => report(tenant, fanout, id, state::ENQUEUED, None, false),
        None => Ok(()),
    }
}

fn report(tenant: &Tenant, fanout: u128, id: u128, state: u8, why: Option<&str>, over: bool) -> Result<()> {
    let outcomes = open("fanout_tenant", Access::Write)?;
    let reason = why.map(cut);
    for _ in 0..TRIES {
        // The name as it is now: the batch may have begun before it was changed.
        let name = catalog::schema_name(tenant.oid).unwrap_or_else(|| tenant.name.clone());
        let Some(row) = transaction::with_latest_snapshot(|| outcome(&outcomes, fanout, &name)) else { return Ok(()) };
        // What a tenant writes into its own rows is nothing but its own: the task must be the one of this very tenant.
        if row.uuid(ocol::TASK) != Some(id) {
            return Ok(());
        }
        let changes = [
            (ocol::STATE, Value::Char(state)),
            (ocol::REASON, Value::text(reason.as_deref())),
            (ocol::FINISHED_AT, if over { Value::Time(clock::now()) } else { Value::Null }),
        ];
        // Lost: it was pruned, or is another tenant's name by now.
        if outcomes.update(&row, &changes) == Gone::Done {
            return Ok(());
        }
    }
    Err(Error::new("40001", "what became of a task of all tenants is being changed by others"))
}

/// The schema is no tenant any more, for now or for good: nobody waits for it.
pub fn detached(tenant: &str) -> Result<()> {
    run(
        "UPDATE tenant_q.fanout_tenant SET state = 's', reason = 'it is no tenant any more'
          WHERE tenant OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog.\"char\"[])",
        &[tenant.into()],
    )
}

/// A tenant has another name.
pub fn renamed(old: &str, new: &str) -> Result<()> {
    // Whoever is writing something under the old name is waited for; the statements that follow see it.
    run("SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1 FOR UPDATE", &[old.into()])?;
    // What an earlier tenant of the new name has left gives way.
    run(
        "DELETE FROM tenant_q.fanout_tenant o WHERE o.tenant OPERATOR(pg_catalog.=) $2 AND EXISTS (SELECT FROM tenant_q.fanout_tenant m
            WHERE m.fanout OPERATOR(pg_catalog.=) o.fanout AND m.tenant OPERATOR(pg_catalog.=) $1)",
        &[old.into(), new.into()],
    )?;
    run("UPDATE tenant_q.fanout_tenant SET tenant = $2 WHERE tenant OPERATOR(pg_catalog.=) $1", &[old.into(), new.into()])?;
    run(
        "UPDATE tenant_q.fanout SET tenants = pg_catalog.array_replace(tenants, $1, $2)
          WHERE spread_again IS NOT NULL AND $1 OPERATOR(pg_catalog.=) ANY (tenants)",
        &[old.into(), new.into()],
    )?;
    crate::fanout::definitions::renamed(old, new)
}

/// Names of the tenants that the caller may see; None = all.
pub fn visible() -> Result<Option<Vec<String>>> {
    if monitor::sees_all() {
        return Ok(None);
    }
    Ok(Some(monitor::visible_tenants()?.into_iter().map(|(name, ..)| name).collect()))
}

pub fn document(sql: &str, args: &[DatumWithOid]) -> Result<Option<Json>> {
    sandbox::as_extension(|| {
        Spi::connect(|c| match c.select(sql, Some(1), args)?.next() {
            Some(row) => Ok(row.get::<pgrx::JsonB>(1)?.map(|j| j.0)),
            None => Ok(None),
        })
    })
    .map_err(spi)
}

/// The state of row `a` of tenant_q.fanout_tenant: nobody waits for what is no tenant any more. (Its row said so,
/// unless it was written while the tenant was on its way out.)
const STATE_NOW: &str = "CASE WHEN a.state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog.\"char\"[])
      AND NOT EXISTS (SELECT FROM tenant_q.tenant n WHERE n.name OPERATOR(pg_catalog.=) a.tenant) THEN 's' ELSE a.state END";

/// tenant_q.fanouts(): rows of the view tq_fanouts.
fn fanouts(_args: &Args) -> Result<Ret> {
    let rows = document(
        &format!("SELECT pg_catalog.jsonb_agg(x ORDER BY x.fire_time DESC, x.id DESC) FROM (
             SELECT f.id, f.name, f.handler, f.fire_time, o.tenants OPERATOR(pg_catalog.+) r.n AS tenants, o.done, o.failed,
                    o.outstanding OPERATOR(pg_catalog.+) r.n AS outstanding, o.skipped, f.spread_again IS NULL AS spread,
                    CASE WHEN f.spread_again IS NULL AND o.outstanding OPERATOR(pg_catalog.=) 0 THEN o.finished_at END AS finished_at, f.created_by
               FROM (SELECT * FROM tenant_q.fanout a WHERE a.kind OPERATOR(pg_catalog.<>) 'd' ORDER BY a.fire_time DESC, a.id DESC LIMIT $2) f,
                    LATERAL (SELECT pg_catalog.count(*) AS tenants,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) 'd') AS done,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) ANY ('{{f,c,e,x}}'::pg_catalog.\"char\"[])) AS failed,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) ANY ('{{o,q}}'::pg_catalog.\"char\"[])) AS outstanding,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) 's') AS skipped,
                                    pg_catalog.max(t.finished_at) AS finished_at
                               FROM (SELECT a.fanout, a.tenant, a.finished_at, {STATE_NOW} AS state FROM tenant_q.fanout_tenant a) t
                              WHERE t.fanout OPERATOR(pg_catalog.=) f.id AND ($1 IS NULL OR t.tenant OPERATOR(pg_catalog.=) ANY ($1))) o,
                    -- Those that its spreading has yet to reach.
                    LATERAL (SELECT CASE WHEN f.spread_again IS NULL THEN 0 ELSE
                                    (SELECT pg_catalog.count(*) FROM tenant_q.tenant t
                                      WHERE ($1 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($1)) AND (f.tenants IS NULL OR t.name OPERATOR(pg_catalog.=) ANY (f.tenants))
                                        AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant s WHERE s.fanout OPERATOR(pg_catalog.=) f.id AND s.tenant OPERATOR(pg_catalog.=) t.name)) END AS n) r
              WHERE $1 IS NULL OR o.tenants OPERATOR(pg_catalog.+) r.n OPERATOR(pg_catalog.>) 0) x"),
        &[visible()?.into(), (settings::view_rows() as i64).into()],
    )?;
    Ok(Ret::Json(rows.unwrap_or_else(|| Json::Array(vec![]))))
}

/// tenant_q.fanout_tenants(name, fire_time, id): rows of tq_fanout_tenants.
fn fanout_tenants(args: &Args) -> Result<Ret> {
    let (name, fire_time, id) = (args.text(0), args.time(1), args.uuid(2));
    if name.is_none() && id.is_none() {
        return Err(Error::new("22004", "neither name nor id is given").hint("tq_fanouts has both."));
    }
    let found = document(
        "SELECT pg_catalog.to_jsonb(f.id) FROM tenant_q.fanout f
          WHERE f.kind OPERATOR(pg_catalog.<>) 'd' AND ($1 IS NULL OR f.name OPERATOR(pg_catalog.=) $1) AND ($2 IS NULL OR f.fire_time OPERATOR(pg_catalog.=) $2)
            AND ($3 IS NULL OR f.id OPERATOR(pg_catalog.=) $3) ORDER BY f.fire_time DESC, f.id DESC LIMIT 1",
        &[name.into(), fire_time.and_then(call::timestamp).into(), id.map(call::uuid).into()],
    )?;
    let Some(id) = found.as_ref().and_then(Json::as_str).and_then(|t| uuid::Uuid::parse_str(t).ok()) else {
        return Err(Error::new("P0002", "there is no such fan-out").hint("tq_fanouts shows those that are kept."));
    };
    let rows = document(
        &format!("SELECT pg_catalog.jsonb_agg(x ORDER BY x.tenant) FROM (
             SELECT o.tenant, CASE o.state WHEN 'o' THEN 'expected' WHEN 'q' THEN 'enqueued' WHEN 'd' THEN 'done' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                                           WHEN 'e' THEN 'expired' WHEN 'x' THEN 'quarantined' ELSE 'skipped' END AS state,
                    CASE WHEN o.state OPERATOR(pg_catalog.=) 's' THEN coalesce(o.reason, 'it is no tenant any more') ELSE o.reason END AS reason, o.task, o.finished_at
               FROM (SELECT a.fanout, a.tenant, {STATE_NOW} AS state, a.task, a.reason, a.finished_at FROM tenant_q.fanout_tenant a) o
              WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND ($2 IS NULL OR o.tenant OPERATOR(pg_catalog.=) ANY ($2))
             UNION ALL
             SELECT t.name, 'expected', NULL, NULL, NULL FROM tenant_q.tenant t, tenant_q.fanout f
              WHERE f.id OPERATOR(pg_catalog.=) $1 AND f.spread_again IS NOT NULL
                AND ($2 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($2)) AND (f.tenants IS NULL OR t.name OPERATOR(pg_catalog.=) ANY (f.tenants))
                AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant s WHERE s.fanout OPERATOR(pg_catalog.=) f.id AND s.tenant OPERATOR(pg_catalog.=) t.name)) x"),
        &[call::uuid(id.as_u128()).into(), visible()?.into()],
    )?;
    Ok(Ret::Json(rows.unwrap_or_else(|| Json::Array(vec![]))))
}

sql_functions! {
    tq_async_all, pg_finfo_tq_async_all => async_all;
    tenant_q_fanouts, pg_finfo_tenant_q_fanouts => fanouts;
    tenant_q_fanout_tenants, pg_finfo_tenant_q_fanout_tenants => fanout_tenants;
}
