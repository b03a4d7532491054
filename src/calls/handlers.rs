//! SQL: what tasks may call: tq_register and its kin.
//!
//! A handler is a row of the registry, a tenant's or, of an empty name, of all. Its function is pinned as it is registered, by
//! signature and owner; handler/ decides at each attempt whether it is still that.

use crate::calls::tenants::check_settings;
use crate::calls::views::{interval_json, period_json};
use crate::handler::notes::{self, LOOKED_INTO};
use crate::handler::roles::{wake_all, wake_if_used};
use crate::handler::signature::Signature;
use crate::handler::{all, check_retry, external, listening, signature};
use crate::postgres::call::{self, Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::retry;
use crate::pure::time::Span;
use crate::sql_functions;
use crate::task::new::TIME_MAX;
use crate::tenant::records::{Declared, announce_registry, cell, declare, exists, interval_cell, period_cell, run};
use crate::tenant::reserved::refuse_idle;
use crate::tenant::rights::{self, Right};
use crate::tenant::{Tenant, limits, lock, patience, registry, resolve};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{JsonB, Spi, pg_sys};
use serde_json::{Value as Json, json};
use std::collections::HashSet;
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
        PARAMS,
    }
}

/// tq_register(handler, function, queue, priority, timeout, max_attempts, retry, expires, max_running, rate,
/// run_as, settings, save, result_ttl, aliases, external, shared, tenant, params)
pub fn register(args: &Args) -> Result<Ret> {
    Ok(Ret::Bool(registration(args, By::Hand)? == Declared::New))
}

/// The same as a deploy says it (deploy.rs): whether anything has changed.
pub fn deploy(args: &Args) -> Result<Ret> {
    Ok(Ret::Bool(registration(args, By::Deploy)? != Declared::Same))
}

/// Who says it: what a deploy has made, and nobody has changed by hand, a deploy may take away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Hand,
    Deploy,
}

fn registration(args: &Args, by: By) -> Result<Declared> {
    transaction::require_writable(c"tq_register()");
    let name = handler_name(args)?;
    let tenant = whose(args)?;
    check_parameters(args)?;
    refuse_shadowing(tenant.as_deref(), &name, args)?;
    if args.bool(TqRegister::EXTERNAL) == Some(true) {
        return register_external(args, tenant.as_ref(), &name, by);
    }
    let function = args.text(TqRegister::FUNCTION).unwrap_or_else(|| catalog::quote(&name));
    let pinned = pinned(tenant.as_deref(), &function)?;
    if let Some(role) = args.text(TqRegister::RUN_AS) {
        check_run_as(tenant.as_deref(), &role)?;
    }
    if let (Some(sig), Some(t)) = (&pinned, &tenant) {
        warn_of_role(sig, args.text(TqRegister::RUN_AS).and_then(|r| catalog::role_oid(&r)).unwrap_or(t.owner));
    }
    if let Some(function) = &pinned {
        listening::require_listener(&name, tenant.as_ref().map_or("", |t| t.name.as_str()), function)?;
    }
    let settings = args.setting(TqRegister::SETTINGS);
    let declared = write(args, tenant.as_deref(), &name, &function, pinned.as_ref(), settings, by)?;
    registered(tenant.as_ref(), &name, declared)?;
    Ok(declared)
}

/// A handler whose code runs outside of the server: there is no function, and what it takes is declared.
fn register_external(args: &Args, tenant: Option<&Rc<Tenant>>, name: &str, by: By) -> Result<Declared> {
    let beside = |what: &str| Err(Error::invalid(format!("{what} and external exclude each other")));
    if args.is_given(TqRegister::FUNCTION) {
        return beside("function");
    }
    if args.is_given(TqRegister::SETTINGS) {
        return Err(Error::invalid("settings and external exclude each other")
            .detail("They are set where the code runs, which is outside of the server.")
            .hint("SET them in the worker's own session."));
    }
    let params = params(args);
    if let Some(params) = &params {
        external::declared(tenant.map(|t| &**t), name, params)?;
    }
    if let Some(role) = args.text(TqRegister::RUN_AS)
        && catalog::role_oid(&role).is_none()
    {
        return Err(Error::undefined(format!("role \"{role}\" does not exist")));
    }
    listening::require_asynchronous(name, tenant.map_or("", |t| t.name.as_str()))?;
    let declared = write(args, tenant.map(|t| &**t), name, name, None, params, by)?;
    registered(tenant, name, declared)?;
    Ok(declared)
}

