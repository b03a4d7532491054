pub mod depend;
pub mod gate;
pub mod turn;
pub mod unique;
