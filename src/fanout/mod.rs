//! What concerns all tenants: lines of tq_fanouts with an outcome for each tenant, and definitions that each is to have.
//!
//! The rows and what they mean; work/spread.rs walks over the tenants.

pub mod definitions;
pub mod lines;
pub mod passed;
