//! Is this table ours, with nothing attached to it that can run somebody's code or break our writing?
//!
//! Whoever owns a table can hang a trigger, a rule, a policy or an index on a function on it, and
//! all of these run code when the table is used. We use tenants' tables by OID, below the level
//! where most of that happens; this check closes the rest. The comparison is with the template
//! tables that CREATE EXTENSION made from the same text.
//!
//! What can do neither is its owner's: columns behind ours, which we leave null; plain indexes, which we write; indexes
//! that are being built anew, and what a cancelled REINDEX CONCURRENTLY leaves; foreign keys of other tables, whose
//! triggers we don't fire (tq_problems says so). Hints are statements that mend it, wherever there is one.

use crate::postgres::catalog;
use crate::postgres::citus::{self, Distributed};
use crate::postgres::column::Any;
use crate::postgres::definition::{self, ColumnKind, Oddity, Shape, TableColumn, TableIndex};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sandbox;
use crate::postgres::sqlstate::SqlState;
use crate::pure::fix;
use crate::tenant::{Tenant, registry};
use pgrx::Spi;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static TEMPLATES: RefCell<HashMap<u32, Shape>> = RefCell::default();
}

/// How the names of our indexes begin, in the template at least.
const OURS: &str = "tq_";
/// Indexes that only make answers faster: tables made before 0.2.0 have none, and wait for nobody to make them.
const FASTER: [&str; 3] = ["tq_result_finished", "tq_result_state", "tq_result_schedule"];
/// Columns that may be null in the template but that we always fill.
const ALWAYS_FILLED: [&str; 2] = ["created_by", "created_at"];

/// Definitions only, each once: what state the template's own indexes are in, and what else somebody has
/// made on it, is no tenant's concern.
fn template(relation: u32) -> Result<Shape> {
    if let Some(shape) = TEMPLATES.with_borrow(|t| t.get(&relation).cloned()) {
        return Ok(shape);
    }
    let table = Table::open_any(relation, Access::Read).ok_or_else(|| Error::state("the template tables are gone"))?;
    let mut shape = definition::shape(&table);
    let mut indexes: Vec<TableIndex> = Vec::new();
    for index in shape.indexes.into_iter().filter(|i| i.name.starts_with(OURS)) {
        match indexes.iter_mut().find(|i| i.definition == index.definition) {
            Some(same) if index.valid => *same = index,
            Some(_) => {}
            None => indexes.push(index),
        }
    }
    shape.indexes = indexes;
    TEMPLATES.with_borrow_mut(|t| t.insert(relation, shape.clone()));
    Ok(shape)
}

/// An error that says what is wrong with the table.
pub fn check(tenant: &Tenant, table: &Table<Any>) -> Result<()> {
    let registry = registry()?;
    let expected = template(match table.oid() {
        o if o == tenant.task.oid() => registry.template_task.oid(),
        o if o == tenant.result.oid() => registry.template_result.oid(),
        _ => registry.template_schedule.oid(),
    })?;
    check_against(&tenant.name, tenant.owner, table, &expected)
}

/// The same for a table of a schema that isn't attached yet.
pub fn check_new(schema: &str, owner: u32, table: &Table<Any>, template_relation: u32) -> Result<()> {
    check_against(schema, owner, table, &template(template_relation)?)
}

/// Citus keeps a distributed table's rows elsewhere, and commits what a task does there at once: neither its end nor its
/// effects would be one with it.
pub fn refuse_distributed(schema: &str, table: Option<u32>) -> Result<()> {
    let Some(what) = catalog::schema_oid(schema).and_then(|oid| citus::distributed(oid, table)) else { return Ok(()) };
    let (what, fix) = match (what, table) {
        (Distributed::Table, Some(table)) => {
            let name = catalog::qualified_name(table);
            (format!("table {name}"), format!("SELECT undistribute_table({});", pgrx::spi::quote_literal(&name)))
        }
        _ => (format!("schema \"{schema}\""), citus::undistribute_schema(schema)),
    };
    Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is distributed by Citus, which tenant_q does not support yet"))
        .detail("What a task does in distributed tables is committed at once, also if the attempt fails.")
        .hint(fix))
}

