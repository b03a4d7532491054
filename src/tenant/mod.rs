//! What a tenant is: a schema with our tables in it, and a row in the registry.
//!
//! `Tenant` is this process's picture of one, read from the registry and the catalogs when it is
//! first asked for and thrown away whenever either changes: no process asks for a tenant that has
//! nothing to do.

pub mod columns;
pub mod gauge;
pub mod identity;
pub mod limits;
pub mod lock;
mod open;
pub mod patience;
pub mod pauses;
pub mod queue;
pub mod records;
mod remembered;
pub mod reserved;
mod resolve;
pub mod rights;
pub mod shape;

use crate::postgres::column::{Index, Key, Relation, TableId};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, row_lock, sandbox, session, transaction};
use crate::pure::choice::{Named, SavePer};
use crate::pure::period::Period;
use crate::pure::rate::{Algorithm, Rate};
use crate::pure::schedule::zone;
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::entry::EntryRef;
use crate::tenant::columns::{
    HandlerRoles, HandlerStates, Handlers, LimitKeys, Pauses, Queues, Results, Schedules, Secrets, Tasks, Tenants,
};
use crate::tenant::queue::Pick;
use chrono_tz::Tz;
use remembered::{CACHE, ShapeEpoch, refresh};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

pub use pauses::Pause;
pub use remembered::epoch;
pub use resolve::{first_of_path, resolve, resolve_for};

/// The extension's own tables.
#[derive(Clone, Copy)]
pub struct Registry {
    pub schema: u32,
    pub tenant: TableId<Tenants>,
    pub handler: TableId<Handlers>,
    /// None: the extension's objects are of before 0.2.0, and nothing runs until they are updated.
    pub handler_state: Option<TableId<HandlerStates>>,
    /// The same.
    pub handler_role: Option<TableId<HandlerRoles>>,
    pub pause: TableId<Pauses>,
    pub queue: TableId<Queues>,
    pub limit_key: TableId<LimitKeys>,
    pub template_task: TableId<Tasks>,
    pub template_result: TableId<Results>,
    pub template_schedule: TableId<Schedules>,
}

/// A queue that was set up by tq_set_queue.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    pub name: String,
    pub max_running: Option<i32>,
    pub rate: Option<Rate>,
    pub priority: Option<i32>,
    pub timeout: Option<Span>,
    pub max_attempts: Option<i32>,
    /// None: nobody ever said.
    pub pick: Option<Pick>,
}

/// What tq_set_limit says of a limit key.
#[derive(Clone, Debug)]
pub struct Limit {
    pub key: String,
    pub max_running: Option<i32>,
    pub rate: Option<Rate>,
}

pub struct Tenant {
    pub oid: u32,
    pub name: String,
    pub owner: u32,
    pub task: TableId<Tasks>,
    pub result: TableId<Results>,
    pub schedule: TableId<Schedules>,
    pub ready: bool,
    /// A superuser has attached it, or confirmed it, while the present owner was one already.
    trusted: bool,
    pub suspended: Option<String>,
    pub attached_at: At,
    /// Whether work for all tenants includes it.
    pub fan_out: bool,
    pub timezone: Option<String>,
    pub settings: Option<serde_json::Value>,
    pub shared_schemas: Vec<String>,
    /// The schema of the extension's functions, if handlers are to find them there.
    functions: Option<String>,
    pub weight: u32,
    pub max_running: Option<i32>,
    pub max_queued: Option<i64>,
    pub save_limit: i32,
    pub save_limit_per: Option<SavePer>,
    pub result_ttl: Period,
    pub failure_ttl: Period,
    pub pauses: Vec<Pause>,
    pub queues: Vec<QueueSetup>,
    pub limits: Vec<Limit>,
    /// Starts of tasks of this tenant, as tq_set_quota says.
    pub rate: Option<Rate>,
    /// The epoch that this picture is of.
    pub(crate) epoch: u64,
    /// When the tables' shape has been found right: true for as long as nothing has changed since.
    shape_checked: Cell<Option<ShapeEpoch>>,
    entries: RefCell<HashMap<u32, EntryRef>>,
}