/// What was declared of an external one; NULL of others.
fn params(args: &Args) -> Option<Json> {
    if args.declares(TqRegister::PARAMS) { args.setting(TqRegister::PARAMS) } else { None }
}

/// An external handler of all tenants is one that applications rely on: no tenant puts its own in its place.
fn refuse_shadowing(tenant: Option<&Tenant>, name: &str, args: &Args) -> Result<()> {
    let Some(_) = tenant else { return Ok(()) };
    let mut names = args.texts(TqRegister::ALIASES).unwrap_or_default();
    names.push(name.to_string());
    let taken = "SELECT FROM tenant_q.handler
                  WHERE tenant OPERATOR(pg_catalog.=) '' AND external
                    AND (name OPERATOR(pg_catalog.=) ANY ($1) OR aliases OPERATOR(pg_catalog.&&) $1)";
    if exists(taken, &[names.into()])? {
        return Err(Error::new(
            SqlState::DUPLICATE_OBJECT,
            format!("handler \"{name}\" has the name of an external handler of all tenants"),
        )
        .detail("The application's workers do its tasks, of whichever tenant they are.")
        .hint("Choose another name."));
    }
    Ok(())
}

/// The handler is as it was said: whoever it concerns is told.
fn registered(tenant: Option<&Rc<Tenant>>, name: &str, declared: Declared) -> Result<()> {
    if declared == Declared::Same {
        return Ok(());
    }
    notes::forget_states(tenant.map(|t| t.name.as_str()), name)?;
    announce_registry()?;
    transaction::see_own_writes();
    if let Some(t) = tenant {
        // Its held tasks may go on, and others may have to run as another role now.
        if let Ok(fresh) = resolve(Some(&t.name)) {
            wake_if_used(&fresh)?;
        }
    } else {
        crate::handler::roles::wake_every_tenant()?;
    }
    Ok(())
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
    let tenant = if shared { None } else { Some(rights::resolve_owned(args.text(TqRegister::TENANT).as_deref())?) };
    match &tenant {
        None if args.text(TqRegister::TENANT).is_some() => return Err(Error::invalid("shared and tenant exclude each other")),
        None if args.bool(TqRegister::EXTERNAL) == Some(true) && may_register_external() => {}
        None if args.bool(TqRegister::EXTERNAL) == Some(true) => {
            return Err(Error::denied("permission denied to register an external handler for all tenants").hint(format!(
                "GRANT EXECUTE ON FUNCTION tenant_q.register_external() TO {};",
                catalog::quote(&catalog::role_name(sandbox::current_user().to_u32()).unwrap_or_default())
            )));
        }
        None if !sandbox::is_superuser(sandbox::current_user()) => {
            return Err(Error::denied("only a superuser may register a handler for all tenants")
                .hint("Register it in your tenant: shared => false."));
        }
        _ => {}
    }
    Ok(tenant)
}

/// It is a right like any other: that to call a function which does nothing.
pub fn may_register_external() -> bool {
    let function = signature::resolve("tenant_q.register_external()", &[]);
    function.is_ok_and(|function| catalog::may_execute(function.oid, sandbox::current_user()))
}

