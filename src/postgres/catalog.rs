//! Looking things up in the catalogs, by OID or name, through the syscache. Inside a transaction.

use crate::postgres::column::{self, TableId};
use crate::postgres::relation::Table;
use crate::postgres::transaction;
use crate::postgres::worker::c_string;
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

/// What a relation looks like to whoever may attach something to it: compared with the template's.
#[derive(Debug, Clone)]
pub struct Shape {
    /// In order; dropped ones included, for rows have a place for them.
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
}

#[derive(PartialEq, Eq, Debug, Clone)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
    pub not_null: bool,
    pub kind: ColumnKind,
}

#[derive(PartialEq, Eq, Debug, Clone, Copy)]
pub enum ColumnKind {
    Plain,
    Dropped,
    Generated,
    Identity,
}

/// What an index is over, whether or not it is all there yet.
#[derive(PartialEq, Eq, Debug, Clone)]
pub struct IndexDefinition {
    columns: Vec<i16>,
    keys: usize,
    classes: Vec<u32>,
    options: Vec<i16>,
    unique: bool,
    /// As stored, not evaluated.
    predicate: Option<String>,
    method: u32,
    /// It has expressions, excludes, is deferrable or takes nulls for equal: none of ours does.
    odd: bool,
}

#[derive(PartialEq, Eq, Debug, Clone)]
pub struct Index {
    pub oid: u32,
    pub name: String,
    pub definition: IndexDefinition,
    pub valid: bool,
}

impl IndexDefinition {
    /// Whether it can be written by the way without anybody's code, and refuses no row: a plain btree or hash over columns, by
    /// PostgreSQL's own comparisons.
    pub fn is_harmless(&self) -> bool {
        [pg_sys::BTREE_AM_OID.to_u32(), pg_sys::HASH_AM_OID.to_u32()].contains(&self.method)
            && !self.unique
            && !self.odd
            && self.predicate.is_none()
            && self.classes.iter().all(|class| *class < pg_sys::FirstNormalObjectId)
    }
}

/// Opclasses of an index's key columns. `tuple`: of pg_index.
pub unsafe fn index_classes(tuple: pg_sys::HeapTuple, keys: usize) -> Vec<u32> {
    // SAFETY: an oidvector of as many, which is never null.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let mut null = false;
        let vector =
            pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_index_indclass as i16, &mut null).cast_mut_ptr::<pg_sys::oidvector>();
        (0..keys).map(|k| (*(*vector).values.as_ptr().add(k)).to_u32()).collect()
    }
}

/// The order of an index's key columns: INDOPTION_*.
pub unsafe fn index_options(tuple: pg_sys::HeapTuple, keys: usize) -> Vec<i16> {
    // SAFETY: an int2vector of as many, which is never null.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let mut null = false;
        let vector =
            pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_index_indoption as i16, &mut null).cast_mut_ptr::<pg_sys::int2vector>();
        (0..keys).map(|k| *(*vector).values.as_ptr().add(k)).collect()
    }
}

/// Whether it is the order that btrees have for the type unless told otherwise.
pub fn is_usual_btree_class(class: u32) -> bool {
    transaction::require();
    // SAFETY: the tuple is released before the function returns; what is read is fixed-width.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::CLAOID as i32, pg_sys::Datum::from(class));
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_opclass;
        let usual = (*form).opcdefault && (*form).opcmethod == pg_sys::BTREE_AM_OID;
        pg_sys::ReleaseSysCache(tuple);
        usual
    }
}

/// What makes a relation unfit, whatever its columns, and the statement that mends it where one does.
pub struct Oddity {
    pub what: String,
    pub fix: Option<String>,
}

/// The access method `heap`, whose functions we call; other ones have rows of another kind.
const HEAP: u32 = 2;

