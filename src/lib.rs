//! tenant_q: a task queue and scheduler inside PostgreSQL whose unit is the tenant schema.
//!
//! Folders stand on floors: `pure`, `postgres`, `settings`, `shared`, `tenant`, `handler`, `task`, `waits` and `schedules`,
//! `fanout`, `work`, `calls` and `worker`. Each names only what is below it. ARCHITECTURE.md tells the way of a task.

mod calls;
mod fanout;
mod handler;
mod postgres;
mod pure;
mod schedules;
mod settings;
mod shared;
mod task;
mod tenant;
mod waits;
mod work;
mod worker;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/registry.sql", name = "registry", bootstrap);
extension_sql_file!("../sql/tenants.sql", name = "tenants", requires = ["registry"]);
extension_sql_file!("../sql/registered.sql", name = "registered", requires = ["tenants"]);
extension_sql_file!("../sql/handlers.sql", name = "handlers", requires = ["registered"]);
extension_sql_file!("../sql/tasks.sql", name = "tasks", requires = ["handlers"]);
extension_sql_file!("../sql/why.sql", name = "why", requires = ["tasks"]);
extension_sql_file!("../sql/changes.sql", name = "changes", requires = ["why"]);
extension_sql_file!("../sql/many.sql", name = "many", requires = ["changes"]);
extension_sql_file!("../sql/flows.sql", name = "flows", requires = ["many"]);
extension_sql_file!("../sql/queues.sql", name = "queues", requires = ["flows"]);
extension_sql_file!("../sql/groups.sql", name = "groups", requires = ["queues"]);
extension_sql_file!("../sql/rights.sql", name = "rights", requires = ["groups"]);
extension_sql_file!("../sql/progress.sql", name = "progress", requires = ["rights"]);
extension_sql_file!("../sql/stats.sql", name = "stats", requires = ["progress"]);
extension_sql_file!("../sql/own_session.sql", name = "own_session", requires = ["stats"]);
extension_sql_file!("../sql/workers.sql", name = "workers", requires = ["own_session"]);
extension_sql_file!("../sql/events.sql", name = "events", requires = ["workers"]);
extension_sql_file!("../sql/tables.sql", name = "tables", requires = ["events"]);
extension_sql_file!("../sql/schedules.sql", name = "schedules", requires = ["tables"]);
extension_sql_file!("../sql/deploy.sql", name = "deploy", requires = ["schedules"]);
extension_sql_file!("../sql/fanout.sql", name = "fanout", requires = ["deploy"]);
extension_sql_file!("../sql/views.sql", name = "views", requires = ["fanout"]);
extension_sql_file!("../sql/problems.sql", name = "problems", requires = ["views"]);
extension_sql_file!("../sql/health.sql", name = "health", requires = ["problems"]);
extension_sql_file!("../sql/copies.sql", name = "copies", requires = ["health"]);
extension_sql_file!("../sql/upgrade.sql", name = "upgrade", requires = ["copies"], finalize);

/// Library start: settings always; shared memory, hooks and the launcher only while preloading.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    postgres::backtrace::keep_out_of_errors();
    settings::register();
    postgres::deferred::register();
    postgres::stand_in::register(calls::tables::tenant_q_table_changed, calls::tables::tenant_q_condition_is_trusted);
    postgres::foreign::serve(calls::views::FOREIGN_TABLES);
    if !postgres::shmem::is_preloading() || postgres::shmem::is_binary_upgrade() {
        return;
    }
    postgres::shmem::request(shared::size(), shared::initialise);
    calls::ddl::register();
    postgres::worker::register_static("tenant_q launcher", "tenant_q launcher", "tenant_q_launcher_main", 1);
}

worker_mains! {
    tenant_q_launcher_main => |_| worker::launcher::main();
    tenant_q_scheduler_main => worker::scheduler::main;
    tenant_q_executor_main => worker::executor::main;
}
