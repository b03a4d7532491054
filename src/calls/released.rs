//! Functions that released versions have declared and this one does not need: they go on, or whoever has not run
//! ALTER EXTENSION … UPDATE yet is told to. `CREATE EXTENSION … VERSION` looks for all of them, too.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::sql_functions;

fn outdated(_args: &Args) -> Result<Ret> {
    Err(Error::state("this function is of an older version of tenant_q than the library").hint("ALTER EXTENSION tenant_q UPDATE;"))
}

sql_functions! {
    // 0.1.0
    tq_export, pg_finfo_tq_export => crate::calls::schedules::carry::export_schedules;
    tenant_q_tasks, pg_finfo_tenant_q_tasks => outdated;
    tenant_q_schedules, pg_finfo_tenant_q_schedules => outdated;
    tenant_q_tenants, pg_finfo_tenant_q_tenants => outdated;
    tenant_q_running, pg_finfo_tenant_q_running => outdated;
    tenant_q_workers, pg_finfo_tenant_q_workers => outdated;
    tenant_q_failures, pg_finfo_tenant_q_failures => outdated;
    tenant_q_stats, pg_finfo_tenant_q_stats => outdated;
    tenant_q_queues, pg_finfo_tenant_q_queues => outdated;
    tenant_q_metrics, pg_finfo_tenant_q_metrics => outdated;
    tenant_q_fanouts, pg_finfo_tenant_q_fanouts => outdated;
    tenant_q_fetch_group, pg_finfo_tenant_q_fetch_group => outdated;
}
