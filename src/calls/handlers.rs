//! SQL: what tasks may call: tq_register and its kin.
//!
//! A handler is a row of the registry, a tenant's or, of an empty name, of all. Its function is pinned as it is registered, by
//! signature and owner; handler/ decides at each attempt whether it is still that.

use crate::calls::tenants::check_settings;
use crate::calls::views::interval_json;
use crate::handler::notes::{self, LOOKED_INTO};
use crate::handler::roles::{wake_all, wake_if_used};
use crate::handler::signature::Signature;
use crate::handler::{all, check_retry, signature};
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, sandbox, transaction};
use crate::pure::retry;
use crate::pure::time::Span;
use crate::sql_functions;
use crate::task::new::TIME_MAX;
use crate::tenant::records::{announce_registry, run};
use crate::tenant::rights::require_owner;
use crate::tenant::{Tenant, limits, registry, resolve};
use pgrx::{JsonB, Spi, pg_sys};
use serde_json::{Value as Json, json};
use std::rc::Rc;

parameters! {
    TqRegister of tq_register {
        HANDLER,
        FUNCTION,
        QUEUE,
        PRIORITY,
        TIMEOUT,
        MAX_ATTEMPTS,
        RETRY,
        EXPIRES,
        MAX_RUNNING,
        RATE,
        RUN_AS,
        SETTINGS,
        SAVE,
        RESULT_TTL,
        ALIASES,
        EXTERNAL,
        SHARED,
        TENANT,
    }
}

/// tq_register(handler, function, queue, priority, timeout, max_attempts, retry, expires, max_running, rate,
/// run_as, settings, save, result_ttl, aliases, external, shared, tenant)
fn register(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_register()");
    let name = handler_name(args)?;
    let tenant = whose(args)?;
    let function = args.text(TqRegister::FUNCTION).unwrap_or_else(|| catalog::quote(&name));
    check_parameters(args)?;
    let pinned = pinned(tenant.as_deref(), &function)?;
    if let Some(role) = args.text(TqRegister::RUN_AS) {
        check_run_as(tenant.as_deref(), &role)?;
    }
    if let (Some(sig), Some(t)) = (&pinned, &tenant) {
        warn_of_role(sig, args.text(TqRegister::RUN_AS).and_then(|r| catalog::role_oid(&r)).unwrap_or(t.owner));
    }
    let existed = write(args, tenant.as_deref(), &name, &function, pinned.as_ref())?;
    notes::forget_states(tenant.as_ref().map(|t| t.name.as_str()), &name)?;
    announce_registry()?;
    transaction::see_own_writes();
    if let Some(t) = &tenant {
        // Its held tasks may go on, and others may have to run as another role now.
        if let Ok(fresh) = resolve(Some(&t.name)) {
            wake_if_used(&fresh)?;
        }
    } else {
        crate::handler::roles::wake_every_tenant()?;
    }
    Ok(Ret::Bool(!existed))
}

fn handler_name(args: &Args) -> Result<String> {
    let name = args.text(TqRegister::HANDLER).ok_or_else(|| {
        Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null").hint("Name the handler: SELECT tq_register('send_invoice').")
    })?;
    if name.is_empty() || name.len() > crate::handler::NAME_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid("a handler's name has 1 to 200 bytes and no control characters"));
    }
    Ok(name)
}

/// The tenant that it is registered in; None: in all.
fn whose(args: &Args) -> Result<Option<Rc<Tenant>>> {
    let shared = args.bool(TqRegister::SHARED).unwrap_or(false);
    let tenant = if shared { None } else { Some(resolve(args.text(TqRegister::TENANT).as_deref())?) };
    match &tenant {
        Some(t) => require_owner(t.owner, &t.name)?,
        None if args.text(TqRegister::TENANT).is_some() => return Err(Error::invalid("shared and tenant exclude each other")),
        None if !sandbox::is_superuser(sandbox::current_user()) => {
            return Err(Error::denied("only a superuser may register a handler for all tenants")
                .hint("Register it in your tenant: shared => false."));
        }
        None => {}
    }
    Ok(tenant)
}

