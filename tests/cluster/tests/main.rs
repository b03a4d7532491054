//! One module a topic.

mod smoke;
