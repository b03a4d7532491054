//! Work for all tenants. The caller writes one row; the scheduler spreads it after the commit, a few
//! tenants a transaction, because one transaction that touched all of them would run the server out of
//! locks.
//!
//! Each tenant has a row of its own that says what became of it there, written in the transaction that
//! enqueues its task: that row is why a kill loses nothing and doubles nothing, and why tenants that finish
//! at the same time don't wait for each other. Completing a task that belongs to a fan-out updates it by
//! OID, as everything of ours is written: the executor's role needs no right on the registry.

use crate::fanout::lines::{self, Adopted, LEFT_OUT, STEP, Served, Step, TAKEN, TENANTS, TO_PRUNE, VISIT};
use crate::fanout::passed;
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{call, catalog, clock, row_lock, sandbox, timeout, transaction};
use crate::pure::ids::{self, Id};
use crate::pure::state::{FanoutKind, FanoutState};
use crate::pure::time::{At, Span};
use crate::schedules::of_all;
use crate::shared::database::Db;
use crate::task::new::{NewTask, task_object};
use crate::task::queue::Queue;
use crate::tenant::columns::{FanoutTenants, Fanouts};
use crate::tenant::rights::{By, Caller};
use crate::tenant::{self, Tenant, records};
use crate::{handler, settings};
use pgrx::{Spi, pg_sys};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Tenants that one process reaches: each costs it memory for good.
const WORN: usize = 1000;
/// A tenant whose tables somebody holds is tried again after this.
const LOCKED_AGAIN: Span = Span::of_secs(1);
const LOG_EVERY: Span = Span::MINUTE;
/// When the registry itself can't be written.
const FAILED_AGAIN: Span = Span::of_secs(5);
/// A tenant that fails when it is visited.
const VISIT_AGAIN: Span = Span::MINUTE;
/// Lines that are removed at a time, each in a transaction of its own.
const PRUNED: i64 = 20;
/// Milliseconds that a lock is waited for.
const LOCK_TIMEOUT: i32 = 5;
/// A tenant that one step has not brought everything goes on after this.
const PART_AGAIN: Span = Span::of_millis(100);
/// Spreads what is to go to all tenants; one a scheduler.
#[derive(Default)]
pub struct Spreader {
    /// `Db::fanouts` as it was when there was last something to wait for.
    seen: u32,
    again: At,
    /// So many tenants are served in transactions of their own, because one of them fails.
    singly: usize,
    reached: usize,
    /// When an error that passes was last told of.
    logged: At,
}