/// The extension's own tables; an error where it isn't installed.
pub fn registry() -> Result<Registry> {
    refresh();
    if let Some(r) = CACHE.with_borrow(|c| c.registry) {
        return Ok(r);
    }
    let missing = || {
        Error::new(SqlState::UNDEFINED_OBJECT, "extension tenant_q is not installed in this database")
            .hint("Run CREATE EXTENSION tenant_q.")
    };
    let schema = catalog::schema_oid("tenant_q").ok_or_else(missing)?;
    fn table<R>(schema: u32, name: &str) -> Option<TableId<R>> {
        catalog::relation_oid(schema, name).map(TableId::of)
    }
    let r = Registry {
        schema,
        tenant: table(schema, "tenant").ok_or_else(missing)?,
        handler: table(schema, "handler").ok_or_else(missing)?,
        handler_state: table(schema, "handler_state"),
        handler_role: table(schema, "handler_role"),
        pause: table(schema, "pause").ok_or_else(missing)?,
        queue: table(schema, "queue").ok_or_else(missing)?,
        limit_key: table(schema, "limit_key").ok_or_else(missing)?,
        template_task: table(schema, "tq_task").ok_or_else(missing)?,
        template_result: table(schema, "tq_result").ok_or_else(missing)?,
        template_schedule: table(schema, "tq_schedule").ok_or_else(missing)?,
    };
    remembered::know_registry(r);
    Ok(r)
}

/// What the keys of locks are hashed with (tenant/lock.rs): drawn by CREATE EXTENSION, in no dump.
pub fn secret() -> Result<[u8; 16]> {
    refresh();
    if let Some(secret) = CACHE.with_borrow(|c| c.secret) {
        return Ok(secret);
    }
    let Some(relation) = catalog::relation_oid(registry()?.schema, "secret") else {
        // The objects are of a version that had none. Locks are a courtesy: a unique index decides.
        return Ok(*b"before ALTER EXT");
    };
    let table = Table::open(TableId::of(relation), Access::Read).ok_or_else(|| Error::state("the registry is gone"))?;
    let row = transaction::with_latest_snapshot(|| table.find(Secrets::ID.equals(1)));
    let Some((first, second)) = row.and_then(|row| row.get(Secrets::FIRST).zip(row.get(Secrets::SECOND))) else {
        return Err(Error::state("table tenant_q.secret has no row")
            .detail("CREATE EXTENSION makes it; somebody has deleted it since.")
            .hint("As a superuser: INSERT INTO tenant_q.secret VALUES (1, gen_random_uuid(), gen_random_uuid())"));
    };
    // Six bits of each are fixed; so they fall on random ones.
    let secret = (first.number() ^ second.number().rotate_left(64)).to_be_bytes();
    CACHE.with_borrow_mut(|c| c.secret = Some(secret));
    Ok(secret)
}

/// The tenant of this schema, or why there is none.
pub fn by_oid(schema: u32) -> Result<Rc<Tenant>> {
    refresh();
    if let Some(t) = CACHE.with_borrow_mut(|c| c.tenants.get(&schema)) {
        return Ok(t);
    }
    // Before anything is asked: what is remembered must not be older than the last change that was heard of, as the present
    // snapshot may be, and as an answer is that waited for a lock. What changes from here on belongs to the next epoch.
    let epoch = epoch();
    // What is in public is there for everybody, or for nobody: shared_schemas says which.
    let functions = functions()?.filter(|f| f.is_for_all && f.schema != "public").map(|f| f.schema);
    transaction::with_latest_snapshot(|| read(schema, epoch, functions))
}

