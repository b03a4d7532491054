//! Handlers: functions and procedures that tasks may call, registered per tenant or for all.
//!
//! Enqueuing is like EXECUTE on a SECURITY DEFINER function: whoever may enqueue chooses a
//! registered handler and data, never code or role. The registry pins the function's signature
//! and owner: a function that another role put in its place is not called.

pub mod arguments;
pub mod external;
pub mod invoke;
pub mod listeners;
pub mod listening;
mod mend;
pub mod notes;
pub mod roles;
pub mod signature;

pub use mend::register;

use crate::handler::external::{EXTERNAL, External};
use crate::handler::signature::Signature;
use crate::postgres::code::MayRunCode;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::scan::Scan;
use crate::postgres::types::{DEPTH_MAX, Jsonb};
use crate::postgres::{catalog, sandbox, transaction};
use crate::pure::cache::Bounded;
use crate::pure::nearest;
use crate::pure::period::Period;
use crate::pure::rate::{Algorithm, Rate};
use crate::pure::retry::Policy;
use crate::pure::time::{At, Span};
use crate::tenant::columns::{HandlerRoles, HandlerStates, Handlers};
use crate::tenant::{self, Tenant, reserved};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

/// Longest name of a handler, in bytes.
pub const NAME_MAX: usize = 200;

/// What a registered name stands for, in one tenant.
pub struct Handler {
    pub name: String,
    pub shared: bool,
    /// What it calls, as SQL text.
    pub function: String,
    /// Its code runs outside of the server.
    pub external: Option<Rc<External>>,
    /// What it calls was chosen when it was registered; otherwise it is looked up in each tenant's path.
    pinned: bool,
    /// Of an external one EXTERNAL, by which its tasks' entries are found.
    pub run_as: u32,
    /// What was said of that; None: the schema's owner.
    run_as_name: Option<String>,
    pub queue: Option<String>,
    pub priority: Option<i32>,
    pub timeout: Option<Span>,
    pub max_attempts: Option<i32>,
    pub retry: Option<Policy>,
    pub expires: Option<Period>,
    /// How long results of its tasks are kept at least.
    pub result_ttl: Option<Period>,
    pub max_running: Option<i32>,
    pub rate: Option<Rate>,
    pub settings: Option<serde_json::Value>,
    pub save: Option<bool>,
    pub quarantined: bool,
    /// It is one of all tenants, and quarantined in all of them.
    pub quarantined_for_all: bool,
    /// Further names that it is found by.
    pub aliases: Vec<String>,
    pub missing_since: Option<At>,
    /// Why it can't be called; None = it can.
    pub fault: Option<Fault>,
    pub signature: Option<Signature>,
}

/// Why a handler's tasks are held.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No such function any more.
    Missing(String),
    /// It belongs to somebody else now, or what was said of it is no longer accepted.
    Changed(String),
    /// The schema's owner may not act as run_as, or not use the schema that the function is in.
    Role {
        why: String,
        /// What lets them, if a GRANT does.
        grant: Option<String>,
    },
}

impl Fault {
    pub fn text(&self) -> &str {
        match self {
            Fault::Missing(t) | Fault::Changed(t) | Fault::Role { why: t, .. } => t,
        }
    }
    pub fn status(&self) -> &'static str {
        match self {
            Fault::Missing(_) => "missing",
            Fault::Changed(_) | Fault::Role { .. } => "changed",
        }
    }
}

/// How it stands with a shared handler in one tenant.
#[derive(Default)]
struct Standing {
    missing_since: Option<At>,
    quarantined: bool,
}

fn standing_of(tenant: &Tenant, name: &str) -> Standing {
    let table = tenant::registry().ok().and_then(|r| r.handler_state).and_then(|id| Table::open(id, Access::Read));
    let of_tenant = |table: Table<HandlerStates>| {
        let mut rows = table.scan(&HandlerStates::BY_NAME, &[HandlerStates::TENANT.equals(&tenant.name), HandlerStates::NAME.equals(name)]);
        rows.next()
            .map(|row| Standing { missing_since: row.get(HandlerStates::MISSING_SINCE), quarantined: row.has(HandlerStates::QUARANTINED) })
    };
    table.and_then(of_tenant).unwrap_or_default()
}

type ByName = Bounded<(u32, String), Option<Rc<Handler>>>;

