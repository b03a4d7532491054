//! Looking things up in the catalogs, by OID or name, through the syscache. Inside a transaction.

use super::worker::c_string;
use pgrx::pg_sys;
use std::ffi::CStr;

fn owned(p: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: NULL or a palloc'ed C string.
    (!p.is_null()).then(|| unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned())
}
fn some(oid: pg_sys::Oid) -> Option<u32> {
    (oid != pg_sys::InvalidOid).then(|| oid.to_u32())
}
fn oid(o: u32) -> pg_sys::Oid {
    pg_sys::Oid::from(o)
}

pub fn schema_oid(name: &str) -> Option<u32> {
    if name.len() > 63 {
        return None;
    }
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_namespace_oid(c_string(name).as_ptr(), true) })
}
pub fn schema_name(schema: u32) -> Option<String> {
    // SAFETY: a look-up; NULL when missing.
    owned(unsafe { pg_sys::get_namespace_name(oid(schema)) })
}
pub fn schema_owner(schema: u32) -> Option<u32> {
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
    // SAFETY: a look-up.
    some(unsafe { pg_sys::get_relname_relid(c_string(name).as_ptr(), oid(schema)) })
}
pub fn relation_name(relation: u32) -> Option<String> {
    // SAFETY: a look-up; NULL when missing.
    owned(unsafe { pg_sys::get_rel_name(oid(relation)) })
}

/// The role that stands for whoever owns the database.
pub const DATABASE_OWNER: u32 = 6171;