fn read(schema: u32, epoch: u64, functions: Option<String>) -> Result<Rc<Tenant>> {
    let registry = registry()?;
    let name = catalog::schema_name(schema)
        .ok_or_else(|| Error::new(SqlState::INVALID_SCHEMA_NAME, "the tenant's schema does not exist any more"))?;
    let owner = catalog::schema_owner(schema).unwrap_or(0);
    let table = Table::open(registry.tenant, Access::Read).ok_or_else(|| Error::state("the registry is gone"))?;
    let row = table.find(Tenants::NAME.equals(&name)).ok_or_else(|| not_attached(&name))?;
    if row.get(Tenants::SCHEMA_OID) != Some(schema) {
        return Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("tenant \"{name}\" is a restored copy that has not been confirmed"),
        )
        .detail("The registry's row is of another schema of that name.")
        .hint("Run SELECT tq_confirm_copy() when this database may run its tasks."));
    }
    let relation = |n: &str| {
        catalog::relation_oid(schema, n)
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_TABLE, format!("tenant \"{name}\" has no table {n}")).hint(shape::anew(&name)))
    };
    let pauses = pauses::of_tenant(&registry, &name);
    let of_this = Queues::TENANT.equals(&name);
    let queues = rows_of(registry.queue, &Queues::BY_NAME, of_this, |row| QueueSetup {
        name: row.text(Queues::NAME).unwrap_or_default(),
        max_running: row.get(Queues::MAX_RUNNING),
        rate: row.get(Queues::RATE).and_then(|r| Rate::parse(r, Algorithm::Bucket).ok()),
        priority: row.get(Queues::PRIORITY),
        timeout: row.span(Queues::TIMEOUT),
        max_attempts: row.get(Queues::MAX_ATTEMPTS),
        pick: row.get(Queues::PICK).and_then(Pick::of),
    });
    let of_this = LimitKeys::TENANT.equals(&name);
    let limits = rows_of(registry.limit_key, &LimitKeys::BY_KEY, of_this, |row| Limit {
        key: row.text(LimitKeys::KEY).unwrap_or_default(),
        max_running: row.get(LimitKeys::MAX_RUNNING),
        rate: row
            .get(LimitKeys::RATE)
            .and_then(|r| Rate::parse(r, row.get(LimitKeys::ALGORITHM).and_then(Algorithm::of).unwrap_or(Algorithm::Bucket)).ok()),
    });
    let tenant = Rc::new(Tenant {
        oid: schema,
        task: TableId::of(relation("tq_task")?),
        result: TableId::of(relation("tq_result")?),
        schedule: TableId::of(relation("tq_schedule")?),
        ready: row.get(Tenants::READY).unwrap_or(true),
        trusted: row.get(Tenants::TRUSTED) == Some(true) && row.get(Tenants::OWNER) == Some(owner),
        suspended: row.text(Tenants::SUSPENDED),
        attached_at: row.get(Tenants::ATTACHED_AT).unwrap_or_default(),
        fan_out: row.get(Tenants::FAN_OUT).unwrap_or(true),
        timezone: row.text(Tenants::TIMEZONE),
        settings: row.get(Tenants::SETTINGS),
        shared_schemas: row.get(Tenants::SHARED_SCHEMAS).unwrap_or_else(settings::shared_schemas),
        functions,
        weight: row.get(Tenants::WEIGHT).unwrap_or(1).max(1) as u32,
        max_running: row.get(Tenants::MAX_RUNNING),
        max_queued: row.get(Tenants::MAX_QUEUED).map(i64::from),
        save_limit: row.get(Tenants::SAVE_LIMIT).unwrap_or(250),
        save_limit_per: row.get(Tenants::SAVE_LIMIT_PER).map(|per| SavePer::of(per).unwrap_or(SavePer::Handler)),
        result_ttl: row.period(Tenants::RESULT_TTL).unwrap_or(Span::HOUR.into()),
        failure_ttl: row.period(Tenants::FAILURE_TTL).unwrap_or(Period { months: 12, ..Period::default() }),
        rate: row.get(Tenants::RATE).and_then(|r| Rate::parse(r, Algorithm::Bucket).ok()),
        name,
        owner,
        pauses,
        queues,
        limits,
        epoch,
        shape_checked: Cell::new(None),
        entries: RefCell::default(),
    });
    tenant.watch();
    remembered::remember(&tenant);
    Ok(tenant)
}

