//! What needs no PostgreSQL: arithmetic, rules and small structures. tests/pure runs all of it as it stands here.
//!
//! Nothing here names anything else of this crate but its own floor.

pub mod atomics;
pub mod cache;
pub mod choice;
pub mod fix;
pub mod heap;
pub mod ids;
pub mod interleave;
pub mod like;
pub mod nearest;
pub mod nested;
pub mod options;
pub mod period;
pub mod rate;
pub mod reason;
pub mod retry;
pub mod schedule;
pub mod server_version;
pub mod shares;
pub mod state;
pub mod time;
pub mod word;
