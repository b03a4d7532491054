//! tq_attach and its kin: making schemas tenants, and saying how they are to be treated.

pub mod pauses;

use crate::calls::registered;
use crate::calls::rights::give_what_all_give;
use crate::handler::roles;
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction::LocalId;
use crate::postgres::{catalog, sandbox, shmem, transaction, worker};
use crate::pure::choice::{Named, SavePer};
use crate::pure::period::Period;
use crate::pure::schedule::zone;
use crate::schedules::rezone;
use crate::shared::wake;
use crate::sql_functions;
use crate::tenant::columns::Tenants;
use crate::tenant::records;
use crate::tenant::{Tenant, limits, lock, patience, registry, reserved, resolve, rights, shape};
use pgrx::{Spi, pg_sys};

/// Schemas that one transaction may attach: each takes three dozen locks.
const ATTACH_LIMIT: u32 = 50;

pub(crate) const TABLES: &str = include_str!("../../sql/tenant_tables.sql");

/// Administrators: superusers, and whoever got EXECUTE on the function (which SQL checks).
fn schema_and_owner(name: &str) -> Result<(u32, u32)> {
    let oid = catalog::schema_oid(name).ok_or_else(|| {
        Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")).hint("Create it first: CREATE SCHEMA …")
    })?;
    let owner =
        catalog::schema_owner(oid).ok_or_else(|| Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")))?;
    Ok((oid, owner))
}

fn current_schema() -> Result<String> {
    let path = crate::postgres::session::show(c"search_path");
    crate::tenant::first_of_path(&path)
        .ok_or_else(|| Error::new(SqlState::INVALID_SCHEMA_NAME, "there is no current schema").hint("Name it: SELECT tq_attach('…')."))
}

thread_local! {
    /// (transaction, how many it has attached).
    static ATTACHED: std::cell::Cell<Option<(LocalId, u32)>> = const { std::cell::Cell::new(None) };
}

/// Whether the registry has this very schema.
fn in_registry(name: &str, oid: u32) -> Result<bool> {
    let table = Table::open(registry()?.tenant, Access::Read);
    Ok(table.and_then(|t| t.find(Tenants::NAME.equals(name))).is_some_and(|row| row.get(Tenants::SCHEMA_OID) == Some(oid)))
}

/// tenant_q.is_attached(schema_name)
fn is_attached(args: &Args) -> Result<Ret> {
    let name = args.text(0).unwrap_or_default();
    Ok(Ret::Bool(match catalog::schema_oid(&name) {
        Some(oid) => in_registry(&name, oid)?,
        None => false,
    }))
}

/// tq_attach(tenant, adopt, ready)
fn attach(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_attach()");
    let name = match args.text(0) {
        Some(name) => name,
        None => current_schema()?,
    };
    let (adopt, ready) = (args.bool(1).unwrap_or(false), args.bool(2).unwrap_or(true));
    let (oid, owner) = schema_and_owner(&name)?;
    if name.starts_with("pg_") || matches!(name.as_str(), "information_schema" | "tenant_q") {
        return Err(
            Error::new(SqlState::RESERVED_NAME, format!("schema \"{name}\" cannot be a tenant")).detail("It belongs to the system.")
        );
    }
    if name.chars().any(char::is_control) {
        return Err(Error::new(SqlState::INVALID_NAME, "a schema whose name has control characters cannot be a tenant")
            .detail("The name would break the lines of logs and views.")
            .hint("Rename the schema."));
    }
    rights::require_owner(owner, &name)?;
    shape::refuse_distributed(&name, None)?;
    registered::follow(Some(oid))?;
    if in_registry(&name, oid)? && catalog::relation_oid(oid, "tq_task").is_some() {
        registered::confirm_superuser(oid, owner)?;
        return Ok(attached_already(&name));
    }
    lock::declarations(oid)?;
    // Somebody else has attached it meanwhile.
    if transaction::with_latest_snapshot(|| in_registry(&name, oid))? && catalog::relation_oid(oid, "tq_task").is_some() {
        return Ok(attached_already(&name));
    }
    let transaction = LocalId::now();
    let count = ATTACHED.get().filter(|(seen, _)| *seen == transaction).map_or(1, |(_, count)| count + 1);
    if count > ATTACH_LIMIT {
        return Err(Error::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("more than {ATTACH_LIMIT} schemas attached in one transaction"),
        )
        .detail("Each takes dozens of locks, and the server's lock table is finite.")
        .hint("CALL tq_attach_all(…) commits after each schema."));
    }
    ATTACHED.set(Some((transaction, count)));
    sandbox::as_owner(pg_sys::Oid::from(owner), || make_tables(&name, oid, owner, adopt))?;
    registered::attach(&name, oid, owner, adopt, ready)?;
    give_what_all_give(&name, owner)?;
    records::announce_registry()?;
    warn_of_owner(&name, owner);
    warn_of_case(&name)?;
    transaction::see_own_writes();
    registered::confirm_superuser(oid, owner)?;
    if let Ok(tenant) = crate::tenant::by_oid(oid) {
        // Tables that have just been made are empty: nobody need come and look.
        roles::for_each_entry(&tenant, if adopt { wake::changed } else { wake::set_up })?;
    }
    crate::fanout::definitions::visit(&name)?;
    if let Ok(tenant) = crate::tenant::by_oid(oid) {
        super::tables::orphans::adopt(&tenant)?;
    }
    Ok(Ret::Bool(true))
}

