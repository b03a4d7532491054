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
pub mod patience;
pub mod queue;
pub mod records;
pub mod reserved;
pub mod rights;
pub mod shape;

use crate::postgres::column::{Any, Index, Key, Relation, TableId};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Locked, Table};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, invalidation, latch, row_lock, sandbox, session, shmem, transaction};
use crate::pure::cache::Bounded;
use crate::pure::choice::{Named, SavePer};
use crate::pure::rate::{Algorithm, Rate};
use crate::pure::time::{Micros, NEVER};
use crate::settings;
use crate::shared::entry::EntryRef;
use crate::tenant::columns::{HandlerStates, Handlers, LimitKeys, Pauses, Queues, Results, Schedules, Secrets, Tasks, Tenants};
use crate::tenant::queue::Pick;
use pgrx::{Spi, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The extension's own tables.
#[derive(Clone, Copy)]
pub struct Registry {
    pub schema: u32,
    pub tenant: TableId<Tenants>,
    pub handler: TableId<Handlers>,
    /// None: the extension's objects are of before 0.2.0, and nothing runs until they are updated.
    pub handler_state: Option<TableId<HandlerStates>>,
    pub pause: TableId<Pauses>,
    pub queue: TableId<Queues>,
    pub limit_key: TableId<LimitKeys>,
    pub template_task: TableId<Tasks>,
    pub template_result: TableId<Results>,
    pub template_schedule: TableId<Schedules>,
}

/// Something that doesn't run for now.
#[derive(Clone, Debug)]
pub struct Pause {
    pub queue: String,
    pub handler: String,
    pub until: Micros,
}

/// A queue that was set up by tq_set_queue.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    pub name: String,
    pub max_running: Option<i32>,
    pub rate: Option<Rate>,
    pub priority: Option<i32>,
    pub timeout: Option<Micros>,
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
    pub attached_at: Micros,
    /// Whether work for all tenants includes it.
    pub fan_out: bool,
    pub timezone: Option<String>,
    pub settings: Option<serde_json::Value>,
    pub shared_schemas: Vec<String>,
    pub weight: u32,
    pub max_running: Option<i32>,
    pub max_queued: Option<i64>,
    pub save_limit: i32,
    pub save_limit_per: Option<SavePer>,
    pub result_ttl: Micros,
    pub failure_ttl: Micros,
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

/// The epoch of all that is cached, and how often the tenant's tables had been changed in it.
type ShapeEpoch = (u64, u64);

struct Cache {
    registry: Option<Registry>,
    secret: Option<[u8; 16]>,
    tenants: Bounded<u32, Rc<Tenant>>,
    current: Bounded<(String, u32), u32>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache { registry: None, secret: None, tenants: Bounded::new(KEPT, KEPT_BYTES), current: Bounded::new(PATHS_KEPT, PATHS_BYTES) }
    }
}

/// Tenants that a process remembers, and the bytes that they may take.
const KEPT: usize = 16_384;
const KEPT_BYTES: usize = 16 << 20;
/// Values of search_path whose first schema a process remembers.
const PATHS_KEPT: usize = 1000;
const PATHS_BYTES: usize = 1 << 20;
/// Relations whose tenants are known: those of all tenants in the cache and in use, and more. Beyond, all is forgotten.
const RELATIONS: usize = 8 * KEPT;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    /// A change was announced: forget everything at the next look-up. A flag, because the callback
    /// may come while the cache is in use.
    static STALE: Cell<bool> = const { Cell::new(false) };
    static REGISTRY_RELATIONS: Cell<[u32; 5]> = const { Cell::new([0; 5]) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
    /// Relations of tenants in the cache, so that changes of anything else cost nothing.
    static OURS: RefCell<HashMap<u32, u32>> = RefCell::default();
    /// How often a table of this tenant has been changed in this epoch, and whether the next look-up is to forget the
    /// tenant for it. Counts that only grow: whoever holds on to a tenant, for as long as a task takes, sees a change
    /// that others have taken note of meanwhile.
    static RESHAPED: RefCell<HashMap<u32, (u64, bool)>> = RefCell::default();
    static RESHAPED_ANEW: Cell<bool> = const { Cell::new(false) };
    static EPOCH: Cell<u64> = const { Cell::new(0) };
}

