//! The only files with `unsafe`: one PostgreSQL primitive each, wrapped so that the rest of the
//! code can't misuse it. Every block says who guarantees what.

pub mod access_hook;
pub mod activity;
pub mod call;
pub mod catalog;
pub mod caught;
pub mod clock;
pub mod code;
pub mod condition;
pub mod database;
pub mod deferred;
pub mod error;
pub mod function;
pub mod interrupt;
pub mod invalidation;
pub mod latch;
pub mod lock;
pub mod lock_wait;
pub mod lwlock;
pub mod mapping;
pub mod memory;
pub mod portals;
pub mod relation;
pub mod release;
pub mod row_lock;
pub mod sandbox;
pub mod session;
pub mod shmem;
pub mod subtransaction;
pub mod text;
pub mod timeout;
pub mod transaction;
pub mod trigger;
pub mod types;
pub mod utility;
pub mod worker;
