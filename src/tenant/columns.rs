//! Our tables and their indexes, by name: the mirror of sql/*.sql. Columns are appended there, never inserted.

use crate::postgres::column::{Bool, Index, Int2, Int4, Int8, Interval, Json, Kept, Oid, Text, Texts, Time, Uuid, tables};
use crate::pure::state::{Ended, FanoutCause, FanoutKind, FanoutState, Stored};

tables! {
    /// Unfinished tasks of a tenant (sql/tenant_tables.sql).
    Tasks {
        ID: Uuid,
        HANDLER: Text,
        STATE: Kept<Stored>,
        PRIORITY: Int2,
        ATTEMPTS: Int4,
        CRASHES: Int4,
        CREATED_AT: Time,
        RUN_AT: Time,
        ARGS: Json,
        NAME: Text,
        GROUP_ID: Text,
        QUEUE: Text,
        UNIQUE_KEY: Text,
        LOCK_KEY: Text,
        LIMIT_KEY: Text,
        PARENT_ID: Uuid,
        WAITS: Int4,
        SCHEDULE: Text,
        SCHEDULED_FOR: Time,
        EXPIRES_AT: Time,
        ENQUEUED_BY: Text,
        BY_SUPERUSER: Bool,
        OPTIONS: Json,
        META: Json,
        HISTORY: Json,
        WAITS_FOR: Uuid,
    }
    /// Finished tasks of a tenant (sql/tenant_tables.sql).
    Results {
        ID: Uuid,
        HANDLER: Text,
        STATE: Kept<Ended>,
        PRIORITY: Int2,
        ATTEMPTS: Int4,
        CRASHES: Int4,
        CREATED_AT: Time,
        RUN_AT: Time,
        STARTED_AT: Time,
        FINISHED_AT: Time,
        ARGS: Json,
        RESULT: Json,
        ERROR: Json,
        NAME: Text,
        GROUP_ID: Text,
        QUEUE: Text,
        UNIQUE_KEY: Text,
        LOCK_KEY: Text,
        LIMIT_KEY: Text,
        PARENT_ID: Uuid,
        SCHEDULE: Text,
        SCHEDULED_FOR: Time,
        EXPIRES_AT: Time,
        ENQUEUED_BY: Text,
        BY_SUPERUSER: Bool,
        OPTIONS: Json,
        META: Json,
        HISTORY: Json,
    }
    /// Schedules of a tenant (sql/tenant_tables.sql), and `tenant_q.schedule_all`, those that all tenants have.
    Schedules {
        NAME: Text,
        ID: Uuid,
        HANDLER: Text,
        RULE: Text,
        TZ: Text,
        ARGS: Json,
        NEXT_RUN: Time,
        ENABLED: Bool,
        ANCHOR: Time,
        START_AT: Time,
        UNTIL: Time,
        REPEATS: Int4,
        CATCH_UP: Text,
        CATCH_UP_LIMIT: Int4,
        DEADLINE: Interval,
        OVERLAP: Text,
        JITTER: Interval,
        MONTH_END: Text,
        DAY_AND: Bool,
        TIME_ARG: Text,
        TASK: Json,
        OPTIONS: Json,
        TAGS: Texts,
        DESCRIPTION: Text,
        CREATED_BY: Text,
        BY_SUPERUSER: Bool,
        CREATED_AT: Time,
        LAST_RUN: Time,
        LAST_TASK: Uuid,
        RUN_COUNT: Int8,
        PROBLEM: Text,
        FAIL_COUNT: Int8,
        STATE: Json,
    }
    /// `tenant_q.tenant` (sql/registry.sql).
    Tenants {
        NAME: Text,
        SCHEMA_OID: Oid,
        READY: Bool,
        TIMEZONE: Text,
        SHARED_SCHEMAS: Texts,
        SETTINGS: Json,
        SAVE_LIMIT: Int4,
        SAVE_LIMIT_PER: Text,
        RESULT_TTL: Interval,
        FAILURE_TTL: Interval,
        WEIGHT: Int4,
        MAX_RUNNING: Int4,
        MAX_QUEUED: Int4,
        RATE: Text,
        FAN_OUT: Bool,
        SUSPENDED: Text,
        SUSPENDED_AT: Time,
        ATTACHED_BY: Text,
        ATTACHED_AT: Time,
        OWNER: Oid,
        OWNER_NAME: Text,
        TRUSTED: Bool,
    }
    /// `tenant_q.handler`.
    Handlers {
        TENANT: Text,
        NAME: Text,
        FUNCTION: Text,
        IDENTITY: Text,
        OWNER: Text,
        RUN_AS: Text,
        QUEUE: Text,
        PRIORITY: Int4,
        TIMEOUT: Interval,
        MAX_ATTEMPTS: Int4,
        RETRY: Json,
        EXPIRES: Interval,
        MAX_RUNNING: Int4,
        RATE: Text,
        SETTINGS: Json,
        SAVE: Bool,
        RESULT_TTL: Interval,
        ALIASES: Texts,
        EXTERNAL: Bool,
        MISSING_SINCE: Time,
        QUARANTINED: Time,
        CRASHES: Json,
        REGISTERED_BY: Text,
        REGISTERED_AT: Time,
    }
    /// `tenant_q.handler_state`.
    HandlerStates {
        TENANT: Text,
        NAME: Text,
        MISSING_SINCE: Time,
        QUARANTINED: Time,
        CRASHES: Json,
    }
    /// `tenant_q.handler_role`.
    HandlerRoles {
        TENANT: Text,
        NAME: Text,
        OWNER: Oid,
        RUN_AS: Oid,
    }
    /// `tenant_q.pause`.
    Pauses {
        TENANT: Text,
        QUEUE: Text,
        HANDLER: Text,
        UNTIL: Time,
        SINCE: Time,
        BY_ROLE: Text,
    }
    /// `tenant_q.queue`.
    Queues {
        TENANT: Text,
        NAME: Text,
        MAX_RUNNING: Int4,
        RATE: Text,
        PRIORITY: Int4,
        TIMEOUT: Interval,
        MAX_ATTEMPTS: Int4,
        PICK: Text,
    }
    /// `tenant_q.limit_key`.
    LimitKeys {
        TENANT: Text,
        KEY: Text,
        MAX_RUNNING: Int4,
        RATE: Text,
        ALGORITHM: Text,
    }
    /// `tenant_q.secret`: one row.
    Secrets {
        ID: Int2,
        FIRST: Uuid,
        SECOND: Uuid,
    }
    /// `tenant_q.listener` (sql/events.sql).
    EventListeners {
        TENANT: Text,
        EVENT: Text,
        HANDLER: Text,
        FOR_HANDLER: Text,
        ID: Uuid,
        BY_SUPERUSER: Bool,
        CREATED_BY: Text,
        CREATED_AT: Time,
    }
    /// `tenant_q.table_listener` (sql/tables.sql).
    TableListeners {
        ID: Uuid,
        TENANT: Text,
        RELATION: Text,
        RELATION_OID: Oid,
        OWNER: Text,
        HANDLER: Text,
        EVENTS: Texts,
        EACH: Text,
        ONLY_IF: Text,
        TASK: Json,
        BY_SUPERUSER: Bool,
        CREATED_BY: Text,
        CREATED_AT: Time,
    }
    /// `tenant_q.fanout` (sql/fanout.sql).
    Fanouts {
        ID: Uuid,
        KIND: Kept<FanoutKind>,
        NAME: Text,
        FIRE_TIME: Time,
        HANDLER: Text,
        ARGS: Json,
        TASK: Json,
        TENANTS: Texts,
        STAGGER: Interval,
        CREATED_BY: Text,
        BY_SUPERUSER: Bool,
        CREATED_AT: Time,
        SERVED_TO: Text,
        SPREAD_AGAIN: Time,
    }
    /// `tenant_q.fanout_tenant`: what became of a fan-out in each tenant.
    FanoutTenants {
        FANOUT: Uuid,
        TENANT: Text,
        STATE: Kept<FanoutState>,
        TASK: Uuid,
        REASON: Text,
        FINISHED_AT: Time,
        CAUSE: Kept<FanoutCause>,
    }
}

