//! One program with the tests of all pure modules; a directory for each.

mod floors;
mod rate;
mod schedule;
mod shares;
