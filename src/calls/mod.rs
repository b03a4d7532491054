//! What one can call in SQL: one file for each of sql/, of the same name. And the hooks PostgreSQL calls: ddl.
//!
//! Here arguments become types, rights are asked and answers become rows. What is called does the work; nothing here is imported
//! from below.

pub mod changes;
pub mod copies;
pub mod ddl;
pub mod deploy;
pub mod events;
pub mod fanout;
pub mod flows;
pub mod groups;
pub mod handlers;
pub mod health;
pub mod many;
pub mod own_session;
pub mod problems;
pub mod progress;
pub mod queues;
pub mod registered;
pub mod registry;
pub mod released;
pub mod rights;
pub mod schedules;
pub mod stats;
pub mod tables;
pub mod tasks;
pub mod tenants;
pub mod upgrade;
pub mod views;
pub mod why;
pub mod workers;
