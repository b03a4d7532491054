//! Tables that cause tasks: tq_listen_table and the trigger behind it.
//!
//! The trigger names a row of tenant_q.table_listener, which says what to enqueue. Whoever may
//! write the table causes the task, so nothing of it comes from the writer but the rows: it is
//! enqueued for the table's owner, whose right to enqueue is checked each time. A trigger that
//! somebody makes by hand on a table of theirs names a listener of somebody else's in vain.

use crate::postgres::call::{Args, Ret};
use crate::postgres::column::TableId;
use crate::postgres::error::{Error, Result};
use crate::postgres::function::changes;
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::trigger::{self, Change, Fired, Operation};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, condition, sandbox, session, transaction};
use crate::pure::cache::Bounded;
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::task::new::{self, NewTask};
use crate::task::queue::Queue;
use crate::tenant::columns::TableListeners;
use crate::tenant::records::{announce_registry, run};
use crate::tenant::rights::{By, Caller};
use crate::tenant::{self, Tenant};
use crate::{handler, settings, sql_functions};
use pgrx::{JsonB, Spi, pg_sys};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;
use std::rc::Rc;

/// Rows that one task gets of a statement, at most.
const ROWS: usize = 1000;

/// A row of tenant_q.table_listener.
struct Listener {
    tenant: String,
    relation: u32,
    owner: String,
    task: NewTask,
    pub by_superuser: bool,
}

/// What was read in this epoch of the registry.
type OfEpoch<T> = (u64, T);

thread_local! {
    /// Listeners by id, of one epoch of the registry.
    static CACHE: RefCell<OfEpoch<Bounded<Id, Option<Rc<Listener>>>>> = RefCell::new((0, Bounded::new(KEPT, KEPT_BYTES)));
    /// Tenants whose being detached was said.
    static SAID: RefCell<HashSet<String>> = RefCell::default();
    /// Conditions that were found in order, of one epoch.
    static TRUSTED: RefCell<OfEpoch<HashSet<Trusted>>> = RefCell::default();
}

/// Listeners that a session remembers, and the bytes that they may take.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 8 << 20;
/// Tenants of which it is remembered that this was said.
const SAID_MAX: usize = 1000;

fn find(id: Id) -> Result<Option<Rc<Listener>>> {
    let epoch = tenant::epoch();
    let known = CACHE.with_borrow_mut(|(cached, listeners)| {
        if *cached != epoch {
            listeners.clear();
            *cached = epoch;
        }
        listeners.get(&id)
    });
    if let Some(listener) = known {
        return Ok(listener);
    }
    let listener = transaction::with_latest_snapshot(|| read(id))?.map(Rc::new);
    if tenant::epoch() == epoch {
        let args = listener.as_ref().and_then(|l| l.task.args.as_ref()).map_or(0, Jsonb::size);
        CACHE.with_borrow_mut(|(_, listeners)| listeners.insert(id, listener.clone(), size_of::<Listener>() + 500 + args));
    }
    Ok(listener)
}

fn read(id: Id) -> Result<Option<Listener>> {
    let table = catalog::relation_oid(tenant::registry()?.schema, "table_listener").and_then(|t| Table::open(TableId::of(t), Access::Read));
    let Some(row) = table.and_then(|t| t.find(TableListeners::ID.equals(id))) else { return Ok(None) };
    let mut task = row.get(TableListeners::TASK).map_or(Ok(NewTask::default()), |object| new::task_object(&object))?;
    task.handler = row.text(TableListeners::HANDLER).unwrap_or_default();
    Ok(Some(Listener {
        tenant: row.text(TableListeners::TENANT).unwrap_or_default(),
        relation: row.get(TableListeners::RELATION_OID).unwrap_or(0),
        owner: row.text(TableListeners::OWNER).unwrap_or_default(),
        task,
        by_superuser: row.get(TableListeners::BY_SUPERUSER).unwrap_or(false),
    }))
}

/// What tq_listen_table is asked about: a table of the caller's.
struct Target {
    oid: u32,
    /// As SQL names it.
    name: String,
    schema: u32,
    owner: u32,
}