/// Where tq_current() and its kin are.
#[derive(Clone)]
pub struct Functions {
    pub schema: String,
    /// Nobody but its owner may create anything there, so that it can be on everybody's path.
    pub is_for_all: bool,
    /// Everybody may use it.
    pub may_be_used: bool,
}

/// None: the extension isn't installed.
pub fn functions() -> Result<Option<Functions>> {
    refresh();
    if let Some(known) = CACHE.with_borrow(|c| c.functions.clone()) {
        return Ok(Some(known));
    }
    const WHERE: &str = "
        SELECT n.nspname::pg_catalog.text,
               NOT EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a
                            WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner),
               EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.privilege_type OPERATOR(pg_catalog.=) 'USAGE' AND a.grantee OPERATOR(pg_catalog.=) 0)
          FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
         WHERE e.extname OPERATOR(pg_catalog.=) 'tenant_q'";
    // The statement's own snapshot may be older than the last change that was heard of: what it sees is not to be remembered.
    let epoch = epoch();
    let look = || {
        pgrx::Spi::connect(|c| {
            let mut rows = c.select(WHERE, Some(1), &[])?;
            rows.next()
                .map(|row| {
                    let is = |n| row.get::<bool>(n).map(|is| is == Some(true));
                    Ok(Functions { schema: row.get::<String>(1)?.unwrap_or_default(), is_for_all: is(2)?, may_be_used: is(3)? })
                })
                .transpose()
        })
    };
    let found = transaction::with_latest_snapshot(|| sandbox::as_extension(look));
    let found: Option<Functions> = found.map_err(|e: pgrx::spi::Error| Error::from(e))?;
    remembered::remember_functions(epoch, &found);
    Ok(found)
}

/// What rows of a table of the registry say.
fn rows_of<R: Relation, T>(id: TableId<R>, index: &Index<R>, key: Key<R>, f: impl Fn(Row<R>) -> T) -> Vec<T> {
    Table::open(id, Access::Read).map_or_else(Vec::new, |table| table.scan(index, &[key]).map(f).collect())
}

/// Zone of tenants that have none of their own: the same in every process. What a session has may be its
/// client's or its user's, what an executor has is the last tenant's.
pub fn default_zone() -> String {
    let set = Some(settings::timezone()).filter(|z| !z.is_empty());
    let server = || crate::shared::get().and_then(|s| s.server_zone());
    set.or_else(server).or_else(|| Some(session::reset_value(c"TimeZone")).filter(|z| !z.is_empty())).unwrap_or("UTC".into())
}

/// The clock of a zone. PostgreSQL may know names that aren't known here: UTC then.
pub fn clock_of(zone: &str) -> Tz {
    zone::parse_zone(zone).unwrap_or(Tz::UTC)
}

/// Until this transaction ends the tenant is renamed, detached or dropped by nobody. False: somebody is just
/// doing it, or has. Nothing is waited for.
pub fn keep(tenant: &Tenant) -> Result<bool> {
    let table = Table::open(registry()?.tenant, Access::Write).ok_or_else(|| Error::state("the registry is gone"))?;
    let row = transaction::with_latest_snapshot(|| table.find(Tenants::NAME.equals(&tenant.name)));
    Ok(row.is_some_and(|row| row.get(Tenants::SCHEMA_OID) == Some(tenant.oid) && row_lock::try_keep(&table, &row)))
}

pub fn not_attached(name: &str) -> Error {
    let error = Error::state(format!("schema \"{name}\" is not attached"));
    if settings::exclude_schemas().iter().any(|s| s == name) {
        // Most often search_path was forgotten.
        return error.hint("Name the tenant: SET search_path = <tenant>, public; or tenant => '<tenant>'.");
    }
    error.hint(format!("Run SELECT tq_attach({}) as the schema's owner.", pgrx::spi::quote_literal(name)))
}

