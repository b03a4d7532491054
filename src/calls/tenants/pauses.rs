//! Pausing a tenant, a queue or a handler, or all tenants, and going on.

use crate::calls::problems::reasons::{self, Because};
use crate::handler::{self, roles};
use crate::postgres::call::{Args, Ret, timestamp};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, sandbox, shmem, transaction};
use crate::pure::ids::Id;
use crate::pure::nearest::nearest;
use crate::pure::period::Period;
use crate::pure::reason::Reason;
use crate::pure::time::{At, Span};
use crate::shared::blocked;
use crate::shared::claims::told;
use crate::task::new::TIME_MAX;
use crate::tenant::columns::Tasks;
use crate::tenant::pauses::Pause;
use crate::tenant::records::{self, Few};
use crate::tenant::{self, Tenant, rights};
use pgrx::Spi;
use pgrx::datum::DatumWithOid;

const PAUSES: Few = Few {
    table: "pause",
    key: "pg_catalog.format('%s %s', queue, handler)",
    name: "pauses of queues and handlers",
    most: 1000,
    hint: "Pause the whole tenant, or end some with tq_resume().",
};

/// `zone`: whose clock counts. Without a duration it is for good.
fn pause_row(tenant: &str, queue: &str, handler: &str, duration: Option<Period>, zone: &str) -> Result<u64> {
    if duration.is_some_and(Period::is_negative) {
        return Err(Error::invalid("duration is negative"));
    }
    let until = duration.map_or(At::NEVER, |duration| duration.after(clock::now(), || tenant::clock_of(zone)));
    let until = timestamp(if until < TIME_MAX { until } else { At::NEVER });
    let by = catalog::role_name(sandbox::current_user().to_u32()).unwrap_or_default();
    records::run(
        "INSERT INTO tenant_q.pause (tenant, queue, handler, until, since, by_role) VALUES ($1, $2, $3, $5, pg_catalog.now(), $4)
         ON CONFLICT (tenant, queue, handler) DO UPDATE SET until = EXCLUDED.until, since = EXCLUDED.since, by_role = EXCLUDED.by_role RETURNING 1",
        &[tenant.into(), queue.into(), handler.into(), by.into(), until.into()],
    )
}
fn unpause_row(tenant: &str, queue: &str, handler: &str) -> Result<u64> {
    records::run(
        "DELETE FROM tenant_q.pause WHERE tenant OPERATOR(pg_catalog.=) $1 AND queue OPERATOR(pg_catalog.=) $2 AND handler OPERATOR(pg_catalog.=) $3 RETURNING 1",
        &[tenant.into(), queue.into(), handler.into()],
    )
}

/// tq_pause(tenant, queue, handler, duration, drain)
pub fn pause(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_pause()");
    let tenant = rights::resolve_to_pause(args.text(0).as_deref())?;
    let (queue, handler) = (args.text(1).unwrap_or_default(), args.text(2).unwrap_or_default());
    let drain = args.interval(4);
    if drain.is_some_and(Span::is_negative) {
        return Err(Error::invalid("drain is negative"));
    }
    // A name mistyped would stop nothing, and say that it had.
    let handler = if handler.is_empty() { handler } else { handler::require(&tenant, &handler)?.name.clone() };
    let duration = args.period(3);
    let already = duration.is_none() && is_paused_for_good(&tenant.name, &queue, &handler)?;
    if !already {
        PAUSES.check_room(&tenant.name, &format!("{queue} {handler}"))?;
        pause_row(&tenant.name, &queue, &handler, duration, &tenant.zone())?;
        tell_of_unknown_queue(Some(&tenant), &queue)?;
    }
    if let Some(drain) = drain {
        drain_tenant(&tenant, &queue, &handler, drain)?;
    }
    if !already {
        records::announce_registry()?;
    }
    roles::wake_all(&tenant)?;
    Ok(Ret::Bool(!already))
}

fn is_paused_for_good(tenant: &str, queue: &str, handler: &str) -> Result<bool> {
    records::exists(
        "SELECT FROM tenant_q.pause p WHERE p.tenant OPERATOR(pg_catalog.=) $1 AND p.queue OPERATOR(pg_catalog.=) $2 AND p.handler OPERATOR(pg_catalog.=) $3
            AND p.until OPERATOR(pg_catalog.=) 'infinity'",
        &[tenant.into(), queue.into(), handler.into()],
    )
}

