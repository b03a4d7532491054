//! Why an entry is left alone.

use crate::pure::atomics::Choice;

/// Why nothing could be picked: `Entry::blocked_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It isn't left alone.
    None,
    Locked,
    Paused,
    NotReady,
    Suspended,
    Broken,
    Error,
    Unrecorded,
    Settings,
    Crowded,
    Unstoppable,
}

const ALL: [Reason; 11] = [
    Reason::None,
    Reason::Locked,
    Reason::Paused,
    Reason::NotReady,
    Reason::Suspended,
    Reason::Broken,
    Reason::Error,
    Reason::Unrecorded,
    Reason::Settings,
    Reason::Crowded,
    Reason::Unstoppable,
];

impl Choice for Reason {
    fn pack(self) -> u32 {
        self as u32
    }
    fn unpack(word: u32) -> Reason {
        ALL.get(word as usize).copied().unwrap_or(Reason::None)
    }
}

impl Reason {
    /// Whether somebody has said so, and nothing is wrong.
    pub fn is_a_pause(self) -> bool {
        matches!(self, Reason::Paused | Reason::NotReady | Reason::Suspended)
    }

    /// As tq_problems, tq_why and tq_tenants have it; None where there is nothing to say.
    pub fn text(self) -> Option<&'static str> {
        Some(match self {
            Reason::None => return None,
            Reason::Locked => "its tables are locked",
            Reason::Paused => "paused",
            Reason::NotReady => "not ready",
            Reason::Suspended => "suspended",
            Reason::Broken => "its tables are not as tq_attach made them",
            Reason::Error => "its tables could not be read",
            Reason::Settings => "its settings can't be set",
            Reason::Crowded => "the ends of more of its attempts could not be recorded than tasks are held back one by one",
            Reason::Unstoppable => "several of its tasks can't be stopped and hold executors",
            Reason::Unrecorded => "how an attempt ended is still to be written down",
        })
    }
}