fn watch() {
    if WATCHING.replace(true) {
        return;
    }
    invalidation::on_relation_change(|relation| {
        crate::postgres::index::forget(relation);
        let registry = REGISTRY_RELATIONS.get();
        // A process that is just finding out which they are has its snapshot already: this may be one of them.
        if relation == 0 || registry[0] == 0 || registry.contains(&relation) {
            STALE.set(true);
        } else if let Some(tenant) = OURS.with(|o| o.try_borrow().map_or(Some(0), |o| o.get(&relation).copied())) {
            // In use just now: better too much than too little.
            let noted = RESHAPED.with(|r| {
                r.try_borrow_mut().is_ok_and(|mut r| {
                    let (count, anew) = r.entry(tenant).or_default();
                    (*count, *anew) = (*count + 1, true);
                    true
                })
            });
            RESHAPED_ANEW.set(true);
            if tenant == 0 || !noted {
                STALE.set(true);
            }
        }
    });
    invalidation::on_catalog_change(|| STALE.set(true));
}

fn refresh() {
    watch();
    if STALE.replace(false) {
        CACHE.with_borrow_mut(|c| *c = Cache::default());
        OURS.with_borrow_mut(|o| o.clear());
        // What was counted in the epoch before means nothing in this one.
        RESHAPED.with_borrow_mut(|r| r.clear());
        RESHAPED_ANEW.set(false);
        EPOCH.set(EPOCH.get() + 1);
    } else if RESHAPED_ANEW.replace(false) {
        let reshaped: Vec<u32> = RESHAPED.with_borrow_mut(|r| {
            let anew = r.iter_mut().filter_map(|(tenant, (_, anew))| std::mem::take(anew).then_some(*tenant));
            anew.collect()
        });
        CACHE.with_borrow_mut(|c| {
            for tenant in reshaped {
                c.tenants.remove(&tenant);
            }
        });
    }
}

fn shape_epoch(tenant: u32) -> ShapeEpoch {
    (EPOCH.get(), RESHAPED.with_borrow(|r| r.get(&tenant).map_or(0, |(count, _)| *count)))
}

/// Changes whenever anything that is cached may have changed.
pub fn epoch() -> u64 {
    refresh();
    EPOCH.get()
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
        pause: table(schema, "pause").ok_or_else(missing)?,
        queue: table(schema, "queue").ok_or_else(missing)?,
        limit_key: table(schema, "limit_key").ok_or_else(missing)?,
        template_task: table(schema, "tq_task").ok_or_else(missing)?,
        template_result: table(schema, "tq_result").ok_or_else(missing)?,
        template_schedule: table(schema, "tq_schedule").ok_or_else(missing)?,
    };
    REGISTRY_RELATIONS.set([r.tenant.oid(), r.handler.oid(), r.pause.oid(), r.queue.oid(), r.limit_key.oid()]);
    CACHE.with_borrow_mut(|c| c.registry = Some(r));
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
    let secret = (first ^ second.rotate_left(64)).to_be_bytes();
    CACHE.with_borrow_mut(|c| c.secret = Some(secret));
    Ok(secret)
}

const HOUR: Micros = 3_600_000_000;

/// The tenant of this schema, or why there is none.
pub fn by_oid(schema: u32) -> Result<Rc<Tenant>> {
    refresh();
    if let Some(t) = CACHE.with_borrow_mut(|c| c.tenants.get(&schema)) {
        return Ok(t);
    }
    // What is remembered must not be older than the last change that was heard of, as the present
    // snapshot may be.
    transaction::with_latest_snapshot(|| read(schema))
}

