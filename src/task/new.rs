//! A task to be, as its parameters say; parsed from an object, and checked.

use crate::postgres::call::parameters;
use crate::postgres::clock;
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::pure::choice::{DependsMode, Named, OnConflict, Said, UniqueUntil};
use crate::pure::ids::Id;
use crate::pure::nearest::nearest;
use crate::pure::period::Period;
use crate::pure::time::{At, Span};
use crate::settings;
use crate::task::options::{Asked, Options};
use crate::tenant::Tenant;
use serde_json::Value as Json;

/// What tq_async's parameters say; None = inherit.
#[derive(Default, Clone)]
pub struct NewTask {
    pub handler: String,
    pub args: Option<Jsonb>,
    pub name: Option<String>,
    pub group_id: Option<String>,
    pub queue: Option<String>,
    pub priority: Option<i32>,
    pub run_at: Option<At>,
    pub delay: Option<Period>,
    pub timeout: Option<Span>,
    pub max_attempts: Option<i32>,
    pub retry: Option<Json>,
    pub expires: Option<Period>,
    pub save: Option<bool>,
    pub result_ttl: Option<Period>,
    pub meta: Option<Json>,
    pub id: Option<Id>,
    /// It runs at once, in the caller's session.
    pub sync: bool,
    /// One at a time of this key; at most as many as tq_set_limit says of this one.
    pub lock: Option<String>,
    pub limit_key: Option<String>,
    pub unique_key: Option<String>,
    pub unique_until: Option<UniqueUntil>,
    pub on_conflict: Option<OnConflict>,
    pub depends_on: Vec<Id>,
    pub depends_mode: Option<DependsMode>,
    pub allow_failure: Option<bool>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    pub hook: Option<String>,
    /// The flow that it is a member of, and how it waits there.
    pub parent: Option<Id>,
    pub waits_for: Option<Id>,
    /// Gets the result of this task as its last argument.
    pub pass: Option<Id>,
    /// Not before so long after the end of what it waits for: of a later step of a chain.
    pub delay_after: Option<Period>,
    /// Its args are many: the handler is called once for each.
    pub each: bool,
    /// Set by schedules.
    pub schedule: Option<String>,
    pub scheduled_for: Option<At>,
    /// Not beside another task of its schedule.
    pub alone: bool,
    /// A condition that is asked when it is about to run: where it isn't true the task ends without.
    pub only_if: Option<String>,
    /// Set by fan-outs: the one it belongs to.
    pub fanout: Option<Id>,
    /// Set by tables' listeners: it stands for all of this key that are there when it begins.
    pub stands_for: Option<String>,
    /// Whoever listens to tasks being enqueued has been asked about it, and need not be asked at its start.
    pub asked: bool,
}

/// Nothing is put off beyond the year 9999, where RFC 3339 ends.
pub const TIME_MAX: At = At::of_micros(252_455_616_000_000_000);

/// Longest text of a label.
const LABEL: usize = 1024;

fn check_label(what: &str, text: &Option<String>) -> Result<()> {
    match text {
        Some(t) if t.is_empty() => Err(Error::invalid(format!("{what} is empty")).hint(format!("Leave {what} out, or pass NULL."))),
        Some(t) if t.len() > LABEL => Err(Error::limit(format!("{what} is longer than {LABEL} bytes"))),
        _ => Ok(()),
    }
}

impl NewTask {
    /// From when on it may run, if it is made now.
    pub fn due(&self, tenant: &Tenant, now: At) -> At {
        self.run_at.or(self.delay.map(|delay| tenant.after(now, delay).min(TIME_MAX))).unwrap_or(now)
    }

    /// What can be said without looking at the handler.
    pub fn check(&self) -> Result<()> {
        self.check_size()?;
        self.check_but_for_size()
    }

    /// What it is given is not too large.
    fn check_size(&self) -> Result<()> {
        if let Some(args) = &self.args
            && args.size() > settings::max_args_bytes()
        {
            return Err(Error::limit(format!("args take {} bytes", args.size()))
                .detail(format!("tenant_q.max_args allows {} bytes.", settings::max_args_bytes()))
                .hint("Store the data in a table and pass its key."));
        }
        if let Some(meta) = &self.meta {
            let bytes = meta.to_string().len();
            if bytes > settings::max_args_bytes() {
                return Err(Error::limit(format!("meta takes {bytes} bytes"))
                    .detail(format!("tenant_q.max_args allows {} bytes.", settings::max_args_bytes()))
                    .hint("Store the data in a table and pass its key."));
            }
        }
        Ok(())
    }

