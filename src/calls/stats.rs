//! SQL: counters per tenant and handler (tq_stats), the last failed attempts (tq_failures), queues and metrics.

use crate::calls::problems;
use crate::calls::problems::reasons::{self, Because, paused};
use crate::calls::views;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::lwlock::Lock;
use crate::postgres::rows::row;
use crate::postgres::{catalog, clock, shmem};
use crate::pure::atomics::GaugeU64;
use crate::pure::choice::Named;
use crate::pure::reason::{Keeps, Reason, TABLE};
use crate::pure::shares::Owner;
use crate::pure::state::{self, State};
use crate::pure::time::{At, Span};
use crate::pure::word::{self, SlotState};
use crate::shared::counters::Stat;
use crate::shared::text::load_text;
use crate::shared::{self, Shared};
use crate::tenant::columns::Tasks;
use crate::tenant::queue::Pick;
use crate::tenant::rights::{self, Right};
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Whose rows the caller may see, asked once a tenant.
struct Visible {
    all: bool,
    known: BTreeMap<u32, bool>,
}
impl Visible {
    fn new() -> Visible {
        Visible { all: rights::sees_all(), known: BTreeMap::new() }
    }
    fn sees(&mut self, schema: u32) -> bool {
        self.all || *self.known.entry(schema).or_insert_with(|| catalog::schema_owner(schema).is_some_and(rights::sees))
    }
}

/// tenant_q.failure_rows(): rows of tq_failures, newest first.
fn failure_rows(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Rows(vec![])) };
    // Copied under the lock, looked up without it: look-ups may fail.
    let mut found = Vec::new();
    {
        let _guard = Lock::Announce.shared();
        for f in s.failures {
            if f.number.load() > 0 && f.database.load() == shmem::my_database() {
                found.push((
                    f.number.load(),
                    (f.tenant.load(), f.role.load(), f.attempt.load(), f.at.load()),
                    f.id.load(),
                    [load_text(&f.sqlstate), load_text(&f.handler), load_text(&f.schedule), load_text(&f.message)],
                ));
            }
        }
    }
    found.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
    let mut visible = Visible::new();
    let rows = found.into_iter().filter(|(_, (schema, ..), ..)| visible.sees(*schema)).map(
        |(_, (schema, role, attempt, at), id, [sqlstate, handler, schedule, message])| {
            row! {
                "at": at,
                "tenant": catalog::schema_name(schema),
                "handler": handler,
                "id": id,
                "attempt": attempt,
                "sqlstate": sqlstate,
                "message": message,
                "schedule": Some(schedule).filter(|s| !s.is_empty()),
                "role": catalog::role_name(role),
            }
        },
    );
    Ok(Ret::Rows(rows.collect()))
}

/// Counters that are in use here and that the caller may see, with their tenants' names.
fn visible_stats(s: &Shared) -> Vec<(String, &'static Stat)> {
    let mut visible = Visible::new();
    let here = |stat: &&'static Stat| stat.in_use.load() == 1 && stat.database.load() == shmem::my_database();
    s.stats
        .iter()
        .filter(here)
        .filter(|stat| visible.sees(stat.tenant.load()))
        .filter_map(|stat| Some((catalog::schema_name(stat.tenant.load())?, stat)))
        .collect()
}

/// tenant_q.stat_rows(): rows of tq_stats.
fn stat_rows(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Rows(vec![])) };
    let rows = visible_stats(&s).into_iter().map(|(tenant, stat)| {
        let get = |counter: &GaugeU64| counter.load() as i64;
        let span = |counter: &GaugeU64| Span::of_micros(get(counter));
        let (done, failed, retried) = (get(&stat.done), get(&stat.failed), get(&stat.retried));
        let attempts = (done + failed + retried).max(1);
        row! {
            "tenant": tenant,
            "handler": load_text(&stat.handler),
            "done": done,
            "failed": failed,
            "retried": retried,
            "timeouts": get(&stat.timeouts),
            "total_run_time": span(&stat.run_total),
            "mean_run_time": span(&stat.run_total) / attempts,
            "max_run_time": span(&stat.run_max),
            "total_wait_time": span(&stat.wait_total),
            "mean_wait_time": span(&stat.wait_total) / attempts,
            "max_wait_time": span(&stat.wait_max),
            "since": stat.since.load(),
        }
    });
    Ok(Ret::Rows(rows.collect()))
}