fn attached_already(name: &str) -> Ret {
    Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("schema \"{name}\" is attached already, skipping")).notice();
    Ret::Bool(false)
}

/// A tenant whose name differs in case only is what somebody gets who forgets the quotes.
fn warn_of_case(name: &str) -> Result<()> {
    let sql = "SELECT name FROM tenant_q.tenant WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) pg_catalog.lower($1) AND name OPERATOR(pg_catalog.<>) $1 LIMIT 1";
    let other = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(sql, Some(1), &[name.into()]).map(|rows| rows.filter_map(|row| row.get::<String>(1).ok().flatten()).next())
        })
        .map_err(Error::from)
    })?;
    if let Some(other) = other {
        Error::new(SqlState::WARNING, format!("the names of tenants \"{name}\" and \"{other}\" differ in case only"))
            .detail("In SQL a name without quotes is taken for the one in lower case; tenant => '…' takes it as it stands.")
            .warn();
    }
    Ok(())
}

/// How tasks of a schema come to run whose owner may not log in.
fn let_log_in(schema: &str, role: &str) -> String {
    if role.starts_with("pg_") {
        // Predefined roles can't be altered: schema public belongs to one.
        return format!("ALTER SCHEMA {} OWNER TO …, a role with LOGIN.", catalog::quote(schema));
    }
    format!("ALTER ROLE {} LOGIN; it needs no password.", catalog::quote(role))
}

/// What will keep the tenant's tasks from running, said while somebody looks.
fn warn_of_owner(name: &str, owner: u32) {
    let role = catalog::role_name(owner).unwrap_or_default();
    if !worker::NOLOGIN_WORKS && !catalog::may_login(owner) {
        Error::new(SqlState::WARNING, format!("tasks of tenant \"{name}\" will not run: role \"{role}\" may not log in"))
            .detail("Before PostgreSQL 17 a background worker can't be the session of a role without LOGIN.")
            .hint(let_log_in(name, &role))
            .warn();
    } else if !catalog::may_connect(shmem::my_database(), owner) {
        Error::new(SqlState::WARNING, format!("tasks of tenant \"{name}\" will not run: role \"{role}\" may not connect to this database"))
            .hint(format!("GRANT CONNECT ON DATABASE … TO {};", catalog::quote(&role)))
            .warn();
    } else if sandbox::is_superuser(pg_sys::Oid::from(owner)) && !crate::settings::allow_superuser() {
        Error::new(SqlState::WARNING, format!("tasks of tenant \"{name}\" will not run: role \"{role}\" is a superuser"))
            .detail("tenant_q.allow_superuser is off.")
            .hint("Let the schema belong to an ordinary role.")
            .warn();
    }
}

const OURS: [&str; 3] = ["tq_task", "tq_result", "tq_schedule"];