/// What makes a tenant's tables anew, where nothing else mends them.
pub fn anew(schema: &str) -> String {
    let (literal, schema) = (pgrx::spi::quote_literal(schema), catalog::quote(schema));
    fix::noted(
        &format!(
            "SELECT tq_detach({literal}); DROP TABLE IF EXISTS {schema}.tq_task, {schema}.tq_result, {schema}.tq_schedule; SELECT tq_attach({literal})"
        ),
        "save what you need of its rows first",
    )
}

fn check_against(schema: &str, owner: u32, table: &Table<Any>, expected: &Shape) -> Result<()> {
    let name = catalog::relation_name(table.oid()).unwrap_or_default();
    let anew = || anew(schema);
    let fail = |why: String, fix: Option<String>| {
        Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table {name} of tenant \"{schema}\" is not as tq_attach made it"),
        )
        .detail(why)
        .hint(fix.unwrap_or_else(anew)))
    };
    if catalog::relation_owner(table) != owner {
        return fail(
            "It does not belong to the schema's owner.".into(),
            Some(format!(
                "ALTER TABLE {}.{name} OWNER TO {};",
                catalog::quote(schema),
                catalog::quote(&catalog::role_name(owner).unwrap_or_default())
            )),
        );
    }
    refuse_distributed(schema, Some(table.oid()))?;
    if let Some(Oddity { what, fix }) = definition::oddity(table) {
        let fix = fix.or_else(|| detach(table)).unwrap_or_else(|| fix::by_hand("remove it; the tenant's tasks go on by themselves then"));
        return fail(format!("Table {name}: {what}."), Some(fix));
    }
    let found = definition::shape(table);
    if let Some((why, fix)) = wrong_column(&found.columns, &expected.columns) {
        let alter = fix.map(|fix| format!("ALTER TABLE {} {fix};", catalog::qualified_name(table.oid())));
        return fail(why, alter);
    }
    if let Some((why, fix)) = wrong_index(table, &found.indexes, &expected.indexes) {
        return fail(why, Some(fix));
    }
    Ok(())
}

/// The statement that takes a rule, a child or a parent away.
fn detach(table: &Table<Any>) -> Option<String> {
    const STATEMENT: &str = "
        SELECT pg_catalog.format('DROP RULE %I ON %s;', r.rulename, $2) FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) $1 AND r.ev_type OPERATOR(pg_catalog.<>) '1'
        UNION ALL SELECT pg_catalog.format('ALTER TABLE %I.%I NO INHERIT %s;', n.nspname, c.relname, $2)
          FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
          JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE i.inhparent OPERATOR(pg_catalog.=) $1
        UNION ALL SELECT pg_catalog.format('ALTER TABLE %I.%I DETACH PARTITION %s;', n.nspname, c.relname, $2)
          FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhparent
          JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE i.inhrelid OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.=) 'p'
        LIMIT 1";
    let name = catalog::qualified_name(table.oid());
    sandbox::as_extension(|| {
        Spi::get_one_with_args::<String>(STATEMENT, &[pgrx::pg_sys::Oid::from(table.oid()).into(), name.as_str().into()])
    })
    .ok()
    .flatten()
}

/// Statements that make the indexes which the table of results lacks: those that answers are faster with.
pub fn missing(tenant: &Tenant, table: &Table<Any>) -> Result<Vec<String>> {
    let expected = template(registry()?.template_result.oid())?;
    let found = definition::shape(table);
    let lacks = |ours: &&TableIndex| !found.indexes.iter().any(|i| i.valid && i.definition == ours.definition);
    let faster = expected.indexes.iter().filter(|ours| FASTER.contains(&ours.name.as_str()));
    Ok(faster.filter(lacks).map(|ours| create(ours, &catalog::quote(&tenant.name))).collect())
}