/// tq_stats_reset(): counters of this database begin anew.
fn stats_reset(_args: &Args) -> Result<Ret> {
    if let Some(s) = shared::get() {
        let _guard = Lock::Announce.exclusive();
        for stat in s.stats.iter().filter(|stat| stat.database.load() == shmem::my_database()) {
            if stat.in_use.swap(0) == 1 {
                s.stat_tally.sub(Owner::new(stat.database.load(), stat.tenant.load()));
            }
            stat.stamp.fetch_add(1);
        }
    }
    Ok(Ret::Void)
}

/// tenant_q.queue_rows(): rows of tq_queues.
fn queue_rows(_args: &Args) -> Result<Ret> {
    #[derive(Default)]
    struct Counts {
        queued: i64,
        running: i64,
        delayed: i64,
        retrying: i64,
        waiting: i64,
        oldest: Option<At>,
    }
    let tenant = rights::resolve(None, &[Right::Read])?;
    let running = crate::calls::groups::running_ids(tenant.oid);
    let table = tenant.open_to_look(tenant.task)?.fetch_at_most(0);
    let now = clock::now();
    let mut found: BTreeMap<String, Counts> = BTreeMap::new();
    for row in table.scan(&Tasks::PICK, &[]) {
        pgrx::check_for_interrupts!();
        if !row.letter(Tasks::STATE).is_task() {
            continue;
        }
        let queue = row.get(Tasks::QUEUE).unwrap_or("default");
        if !found.contains_key(queue) {
            found.insert(queue.into(), Counts::default());
        }
        let counts = found.get_mut(queue).expect("just made");
        let (attempts, run_at) = (row.get(Tasks::ATTEMPTS).unwrap_or(0), row.get(Tasks::RUN_AT).unwrap_or_default());
        let runs = running.contains(&row.get(Tasks::ID).unwrap_or_default());
        let state = state::unfinished(row.letter(Tasks::STATE), attempts, run_at, now, runs);
        let counter = match state {
            State::Running => &mut counts.running,
            State::Queued => &mut counts.queued,
            State::Delayed => &mut counts.delayed,
            State::Retrying => &mut counts.retrying,
            _ => &mut counts.waiting,
        };
        *counter += 1;
        if matches!(state, State::Queued | State::Retrying) && run_at <= now {
            counts.oldest = Some(counts.oldest.map_or(run_at, |o| o.min(run_at)));
        }
    }
    for queue in &tenant.queues {
        found.entry(queue.name.clone()).or_default();
    }
    let rows = found.iter().map(|(queue, counts)| {
        let set_up = tenant.queue(Some(queue));
        let paused = tenant.pauses.iter().any(|p| p.until > now && p.handler.is_empty() && (p.queue.is_empty() || p.queue == *queue));
        row! {
            "queue": queue,
            "queued": counts.queued,
            "running": counts.running,
            "delayed": counts.delayed,
            "retrying": counts.retrying,
            "waiting": counts.waiting,
            "lag": counts.oldest.map(|t| now - t),
            "paused": paused,
            "max_running": set_up.and_then(|q| q.max_running),
            "rate": set_up.and_then(|q| q.rate).map(|r| r.to_string()),
            "priority": set_up.and_then(|q| q.priority),
            "pick": set_up.and_then(|q| q.pick).unwrap_or(Pick::Priority).name(),
        }
    });
    Ok(Ret::Rows(rows.collect()))
}

