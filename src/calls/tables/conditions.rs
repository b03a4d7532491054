//! The conditions of tq_listen_table: `only_if` runs as whoever writes the table, so nothing in it may be of lesser roles.
//!
//! Names are looked up where only the table's owner, or who could be the owner, creates anything; what a condition then
//! depends on is read from the catalog. Owners change, so a condition that uses anything but pg_catalog is asked about at
//! each statement that prepares it.

use super::{Target, ddl, qualified_name, trigger_prefix};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, condition, sandbox, stand_in, transaction};
use crate::pure::fix;
use crate::pure::ids::Id;
use crate::tenant::{self, Tenant};
use pgrx::{Spi, pg_sys};
use std::cell::RefCell;
use std::collections::HashSet;

impl Target {
    /// Where only_if looks names up: pg_catalog, and of the tenant's search_path and the table's schema what the table's
    /// owner owns, or somebody who could be that owner anyway and lets nobody else create anything in it. What others can
    /// put into a schema would come to run in every session that changes the table.
    pub fn condition_path(&self, tenant: &Tenant) -> Result<String> {
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
    pub fn check_condition(&self, condition: &str) -> Result<()> {
        let named = condition::schemas_named(condition).map_err(|fault| {
            let place = fault.at.map_or(String::new(), |at| format!(", at character {at}"));
            let error = Error::new(SqlState::SYNTAX_ERROR, format!("only_if: {}", fault.message));
            let error = match fault.at {
                Some(at) => error.at(condition, at),
                None => error,
            };
            error.detail(format!("Parameter only_if{place}.")).hint("Write one SQL expression about OLD and NEW that is true or false.")
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
}

/// A condition would run what belongs to somebody who couldn't be the table's owner: that is, whatever they put there, as
/// whoever changes the table.
pub fn untrusted(what: &str, table: &str, owner: u32) -> Error {
    let owner = catalog::role_name(owner).unwrap_or_default();
    Error::denied(format!("only_if of table {table} uses {what}"))
        .detail(format!("Whoever changes the table would run what that role puts there; the table belongs to role \"{owner}\"."))
        .hint(format!(
            "Let only_if use what pg_catalog has or \"{owner}\" owns, such as OPERATOR(pg_catalog.=), or look at the row in the handler."
        ))
}

/// What conditions of listened tables use that isn't PostgreSQL's own, by the catalog's dependencies: of one table ($1), or
/// of all (null; by their names too, as OIDs are other ones after a restore); of triggers whose names begin so ($2), but for
/// what stands in front of the condition (of this text, $3, and of the table's owner). An operator brings its function, a
/// type what it is made of. Enums have no code; types of the table's own columns run theirs at every write as it is.
/// `trusted`: whoever owns it could be the table's owner. Run under a search_path of pg_catalog.
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
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
                            WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.refobjid AND starts_with(p.proname::text, 'tq_listen_') AND p.prosrc = $3 AND p.proowner = o.relowner)
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
pub struct Use {
    relation: u32,
    trigger: String,
    /// As messages name it.
    what: String,
    owner: u32,
    pub trusted: bool,
}

impl Use {
    pub fn what(&self) -> String {
        format!("{} of role \"{}\"", self.what, catalog::role_name(self.owner).unwrap_or_default())
    }
}

/// See CONDITION_USES; what this transaction has just made counts as well.
pub fn condition_uses(relation: Option<u32>, triggers: &str) -> Result<Vec<Use>> {
    let read = || {
        Spi::connect(|c| {
            c.select(CONDITION_USES, None, &[relation.map(pg_sys::Oid::from).into(), triggers.into(), stand_in::TRUSTED.into()])?
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

thread_local! {
    /// Conditions that were found in order, of one epoch of the registry.
    static TRUSTED: RefCell<(u64, HashSet<Trusted>)> = RefCell::default();
}

/// tenant_q.condition_is_trusted(relation, listener): whether what this listener's condition uses belongs to those who
/// could be the table's owner, now; an error if not.
///
/// It stands in front of conditions that use anything but pg_catalog. Declared immutable, with constants for arguments,
/// it is asked when a statement prepares the condition: before that folds or runs anything of it.
pub fn condition_is_trusted(args: &Args) -> Result<Ret> {
    let (Some(relation), Some(listener)) = (args.relation(0), args.uuid(1)) else { return Ok(Ret::Null) };
    // A function of the table's own schema stands for this one, and the extension isn't here.
    if tenant::registry().is_err() && catalog::extension_version().is_none() {
        return Ok(Ret::Bool(true));
    }
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
            fix::noted(&format!("DROP TRIGGER {} ON {table}", catalog::quote(&one.trigger)), "then tq_listen_table() with another only_if"),
        ));
        last = (one.relation, one.trigger);
    }
    Ok(found)
}

/// tenant_q.disable_untrusted_conditions(): for the update from a version that looked names up where tenants could put
/// something; how many triggers it has disabled.
pub fn disable_untrusted_conditions(_args: &Args) -> Result<Ret> {
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
