//! tq_set_queue and tq_set_limit: what queues and limit keys of a tenant allow.

use crate::handler::roles::wake_all;
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::pure::choice::Named;
use crate::pure::rate::{Algorithm, Rate};
use crate::pure::time::Span;
use crate::sql_functions;
use crate::tenant::limits::check_limits;
use crate::tenant::queue::Pick;
use crate::tenant::records::{Cell, Declared, Few, announce_registry, cell, declare, interval_cell};
use crate::tenant::rights;
use crate::tenant::{self, Tenant, lock, patience};
use pgrx::datum::DatumWithOid;
use std::rc::Rc;

fn name(args: &Args, what: &str) -> Result<String> {
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, format!("{what} is null")))?;
    if name.is_empty() || name.len() > 1024 {
        return Err(Error::invalid(format!("{what} has 1 to 1024 bytes, not {}", name.len())));
    }
    Ok(name)
}

fn owned(args: &Args, n: usize) -> Result<Rc<Tenant>> {
    let tenant = rights::resolve_owned(args.text(n).as_deref())?;
    Ok(tenant)
}

fn check_reset(reset: &[String], allowed: &[&str]) -> Result<()> {
    match reset.iter().find(|r| !allowed.contains(&r.as_str())) {
        Some(unknown) => Err(Error::invalid(format!("reset names \"{unknown}\", which is not one of its parameters"))
            .hint(format!("Possible are: {}.", allowed.join(", ")))),
        None => Ok(()),
    }
}

parameters! {
    TqSetQueue of tq_set_queue {
        QUEUE,
        MAX_RUNNING,
        RATE,
        PRIORITY,
        TIMEOUT,
        MAX_ATTEMPTS,
        PICK,
        RESET,
        TENANT,
    }
}

/// tq_set_queue(queue, max_running, rate, priority, timeout, max_attempts, pick, reset, tenant)
pub fn set_queue(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_set_queue()");
    let queue = name(args, "queue")?;
    check_limits(args.int(TqSetQueue::MAX_RUNNING), args.text(TqSetQueue::RATE).as_deref())?;
    if args.int(TqSetQueue::PRIORITY).is_some_and(|p| i16::try_from(p).is_err()) {
        return Err(Error::invalid("priority is out of range").hint("Priorities go from -32768 to 32767, higher first."));
    }
    if args.interval(TqSetQueue::TIMEOUT).is_some_and(Span::is_negative) {
        return Err(Error::invalid("timeout is negative").hint("0 means no timeout."));
    }
    if args.int(TqSetQueue::MAX_ATTEMPTS).is_some_and(|n| n < 0) {
        return Err(Error::invalid("max_attempts is negative").hint("0 means for ever."));
    }
    let pick = args.text(TqSetQueue::PICK).map(|word| Pick::one_of("pick", &word)).transpose()?;
    let reset = args.texts(TqSetQueue::RESET).unwrap_or_default();
    check_reset(&reset, &["max_running", "rate", "priority", "timeout", "max_attempts", "pick"])?;
    let tenant = owned(args, TqSetQueue::TENANT)?;
    QUEUES.check_room(&tenant.name, &queue)?;
    let mut cells = Cells::new(&reset);
    cells.add("max_running", args.int(TqSetQueue::MAX_RUNNING));
    cells.add("rate", args.text(TqSetQueue::RATE));
    cells.add("priority", args.int(TqSetQueue::PRIORITY));
    cells.add_interval("timeout", args.interval(TqSetQueue::TIMEOUT));
    cells.add("max_attempts", args.int(TqSetQueue::MAX_ATTEMPTS));
    // Reset, it isn't NULL again: what is left in an order of its own is looked for where there once was one.
    let reset_pick = reset.iter().any(|name| name == "pick").then_some(Pick::Priority);
    if let Some(pick) = reset_pick.or(pick) {
        cells.0.push(cell("pick", pick.name()));
    }
    write(&tenant, "queue", [("tenant", &tenant.name), ("name", &queue)], cells)
}

/// Parameters of a call, as columns of the registry's row: those that are given, and those that are reset.
struct Cells<'a>(Vec<Cell<'a>>, &'a [String]);

impl<'a> Cells<'a> {
    fn new(reset: &'a [String]) -> Cells<'a> {
        Cells(vec![], reset)
    }
    fn kept<T>(&self, column: &str, given: Option<T>) -> Option<Option<T>> {
        if self.1.iter().any(|name| name == column) { Some(None) } else { given.map(Some) }
    }
    fn add<T>(&mut self, column: &'static str, given: Option<T>)
    where
        Option<T>: Into<DatumWithOid<'a>>,
    {
        self.0.extend(self.kept(column, given).map(|value| cell(column, value)));
    }
    fn add_interval(&mut self, column: &'static str, given: Option<Span>) {
        self.0.extend(self.kept(column, given).map(|value| interval_cell(column, value)));
    }
}

/// The row, where it isn't so already; then what was put aside at the old limit is looked at again.
fn write(tenant: &Tenant, table: &str, key: [(&'static str, &str); 2], cells: Cells) -> Result<Ret> {
    if declare(table, &key, cells.0, || lock::declarations(tenant.oid))? != Declared::Same {
        announce_registry()?;
        transaction::see_own_writes();
        wake_all(&*tenant::resolve(Some(&tenant.name))?)?;
    }
    Ok(Ret::Void)
}

const QUEUES: Few = Few {
    table: "queue",
    key: "name",
    name: "queues set up",
    most: 1000,
    hint: "A queue needs no setting up to be used. An administrator removes one: DELETE FROM tenant_q.queue WHERE tenant = … AND name = …",
};
const LIMITS: Few = Few {
    table: "limit_key",
    key: "key",
    name: "limits",
    most: 10_000,
    hint: "An administrator removes one: DELETE FROM tenant_q.limit_key WHERE tenant = … AND key = …",
};

/// The one that is meant: a rate may name it, as it may wherever there is no such parameter.
fn algorithm_of(args: &Args) -> Result<Algorithm> {
    let given = args.text(3).map_or(Ok(Algorithm::Bucket), |word| Algorithm::one_of("algorithm", &word))?;
    match args.text(2).as_deref().and_then(Rate::algorithm_of) {
        // The default, as it is declared.
        Some(named) if given == Algorithm::Bucket || given == named => Ok(named),
        Some(named) => Err(Error::invalid(format!("rate names {}, and algorithm {}", named.name(), given.name()))
            .hint("Say it once: leave algorithm out.")),
        None => Ok(given),
    }
}

/// tq_set_limit(limit_key, max_running, rate, algorithm, reset, tenant)
pub fn set_limit(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_set_limit()");
    let key = name(args, "limit_key")?;
    check_limits(args.int(1), args.text(2).as_deref())?;
    let algorithm = algorithm_of(args)?;
    let reset = args.texts(4).unwrap_or_default();
    check_reset(&reset, &["max_running", "rate"])?;
    let tenant = owned(args, 5)?;
    LIMITS.check_room(&tenant.name, &key)?;
    let mut cells = Cells::new(&reset);
    cells.add("max_running", args.int(1));
    cells.add("rate", args.text(2));
    cells.0.push(cell("algorithm", algorithm.name()));
    write(&tenant, "limit_key", [("tenant", &tenant.name), ("key", &key)], cells)
}

sql_functions! {
    tq_set_queue, pg_finfo_tq_set_queue => |args| patience::bounded("tq_set_queue()", || set_queue(args));
    tq_set_limit, pg_finfo_tq_set_limit => |args| patience::bounded("tq_set_limit()", || set_limit(args));
}