/// What was asked for last, which is asked for again as a rule: several times of each task.
struct Last {
    epoch: u64,
    tenant: u32,
    name: String,
    handler: Option<Rc<Handler>>,
}

thread_local! {
    /// (tenant, name) → handler, of one epoch of the registry. Names that nobody has registered too: rows ask for them.
    static CACHE: RefCell<(u64, ByName)> = RefCell::new((0, Bounded::new(KEPT, KEPT_BYTES)));
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// Handlers that a process remembers, and the bytes that they may take: those of thousands of tenants, as a rule.
const KEPT: usize = 16_384;
const KEPT_BYTES: usize = 16 << 20;

/// The handler of this name, or None where nothing of the name is registered.
pub fn find(tenant: &Tenant, name: &str) -> Result<Option<Rc<Handler>>> {
    // A row may ask for anything: what can't be registered isn't looked for.
    if name.is_empty() || name.len() > NAME_MAX {
        return Ok(None);
    }
    let epoch = tenant::epoch();
    let is_last = |last: &&Last| last.epoch == epoch && last.tenant == tenant.oid && last.name == name;
    if let Some(handler) = LAST.with_borrow(|last| last.as_ref().filter(is_last).map(|last| last.handler.clone())) {
        return Ok(handler);
    }
    let remember_last = |tenant: &Tenant, handler: &Option<Rc<Handler>>| {
        LAST.set(Some(Last { epoch, tenant: tenant.oid, name: name.to_string(), handler: handler.clone() }));
    };
    let known = CACHE.with_borrow_mut(|(cached, handlers)| {
        if *cached != epoch {
            handlers.clear();
            *cached = epoch;
        }
        handlers.get(&(tenant.oid, name.to_string()))
    });
    if let Some(handler) = known {
        remember_last(tenant, &handler);
        return Ok(handler);
    }
    // A batch goes on with the picture of its tenant from before a change: under its old name after a RENAME.
    let anew = if tenant.epoch == epoch { None } else { tenant::by_oid(tenant.oid).ok() };
    let tenant = anew.as_deref().unwrap_or(tenant);
    // Remembered: not to be older than the last change that was heard of, as the present snapshot may be.
    let handler = transaction::with_latest_snapshot(|| read(tenant, name))?.map(Rc::new);
    // Reading may have brought in invalidations: what was read then belongs to the next epoch.
    if tenant.epoch == epoch && tenant::epoch() == epoch {
        let bytes = size_of::<Handler>() + name.len() + handler.as_ref().map_or(0, |h| h.bytes());
        CACHE.with_borrow_mut(|(_, handlers)| handlers.insert((tenant.oid, name.to_string()), handler.clone(), bytes));
        remember_last(tenant, &handler);
    }
    Ok(handler)
}

/// The same as an error for whoever enqueues or schedules.
pub fn require(tenant: &Tenant, name: &str) -> Result<Rc<Handler>> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Error::invalid(format!("a handler's name has 1 to {NAME_MAX} bytes, not {}", name.len())));
    }
    let handler = find(tenant, name)?.ok_or_else(|| {
        let names = names(tenant);
        let nearest = nearest::nearest(name, names.iter().map(String::as_str));
        Error::undefined(format!("handler \"{name}\" is not registered in tenant \"{}\"", tenant.name))
            .detail(match names.len() {
                0 => "No handler is registered there.".into(),
                _ => format!("Registered are: {}.", names.iter().take(10).cloned().collect::<Vec<_>>().join(", ")),
            })
            .hint(match (mend::registration_of_function(tenant, name), nearest) {
                // A function is there: nobody has mistyped its name.
                (Some(call), _) => format!("{call};"),
                (None, Some(near)) => format!("Did you mean \"{near}\"?"),
                (None, None) => "There is no function of that name either. See the view tq_handlers.".into(),
            })
    })?;
    Ok(handler)
}

/// Names registered for this tenant, shared ones included.
pub fn names(tenant: &Tenant) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(registry) = tenant::registry()
        && let Some(table) = Table::open(registry.handler, Access::Read)
    {
        for who in [tenant.name.as_str(), ""] {
            names.extend(rows_of(&table, who).filter_map(|row| row.text(Handlers::NAME)));
        }
    }
    names.sort();
    names.dedup();
    names
}

pub(crate) fn rows_of<'t>(table: &'t Table<Handlers>, tenant: &str) -> Scan<'t, Handlers> {
    table.scan(&Handlers::BY_NAME, &[Handlers::TENANT.equals(tenant)])
}

