//! The pure modules of tenant_q, under test without PostgreSQL.
//!
//! Each module is the very file the extension is built from. A file belongs here when it takes time and
//! randomness as arguments and touches no database; its tests are `tests/<module>_*.rs` beside this.

#[path = "../../../src/schedule/mod.rs"]
pub mod schedule;