impl Target {
    fn of(relation: Option<u32>) -> Result<Target> {
        let oid = relation.ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "relation is null"))?;
        let table = Table::open_any(oid, Access::Read)
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_TABLE, format!("relation {oid} does not exist")))?;
        let name = qualified_name(oid);
        let owner = catalog::relation_owner(&table);
        let user = sandbox::current_user();
        if !sandbox::is_superuser(user) && !sandbox::has_privs_of(user, pg_sys::Oid::from(owner)) {
            return Err(Error::denied(format!("must be owner of table {name}")));
        }
        if !matches!(trigger::kind(&table), b'r' | b'p') {
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("{name} is not a table"))
                .hint("Listen to the tables beneath it: only ordinary and partitioned tables have triggers for changes of rows."));
        }
        let schema = trigger::schema(&table);
        let own = schema == tenant::registry()?.schema
            || tenant::by_oid(schema).is_ok_and(|t| t.tables().contains(&oid))
            || !crate::postgres::function::is_built_in(oid) && catalog::schema_name(schema).as_deref() == Some("tenant_q");
        if own || crate::postgres::function::is_built_in(oid) {
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("{name} is not a table to listen to"))
                .hint("For what happens to tasks there is tq_on()."));
        }
        Ok(Target { oid, name, schema, owner })
    }

    /// Where only_if looks names up: pg_catalog, and of the tenant's search_path and the table's schema what the table's
    /// owner owns, or somebody who could be that owner anyway and lets nobody else create anything in it. What others can
    /// put into a schema would come to run in every session that changes the table.
    fn condition_path(&self, tenant: &Tenant) -> Result<String> {
        let mut schemas = tenant.path_oids();
        if !schemas.contains(&self.schema) {
            schemas.push(self.schema);
        }
        let schemas: Vec<pg_sys::Oid> = schemas.into_iter().map(pg_sys::Oid::from).collect();
        let path = sandbox::as_extension(|| {
            Spi::get_one_with_args::<String>(
                "WITH d AS (SELECT datdba FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                 SELECT pg_catalog.string_agg(pg_catalog.quote_ident(s.nspname), ', ' ORDER BY u.n)
                   FROM d, ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[])) WITH ORDINALITY AS u(oid, n)
                   JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) u.oid
                  WHERE s.nspowner OPERATOR(pg_catalog.=) $2
                     OR pg_catalog.pg_has_role(CASE s.nspowner WHEN 'pg_database_owner'::pg_catalog.regrole THEN d.datdba ELSE s.nspowner END, $2, 'MEMBER')
                        AND NOT EXISTS (
                            SELECT FROM pg_catalog.aclexplode(s.nspacl) a
                             WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
                               AND (a.grantee OPERATOR(pg_catalog.=) 0
                                OR NOT pg_catalog.pg_has_role(CASE a.grantee WHEN 'pg_database_owner'::pg_catalog.regrole THEN d.datdba ELSE a.grantee END, $2, 'MEMBER')))",
                &[schemas.into(), pg_sys::Oid::from(self.owner).into()],
            )
        });
        let path = path.map_err(Error::from)?;
        Ok(path.map_or("pg_catalog, pg_temp".into(), |path| format!("pg_catalog, {path}, pg_temp")))
    }

    /// A condition that names nothing of lesser roles, as far as its text tells: reading it runs the input functions of
    /// types that it names, so this comes first.
    fn check_condition(&self, condition: &str) -> Result<()> {
        let named = condition::schemas_named(condition).map_err(|fault| {
            let place = fault.at.map_or(String::new(), |at| format!(", at character {at}"));
            Error::new(SqlState::SYNTAX_ERROR, format!("only_if: {}", fault.message))
                .detail(format!("Parameter only_if{place}."))
                .hint("Write one SQL expression about OLD and NEW that is true or false.")
        })?;
        let owner = pg_sys::Oid::from(self.owner);
        for schema in named {
            let Some(other) = catalog::schema_oid(&schema).and_then(catalog::schema_owner) else { continue };
            let other = if other == catalog::DATABASE_OWNER { catalog::database_owner() } else { other };
            if !sandbox::could_be(pg_sys::Oid::from(other), owner) {
                let what = format!("schema {} of role \"{}\"", catalog::quote(&schema), catalog::role_name(other).unwrap_or_default());
                return Err(untrusted(&what, &self.name, self.owner));
            }
        }
        Ok(())
    }

    /// Runs DDL on the table as its owner, in the sandbox: the text is the caller's, who is the owner or could be.
    fn ddl(&self, path: &str, statement: &str) -> Result<()> {
        ddl(self.owner, path, statement)
    }
}

