//! Closed choices that processes share, each in one word: where an executor is in its list, who serves a database, and the like.

use crate::pure::atomics::Choice;

/// How far a slot's executor is in its list: `[next, end)` isn't started, `next - 1` is running if
/// `running`. One word, so that a take-over and the owner's next start exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub sequence: u32,
    pub running: bool,
    pub next: usize,
    pub end: usize,
}

impl Word {
    pub fn pack(self) -> u64 {
        ((self.sequence as u64) << 32) | ((self.running as u64) << 31) | ((self.next as u64) << 16) | self.end as u64
    }
    pub fn unpack(word: u64) -> Word {
        Word {
            sequence: (word >> 32) as u32,
            running: word & (1 << 31) != 0,
            next: ((word >> 16) & 0x7FFF) as usize,
            end: (word & 0xFFFF) as usize,
        }
    }
    /// The places of the list that are running or waiting to.
    pub fn live(self) -> std::ops::Range<usize> {
        (if self.running { self.next - 1 } else { self.next })..self.end
    }
}

/// How far a worker outside of the server is with a task that it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Nobody has the place.
    Free,
    /// Whoever takes it writes it.
    Filling,
    /// A worker has the task.
    Taken,
    /// An open transaction ends the task. Whoever would take it away has to wait for that.
    Finishing,
}

/// The state of a claim's place, and how often it was given away: a word of one life is none of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimWord {
    pub life: u64,
    pub state: ClaimState,
}

impl ClaimWord {
    pub fn pack(self) -> u64 {
        self.life << 2 | self.state as u64
    }
    pub fn unpack(word: u64) -> ClaimWord {
        let state = match word & 3 {
            0 => ClaimState::Free,
            1 => ClaimState::Filling,
            2 => ClaimState::Taken,
            _ => ClaimState::Finishing,
        };
        ClaimWord { life: word >> 2, state }
    }
}

/// Who serves the schedules of a database, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    None,
    /// The postmaster has been asked for one.
    Starting,
    /// Its process number: whose latch is set to call it.
    Lives(u32),
}

impl Choice for Scheduler {
    fn pack(self) -> u32 {
        match self {
            Scheduler::None => 0,
            Scheduler::Starting => 1,
            // The first process has number 0.
            Scheduler::Lives(number) => number + 2,
        }
    }
    fn unpack(word: u32) -> Scheduler {
        match word {
            0 => Scheduler::None,
            1 => Scheduler::Starting,
            word => Scheduler::Lives(word - 2),
        }
    }
}

/// What an executor's slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nobody's. Next: starting.
    Free,
    /// The launcher has asked the postmaster for an executor. Next: working, or free if none came.
    Starting,
    /// An executor has it. Next: free.
    Working,
}

impl Choice for SlotState {
    fn pack(self) -> u32 {
        self as u32
    }
    fn unpack(word: u32) -> SlotState {
        match word {
            0 => SlotState::Free,
            1 => SlotState::Starting,
            _ => SlotState::Working,
        }
    }
}

/// Why an executor is to stop what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It isn't.
    No,
    /// The task is cancelled: its row is gone.
    Cancelled,
    /// More of its tenant run than may: it goes back into the queue.
    Room,
}

impl Choice for Stop {
    fn pack(self) -> u32 {
        self as u32
    }
    fn unpack(word: u32) -> Stop {
        match word {
            1 => Stop::Cancelled,
            2 => Stop::Room,
            _ => Stop::No,
        }
    }
}

/// Whether an entry's parked rows are to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpark {
    No,
    Asked,
    /// Somebody parks rows, and has not looked a second time yet.
    Unsure,
    /// The executor of this slot looks: if it dies, whoever picks next looks again.
    TakenBy(u32),
}

impl Choice for Unpark {
    fn pack(self) -> u32 {
        match self {
            Unpark::No => 0,
            Unpark::Asked => 1,
            Unpark::Unsure => 2,
            Unpark::TakenBy(slot) => slot + 3,
        }
    }
    fn unpack(word: u32) -> Unpark {
        match word {
            0 => Unpark::No,
            1 => Unpark::Asked,
            2 => Unpark::Unsure,
            word => Unpark::TakenBy(word - 3),
        }
    }
}
