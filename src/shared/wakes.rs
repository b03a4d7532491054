//! Waking up and going to sleep, for all processes of ours: nothing else lets their loops wait, so none can spin.
//!
//! A turn of a loop says what it did, and for which reasons it wants the next one when. Wake-ups are counted by
//! reason, and those of which nothing came as well (tq_workers). Who wakes in vain twice in a row for one reason
//! is woken for that reason later and later, a minute apart in the end, until something comes of it: a due time
//! that nobody serves costs next to nothing, whoever left it there. A time that is still to come is waited for a
//! second too long at most, for it may be another matter than the one that was in vain.
//!
//! Calls (the latch) are always served. Many of them in vain, one after the other, are answered together.

use crate::postgres::clock;
use crate::postgres::latch::{self, Woken};
use crate::pure::atomics::{GaugeU32, GaugeU64};
use crate::pure::time::At;
use crate::shared_struct;
use std::time::Duration;

/// What a process wakes up for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Somebody has set its latch.
    Call,
    /// There was more to do: no sleep lies before it.
    More,
    /// A task or a schedule comes due.
    Due,
    /// Tenants are to be swept.
    Sweep,
    /// Which databases there are is to be looked at.
    Databases,
    /// The wall clock may have been set.
    Clock,
    /// A start that failed, or has to wait, is tried again.
    Retry,
    /// A list waits behind a long task.
    Stuck,
    /// A cancel is repeated.
    Cancel,
    /// Somebody waits for something of which no call may tell.
    Watch,
    /// It has had nothing to do for long.
    Idle,
    /// Work of all tenants is to be spread.
    Spread,
    /// What somebody held is looked at again.
    Locked,
}

pub const REASONS: usize = 13;
/// In the order of their numbers.
pub const ALL: [Reason; REASONS] = [
    Reason::Call,
    Reason::More,
    Reason::Due,
    Reason::Sweep,
    Reason::Databases,
    Reason::Clock,
    Reason::Retry,
    Reason::Stuck,
    Reason::Cancel,
    Reason::Watch,
    Reason::Idle,
    Reason::Spread,
    Reason::Locked,
];

/// So often in vain, one after the other: from then on there are pauses.
const TWICE: u32 = 2;
/// The first of them; each is twice the one before.
const FIRST_PAUSE: u64 = 10_000_000;
const LONGEST_PAUSE: u64 = 60_000_000_000;
/// The longest before a time that was still to come when the last wake was in vain.
const LONGEST_BEFORE_NEWS: u64 = 1_000_000_000;
/// Calls in vain, one after the other, that are answered one by one.
const CALLS: u32 = 32;
/// Later ones are answered together, so far apart.
const TOGETHER: Duration = Duration::from_millis(5);
/// So often in vain is a fault: tq_health says so. The pauses are above half a second then.
pub const FAULT: u32 = 8;

impl Reason {
    /// As tq_workers and tq_health have it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Call => "call",
            Reason::More => "more",
            Reason::Due => "due",
            Reason::Sweep => "sweep",
            Reason::Databases => "databases",
            Reason::Clock => "clock",
            Reason::Retry => "retry",
            Reason::Stuck => "stuck",
            Reason::Cancel => "cancel",
            Reason::Watch => "watch",
            Reason::Idle => "idle",
            Reason::Spread => "spread",
            Reason::Locked => "locked",
        }
    }

    /// A look every so often is all that they are for: it is never in vain, and its distance is its bound.
    fn is_a_look(self) -> bool {
        matches!(self, Reason::Clock | Reason::Databases)
    }

    /// Whether many in vain are a fault of ours. Calls are others' doing; and who waits for a place, behind
    /// tasks that take their time, may wait for long.
    pub fn is_fault(self) -> bool {
        !matches!(self, Reason::Call | Reason::Watch)
    }
}

/// One turn of a loop: what came of it, and when the next one is wanted.
pub struct Turn {
    began: u64,
    did: u32,
    /// Monotonic, in nanoseconds; u64::MAX = not at all.
    next: [u64; REASONS],
}

impl Turn {
    pub fn begin() -> Turn {
        Turn { began: clock::monotonic_ns(), did: 0, next: [u64::MAX; REASONS] }
    }
    /// Something came of having woken for this.
    pub fn did(&mut self, reason: Reason) {
        self.did |= 1 << reason as u32;
    }
    /// The next turn is wanted at this time of the wall clock.
    pub fn at(&mut self, reason: Reason, at: At) {
        if at != At::NEVER {
            // Lasts of the past keep their distance: it is the same one at the next turn.
            let left = at.saturating_since(clock::now()).micros().clamp(-1_000_000_000_000, 1_000_000_000_000) * 1000;
            self.after_ns(reason, left);
        }
    }
    pub fn after(&mut self, reason: Reason, sleep: Duration) {
        self.after_ns(reason, sleep.as_nanos().min(i64::MAX as u128) as i64);
    }
    pub fn at_once(&mut self, reason: Reason) {
        self.after_ns(reason, 0);
    }
    /// At this time of the monotonic clock.
    pub fn at_ns(&mut self, reason: Reason, at: u64) {
        let next = &mut self.next[reason as usize];
        *next = (*next).min(at);
    }
    fn after_ns(&mut self, reason: Reason, left: i64) {
        self.at_ns(reason, clock::monotonic_ns().saturating_add_signed(left));
    }
    fn came(&self, reason: Reason) -> bool {
        match reason {
            // Whatever it was about.
            Reason::Call | Reason::More | Reason::Watch => self.did != 0,
            reason => reason.is_a_look() || self.did & 1 << reason as u32 != 0,
        }
    }
}