/// Those that make sense or not whoever registers what.
fn check_parameters(args: &Args) -> Result<()> {
    limits::check_limits(args.int(TqRegister::MAX_RUNNING), args.text(TqRegister::RATE).as_deref())?;
    if args.bool(TqRegister::EXTERNAL) == Some(true) {
        return Err(Error::unsupported("external"));
    }
    if let Some(p) = args.int(TqRegister::PRIORITY)
        && i16::try_from(p).is_err()
    {
        return Err(Error::invalid(format!("priority {p} is out of range")).hint("Priorities go from -32768 to 32767, higher first."));
    }
    for (what, n) in [("timeout", TqRegister::TIMEOUT), ("expires", TqRegister::EXPIRES), ("result_ttl", TqRegister::RESULT_TTL)] {
        if args.interval(n).is_some_and(Span::is_negative) {
            return Err(Error::invalid(format!("{what} is negative")));
        }
        if args.interval(n).is_some_and(|i| crate::postgres::clock::now().saturating_add(i) >= TIME_MAX) {
            return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} points beyond the year 9999")));
        }
    }
    if args.int(TqRegister::MAX_ATTEMPTS).is_some_and(|n| n < 0) {
        return Err(Error::invalid("max_attempts is negative").hint("0 means for ever."));
    }
    if let Some(policy) = args.setting(TqRegister::RETRY) {
        check_retry(&policy)?;
    }
    if let Some(settings) = args.setting(TqRegister::SETTINGS) {
        check_settings(&settings)?;
    }
    Ok(())
}

/// The function as it is called from now on: signature and owner. None: looked up in the running tenant's path each time.
fn pinned(tenant: Option<&Tenant>, function: &str) -> Result<Option<Signature>> {
    let pinned = match tenant {
        Some(t) => Some(signature::resolve(function, &t.path_oids())?),
        None if is_qualified(function) => Some(signature::resolve(function, &[])?),
        None => None,
    };
    let (Some(signature), Some(tenant)) = (&pinned, tenant) else { return Ok(pinned) };
    crate::handler::may_reach(tenant, signature)?;
    if signature.own_search_path {
        Error::new(SqlState::WARNING, format!("function {} sets its own search_path", signature.identity))
            .detail(format!("It will not run in the schema of tenant \"{}\", but where its own search_path points.", tenant.name))
            .hint("ALTER FUNCTION … RESET search_path.")
            .warn();
    }
    Ok(pinned)
}

fn check_run_as(tenant: Option<&Tenant>, role: &str) -> Result<()> {
    let Some(oid) = catalog::role_oid(role) else {
        return Err(Error::undefined(format!("role \"{role}\" does not exist")));
    };
    if let Some(t) = tenant
        && !sandbox::may_set_role(pg_sys::Oid::from(t.owner), pg_sys::Oid::from(oid))
    {
        return Err(Error::denied(format!("the schema's owner may not SET ROLE to \"{role}\"")).hint(format!(
            "GRANT {} TO {};",
            catalog::quote(role),
            catalog::quote(&catalog::role_name(t.owner).unwrap_or_default())
        )));
    }
    Ok(())
}

/// Its row of the registry. True: there was one.
fn write(args: &Args, tenant: Option<&Tenant>, name: &str, function: &str, pinned: Option<&Signature>) -> Result<bool> {
    let who = tenant.map_or("", |t| t.name.as_str());
    let by = catalog::role_name(sandbox::current_user().to_u32()).unwrap_or_default();
    let existed = run(
        "DELETE FROM tenant_q.handler WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2 RETURNING 1",
        &[who.into(), name.into()],
    )? > 0;
    let seconds = |n: usize| args.interval(n).map(Span::seconds);
    let owner = pinned.and_then(|s| catalog::role_name(s.owner));
    run(
        "INSERT INTO tenant_q.handler (tenant, name, function, identity, owner, run_as, queue, priority, timeout, max_attempts, retry, expires,
                                       max_running, rate, settings, save, result_ttl, aliases, external, registered_by, registered_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.make_interval(secs => $9), $10, $11, pg_catalog.make_interval(secs => $12),
                 $18, $19, $13, $14, pg_catalog.make_interval(secs => $15), $16, false, $17, pg_catalog.now())",
        &[
            who.into(),
            name.into(),
            function.into(),
            pinned.map(|s| s.identity.as_str()).into(),
            owner.as_deref().into(),
            args.text(TqRegister::RUN_AS).into(),
            args.text(TqRegister::QUEUE).into(),
            args.int(TqRegister::PRIORITY).into(),
            seconds(TqRegister::TIMEOUT).into(),
            args.int(TqRegister::MAX_ATTEMPTS).into(),
            args.setting(TqRegister::RETRY).map(JsonB).into(),
            seconds(TqRegister::EXPIRES).into(),
            args.setting(TqRegister::SETTINGS).map(JsonB).into(),
            args.bool(TqRegister::SAVE).into(),
            seconds(TqRegister::RESULT_TTL).into(),
            args.texts(TqRegister::ALIASES).into(),
            by.into(),
            args.int(TqRegister::MAX_RUNNING).into(),
            args.text(TqRegister::RATE).into(),
        ],
    )?;
    Ok(existed)
}