impl Tasks {
    pub const BY_ID: Index<Tasks> = Index(&[Tasks::ID.up()]);
    /// In the order of picking.
    pub const PICK: Index<Tasks> = Index(&[Tasks::STATE.up(), Tasks::PRIORITY.down(), Tasks::RUN_AT.up(), Tasks::ID.up()]);
    /// What rows wait for.
    pub const WAITING: Index<Tasks> = Index(&[Tasks::WAITS_FOR.up(), Tasks::PRIORITY.down(), Tasks::RUN_AT.up(), Tasks::ID.up()]);
    pub const BY_NAME: Index<Tasks> = Index(&[Tasks::NAME.up()]);
    pub const BY_GROUP: Index<Tasks> = Index(&[Tasks::GROUP_ID.up()]);
}

#[allow(dead_code, reason = "all indexes of a table stand here")]
impl Results {
    pub const BY_ID: Index<Results> = Index(&[Results::ID.up()]);
    pub const BY_NAME: Index<Results> = Index(&[Results::NAME.up()]);
    pub const BY_GROUP: Index<Results> = Index(&[Results::GROUP_ID.up()]);
    // Not every table has these: see Table::has and shape.rs.
    pub const BY_END: Index<Results> = Index(&[Results::FINISHED_AT.up()]);
    /// Those that are not done.
    pub const BY_STATE: Index<Results> = Index(&[Results::STATE.up(), Results::FINISHED_AT.up()]);
    pub const BY_SCHEDULE: Index<Results> = Index(&[Results::SCHEDULE.up(), Results::FINISHED_AT.up()]);
}

