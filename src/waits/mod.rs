//! What a task may wait for besides its time: others' ends, gates, turns, unique keys, its flow's members.

pub mod depend;
pub mod gate;
pub mod members;
pub mod turn;
pub mod unique;
pub mod why;
