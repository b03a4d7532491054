//! SQL: work outside of the server: tq_take, tq_finish and their kin, for workers in any language.
//!
//! A worker takes tasks through one session, its taker, and ends each in whichever session of its role it likes, in the transaction
//! that has its effects. The rules are in work/take.rs and work/finish.rs; this turns arguments into types.

use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::rows::{Row, row};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Documents;
use crate::postgres::{clock, latch, nonatomic, transaction};
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::Shared;
use crate::shared::claims::told as bits;
use crate::shared::takers::{Taker, news};
use crate::sql_functions;
use crate::task::options::Options;
use crate::tenant::columns::Tasks;
use crate::work::drain_take;
use crate::work::finish;
use crate::work::given;
use crate::work::own_session;
use crate::work::take::Taken;
use crate::work::taker::{self, Asked, Got, Slept};
use serde_json::Value as Json;
use std::time::Instant;

parameters! {
    TqTake of tq_take {
        N,
        HANDLERS,
        QUEUES,
        TENANTS,
        WAIT,
        WORKER,
    }
}

/// Names that a worker says, or none at all: an empty list is a mistake.
fn names(args: &Args, n: usize, what: &str) -> Result<Option<Vec<String>>> {
    match args.texts(n) {
        Some(list) if list.is_empty() => {
            Err(Error::invalid(format!("{what} is empty")).hint(format!("Leave {what} out to take any, or name some.")))
        }
        list => Ok(list),
    }
}

/// How long to wait: no longer than `tenant_q.max_wait` where a snapshot is held meanwhile.
fn wait(args: &Args, n: usize) -> Result<Span> {
    let wait = args.interval(n).unwrap_or_default();
    if wait.is_negative() {
        return Err(Error::invalid("wait is negative").hint("0 does not wait."));
    }
    Ok(wait)
}

fn require_no_block(call: &str) -> Result<()> {
    if transaction::is_in_block(true) {
        return Err(Error::new(SqlState::ACTIVE_SQL_TRANSACTION, format!("{call}() can't be called inside a transaction block"))
            .detail("What a worker has taken is known to other workers at once, and would outlive a rollback.")
            .hint(format!(
                "Call it in autocommit. In tests, inside of a transaction: SELECT * FROM tq_drain_take(); ({call} is for workers.)"
            )));
    }
    Ok(())
}

/// tq_take(n, handlers, queues, tenants, wait, worker)
fn take(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_take()");
    require_no_block("tq_take")?;
    let n = args.int(TqTake::N).unwrap_or(1);
    if !(1..=1000).contains(&n) {
        return Err(Error::invalid(format!("n is {n}")).hint("A worker takes 1 to 1000 tasks at a time: no more than it can do soon."));
    }
    let asked = Asked {
        handlers: names(args, TqTake::HANDLERS, "handlers")?,
        queues: names(args, TqTake::QUEUES, "queues")?,
        tenants: names(args, TqTake::TENANTS, "tenants")?,
    };
    let until = clock::steady() + wait(args, TqTake::WAIT)?.duration().min(settings::max_wait());
    let s = finish::shared()?;
    let name = args.text(TqTake::WORKER);
    loop {
        let is_over = clock::steady() >= until;
        let taken = match taker::take(&s, n as usize, &asked, name.as_deref())? {
            Got::Tasks(taken) => taken,
            Got::Full(failure) if is_over => return Err(failure.into()),
            Got::Full(_) => vec![],
        };
        if !taken.is_empty() || is_over {
            let rows = taken.iter().map(described).collect::<Result<Vec<_>>>()?;
            // A worker acts outside: nothing that it was told of may be undone by a crash.
            taken.iter().for_each(|taken| taken.row.flush());
            return Ok(Ret::Rows(rows));
        }
        let (place, taker) = taker::my_place(&s)?;
        // They are tq_watch's to tell.
        taker::has_news(taker);
        let _waiting = Waiting;
        if !taker::begin_to_wait(&s, taker, place, &asked) && taker::sleep(&s, taker, Some(until)) == Slept::Over {
            taker::end_waiting(taker);
        }
    }
}

