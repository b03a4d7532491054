-- The tables of one tenant. Run by tq_attach as the schema's owner, with {s} the quoted schema;
-- and once by CREATE EXTENSION in the schema tenant_q, as the template that tables are compared with.
--
-- Built-in types only and no default that needs the extension: pg_dump -n restores them anywhere.
-- src/tenant/columns.rs names the columns in this order: append, never insert.

-- Unfinished tasks. A finished one leaves, so the table stays small for ever.
-- state: q to be run at run_at , w waits on other tasks , h held (handler gone or paused) , x a note: its result says quarantined
--      , k waits for a busy key or a limit , u finished, keeps its unique_key until its result goes
--      , t as q, but its queue takes turns with others , l a link: what another task (its name says which) knows of one that
--      it depends on: waits_for while that is unfinished, or its result says how it ended; else options say it
-- waits_for: the task (w) or the gate (k) whose end lets this one be looked at again; the queue (t). waits: members
-- of a flow that are not final yet.
CREATE TABLE {s}.tq_task (
    id            uuid        NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    handler       text        NOT NULL,
    state         "char"      NOT NULL DEFAULT 'q',
    priority      smallint    NOT NULL DEFAULT 0,
    attempts      integer     NOT NULL DEFAULT 0,
    crashes       integer     NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    run_at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    args          jsonb,
    name          text,
    group_id      text,
    queue         text,
    unique_key    text,
    lock_key      text,
    limit_key     text,
    parent_id     uuid,
    waits         integer,
    schedule      text,
    scheduled_for timestamptz,
    expires_at    timestamptz,
    enqueued_by   text,
    by_superuser  boolean,
    options       jsonb,
    meta          jsonb,
    history       jsonb,
    waits_for     uuid,
    CONSTRAINT tq_task_pkey PRIMARY KEY (id)
) WITH (fillfactor = 90, vacuum_truncate = off,
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
        autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 5000);
-- The order of picking. Waiting and held rows are in it too, in runs of their own.
CREATE INDEX tq_task_pick ON {s}.tq_task (state, priority DESC, run_at, id);
CREATE UNIQUE INDEX tq_task_unique ON {s}.tq_task (unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX tq_task_waits ON {s}.tq_task (waits_for, priority DESC, run_at, id) WHERE waits_for IS NOT NULL;
CREATE INDEX tq_task_name ON {s}.tq_task (name) WHERE name IS NOT NULL;
CREATE INDEX tq_task_group ON {s}.tq_task (group_id) WHERE group_id IS NOT NULL;

-- Finished tasks, until retention takes them.
-- state: d done , f failed , c cancelled , e expired , x quarantined
CREATE TABLE {s}.tq_result (
    id            uuid        NOT NULL,
    handler       text        NOT NULL,
    state         "char"      NOT NULL,
    priority      smallint    NOT NULL,
    attempts      integer     NOT NULL,
    crashes       integer     NOT NULL,
    created_at    timestamptz NOT NULL,
    run_at        timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz NOT NULL,
    args          jsonb,
    result        jsonb,
    error         jsonb,
    name          text,
    group_id      text,
    queue         text,
    unique_key    text,
    lock_key      text,
    limit_key     text,
    parent_id     uuid,
    schedule      text,
    scheduled_for timestamptz,
    expires_at    timestamptz,
    enqueued_by   text,
    by_superuser  boolean,
    options       jsonb,
    meta          jsonb,
    history       jsonb,
    CONSTRAINT tq_result_pkey PRIMARY KEY (id)
) WITH (vacuum_truncate = off, autovacuum_vacuum_insert_scale_factor = 0.2);
CREATE INDEX tq_result_name ON {s}.tq_result (name) WHERE name IS NOT NULL;
CREATE INDEX tq_result_group ON {s}.tq_result (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX tq_result_finished ON {s}.tq_result (finished_at);
CREATE INDEX tq_result_state ON {s}.tq_result (state, finished_at) WHERE state OPERATOR(pg_catalog.<>) 'd';
CREATE INDEX tq_result_schedule ON {s}.tq_result (schedule, finished_at) WHERE schedule IS NOT NULL;

-- One row a schedule, with its next fire time; NULL = fires no more, or is disabled. options: the rare
-- parameters. state: the engine's own notes, such as which schedules wait for this one.
CREATE TABLE {s}.tq_schedule (
    name           text        NOT NULL,
    id             uuid        NOT NULL,
    handler        text        NOT NULL,
    rule           text        NOT NULL,
    tz             text,
    args           jsonb,
    next_run       timestamptz,
    enabled        boolean     NOT NULL,
    anchor         timestamptz NOT NULL,
    start_at       timestamptz,
    until          timestamptz,
    repeats        integer     NOT NULL,
    catch_up       text,
    catch_up_limit integer,
    deadline       interval,
    overlap        text,
    jitter         interval,
    month_end      text,
    day_and        boolean,
    time_arg       text,
    task           jsonb,
    options        jsonb,
    tags           text[],
    description    text,
    created_by     text,
    by_superuser   boolean     NOT NULL,
    created_at     timestamptz NOT NULL,
    last_run       timestamptz,
    last_task      uuid,
    run_count      bigint      NOT NULL,
    problem        text,
    fail_count     bigint      NOT NULL DEFAULT 0,
    state          jsonb,
    CONSTRAINT tq_schedule_pkey PRIMARY KEY (name)
) WITH (fillfactor = 70, vacuum_truncate = off,
        autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 200);
CREATE INDEX tq_schedule_due ON {s}.tq_schedule (next_run) WHERE next_run IS NOT NULL;
