//! What the first script asks before anything is made: is the library in this process one for these objects.

use crate::postgres::call::{Args, Ret};
use crate::postgres::catalog;
use crate::postgres::error::{Error, Result};
use crate::sql_functions;

/// The parts of a version, as far as they are numbers.
fn parts(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// tenant_q.require_library(): 55000 where the extension's objects are to be newer than the library. A newer library
/// knows older objects.
fn require_library(_args: &Args) -> Result<Ret> {
    let objects = catalog::extension_version().unwrap_or_default();
    let library = env!("CARGO_PKG_VERSION");
    if parts(library) < parts(&objects) {
        return Err(Error::state(format!("this server still runs the library of tenant_q {library}, older than {objects}"))
            .hint("Restart the server, then run the statement again."));
    }
    Ok(Ret::Void)
}

sql_functions! {
    tenant_q_require_library, pg_finfo_tenant_q_require_library => require_library;
}