/// None = an ordinary table with nothing on it but what refers to it.
pub fn oddity<R>(table: &Table<R>) -> Option<Oddity> {
    // SAFETY: an open relation's relcache entry.
    unsafe {
        let rel = table.relation();
        let form = &*(*rel).rd_rel;
        let name = || qualified_name(table.oid());
        let odd = |what: &str, fix: Option<String>| Some(Oddity { what: what.into(), fix });
        match () {
            _ if form.relkind as u8 != b'r' => odd("it is not an ordinary table", None),
            _ if form.relam.to_u32() != HEAP => odd(
                "its rows are not stored as PostgreSQL stores them by default (heap)",
                Some(format!("ALTER TABLE {} SET ACCESS METHOD heap;", name())),
            ),
            _ if form.relpersistence as u8 != b'p' => {
                odd("it is not a permanent table", Some(format!("ALTER TABLE {} SET LOGGED;", name())))
            }
            _ if form.relispartition => odd("it is a partition", None),
            _ if form.relhassubclass && has_children(rel) => odd("it has children", None),
            // relhasrules, like relhassubclass, stays set after the last one is dropped.
            _ if !(*rel).rd_rules.is_null() => odd("it has a rule", None),
            _ if form.relrowsecurity || form.relforcerowsecurity => odd(
                "it has row-level security",
                Some(format!("ALTER TABLE {} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;", name())),
            ),
            _ => trigger_on(table),
        }
    }
}

/// What Citus has made of a table or of its schema: rows live elsewhere, and what is written here by OID stays beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distributed {
    Schema,
    Table,
}

