//! What a task may wait for besides its time: others' ends, gates, turns, unique keys, its flow's members.

pub mod astray;
pub mod depend;
pub mod gate;
pub mod idle;
pub mod link;
pub mod members;
pub mod results;
pub mod turn;
pub mod unique;
pub mod why;
