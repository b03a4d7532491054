//! Which tenant is meant: the one that is named, or the first schema of the caller's search_path.

use super::remembered::{CACHE, refresh};
use super::rights::Wanted;
use super::{Tenant, by_oid};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, sandbox, session};
use std::rc::Rc;

/// The tenant that is meant: named, or the first schema of the caller's search_path.
///
/// Never anything else: PostgreSQL skips missing and unusable schemas in silence, which sends
/// work to the wrong place.
pub fn resolve(named: Option<&str>) -> Result<Rc<Tenant>> {
    resolve_for(named, &Wanted::Rights(&[]))
}

/// The same for somebody who wants more than to name it: whoever may not even use the schema is told of all that they lack.
pub fn resolve_for(named: Option<&str>, wanted: &Wanted) -> Result<Rc<Tenant>> {
    refresh();
    let user = sandbox::current_user();
    let oid = match named {
        Some(name) => {
            schema_of(name, user, wanted, "tenant => takes the bare name of an existing schema: not quoted, not folded to lower case.")?
        }
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
                        wanted,
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

fn schema_of(name: &str, user: pgrx::pg_sys::Oid, wanted: &Wanted, hint: &str) -> Result<u32> {
    let oid = catalog::schema_oid(name)
        .ok_or_else(|| Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")).hint(hint))?;
    if !catalog::may_use_schema(oid, user) {
        let owner = catalog::schema_owner(oid).unwrap_or(0);
        return Err(Error::denied(format!("permission denied for schema \"{name}\"")).hint(wanted.ask(name, owner, user)));
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