/// What will make its tasks fail, said while somebody looks. USAGE on the function's schema is the
/// owner's affair (`may_reach`): run_as needs none of its own.
fn warn_of_role(signature: &Signature, role: u32) {
    if catalog::may_execute(signature.oid, pg_sys::Oid::from(role)) {
        return;
    }
    let name = catalog::role_name(role).unwrap_or_default();
    Error::new(SqlState::WARNING, format!("tasks of {} will fail: role \"{name}\" lacks EXECUTE on it", signature.identity))
        .hint(format!("GRANT EXECUTE ON ROUTINE {} TO {};", signature.identity, catalog::quote(&name)))
        .warn();
}

/// Whether the function's name has a schema in front of it, outside of quotes and arguments.
fn is_qualified(function: &str) -> bool {
    let mut quoted = false;
    for c in function.chars() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => return false,
            '.' if !quoted => return true,
            _ => {}
        }
    }
    false
}

/// tq_unregister(handler, shared, tenant)
fn unregister(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unregister()");
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null"))?;
    let shared = args.bool(1).unwrap_or(false);
    let tenant = if shared { None } else { Some(resolve(args.text(2).as_deref())?) };
    match &tenant {
        Some(t) => require_owner(t.owner, &t.name)?,
        None if !sandbox::is_superuser(sandbox::current_user()) => {
            return Err(Error::denied("only a superuser may unregister a handler of all tenants"));
        }
        None => {}
    }
    let gone = run(
        "DELETE FROM tenant_q.handler WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2 RETURNING 1",
        &[tenant.as_ref().map_or("", |t| t.name.as_str()).into(), name.as_str().into()],
    )? > 0;
    if shared {
        notes::forget_states(None, &name)?;
    }
    announce_registry()?;
    Ok(Ret::Bool(gone))
}

/// Called by the event trigger on commands that make or alter functions: where one was missing, the tasks that
/// were held for it are looked at again.
fn routine_changed(_args: &Args) -> Result<Ret> {
    let fail = |e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string());
    let mut sql = "SELECT tenant FROM tenant_q.handler WHERE missing_since IS NOT NULL".to_string();
    if registry()?.handler_state.is_some() {
        sql.push_str(" UNION SELECT tenant FROM tenant_q.handler_state WHERE missing_since IS NOT NULL");
    }
    let tenants: Vec<String> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(&sql, Some(LOOKED_INTO as i64 + 1), &[])?
                .map(|row| row.get::<String>(1).map(Option::unwrap_or_default))
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(fail)?;
    if tenants.len() > LOOKED_INTO {
        crate::handler::roles::wake_every_tenant()?;
        return Ok(Ret::Void);
    }
    for name in tenants {
        if let Some(schema) = catalog::schema_oid(&name)
            && let Ok(tenant) = crate::tenant::by_oid(schema)
        {
            for handler in all(&tenant)?.iter().filter(|h| h.fault.is_none()) {
                notes::note_back(&tenant, handler).map_err(Error::from)?;
            }
            wake_all(&tenant)?;
        }
    }
    Ok(Ret::Void)
}

parameters! {
    TqBackoff of tq_backoff {
        KIND,
        BASE,
        FACTOR,
        CAP,
        JITTER,
        DELAYS,
        RETRY_ON,
        NEVER_ON,
    }
}

