pub mod cache;
pub mod heap;
pub mod nested;
pub mod rate;
pub mod retry;
pub mod schedule;
pub mod shares;
