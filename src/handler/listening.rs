//! What a registered handler listens to, and what listens though nobody has registered it: an event, or a table, whose
//! triggers would fail whoever writes it.

use crate::handler::{Handler, arguments, signature::Signature};
use crate::postgres::error::{Error, Result};
use crate::postgres::sandbox;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::tenant::Tenant;
use crate::tenant::records::run;
use pgrx::Spi;
use pgrx::datum::DatumWithOid;
use serde_json::json;

/// One thing that a handler listens to.
pub struct Listening {
    pub tenant: String,
    pub handler: String,
    /// In a sentence.
    pub to: String,
    /// The call that ends it.
    pub end: String,
}

fn read(condition: &str, args: &[DatumWithOid]) -> Result<Vec<Listening>> {
    let sql = format!(
        "SELECT l.tenant, l.handler, l.what, pg_catalog.format('SELECT %s, %L, tenant => %L)', l.call, l.handler, l.tenant) FROM (
             SELECT tenant, handler, pg_catalog.format('event %s', event), pg_catalog.format('tq_off(%L', event) FROM tenant_q.listener
             UNION SELECT tenant, handler, pg_catalog.format('table %s', relation), pg_catalog.format('tq_unlisten_table(%L', relation)
               FROM tenant_q.table_listener WHERE pg_catalog.to_regclass(relation) IS NOT NULL) l(tenant, handler, what, call)
          WHERE {condition} AND NOT EXISTS (
             SELECT FROM tenant_q.handler h WHERE h.tenant OPERATOR(pg_catalog.=) ANY (ARRAY[l.tenant, ''])
                AND (h.name OPERATOR(pg_catalog.=) l.handler OR l.handler OPERATOR(pg_catalog.=) ANY (h.aliases)))
          ORDER BY 1, 2, 3 LIMIT 1000"
    );
    let found = || {
        Spi::connect(|c| {
            c.select(&sql, None, args)?
                .map(|row| {
                    let text = |n| row.get::<String>(n).map(Option::unwrap_or_default);
                    Ok(Listening { tenant: text(1)?, handler: text(2)?, to: text(3)?, end: text(4)? })
                })
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    };
    transaction::with_latest_snapshot(|| sandbox::as_extension(found)).map_err(Error::from)
}

/// What listens in these tenants without being registered.
pub fn unregistered(tenants: Vec<String>) -> Result<Vec<Listening>> {
    read("l.tenant OPERATOR(pg_catalog.=) ANY ($1)", &[tenants.into()])
}

/// Refuses that a handler, which has just been deleted from the registry, leaves something listening. `tenant`: '' = of all.
pub fn refuse_orphans(name: &str, tenant: &str) -> Result<()> {
    let of_it = "l.handler OPERATOR(pg_catalog.=) $1 AND ($2 OPERATOR(pg_catalog.=) '' OR l.tenant OPERATOR(pg_catalog.=) $2)";
    let orphans = read(of_it, &[name.into(), tenant.into()])?;
    if orphans.is_empty() {
        return Ok(());
    }
    let few = |f: fn(&Listening) -> String| orphans.iter().take(10).map(f).collect::<Vec<_>>();
    let more = if orphans.len() > 10 { " And more." } else { "" };
    Err(Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, format!("handler \"{name}\" can't be unregistered while it listens"))
        .detail(format!("It listens to {}.{more}", few(|l| format!("{} in tenant \"{}\"", l.to, l.tenant)).join(", ")))
        .hint(format!("End that first: {}", few(|l| l.end.clone()).join("; "))))
}

/// Until this transaction ends nobody unregisters the handler. 42704: somebody just has.
pub fn keep(tenant: &Tenant, handler: &Handler) -> Result<()> {
    let kept = run(
        "SELECT FROM tenant_q.handler h WHERE h.tenant OPERATOR(pg_catalog.=) $1 AND h.name OPERATOR(pg_catalog.=) $2 FOR KEY SHARE",
        &[if handler.shared { "" } else { tenant.name.as_str() }.into(), handler.name.as_str().into()],
    )?;
    match kept {
        0 => Err(Error::undefined(format!("handler \"{}\" has just been unregistered", handler.name))),
        _ => Ok(()),
    }
}

/// Refuses a function for a handler that listens, if it doesn't take what listeners are given.
pub fn require_listener(name: &str, tenant: &str, function: &Signature) -> Result<()> {
    let listens =
        "SELECT FROM (SELECT tenant, handler FROM tenant_q.listener UNION ALL SELECT tenant, handler FROM tenant_q.table_listener) l
        WHERE l.handler OPERATOR(pg_catalog.=) $1 AND ($2 OPERATOR(pg_catalog.=) '' OR l.tenant OPERATOR(pg_catalog.=) $2)";
    if !crate::tenant::records::exists(listens, &[name.into(), tenant.into()])? {
        return Ok(());
    }
    // Of an event, of a row, of a statement: by name it may take the keys of one of them.
    let samples = [
        json!({ "event": "", "table": "", "old": {}, "new": {} }),
        json!({ "event": "", "table": "", "rows": [] }),
        json!({ "event": "" }),
    ];
    let checked = samples.map(|sample| arguments::check(function, Some(&Jsonb::from_value(sample)), None));
    if checked.iter().any(Result::is_ok) {
        return Ok(());
    }
    checked.into_iter().last().unwrap_or(Ok(())).map_err(|e| {
        let detail = e.detail.clone().map_or(String::new(), |d| format!("{d} "));
        e.detail(format!("{detail}It listens (tq_events), and gets one document."))
            .hint("Let the function take one parameter of type jsonb, or end that with tq_off() and tq_unlisten_table().")
    })
}

/// Refuses that a handler becomes an external one while it is asked, or somebody is who has to be asked around its call.
pub fn require_asynchronous(name: &str, tenant: &str) -> Result<()> {
    let of_tenant = "($2 OPERATOR(pg_catalog.=) '' OR tenant OPERATOR(pg_catalog.=) $2)";
    let asked = format!(
        "SELECT FROM tenant_q.listener WHERE {of_tenant}
            AND (handler OPERATOR(pg_catalog.=) $1 AND event OPERATOR(pg_catalog.=) ANY ('{{enqueue,before_run,after_run}}')
              OR for_handler OPERATOR(pg_catalog.=) $1 AND event OPERATOR(pg_catalog.=) ANY ('{{before_run,after_run}}'))"
    );
    if !crate::tenant::records::exists(&asked, &[name.into(), tenant.into()])? {
        return Ok(());
    }
    Err(outside(format!("handler \"{name}\" can't be external: tq_events has a listener that is called with it"))
        .hint("End that with tq_off()."))
}

/// What can only be in the server.
pub fn outside(message: String) -> Error {
    Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
        .detail("Listeners to enqueue, before_run and after_run are called at once, in the server; a worker's code isn't there.")
}
