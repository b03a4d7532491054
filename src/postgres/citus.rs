//! What Citus has made of a table, seen from its catalogs: there is no other trace of it in ours.

use crate::postgres::catalog::quote;
use crate::postgres::transaction;
use pgrx::pg_sys;
use std::ffi::CStr;

/// What Citus has made of a table or of its schema: rows live elsewhere, and what is written here by OID stays beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distributed {
    Schema,
    Table,
}

/// Whether Citus has distributed a schema or, if one is given, a table in it. Without Citus this is a look into the cache for a
/// name that isn't there.
pub fn distributed(schema: u32, table: Option<u32>) -> Option<Distributed> {
    transaction::require();
    if citus_lists(c"pg_dist_schema", c"pg_dist_schema_pkey", schema) {
        return Some(Distributed::Schema);
    }
    let listed = table.is_some_and(|t| citus_lists(c"pg_dist_partition", c"pg_dist_partition_logical_relid_index", t));
    listed.then_some(Distributed::Table)
}

/// Whether this catalog of Citus's is there and has a row whose first column is `key`.
fn citus_lists(catalog: &CStr, index: &CStr, key: u32) -> bool {
    let in_catalog = |name: &CStr| {
        // SAFETY: a look-up; nobody but a superuser can make anything in pg_catalog.
        unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)) }
    };
    let relation = in_catalog(catalog);
    if relation == pg_sys::InvalidOid {
        return false;
    }
    let index = in_catalog(index);
    // SAFETY: a scan that is closed before return; without the index it is sequential. The first column is an oid or a
    // regclass: the same to the comparison.
    unsafe {
        let rel = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if rel.is_null() {
            return false;
        }
        let mut scan_key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(&mut scan_key, 1, 3, pg_sys::Oid::from(pg_sys::F_OIDEQ), pg_sys::Datum::from(key));
        let scan = pg_sys::systable_beginscan(rel, index, index != pg_sys::InvalidOid, std::ptr::null_mut(), 1, &mut scan_key);
        let found = !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
        found
    }
}

/// The call that makes a schema's tables local again.
pub fn undistribute_schema(schema: &str) -> String {
    format!("SELECT citus_schema_undistribute({});", pgrx::spi::quote_literal(quote(schema)))
}