fn read(schema: u32) -> Result<Rc<Tenant>> {
    // Before anything is read: what changes meanwhile belongs to the next one.
    let epoch = epoch();
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
        catalog::relation_oid(schema, n).ok_or_else(|| {
            Error::new(SqlState::UNDEFINED_TABLE, format!("tenant \"{name}\" has no table {n}"))
                .hint(format!("Run SELECT tq_detach({q}); SELECT tq_attach({q}).", q = pgrx::spi::quote_literal(&name)))
        })
    };
    let pauses = pauses(&registry, &name);
    let of_this = Queues::TENANT.equals(&name);
    let queues = rows_of(registry.queue, &Queues::BY_NAME, of_this, |row| QueueSetup {
        name: row.text(Queues::NAME).unwrap_or_default(),
        max_running: row.get(Queues::MAX_RUNNING),
        rate: row.get(Queues::RATE).and_then(|r| Rate::parse(r, false).ok()),
        priority: row.get(Queues::PRIORITY),
        timeout: row.micros(Queues::TIMEOUT),
        max_attempts: row.get(Queues::MAX_ATTEMPTS),
        pick: row.get(Queues::PICK).and_then(Pick::of),
    });
    let of_this = LimitKeys::TENANT.equals(&name);
    let limits = rows_of(registry.limit_key, &LimitKeys::BY_KEY, of_this, |row| Limit {
        key: row.text(LimitKeys::KEY).unwrap_or_default(),
        max_running: row.get(LimitKeys::MAX_RUNNING),
        rate: row
            .get(LimitKeys::RATE)
            .and_then(|r| Rate::parse(r, row.get(LimitKeys::ALGORITHM).and_then(Algorithm::of) == Some(Algorithm::Window)).ok()),
    });
    let tenant = Rc::new(Tenant {
        oid: schema,
        task: TableId::of(relation("tq_task")?),
        result: TableId::of(relation("tq_result")?),
        schedule: TableId::of(relation("tq_schedule")?),
        ready: row.get(Tenants::READY).unwrap_or(true),
        trusted: row.get(Tenants::TRUSTED) == Some(true) && row.get(Tenants::OWNER) == Some(owner),
        suspended: row.text(Tenants::SUSPENDED),
        attached_at: row.get(Tenants::ATTACHED_AT).unwrap_or(0),
        fan_out: row.get(Tenants::FAN_OUT).unwrap_or(true),
        timezone: row.text(Tenants::TIMEZONE),
        settings: row.get(Tenants::SETTINGS),
        shared_schemas: row.get(Tenants::SHARED_SCHEMAS).unwrap_or_else(settings::shared_schemas),
        weight: row.get(Tenants::WEIGHT).unwrap_or(1).max(1) as u32,
        max_running: row.get(Tenants::MAX_RUNNING),
        max_queued: row.get(Tenants::MAX_QUEUED).map(i64::from),
        save_limit: row.get(Tenants::SAVE_LIMIT).unwrap_or(250),
        save_limit_per: row.get(Tenants::SAVE_LIMIT_PER).map(|per| SavePer::of(per).unwrap_or(SavePer::Handler)),
        result_ttl: row.micros(Tenants::RESULT_TTL).unwrap_or(HOUR),
        failure_ttl: row.micros(Tenants::FAILURE_TTL).unwrap_or(365 * 24 * HOUR),
        rate: row.get(Tenants::RATE).and_then(|r| Rate::parse(r, false).ok()),
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
    if OURS.with_borrow(|o| o.len()) > RELATIONS {
        STALE.set(true);
    }
    CACHE.with_borrow_mut(|c| c.tenants.insert(schema, tenant.clone(), tenant.bytes()));
    Ok(tenant)
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

/// Until this transaction ends the tenant is renamed, detached or dropped by nobody. False: somebody is just
/// doing it, or has. Nothing is waited for.
pub fn keep(tenant: &Tenant) -> Result<bool> {
    let table = Table::open(registry()?.tenant, Access::Write).ok_or_else(|| Error::state("the registry is gone"))?;
    let row = transaction::with_latest_snapshot(|| table.find(Tenants::NAME.equals(&tenant.name)));
    Ok(row.is_some_and(|row| row.get(Tenants::SCHEMA_OID) == Some(tenant.oid) && row_lock::try_keep(&table, &row)))
}

/// Pauses of one tenant, those of all tenants ('') included.
fn pauses(registry: &Registry, name: &str) -> Vec<Pause> {
    let mut found = Vec::new();
    let Some(table) = Table::open(registry.pause, Access::Read) else { return found };
    for who in [name, ""] {
        found.extend(table.scan(&Pauses::BY_WHAT, &[Pauses::TENANT.equals(who)]).map(|row| Pause {
            queue: row.text(Pauses::QUEUE).unwrap_or_default(),
            handler: row.text(Pauses::HANDLER).unwrap_or_default(),
            until: row.get(Pauses::UNTIL).unwrap_or(NEVER),
        }));
    }
    found
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
        let pauses = self.pauses.iter().map(|p| size_of::<Pause>() + p.queue.len() + p.handler.len()).sum::<usize>();
        size_of::<Tenant>() + 500 + settings + queues + limits + pauses
    }
    /// How this queue was set up, if it was; None = the default queue.
    pub fn queue(&self, name: Option<&str>) -> Option<&QueueSetup> {
        if self.queues.is_empty() {
            return None;
        }
        self.queues.iter().find(|q| q.name == name.unwrap_or("default"))
    }
    /// Everything of this tenant pauses until then; None = it doesn't.
    pub fn paused_until(&self, now: Micros) -> Option<Micros> {
        self.pauses.iter().filter(|p| p.queue.is_empty() && p.handler.is_empty() && p.until > now).map(|p| p.until).max()
    }
    /// This handler or queue pauses until then.
    pub fn part_paused_until(&self, handler: &str, queue: Option<&str>, now: Micros) -> Option<Micros> {
        self.pauses
            .iter()
            .filter(|p| !(p.queue.is_empty() && p.handler.is_empty()))
            .filter(|p| p.handler.is_empty() || p.handler == handler)
            .filter(|p| p.queue.is_empty() || p.queue == queue.unwrap_or("default"))
            .filter(|p| p.until > now)
            .map(|p| p.until)
            .max()
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

    /// Opens one of its tables, after its shape was found right.
    pub fn open<R: Relation>(&self, id: TableId<R>, access: Access) -> Result<Table<R>> {
        let table = Table::open_any(id.oid(), access).ok_or_else(|| self.gone())?;
        self.check_shape(&table, |other| Ok(Some(Table::open_any(other, Access::Read).ok_or_else(|| self.gone())?)))?;
        Ok(self.counted(table.of()?))
    }
    /// Rows of unfinished tasks are counted by whoever writes them.
    fn counted<R: Relation>(&self, table: Table<R>) -> Table<R> {
        if table.oid() == self.task.oid() { table.tallied(crate::tenant::gauge::tally(self)) } else { table }
    }
    /// The same for whoever looks at the tenant from outside of its work: a lock that is held for long isn't waited for.
    pub fn open_to_look<R: Relation>(&self, id: TableId<R>) -> Result<Table<R>> {
        const STEP: std::time::Duration = std::time::Duration::from_millis(20);
        for _ in 0..50 {
            if let Some(table) = self.try_open(id, Access::Read)? {
                return Ok(table);
            }
            latch::wait(Some(STEP));
            pgrx::check_for_interrupts!();
        }
        let (detail, hint) = self.who_locks();
        Err(Error::new(SqlState::LOCK_NOT_AVAILABLE, format!("the tables of tenant \"{}\" are locked", self.name))
            .detail(format!("{detail}."))
            .hint(hint))
    }
    /// Who holds a lock on its tables that keeps everybody out, and how it ends.
    pub fn who_locks(&self) -> (String, String) {
        let sql = "SELECT l.pid, x.gid FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_prepared_xacts x
                       ON l.pid IS NULL AND l.virtualtransaction OPERATOR(pg_catalog.=) ('-1/' OPERATOR(pg_catalog.||) x.transaction::pg_catalog.text)
                    WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock'
                      AND l.database OPERATOR(pg_catalog.=) $1 AND l.relation OPERATOR(pg_catalog.=) ANY ($2) LIMIT 1";
        let relations: Vec<pg_sys::Oid> = self.tables().into_iter().map(pg_sys::Oid::from).collect();
        let found = sandbox::as_extension(|| {
            Spi::connect(|c| {
                let mut rows = c.select(sql, Some(1), &[pg_sys::Oid::from(shmem::my_database()).into(), relations.into()])?;
                rows.next().map(|row| Ok((row.get::<i32>(1)?, row.get::<String>(2)?))).transpose()
            })
        });
        match found {
            Ok::<_, pgrx::spi::Error>(Some((Some(pid), _))) => (
                format!("Process {pid} holds a lock on them"),
                format!("It goes on when that transaction ends: SELECT pg_terminate_backend({pid})"),
            ),
            Ok(Some((None, Some(gid)))) => (
                "A prepared transaction holds a lock on them".into(),
                format!("It goes on when that is ended: ROLLBACK PREPARED {}", pgrx::spi::quote_literal(gid)),
            ),
            _ => ("Somebody holds a lock on them, or waits for one".into(), "It goes on when that transaction ends.".into()),
        }
    }
    /// The same without waiting for a lock: `Ok(None)` = somebody has it.
    pub fn try_open<R: Relation>(&self, id: TableId<R>, access: Access) -> Result<Option<Table<R>>> {
        match Table::try_open_any(id.oid(), access) {
            Err(Locked) => Ok(None),
            Ok(None) => Err(self.gone()),
            Ok(Some(table)) => {
                let other = |other| Table::try_open_any(other, Access::Read).map_or(Ok(None), |t| t.map(Some).ok_or_else(|| self.gone()));
                Ok(if self.check_shape(&table, other)? { Some(self.counted(table.of()?)) } else { None })
            }
        }
    }
    /// OIDs of its tables.
    pub fn tables(&self) -> [u32; 3] {
        [self.task.oid(), self.result.oid(), self.schedule.oid()]
    }
    fn gone(&self) -> Error {
        Error::new(SqlState::UNDEFINED_TABLE, format!("a table of tenant \"{}\" is gone", self.name))
    }
    /// From here on changes of its tables are noted.
    fn watch(&self) {
        OURS.with_borrow_mut(|o| o.extend(self.tables().map(|relation| (relation, self.oid))));
    }
    /// False: one of the others, as `open` opens them, is locked.
    fn check_shape(&self, table: &Table<Any>, open: impl Fn(u32) -> Result<Option<Table<Any>>>) -> Result<bool> {
        // Before the look: what changes meanwhile belongs to the next one.
        let epoch = shape_epoch(self.oid);
        if self.shape_checked.get() == Some(epoch) && !STALE.get() {
            return Ok(true);
        }
        // Whoever holds on to a tenant across a change of the epoch is heard of no more.
        self.watch();
        shape::check(self, table)?;
        if table.oid() == self.task.oid() {
            // The other two are checked when they are opened: a flag per table would be no gain,
            // so the flag is set only after all three.
            for other in [self.result.oid(), self.schedule.oid()] {
                let Some(other) = open(other)? else { return Ok(false) };
                shape::check(self, &other)?;
            }
            self.shape_checked.set(Some(epoch));
        }
        Ok(true)
    }
}

/// The tenant that is meant: named, or the first schema of the caller's search_path.
///
/// Never anything else: PostgreSQL skips missing and unusable schemas in silence, which sends
/// work to the wrong place.
pub fn resolve(named: Option<&str>) -> Result<Rc<Tenant>> {
    refresh();
    let user = sandbox::current_user();
    let oid = match named {
        Some(name) => schema_of(name, user, "tenant => takes the bare name of an existing schema: not quoted, not folded to lower case.")?,
        None => {
            let path = session::show(c"search_path");
            let key = (path, user.to_u32());
            match CACHE.with_borrow_mut(|c| c.current.get(&key)) {
                Some(oid) => oid,
                None => {
                    let name = first_of_path(&key.0).ok_or_else(|| {
                        Error::new(SqlState::INVALID_SCHEMA_NAME, "there is no current tenant")
                            .detail(if matches!(key.0.as_str(), "" | "\"\"") {
                                "search_path is empty.".into()
                            } else {
                                format!("search_path is {}.", key.0)
                            })
                            .hint("Set search_path to the tenant's schema first, or pass tenant => '...'.")
                    })?;
                    let oid = schema_of(
                        &name,
                        user,
                        "It comes first in search_path. Create it, set search_path to the tenant's schema, or pass tenant => '...'.",
                    )?;
                    // Attached or not is by_oid's business; only names are remembered here.
                    let bytes = key.0.len();
                    CACHE.with_borrow_mut(|c| c.current.insert(key, oid, bytes));
                    oid
                }
            }
        }
    };
    by_oid(oid)
}

fn schema_of(name: &str, user: pgrx::pg_sys::Oid, hint: &str) -> Result<u32> {
    let oid = catalog::schema_oid(name)
        .ok_or_else(|| Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")).hint(hint))?;
    if !catalog::may_use_schema(oid, user) {
        return Err(Error::denied(format!("permission denied for schema \"{name}\""))
            .hint(format!("Its owner can run GRANT USAGE ON SCHEMA {} TO …", catalog::quote(name))));
    }
    Ok(oid)
}

/// The first entry of a search_path that can be a tenant.
pub fn first_of_path(path: &str) -> Option<String> {
    identifiers(path).into_iter().find(|n| !matches!(n.as_str(), "$user" | "pg_temp" | "pg_catalog" | ""))
}

/// The identifiers of a comma-separated list, quotes resolved, the rest folded to lower case.
fn identifiers(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = list.chars().peekable();
    let mut name = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                while let Some(c) = chars.next() {
                    if c == '"' {
                        if chars.peek() == Some(&'"') {
                            chars.next();
                        } else {
                            break;
                        }
                    }
                    name.push(c);
                }
            }
            ',' => found.push(std::mem::take(&mut name)),
            c if c.is_whitespace() => {}
            // As PostgreSQL folds in a multi-byte encoding: ASCII only.
            c => name.push(c.to_ascii_lowercase()),
        }
    }
    found.push(name);
    found
}
