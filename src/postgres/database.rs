//! Commands about databases: what PostgreSQL asks before it carries them out.
//!
//! Asked before anybody is sent away for such a command. Whatever PostgreSQL finds wrong beyond this (an
//! encoding, a session that doesn't leave) makes the command fail later, and then all is taken back.

use crate::postgres::transaction;
use crate::postgres::worker::c_string;
use pgrx::pg_sys;

struct Database {
    is_template: bool,
    tablespace: u32,
}

fn find(database: u32) -> Option<Database> {
    // SAFETY: the tuple is released before the function returns; the columns are fixed-width.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::DATABASEOID as i32, pg_sys::Datum::from(database));
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_database;
        let found = Database { is_template: (*form).datistemplate, tablespace: (*form).dattablespace.to_u32() };
        pg_sys::ReleaseSysCache(tuple);
        Some(found)
    }
}

fn user() -> pg_sys::Oid {
    // SAFETY: reads the session's state.
    unsafe { pg_sys::GetUserId() }
}

fn exists(name: &str) -> bool {
    // SAFETY: a look-up; missing_ok.
    unsafe { pg_sys::get_database_oid(c_string(name).as_ptr(), true) != pg_sys::InvalidOid }
}

fn is_owner(database: u32) -> bool {
    // SAFETY: a look-up of a database that exists.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::pg_database_ownercheck(pg_sys::Oid::from(database), user())
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::object_ownercheck(pg_sys::Oid::from(pg_sys::DatabaseRelationId.to_u32()), pg_sys::Oid::from(database), user())
        }
    }
}

/// A superuser, or a role with CREATEDB.
fn may_create() -> bool {
    // SAFETY: the tuple is released before the function returns; rolcreatedb is fixed-width.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, pg_sys::Datum::from(user()));
        if tuple.is_null() {
            return false;
        }
        let may = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_authid)).rolcreatedb;
        pg_sys::ReleaseSysCache(tuple);
        may
    }
}

/// DROP DATABASE, whose right was checked already.
pub fn may_go(database: u32) -> bool {
    database != crate::postgres::shmem::my_database() && find(database).is_some_and(|d| !d.is_template)
}

/// ALTER DATABASE … RENAME TO `to`.
pub fn may_rename(database: u32, to: &str) -> bool {
    find(database).is_some() && is_owner(database) && may_create() && !exists(to) && database != crate::postgres::shmem::my_database()
}

/// ALTER DATABASE … SET TABLESPACE `to`. False as well where it is there already.
pub fn may_move(database: u32, to: &str) -> bool {
    transaction::require();
    let Some(found) = find(database) else { return false };
    if !is_owner(database) || database == crate::postgres::shmem::my_database() {
        return false;
    }
    // SAFETY: look-ups; missing_ok.
    unsafe {
        let to = pg_sys::get_tablespace_oid(c_string(to).as_ptr(), true);
        if to == pg_sys::InvalidOid || to == pg_sys::GLOBALTABLESPACE_OID || to.to_u32() == found.tablespace {
            return false;
        }
        #[cfg(feature = "pg15")]
        {
            pg_sys::pg_tablespace_aclcheck(to, user(), pg_sys::ACL_CREATE as _) == pg_sys::AclResult::ACLCHECK_OK
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::object_aclcheck(pg_sys::Oid::from(pg_sys::TableSpaceRelationId.to_u32()), to, user(), pg_sys::ACL_CREATE as _)
                == pg_sys::AclResult::ACLCHECK_OK
        }
    }
}

/// CREATE DATABASE `name` TEMPLATE …
pub fn may_copy(template: u32, name: &str) -> bool {
    may_create() && !exists(name) && find(template).is_some_and(|d| d.is_template || is_owner(template))
}