    /// The rest. What the engine gives to a task is as large as it is.
    pub fn check_but_for_size(&self) -> Result<()> {
        check_label("name", &self.name)?;
        check_label("group_id", &self.group_id)?;
        check_label("queue", &self.queue)?;
        check_label("lock", &self.lock)?;
        check_label("limit_key", &self.limit_key)?;
        check_label("unique_key", &self.unique_key)?;
        if self.unique_key.is_none() && (self.unique_until.is_some() || self.on_conflict.is_some()) {
            return Err(Error::invalid("unique_until and on_conflict need a unique_key"));
        }
        if self.depends_mode.is_some() && self.depends_on.is_empty() {
            return Err(Error::invalid("depends_mode needs depends_on"));
        }
        if let Some(p) = self.priority
            && i16::try_from(p).is_err()
        {
            return Err(Error::invalid(format!("priority {p} is out of range")).hint("Priorities go from -32768 to 32767, higher first."));
        }
        if self.run_at.is_some() && self.delay.is_some() {
            return Err(Error::invalid("run_at and delay exclude each other"));
        }
        for (what, value) in [("delay", self.delay), ("expires", self.expires), ("result_ttl", self.result_ttl)] {
            if value.is_some_and(Period::is_negative) {
                return Err(Error::invalid(format!("{what} is negative")).hint(format!("Pass {what} as a positive interval.")));
            }
        }
        if self.timeout.is_some_and(Span::is_negative) {
            return Err(Error::invalid("timeout is negative").hint("0 means no timeout."));
        }
        if self.run_at.is_some_and(At::is_infinite) {
            return Err(Error::invalid("run_at is infinite"));
        }
        if self.max_attempts.is_some_and(|n| n < 0) {
            return Err(Error::invalid("max_attempts is negative").hint("0 means for ever."));
        }
        if let Some(retry) = &self.retry {
            crate::handler::check_retry(retry)?;
        }
        let now = clock::now();
        for (what, at) in [
            ("run_at", self.run_at),
            ("delay", self.delay.map(|d| now.saturating_add(d.span()))),
            ("timeout", self.timeout.map(|t| now.saturating_add(t))),
            ("expires", self.expires.map(|e| now.saturating_add(e.span()))),
        ] {
            if at.is_some_and(|t| t >= TIME_MAX) {
                return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} points beyond the year 9999")));
            }
        }
        if let Some(id) = self.id
            && id == Id::NIL
        {
            return Err(Error::invalid("the nil uuid cannot be a task's id"));
        }
        Ok(())
    }

    /// Where a task is made that runs later or in somebody else's transaction.
    pub fn refuse_sync(&self, whose: &str) -> Result<()> {
        match self.sync {
            false => Ok(()),
            true => Err(Error::invalid(format!("sync makes no sense for tasks of {whose}"))
                .detail("It runs a task at once, in the session and transaction of whoever enqueues it.")
                .hint("Leave sync out; tq_drain() and tq_run_pending() run what is due in your own session.")),
        }
    }

    /// The rare parameters, as its row keeps them.
    pub fn options(&self) -> Options {
        Options {
            delay: self.delay_after,
            expires: self.expires,
            timeout: self.timeout,
            max_attempts: self.max_attempts,
            retry: self.retry.clone(),
            save: self.save,
            result_ttl: self.result_ttl,
            alone: self.alone,
            unique_until: self.unique_until.filter(|until| *until != UniqueUntil::default()).map(Said::Known),
            on_success: self.on_success.clone(),
            on_failure: self.on_failure.clone(),
            hook: self.hook.clone(),
            depends: self.depends_on.clone(),
            any: self.depends_mode == Some(DependsMode::Any),
            allow_failure: self.allow_failure == Some(true),
            pass: self.pass,
            each: self.each,
            only_if: self.only_if.clone(),
            fanout: self.fanout,
            stands_for: self.stands_for.clone(),
            asked: self.asked.then_some(Asked::All),
            ..Options::default()
        }
    }
}

/// What the session says that its tasks are about.
pub(crate) fn default_meta() -> Result<Option<Json>> {
    let text = settings::meta();
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).map_err(|e| {
        Error::invalid("tenant_q.meta is not a JSON document")
            .detail(format!("{e}."))
            .hint("SET LOCAL tenant_q.meta = '{\"request\": 42}';")
    })
}

