//! The wall clock may be set while tasks wait for an instant of it. A latch counts real time, so the launcher compares
//! the two clocks at each look: what the wall clock has gained or lost over the other is what somebody set it by.
//!
//! What is due at an instant stays due at that instant. Delays of our own making were meant as lengths: they move along.

use super::{Launcher, SECOND};
use crate::postgres::clock;
use crate::pure::atomics::GaugeI64;
use crate::pure::time::{Micros, NEVER};
use crate::shared::database::db_state;
use crate::shared::ready;
use crate::shared::wakes::{Reason, Turn};

/// A difference between wall clock and real time that is no matter of keeping it right.
const CLOCK_SET: Micros = 5 * SECOND;

/// The wall clock and the monotonic one, at the last look.
pub(super) struct Clocks {
    wall: Micros,
    monotonic_ns: u64,
}

impl Clocks {
    pub(super) fn now() -> Clocks {
        Clocks { wall: clock::now(), monotonic_ns: clock::monotonic_ns() }
    }
}

impl Launcher {
    /// Whether the wall clock was set since the last look.
    pub(super) fn watch_clock(&mut self, now: Micros, turn: &mut Turn) {
        let seen = std::mem::replace(&mut self.clocks, Clocks { wall: now, monotonic_ns: clock::monotonic_ns() });
        let passed = (self.clocks.monotonic_ns.saturating_sub(seen.monotonic_ns) / 1000) as Micros;
        let set = (now - seen.wall) - passed;
        if set.abs() >= CLOCK_SET {
            self.clock_was_set(set, now);
            self.waiter.start_over();
            turn.did(Reason::Clock);
        }
    }

    /// By so many microseconds. Forward: what was passed over is late. Back: our own delays shrink with
    /// it, else they would last until the clock is where it was; sweeps look at the schedules.
    fn clock_was_set(&mut self, by: Micros, now: Micros) {
        pgrx::log!("tenant_q: the clock was set {} by {} s", if by < 0 { "back" } else { "forward" }, by.abs() / SECOND);
        if by > 0 {
            return;
        }
        self.rescan_at = now;
        self.shortage.try_again();
        let shifted = |t: Micros| (t > 0 && t != NEVER).then(|| t.saturating_add(by).max(1));
        let shift = |t: &GaugeI64| {
            let _ = t.fetch_update(shifted);
        };
        for entry in self.shared.entries.iter().filter(|entry| entry.in_use.load() == 1) {
            entry.cooldown_until.iter().for_each(shift);
            let _ = entry.unpark_at.fetch_update(shifted);
            if entry.blocked_until.load() > now {
                ready::unblock(entry);
            }
        }
        self.shared.roles.iter().for_each(|r| shift(&r.start_after));
        for db in self.shared.dbs {
            shift(&db.start_after);
            let _ = db.swept_at.fetch_update(shifted);
            if db.state.load() == db_state::SERVED {
                db.order_sweep();
            }
        }
        self.rebuild();
    }
}