/// Whether Citus has distributed a schema or, if one is given, a table in it. Without Citus this is a look into the cache for a
/// name that isn't there.
pub fn distributed(schema: u32, table: Option<u32>) -> Option<Distributed> {
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

/// Triggers of foreign keys that refer to a table. They are those constraints' own, and not fired by us.
const REFERRED: [u32; 10] = [
    pg_sys::F_RI_FKEY_CASCADE_DEL,
    pg_sys::F_RI_FKEY_CASCADE_UPD,
    pg_sys::F_RI_FKEY_RESTRICT_DEL,
    pg_sys::F_RI_FKEY_RESTRICT_UPD,
    pg_sys::F_RI_FKEY_SETNULL_DEL,
    pg_sys::F_RI_FKEY_SETNULL_UPD,
    pg_sys::F_RI_FKEY_SETDEFAULT_DEL,
    pg_sys::F_RI_FKEY_SETDEFAULT_UPD,
    pg_sys::F_RI_FKEY_NOACTION_DEL,
    pg_sys::F_RI_FKEY_NOACTION_UPD,
];

fn triggers<R>(table: &Table<R>) -> Vec<&pg_sys::Trigger> {
    // SAFETY: an open relation's relcache entry, which has as many triggers as it says.
    unsafe {
        let desc = (*table.relation()).trigdesc;
        let count = if desc.is_null() { 0 } else { (*desc).numtriggers as usize };
        (0..count).map(|i| &*(*desc).triggers.add(i)).collect()
    }
}

/// The call that makes a schema's tables local again.
pub fn undistribute_schema(schema: &str) -> String {
    format!("SELECT citus_schema_undistribute({});", pgrx::spi::quote_literal(quote(schema)))
}

/// Any trigger but those of foreign keys of other tables.
fn trigger_on<R>(table: &Table<R>) -> Option<Oddity> {
    let other = |t: &&pg_sys::Trigger| !(t.tgisinternal && REFERRED.contains(&t.tgfoid.to_u32()));
    let found = triggers(table).into_iter().find(other)?;
    let name = qualified_name(table.oid());
    // SAFETY: a trigger has a name; a constraint's is looked up.
    unsafe {
        Some(match found.tgisinternal && found.tgconstraint != pg_sys::InvalidOid {
            true => {
                let constraint = owned(pg_sys::get_constraint_name(found.tgconstraint)).unwrap_or_default();
                Oddity {
                    what: format!("it has a foreign key, {constraint}"),
                    fix: Some(format!("ALTER TABLE {name} DROP CONSTRAINT {};", quote(&constraint))),
                }
            }
            false if owned(pg_sys::get_func_name(found.tgfoid)).as_deref() == Some("citus_truncate_trigger") => Oddity {
                what: "it has a trigger of Citus's, as distributed tables do".into(),
                fix: some(pg_sys::get_rel_namespace(oid(table.oid()))).and_then(schema_name).map(|schema| undistribute_schema(&schema)),
            },
            false => {
                let trigger = CStr::from_ptr(found.tgname).to_string_lossy();
                Oddity { what: format!("it has a trigger, {trigger}"), fix: Some(format!("DROP TRIGGER {} ON {name};", quote(&trigger))) }
            }
        })
    }
}

/// Foreign keys that refer to the table: their names and their own tables.
pub fn referring<R>(table: &Table<R>) -> Vec<(String, String)> {
    transaction::require();
    let mut found: Vec<(String, String)> = triggers(table)
        .into_iter()
        .filter(|t| t.tgisinternal && REFERRED.contains(&t.tgfoid.to_u32()))
        .map(|t| {
            // SAFETY: a look-up by OID; the name is palloc'ed, or NULL.
            let name = owned(unsafe { pg_sys::get_constraint_name(t.tgconstraint) });
            (name.unwrap_or_default(), qualified_name(t.tgconstrrelid.to_u32()))
        })
        .collect();
    found.sort();
    found.dedup();
    found
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

/// Whether the index is a constraint's.
pub fn is_constraint(index: u32) -> bool {
    transaction::require();
    // SAFETY: a look-up.
    unsafe { pg_sys::get_index_constraint(oid(index)) != pg_sys::InvalidOid }
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
pub fn relation_owner<R>(table: &Table<R>) -> u32 {
    // SAFETY: an open relation.
    unsafe { (*(*table.relation()).rd_rel).relowner.to_u32() }
}

/// Reads an open table's shape from the catalogs; expressions as stored, never evaluated.
pub fn shape<R>(table: &Table<R>) -> Shape {
    // SAFETY: relcache and syscache of open relations; every tuple is released.
    unsafe {
        let rel = table.relation();
        let desc = (*rel).rd_att;
        let mut columns = Vec::new();
        for i in 0..(*desc).natts {
            let a = pg_sys::ffi::pg_guard_ffi_boundary(|| attribute(desc, i));
            columns.push(Column {
                name: CStr::from_ptr((*a).attname.data.as_ptr()).to_string_lossy().into_owned(),
                type_oid: (*a).atttypid.to_u32(),
                typmod: (*a).atttypmod,
                not_null: (*a).attnotnull,
                kind: match () {
                    _ if (*a).attisdropped => ColumnKind::Dropped,
                    _ if (*a).attgenerated != 0 => ColumnKind::Generated,
                    _ if (*a).attidentity != 0 => ColumnKind::Identity,
                    _ => ColumnKind::Plain,
                },
            });
        }
        Shape { columns, indexes: crate::postgres::index::settled(|| indexes(rel), |index| index.valid) }
    }
}

unsafe fn indexes(rel: pg_sys::Relation) -> Vec<Index> {
    // SAFETY: as in shape().
    unsafe {
        let list = pg_sys::RelationGetIndexList(rel);
        let mut indexes = Vec::new();
        for i in 0..(if list.is_null() { 0 } else { (*list).length }) {
            let index = (*(*list).elements.add(i as usize)).oid_value;
            let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
            let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(index));
            if tuple.is_null() {
                continue;
            }
            let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_index;
            let (n, keys) = ((*form).indnatts as usize, (*form).indnkeyatts as usize);
            let mut null = false;
            let predicate = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_index_indpred as i16, &mut null);
            let predicate = <String as pgrx::FromDatum>::from_datum(predicate, null).map(|p| without_locations(&p));
            let expressions = !pg_sys::heap_attisnull(tuple, pg_sys::Anum_pg_index_indexprs as i32, std::ptr::null_mut());
            indexes.push(Index {
                oid: index.to_u32(),
                name: relation_name(index.to_u32()).unwrap_or_default(),
                definition: IndexDefinition {
                    columns: (0..n).map(|k| *(*form).indkey.values.as_ptr().add(k)).collect(),
                    keys,
                    classes: index_classes(tuple, keys),
                    options: index_options(tuple, keys),
                    unique: (*form).indisunique,
                    predicate,
                    method: relation_method(index.to_u32()),
                    odd: expressions || (*form).indisexclusion || !(*form).indimmediate || (*form).indnullsnotdistinct,
                },
                valid: (*form).indisvalid && (*form).indisready,
            });
            pg_sys::ReleaseSysCache(tuple);
        }
        indexes
    }
}

/// A relation's access method.
fn relation_method(relation: u32) -> u32 {
    // SAFETY: the tuple is released before the function returns; relam is fixed-width.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return 0;
        }
        let method = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_class)).relam.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        method
    }
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
    transaction::require();
    // SAFETY: a look-up; missing_ok.
    some(unsafe { pg_sys::get_database_oid(c_string(name).as_ptr(), true) })
}