/// Who owns this database.
pub fn database_owner() -> u32 {
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
    // SAFETY: a look-up; no error when missing.
    owned(unsafe { pg_sys::GetUserNameFromId(oid(role), true) })
}
pub fn role_oid(name: &str) -> Option<u32> {
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_role_oid(c_string(name).as_ptr(), true) })
}
pub fn may_login(role: u32) -> bool {
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
pub fn may_insert(relation: u32, column: i16, user: pg_sys::Oid) -> bool {
    // SAFETY: look-ups.
    unsafe {
        pg_sys::pg_class_aclcheck(oid(relation), user, pg_sys::ACL_INSERT as _) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(oid(relation), column, user, pg_sys::ACL_INSERT as _) == pg_sys::AclResult::ACLCHECK_OK
    }
}
pub fn may_select(relation: u32, user: pg_sys::Oid) -> bool {
    // SAFETY: a look-up.
    unsafe { pg_sys::pg_class_aclcheck(oid(relation), user, pg_sys::ACL_SELECT as _) == pg_sys::AclResult::ACLCHECK_OK }
}
pub fn may_delete(relation: u32, user: pg_sys::Oid) -> bool {
    // SAFETY: a look-up.
    unsafe { pg_sys::pg_class_aclcheck(oid(relation), user, pg_sys::ACL_DELETE as _) == pg_sys::AclResult::ACLCHECK_OK }
}
pub fn may_update(relation: u32, user: pg_sys::Oid) -> bool {
    // SAFETY: a look-up.
    unsafe { pg_sys::pg_class_aclcheck(oid(relation), user, pg_sys::ACL_UPDATE as _) == pg_sys::AclResult::ACLCHECK_OK }
}

pub fn may_execute(function: u32, user: pg_sys::Oid) -> bool {
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

/// What a relation looks like to whoever may attach something to it: compared with the template's.
#[derive(PartialEq, Eq, Debug, Clone)]
pub struct Shape {
    pub columns: Vec<(String, u32, i32, bool)>,
    pub indexes: Vec<(Vec<i16>, Vec<u32>, Vec<i16>, bool, Option<String>)>,
}

/// The access method `heap`, whose functions we call; other ones have rows of another kind.
const HEAP: u32 = 2;

/// What makes a relation unfit, whatever its columns; None = an ordinary table with nothing on it.
pub fn oddity(table: &super::relation::Table) -> Option<&'static str> {
    // SAFETY: an open relation's relcache entry.
    unsafe {
        let rel = table.relation();
        let form = &*(*rel).rd_rel;
        Some(match () {
            _ if form.relkind as u8 != b'r' => "it is not an ordinary table",
            _ if form.relam.to_u32() != HEAP => "its rows are not stored as PostgreSQL stores them by default (heap)",
            _ if form.relpersistence as u8 != b'p' => "it is not a permanent table",
            _ if form.relispartition || (form.relhassubclass && has_children(rel)) => "it is a partition or has children",
            // relhasrules, like relhassubclass, stays set after the last one is dropped.
            _ if !(*rel).rd_rules.is_null() => "it has a rule",
            _ if !(*rel).trigdesc.is_null() => "it has a trigger or a foreign key",
            _ if form.relrowsecurity || form.relforcerowsecurity => "it has row-level security",
            _ => return None,
        })
    }
}

unsafe extern "C-unwind" {
    fn find_inheritance_children(parent: pg_sys::Oid, lock_mode: std::ffi::c_int) -> *mut pg_sys::List;
}

unsafe fn has_children(rel: pg_sys::Relation) -> bool {
    // SAFETY: a scan of pg_inherits inside a transaction, without locks on what it finds.
    unsafe {
        let oid = (*rel).rd_id;
        !pg_sys::ffi::pg_guard_ffi_boundary(|| find_inheritance_children(oid, pg_sys::NoLock as i32)).is_null()
    }
}

/// Who owns an open relation.
pub fn relation_owner(table: &super::relation::Table) -> u32 {
    // SAFETY: an open relation.
    unsafe { (*(*table.relation()).rd_rel).relowner.to_u32() }
}

/// Reads an open table's shape from the catalogs; expressions as stored, never evaluated.
pub fn shape(table: &super::relation::Table) -> Shape {
    // SAFETY: relcache and syscache of open relations; every tuple is released.
    unsafe {
        let rel = table.relation();
        let desc = (*rel).rd_att;
        let mut columns = Vec::new();
        for i in 0..(*desc).natts {
            let a = pg_sys::ffi::pg_guard_ffi_boundary(|| attribute(desc, i));
            let name = CStr::from_ptr((*a).attname.data.as_ptr()).to_string_lossy().into_owned();
            let odd = (*a).attisdropped || (*a).attgenerated != 0 || (*a).attidentity != 0;
            columns.push((
                if odd { format!("{name} (dropped, generated or identity)") } else { name },
                (*a).atttypid.to_u32(),
                (*a).atttypmod,
                (*a).attnotnull,
            ));
        }
        let list = pg_sys::RelationGetIndexList(rel);
        let mut indexes = Vec::new();
        for i in 0..(if list.is_null() { 0 } else { (*list).length }) {
            let index = (*(*list).elements.add(i as usize)).oid_value;
            let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as i32, pg_sys::Datum::from(index));
            if tuple.is_null() {
                continue;
            }
            let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_index;
            let n = (*form).indnatts as usize;
            let keys: Vec<i16> = (0..n).map(|k| *(*form).indkey.values.as_ptr().add(k)).collect();
            let mut null = false;
            let class = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::INDEXRELID as i32,
                tuple,
                pg_sys::Anum_pg_index_indclass as i16,
                &mut null,
            );
            let class = class.cast_mut_ptr::<pg_sys::oidvector>();
            let classes: Vec<u32> = (0..n).map(|k| (*(*class).values.as_ptr().add(k)).to_u32()).collect();
            let option = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::INDEXRELID as i32,
                tuple,
                pg_sys::Anum_pg_index_indoption as i16,
                &mut null,
            );
            let option = option.cast_mut_ptr::<pg_sys::int2vector>();
            let options: Vec<i16> = (0..n).map(|k| *(*option).values.as_ptr().add(k)).collect();
            let predicate = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::INDEXRELID as i32,
                tuple,
                pg_sys::Anum_pg_index_indpred as i16,
                &mut null,
            );
            let predicate = <String as pgrx::FromDatum>::from_datum(predicate, null).map(|p| without_locations(&p));
            let expressions = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::INDEXRELID as i32,
                tuple,
                pg_sys::Anum_pg_index_indexprs as i16,
                &mut null,
            );
            let _ = expressions;
            let extra = if !null || !(*form).indisvalid || !(*form).indisready || !(*form).indimmediate {
                Some("unfit".to_string())
            } else {
                predicate
            };
            indexes.push((keys, classes, options, (*form).indisunique, extra));
            pg_sys::ReleaseSysCache(tuple);
        }
        indexes.sort();
        Shape { columns, indexes }
    }
}

pub(super) unsafe fn attribute(desc: pg_sys::TupleDesc, i: i32) -> *const pg_sys::FormData_pg_attribute {
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

/// A stored expression without the places in the text it was parsed from.
fn without_locations(tree: &str) -> String {
    let mut out = String::new();
    let mut rest = tree;
    while let Some(at) = rest.find(":location ") {
        out.push_str(&rest[..at]);
        rest = rest[at + 10..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    }
    out.push_str(rest);
    out
}

/// Quotes an identifier where it needs it.
pub fn quote(name: &str) -> String {
    pgrx::spi::quote_identifier(name.replace('\0', ""))
}

pub fn database_oid(name: &str) -> Option<u32> {
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_database_oid(c_string(name).as_ptr(), true) })
}
