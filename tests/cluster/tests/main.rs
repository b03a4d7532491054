//! One module a topic.

mod cancel;
mod crash;
mod delivery;
mod fairness;
mod hostile;
mod identity;
mod lifecycle;
mod observe;
mod schedules;
mod signals;
mod site;
mod smoke;