fn qualified_name(relation: u32) -> String {
    let schema = Table::open_any(relation, Access::Read).map(|t| trigger::schema(&t)).and_then(catalog::schema_name).unwrap_or_default();
    format!("{}.{}", catalog::quote(&schema), catalog::quote(&catalog::relation_name(relation).unwrap_or_default()))
}

/// How the names of a listener's triggers begin.
fn trigger_prefix(id: Id) -> String {
    format!("tq_listen_{:016x}_", id.low())
}

fn trigger_name(id: Id, operation: Operation) -> String {
    format!("{}{}", trigger_prefix(id), operation.name())
}

/// A condition would run what belongs to somebody who couldn't be the table's owner: that is, whatever they put there, as
/// whoever changes the table.
fn untrusted(what: &str, table: &str, owner: u32) -> Error {
    let owner = catalog::role_name(owner).unwrap_or_default();
    Error::denied(format!("only_if of table {table} uses {what}"))
        .detail(format!("Whoever changes the table would run what that role puts there; the table belongs to role \"{owner}\"."))
        .hint(format!(
            "Let only_if use what pg_catalog has or \"{owner}\" owns, such as OPERATOR(pg_catalog.=), or look at the row in the handler."
        ))
}

/// What conditions of listened tables use that isn't PostgreSQL's own, by the catalog's dependencies: of one table ($1), or
/// of all (null; by their names too, as OIDs are other ones after a restore); of triggers whose names begin so ($2). An
/// operator brings its function, a type what it is made of. Enums have no code; types of the table's own columns run theirs
/// at every write as it is. `trusted`: whoever owns it could be the table's owner. Run under a search_path of pg_catalog.
const CONDITION_USES: &str = "
    WITH RECURSIVE condition AS MATERIALIZED (
        SELECT t.oid, t.tgname, t.tgrelid, t.tgfoid, c.relowner, c.reltype
          FROM (SELECT l.relation_oid FROM tenant_q.table_listener l WHERE $1 IS NULL
                UNION SELECT pg_catalog.to_regclass(l.relation)::oid FROM tenant_q.table_listener l WHERE $1 IS NULL
                UNION SELECT $1) r(oid)
          JOIN pg_catalog.pg_class c ON c.oid = r.oid
          JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid
         WHERE NOT t.tgisinternal AND t.tgqual IS NOT NULL AND t.tgparentid = 0 AND pg_catalog.starts_with(t.tgname::text, $2)
    ), used(condition, own, class, object) AS (
        SELECT o.oid, false, d.refclassid, d.refobjid
          FROM condition o
          JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid = o.oid
         WHERE NOT (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = o.tgrelid)
           AND NOT (d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid = o.tgfoid)
        UNION SELECT o.oid, true, 'pg_catalog.pg_type'::regclass, o.reltype FROM condition o
        UNION SELECT u.condition, u.own, x.class, x.object
          FROM used u
          CROSS JOIN LATERAL (
                SELECT 'pg_catalog.pg_proc'::regclass, o.oprcode::oid FROM pg_catalog.pg_operator o
                 WHERE u.class = 'pg_catalog.pg_operator'::regclass AND o.oid = u.object
                UNION ALL
                SELECT 'pg_catalog.pg_type'::regclass, p.part
                  FROM pg_catalog.pg_type y
                  CROSS JOIN LATERAL (
                        SELECT y.typbasetype UNION ALL SELECT y.typelem
                        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                                   WHERE a.attrelid = y.typrelid AND y.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
                        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE y.oid IN (r.rngtypid, r.rngmultitypid)) p(part)
                 WHERE u.class = 'pg_catalog.pg_type'::regclass AND y.oid = u.object) x(class, object)
         WHERE x.object >= 16384
    )
    SELECT o.tgrelid, o.tgname::text, pg_catalog.pg_describe_object(u.class, u.object, 0), w.owner, pg_catalog.pg_has_role(w.owner, o.relowner, 'MEMBER')
      FROM used u
      JOIN condition o ON o.oid = u.condition
      JOIN LATERAL (
            SELECT proowner FROM pg_catalog.pg_proc WHERE u.class = 'pg_catalog.pg_proc'::regclass AND oid = u.object
            UNION ALL SELECT oprowner FROM pg_catalog.pg_operator WHERE u.class = 'pg_catalog.pg_operator'::regclass AND oid = u.object
            UNION ALL SELECT collowner FROM pg_catalog.pg_collation WHERE u.class = 'pg_catalog.pg_collation'::regclass AND oid = u.object
            UNION ALL SELECT relowner FROM pg_catalog.pg_class WHERE u.class = 'pg_catalog.pg_class'::regclass AND oid = u.object
            UNION ALL SELECT cfgowner FROM pg_catalog.pg_ts_config WHERE u.class = 'pg_catalog.pg_ts_config'::regclass AND oid = u.object
            UNION ALL SELECT dictowner FROM pg_catalog.pg_ts_dict WHERE u.class = 'pg_catalog.pg_ts_dict'::regclass AND oid = u.object
            UNION ALL SELECT y.typowner FROM pg_catalog.pg_type y
                       WHERE u.class = 'pg_catalog.pg_type'::regclass AND y.oid = u.object AND y.typtype <> 'e'
                         AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = y.oid)
                         AND NOT EXISTS (SELECT FROM used m WHERE m.own AND m.condition = u.condition AND m.class = u.class AND m.object = y.oid)
           ) w(owner) ON true
     WHERE NOT u.own
     ORDER BY 1, 2, 5, 3";

