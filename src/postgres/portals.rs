//! Cursors WITH HOLD, which are filled at commit as whoever the session is by then.

use crate::postgres::sandbox;
use pgrx::{Spi, pg_sys};
use std::ffi::CString;

/// Closes those that the subtransaction that is open has made, or one beneath it. By that, not by name: what was open
/// before may have been closed, and another one opened under its name.
pub fn close_holdable() {
    let names =
        sandbox::as_self(|| Spi::get_one::<Vec<String>>("SELECT pg_catalog.array_agg(name) FROM pg_catalog.pg_cursor() WHERE is_holdable"));
    for name in names.ok().flatten().unwrap_or_default() {
        if let Ok(name) = CString::new(name) {
            // SAFETY: NULL for an unknown name; nothing runs in it: the handler has returned. Portals of
            // subtransactions that were released belong to the one above.
            unsafe {
                let portal = pg_sys::GetPortalByName(name.as_ptr());
                if !portal.is_null() && (*portal).createSubid == pg_sys::GetCurrentSubTransactionId() {
                    pg_sys::PortalDrop(portal, false);
                }
            }
        }
    }
}
