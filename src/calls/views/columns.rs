//! Places of a task's columns in tenant_q.unfinished_task and tenant_q.finished_task, from 0.

macro_rules! places {
    ($($name:ident,)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the places, counted by the compiler")]
        enum Place { $($name),* }
        $(#[allow(dead_code, reason = "all columns stand here")] pub const $name: usize = Place::$name as usize;)*
    };
}

places! {
    ID,
    TENANT,
    HANDLER,
    NAME,
    STATE,
    REASON,
    ARGS,
    RESULT,
    ERROR,
    ATTEMPT,
    MAX_ATTEMPTS,
    QUEUE,
    PRIORITY,
    GROUP_ID,
    PARENT_ID,
    SCHEDULE,
    SCHEDULED_FOR,
    CREATED_AT,
    RUN_AT,
    STARTED_AT,
    FINISHED_AT,
    ENQUEUED_BY,
    META,
}