/// When a process goes on, and why, unless it is called before.
pub struct Sleep {
    reason: Option<Reason>,
    length: Duration,
}

impl Sleep {
    /// None: until it is called.
    pub fn length(&self) -> Option<Duration> {
        self.reason.map(|_| self.length)
    }
    pub fn is_none(&self) -> bool {
        self.reason.is_some() && self.length.is_zero()
    }
}

/// Owns the waiting of one process.
pub struct Sleeper {
    counts: &'static Wakes,
    woken: Option<Reason>,
    in_a_row: [u32; REASONS],
    /// When it last woke in vain for each reason.
    vain_at: [u64; REASONS],
    /// What its turns are about, where they are about one thing at a time.
    subject: u32,
}

impl Sleeper {
    pub fn new(counts: &'static Wakes) -> Sleeper {
        for (n, of) in counts.woken.iter().zip(&counts.vain) {
            n.store(0);
            of.store(0);
        }
        let sleeper = Sleeper { counts, woken: None, in_a_row: [0; REASONS], vain_at: [0; REASONS], subject: u32::MAX };
        ALL.iter().for_each(|reason| sleeper.publish(*reason));
        sleeper
    }

    fn publish(&self, reason: Reason) {
        self.counts.in_a_row[reason as usize].store(self.in_a_row[reason as usize]);
    }
    fn set_in_a_row(&mut self, reason: Reason, n: u32) {
        if self.in_a_row[reason as usize] != n {
            self.in_a_row[reason as usize] = n;
            self.publish(reason);
        }
    }

    /// Whatever was in vain: things are different now.
    pub fn start_over(&mut self) {
        ALL.iter().for_each(|reason| self.set_in_a_row(*reason, 0));
    }

    /// This turn is about one of many things that come up by themselves: only what is in vain with the same one
    /// again and again is a loop.
    pub fn about(&mut self, subject: u32) {
        if self.subject != subject {
            self.subject = subject;
            self.set_in_a_row(Reason::More, 0);
            self.set_in_a_row(Reason::Call, 0);
        }
    }

    /// Ends a turn: for how long the process sleeps.
    pub fn plan(&mut self, turn: &Turn) -> Sleep {
        if let Some(reason) = self.woken.take() {
            if turn.came(reason) {
                self.set_in_a_row(reason, 0);
            } else {
                add_one(&self.counts.vain[reason as usize]);
                self.vain_at[reason as usize] = turn.began;
                self.set_in_a_row(reason, self.in_a_row[reason as usize].saturating_add(1));
            }
        }
        if turn.did != 0 {
            // One after the other: without anything else that came of waking up.
            self.set_in_a_row(Reason::Call, 0);
        }
        let mut first: Option<(u64, Reason)> = None;
        for reason in ALL {
            let wanted = turn.next[reason as usize];
            if wanted == u64::MAX {
                if reason != Reason::Call {
                    self.set_in_a_row(reason, 0);
                }
                continue;
            }
            let at = wanted.max(self.not_before(reason, wanted));
            if first.is_none_or(|(least, _)| at < least) {
                first = Some((at, reason));
            }
        }
        match first {
            None => Sleep { reason: None, length: Duration::ZERO },
            Some((at, reason)) => {
                // What is wanted at once is wanted without a look at the clock.
                let length = if at <= turn.began { 0 } else { at.saturating_sub(clock::monotonic_ns()) };
                Sleep { reason: Some(reason), length: Duration::from_nanos(length) }
            }
        }
    }

    fn not_before(&self, reason: Reason, wanted: u64) -> u64 {
        let (in_a_row, last) = (self.in_a_row[reason as usize], self.vain_at[reason as usize]);
        if in_a_row < TWICE {
            return 0;
        }
        // What is watched has no time of its own: each is as new as the one before.
        let news = wanted > last && reason != Reason::Watch;
        last + pause(in_a_row).min(if news { LONGEST_BEFORE_NEWS } else { LONGEST_PAUSE })
    }

    /// Sleeps, and counts what ended it.
    pub fn sleep(&mut self, sleep: Sleep) -> Reason {
        if self.in_a_row[Reason::Call as usize] >= CALLS && !sleep.is_none() {
            latch::pause(TOGETHER.min(sleep.length().unwrap_or(TOGETHER)));
        }
        let reason = match (sleep.reason, sleep.is_none()) {
            (Some(reason), true) => {
                pgrx::check_for_interrupts!();
                reason
            }
            (reason, _) => match (latch::wait(sleep.length()), reason) {
                (Woken::Timeout, Some(reason)) => reason,
                _ => Reason::Call,
            },
        };
        add_one(&self.counts.woken[reason as usize]);
        self.woken = Some(reason);
        reason
    }
}

/// Nobody else writes there.
fn add_one(counter: &GaugeU64) {
    counter.store(counter.load() + 1);
}

/// In nanoseconds, after so many wakes in vain, one after the other.
fn pause(in_a_row: u32) -> u64 {
    (FIRST_PAUSE << (in_a_row - TWICE).min(20)).min(LONGEST_PAUSE)
}

shared_struct! {
    /// How often a process woke up for each reason, and how often in vain; see wakes.rs. Written by that process.
    pub struct Wakes {
        pub woken: [GaugeU64; REASONS],
        pub vain: [GaugeU64; REASONS],
        /// In vain one after the other, until something came of it.
        pub in_a_row: [GaugeU32; REASONS],
    }
}
