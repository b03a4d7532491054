//! One program with the tests of all pure modules; a directory for each.

mod cache;
mod choice;
mod fix;
mod floors;
mod heap;
mod ids;
mod interleave;
mod like;
mod nearest;
mod nested;
mod options;
mod period;
mod rate;
mod reason;
mod retry;
mod schedule;
mod server_version;
mod shares;
mod sql;
mod state;
mod time;
mod versions;
mod word;
