//! The way of a task: enqueued, picked, run, ended, told; and schedules that become tasks.

pub mod ask;
pub mod attempt;
pub mod complete;
pub mod enqueue;
pub mod fire;
pub mod flow;
pub mod own_session;
pub mod park;
pub mod pick;
pub mod poison;
pub mod retention;
pub mod run;
pub mod scan;
pub mod spread;
pub mod tell;
pub mod tick;
