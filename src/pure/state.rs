//! What a task is and how it can end: states as people see them, and as one character of a row.

use crate::pure::time::At;

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Outcome {
    Done,
    Failed,
    Retry,
    /// Cancelled, expired, put off, or overtaken by a change of its row.
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

/// A choice that is kept as one character. What a row's owner has made up is `Unknown`, the default.
pub trait Letter: Copy + Default + 'static {
    fn letter(self) -> u8;
    fn of_letter(letter: u8) -> Self;
}

macro_rules! letters {
    ($($(#[$doc:meta])* pub enum $name:ident { $($(#[$of:meta])* $choice:ident = $letter:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$of])* $choice = $letter,)*
            /// No letter of ours.
            #[default]
            Unknown = b'?',
        }
        impl Letter for $name {
            fn letter(self) -> u8 {
                self as u8
            }
            fn of_letter(letter: u8) -> $name {
                match letter {
                    $($letter => $name::$choice,)*
                    _ => $name::Unknown,
                }
            }
        }
    )*};
}

letters! {
    /// `tq_task.state`.
    pub enum Stored {
        Queued = b'q',
        /// As queued, but its queue takes turns with others: see waits/turn.rs.
        Turn = b't',
        /// As queued, to be taken by a worker outside of the server: `waits_for` is its run (pure/ids.rs).
        External = b'e',
        Waiting = b'w',
        Held = b'h',
        /// Its result says that it is quarantined; this row is what tq_problems finds it by.
        Quarantined = b'x',
        /// A key or a limit is busy.
        Gated = b'k',
        /// Stands for one of several tasks that another row waits for.
        Link = b'l',
        /// Finished, but keeps its unique key.
        Key = b'u',
    }

    /// `tq_result.state`.
    pub enum Ended {
        Done = b'd',
        Failed = b'f',
        Cancelled = b'c',
        Expired = b'e',
        Quarantined = b'x',
    }

    /// `tenant_q.fanout.kind`.
    pub enum FanoutKind {
        Tasks = b'a',
        Definition = b'd',
    }

    /// `tenant_q.fanout_tenant.state`: how far it is in a tenant. How a task ended is written as in tq_result.
    pub enum FanoutState {
        Expected = b'o',
        Enqueued = b'q',
        /// Of a definition: it has reached the tenant.
        Done = b'd',
        Failed = b'f',
        Cancelled = b'c',
        Expired = b'e',
        Quarantined = b'x',
        Skipped = b's',
    }

    /// `tenant_q.fanout_tenant.cause`: what mends it, where that is not up to the tenant as a whole.
    pub enum FanoutCause {
        /// The tenant has a schedule of its own of this name, which would have to go.
        OwnSchedule = b'o',
    }
}

impl Stored {
    /// Those of rows that run when they are due.
    pub const RUNNABLE: [Stored; 3] = [Stored::Queued, Stored::Turn, Stored::External];
    /// Those of unfinished tasks.
    pub const UNFINISHED: [Stored; 6] = [Stored::Queued, Stored::Turn, Stored::External, Stored::Waiting, Stored::Held, Stored::Gated];
    /// Whether it is an unfinished task, and not a note of the engine's.
    pub fn is_task(self) -> bool {
        !matches!(self, Stored::Key | Stored::Link | Stored::Quarantined)
    }
    /// Whether it runs when it is due.
    pub fn is_runnable(self) -> bool {
        Stored::RUNNABLE.contains(&self)
    }
}

impl Ended {
    /// Ways to end other than done.
    pub const UNWELL: [Ended; 4] = [Ended::Failed, Ended::Cancelled, Ended::Expired, Ended::Quarantined];

    /// As people see it.
    pub fn seen(self) -> State {
        match self {
            Ended::Done => State::Done,
            Ended::Cancelled => State::Cancelled,
            Ended::Expired => State::Expired,
            Ended::Quarantined => State::Quarantined,
            Ended::Failed | Ended::Unknown => State::Failed,
        }
    }
    /// In views, where it is searched for by the word: what its owner has made up is no way to end.
    pub fn word(self) -> &'static str {
        if self == Ended::Unknown { "unknown" } else { self.seen().name() }
    }
    /// The only one that is shown as this word.
    pub fn of_word(word: &str) -> Option<Ended> {
        const ALL: [Ended; 5] = [Ended::Done, Ended::Failed, Ended::Cancelled, Ended::Expired, Ended::Quarantined];
        ALL.into_iter().find(|ended| ended.word() == word)
    }
}

impl From<Ended> for FanoutState {
    fn from(ended: Ended) -> FanoutState {
        FanoutState::of_letter(ended.letter())
    }
}

/// What a row of tq_task says of its task; `running` is known from the slots.
pub fn unfinished(state: Stored, attempts: i32, run_at: At, now: At, running: bool) -> State {
    match state {
        _ if running => State::Running,
        Stored::Waiting => State::Deferred,
        Stored::Held => State::Held,
        _ if attempts > 0 => State::Retrying,
        _ if run_at > now => State::Delayed,
        _ => State::Queued,
    }
}

/// How an attempt that was not done ended, as tq_attempts has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Failed,
    /// The handler has asked for another one.
    Retry,
    /// The same, and this one doesn't count.
    Snoozed,
    TimedOut,
    Interrupted,
}

impl AttemptEnd {
    pub fn name(self) -> &'static str {
        match self {
            AttemptEnd::Failed => "failed",
            AttemptEnd::Retry => "retry",
            AttemptEnd::Snoozed => "snoozed",
            AttemptEnd::TimedOut => "timeout",
            AttemptEnd::Interrupted => "interrupted",
        }
    }
}