/// Waits until nothing of the tenant, or of this queue or handler, runs: `most` at most. Workers are told. The pause rules
/// from the commit on; until then the tenant's entries are blocked.
fn drain_tenant(tenant: &Tenant, queue: &str, handler: &str, most: Span) -> Result<()> {
    let Some(s) = crate::shared::get() else { return Ok(()) };
    let deadline = std::time::Instant::now() + most.duration().min(crate::settings::max_wait());
    let table = tenant.open(tenant.task, Access::Read)?;
    let is_meant = |id: Id| {
        let row = transaction::with_latest_snapshot(|| table.find(Tasks::ID.equals(id)));
        row.is_some_and(|r| {
            (queue.is_empty() || r.get(Tasks::QUEUE).unwrap_or("default") == queue)
                && (handler.is_empty() || r.get(Tasks::HANDLER) == Some(handler))
        })
    };
    loop {
        let until = crate::postgres::clock::now() + Span::of_secs(2);
        for index in s.entries_of(shmem::my_database(), tenant.oid) {
            crate::shared::ready::block_until(&s, index, until, blocked::Reason::Paused);
        }
        let all = queue.is_empty() && handler.is_empty();
        for claim in s.claims_of(tenant.oid).filter(|claim| all || is_meant(claim.item_id.load())) {
            claim.tell(&s, told::DRAIN);
        }
        let running = crate::waits::gate::live_items(&s, usize::MAX, tenant.oid).filter(|item| all || is_meant(item.id)).count();
        if running == 0 {
            return Ok(());
        }
        if std::time::Instant::now() >= deadline {
            Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{running} tasks of tenant \"{}\" still run", tenant.name))
                .hint("They go on to their ends; see tq_running.")
                .notice();
            return Ok(());
        }
        crate::postgres::latch::wait(Some(std::time::Duration::from_millis(20)));
    }
}

/// Nothing more is started, but what runs goes on, and may hold what is wanted now: said while somebody looks.
pub fn tell_of_running(tenant: &Tenant) {
    let running = crate::shared::get().map_or(0, |s| crate::waits::gate::live_items(&s, usize::MAX, tenant.oid).count());
    if running > 0 {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{running} tasks of tenant \"{}\" still run", tenant.name))
            .detail("A migration may have to wait for the locks that they hold, or they for its own.")
            .hint(format!(
                "SELECT tq_pause({}, drain => '1 minute', duration => '30 minutes') waits for them, and ends by itself if the migration doesn't.",
                pgrx::spi::quote_literal(&tenant.name)
            ))
            .notice();
    }
}

/// tq_resume(tenant, queue, handler)
pub fn resume(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_resume()");
    let tenant = rights::resolve_to_pause(args.text(0).as_deref())?;
    // As tq_pause has noted it, if the name is a further one.
    let handler = args.text(2).filter(|h| !h.is_empty());
    let handler = handler.map(|h| handler::find(&tenant, &h).map(|found| found.map_or(h, |f| f.name.clone()))).transpose()?;
    let gone = unpause_row(&tenant.name, &args.text(1).unwrap_or_default(), handler.as_deref().unwrap_or(""))?;
    // A handler that was stopped for crashing the server is released by resuming it.
    let freed = handler.as_deref().map(|h| roles::free(&tenant.name, h)).transpose()? == Some(true);
    records::announce_registry()?;
    roles::wake_all(&tenant)?;
    let queue = args.text(1).filter(|queue| !queue.is_empty());
    tell_what_keeps(&tenant, queue.as_deref(), handler.as_deref())?;
    Ok(Ret::Bool(gone > 0 || freed))
}

/// What was to go on is kept by something else all the same: said, each with the call that ends it.
pub fn tell_what_keeps(tenant: &Tenant, queue: Option<&str>, handler: Option<&str>) -> Result<()> {
    let all = transaction::with_latest_snapshot(reasons::pauses)?;
    let is_its = |pause: &&Pause| pause.is_of_all() || pause.tenant == tenant.name;
    // Of all of it, parts that pause are told too; of a part, what pauses it.
    let concerns = |pause: &&Pause| match (queue, handler) {
        (None, None) => true,
        _ => {
            (pause.queue.is_empty() || queue.is_some_and(|queue| queue == pause.queue))
                && (pause.handler.is_empty() || handler.is_some_and(|handler| handler == pause.handler))
        }
    };
    let paused = all.iter().filter(is_its).filter(concerns).map(|pause| Because::paused(Reason::Paused, pause));
    let ready = records::exists(
        "SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1 AND t.ready",
        &[tenant.name.as_str().into()],
    )?;
    let not_ready = (!ready).then(|| reasons::tenants::not_ready(&tenant.name));
    for because in reasons::of_server()?.into_iter().chain(not_ready).chain(paused) {
        let notice =
            Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("tasks of tenant \"{}\" still wait: {}", tenant.name, because.text));
        match because.fix {
            Some(fix) => notice.hint(format!("{fix};")),
            None => notice,
        }
        .notice();
    }
    Ok(())
}

