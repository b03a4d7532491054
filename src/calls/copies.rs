//! A database that may be a copy of another one: confirming that it isn't, and what CREATE EXTENSION notes.

use crate::calls::registered;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::{sandbox, shmem};
use crate::shared::wake;
use crate::sql_functions;
use crate::tenant::{identity, records, registry};
use pgrx::Spi;

/// This database is the one from now on; restored rows of the registry get their schemas' OIDs.
fn confirm(_args: &Args) -> Result<Ret> {
    let (system, database) = identity::own();
    sandbox::as_extension(|| {
        let run = |sql: &str, args: &[pgrx::datum::DatumWithOid]| Spi::run_with_args(sql, args).map_err(Error::from);
        run("DELETE FROM tenant_q.identity", &[])?;
        run("INSERT INTO tenant_q.identity VALUES ($1, $2::pg_catalog.oid)", &[system.into(), database.into()])?;
        for table in ["tenant", "detached"] {
            // Roles have other OIDs on another server, too: the owner's name tells whether it is the same. One that is
            // another now is found out below, and isn't trusted with a superuser's tasks.
            run(
                &format!(
                    "UPDATE tenant_q.{table} t SET schema_oid = n.oid,
                            owner = CASE WHEN t.owner_name OPERATOR(pg_catalog.=) pg_catalog.pg_get_userbyid(n.nspowner) THEN n.nspowner ELSE 0 END
                       FROM pg_catalog.pg_namespace n
                      WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) t.name AND n.oid OPERATOR(pg_catalog.<>) t.schema_oid"
                ),
                &[],
            )?;
        }
        // Nor are the roles that handlers were registered for in a dump.
        if registry()?.handler_role.is_none() {
            return Ok(());
        }
        run(
            "INSERT INTO tenant_q.handler_role (tenant, name, owner, run_as)
             SELECT h.tenant, h.name, o.oid, r.oid FROM tenant_q.handler h
               LEFT JOIN pg_catalog.pg_roles o ON o.rolname::pg_catalog.text OPERATOR(pg_catalog.=) h.owner
               LEFT JOIN pg_catalog.pg_roles r ON r.rolname::pg_catalog.text OPERATOR(pg_catalog.=) h.run_as
             ON CONFLICT DO NOTHING",
            &[],
        )?;
        Ok::<(), Error>(())
    })?;
    registered::follow(None)?;
    records::announce_registry()?;
    wake::probe_database();
    Ok(Ret::Void)
}

/// The trigger of tenant_q.identity: somebody says whose database this is, a restored dump, say. The launcher is to look.
fn identity_changed(_args: &Args) -> Result<Ret> {
    wake::probe_database();
    Ok(Ret::Void)
}

/// CREATE EXTENSION was here: the launcher is to look.
fn created(args: &Args) -> Result<Ret> {
    if let Some(s) = crate::shared::get() {
        s.make_db(shmem::my_database(), crate::shared::database::db_state::UNKNOWN);
    }
    confirm(args)
}

sql_functions! {
    tenant_q_confirm_copy, pg_finfo_tenant_q_confirm_copy => confirm;
    tenant_q_identity_changed, pg_finfo_tenant_q_identity_changed => identity_changed;
    tenant_q_created, pg_finfo_tenant_q_created => created;
}