parameters! {
    /// Of tq_async; also the keys of a task object.
    TqAsync of tq_async {
        HANDLER,
        ARGS,
        NAME,
        GROUP_ID,
        QUEUE,
        PRIORITY,
        RUN_AT,
        DELAY,
        TIMEOUT,
        MAX_ATTEMPTS,
        RETRY,
        EXPIRES,
        LOCK,
        LIMIT_KEY,
        UNIQUE_KEY,
        UNIQUE_UNTIL,
        ON_CONFLICT,
        DEPENDS_ON,
        DEPENDS_MODE,
        ALLOW_FAILURE,
        ON_SUCCESS,
        ON_FAILURE,
        HOOK,
        SAVE,
        RESULT_TTL,
        META,
        ID,
        SYNC,
        TENANT,
    }
}

/// A task object: a document whose keys are exactly tq_async's parameters.
pub fn task_object(object: &Json) -> Result<NewTask> {
    let Json::Object(map) = object else {
        return Err(Error::invalid("a task is not an object").hint("Write it as {\"handler\": \"…\", \"args\": {…}}."));
    };
    let mut new = NewTask::default();
    for (key, value) in map {
        if value.is_null() && key != "args" {
            continue;
        }
        let wrong = |expected: &str| Error::invalid(format!("task key \"{key}\" is not {expected}"));
        let text = || value.as_str().map(str::to_string).ok_or_else(|| wrong("a text"));
        let int = || value.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| wrong("an integer"));
        let interval = || {
            value
                .as_str()
                .and_then(crate::postgres::interval::parse_period)
                .ok_or_else(|| wrong("an interval").hint("Write it as a text: \"5 minutes\"."))
        };
        match key.as_str() {
            "handler" => new.handler = text()?,
            "args" => new.args = Some(Jsonb::of(value)),
            "name" => new.name = Some(text()?),
            "group_id" => new.group_id = Some(text()?),
            "queue" => new.queue = Some(text()?),
            "priority" => new.priority = Some(int()?),
            "run_at" => {
                new.run_at = Some(
                    value
                        .as_str()
                        .and_then(crate::postgres::types::parse_time)
                        .ok_or_else(|| wrong("a timestamp").hint("Write it as a text: \"2030-01-31 12:00+00\"."))?,
                )
            }
            "delay" => new.delay = Some(interval()?),
            "timeout" => new.timeout = Some(interval()?.span()),
            "max_attempts" => new.max_attempts = Some(int()?),
            "retry" => new.retry = Some(value.clone()),
            "expires" => new.expires = Some(interval()?),
            "save" => new.save = Some(value.as_bool().ok_or_else(|| wrong("a boolean"))?),
            "result_ttl" => new.result_ttl = Some(interval()?),
            "meta" => new.meta = Some(value.clone()),
            "lock" => new.lock = Some(text()?),
            "limit_key" => new.limit_key = Some(text()?),
            "unique_key" => new.unique_key = Some(text()?),
            "unique_until" => new.unique_until = Some(Named::one_of(key, &text()?)?),
            "on_conflict" => new.on_conflict = Some(Named::one_of(key, &text()?)?),
            "depends_mode" => new.depends_mode = Some(Named::one_of(key, &text()?)?),
            "allow_failure" => new.allow_failure = Some(value.as_bool().ok_or_else(|| wrong("a boolean"))?),
            "on_success" => new.on_success = Some(text()?),
            "on_failure" => new.on_failure = Some(text()?),
            "hook" => new.hook = Some(text()?),
            "depends_on" => {
                let ids = value.as_array().and_then(|a| a.iter().map(|v| Id::parse(v.as_str()?)).collect::<Option<Vec<_>>>());
                new.depends_on = ids.ok_or_else(|| wrong("an array of uuids"))?;
            }
            "id" => new.id = Some(value.as_str().and_then(Id::parse).ok_or_else(|| wrong("a uuid"))?),
            "sync" => new.sync = value.as_bool().ok_or_else(|| wrong("a boolean"))?,
            "tenant" => {
                return Err(Error::invalid("task key \"tenant\" is of the whole call").hint("Pass it beside the tasks: tenant => '…'."));
            }
            "group" | "chain" | "iter" => {
                return Err(Error::invalid(format!("task key \"{key}\" is of flows"))
                    .hint("tq_group and tq_chain make flows, whose members may be flows."));
            }
            other => {
                let error = Error::invalid(format!("task key \"{other}\" is not known"));
                return Err(match nearest(other, TqAsync::NAMES.iter().copied()) {
                    Some(near) => error.detail(format!("The nearest key is \"{near}\".")),
                    None => error.detail("The keys are tq_async's parameters."),
                });
            }
        }
    }
    Ok(new)
}