/// tenant_q.metric_rows(): rows of tq_metrics.
fn metric_rows(_args: &Args) -> Result<Ret> {
    let mut rows = Vec::new();
    let mut say = |name: &str, labels: Json, value: f64| {
        rows.push(row! { "name": format!("tenant_q_{name}"), "labels": labels, "value": value });
    };
    let figures = views::figures()?;
    for figures in &figures {
        let labels = json!({ "tenant": figures.tenant });
        say("queued", labels.clone(), figures.queued as f64);
        say("running", labels.clone(), figures.running as f64);
        say("done_total", labels.clone(), figures.done as f64);
        say("failed_total", labels.clone(), figures.failed as f64);
        say("retried_total", labels.clone(), figures.retried as f64);
        say("lag_seconds", labels.clone(), figures.lag.map_or(0.0, |lag| lag.micros() as f64 / 1e6));
        say("tenant_up", labels, f64::from(u8::from(figures.status == "on")));
    }
    if rights::sees_all() {
        standing(&figures, &mut say)?;
    }
    if let Some(shared) = shared::get() {
        for (tenant, stat) in visible_stats(&shared) {
            let labels = json!({ "tenant": tenant, "handler": load_text(&stat.handler) });
            let get = |counter: &GaugeU64| counter.load() as f64;
            say("handler_done_total", labels.clone(), get(&stat.done));
            say("handler_failed_total", labels.clone(), get(&stat.failed));
            say("handler_retried_total", labels.clone(), get(&stat.retried));
            say("handler_timeouts_total", labels.clone(), get(&stat.timeouts));
            say("handler_run_seconds_total", labels.clone(), get(&stat.run_total) / 1e6);
            say("handler_run_seconds_max", labels.clone(), get(&stat.run_max) / 1e6);
            say("handler_wait_seconds_total", labels.clone(), get(&stat.wait_total) / 1e6);
            say("handler_wait_seconds_max", labels, get(&stat.wait_max) / 1e6);
        }
        if rights::sees_all() {
            let mut states = [("starting", 0), ("idle", 0), ("running", 0)];
            for slot in shared.slots {
                match slot.state.load() {
                    SlotState::Free => {}
                    SlotState::Starting => states[0].1 += 1,
                    SlotState::Working => states[1 + usize::from(word::Word::load(slot).running)].1 += 1,
                }
            }
            for (state, count) in states {
                say("executors", json!({ "state": state }), f64::from(count));
            }
            say("max_executors", json!({}), f64::from(settings::max_executors(shmem::max_worker_processes())));
            say("takers", json!({}), problems::workers::takers(&shared).count() as f64);
            say("claims", json!({}), f64::from(shared.header.claims.load()));
            say("waiting_roles", json!({}), f64::from(shared.header.waiting_roles.load()));
            say("entries", json!({}), shared.entries.iter().filter(|e| e.in_use.load() == 1).count() as f64);
            say("evictions_total", json!({}), shared.header.evictions.load() as f64);
            say("failed_attempts_total", json!({}), shared.header.failures.load() as f64);
        }
    }
    Ok(Ret::Rows(rows))
}

/// Whether anything runs at all, and if not why; tenants by status, pauses, and reasons that something is to be done about.
fn standing(figures: &[views::Figures], say: &mut impl FnMut(&str, Json, f64)) -> Result<()> {
    let pauses = reasons::pauses()?;
    let of_all = reasons::of_all(&pauses)?;
    let stops = |because: &&Because| because.reason.keeps() == Keeps::Everything;
    say("up", json!({}), f64::from(u8::from(!of_all.iter().any(|because| stops(&because)))));
    for told in TABLE.iter().filter(|told| told.keeps == Keeps::Everything) {
        let is_there = of_all.iter().any(|because| because.reason == told.reason);
        say("stopped", json!({ "reason": told.word }), f64::from(u8::from(is_there)));
    }
    let mut statuses = BTreeMap::from([("on", 0)]);
    for figures in figures {
        *statuses.entry(figures.status).or_default() += 1;
    }
    for (status, count) in statuses {
        say("tenants", json!({ "status": status }), f64::from(count));
    }
    let mut kinds = BTreeMap::from([("all", 0), ("tenant", 0), ("part", 0)]);
    for pause in &pauses {
        *kinds
            .entry(if !pause.is_whole() {
                "part"
            } else if pause.is_of_all() {
                "all"
            } else {
                "tenant"
            })
            .or_default() += 1;
    }
    for (kind, count) in kinds {
        say("pauses", json!({ "of": kind }), f64::from(count));
    }
    // Pauses that hold something up are counted, the others mean no harm.
    let held_up = paused::with_work(&pauses)?.0;
    let of_tenants = figures.iter().flat_map(|figures| &figures.because);
    let known = of_tenants.filter(|because| !matches!(because.reason, Reason::Paused | Reason::PausedPart));
    let reasons = of_all.iter().chain(known).map(|because| because.reason).chain(held_up.iter().map(|_| Reason::Paused));
    let words = TABLE.iter().filter(|told| told.is_problem).map(|told| (told.word, 0));
    let mut problems: BTreeMap<&str, u32> = words.collect();
    for reason in reasons.filter(|reason| reason.told().is_problem) {
        *problems.entry(reason.word()).or_default() += 1;
    }
    for (reason, count) in problems {
        say("problems", json!({ "reason": reason }), f64::from(count));
    }
    Ok(())
}

sql_functions! {
    tenant_q_failure_rows, pg_finfo_tenant_q_failure_rows => failure_rows;
    tenant_q_stat_rows, pg_finfo_tenant_q_stat_rows => stat_rows;
    tq_stats_reset, pg_finfo_tq_stats_reset => stats_reset;
    tenant_q_queue_rows, pg_finfo_tenant_q_queue_rows => queue_rows;
    tenant_q_metric_rows, pg_finfo_tenant_q_metric_rows => metric_rows;
}