/// tq_drain_take(n, as_of, tenant)
fn drain_take(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_drain_take()");
    let n = args.int(0).unwrap_or(i32::MAX);
    if n < 0 {
        return Err(Error::invalid("n is negative"));
    }
    // The default, now(), is when the transaction began; what it has enqueued since is due as well.
    let as_of = args.time(1).filter(|t| *t != transaction::started_at());
    if as_of.is_some_and(At::is_infinite) {
        return Err(Error::invalid("as_of is infinite").hint("A task that is retried for ever would never end."));
    }
    let tenant = own_session::resolve(args.text(2).as_deref())?;
    let taken = drain_take::take(&tenant, n as usize, || as_of.unwrap_or_else(clock::now))?;
    Ok(Ret::Rows(taken.iter().map(described).collect::<Result<_>>()?))
}

/// A row of tenant_q.taken.
fn described(taken: &Taken) -> Result<Row> {
    let Taken { claim, tenant, handler, row, deadline, max_attempts } = taken;
    // What the step before has passed on may have come after the caller's snapshot, as the task itself.
    let args = transaction::with_latest_snapshot(|| given::args(tenant, handler, row))?;
    Ok(row! {
        "claim": *claim,
        "tenant": &tenant.name,
        "id": row.get(Tasks::ID),
        "handler": &handler.name,
        "args": args,
        "attempt": row.get(Tasks::ATTEMPTS).unwrap_or(0) + 1,
        "max_attempts": *max_attempts,
        "deadline": *deadline,
        "queue": row.get(Tasks::QUEUE).unwrap_or("default"),
        "name": row.text(Tasks::NAME),
        "meta": row.get(Tasks::META),
        "schedule": row.text(Tasks::SCHEDULE),
        "scheduled_for": row.get(Tasks::SCHEDULED_FOR),
        "created_at": row.get(Tasks::CREATED_AT),
        "shared": handler.shared,
        "each": given::is_for_each(row, &Options::of(row)),
    })
}

/// Ends the wait, also where an error does: who was called and takes nothing hands the call on.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            taker::give_up_waiting();
        }
    }
}

/// tq_await(wait, handlers, queues, tenants)
fn wait_for_tasks(args: &Args) -> Result<Ret> {
    if args.is_atomic() {
        return Err(Error::new(
            SqlState::INVALID_TRANSACTION_TERMINATION,
            "tq_await() can't wait inside a transaction block or a function",
        )
        .detail("It would keep a snapshot for as long as it waits, and so vacuum from its work.")
        .hint("CALL it in autocommit, from the client."));
    }
    let most = wait(args, 0)?;
    let asked = Asked { handlers: names(args, 1, "handlers")?, queues: names(args, 2, "queues")?, tenants: names(args, 3, "tenants")? };
    let s = finish::shared()?;
    let (place, taker) = taker::my_place(&s)?;
    taker::introduce(taker, None, &asked);
    let _waiting = Waiting;
    let until = if args.is_given(0) { Some(clock::steady() + most.duration()) } else { None };
    while !taker::begin_to_wait(&s, taker, place, &asked) {
        if nonatomic::between_transactions(|| taker::sleep(&s, taker, until)) == Slept::Over {
            break;
        }
    }
    taker::end_waiting(taker);
    taker::has_news(taker);
    Ok(Ret::Void)
}

fn claim(args: &Args) -> Result<Id> {
    args.uuid(0).ok_or_else(|| {
        Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "claim is null").hint("Pass the column claim of what tq_take has returned.")
    })
}

/// tq_finish(claim, result)
fn finish_one(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_finish()");
    finish::finish(claim(args)?, args.json(1))?;
    Ok(Ret::Void)
}

/// tq_finish_many(claims, results)
fn finish_many(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_finish_many()");
    let claims = args.uuids(0).unwrap_or_default();
    let results = args.jsons(1);
    if let Some(results) = &results
        && results.len() != claims.len()
    {
        return Err(Error::invalid(format!("there are {} claims and {} results", claims.len(), results.len()))
            .hint("Pass a result for each claim, NULL where there is none; or leave results out."));
    }
    // Whoever else ends some of them takes them in the same order: nobody waits for each other.
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|n| finish::task_of(claims[*n]));
    for n in order {
        finish::finish(claims[n], results.as_ref().map(|results: &Documents| results.one(n)))?;
    }
    Ok(Ret::Int(claims.len() as i32))
}