/// Something that a condition uses.
struct Use {
    relation: u32,
    trigger: String,
    /// As messages name it.
    what: String,
    owner: u32,
    trusted: bool,
}

impl Use {
    fn what(&self) -> String {
        format!("{} of role \"{}\"", self.what, catalog::role_name(self.owner).unwrap_or_default())
    }
}

/// See CONDITION_USES; what this transaction has just made counts as well.
fn condition_uses(relation: Option<u32>, triggers: &str) -> Result<Vec<Use>> {
    let read = || {
        Spi::connect(|c| {
            c.select(CONDITION_USES, None, &[relation.map(pg_sys::Oid::from).into(), triggers.into()])?
                .map(|row| {
                    let oid = |n: usize| row.get::<pg_sys::Oid>(n).map(|o| o.map_or(0, |o| o.to_u32()));
                    Ok(Use {
                        relation: oid(1)?,
                        trigger: row.get(2)?.unwrap_or_default(),
                        what: row.get(3)?.unwrap_or_default(),
                        owner: oid(4)?,
                        trusted: row.get(5)?.unwrap_or(false),
                    })
                })
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    };
    transaction::with_latest_snapshot(|| sandbox::as_extension(read)).map_err(Error::from)
}

/// A listener's condition and the table's owner, of this epoch: what it uses may be used.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Trusted {
    relation: u32,
    listener: Id,
    owner: u32,
}

/// tenant_q.condition_is_trusted(relation, listener): whether what this listener's condition uses belongs to those who
/// could be the table's owner, now; an error if not.
///
/// It stands in front of conditions that use anything but pg_catalog. Declared immutable, with constants for arguments,
/// it is asked when a statement prepares the condition: before that folds or runs anything of it.
fn condition_is_trusted(args: &Args) -> Result<Ret> {
    let (Some(relation), Some(listener)) = (args.relation(0), args.uuid(1)) else { return Ok(Ret::Null) };
    let Some(owner) = Table::open_any(relation, Access::Read).map(|t| catalog::relation_owner(&t)) else { return Ok(Ret::Null) };
    let epoch = tenant::epoch();
    let key = Trusted { relation, listener, owner };
    let known = TRUSTED.with_borrow_mut(|(cached, trusted)| {
        if *cached != epoch {
            trusted.clear();
            *cached = epoch;
        }
        trusted.contains(&key)
    });
    if !known {
        if let Some(one) = condition_uses(Some(relation), &trigger_prefix(listener))?.iter().find(|u| !u.trusted) {
            let name = qualified_name(relation);
            return Err(untrusted(&one.what(), &name, owner).hint(format!(
                "Its owner can take the trigger away, DROP TRIGGER {} ON {name}, and listen again with another only_if.",
                catalog::quote(&one.trigger)
            )));
        }
        if tenant::epoch() == epoch {
            TRUSTED.with_borrow_mut(|(_, trusted)| trusted.insert(key));
        }
    }
    Ok(Ret::Bool(true))
}

/// Conditions that use what belongs to lesser roles than their tables' owners, one a trigger: for tq_problems, as
/// (what, reason, fix). Those that were made before this was looked at run unasked.
pub fn problems() -> Result<Vec<(String, String, String)>> {
    let mut found: Vec<(String, String, String)> = Vec::new();
    let mut last = (0, String::new());
    for one in condition_uses(None, "tq_listen_")?.into_iter().filter(|u| !u.trusted) {
        if last == (one.relation, one.trigger.clone()) {
            continue;
        }
        let table = qualified_name(one.relation);
        found.push((
            format!("table {table}"),
            format!("only_if of its trigger {} uses {}, who could run code as whoever changes the table", one.trigger, one.what()),
            format!("DROP TRIGGER {} ON {table}, and tq_listen_table() with another only_if", catalog::quote(&one.trigger)),
        ));
        last = (one.relation, one.trigger);
    }
    Ok(found)
}

/// tenant_q.disable_untrusted_conditions(): for the update from a version that looked names up where tenants could put
/// something; how many triggers it has disabled.
fn disable_untrusted_conditions(_args: &Args) -> Result<Ret> {
    let mut disabled = 0;
    let mut last = (0, String::new());
    for one in condition_uses(None, "tq_listen_")?.into_iter().filter(|u| !u.trusted) {
        let Some(owner) = Table::open_any(one.relation, Access::Read).map(|t| catalog::relation_owner(&t)) else { continue };
        if last == (one.relation, one.trigger.clone()) {
            continue;
        }
        let table = qualified_name(one.relation);
        ddl(owner, "pg_catalog, pg_temp", &format!("ALTER TABLE {table} DISABLE TRIGGER {}", catalog::quote(&one.trigger)))?;
        Error::new(SqlState::WARNING, format!("trigger {} of table {table} is disabled: nothing is enqueued by it", one.trigger))
            .detail(format!("Its condition uses {}, who could run code as whoever changes the table.", one.what()))
            .hint("Listen again with tq_listen_table().")
            .warn();
        disabled += 1;
        last = (one.relation, one.trigger);
    }
    Ok(Ret::Int(disabled))
}

/// Runs DDL on a table as its owner, in the sandbox.
fn ddl(owner: u32, path: &str, statement: &str) -> Result<()> {
    sandbox::as_owner(pg_sys::Oid::from(owner), || {
        if let Ok(path) = CString::new(path) {
            session::set_local(c"search_path", &path);
        }
        Spi::run(statement).map_err(Error::from)
    })
}

fn operations(events: Option<Vec<String>>) -> Result<Vec<Operation>> {
    let events = events.unwrap_or_else(|| ["insert", "update", "delete"].map(String::from).to_vec());
    let mut found: Vec<Operation> = Vec::new();
    for event in &events {
        let Some(operation) = Operation::of(&event.to_ascii_lowercase()) else {
            return Err(Error::invalid(format!("event \"{event}\" is not known")).hint("Events are insert, update, delete and truncate."));
        };
        if !found.contains(&operation) {
            found.push(operation);
        }
    }
    if found.is_empty() {
        return Err(Error::invalid("events is empty").hint("tq_unlisten_table() ends listening."));
    }
    Ok(found)
}

/// tq_listen_table(relation, handler, events, only_if, each, task, tenant)
fn listen_table(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_listen_table()");
    let name = args
        .text(1)
        .ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null").hint("Pass the name of a registered handler."))?;
    let operations = operations(args.texts(2))?;
    let only_if = args.text(3);
    let each = args.text(4).unwrap_or_else(|| "row".into());
    let tenant = tenant::resolve(args.text(6).as_deref())?;
    let target = Target::of(args.relation(0))?;
    let by_row = match each.as_str() {
        "row" => true,
        "statement" => false,
        _ => return Err(Error::invalid(format!("each is \"{each}\"")).hint("It is 'row' or 'statement'.")),
    };
    if only_if.is_some() && !by_row {
        return Err(Error::invalid("only_if goes with each => 'row' only").hint("Let the handler look at the rows."));
    }
    let document = args.setting(5);
    let options = document.as_ref().map_or(Ok(NewTask::default()), new::task_object)?;
    if !options.handler.is_empty() || options.args.is_some() || options.id.is_some() {
        return Err(Error::invalid("task sets handler, args or id").hint("These come from the listener; task is for the other parameters."));
    }
    options.check()?;
    options.refuse_sync("a table's listener")?;
    may_enqueue(&tenant, target.owner)?;
    if let Some(condition) = &only_if {
        target.check_condition(condition)?;
    }
    let handler = handler::require(&tenant, &name)?;
    let samples: Vec<Jsonb> = operations.iter().map(|o| document_for(*o, &target.name, by_row, &[])).collect::<Result<_>>()?;
    for sample in &samples {
        handler.check_args(Some(sample), handler.code_at_enqueue(&tenant).as_ref()).map_err(|e| {
            let detail = e.detail.clone().map_or(String::new(), |d| format!("{d} "));
            e.detail(format!("{detail}Its args are {}.", shape(by_row))).hint("Let the handler take one parameter of type jsonb.")
        })?;
    }
    let caller = sandbox::current_user();
    let by_superuser = sandbox::is_superuser(caller) && sandbox::is_superuser(pg_sys::Oid::from(target.owner));
    remove(&target, &handler.name, &tenant)?;
    let id = Id::fresh();
    let path = target.condition_path(&tenant)?;
    let create = |guard: bool| {
        // A truncate is asked nothing, and stays.
        for operation in operations.iter().filter(|o| !(guard && **o == Operation::Truncate)) {
            let event = operation.name().to_ascii_uppercase();
            let transition = match operation {
                _ if by_row => "",
                Operation::Insert => "REFERENCING NEW TABLE AS tq_new",
                Operation::Update => "REFERENCING OLD TABLE AS tq_old NEW TABLE AS tq_new",
                Operation::Delete => "REFERENCING OLD TABLE AS tq_old",
                Operation::Truncate => "",
            };
            let level = if by_row && *operation != Operation::Truncate { "ROW" } else { "STATEMENT" };
            let when = match &only_if {
                Some(condition) if *operation != Operation::Truncate && guard => format!(
                    "WHEN (CASE WHEN tenant_q.condition_is_trusted({}::pg_catalog.regclass, '{}'::pg_catalog.uuid) THEN (\n{condition}\n) END)",
                    pgrx::spi::quote_literal(&target.name),
                    id
                ),
                Some(condition) if *operation != Operation::Truncate => format!("WHEN (\n{condition}\n)"),
                _ => String::new(),
            };
            target.ddl(
                &path,
                &format!(
                    "CREATE TRIGGER {} AFTER {event} ON {} {transition} FOR EACH {level} {when} EXECUTE FUNCTION tenant_q.table_changed('{}')",
                    trigger_name(id, *operation),
                    target.name,
                    id
                ),
            )?;
        }
        Ok::<(), Error>(())
    };
    create(false)?;
    if only_if.is_some() {
        let uses = condition_uses(Some(target.oid), &trigger_prefix(id))?;
        if let Some(one) = uses.iter().find(|u| !u.trusted) {
            return Err(untrusted(&one.what(), &target.name, target.owner));
        }
        if !uses.is_empty() {
            let guard = Spi::get_one::<bool>(
                "SELECT pg_catalog.to_regprocedure('tenant_q.condition_is_trusted(pg_catalog.regclass, pg_catalog.uuid)') IS NOT NULL",
            );
            if guard.ok().flatten() != Some(true) {
                return Err(Error::state(
                    "this database has an older version of the extension, without conditions that use your own functions",
                )
                .hint("ALTER EXTENSION tenant_q UPDATE"));
            }
            // Whom that belongs to may change: it is asked at each statement.
            for operation in operations.iter().filter(|o| **o != Operation::Truncate) {
                target.ddl("pg_catalog, pg_temp", &format!("DROP TRIGGER {} ON {}", trigger_name(id, *operation), target.name))?;
            }
            create(true)?;
        }
    }
    run(
        "INSERT INTO tenant_q.table_listener (id, tenant, relation, relation_oid, owner, handler, events, each, only_if, task, by_superuser, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, pg_catalog.now())",
        &[
            crate::postgres::call::uuid(id).into(),
            tenant.name.as_str().into(),
            target.name.as_str().into(),
            pg_sys::Oid::from(target.oid).into(),
            catalog::role_name(target.owner).into(),
            handler.name.as_str().into(),
            operations.iter().map(|o| o.name().to_string()).collect::<Vec<_>>().into(),
            each.into(),
            only_if.into(),
            document.map(JsonB).into(),
            by_superuser.into(),
            catalog::role_name(caller.to_u32()).into(),
        ],
    )?;
    announce_registry()?;
    Ok(Ret::Void)
}

/// tq_unlisten_table(relation, handler, tenant)
fn unlisten_table(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unlisten_table()");
    let name = args.text(1).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null"))?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    let target = Target::of(args.relation(0))?;
    let gone = remove(&target, &name, &tenant)?;
    announce_registry()?;
    Ok(Ret::Bool(gone))
}

/// Drops the triggers and the rows of these listeners, and rows whose table is gone.
fn remove(target: &Target, handler: &str, tenant: &Tenant) -> Result<bool> {
    // The triggers tell which listeners are of this table: after a restore its OID is another one.
    let fail = |e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string());
    let found: Vec<(pgrx::Uuid, String)> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT l.id, t.tgname::pg_catalog.text FROM tenant_q.table_listener l, pg_catalog.pg_trigger t
                  WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal AND t.tgparentid OPERATOR(pg_catalog.=) 0
                    AND l.tenant OPERATOR(pg_catalog.=) ANY (ARRAY[$2, '']) AND l.handler OPERATOR(pg_catalog.=) $3
                    AND pg_catalog.starts_with(t.tgname::pg_catalog.text, 'tq_listen_')
                    AND pg_catalog.strpos(pg_catalog.encode(t.tgargs, 'escape'), l.id::pg_catalog.text) OPERATOR(pg_catalog.=) 1",
                None,
                &[pg_sys::Oid::from(target.oid).into(), tenant.name.as_str().into(), handler.into()],
            )?
            .map(|row| Ok((row.get::<pgrx::Uuid>(1)?.expect("not null"), row.get::<String>(2)?.unwrap_or_default())))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(fail)?;
    for (_, name) in &found {
        target.ddl("pg_catalog, pg_temp", &format!("DROP TRIGGER {} ON {}", catalog::quote(name), target.name))?;
    }
    let ids: HashSet<Id> = found.iter().map(|(id, _)| Id::of_bytes(*id.as_bytes())).collect();
    for id in &ids {
        run(
            "DELETE FROM tenant_q.table_listener WHERE id OPERATOR(pg_catalog.=) $1 RETURNING 1",
            &[crate::postgres::call::uuid(*id).into()],
        )?;
    }
    run(
        "DELETE FROM tenant_q.table_listener l WHERE l.tenant OPERATOR(pg_catalog.=) ANY (ARRAY[$1, ''])
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) l.relation_oid)
            AND pg_catalog.to_regclass(l.relation) IS NULL RETURNING 1",
        &[tenant.name.as_str().into()],
    )?;
    Ok(!ids.is_empty())
}

