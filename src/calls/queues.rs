//! tq_set_queue and tq_set_limit: what queues and limit keys of a tenant allow.

use crate::handler::roles::wake_all;
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::pure::choice::Named;
use crate::pure::rate::Algorithm;
use crate::pure::time::Span;
use crate::sql_functions;
use crate::tenant::limits::check_limits;
use crate::tenant::queue::Pick;
use crate::tenant::records::{Few, announce_registry, run};
use crate::tenant::rights::require_owner;
use crate::tenant::{self, Tenant};
use std::rc::Rc;

fn name(args: &Args, what: &str) -> Result<String> {
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, format!("{what} is null")))?;
    if name.is_empty() || name.len() > 1024 {
        return Err(Error::invalid(format!("{what} has 1 to 1024 bytes, not {}", name.len())));
    }
    Ok(name)
}

fn owned(args: &Args, n: usize) -> Result<Rc<Tenant>> {
    let tenant = tenant::resolve(args.text(n).as_deref())?;
    require_owner(tenant.owner, &tenant.name)?;
    Ok(tenant)
}

fn check_reset(reset: &[String], allowed: &[&str]) -> Result<()> {
    match reset.iter().find(|r| !allowed.contains(&r.as_str())) {
        Some(unknown) => Err(Error::invalid(format!("reset names \"{unknown}\", which is not one of its parameters"))
            .hint(format!("Possible are: {}.", allowed.join(", ")))),
        None => Ok(()),
    }
}

fn changed(tenant: &Tenant) -> Result<Ret> {
    announce_registry()?;
    transaction::see_own_writes();
    // What was put aside at the old limit is looked at again.
    wake_all(&*tenant::resolve(Some(&tenant.name))?)?;
    Ok(Ret::Void)
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
fn set_queue(args: &Args) -> Result<Ret> {
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
    let off = |what: &str| reset.iter().any(|r| r == what);
    run(
        "INSERT INTO tenant_q.queue (tenant, name, max_running, rate, priority, timeout, max_attempts, pick)
         VALUES ($1, $2, $3, $4, $5, pg_catalog.make_interval(secs => $6), $7, $13)
         ON CONFLICT (tenant, name) DO UPDATE SET
             max_running = CASE WHEN $8 THEN NULL ELSE coalesce(EXCLUDED.max_running, queue.max_running) END,
             rate = CASE WHEN $9 THEN NULL ELSE coalesce(EXCLUDED.rate, queue.rate) END,
             priority = CASE WHEN $10 THEN NULL ELSE coalesce(EXCLUDED.priority, queue.priority) END,
             timeout = CASE WHEN $11 THEN NULL ELSE coalesce(EXCLUDED.timeout, queue.timeout) END,
             max_attempts = CASE WHEN $12 THEN NULL ELSE coalesce(EXCLUDED.max_attempts, queue.max_attempts) END,
             pick = CASE WHEN $14 AND queue.pick IS NOT NULL THEN 'priority' ELSE coalesce(EXCLUDED.pick, queue.pick) END
         RETURNING 1",
        &[
            tenant.name.as_str().into(),
            queue.into(),
            args.int(TqSetQueue::MAX_RUNNING).into(),
            args.text(TqSetQueue::RATE).into(),
            args.int(TqSetQueue::PRIORITY).into(),
            args.interval(TqSetQueue::TIMEOUT).map(Span::seconds).into(),
            args.int(TqSetQueue::MAX_ATTEMPTS).into(),
            off("max_running").into(),
            off("rate").into(),
            off("priority").into(),
            off("timeout").into(),
            off("max_attempts").into(),
            pick.map(Pick::name).into(),
            // Not NULL again: what is left in an order of its own is looked for where there once was one.
            off("pick").into(),
        ],
    )?;
    changed(&tenant)
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

/// tq_set_limit(limit_key, max_running, rate, algorithm, reset, tenant)
fn set_limit(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_set_limit()");
    let key = name(args, "limit_key")?;
    check_limits(args.int(1), args.text(2).as_deref())?;
    let algorithm = args.text(3).map_or(Ok(Algorithm::Bucket), |word| Algorithm::one_of("algorithm", &word))?;
    let reset = args.texts(4).unwrap_or_default();
    check_reset(&reset, &["max_running", "rate"])?;
    let tenant = owned(args, 5)?;
    LIMITS.check_room(&tenant.name, &key)?;
    let off = |what: &str| reset.iter().any(|r| r == what);
    run(
        "INSERT INTO tenant_q.limit_key (tenant, key, max_running, rate, algorithm) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, key) DO UPDATE SET
             max_running = CASE WHEN $6 THEN NULL ELSE coalesce(EXCLUDED.max_running, limit_key.max_running) END,
             rate = CASE WHEN $7 THEN NULL ELSE coalesce(EXCLUDED.rate, limit_key.rate) END,
             algorithm = EXCLUDED.algorithm
         RETURNING 1",
        &[
            tenant.name.as_str().into(),
            key.into(),
            args.int(1).into(),
            args.text(2).into(),
            algorithm.name().into(),
            off("max_running").into(),
            off("rate").into(),
        ],
    )?;
    changed(&tenant)
}

sql_functions! {
    tq_set_queue, pg_finfo_tq_set_queue => set_queue;
    tq_set_limit, pg_finfo_tq_set_limit => set_limit;
}