/// As the schema's owner, in the sandbox.
fn make_tables(name: &str, oid: u32, owner: u32, adopt: bool) -> Result<()> {
    let registry = registry()?;
    let present: Vec<&str> = OURS.into_iter().filter(|t| catalog::relation_oid(oid, t).is_some()).collect();
    if !present.is_empty() {
        if !adopt {
            return Err(Error::new(SqlState::DUPLICATE_TABLE, format!("schema \"{name}\" has a relation {} already", present[0])).hint(
                format!(
                    "If it is a queue of a tenant restored or detached before: SELECT tq_attach({}, adopt => true).",
                    pgrx::spi::quote_literal(name)
                ),
            ));
        }
        if present.len() < OURS.len() {
            return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("schema \"{name}\" has only some of the tables to adopt"))
                .detail(format!("It has {}.", present.join(", "))));
        }
        for (table, template) in
            OURS.iter().zip([registry.template_task.oid(), registry.template_result.oid(), registry.template_schedule.oid()])
        {
            let relation = catalog::relation_oid(oid, table).expect("seen above");
            let table = Table::open_any(relation, Access::Read).ok_or_else(|| Error::state("the table has just gone"))?;
            shape::check_new(name, owner, &table, template)?;
        }
        return Ok(());
    }
    if !catalog::may_create_in_schema(oid, pg_sys::Oid::from(owner)) {
        return Err(Error::denied(format!("the owner of schema \"{name}\" may not create tables in it")));
    }
    let fail = |e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string());
    Spi::run(&TABLES.replace("{s}", &catalog::quote(name))).map_err(fail)?;
    // What ALTER DEFAULT PRIVILEGES handed out is too much: rows here decide what runs.
    let took: Vec<String> = Spi::connect(|c| {
        c.select(
            "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
             FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
             WHERE c.relnamespace OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND c.relname OPERATOR(pg_catalog.=) ANY ('{tq_task,tq_result,tq_schedule}'::pg_catalog.name[])
               AND a.grantee OPERATOR(pg_catalog.<>) c.relowner",
            None,
            &[(oid as i64).into()],
        )
        .map(|rows| rows.filter_map(|row| row.get::<String>(1).ok().flatten()).collect())
    })
    .map_err(fail)?;
    for grantee in &took {
        let schema = catalog::quote(name);
        Spi::run(&format!("REVOKE ALL ON {schema}.tq_task, {schema}.tq_result, {schema}.tq_schedule FROM {grantee} CASCADE"))
            .map_err(fail)?;
    }
    if !took.is_empty() {
        Error::new(
            SqlState::SUCCESSFUL_COMPLETION,
            format!("default privileges on the queue tables of \"{name}\" were taken back from {}", took.join(", ")),
        )
        .hint("Grant what is needed on purpose: tq_grant().")
        .notice();
    }
    Ok(())
}

/// tq_detach(tenant, drop_data)
fn detach(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_detach()");
    let name =
        args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "tenant is null").hint("Name the tenant to detach."))?;
    let drop_data = args.bool(1).unwrap_or(false);
    if let Some(oid) = catalog::schema_oid(&name) {
        let owner = catalog::schema_owner(oid).unwrap_or(0);
        rights::require_owner(owner, &name)?;
        registered::follow(Some(oid))?;
        wake::detached(oid);
        if drop_data {
            let s = catalog::quote(&name);
            sandbox::as_owner(pg_sys::Oid::from(owner), || {
                Spi::run(&format!("DROP TABLE {s}.tq_task, {s}.tq_result, {s}.tq_schedule")).map_err(Error::from)
            })?;
        }
    } else if !sandbox::is_superuser(sandbox::current_user()) {
        return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")));
    }
    let gone = registered::detach(&name, drop_data)?;
    crate::work::spread::detached(&name)?;
    records::announce_registry()?;
    transaction::see_own_writes();
    Ok(Ret::Bool(gone))
}

/// tq_tenant()
fn tenant_name(_args: &Args) -> Result<Ret> {
    Ok(Ret::Text(resolve(None)?.name.clone()))
}