fn shape(by_row: bool) -> &'static str {
    if by_row { "{\"event\", \"table\", \"old\", \"new\"}" } else { "{\"event\", \"table\", \"rows\": [{\"old\", \"new\"}]}" }
}

fn document_for(operation: Operation, table: &str, by_row: bool, rows: &[Change]) -> Result<Jsonb> {
    Ok(match (operation, by_row) {
        (Operation::Truncate, _) => changes::none(operation.name(), table)?,
        (_, true) => changes::one(operation.name(), table, rows.first().unwrap_or(&(None, None)))?,
        (_, false) => changes::many(operation.name(), table, rows)?,
    })
}

/// The table's owner enqueues, so they must be allowed to.
fn may_enqueue(tenant: &Tenant, owner: u32) -> Result<()> {
    let owner = pg_sys::Oid::from(owner);
    if sandbox::is_superuser(owner) || crate::tenant::rights::may_enqueue(tenant, owner) {
        return Ok(());
    }
    let role = catalog::role_name(owner.to_u32()).unwrap_or_default();
    let quote = pgrx::spi::quote_literal::<&str>;
    Err(Error::denied(format!("the table's owner \"{role}\" may not enqueue tasks of tenant \"{}\"", tenant.name)).hint(format!(
        "The tenant's owner can run SELECT tq_grant({}, '{{enqueue}}', tenant => {})",
        quote(&role),
        quote(&tenant.name)
    )))
}

