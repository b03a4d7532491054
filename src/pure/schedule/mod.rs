//! When a schedule fires, as pure arithmetic: rule + zone + anchor + after → next fire time.
//!
//! Nothing below reads a clock, a database or a source of randomness; instants, zones and seeds come
//! in as arguments, so the same question always has the same answer and `tests/pure` can ask millions.
//!
//! Words used throughout:
//! - *rule*: the parsed text (`'*/5 * * * *'`, `'monday at 10:30'`, `'monthly'`, …);
//! - *fire time* (or slot): an instant at which a schedule is due;
//! - *anchor*: the instant a schedule was created; rules without a time of their own count from it;
//! - *wall clock*: local date and time in the schedule's zone;
//! - *fixed* rules name wall-clock times, *elapsed* rules count real time (what that means on the two
//!   days a year when the clock is changed stands in `zone`).
//!
//! The way of a question: `rule` parses the text (with `cron`, `natural` and `solar` for their parts of
//! the grammar), `next` asks the rule for wall-clock slots and lets `zone` turn them into instants,
//! `catch_up` decides which missed fire times are served, `spread` keeps herds apart.

pub mod active_hours;
pub mod calendar;
pub mod catch_up;
pub mod cron;
pub mod describe;
pub mod elsewhere;
pub mod meant;
pub mod natural;
pub mod next;
pub mod rule;
pub mod setback;
pub mod solar;
pub mod spread;
pub mod timestamp;
pub mod zone;
