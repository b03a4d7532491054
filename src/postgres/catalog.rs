//! Looking things up in the catalogs, by OID or name, through the syscache. Inside a transaction.

use crate::postgres::column::{self, TableId};
use crate::postgres::relation::Table;
use crate::postgres::transaction;
use crate::postgres::worker::c_string;
use pgrx::pg_sys;
use std::ffi::CStr;

pub(in crate::postgres) fn owned(p: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: NULL or a palloc'ed C string.
    (!p.is_null()).then(|| unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned())
}
pub(in crate::postgres) fn some(oid: pg_sys::Oid) -> Option<u32> {
    (oid != pg_sys::InvalidOid).then(|| oid.to_u32())
}
pub(in crate::postgres) fn oid(o: u32) -> pg_sys::Oid {
    pg_sys::Oid::from(o)
}

pub fn schema_oid(name: &str) -> Option<u32> {
    transaction::require();
    if name.len() > 63 {
        return None;
    }
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_namespace_oid(c_string(name).as_ptr(), true) })
}
pub fn schema_name(schema: u32) -> Option<String> {
    transaction::require();
    // SAFETY: a look-up; NULL when missing.
    owned(unsafe { pg_sys::get_namespace_name(oid(schema)) })
}
pub fn schema_owner(schema: u32) -> Option<u32> {
    transaction::require();
    // SAFETY: the tuple is released before the function returns; nspowner is fixed-width.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::NAMESPACEOID as i32, pg_sys::Datum::from(schema));
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_namespace;
        let owner = (*form).nspowner.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}
fn schema_privilege(schema: u32, user: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: a look-up.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::pg_namespace_aclcheck(oid(schema), user, mode as _) == pg_sys::AclResult::ACLCHECK_OK
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::object_aclcheck(oid(pg_sys::NamespaceRelationId.to_u32()), oid(schema), user, mode as _)
                == pg_sys::AclResult::ACLCHECK_OK
        }
    }
}
pub fn may_use_schema(schema: u32, user: pg_sys::Oid) -> bool {
    schema_privilege(schema, user, pg_sys::ACL_USAGE)
}
pub fn may_create_in_schema(schema: u32, user: pg_sys::Oid) -> bool {
    schema_privilege(schema, user, pg_sys::ACL_CREATE)
}

pub fn relation_oid(schema: u32, name: &str) -> Option<u32> {
    transaction::require();
    // SAFETY: a look-up.
    some(unsafe { pg_sys::get_relname_relid(c_string(name).as_ptr(), oid(schema)) })
}
pub fn relation_name(relation: u32) -> Option<String> {
    transaction::require();
    // SAFETY: a look-up; NULL when missing.
    owned(unsafe { pg_sys::get_rel_name(oid(relation)) })
}

/// The role that stands for whoever owns the database.
pub const DATABASE_OWNER: u32 = 6171;

/// Who owns this database.
pub fn database_owner() -> u32 {
    transaction::require();
    // SAFETY: the tuple is released before the function returns; datdba is fixed-width.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::DATABASEOID as i32, pg_sys::Datum::from(pg_sys::MyDatabaseId));
        if tuple.is_null() {
            return 0;
        }
        let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_database;
        let owner = (*form).datdba.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

pub fn role_name(role: u32) -> Option<String> {
    transaction::require();
    // SAFETY: a look-up; no error when missing.
    owned(unsafe { pg_sys::GetUserNameFromId(oid(role), true) })
}
pub fn role_oid(name: &str) -> Option<u32> {
    transaction::require();
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_role_oid(c_string(name).as_ptr(), true) })
}
pub fn may_login(role: u32) -> bool {
    transaction::require();
    // SAFETY: the tuple is released before the function returns; rolcanlogin is fixed-width.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, pg_sys::Datum::from(role));
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_authid;
        let login = (*form).rolcanlogin;
        pg_sys::ReleaseSysCache(tuple);
        login
    }
}
pub fn may_connect(database: u32, role: u32) -> bool {
    transaction::require();
    // SAFETY: a look-up.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::pg_database_aclcheck(oid(database), oid(role), pg_sys::ACL_CONNECT as _) == pg_sys::AclResult::ACLCHECK_OK
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::object_aclcheck(oid(pg_sys::DatabaseRelationId.to_u32()), oid(database), oid(role), pg_sys::ACL_CONNECT as _)
                == pg_sys::AclResult::ACLCHECK_OK
        }
    }
}

