//! The server's background worker slots are all taken: a start fails, and nothing says when the next one won't.
//!
//! Slots of workers that have just ended are free when the postmaster gets to it, so one failed start is no shortage.
//! Meanwhile nothing more is started than there are places (places.rs), and schedulers go first (databases.rs).

use crate::postgres::{clock, shmem};
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::Shared;
use crate::shared::wakes::{Reason, Turn};

/// Starts that fail for a shorter time are no shortage.
const SHORTAGE_NS: u64 = 2_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

#[derive(Default)]
pub(super) struct Shortage {
    /// Starts that failed for it, one after the other; 0 = not now.
    failures: u32,
    /// Monotonic: of the first and the last of them, and of the last line in the log.
    since_ns: u64,
    last_ns: u64,
    logged_ns: u64,
    /// No further try before.
    until: At,
    /// A scheduler waits for one: it goes first.
    pub(super) scheduler: bool,
}

impl Shortage {
    /// When a start is tried again; None = at once.
    pub(super) fn lasts_until(&self, now: At) -> Option<At> {
        (self.until > now).then_some(self.until)
    }

    /// A start found no background worker slot. Said when it lasts, and once a minute.
    pub(super) fn note(&mut self, shared: &Shared, turn: &mut Turn) {
        let (now, now_ns) = (clock::now(), clock::monotonic_ns());
        if self.failures == 0 || now_ns - self.last_ns > SHORTAGE_NS {
            (self.failures, self.since_ns) = (0, now_ns);
        }
        self.failures += 1;
        self.last_ns = now_ns;
        // Where there can't be enough there is no need to see whether it lasts.
        let too_few = settings::slots_needed(shmem::max_worker_processes()) > shmem::max_worker_processes();
        if too_few || now_ns - self.since_ns >= SHORTAGE_NS {
            shared.header.last_no_slot.store(now);
            if self.logged_ns == 0 || now_ns - self.logged_ns >= MINUTE_NS {
                self.logged_ns = now_ns;
                pgrx::log!(
                    "tenant_q: no background worker slot is free, tasks wait; raise max_worker_processes or lower tenant_q.max_executors"
                );
            }
        }
        self.until = now + (Span::of_millis(10) << self.failures.min(10)).min(Span::SECOND);
        turn.at(Reason::Retry, self.until);
    }

    /// A worker was started.
    pub(super) fn ended(&mut self, shared: &Shared) {
        self.failures = 0;
        self.until = At::UNSET;
        shared.header.last_no_slot.store(At::UNSET);
    }

    /// A worker slot may be free: the next start is tried at once.
    pub(super) fn try_again(&mut self) {
        self.until = At::UNSET;
    }
}