/// The trigger.
fn table_changed(args: &Args) -> Result<Ret> {
    let Some(fired) = args.trigger() else {
        return Err(Error::new(SqlState::TRIGGER_PROTOCOL_VIOLATED, "tenant_q.table_changed() was not called by a trigger")
            .hint("SELECT tq_listen_table(…) makes the triggers that call it."));
    };
    let forged = || {
        Error::state(format!("trigger \"{}\" is of no listener", fired.name())).hint("DROP it, and listen again with tq_listen_table().")
    };
    let id = fired.argument().and_then(|a| Id::parse(&a)).ok_or_else(forged)?;
    let listener = find(id)?.filter(|_| fired.is_after()).ok_or_else(forged)?;
    // A partition's trigger is a copy of its parent's: the listener is the parent's.
    let relation = if fired.is_clone() || fired.relation() != listener.relation {
        trigger::ancestors(fired.relation()).into_iter().find(|a| *a == listener.relation).unwrap_or(fired.relation())
    } else {
        fired.relation()
    };
    let owner = Table::open_any(relation, Access::Read).map(|t| catalog::relation_owner(&t)).ok_or_else(forged)?;
    if relation != listener.relation && catalog::role_name(owner).as_deref() != Some(&listener.owner) {
        return Err(forged());
    }
    let gone = || match listener.tenant.as_str() {
        "" => Error::state("the tenant that it was for is gone"),
        name => tenant::not_attached(name),
    };
    let tenant = catalog::schema_oid(&listener.tenant).ok_or_else(gone).and_then(tenant::by_oid);
    let tenant = match tenant {
        Ok(tenant) => tenant,
        // Detached: its owner's tables work on without it.
        Err(error) => {
            let is_new = SAID.with_borrow_mut(|said| {
                if said.len() >= SAID_MAX {
                    said.clear();
                }
                said.insert(listener.tenant.clone())
            });
            if is_new {
                Error::new(SqlState::WARNING, format!("nothing is enqueued for changes of {}", qualified_name(relation)))
                    .detail(format!("{}.", error.message))
                    .warn();
            }
            return Ok(Ret::Void);
        }
    };
    may_enqueue(&tenant, owner)?;
    let superuser = listener.by_superuser && sandbox::is_superuser(pg_sys::Oid::from(owner));
    let caller = Caller { name: catalog::role_name(owner).unwrap_or_default(), superuser };
    let queue = Queue::of(tenant.clone(), tenant.open(tenant.task, Access::Write)?, caller, By::Caller);
    let table = qualified_name(relation);
    let operation = fired.operation();
    let enqueue = |args: Jsonb| crate::work::enqueue::add(&queue, &NewTask { args: Some(args), ..listener.task.clone() }).map(|_| ());
    match operation {
        Operation::Truncate => enqueue(document_for(operation, &table, false, &[])?)?,
        _ if fired.is_for_row() => {
            enqueue(document_for(operation, &table, true, &[fired.row()?])?)?;
        }
        _ => statement(&fired, |rows| enqueue(document_for(operation, &table, false, rows)?))?,
    }
    Ok(Ret::Void)
}