/// What a worker says of a failure, as an error of the task.
fn failure_of(error: Option<Json>) -> Result<Failure> {
    let shape = || {
        Error::invalid("error is not an object with a message").hint(
            r#"Pass {"message": "…", "class": "app.errors.Refused", "traceback": "…"}; "sqlstate", "detail" and "hint" may be in it."#,
        )
    };
    let Some(Json::Object(error)) = error else { return Err(shape()) };
    let text = |key: &str| error.get(key).and_then(Json::as_str);
    let message = text("message").ok_or_else(shape)?;
    let sqlstate = match text("sqlstate") {
        Some(code) => SqlState::parse(code).ok_or_else(|| {
            Error::invalid(format!("sqlstate \"{code}\" is none"))
                .hint("It has five characters, digits and capitals; leave it out if there is none.")
        })?,
        None => SqlState::WORKER,
    };
    Ok(Failure {
        detail: text("detail").map(str::to_string),
        hint: text("hint").map(str::to_string),
        context: text("traceback").map(Into::into),
        class: text("class").map(Into::into),
        ..Failure::new(sqlstate, message)
    })
}

/// A time to come: not negative, not beyond what can be written.
fn delay(args: &Args, n: usize, what: &str) -> Result<Option<Period>> {
    if args.interval(n).is_some_and(Span::is_negative) {
        return Err(Error::invalid(format!("{what} is negative")));
    }
    Ok(args.period(n))
}

/// tq_give_up(claim, error, retry_after, final)
fn give_up(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_give_up()");
    let (id, failure) = (claim(args)?, failure_of(args.setting(1))?);
    let retry_after = delay(args, 2, "retry_after")?;
    let is_final = args.bool(3).unwrap_or(false);
    if is_final && retry_after.is_some() {
        return Err(Error::invalid("final and retry_after exclude each other"));
    }
    let given_up = finish::give_up(id, failure, retry_after, is_final)?;
    Ok(Ret::Rows(vec![row! { "state": given_up.state, "run_at": given_up.run_at }]))
}

/// tq_release(claim, delay, reason, crashed)
fn release(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_release()");
    let delay = delay(args, 1, "delay")?.unwrap_or_default();
    finish::release(claim(args)?, delay, args.message(2).as_deref(), args.bool(3).unwrap_or(false))?;
    Ok(Ret::Void)
}

/// tq_watch(wait, claims)
fn watch(args: &Args) -> Result<Ret> {
    let until = clock::steady() + wait(args, 0)?.duration().min(settings::max_wait());
    let s = finish::shared()?;
    let (place, taker) = taker::my_place(&s)?;
    let asked = args.uuids(1);
    loop {
        let rows = told(&s, place, taker, asked.as_deref());
        if !rows.is_empty() || clock::steady() >= until {
            return Ok(Ret::Rows(rows));
        }
        wait_for_news(taker, until);
    }
}

/// What is to be told to this session, and of its claims, once; and which of those that were asked for are none of its any more.
fn told(s: &Shared, place: u32, taker: &Taker, asked: Option<&[Id]>) -> Vec<Row> {
    taker.news.store(news::NONE);
    let mut rows = Vec::new();
    if taker.recycled.swap(0) != 0 {
        rows.push(row! { "claim": None::<Id>, "what": "drain" });
    }
    let mine = s.used_claims().iter().filter(|claim| claim.is_live() && claim.taker.load() == place);
    for claim in mine.filter(|claim| claim.pid.load() == taker.pid.load()) {
        let id = claim.id.load();
        // What is to be told of others is told to who asks for them.
        if asked.is_some_and(|asked| !asked.contains(&id)) {
            continue;
        }
        let told = claim.told.load();
        let unheard = told & !claim.heard.fetch_or(told);
        for (bit, what) in [(bits::CANCEL, "cancel"), (bits::TIMEOUT, "timeout"), (bits::DRAIN, "drain")] {
            if unheard & bit != 0 {
                rows.push(row! { "claim": id, "what": what });
            }
        }
    }
    for id in asked.unwrap_or_default() {
        if s.claim(*id).is_none_or(|claim| claim.taker.load() != place) {
            rows.push(row! { "claim": *id, "what": "lost" });
        }
    }
    rows
}

fn wait_for_news(taker: &Taker, until: Instant) {
    if taker.news.load() == news::NONE {
        latch::wait(Some(until.saturating_duration_since(clock::steady())));
    }
}

sql_functions! {
    tq_take, pg_finfo_tq_take => take;
    tq_await, pg_finfo_tq_await => wait_for_tasks;
    tq_finish, pg_finfo_tq_finish => finish_one;
    tq_finish_many, pg_finfo_tq_finish_many => finish_many;
    tq_give_up, pg_finfo_tq_give_up => give_up;
    tq_release, pg_finfo_tq_release => release;
    tq_watch, pg_finfo_tq_watch => watch;
    tq_drain_take, pg_finfo_tq_drain_take => drain_take;
}
