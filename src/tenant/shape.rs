//! Is this table ours, with nothing attached to it?
//!
//! Whoever owns a table can hang a trigger, a rule, a policy or an index on a function on it, and
//! all of these run code when the table is used. We use tenants' tables by OID, below the level
//! where most of that happens; this check closes the rest. The comparison is with the template
//! tables that CREATE EXTENSION made from the same text.

use super::{Tenant, registry};
use crate::error::{Error, Result};
use crate::postgres::catalog;
use crate::postgres::relation::{Access, Table};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static TEMPLATES: RefCell<HashMap<u32, catalog::Shape>> = RefCell::default();
}

fn template(relation: u32) -> Result<catalog::Shape> {
    if let Some(shape) = TEMPLATES.with_borrow(|t| t.get(&relation).cloned()) {
        return Ok(shape);
    }
    let table = Table::open(relation, Access::Read).ok_or_else(|| Error::state("the template tables are gone"))?;
    let shape = catalog::shape(&table);
    TEMPLATES.with_borrow_mut(|t| t.insert(relation, shape.clone()));
    Ok(shape)
}

/// An error that says what is wrong with the table.
pub fn check(tenant: &Tenant, table: &Table) -> Result<()> {
    let registry = registry()?;
    let expected = template(match table.oid() {
        o if o == tenant.task => registry.template_task,
        o if o == tenant.result => registry.template_result,
        _ => registry.template_schedule,
    })?;
    check_against(&tenant.name, tenant.owner, table, &expected)
}

/// The same for a table of a schema that isn't attached yet.
pub fn check_new(schema: &str, owner: u32, table: &Table, template_relation: u32) -> Result<()> {
    check_against(schema, owner, table, &template(template_relation)?)
}

fn check_against(schema: &str, owner: u32, table: &Table, expected: &catalog::Shape) -> Result<()> {
    let name = catalog::relation_name(table.oid()).unwrap_or_default();
    let fail = |why: String, hint: String| {
        Err(Error::new("55000", format!("table {name} of tenant \"{schema}\" is not as tq_attach made it")).detail(why).hint(hint))
    };
    if catalog::relation_owner(table) != owner {
        return fail(
            "It does not belong to the schema's owner.".into(),
            format!(
                "ALTER TABLE {}.{name} OWNER TO {};",
                catalog::quote(schema),
                catalog::quote(&catalog::role_name(owner).unwrap_or_default())
            ),
        );
    }
    if let Some(oddity) = catalog::oddity(table) {
        return fail(format!("Table {name}: {oddity}."), "Remove it; the tenant's tasks go on by themselves then.".into());
    }
    let found = catalog::shape(table);
    if found.columns != expected.columns {
        let differs = expected
            .columns
            .iter()
            .find(|c| !found.columns.contains(c))
            .or_else(|| found.columns.iter().find(|c| !expected.columns.contains(c)));
        return fail(
            format!("Its columns differ, first at \"{}\".", differs.map_or("their order", |c| &c.0)),
            "Rename the table away, run tq_detach and tq_attach, and copy the rows back.".into(),
        );
    }
    if found.indexes != expected.indexes {
        return fail(
            format!("It has {} indexes where {} of ours are expected, or they differ.", found.indexes.len(), expected.indexes.len()),
            "Drop the additional index; the tenant's tasks go on by themselves then.".into(),
        );
    }
    Ok(())
}