/// tq_backoff(kind, base, factor, cap, jitter, delays, retry_on, never_on)
fn backoff(args: &Args) -> Result<Ret> {
    let kind = args.text(TqBackoff::KIND).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "kind is null"))?;
    let kinds = ["fixed", "linear", "exponential", "list", "celery", "dramatiq", "rq", "procrastinate"];
    if !kinds.contains(&kind.as_str()) {
        return Err(Error::invalid(format!("kind \"{kind}\" is not known")).hint(format!("Kinds are: {}.", kinds.join(", "))));
    }
    let mut object = json!({ "kind": kind });
    for (name, n) in [("base", TqBackoff::BASE), ("cap", TqBackoff::CAP)] {
        if let Some(i) = args.interval(n) {
            object[name] = json!(i.seconds());
        }
    }
    for (name, n) in [("factor", TqBackoff::FACTOR), ("jitter", TqBackoff::JITTER)] {
        if let Some(f) = args.float(n) {
            object[name] = json!(f);
            if object[name].is_null() {
                return Err(Error::invalid(format!("{name} is not a number")));
            }
        }
    }
    if let Some(delays) = args.intervals(TqBackoff::DELAYS) {
        object["delays"] = delays.into_iter().map(Span::seconds).collect();
    }
    for (name, n) in [("retry_on", TqBackoff::RETRY_ON), ("never_on", TqBackoff::NEVER_ON)] {
        if let Some(list) = args.texts(n) {
            object[name] = list.into();
        }
    }
    let policy: retry::Policy = check_retry(&object)?;
    Ok(Ret::Json(serde_json::to_value(policy).expect("a policy is a document")))
}

/// tenant_q.backoff_delay(policy, attempt): what the policy would wait, in seconds, without chance.
fn backoff_delay(args: &Args) -> Result<Ret> {
    let policy = match args.setting(0) {
        Some(json) => check_retry(&json)?,
        None => retry::Policy::default(),
    };
    let exact = retry::Policy { jitter: Some(0.0), ..policy };
    Ok(Ret::Json(json!(exact.delay(args.int(1).unwrap_or(1).max(1) as u32, 0).seconds())))
}

/// tenant_q.handlers(tenant): rows of the view tq_handlers, as documents.
fn handlers(args: &Args) -> Result<Ret> {
    let tenant = resolve(args.text(0).as_deref())?;
    let now = crate::postgres::clock::now();
    // There may be a password in them.
    let insider = crate::tenant::rights::may_read(&tenant).is_ok();
    let rows: Vec<Json> = all(&tenant)?
        .iter()
        .map(|handler| {
            let paused = tenant.part_paused_until(&handler.name, handler.queue.as_deref(), now).is_some();
            let status = match &handler.fault {
                Some(fault) => fault.status(),
                None if handler.quarantined => "quarantined",
                None if paused => "paused",
                None => "ok",
            };
            json!({
                "tenant": tenant.name,
                "handler": handler.name,
                "function": handler.signature.as_ref().map_or(handler.function.as_str(), |s| s.identity.as_str()),
                "shared": handler.shared,
                "status": status,
                "reason": handler.fault.as_ref().map(|fault| fault.text()).or_else(|| handler.why_quarantined()),
                "guarantee": if handler.is_procedure() { "at_least_once" } else { "exactly_once" },
                "run_as": catalog::role_name(handler.run_as),
                "queue": handler.queue,
                "priority": handler.priority,
                "timeout": handler.timeout.map(interval_json),
                "max_attempts": handler.max_attempts,
                "expires": handler.expires.map(interval_json),
                "max_running": handler.max_running,
                "rate": handler.rate.map(|r| r.to_string()),
                "result_ttl": handler.result_ttl.map(interval_json),
                "aliases": handler.aliases,
                "retry": handler.retry.as_ref().and_then(|r| serde_json::to_value(r).ok()),
                "save": handler.save,
                "settings": handler.settings.as_ref().filter(|_| insider),
            })
        })
        .collect();
    Ok(Ret::Json(rows.into()))
}

sql_functions! {
    tq_register, pg_finfo_tq_register => register;
    tq_unregister, pg_finfo_tq_unregister => unregister;
    tq_backoff, pg_finfo_tq_backoff => backoff;
    tenant_q_backoff_delay, pg_finfo_tenant_q_backoff_delay => backoff_delay;
    tenant_q_handlers, pg_finfo_tenant_q_handlers => handlers;
    tenant_q_routine_changed, pg_finfo_tenant_q_routine_changed => routine_changed;
}
