//! Every reason why a task that is there may not run, a line each, with what says so: tq_health, tq_problems, tq_tenants,
//! tq_metrics, and tq_why for all of them. The table in docs/operations.md is this one.

/// Why tasks don't run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotPreloaded,
    Version,
    Standby,
    Disabled,
    Launcher,
    Copy,
    Excluded,
    NotServed,
    WorkerSlots,
    PausedAll,
    NoSchema,
    Restored,
    Suspended,
    NotReady,
    Paused,
    PausedPart,
    Tables,
    Locked,
    Blocked,
    Role,
    Starts,
    NoneAllowed,
    NoPlace,
    NoWorker,
    Limit,
    Rate,
    Handler,
    Listener,
    Waits,
    Gone,
    Delayed,
    Retrying,
    Held,
    Next,
    Busy,
    Queued,
}

/// Whose tasks a reason keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// All of this database: tenant_q_up is 0.
    Everything,
    /// All of a tenant: it is its status.
    Tenant,
    /// Some of them: of a queue, a handler or a role.
    Part,
    /// Those that it is said of, for as long as it takes: nothing is to be mended.
    Task,
}

/// What is said of a reason.
pub struct Told {
    pub reason: Reason,
    /// What tq_why calls it; and tq_tenants.status, and tq_metrics.
    pub word: &'static str,
    pub keeps: Keeps,
    /// The row of tq_health that says so.
    pub check: Option<&'static str>,
    /// tq_problems has a row for it.
    pub is_problem: bool,
}

const fn told(reason: Reason, word: &'static str, keeps: Keeps, check: Option<&'static str>, is_problem: bool) -> Told {
    Told { reason, word, keeps, check, is_problem }
}

/// From the outside in: what comes first must end first.
pub const TABLE: [Told; 36] = [
    told(Reason::NotPreloaded, "not_preloaded", Keeps::Everything, Some("preloaded"), true),
    told(Reason::Version, "version", Keeps::Everything, Some("version"), true),
    // As it should be there.
    told(Reason::Standby, "standby", Keeps::Everything, Some("database"), false),
    told(Reason::Disabled, "disabled", Keeps::Everything, Some("enabled"), true),
    told(Reason::Launcher, "launcher", Keeps::Everything, Some("launcher"), true),
    told(Reason::Copy, "copy", Keeps::Everything, Some("database"), true),
    told(Reason::Excluded, "excluded", Keeps::Everything, Some("database"), true),
    told(Reason::NotServed, "not_served", Keeps::Everything, Some("database"), true),
    told(Reason::WorkerSlots, "worker_slots", Keeps::Everything, Some("worker_slots"), true),
    told(Reason::PausedAll, "paused", Keeps::Everything, Some("pauses"), true),
    told(Reason::NoSchema, "no_schema", Keeps::Tenant, None, true),
    told(Reason::Restored, "copy", Keeps::Tenant, Some("database"), true),
    told(Reason::Suspended, "suspended", Keeps::Tenant, None, true),
    told(Reason::NotReady, "not_ready", Keeps::Tenant, Some("pauses"), true),
    told(Reason::Paused, "paused", Keeps::Tenant, Some("pauses"), true),
    told(Reason::PausedPart, "paused", Keeps::Part, Some("pauses"), true),
    told(Reason::Tables, "tables", Keeps::Tenant, None, true),
    told(Reason::Locked, "locked", Keeps::Tenant, None, true),
    told(Reason::Blocked, "blocked", Keeps::Tenant, None, true),
    told(Reason::Role, "role", Keeps::Tenant, Some("roles"), true),
    told(Reason::Starts, "role", Keeps::Part, Some("roles"), true),
    told(Reason::NoneAllowed, "limit", Keeps::Tenant, None, true),
    // Sweeps find its tasks.
    told(Reason::NoPlace, "no_place", Keeps::Part, Some("shared_memory"), true),
    told(Reason::NoWorker, "no_worker", Keeps::Part, Some("workers"), true),
    told(Reason::Limit, "limit", Keeps::Task, None, false),
    told(Reason::Rate, "rate", Keeps::Task, None, false),
    told(Reason::Handler, "handler", Keeps::Part, None, true),
    told(Reason::Listener, "listener", Keeps::Task, None, false),
    told(Reason::Waits, "waits", Keeps::Task, None, false),
    told(Reason::Gone, "gone", Keeps::Task, None, false),
    told(Reason::Delayed, "delayed", Keeps::Task, None, false),
    told(Reason::Retrying, "retrying", Keeps::Task, None, false),
    told(Reason::Held, "held", Keeps::Task, None, true),
    told(Reason::Next, "next", Keeps::Task, None, false),
    told(Reason::Busy, "busy", Keeps::Task, Some("places"), true),
    told(Reason::Queued, "queued", Keeps::Task, None, false),
];

// Each stands in its reason's place.
const _: () = {
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].reason as usize == at);
        at += 1;
    }
};

impl Reason {
    pub fn told(self) -> &'static Told {
        &TABLE[self as usize]
    }
    pub fn word(self) -> &'static str {
        self.told().word
    }
    pub fn keeps(self) -> Keeps {
        self.told().keeps
    }
}