/// One column of the registry: set, or back to its default.
struct Changes {
    sets: Vec<(&'static str, String)>,
}

impl Changes {
    fn literal(v: &str) -> String {
        pgrx::spi::quote_literal(v)
    }
    fn reset(&mut self, names: &[String], allowed: &[&'static str]) -> Result<()> {
        for name in names {
            let Some(column) = allowed.iter().find(|a| **a == name.as_str()) else {
                return Err(Error::invalid(format!("reset names \"{name}\", which is not one of its parameters"))
                    .hint(format!("Possible are: {}.", allowed.join(", "))));
            };
            self.sets.push((column, if matches!(*column, "ready" | "fan_out") { "true".into() } else { "NULL".into() }));
        }
        Ok(())
    }
    /// Everything that isn't so already.
    fn write(self, tenant: &Tenant) -> Result<()> {
        // Columns are from the lists above, values are quoted literals.
        let list = |what: fn(&(&str, String)) -> String, by: &str| self.sets.iter().map(what).collect::<Vec<_>>().join(by);
        let differs = list(|(column, value)| format!("t.{column} IS DISTINCT FROM {value}"), " OR ");
        let is_it = [tenant.name.as_str().into()];
        if self.sets.is_empty() {
            return Ok(());
        }
        if !records::exists(&format!("SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1 AND ({differs})"), &is_it)? {
            // Whoever says it again may want it looked at again.
            return roles::wake_all(tenant);
        }
        let set = list(|(column, value)| format!("{column} = {value}"), ", ");
        records::run(&format!("UPDATE tenant_q.tenant SET {set} WHERE name OPERATOR(pg_catalog.=) $1"), &is_it)?;
        records::announce_registry()?;
        roles::wake_all(tenant)
    }
}

parameters! {
    TqSetTenant of tq_set_tenant {
        TENANT,
        READY,
        TIMEZONE,
        SHARED_SCHEMAS,
        SETTINGS,
        SAVE_LIMIT,
        SAVE_LIMIT_PER,
        RESULT_TTL,
        FAILURE_TTL,
        RESET,
    }
}

/// tq_set_tenant(tenant, ready, timezone, shared_schemas, settings, save_limit, save_limit_per, result_ttl, failure_ttl, reset)
pub fn set_tenant(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_set_tenant()");
    let tenant = rights::resolve_owned(args.text(TqSetTenant::TENANT).as_deref())?;
    let mut changes = Changes { sets: vec![] };
    if let Some(ready) = args.bool(TqSetTenant::READY) {
        changes.sets.push(("ready", ready.to_string()));
    }
    if let Some(tz) = args.text(TqSetTenant::TIMEZONE) {
        zone::parse_zone(&tz).map_err(|e| Error::from(e).detail("Parameter timezone."))?;
        changes.sets.push(("timezone", Changes::literal(&tz)));
    }
    if let Some(schemas) = args.texts(TqSetTenant::SHARED_SCHEMAS) {
        if let Some(missing) = schemas.iter().find(|s| catalog::schema_oid(s).is_none()) {
            return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, format!("shared schema \"{missing}\" does not exist")));
        }
        let list = schemas.iter().map(|s| Changes::literal(s)).collect::<Vec<_>>().join(", ");
        changes.sets.push(("shared_schemas", format!("ARRAY[{list}]::pg_catalog.text[]")));
    }
    if let Some(value) = args.setting(TqSetTenant::SETTINGS) {
        check_settings(&value)?;
        reserved::refuse_idle(&value)?;
        changes.sets.push(("settings", format!("{}::pg_catalog.jsonb", Changes::literal(&value.to_string()))));
    }
    if let Some(limit) = args.int(TqSetTenant::SAVE_LIMIT) {
        if limit < -1 {
            return Err(Error::invalid("save_limit is below -1").hint("0 keeps all successes, -1 none, n the newest n."));
        }
        changes.sets.push(("save_limit", limit.to_string()));
    }
    if let Some(per) = args.text(TqSetTenant::SAVE_LIMIT_PER) {
        let per = SavePer::one_of("save_limit_per", &per)?;
        changes.sets.push(("save_limit_per", Changes::literal(per.name())));
    }
    for (column, place) in [("result_ttl", TqSetTenant::RESULT_TTL), ("failure_ttl", TqSetTenant::FAILURE_TTL)] {
        if let Some(ttl) = args.period(place) {
            if ttl.is_negative() {
                return Err(Error::invalid(format!("{column} is negative")));
            }
            let Period { months, days, micros } = ttl;
            changes.sets.push((column, format!("'{months} months {days} days {micros} microseconds'::pg_catalog.interval")));
        }
    }
    changes.reset(
        &args.texts(TqSetTenant::RESET).unwrap_or_default(),
        &["ready", "timezone", "shared_schemas", "settings", "save_limit", "save_limit_per", "result_ttl", "failure_ttl"],
    )?;
    changes.write(&tenant)?;
    let zone = match args.text(TqSetTenant::TIMEZONE) {
        None if args.texts(TqSetTenant::RESET).is_some_and(|reset| reset.iter().any(|name| name == "timezone")) => {
            Some(crate::tenant::default_zone())
        }
        given => given,
    };
    if let Some(to) = zone.and_then(|zone| rezone::Move::of(&tenant.zone(), &zone)) {
        rezone::tenant_moved(&tenant, to)?;
    }
    if args.bool(TqSetTenant::READY) == Some(false) {
        pauses::tell_of_running(&tenant);
    }
    // Also where it was ready before: that is how somebody asks for another look at what all tenants have.
    if args.bool(TqSetTenant::READY) == Some(true) {
        crate::fanout::definitions::visit(&tenant.name)?;
        pauses::tell_what_keeps(&tenant, None, None)?;
    }
    Ok(Ret::Void)
}

