//! One program with the tests of all pure modules; a directory for each.

mod rate;
mod schedule;
mod shares;
