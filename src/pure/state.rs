//! What a task is and how it can end: states as people see them, and as one character of a row.

use crate::pure::time::At;

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Outcome {
    Done,
    Failed,
    Retry,
    /// Cancelled, expired, or overtaken by a change of its row.
    Over,
    /// Not begun: what it was picked by holds no more. It goes back, with the rest of its list.
    Outdated,
    /// Its end could not be recorded: held back, to be tried again uncounted.
    Unrecorded,
    /// Listeners of this session's role were asked, and let it pass: its own executors are next.
    Asked,
}

/// The states a user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits on other tasks.
    Deferred,
    /// `run_at` is in the future.
    Delayed,
    Queued,
    Running,
    /// Failed at least once, to be tried again.
    Retrying,
    /// Its handler is gone or paused.
    Held,
    Done,
    Failed,
    Cancelled,
    Expired,
    /// Crashed the server too often; tq_requeue frees it.
    Quarantined,
}

impl State {
    pub const ALL: [State; 11] = [
        State::Deferred,
        State::Delayed,
        State::Queued,
        State::Running,
        State::Retrying,
        State::Held,
        State::Done,
        State::Failed,
        State::Cancelled,
        State::Expired,
        State::Quarantined,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::Deferred => "deferred",
            State::Delayed => "delayed",
            State::Queued => "queued",
            State::Running => "running",
            State::Retrying => "retrying",
            State::Held => "held",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
            State::Quarantined => "quarantined",
        }
    }

    pub fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Cancelled | State::Expired | State::Quarantined)
    }
}

/// `tq_task.state` on disk.
pub mod stored {
    pub const QUEUED: u8 = b'q';
    /// As queued, but its queue takes turns with others: see waits/turn.rs.
    pub const TURN: u8 = b't';
    pub const WAITING: u8 = b'w';
    pub const HELD: u8 = b'h';
    /// Its result says that it is quarantined; this row is what tq_problems finds it by.
    pub const QUARANTINED: u8 = b'x';
    /// A key or a limit is busy.
    pub const GATED: u8 = b'k';
    /// Stands for one of several tasks that another row waits for.
    pub const LINK: u8 = b'l';
    /// Finished, but keeps its unique key.
    pub const KEY: u8 = b'u';
}

/// Whether a row of this state is an unfinished task, and not a note of the engine's.
pub fn is_task(state: u8) -> bool {
    !matches!(state, stored::KEY | stored::LINK | stored::QUARANTINED)
}

/// Whether a row of this state runs when it is due.
pub fn is_runnable(state: u8) -> bool {
    matches!(state, stored::QUEUED | stored::TURN)
}

/// `tq_result.state` on disk.
pub mod ended {
    pub const DONE: u8 = b'd';
    pub const FAILED: u8 = b'f';
    pub const CANCELLED: u8 = b'c';
    pub const EXPIRED: u8 = b'e';
    pub const QUARANTINED: u8 = b'x';
}

/// What a row of tq_task says of its task; `running` is known from the slots.
pub fn unfinished(state: u8, attempts: i32, run_at: At, now: At, running: bool) -> State {
    match state {
        _ if running => State::Running,
        stored::WAITING => State::Deferred,
        stored::HELD => State::Held,
        _ if attempts > 0 => State::Retrying,
        _ if run_at > now => State::Delayed,
        _ => State::Queued,
    }
}

/// What a row of tq_result says of its task.
pub fn finished(state: u8) -> State {
    match state {
        ended::DONE => State::Done,
        ended::CANCELLED => State::Cancelled,
        ended::EXPIRED => State::Expired,
        ended::QUARANTINED => State::Quarantined,
        _ => State::Failed,
    }
}

/// How an attempt that was not done ended, as tq_attempts has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Failed,
    /// The handler has asked for another one.
    Retry,
    TimedOut,
    Interrupted,
}

impl AttemptEnd {
    pub fn name(self) -> &'static str {
        match self {
            AttemptEnd::Failed => "failed",
            AttemptEnd::Retry => "retry",
            AttemptEnd::TimedOut => "timeout",
            AttemptEnd::Interrupted => "interrupted",
        }
    }
}