fn read(tenant: &Tenant, name: &str) -> Result<Option<Handler>> {
    let registry = tenant::registry()?;
    let Some(table) = Table::open(registry.handler, Access::Read) else { return Ok(None) };
    for who in [tenant.name.as_str(), ""] {
        let mut found = None;
        for row in rows_of(&table, who) {
            let aliases = row.get(Handlers::ALIASES).unwrap_or_default();
            if row.get(Handlers::NAME) == Some(name) || (found.is_none() && aliases.iter().any(|a| a == name)) {
                found = Some(row);
            }
        }
        if let Some(row) = found {
            return Ok(Some(build(tenant, &row, who.is_empty())));
        }
    }
    Ok(None)
}

/// Every handler of the tenant, faulty ones included.
pub fn all(tenant: &Tenant) -> Result<Vec<Handler>> {
    let registry = tenant::registry()?;
    let Some(table) = Table::open(registry.handler, Access::Read) else { return Ok(vec![]) };
    let mut found: Vec<Handler> = Vec::new();
    for who in [tenant.name.as_str(), ""] {
        for row in rows_of(&table, who) {
            let handler = build(tenant, &row, who.is_empty());
            if !found.iter().any(|h| h.name == handler.name) {
                found.push(handler);
            }
        }
    }
    Ok(found)
}

/// The roles that were meant when a handler was registered, whatever they are called now.
#[derive(Default)]
struct RolesMeant {
    owner: Option<u32>,
    run_as: Option<u32>,
}

/// None where nobody noted it, as in a restored database, or where the role is gone: then the name tells.
fn roles_of(tenant: &str, name: &str) -> RolesMeant {
    let table = tenant::registry().ok().and_then(|r| r.handler_role).and_then(|id| Table::open(id, Access::Read));
    let is_it = [HandlerRoles::TENANT.equals(tenant), HandlerRoles::NAME.equals(name)];
    let row = table.and_then(|table| table.scan(&HandlerRoles::BY_NAME, &is_it).next());
    let Some(row) = row else { return RolesMeant::default() };
    let there = |role: &u32| catalog::role_name(*role).is_some();
    RolesMeant { owner: row.get(HandlerRoles::OWNER).filter(there), run_as: row.get(HandlerRoles::RUN_AS).filter(there) }
}

fn build(tenant: &Tenant, row: &Row<Handlers>, shared: bool) -> Handler {
    if row.get(Handlers::EXTERNAL) == Some(true) {
        return build_external(tenant, row, shared);
    }
    // A pinned signature is looked up as such: an overload added later is never chosen.
    let identity = row.text(Handlers::IDENTITY);
    let function = identity.clone().or_else(|| row.text(Handlers::FUNCTION)).unwrap_or_default();
    let mut fault = None;
    let signature = match signature::resolve(&function, &tenant.path_oids()) {
        Ok(s) => Some(s),
        Err(e) => {
            fault = Some(Fault::Missing(e.message));
            None
        }
    };
    let name = row.text(Handlers::NAME).unwrap_or_default();
    let known = roles_of(if shared { "" } else { &tenant.name }, &name);
    if let (Some(s), Some(owner)) = (&signature, row.text(Handlers::OWNER))
        && known.owner.map_or_else(|| catalog::role_name(s.owner).as_deref() != Some(&owner), |owner| s.owner != owner)
    {
        fault = Some(Fault::Changed(format!("function {} belongs to another role than \"{owner}\" now", s.identity)));
    }
    // A shared one that is pinned was chosen by a superuser; where nothing is pinned the tenant's path chose.
    if let Some(s) = &signature
        && !(shared && identity.is_some())
        && let Err(e) = may_reach(tenant, s)
    {
        fault = Some(Fault::Role { why: e.message, grant: e.hint });
    }
    let run_as = match row.text(Handlers::RUN_AS) {
        None => tenant.owner,
        Some(name) => match known.run_as.or_else(|| catalog::role_oid(&name)) {
            Some(role) if sandbox::may_set_role(pg_sys::Oid::from(tenant.owner), pg_sys::Oid::from(role)) => role,
            Some(_) => {
                let owner = catalog::role_name(tenant.owner).unwrap_or_default();
                fault = Some(Fault::Role {
                    why: format!("the schema's owner may not SET ROLE to \"{name}\""),
                    grant: Some(format!("GRANT {} TO {};", catalog::quote(&name), catalog::quote(&owner))),
                });
                tenant.owner
            }
            None => {
                fault = Some(Fault::Role { why: format!("role \"{name}\" does not exist"), grant: None });
                tenant.owner
            }
        },
    };
    let settings = row.get(Handlers::SETTINGS);
    if let Err(e) = reserved::check_reserved(settings.as_ref()) {
        fault = Some(Fault::Changed(e.message));
    }
    Parts { external: None, pinned: identity.is_some(), function, run_as, run_as_known: known.run_as, settings, fault, signature }
        .into_handler(tenant, row, shared)
}

