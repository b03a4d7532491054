//! The pure modules of tenant_q, under test without PostgreSQL.
//!
//! Each module is the very file the extension is built from. A file belongs here when it takes time and
//! randomness as arguments and touches no database. Its tests stand in `tests/<module>/`, all of them
//! linked into one program (`tests/main.rs`), which takes a third of the time of one program each.

pub mod any_text;
#[path = "../../../src/rate.rs"]
pub mod rate;
#[path = "../../../src/schedule/mod.rs"]
pub mod schedule;
#[path = "../../../src/share/rule.rs"]
pub mod share;
