//! What a task is: its states, the legal transitions as one pure table, and its columns.
//!
//! On disk a task is either unfinished (`tq_task`) or finished (`tq_result`). "Running" is a fact
//! about processes and lives in shared memory only: so nothing can be stuck in it.

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

use crate::calls::stats::Counted;
use crate::postgres::relation::Row;
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

    /// The one table of transitions.
    pub fn next(self) -> &'static [State] {
        match self {
            State::Deferred => &[State::Queued, State::Delayed, State::Held, State::Failed, State::Cancelled, State::Expired],
            State::Delayed => &[State::Queued, State::Held, State::Cancelled, State::Expired],
            State::Queued => {
                &[State::Running, State::Delayed, State::Held, State::Failed, State::Cancelled, State::Expired, State::Quarantined]
            }
            State::Running => {
                &[State::Done, State::Failed, State::Retrying, State::Queued, State::Cancelled, State::Expired, State::Quarantined]
            }
            State::Retrying => &[
                State::Running,
                State::Queued,
                State::Delayed,
                State::Held,
                State::Failed,
                State::Cancelled,
                State::Expired,
                State::Quarantined,
            ],
            State::Held => &[State::Queued, State::Delayed, State::Retrying, State::Failed, State::Cancelled, State::Expired],
            // Released or run again by tq_requeue.
            State::Done | State::Failed | State::Cancelled | State::Expired | State::Quarantined => &[State::Queued, State::Delayed],
        }
    }
}

/// `tq_task.state` on disk.
pub mod stored {
    pub const QUEUED: u8 = b'q';
    /// As queued, but its queue takes turns with others: see turn.rs.
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
pub fn unfinished(state: u8, attempts: i32, run_at: i64, now: i64, running: bool) -> State {
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

/// Columns of tq_task, from 1 (sql/tenant_tables.sql).
pub mod col {
    pub const ID: usize = 1;
    pub const HANDLER: usize = 2;
    pub const STATE: usize = 3;
    pub const PRIORITY: usize = 4;
    pub const ATTEMPTS: usize = 5;
    pub const CRASHES: usize = 6;
    pub const CREATED_AT: usize = 7;
    pub const RUN_AT: usize = 8;
    pub const ARGS: usize = 9;
    pub const NAME: usize = 10;
    pub const GROUP_ID: usize = 11;
    pub const QUEUE: usize = 12;
    pub const UNIQUE_KEY: usize = 13;
    pub const LOCK_KEY: usize = 14;
    pub const LIMIT_KEY: usize = 15;
    pub const PARENT_ID: usize = 16;
    pub const WAITS: usize = 17;
    pub const SCHEDULE: usize = 18;
    pub const SCHEDULED_FOR: usize = 19;
    pub const EXPIRES_AT: usize = 20;
    pub const ENQUEUED_BY: usize = 21;
    pub const BY_SUPERUSER: usize = 22;
    pub const OPTIONS: usize = 23;
    pub const META: usize = 24;
    pub const HISTORY: usize = 25;
    pub const WAITS_FOR: usize = 26;
    pub const COUNT: usize = 26;
}

/// Columns of tq_result, from 1.
pub mod rcol {
    pub const ID: usize = 1;
    pub const HANDLER: usize = 2;
    pub const STATE: usize = 3;
    pub const PRIORITY: usize = 4;
    pub const ATTEMPTS: usize = 5;
    pub const CRASHES: usize = 6;
    pub const CREATED_AT: usize = 7;
    pub const RUN_AT: usize = 8;
    pub const STARTED_AT: usize = 9;
    pub const FINISHED_AT: usize = 10;
    pub const ARGS: usize = 11;
    pub const RESULT: usize = 12;
    pub const ERROR: usize = 13;
    pub const NAME: usize = 14;
    pub const GROUP_ID: usize = 15;
    pub const QUEUE: usize = 16;
    pub const UNIQUE_KEY: usize = 17;
    pub const LOCK_KEY: usize = 18;
    pub const LIMIT_KEY: usize = 19;
    pub const PARENT_ID: usize = 20;
    pub const SCHEDULE: usize = 21;
    pub const SCHEDULED_FOR: usize = 22;
    pub const EXPIRES_AT: usize = 23;
    pub const ENQUEUED_BY: usize = 24;
    pub const BY_SUPERUSER: usize = 25;
    pub const OPTIONS: usize = 26;
    pub const META: usize = 27;
    pub const HISTORY: usize = 28;
}

/// Columns of the pick index.
pub const PICK_INDEX: [i16; 4] = [col::STATE as i16, -(col::PRIORITY as i16), col::RUN_AT as i16, col::ID as i16];

/// Columns of the index of what rows wait for.
pub const WAITS_INDEX: [i16; 4] = [col::WAITS_FOR as i16, -(col::PRIORITY as i16), col::RUN_AT as i16, col::ID as i16];

/// A UUID as people write it.
pub fn uuid_text(id: u128) -> String {
    uuid::Uuid::from_u128(id).hyphenated().to_string()
}

/// A new id, version 7: ordered by time, unique across tenants and servers.
pub fn new_id() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

/// The id of the task that a fan-out has in one tenant: the same whoever computes it.
pub fn fan_id(fanout: u128, tenant: &str) -> u128 {
    // FNV-1a, then mixed: names that differ in one letter are far apart.
    let mut h = tenant.bytes().fold(fanout ^ 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D, |h, b| {
        (h ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B)
    });
    h = (h ^ (h >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A076_1D64_78BD_642F);
    h ^= h >> 61;
    (fanout >> 80 << 80) | (0x7 << 76) | ((h >> 100 & 0xFFF) << 64) | (0b10 << 62) | (h & 0x3FFF_FFFF_FFFF_FFFF)
}

/// The id of the task that serves one fire time of one schedule: the same whoever computes it.
pub fn fire_id(schedule: u128, fire_time_micros_2000: i64) -> u128 {
    const EPOCH_2000_MS: i64 = 946_684_800_000;
    let ms = (fire_time_micros_2000.div_euclid(1000) + EPOCH_2000_MS).max(0) as u128 & 0xFFFF_FFFF_FFFF;
    // Any good mixing will do: the schedule's id is random already.
    let mut h = schedule ^ (fire_time_micros_2000 as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    h = (h ^ (h >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A076_1D64_78BD_642F);
    h ^= h >> 61;
    let random_a = (h >> 100) & 0xFFF;
    let random_b = h & 0x3FFF_FFFF_FFFF_FFFF;
    (ms << 80) | (0x7 << 76) | (random_a << 64) | (0b10 << 62) | random_b
}

/// What the counters want to know of the attempt that this row stands before.
pub fn counted(row: &Row) -> Counted<'_> {
    Counted {
        id: row.uuid(col::ID).unwrap_or(0),
        handler: row.str(col::HANDLER).unwrap_or(""),
        attempt: row.i32(col::ATTEMPTS).unwrap_or(0) + 1,
        schedule: row.str(col::SCHEDULE).unwrap_or(""),
        run_at: row.time(col::RUN_AT),
    }
}