/// Those that make sense or not whoever registers what.
fn check_parameters(args: &Args) -> Result<()> {
    limits::check_limits(args.int(TqRegister::MAX_RUNNING), args.text(TqRegister::RATE).as_deref())?;
    if params(args).is_some() && args.bool(TqRegister::EXTERNAL) != Some(true) {
        return Err(
            Error::invalid("params is of external handlers").hint("What a function takes its own parameters say: leave params out.")
        );
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
        refuse_idle(&settings)?;
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

/// Its row of the registry.
///
/// `settings`: of an external one what it takes.
fn write(
    args: &Args,
    tenant: Option<&Tenant>,
    name: &str,
    function: &str,
    pinned: Option<&Signature>,
    settings: Option<Json>,
    by: By,
) -> Result<Declared> {
    let role = catalog::role_name(sandbox::current_user().to_u32()).unwrap_or_default();
    let owner = pinned.and_then(|s| catalog::role_name(s.owner));
    let mut cells = vec![
        cell("function", function),
        cell("identity", pinned.map(|s| s.identity.as_str())),
        cell("owner", owner.as_deref()),
        cell("run_as", args.text(TqRegister::RUN_AS)),
        cell("queue", args.text(TqRegister::QUEUE)),
        cell("priority", args.int(TqRegister::PRIORITY)),
        interval_cell("timeout", args.interval(TqRegister::TIMEOUT)),
        cell("max_attempts", args.int(TqRegister::MAX_ATTEMPTS)),
        cell("retry", args.setting(TqRegister::RETRY).map(JsonB)),
        period_cell("expires", args.interval_in_parts(TqRegister::EXPIRES)),
        cell("max_running", args.int(TqRegister::MAX_RUNNING)),
        cell("rate", args.text(TqRegister::RATE)),
        cell("settings", settings.map(JsonB)),
        cell("save", args.bool(TqRegister::SAVE)),
        period_cell("result_ttl", args.interval_in_parts(TqRegister::RESULT_TTL)),
        cell("aliases", args.texts(TqRegister::ALIASES)),
        cell("external", args.bool(TqRegister::EXTERNAL) == Some(true)),
        // It was missing, and its tasks are held: that is over.
        cell("missing_since", None::<TimestampWithTimeZone>),
        cell("quarantined", None::<TimestampWithTimeZone>).noted(),
        cell("crashes", None::<JsonB>).noted(),
        cell("registered_by", role).noted(),
        cell("registered_at", call::timestamp(clock::now())).noted(),
    ];
    let key = [("tenant", tenant.map_or("", |t| t.name.as_str())), ("name", name)];
    if args.declares(TqRegister::PARAMS) {
        let by_hand =
            "SELECT FROM tenant_q.handler WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2 AND NOT declared";
        let declared = by == By::Deploy && !exists(by_hand, &key.map(|(_, value)| value.into()))?;
        cells.push(cell("declared", declared).noted());
    }
    let lock = || lock::declarations(tenant.map_or(0, |t| t.oid));
    let declared = declare("handler", &key, cells, lock)?;
    if registry()?.handler_role.is_none() {
        return Ok(declared);
    }
    let oid = |role: Option<u32>| role.map(pg_sys::Oid::from);
    let roles = vec![
        cell("owner", oid(pinned.map(|s| s.owner))),
        cell("run_as", oid(args.text(TqRegister::RUN_AS).and_then(|role| catalog::role_oid(&role)))),
    ];
    match declare("handler_role", &key, roles, lock)? {
        Declared::Same => Ok(declared),
        _ if declared == Declared::Same => Ok(Declared::Changed),
        _ => Ok(declared),
    }
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
    let tenant = if shared { None } else { Some(rights::resolve_owned(args.text(2).as_deref())?) };
    if shared && !sandbox::is_superuser(sandbox::current_user()) {
        let external =
            "SELECT FROM tenant_q.handler WHERE tenant OPERATOR(pg_catalog.=) '' AND name OPERATOR(pg_catalog.=) $1 AND external";
        if !may_register_external() || !exists(external, &[name.as_str().into()])? {
            return Err(Error::denied("only a superuser may unregister a handler of all tenants")
                .detail("But for external ones, which whoever may register them may unregister.")
                .hint("Where the tenant has one of its own of that name: shared => false."));
        }
    }
    Ok(Ret::Bool(forget(tenant.as_deref(), &name)?))
}

/// Of this tenant, or of all. False: there is none of this name.
pub fn forget(tenant: Option<&Tenant>, name: &str) -> Result<bool> {
    let who = tenant.map_or("", |t| t.name.as_str());
    let is_it = "FROM tenant_q.handler WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2";
    if !exists(&format!("SELECT {is_it}"), &[who.into(), name.into()])? {
        return Ok(false);
    }
    lock::declarations(tenant.map_or(0, |t| t.oid))?;
    let gone = run(&format!("DELETE {is_it} RETURNING 1"), &[who.into(), name.into()])? > 0;
    // Who is about to let it listen has been waited for.
    listening::refuse_orphans(name, who)?;
    if registry()?.handler_role.is_some() {
        let roles = "DELETE FROM tenant_q.handler_role WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2";
        run(roles, &[who.into(), name.into()])?;
    }
    if tenant.is_none() {
        notes::forget_states(None, name)?;
    }
    announce_registry()?;
    Ok(gone)
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
        LINEAR,
    }
}

/// tq_backoff(kind, base, factor, cap, jitter, delays, retry_on, never_on, linear)
fn backoff(args: &Args) -> Result<Ret> {
    let kind = args.text(TqBackoff::KIND).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "kind is null"))?;
    let kinds = ["fixed", "linear", "exponential", "list", "celery", "dramatiq", "rq", "procrastinate"];
    if !kinds.contains(&kind.as_str()) {
        return Err(Error::invalid(format!("kind \"{kind}\" is not known")).hint(format!("Kinds are: {}.", kinds.join(", "))));
    }
    let mut object = json!({ "kind": kind });
    for (name, n) in [("base", TqBackoff::BASE), ("cap", TqBackoff::CAP), ("linear", TqBackoff::LINEAR)] {
        if args.declares(n)
            && let Some(i) = args.interval(n)
        {
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
    if let Some(unused) = policy.unused() {
        return Err(
            Error::invalid(format!("kind {kind} has no use for {unused}")).hint(format!("Leave {unused} out, or take another kind."))
        );
    }
    Ok(Ret::Json(serde_json::to_value(policy).expect("a policy is a document")))
}

/// tenant_q.backoff_delay(policy, attempt, max_attempts): what the policy would wait, in seconds, without chance.
fn backoff_delay(args: &Args) -> Result<Ret> {
    let policy = match args.setting(0) {
        Some(json) => check_retry(&json)?,
        None => retry::Policy::default(),
    };
    let exact = retry::Policy { jitter: Some(0.0), ..policy };
    let most = if args.declares(2) { args.int(2) } else { None };
    Ok(Ret::Json(json!(exact.delay(args.int(1).unwrap_or(1).max(1) as u32, most.unwrap_or(0).max(0) as u32, 0).seconds())))
}

/// Those of these functions that are written in a language which can open connections and files of its own: what they do
/// there is not rolled back with the attempt.
fn untrusted(functions: impl Iterator<Item = u32>) -> Result<HashSet<u32>> {
    let functions: Vec<pg_sys::Oid> = functions.map(pg_sys::Oid::from).collect();
    let found = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
                  WHERE p.oid OPERATOR(pg_catalog.=) ANY ($1) AND l.lanispl AND NOT l.lanpltrusted",
                None,
                &[functions.into()],
            )?
            .map(|row| row.get::<pg_sys::Oid>(1).map(|oid| oid.map_or(0, |oid| oid.to_u32())))
            .collect::<std::result::Result<HashSet<_>, pgrx::spi::Error>>()
        })
    });
    found.map_err(Error::from)
}