/// Texts of the extension's own tables.
fn texts(sql: &str, args: &[DatumWithOid]) -> Result<Vec<String>> {
    sandbox::as_extension(|| {
        Spi::connect(|c| Ok(c.select(sql, None, args)?.filter_map(|row| row.get::<String>(1).ok().flatten()).collect()))
    })
    .map_err(|e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string()))
}

/// Refuses a handler that no tenant has, under whatever name.
pub fn require_any_handler(name: &str) -> Result<()> {
    if name.is_empty()
        || !texts(
            "SELECT name FROM tenant_q.handler WHERE name OPERATOR(pg_catalog.=) $1 OR $1 OPERATOR(pg_catalog.=) ANY (aliases) LIMIT 1",
            &[name.into()],
        )?
        .is_empty()
    {
        return Ok(());
    }
    let names = texts("SELECT DISTINCT name FROM tenant_q.handler LIMIT 10000", &[])?;
    let error = Error::undefined(format!("handler \"{name}\" is not registered in any tenant"));
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
        None => error.hint("Pause a queue instead, or wait until a tenant has registered it."),
    })
}

/// Tasks that are looked at for one of a queue.
const LOOKED_AT: usize = 10_000;

/// A queue needs no setting up, so it may be paused before its first task. But a name mistyped stops nothing: that is said.
/// `tenant`: None = all of them.
fn tell_of_unknown_queue(tenant: Option<&Tenant>, queue: &str) -> Result<()> {
    if queue.is_empty() || queue == "default" {
        return Ok(());
    }
    let named = "SELECT name FROM tenant_q.queue WHERE $1 OPERATOR(pg_catalog.=) '' OR tenant OPERATOR(pg_catalog.=) $1
         UNION SELECT queue FROM tenant_q.handler WHERE $1 OPERATOR(pg_catalog.=) '' OR tenant OPERATOR(pg_catalog.=) $1 OR tenant OPERATOR(pg_catalog.=) '' LIMIT 10000";
    let mut names = texts(named, &[tenant.map_or("", |t| t.name.as_str()).into()])?;
    if let Some(tenant) = tenant {
        let tasks = tenant.open(tenant.task, Access::Read)?.fetch_at_most(0);
        for row in tasks.scan(&Tasks::PICK, &[]).take(LOOKED_AT) {
            names.extend(row.get(Tasks::QUEUE).filter(|name| !names.iter().any(|n| n == name)).map(str::to_owned));
        }
    }
    if names.iter().any(|name| name == queue) {
        return Ok(());
    }
    let quote = pgrx::spi::quote_literal::<&str>;
    let (whose, back) = match tenant {
        Some(tenant) => {
            (format!("tenant \"{}\"", tenant.name), format!("SELECT tq_resume({}, queue => {});", quote(&tenant.name), quote(queue)))
        }
        None => ("any tenant".into(), format!("SELECT tq_resume_all(queue => {});", quote(queue))),
    };
    let meant = nearest(queue, names.iter().map(String::as_str).chain(["default"]))
        .map_or(String::new(), |near| format!("Did you mean \"{near}\"? "));
    Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("queue \"{queue}\" is paused, but nothing of {whose} has named it so far"))
        .detail("Neither was it set up by tq_set_queue, nor does a handler or a task that waits name it.")
        .hint(format!("{meant}This takes it back: {back}"))
        .notice();
    Ok(())
}

/// tq_pause_all(handler, queue, duration)
pub fn pause_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_pause_all()");
    let handler = args.text(0).unwrap_or_default();
    require_any_handler(&handler)?;
    let queue = args.text(1).unwrap_or_default();
    pause_row("", &queue, &handler, args.period(2), &tenant::default_zone())?;
    tell_of_unknown_queue(None, &queue)?;
    records::announce_registry()?;
    roles::wake_every_tenant()?;
    Ok(Ret::Void)
}

/// tq_resume_all(handler, queue)
pub fn resume_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_resume_all()");
    unpause_row("", &args.text(1).unwrap_or_default(), &args.text(0).unwrap_or_default())?;
    if let Some(handler) = args.text(0) {
        roles::free_for_all(&handler)?;
    }
    records::announce_registry()?;
    roles::wake_every_tenant()?;
    tell_what_stays()?;
    Ok(Ret::Void)
}

/// Pauses of other parts of all tenants, and of tenants, are other people's words: said that they stay.
fn tell_what_stays() -> Result<()> {
    let all = transaction::with_latest_snapshot(reasons::pauses)?;
    for pause in all.iter().filter(|pause| pause.is_of_all()) {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, pause.text()).hint(format!("{};", pause.resume())).notice();
    }
    let whole = all.iter().filter(|pause| !pause.is_of_all() && pause.is_whole()).count();
    if whole > 0 {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{whole} tenants have a pause of their own, which stays"))
            .hint("SELECT tq_resume(tenant) FROM tq_tenants WHERE status = 'paused';")
            .notice();
    }
    Ok(())
}