/// Whether `user` may INSERT into that column (from 1), by column or table privilege.
pub fn may_insert<R, K>(table: TableId<R>, column: column::Column<R, K>, user: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: look-ups.
    unsafe {
        pg_sys::pg_class_aclcheck(oid(table.oid()), user, pg_sys::ACL_INSERT as _) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(oid(table.oid()), column.number() as i16, user, pg_sys::ACL_INSERT as _)
                == pg_sys::AclResult::ACLCHECK_OK
    }
}
pub fn may_select(relation: u32, user: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a look-up.
    unsafe { pg_sys::pg_class_aclcheck(oid(relation), user, pg_sys::ACL_SELECT as _) == pg_sys::AclResult::ACLCHECK_OK }
}
pub fn may_delete(relation: u32, user: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a look-up.
    unsafe { pg_sys::pg_class_aclcheck(oid(relation), user, pg_sys::ACL_DELETE as _) == pg_sys::AclResult::ACLCHECK_OK }
}
pub fn may_execute(function: u32, user: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a look-up.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::pg_proc_aclcheck(oid(function), user, pg_sys::ACL_EXECUTE as _) == pg_sys::AclResult::ACLCHECK_OK
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, oid(function), user, pg_sys::ACL_EXECUTE as _)
                == pg_sys::AclResult::ACLCHECK_OK
        }
    }
}

/// The installed extension's version; None = it isn't here.
pub fn extension_version() -> Option<String> {
    transaction::require();
    // SAFETY: a scan of pg_extension, closed before return.
    unsafe {
        let ext = pg_sys::get_extension_oid(c"tenant_q".as_ptr(), true);
        if ext == pg_sys::InvalidOid {
            return None;
        }
        let rel = pg_sys::table_open(pg_sys::ExtensionRelationId, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_extension_oid as i16,
            3,
            pg_sys::Oid::from(pg_sys::F_OIDEQ),
            pg_sys::Datum::from(ext),
        );
        let scan = pg_sys::systable_beginscan(rel, pg_sys::Oid::from(pg_sys::ExtensionOidIndexId), true, std::ptr::null_mut(), 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let mut version = None;
        if !tuple.is_null() {
            let mut null = false;
            let datum = pg_sys::heap_getattr(tuple, pg_sys::Anum_pg_extension_extversion as i32, (*rel).rd_att, &mut null);
            version = <String as pgrx::FromDatum>::from_datum(datum, null);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
        version
    }
}

/// A relation's name as SQL names it from anywhere.
pub fn qualified_name(relation: u32) -> String {
    transaction::require();
    // SAFETY: a look-up.
    let schema = some(unsafe { pg_sys::get_rel_namespace(oid(relation)) }).and_then(schema_name).unwrap_or_default();
    format!("{}.{}", quote(&schema), quote(&relation_name(relation).unwrap_or_default()))
}

/// A type as SQL names it.
pub fn type_name(type_oid: u32) -> String {
    transaction::require();
    // SAFETY: a look-up; "???" when missing.
    owned(unsafe { pg_sys::format_type_be(oid(type_oid)) }).unwrap_or_default()
}

/// Who owns an open relation.
pub fn relation_owner<R>(table: &Table<R>) -> u32 {
    // SAFETY: an open relation.
    unsafe { (*(*table.relation()).rd_rel).relowner.to_u32() }
}

pub unsafe fn attribute(desc: pg_sys::TupleDesc, i: i32) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: i < natts.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            (*desc).attrs.as_ptr().add(i as usize)
        }
        #[cfg(feature = "pg18")]
        {
            // TupleDescAttr(), which is inline: the attributes stand behind all of their compact forms.
            (*desc).compact_attrs.as_ptr().add((*desc).natts as usize).cast::<pg_sys::FormData_pg_attribute>().add(i as usize)
        }
    }
}

/// Quotes an identifier where it needs it.
pub fn quote(name: &str) -> String {
    pgrx::spi::quote_identifier(name.replace('\0', ""))
}

pub fn database_oid(name: &str) -> Option<u32> {
    transaction::require();
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_database_oid(c_string(name).as_ptr(), true) })
}
