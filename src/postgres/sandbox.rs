//! Acting as somebody else for a moment.
//!
//! Whoever owns a table can attach code to it, and even planning a query can run that code. So
//! everything that touches a tenant's objects by SQL runs as their owner, with
//! SECURITY_RESTRICTED_OPERATION and a safe search_path: what the owner slips in gains nothing.

use crate::postgres::transaction;
use pgrx::pg_sys;

/// Who this session is at the moment.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a static.
    unsafe { pg_sys::GetUserId() }
}
pub fn session_user() -> pg_sys::Oid {
    // SAFETY: reads a static.
    unsafe { pg_sys::GetSessionUserId() }
}
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::superuser_arg(role) }
}
pub fn has_privs_of(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::has_privs_of_role(member, role) }
}
/// Whether `member` may SET ROLE to `role`.
pub fn may_set_role(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a catalog look-up inside a transaction.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::is_member_of_role(member, role)
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::member_can_set_role(member, role)
        }
    }
}

/// Whether `member` could act as `role`: what it owns, that role may as well rely upon.
pub fn could_be(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    transaction::require();
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::is_member_of_role(member, role) }
}

struct Switched {
    user: pg_sys::Oid,
    context: i32,
    nest: i32,
}

impl Drop for Switched {
    fn drop(&mut self) {
        // An ERROR on its way out restores both at abort; doing it here again is harmless, and
        // covers the callers that catch.
        // SAFETY: the values come from enter() and are restored exactly once.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.nest);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

fn enter(role: pg_sys::Oid, restricted: bool) -> Switched {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: the pattern of matview.c and vacuum.c.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let mut flags = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        if restricted {
            flags |= pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
        }
        pg_sys::SetUserIdAndSecContext(role, flags);
        let nest = pg_sys::NewGUCNestLevel();
        Switched { user, context, nest }
    }
}

/// Runs `f` as `role` in the sandbox. For everything that touches a tenant's relations by SQL.
pub fn as_owner<T>(role: pg_sys::Oid, f: impl FnOnce() -> T) -> T {
    let _switched = enter(role, true);
    crate::postgres::session::set_local(c"search_path", c"pg_catalog, pg_temp");
    crate::postgres::session::set_local(c"row_security", c"on");
    f()
}

/// Runs `f` as the bootstrap superuser on the extension's own tables. Nothing under `f` may touch
/// an object that somebody else owns.
pub fn as_extension<T>(f: impl FnOnce() -> T) -> T {
    let _switched = enter(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), true);
    crate::postgres::session::set_local(c"search_path", c"pg_catalog, pg_temp");
    f()
}

/// Runs `f` as whoever the current user is, under a search_path that nobody can put anything into.
pub fn as_self<T>(f: impl FnOnce() -> T) -> T {
    let _switched = enter(current_user(), false);
    crate::postgres::session::set_local(c"search_path", c"pg_catalog, pg_temp");
    f()
}

/// Runs `f` as the current user, who can't become anybody else meanwhile: beneath it there may be
/// a session of somebody mightier.
pub fn keep_role<T>(f: impl FnOnce() -> T) -> T {
    let _switched = enter(current_user(), false);
    f()
}

/// Runs `f` as if no extension's script ran: what it makes is nobody's but its owner's.
pub fn outside_of_script<T>(f: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            // SAFETY: puts back what was found.
            unsafe { pg_sys::creating_extension = self.0 };
        }
    }
    // SAFETY: a flag of this process's own, which the end of a script, however it ends, sets as well.
    let _back = unsafe {
        let back = Back(pg_sys::creating_extension);
        pg_sys::creating_extension = false;
        back
    };
    f()
}

/// Whether the current user can't become anybody else for now: under `keep_role` and in the sandbox.
pub fn is_role_kept() -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads statics.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    context & pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32 != 0
}

/// Whether the session is the current user's own: nobody else has connected and become it.
pub fn is_own_session() -> bool {
    // SAFETY: reads this process's own entry.
    let connected = unsafe { (*pg_sys::MyProc).roleId };
    connected == current_user() && session_user() == current_user()
}