/// tenant_q.handlers(tenant): rows of the view tq_handlers, as documents.
fn handlers(args: &Args) -> Result<Ret> {
    let tenant = resolve(args.text(0).as_deref())?;
    let now = crate::postgres::clock::now();
    // There may be a password in them.
    let insider = rights::require(&tenant, &[Right::Read]).is_ok();
    let handlers = all(&tenant)?;
    let untrusted = untrusted(handlers.iter().filter_map(|h| h.signature.as_ref()).map(|s| s.oid))?;
    let rows: Vec<Json> = handlers
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
                "function": (!handler.is_external()).then(|| handler.signature.as_ref().map_or(handler.function.as_str(), |s| s.identity.as_str())),
                "shared": handler.shared,
                "status": status,
                "reason": handler.fault.as_ref().map(|fault| fault.text()).or_else(|| handler.why_quarantined()),
                "guarantee": if handler.is_external() {
                    "by_worker"
                } else if handler.is_procedure() || untrusted.contains(&handler.signature.as_ref().map_or(0, |s| s.oid)) {
                    "at_least_once"
                } else {
                    "exactly_once"
                },
                "run_as": match &handler.external {
                    Some(external) => external.worker.and_then(catalog::role_name),
                    None => catalog::role_name(handler.run_as),
                },
                "queue": handler.queue,
                "priority": handler.priority,
                "timeout": handler.timeout.map(interval_json),
                "max_attempts": handler.max_attempts,
                "expires": handler.expires.map(period_json),
                "max_running": handler.max_running,
                "rate": handler.rate.map(|r| r.to_string()),
                "result_ttl": handler.result_ttl.map(period_json),
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
    tq_register, pg_finfo_tq_register => |args| patience::bounded("tq_register()", || register(args));
    tq_unregister, pg_finfo_tq_unregister => |args| patience::bounded("tq_unregister()", || unregister(args));
    tq_backoff, pg_finfo_tq_backoff => backoff;
    tenant_q_backoff_delay, pg_finfo_tenant_q_backoff_delay => backoff_delay;
    tenant_q_handlers, pg_finfo_tenant_q_handlers => handlers;
    tenant_q_routine_changed, pg_finfo_tenant_q_routine_changed => routine_changed;
}
