//! The way of a task: enqueued, picked, run, ended, told; and schedules that become tasks.

pub mod absorb;
pub mod again;
pub mod ask;
pub mod attempt;
pub mod cancel;
pub mod change;
pub mod complete;
pub mod enqueue;
pub mod filter;
pub mod fire;
pub mod flow;
pub mod many;
pub mod own_session;
pub mod park;
pub mod pick;
pub mod poison;
pub mod remove;
pub mod retention;
pub mod review;
pub mod run;
pub mod scan;
pub mod spread;
pub mod tell;
pub mod tick;
