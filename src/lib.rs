//! tenant_q: a task queue and scheduler inside PostgreSQL whose unit is the tenant schema.
//!
//! The modules in the order data moves; ARCHITECTURE.md tells the story.

pub mod error;
pub mod postgres;
pub mod settings;
pub mod shared;
pub mod poison;
// pub mod schedule;

::pgrx::pg_module_magic!(name, version);
