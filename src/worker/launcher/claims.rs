//! What workers outside of the server have taken: who is over a timeout, or of whom nothing is heard, is told, and ended when that
//! doesn't help. Its session's end is what lets a task be started again (work/taker.rs).

use super::Launcher;
use crate::postgres::{clock, worker};
use crate::pure::word::ClaimState;
use crate::settings;
use crate::shared::claims::told;
use crate::shared::takers::{CALLED_NS, Taker, waits};
use crate::shared::wakes::{Reason, Turn};

/// A signal that nothing came of is repeated.
const AGAIN_NS: u64 = 1_000_000_000;

/// A turn, and when the first look at claims is wanted after it.
struct Plan<'a> {
    turn: &'a mut Turn,
    next: u64,
}

impl Plan<'_> {
    fn at_ns(&mut self, reason: Reason, at: u64) {
        self.next = self.next.min(at);
        self.turn.at_ns(reason, at);
    }
    fn did(&mut self, reason: Reason) {
        self.turn.did(reason);
    }
}

impl Launcher {
    /// Tells and ends those who go on for too long.
    pub(super) fn look_after_claims(&mut self, turn: &mut Turn) {
        let s = self.shared;
        let now = clock::monotonic_ns();
        // Whoever wants a look before the one that is planned here calls from now on.
        s.header.claims_look.store(u64::MAX);
        let mut plan = Plan { turn, next: u64::MAX };
        self.look_after_waits(now, &mut plan);
        if s.header.claims.load() != 0 {
            self.look_at_claims(now, &mut plan);
        }
        s.header.claims_look.fetch_min(plan.next);
    }

    fn look_at_claims(&self, now: u64, turn: &mut Plan) {
        let s = self.shared;
        let grace = settings::worker_grace().as_nanos() as u64;
        let mut overdue = vec![];
        for claim in s.used_claims() {
            let word = claim.load();
            let deadline = claim.deadline_ns.load();
            match word.state {
                ClaimState::Taken => {
                    if deadline != 0 && now >= deadline {
                        claim.tell(&s, told::TIMEOUT);
                        turn.did(Reason::Cancel);
                    } else if deadline != 0 {
                        turn.at_ns(Reason::Cancel, deadline);
                    }
                    if claim.told.load() & told::MUST_END != 0 {
                        let end = claim.told_ns.load().saturating_add(grace);
                        match now >= end {
                            true => overdue.push(claim.taker.load()),
                            false => turn.at_ns(Reason::Cancel, end),
                        }
                    }
                }
                ClaimState::Finishing => {
                    // It holds what any writer of the tenant holds: not without end.
                    let begun = claim.finishing_ns.load();
                    let end = deadline.max(begun).saturating_add(grace) + u64::from(claim.signals.load()) * AGAIN_NS;
                    if deadline == 0 || begun == 0 {
                        continue;
                    }
                    if now >= end {
                        let signals = claim.signals.fetch_add(1);
                        worker::signal(claim.finisher.load(), if signals < 2 { libc::SIGINT } else { libc::SIGTERM });
                        turn.did(Reason::Cancel);
                        turn.at_ns(Reason::Cancel, end + AGAIN_NS);
                    } else {
                        turn.at_ns(Reason::Cancel, end);
                    }
                }
                ClaimState::Free | ClaimState::Filling => {}
            }
        }
        let lease = settings::worker_lease().as_nanos() as u64;
        for (n, taker) in s.used_takers().iter().enumerate() {
            if taker.pid.load() == 0 || taker.claims.load() == 0 {
                continue;
            }
            let end = taker.seen_ns.load().saturating_add(lease);
            if now < end && !overdue.contains(&(n as u32)) {
                turn.at_ns(Reason::Cancel, end);
                continue;
            }
            let told = taker.told_to_end.load();
            if told == 0 || now >= told + AGAIN_NS * u64::from(taker.signals.load()) {
                let _ = taker.told_to_end.compare_exchange(0, now);
                taker.signals.fetch_add(1);
                worker::signal(taker.pid.load(), libc::SIGTERM);
                turn.did(Reason::Cancel);
            }
            turn.at_ns(Reason::Cancel, now + AGAIN_NS);
        }
    }

    /// Who was called and takes nothing may be stuck: another one is called.
    fn look_after_waits(&self, now: u64, turn: &mut Plan) {
        let called = |taker: &Taker| taker.waits.load() == waits::CALLED;
        for (place, taker) in self.shared.used_takers().iter().enumerate().filter(|(_, taker)| called(taker)) {
            let end = taker.called_ns.load() + CALLED_NS;
            if now < end {
                turn.at_ns(Reason::Stuck, end);
            } else {
                turn.did(Reason::Stuck);
                self.shared.pass_on(place as u32);
            }
        }
    }
}