/// The same of one whose code runs outside of the server: what stands in `settings` of others is what it takes.
fn build_external(tenant: &Tenant, row: &Row<Handlers>, shared: bool) -> Handler {
    let name = row.text(Handlers::NAME).unwrap_or_default();
    let known = roles_of(if shared { "" } else { &tenant.name }, &name).run_as;
    let mut fault = None;
    let worker = row.text(Handlers::RUN_AS).map(|role| {
        known.or_else(|| catalog::role_oid(&role)).unwrap_or_else(|| {
            fault = Some(Fault::Role { why: format!("role \"{role}\" does not exist"), grant: None });
            0
        })
    });
    let params = row.get(Handlers::SETTINGS);
    let (signature, external) = external::of_row(tenant, &name, params.as_ref(), worker).unwrap_or_else(|e| {
        fault = Some(Fault::Changed(e.message));
        (None, Rc::new(External::new(vec![], worker)))
    });
    Parts {
        external: Some(external),
        pinned: true,
        function: name,
        run_as: EXTERNAL,
        run_as_known: known,
        settings: None,
        fault,
        signature,
    }
    .into_handler(tenant, row, shared)
}

/// What is read of a handler in one way or the other; the rest of its row says the same of both.
struct Parts {
    external: Option<Rc<External>>,
    pinned: bool,
    function: String,
    run_as: u32,
    run_as_known: Option<u32>,
    settings: Option<serde_json::Value>,
    fault: Option<Fault>,
    signature: Option<Signature>,
}

impl Parts {
    fn into_handler(self, tenant: &Tenant, row: &Row<Handlers>, shared: bool) -> Handler {
        let name = row.text(Handlers::NAME).unwrap_or_default();
        let stopped = row.has(Handlers::QUARANTINED);
        let standing = match shared {
            true => standing_of(tenant, &name),
            false => Standing { missing_since: row.get(Handlers::MISSING_SINCE), quarantined: stopped },
        };
        Handler {
            name,
            shared,
            function: self.function,
            external: self.external,
            pinned: self.pinned,
            run_as: self.run_as,
            run_as_name: self.run_as_known.and_then(catalog::role_name).or_else(|| row.text(Handlers::RUN_AS)),
            queue: row.text(Handlers::QUEUE),
            priority: row.get(Handlers::PRIORITY),
            timeout: row.span(Handlers::TIMEOUT),
            max_attempts: row.get(Handlers::MAX_ATTEMPTS),
            retry: row.get(Handlers::RETRY).and_then(|j| serde_json::from_value(j).ok()),
            expires: row.period(Handlers::EXPIRES),
            result_ttl: row.period(Handlers::RESULT_TTL),
            max_running: row.get(Handlers::MAX_RUNNING),
            rate: row.get(Handlers::RATE).and_then(|r| Rate::parse(r, Algorithm::Bucket).ok()),
            settings: self.settings,
            aliases: row.get(Handlers::ALIASES).unwrap_or_default(),
            save: row.get(Handlers::SAVE),
            quarantined: standing.quarantined || stopped,
            quarantined_for_all: shared && stopped,
            missing_since: standing.missing_since,
            fault: self.fault,
            signature: self.signature,
        }
    }
}

/// A function is called by OID, below the level at which SQL asks for USAGE on its schema: a tenant's
/// owner reaches what they could name in a statement of their own, and nothing else.
pub(crate) fn may_reach(tenant: &Tenant, signature: &Signature) -> Result<()> {
    if catalog::may_use_schema(signature.schema, pg_sys::Oid::from(tenant.owner)) {
        return Ok(());
    }
    let schema = catalog::quote(&catalog::schema_name(signature.schema).unwrap_or_default());
    let owner = catalog::role_name(tenant.owner).unwrap_or_default();
    Err(Error::denied(format!("the tenant's owner \"{owner}\" may not use schema {schema} of function {}", signature.identity))
        .hint(format!("GRANT USAGE ON SCHEMA {schema} TO {};", catalog::quote(&owner))))
}

