//! What a table is, and what hangs on it, as the catalogs have it: columns, indexes, triggers, rules. Read before the
//! table's rows are, for its owner may have changed any of it. tenant/shape.rs says what is right.

use crate::postgres::catalog::{attribute, oid, owned, qualified_name, quote, relation_name, schema_name, some};
use crate::postgres::citus;
use crate::postgres::index::{self, Holds};
use crate::postgres::relation::Table;
use crate::postgres::transaction;
use pgrx::pg_sys;
use std::ffi::CStr;

/// What a relation looks like to whoever may attach something to it: compared with the template's.
#[derive(Debug, Clone)]
pub struct Shape {
    /// In order; dropped ones included, for rows have a place for them.
    pub columns: Vec<TableColumn>,
    pub indexes: Vec<TableIndex>,
}

#[derive(PartialEq, Eq, Debug, Clone)]
pub struct TableColumn {
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
    collations: Vec<u32>,
    options: Vec<i16>,
    unique: bool,
    /// As stored, not evaluated.
    predicate: Option<String>,
    method: u32,
    /// It has expressions, excludes, is deferrable or takes nulls for equal: none of ours does.
    odd: bool,
}

#[derive(PartialEq, Eq, Debug, Clone)]
pub struct TableIndex {
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

/// Collations of an index's key columns. `tuple`: of pg_index.
unsafe fn index_collations(tuple: pg_sys::HeapTuple, keys: usize) -> Vec<u32> {
    // SAFETY: an oidvector of as many, which is never null.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let mut null = false;
        let vector =
            pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_index_indcollation as i16, &mut null).cast_mut_ptr::<pg_sys::oidvector>();
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

/// Which rows an index holds, by its condition as stored: nothing of it is evaluated. `tuple`: of pg_index.
pub(in crate::postgres) unsafe fn index_holds(tuple: pg_sys::HeapTuple) -> Holds {
    // SAFETY: one expression, as the catalog has it; each node's tag says what it is. Ours are `… IS NOT NULL` and `… <> letter`.
    unsafe {
        let mut null = false;
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let stored = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_index_indpred as i16, &mut null);
        if null {
            return Holds::All;
        }
        let text = pg_sys::text_to_cstring(stored.cast_mut_ptr());
        let node = pg_sys::stringToNode(text).cast::<pg_sys::Node>();
        pg_sys::pfree(text.cast());
        if (*node).type_ != pg_sys::NodeTag::T_OpExpr {
            return Holds::WhereKeyed;
        }
        let arguments = (*node.cast::<pg_sys::OpExpr>()).args;
        let letter = (*(*arguments).elements.add(1)).ptr_value.cast::<pg_sys::Const>();
        Holds::AllBut((*letter).constvalue.value() as u8)
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
                fix: some(pg_sys::get_rel_namespace(oid(table.oid())))
                    .and_then(schema_name)
                    .map(|schema| citus::undistribute_schema(&schema)),
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

/// Reads an open table's shape from the catalogs; expressions as stored, never evaluated.
pub fn shape<R>(table: &Table<R>) -> Shape {
    // SAFETY: relcache and syscache of open relations; every tuple is released.
    unsafe {
        let rel = table.relation();
        let desc = (*rel).rd_att;
        let mut columns = Vec::new();
        for i in 0..(*desc).natts {
            let a = pg_sys::ffi::pg_guard_ffi_boundary(|| attribute(desc, i));
            columns.push(TableColumn {
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
        Shape { columns, indexes: index::settled(|| indexes(rel), |index| index.valid) }
    }
}

unsafe fn indexes(rel: pg_sys::Relation) -> Vec<TableIndex> {
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
            indexes.push(TableIndex {
                oid: index.to_u32(),
                name: relation_name(index.to_u32()).unwrap_or_default(),
                definition: IndexDefinition {
                    columns: (0..n).map(|k| *(*form).indkey.values.as_ptr().add(k)).collect(),
                    keys,
                    classes: index_classes(tuple, keys),
                    collations: index_collations(tuple, keys),
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
