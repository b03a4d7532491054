//! Where an executor is in its list, in one word.

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

/// Who serves the schedules of a database, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    None,
    /// The postmaster has been asked for one.
    Starting,
    /// Its process number: whose latch is set to call it.
    Lives(u32),
}

impl Scheduler {
    pub fn pack(self) -> u32 {
        match self {
            Scheduler::None => 0,
            Scheduler::Starting => 1,
            // The first process has number 0.
            Scheduler::Lives(number) => number + 2,
        }
    }
    pub fn unpack(word: u32) -> Scheduler {
        match word {
            0 => Scheduler::None,
            1 => Scheduler::Starting,
            word => Scheduler::Lives(word - 2),
        }
    }
}