/// Settings that a tenant or a handler wants for its tasks: what its role could SET itself.
pub fn check_settings(settings: &serde_json::Value) -> Result<()> {
    let serde_json::Value::Object(map) = settings else {
        return Err(Error::invalid("settings is not an object").hint("Pass {\"name\": \"value\"}."));
    };
    reserved::check_reserved(Some(settings))?;
    for (name, value) in map {
        if !(value.is_string() || value.is_number() || value.is_boolean()) {
            return Err(Error::invalid(format!("setting \"{name}\" is neither a text, a number nor a boolean")));
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        if !crate::postgres::session::is_valid(name, &text) {
            return Err(Error::invalid(format!("setting \"{name}\" cannot be set to \"{text}\"")));
        }
    }
    Ok(())
}

/// tq_set_quota(tenant, max_running, max_queued, weight, rate, fan_out, reset)
pub fn set_quota(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_set_quota()");
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "tenant is null"))?;
    let tenant = resolve(Some(&name))?;
    let mut changes = Changes { sets: vec![] };
    for (column, n, least) in [("max_running", 1, 0), ("max_queued", 2, 0), ("weight", 3, 1)] {
        if let Some(v) = args.int(n) {
            if v < least {
                return Err(Error::invalid(format!("{column} is below {least}")));
            }
            if column == "weight" && v > 1000 {
                return Err(Error::invalid("weight is above 1000"));
            }
            changes.sets.push((column, v.to_string()));
        }
    }
    if let Some(rate) = args.text(4) {
        limits::check_limits(None, Some(&rate))?;
        changes.sets.push(("rate", Changes::literal(&rate)));
    }
    if let Some(fan_out) = args.bool(5) {
        changes.sets.push(("fan_out", fan_out.to_string()));
    }
    changes.reset(&args.texts(6).unwrap_or_default(), &["max_running", "max_queued", "weight", "rate", "fan_out"])?;
    changes.write(&tenant)?;
    if let Some(max) = args.int(1) {
        crate::shared::wake::limited(tenant.oid, max as usize);
    }
    Ok(Ret::Void)
}

/// The text that makes the tables, for the template.
fn table_text(args: &Args) -> Result<Ret> {
    Ok(Ret::Text(TABLES.replace("{s}", &args.text(0).unwrap_or_default())))
}

sql_functions! {
    tq_attach, pg_finfo_tq_attach => |args| patience::bounded("tq_attach()", || attach(args));
    tq_detach, pg_finfo_tq_detach => |args| patience::bounded("tq_detach()", || detach(args));
    tq_tenant, pg_finfo_tq_tenant => tenant_name;
    tq_set_tenant, pg_finfo_tq_set_tenant => |args| patience::bounded("tq_set_tenant()", || set_tenant(args));
    tq_set_quota, pg_finfo_tq_set_quota => |args| patience::bounded("tq_set_quota()", || set_quota(args));
    tq_pause, pg_finfo_tq_pause => |args| patience::bounded("tq_pause()", || pauses::pause(args));
    tq_resume, pg_finfo_tq_resume => |args| patience::bounded("tq_resume()", || pauses::resume(args));
    tq_pause_all, pg_finfo_tq_pause_all => |args| patience::bounded("tq_pause_all()", || pauses::pause_all(args));
    tq_resume_all, pg_finfo_tq_resume_all => |args| patience::bounded("tq_resume_all()", || pauses::resume_all(args));
    tenant_q_table_text, pg_finfo_tenant_q_table_text => table_text;
    tenant_q_is_attached, pg_finfo_tenant_q_is_attached => is_attached;
}