impl Tenant {
    /// About what it takes.
    fn bytes(&self) -> usize {
        let settings = self.settings.as_ref().map_or(0, |s| 4 * s.to_string().len());
        let queues = self.queues.iter().map(|q| size_of::<QueueSetup>() + q.name.len()).sum::<usize>();
        let limits = self.limits.iter().map(|l| size_of::<Limit>() + l.key.len()).sum::<usize>();
        let pauses =
            self.pauses.iter().map(|p| size_of::<Pause>() + p.tenant.len() + p.queue.len() + p.handler.len() + p.by.len()).sum::<usize>();
        size_of::<Tenant>() + 500 + settings + queues + limits + pauses
    }
    /// How this queue was set up, if it was; None = the default queue.
    pub fn queue(&self, name: Option<&str>) -> Option<&QueueSetup> {
        if self.queues.is_empty() {
            return None;
        }
        self.queues.iter().find(|q| q.name == name.unwrap_or("default"))
    }
    /// Pauses of everything that it has to do.
    pub fn whole_pauses(&self, now: At) -> impl Iterator<Item = &Pause> {
        self.pauses.iter().filter(move |pause| pause.is_whole() && pause.until > now)
    }
    /// Everything of this tenant pauses until then; None = it doesn't.
    pub fn paused_until(&self, now: At) -> Option<At> {
        self.whole_pauses(now).map(|pause| pause.until).max()
    }
    /// Pauses of this handler or queue.
    pub fn part_pauses<'a>(&'a self, handler: &'a str, queue: Option<&'a str>, now: At) -> impl Iterator<Item = &'a Pause> {
        self.pauses.iter().filter(move |pause| !pause.is_whole() && pause.until > now && pause.holds(handler, queue))
    }
    /// This handler or queue pauses until then.
    pub fn part_paused_until(&self, handler: &str, queue: Option<&str>, now: At) -> Option<At> {
        self.part_pauses(handler, queue, now).map(|pause| pause.until).max()
    }

    /// Why no task of it may run as a superuser, whoever enqueued it; None = that is no reason.
    ///
    /// Rows say whether a superuser enqueued them, and an owner who is none can write what they like there. If the
    /// schema comes to belong to a superuser later, those rows must not be believed.
    pub fn distrust(&self) -> Option<&'static str> {
        let distrusted = !self.trusted && sandbox::is_superuser(pgrx::pg_sys::Oid::from(self.owner));
        distrusted.then_some("the schema has come to belong to a superuser, and no superuser has attached it since")
    }

    /// The search_path of this tenant's handlers.
    pub fn search_path(&self) -> String {
        let mut path = catalog::quote(&self.name);
        for schema in self.shared_schemas.iter().filter(|s| **s != self.name) {
            path.push_str(", ");
            path.push_str(&catalog::quote(schema));
        }
        if let Some(functions) = self.functions.as_ref().filter(|f| **f != self.name && !self.shared_schemas.contains(f)) {
            path.push_str(", ");
            path.push_str(&catalog::quote(functions));
        }
        path.push_str(", pg_temp");
        path
    }
    /// The same, as OIDs of what exists.
    pub fn path_oids(&self) -> Vec<u32> {
        std::iter::once(self.oid).chain(self.shared_schemas.iter().filter_map(|s| catalog::schema_oid(s))).collect()
    }
    /// Zone of its schedules and handlers.
    pub fn zone(&self) -> String {
        self.timezone.clone().unwrap_or_else(default_zone)
    }
    /// So long after that instant, by the clock of its zone.
    pub fn after(&self, at: At, period: Period) -> At {
        period.after(at, || clock_of(&self.zone()))
    }

    /// This tenant's entry for `role` in shared memory. None: there is none, or no room in it.
    pub fn entry(&self, role: u32) -> Result<Option<EntryRef>> {
        let Some(s) = crate::shared::get() else { return Ok(None) };
        if let Some(r) = self.entries.borrow().get(&role)
            && s.at(*r).is_some()
        {
            return Ok(Some(*r));
        }
        let Some(r) = s.entry(crate::postgres::shmem::my_database(), self.oid, role) else {
            // Whoever enqueues has nothing to do with it: what is written is found by a sweep.
            crate::shared::wake::unplaced();
            return Ok(None);
        };
        s.entries[r.index as usize].weight.store(self.weight);
        self.entries.borrow_mut().insert(role, r);
        Ok(Some(r))
    }
}
