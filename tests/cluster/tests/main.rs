//! One module a topic.

mod cancel;
mod clock_jumps;
mod crash;
mod delivery;
mod dst;
mod external;
mod fairness;
mod fanout;
mod flows;
mod identity;
mod lifecycle;
mod listeners;
mod observe;
mod own_session;
mod reasons;
mod schedules;
mod signals;
mod smoke;

use cluster::site;
