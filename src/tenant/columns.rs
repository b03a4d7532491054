//! Columns of a tenant's three tables, by position: the mirror of sql/tenant_tables.sql.

/// Columns of tq_schedule (sql/tenant_tables.sql).
pub mod scol {
    pub const NAME: usize = 1;
    pub const ID: usize = 2;
    pub const HANDLER: usize = 3;
    pub const RULE: usize = 4;
    pub const TZ: usize = 5;
    pub const ARGS: usize = 6;
    pub const NEXT_RUN: usize = 7;
    pub const ENABLED: usize = 8;
    pub const ANCHOR: usize = 9;
    pub const START_AT: usize = 10;
    pub const UNTIL: usize = 11;
    pub const REPEATS: usize = 12;
    pub const CATCH_UP: usize = 13;
    pub const CATCH_UP_LIMIT: usize = 14;
    pub const DEADLINE: usize = 15;
    pub const OVERLAP: usize = 16;
    pub const JITTER: usize = 17;
    pub const MONTH_END: usize = 18;
    pub const DAY_AND: usize = 19;
    pub const TIME_ARG: usize = 20;
    pub const TASK: usize = 21;
    pub const OPTIONS: usize = 22;
    pub const TAGS: usize = 23;
    pub const DESCRIPTION: usize = 24;
    pub const CREATED_BY: usize = 25;
    pub const BY_SUPERUSER: usize = 26;
    pub const CREATED_AT: usize = 27;
    pub const LAST_RUN: usize = 28;
    pub const LAST_TASK: usize = 29;
    pub const RUN_COUNT: usize = 30;
    pub const PROBLEM: usize = 31;
    pub const FAIL_COUNT: usize = 32;
    pub const STATE: usize = 33;
    pub const COUNT: usize = 33;
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
    #[expect(dead_code, reason = "all columns of the table stand here")]
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
