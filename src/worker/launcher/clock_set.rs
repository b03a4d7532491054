//! The wall clock may be set while tasks wait for an instant of it. A latch counts real time, so the launcher compares
//! the two clocks at each look: what the wall clock has gained or lost over the other is what somebody set it by.
//!
//! What is due at an instant stays due at that instant. Delays of our own making were meant as lengths: they move along.

use super::Launcher;
use crate::postgres::clock;
use crate::pure::atomics::GaugeAt;
use crate::pure::time::{At, Span};
use crate::shared::database::db_state;
use crate::shared::ready;
use crate::shared::wakes::{Reason, Turn};

/// A difference between wall clock and real time that is no matter of keeping it right.
const CLOCK_SET: Span = Span::of_secs(5);

/// The wall clock and the monotonic one, at the last look.
pub(super) struct Clocks {
    wall: At,
    monotonic_ns: u64,
}

impl Clocks {
    pub(super) fn now() -> Clocks {
        Clocks { wall: clock::now(), monotonic_ns: clock::monotonic_ns() }
    }
}

impl Launcher {
    /// Whether the wall clock was set since the last look.
    pub(super) fn watch_clock(&mut self, now: At, turn: &mut Turn) {
        let seen = std::mem::replace(&mut self.clocks, Clocks { wall: now, monotonic_ns: clock::monotonic_ns() });
        let passed = Span::of_micros((self.clocks.monotonic_ns.saturating_sub(seen.monotonic_ns) / 1000) as i64);
        let set = (now - seen.wall) - passed;
        if set.abs() >= CLOCK_SET {
            self.clock_was_set(set, now);
            self.sleeper.start_over();
            turn.did(Reason::Clock);
        }
    }

    /// By so much. Forward: what was passed over is late. Back: our own delays shrink with
    /// it, else they would last until the clock is where it was; sweeps look at the schedules.
    fn clock_was_set(&mut self, by: Span, now: At) {
        pgrx::log!("tenant_q: the clock was set {} by {} s", if by.is_negative() { "back" } else { "forward" }, by.abs() / Span::SECOND);
        if by > Span::ZERO {
            return;
        }
        self.rescan_at = now;
        self.shortage.try_again();
        let shifted = |t: At| (t > At::UNSET && t != At::NEVER).then(|| t.saturating_add(by).max(At::UNSET + Span::MICROSECOND));
        let shift = |t: &GaugeAt| {
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