impl Handler {
    /// About what it holds beside itself.
    fn bytes(&self) -> usize {
        let signature = self.signature.as_ref().map_or(0, |s| 500 + s.params.len() * 100);
        let settings = self.settings.as_ref().map_or(0, |s| 4 * s.to_string().len());
        self.name.len() + self.function.len() + self.aliases.iter().map(|a| a.len() + 50).sum::<usize>() + signature + settings
    }
    /// Leave to run its role's code where one of its tasks is enqueued, if this is a session of that role. What a
    /// schema's former owner has registered is not run as a superuser.
    pub fn code_at_enqueue(&self, tenant: &Tenant) -> Option<MayRunCode> {
        let trusted =
            || !sandbox::is_superuser(pg_sys::Oid::from(self.run_as)) || crate::settings::allow_superuser() && tenant.distrust().is_none();
        MayRunCode::at_enqueue(self.run_as).filter(|_| trusted())
    }
    /// Whether the arguments fit; `code` as in arguments::check.
    pub fn check_args(&self, args: Option<&Jsonb>, code: Option<&MayRunCode>) -> Result<()> {
        if self.is_external() && args.is_some_and(|args| args.parsed().is_none()) {
            let limit = Error::limit("args are nested too deeply for a worker").detail(format!("They may have {DEPTH_MAX} levels."));
            return Err(limit.hint("Pass the document as text, or store it in a table and pass its key."));
        }
        // A handler that is gone for the moment keeps its queue: its tasks are checked at start.
        let Some(signature) = &self.signature else { return Ok(()) };
        if self.fault.is_some() {
            return Ok(());
        }
        if signature.params.is_empty() && args.is_none() {
            return Ok(());
        }
        arguments::check(signature, args, code)
    }
    /// Whether workers outside of the server run its tasks.
    pub fn is_external(&self) -> bool {
        self.external.is_some()
    }
    pub fn is_procedure(&self) -> bool {
        self.signature.as_ref().is_some_and(|s| matches!(s.kind, signature::Kind::Procedure))
    }
    /// What is said of it while it is quarantined.
    pub fn why_quarantined(&self) -> Option<&'static str> {
        match (self.quarantined_for_all, self.quarantined) {
            (true, _) => Some("its tasks crashed the server in several tenants, three times within a day each: it is stopped in all"),
            (_, true) => Some("its tasks crashed the server three times within a day"),
            _ => None,
        }
    }
    /// The call that frees it.
    pub fn how_to_free(&self, tenant: &Tenant) -> String {
        let quote = pgrx::spi::quote_literal::<&str>;
        if self.quarantined_for_all {
            return format!("SELECT tq_resume_all(handler => {})", quote(&self.name));
        }
        format!("SELECT tq_resume({}, handler => {})", quote(&tenant.name), quote(&self.name))
    }
}

/// A retry policy as tq_backoff makes it, or an error that names the fault.
pub fn check_retry(retry: &serde_json::Value) -> Result<Policy> {
    let policy: Policy = serde_json::from_value(retry.clone()).map_err(|e| {
        let why = if retry.is_object() { e.to_string() } else { "It is not an object".into() };
        Error::invalid("retry is not a retry policy").detail(format!("{why}.")).hint("Write it with tq_backoff(…).")
    })?;
    match policy.fault() {
        Some(fault) => Err(Error::invalid(format!("retry policy: {fault}")).hint("Write it with tq_backoff(…).")),
        None => Ok(policy),
    }
}

/// Roles, other than the owner, that handlers of this tenant run as.
pub fn roles(tenant: &Tenant) -> Result<Vec<u32>> {
    let registry = tenant::registry()?;
    let mut found = Vec::new();
    if let Some(table) = Table::open(registry.handler, Access::Read) {
        for who in [tenant.name.as_str(), ""] {
            found.extend(rows_of(&table, who).filter_map(|row| {
                if row.get(Handlers::EXTERNAL) == Some(true) {
                    return Some(EXTERNAL);
                }
                let name = row.get(Handlers::RUN_AS)?;
                roles_of(who, row.get(Handlers::NAME)?).run_as.or_else(|| catalog::role_oid(name))
            }));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