/// A statement's rows, as many at a time as a task's arguments take.
fn statement(fired: &Fired, mut enqueue: impl FnMut(&[Change]) -> Result<()>) -> Result<()> {
    let room = settings::max_args_bytes() / 2;
    let mut rows: Vec<Change> = Vec::new();
    let mut bytes = 0;
    let size = |d: &Option<Jsonb>| d.as_ref().map_or(0, Jsonb::size);
    fired.rows(|change| {
        let more = size(&change.0) + size(&change.1);
        if rows.len() >= ROWS || (bytes + more > room && !rows.is_empty()) {
            enqueue(&rows)?;
            rows.clear();
            bytes = 0;
        }
        bytes += more;
        rows.push(change);
        Ok(())
    })?;
    if rows.is_empty() { Ok(()) } else { enqueue(&rows) }
}

/// Listeners of this tenant's tables, for tq_events.
pub fn shown(tenant: &Tenant) -> Result<Vec<Json>> {
    let fail = |e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string());
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT pg_catalog.to_jsonb(l) OPERATOR(pg_catalog.||) '{\"how\": \"task\"}'::pg_catalog.jsonb FROM tenant_q.table_listener l WHERE l.tenant OPERATOR(pg_catalog.=) $1 ORDER BY l.relation, l.handler",
                None,
                &[tenant.name.as_str().into()],
            )?
            .map(|row| Ok(row.get::<JsonB>(1)?.map_or(json!({}), |j| j.0)))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(fail)
}

sql_functions! {
    tq_listen_table, pg_finfo_tq_listen_table => listen_table;
    tq_unlisten_table, pg_finfo_tq_unlisten_table => unlisten_table;
    tenant_q_condition_is_trusted, pg_finfo_tenant_q_condition_is_trusted => condition_is_trusted;
    tenant_q_disable_untrusted_conditions, pg_finfo_tenant_q_disable_untrusted_conditions => disable_untrusted_conditions;
    tenant_q_table_changed, pg_finfo_tenant_q_table_changed => table_changed;
}
