//! The three kinds of background worker.

pub mod executor;
pub mod launcher;
pub mod scheduler;