/// The first column that isn't as it must be, and how ALTER TABLE mends it.
fn wrong_column(found: &[TableColumn], expected: &[TableColumn]) -> Option<(String, Option<String>)> {
    for (i, ours) in expected.iter().enumerate() {
        let name = catalog::quote(&ours.name);
        let Some(theirs) = found.get(i).filter(|c| c.kind != ColumnKind::Dropped) else {
            return Some((format!("Its column {name} is gone."), None));
        };
        if theirs.name != ours.name {
            let renamed = !found.iter().any(|c| c.name == ours.name);
            let fix = renamed.then(|| format!("RENAME COLUMN {} TO {name}", catalog::quote(&theirs.name)));
            return Some((format!("Its columns differ, first at \"{}\".", ours.name), fix));
        }
        if theirs.kind == ColumnKind::Identity {
            return Some((format!("Its column {name} is an identity column."), Some(format!("ALTER COLUMN {name} DROP IDENTITY"))));
        }
        if theirs.kind != ColumnKind::Plain {
            return Some((format!("Its column {name} is generated."), None));
        }
        if (theirs.type_oid, theirs.typmod) != (ours.type_oid, ours.typmod) {
            let type_name = catalog::type_name(ours.type_oid);
            let fix = format!("ALTER COLUMN {name} TYPE {type_name} USING {name}::{type_name}");
            return Some((format!("Its column {name} is not of type {type_name}."), Some(fix)));
        }
        match (theirs.not_null, ours.not_null) {
            (true, false) if !ALWAYS_FILLED.contains(&ours.name.as_str()) => {
                return Some((format!("Its column {name} must not be NOT NULL."), Some(format!("ALTER COLUMN {name} DROP NOT NULL"))));
            }
            (false, true) => {
                return Some((format!("Its column {name} must be NOT NULL."), Some(format!("ALTER COLUMN {name} SET NOT NULL"))));
            }
            _ => {}
        }
    }
    for theirs in found.iter().skip(expected.len()) {
        let name = catalog::quote(&theirs.name);
        return Some(match theirs.kind {
            ColumnKind::Dropped => continue,
            ColumnKind::Generated => (format!("Its additional column {name} is generated."), Some(format!("DROP COLUMN {name}"))),
            ColumnKind::Identity => (
                format!("Its additional column {name} is an identity column."),
                Some(format!("ALTER COLUMN {name} DROP IDENTITY, ALTER COLUMN {name} DROP NOT NULL")),
            ),
            ColumnKind::Plain if theirs.not_null => (
                format!("Its additional column {name} is NOT NULL, and tenant_q leaves it null."),
                Some(format!("ALTER COLUMN {name} DROP NOT NULL")),
            ),
            ColumnKind::Plain => continue,
        });
    }
    None
}

/// An index that is missing or must not be there, and the statement that mends it.
fn wrong_index(table: &Table<Any>, found: &[TableIndex], expected: &[TableIndex]) -> Option<(String, String)> {
    let schema = || catalog::qualified_name(table.oid()).rsplit_once('.').map(|(s, _)| s.to_string()).unwrap_or_default();
    for ours in expected {
        let same: Vec<&TableIndex> = found.iter().filter(|i| i.definition == ours.definition).collect();
        if same.iter().any(|i| i.valid) || FASTER.contains(&ours.name.as_str()) {
            continue;
        }
        return Some(match same.first() {
            Some(invalid) => (
                format!("Its index {} is not valid.", invalid.name),
                format!("REINDEX INDEX {}.{};", schema(), catalog::quote(&invalid.name)),
            ),
            // One that has its name stands in its way.
            None => (
                format!("Its index {} is missing or differs.", ours.name),
                found.iter().filter(|i| i.name == ours.name).map(|i| format!("{} ", drop_index(table, i))).collect::<String>()
                    + &create(ours, &schema()),
            ),
        });
    }
    let other = found.iter().find(|i| !expected.iter().any(|ours| ours.definition == i.definition) && !i.definition.is_harmless())?;
    let why = format!("Its index {} has an expression, a condition or a method that is not plain, or is unique.", other.name);
    Some((why, drop_index(table, other)))
}

/// The statement that drops an index, or the constraint that it is of.
fn drop_index(table: &Table<Any>, index: &TableIndex) -> String {
    match definition::is_constraint(index.oid) {
        true => format!("ALTER TABLE {} DROP CONSTRAINT {};", catalog::qualified_name(table.oid()), catalog::quote(&index.name)),
        false => format!("DROP INDEX {};", catalog::qualified_name(index.oid)),
    }
}

/// The statement that makes one of our indexes in that schema.
fn create(ours: &TableIndex, schema: &str) -> String {
    let text = sandbox::as_extension(|| {
        Spi::get_one_with_args::<String>(
            "SELECT pg_catalog.pg_get_indexdef(oid) FROM pg_catalog.pg_class
              WHERE relname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND relnamespace OPERATOR(pg_catalog.=) 'tenant_q'::pg_catalog.regnamespace",
            &[ours.name.as_str().into()],
        )
    });
    let text = text.ok().flatten().unwrap_or_default();
    format!("{};", text.replacen(" ON tenant_q.", &format!(" ON {schema}."), 1))
}