impl Schedules {
    pub const BY_NAME: Index<Schedules> = Index(&[Schedules::NAME.up()]);
    pub const DUE: Index<Schedules> = Index(&[Schedules::NEXT_RUN.up()]);
}

impl Tenants {
    pub const BY_NAME: Index<Tenants> = Index(&[Tenants::NAME.up()]);
    pub const BY_SCHEMA: Index<Tenants> = Index(&[Tenants::SCHEMA_OID.up()]);
}

impl Handlers {
    pub const BY_NAME: Index<Handlers> = Index(&[Handlers::TENANT.up(), Handlers::NAME.up()]);
}

impl HandlerStates {
    pub const BY_NAME: Index<HandlerStates> = Index(&[HandlerStates::TENANT.up(), HandlerStates::NAME.up()]);
}

impl HandlerRoles {
    pub const BY_NAME: Index<HandlerRoles> = Index(&[HandlerRoles::TENANT.up(), HandlerRoles::NAME.up()]);
}

impl Pauses {
    pub const BY_WHAT: Index<Pauses> = Index(&[Pauses::TENANT.up(), Pauses::QUEUE.up(), Pauses::HANDLER.up()]);
}

impl Queues {
    pub const BY_NAME: Index<Queues> = Index(&[Queues::TENANT.up(), Queues::NAME.up()]);
}

impl LimitKeys {
    pub const BY_KEY: Index<LimitKeys> = Index(&[LimitKeys::TENANT.up(), LimitKeys::KEY.up()]);
}

impl EventListeners {
    pub const ALL: Index<EventListeners> =
        Index(&[EventListeners::TENANT.up(), EventListeners::EVENT.up(), EventListeners::HANDLER.up(), EventListeners::FOR_HANDLER.up()]);
}

impl Fanouts {
    pub const OPEN: Index<Fanouts> = Index(&[Fanouts::SPREAD_AGAIN.up(), Fanouts::ID.up()]);
}

impl FanoutTenants {
    pub const BY_FANOUT: Index<FanoutTenants> = Index(&[FanoutTenants::FANOUT.up(), FanoutTenants::TENANT.up()]);
}
