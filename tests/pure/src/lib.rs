//! `src/pure` of tenant_q, under test without PostgreSQL.
//!
//! It is the very folder the extension is built from: what takes time and randomness as arguments and touches no
//! database. Its tests stand in `tests/<module>/`, all of them linked into one program (`tests/main.rs`), which takes a
//! third of the time of one program each.

pub mod any_text;
#[path = "../../../src/pure/mod.rs"]
pub mod pure;
pub use pure::{
    cache, choice, fix, heap, ids, interleave, like, nearest, nested, options, period, rate, reason, retry, schedule, server_version,
    shares, state, time, word,
};