impl Spreader {
    /// One transaction's worth; false: there is nothing to do now.
    pub fn turn(&mut self, db: &Db) -> bool {
        if let Some(name) = lines::TO_PRUNE.with_borrow_mut(BTreeSet::pop_first) {
            settle(&name);
            prune(&name);
        }
        let wanted = db.fanouts.load();
        if wanted == 0 || wanted == self.seen && clock::now() < self.again {
            return false;
        }
        (self.seen, self.again) = (wanted, At::UNSET);
        match self.step() {
            Step::Served(n) => self.reached += n,
            Step::Later(at) => self.again = at,
            // Unless another one has committed meanwhile.
            Step::Nothing => drop(db.fanouts.compare_exchange(wanted, 0)),
        }
        true
    }
    /// When there is something to do again.
    pub fn due(&self, db: &Db) -> At {
        if TO_PRUNE.with_borrow(|names| !names.is_empty()) {
            return At::UNSET;
        }
        match db.fanouts.load() {
            0 => At::NEVER,
            wanted if wanted != self.seen => At::UNSET,
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
        if !failure.sqlstate.may_pass() || clock::now() - self.logged > LOG_EVERY {
            self.logged = clock::now();
            caught::log_failure(what, failure);
        }
    }
}

/// The other fan-outs go on before one that can't be ended.
fn put_off(fanout: Id) -> std::result::Result<(), Failure> {
    let fanouts = records::open("fanout", Access::Write)?;
    let Some(row) = fanouts.find(Fanouts::ID.equals(fanout)) else { return Ok(()) };
    if row_lock::try_lock(&fanouts, &row) && fanouts.update(&row, &[Fanouts::SPREAD_AGAIN.to(clock::now() + FAILED_AGAIN)]) == Write::Done {
        return Ok(());
    }
    Err(lines::lost())
}

/// The others go on behind a tenant that fails: for good, or until all have been reached.
fn pass_by(fanout: Id, tenant: &str, failure: &Failure) -> std::result::Result<(), Failure> {
    if fanout == VISIT {
        let outcomes = records::open("fanout_tenant", Access::Write)?;
        let again = clock::now() + if failure.sqlstate.may_pass() { LOCKED_AGAIN } else { VISIT_AGAIN };
        if let Some(row) = lines::outcome(&outcomes, VISIT, tenant)
            && row_lock::try_lock(&outcomes, &row)
        {
            let _: Write = outcomes.update(&row, &[FanoutTenants::FINISHED_AT.to(again)]);
        }
        return Ok(());
    }
    let fanouts = records::open("fanout", Access::Write)?;
    let Some(row) = fanouts.find(Fanouts::ID.equals(fanout)) else { return Ok(()) };
    if !failure.sqlstate.may_pass() {
        lines::note(
            &records::open("fanout_tenant", Access::Write)?,
            fanout,
            tenant,
            FanoutState::Skipped,
            None,
            Some(&failure.message.clone().into()),
        );
    }
    match fanouts.update(&row, &[Fanouts::SERVED_TO.to(tenant)]) {
        Write::Done => Ok(()),
        Write::Overtaken => Err(lines::lost()),
    }
}

struct Next {
    name: String,
    schema: u32,
    left_out: Option<String>,
}

/// Tenants that this one hasn't reached, in the order of their names.
fn next_tenants(fanout: &Row<Fanouts>, after: &str, limit: usize) -> Result<Vec<Next>> {
    let id = call::uuid(fanout.get(Fanouts::ID).unwrap_or_default());
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                &format!("SELECT t.name, t.schema_oid, {LEFT_OUT} FROM tenant_q.tenant t
                  WHERE t.name OPERATOR(pg_catalog.>) $4 AND ($3 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($3))
                    AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND o.tenant OPERATOR(pg_catalog.=) t.name)
                  ORDER BY t.name LIMIT $5"),
                None,
                &[id.into(), settings::exclude_schemas().into(), fanout.get(Fanouts::TENANTS).into(), after.into(), (limit as i64).into()],
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
    .map_err(lines::spi)
}

/// Brings what all tenants have to those that are to be visited: how many, and when to come again.
fn visit(limit: usize, at: &RefCell<About>, now: At) -> std::result::Result<(usize, At), Failure> {
    let outcomes = records::open("fanout_tenant", Access::Write)?;
    let (mut rows, mut later) = (Vec::new(), At::NEVER);
    // `finished_at`: not before; `reason`: how far it has got.
    for row in outcomes.scan(&FanoutTenants::BY_FANOUT, &[FanoutTenants::FANOUT.equals(VISIT)]) {
        match row.get(FanoutTenants::FINISHED_AT) {
            Some(again) if again > now => later = later.min(again),
            _ if row_lock::try_lock(&outcomes, &row) => rows.push(row),
            // Somebody asks for it anew just now.
            _ => later = later.min(now + LOCKED_AGAIN),
        }
        if rows.len() == limit {
            break;
        }
    }
    let began = clock::steady();
    let mut visited = 0;
    for row in &rows {
        if visited > 0 && began.elapsed() > STEP {
            break;
        }
        let name = row.text(FanoutTenants::TENANT).unwrap_or_default();
        *at.borrow_mut() = Some((VISIT, Some(name.clone())));
        // Whoever is no tenant any more is visited when it is one again.
        let adopted = match catalog::schema_oid(&name).map(tenant::by_oid) {
            Some(Ok(tenant)) if !tenant::keep(&tenant)? => Adopted::Locked,
            Some(Ok(tenant)) => crate::fanout::definitions::adopt(&tenant, &outcomes, row.get(FanoutTenants::REASON), now)?,
            _ => Adopted::Whole,
        };
        let gone = match adopted {
            Adopted::Whole => outcomes.delete(row),
            Adopted::Part(place) => {
                outcomes.update(row, &[FanoutTenants::REASON.to(place.as_str()), FanoutTenants::FINISHED_AT.to(now + PART_AGAIN)])
            }
            Adopted::Locked => outcomes.update(row, &[FanoutTenants::FINISHED_AT.to(now + LOCKED_AGAIN)]),
        };
        if gone == Write::Overtaken {
            return Err(lines::lost());
        }
        visited += 1;
    }
    Ok((visited, later))
}

/// What a transaction of spreading was about: a fan-out, and there one tenant.
type About = Option<(Id, Option<String>)>;

/// Hands the oldest open fan-out to its next tenants; `at` says to which, should it fail.
fn spread(limit: usize, at: &RefCell<About>) -> std::result::Result<Step, Failure> {
    let now = clock::now();
    let (visited, mut later) = visit(limit, at, now)?;
    if visited > 0 {
        return Ok(Step::Served(visited));
    }
    let fanouts = records::open("fanout", Access::Write)?;
    let mut first = None;
    for row in fanouts.scan(&Fanouts::OPEN, &[]) {
        // One that somebody is just changing (a tenant's new name in its list, say) is not waited for.
        if row_lock::try_lock(&fanouts, &row) {
            first = Some(row);
            break;
        }
        later = later.min(now + LOCKED_AGAIN);
    }
    let Some(row) = first else { return Ok(if later == At::NEVER { Step::Nothing } else { Step::Later(later) }) };
    let again = row.get(Fanouts::SPREAD_AGAIN).unwrap_or(now);
    if again > now {
        return Ok(Step::Later(again.min(later)));
    }
    let id = row.get(Fanouts::ID).unwrap_or_default();
    *at.borrow_mut() = Some((id, None));
    let served_to = row.text(Fanouts::SERVED_TO);
    let mut tenants = next_tenants(&row, served_to.as_deref().unwrap_or(""), limit)?;
    if tenants.is_empty() && served_to.is_some() {
        // Those that were locked, or got a name before the last one, once more from the start.
        tenants = next_tenants(&row, "", 1)?;
        if !tenants.is_empty() {
            let changes = [Fanouts::SERVED_TO.null(), Fanouts::SPREAD_AGAIN.to(now + LOCKED_AGAIN)];
            return if fanouts.update(&row, &changes) == Write::Done { Ok(Step::Served(0)) } else { Err(lines::lost()) };
        }
    }
    let Some(last) = tenants.last().map(|tenant| tenant.name.clone()) else { return lines::finish(&fanouts, &row) };
    let outcomes = records::open("fanout_tenant", Access::Write)?;
    let tasks = row.letter(Fanouts::KIND) == FanoutKind::Tasks;
    for Next { name, schema, left_out } in &tenants {
        *at.borrow_mut() = Some((id, Some(name.clone())));
        let served = match (left_out, tenant::by_oid(*schema)) {
            // Whoever is just being renamed, detached or dropped is what it will be then.
            (_, Ok(tenant)) if tenant.name != *name || !tenant::keep(&tenant)? => Served::Locked,
            (Some(reason), _) if tasks => Served::Skipped(reason.clone().into()),
            (_, Err(error)) => Served::Skipped(error.message.into()),
            (_, Ok(tenant)) if tasks => enqueue(&row, id, &tenant, now)?,
            (_, Ok(tenant)) => crate::fanout::definitions::serve(&row, &tenant)?,
        };
        match served {
            Served::Defined => lines::note(&outcomes, id, name, FanoutState::Done, None, None),
            Served::Enqueued(task) => lines::note(&outcomes, id, name, FanoutState::Enqueued, Some(task), None),
            Served::Skipped(skipped) => lines::note(&outcomes, id, name, FanoutState::Skipped, None, Some(&skipped)),
            Served::Locked => {}
        }
    }
    *at.borrow_mut() = Some((id, None));
    match fanouts.update(&row, &[Fanouts::SERVED_TO.to(last.as_str())]) {
        Write::Done => Ok(Step::Served(tenants.len())),
        Write::Overtaken => Err(lines::lost()),
    }
}

/// A tenant's task of tq_async_all. What is wrong with this tenant is an outcome, no error.
fn enqueue(row: &Row<Fanouts>, fanout: Id, tenant: &Rc<Tenant>, now: At) -> Result<Served> {
    let skipped = |error: Error| {
        let reason = match error.detail {
            Some(detail) => format!("{}: {detail}", error.message),
            None => error.message,
        };
        Ok(Served::Skipped(reason.into()))
    };
    let table = match tenant.try_open(tenant.task, Access::Write) {
        Ok(Some(table)) => table,
        Ok(None) => return Ok(Served::Locked),
        Err(error) => return skipped(error),
    };
    let handler = match handler::require(tenant, row.get(Fanouts::HANDLER).unwrap_or("")) {
        Ok(handler) => handler,
        Err(error) => return Ok(Served::Skipped(error.message.into())),
    };
    // Before anything is written: a full table of entries is everybody's trouble, and passes.
    tenant.entry(handler.run_as)?;
    let base = row.get(Fanouts::TASK).map_or(Ok(NewTask::default()), |object| task_object(&object))?;
    let asked = row.get(Fanouts::CREATED_AT).unwrap_or(now);
    let start = base.due(tenant, asked);
    let limit = row.span(Fanouts::STAGGER).unwrap_or_default();
    let new = NewTask {
        handler: handler.name.clone(),
        args: row.document(Fanouts::ARGS),
        id: Some(ids::fan_id(fanout, &tenant.name)),
        run_at: Some(start.saturating_add(of_all::stagger(&tenant.name, limit))),
        delay: None,
        fanout: Some(fanout),
        ..base
    };
    let caller =
        Caller { name: row.text(Fanouts::CREATED_BY).unwrap_or_default(), superuser: row.get(Fanouts::BY_SUPERUSER).unwrap_or(false) };
    let queue = Queue::of(tenant.clone(), table, caller, By::Engine);
    match crate::work::enqueue::add(&queue, &new) {
        Ok(id) if new.id != Some(id) && !lines::is_of(&queue.table, id, Some(fanout)) => Ok(Served::Skipped(TAKEN.to_owned().into())),
        Ok(id) => Ok(Served::Enqueued(id)),
        Err(error) => skipped(error),
    }
}

/// Tenants that lines of this name wait for in vain, a few a transaction.
fn settle(name: &str) {
    let mut behind = Some(String::new());
    while let Some(last) = behind.take() {
        let settled = transaction::run(|| {
            timeout::limit_locks(LOCK_TIMEOUT);
            Ok(passed::settle(name, &last)?)
        });
        match settled {
            Ok(next) => behind = next,
            Err(failure) if failure.sqlstate.may_pass() => {}
            Err(failure) => caught::log_failure("whom lines of tq_fanouts wait for in vain could not be said", &failure),
        }
    }
}

/// The newest of each name are kept, and none for longer than a year. A line of which somebody holds a row (a
/// tenant that is just being renamed) stays until the next time.
fn prune(name: &str) {
    let old = transaction::run(|| Ok(old_lines(name)?));
    for id in old.iter().flatten() {
        let pruned = transaction::run(|| {
            timeout::limit_locks(LOCK_TIMEOUT);
            let id = call::uuid(*id);
            lines::run("DELETE FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $1", &[id.into()])?;
            lines::run("DELETE FROM tenant_q.fanout f WHERE f.id OPERATOR(pg_catalog.=) $1", &[id.into()])?;
            Ok(())
        });
        if let Err(failure) = pruned
            && failure.sqlstate != SqlState::LOCK_NOT_AVAILABLE
        {
            caught::log_failure("an old line of tq_fanouts could not be removed", &failure);
        }
    }
}

fn old_lines(name: &str) -> Result<Vec<Id>> {
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
            .map(|row| Ok(row.get::<pgrx::Uuid>(1)?.map_or(Id::NIL, |id| Id::of_bytes(*id.as_bytes()))))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(lines::spi)
}

/// The schema is no tenant any more, for now or for good: nobody waits for it.
pub fn detached(tenant: &str) -> Result<()> {
    lines::run(
        "UPDATE tenant_q.fanout_tenant SET state = 's', reason = 'it is no tenant any more'
          WHERE tenant OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog.\"char\"[])",
        &[tenant.into()],
    )
}

/// A tenant has another name.
pub fn renamed(old: &str, new: &str) -> Result<()> {
    // Whoever is writing something under the old name is waited for; the statements that follow see it.
    lines::run("SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1 FOR UPDATE", &[old.into()])?;
    // What an earlier tenant of the new name has left gives way.
    lines::run(
        "DELETE FROM tenant_q.fanout_tenant o WHERE o.tenant OPERATOR(pg_catalog.=) $2 AND EXISTS (SELECT FROM tenant_q.fanout_tenant m
            WHERE m.fanout OPERATOR(pg_catalog.=) o.fanout AND m.tenant OPERATOR(pg_catalog.=) $1)",
        &[old.into(), new.into()],
    )?;
    lines::run("UPDATE tenant_q.fanout_tenant SET tenant = $2 WHERE tenant OPERATOR(pg_catalog.=) $1", &[old.into(), new.into()])?;
    lines::run(
        "UPDATE tenant_q.fanout SET tenants = pg_catalog.array_replace(tenants, $1, $2)
          WHERE spread_again IS NOT NULL AND $1 OPERATOR(pg_catalog.=) ANY (tenants)",
        &[old.into(), new.into()],
    )?;
    crate::fanout::definitions::renamed(old, new)
}
