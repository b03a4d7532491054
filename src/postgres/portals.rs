//! Cursors WITH HOLD, which are filled at commit as whoever the session is by then.

use super::sandbox;
use pgrx::{Spi, pg_sys};
use std::ffi::CString;

/// Names of the holdable cursors that are open.
pub fn held() -> Vec<String> {
    let names =
        sandbox::as_self(|| Spi::get_one::<Vec<String>>("SELECT pg_catalog.array_agg(name) FROM pg_catalog.pg_cursor() WHERE is_holdable"));
    names.ok().flatten().unwrap_or_default()
}

/// Closes those that are not among `known`.
pub fn close_held_except(known: &[String]) {
    for name in held().iter().filter(|n| !known.contains(n)) {
        if let Ok(name) = CString::new(name.as_str()) {
            // SAFETY: NULL for an unknown name; nothing runs in it: the handler has returned.
            unsafe {
                let portal = pg_sys::GetPortalByName(name.as_ptr());
                if !portal.is_null() {
                    pg_sys::PortalDrop(portal, false);
                }
            }
        }
    }
}
