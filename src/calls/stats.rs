//! SQL: counters per tenant and handler (tq_stats), the last failed attempts (tq_failures), queues and metrics.

use crate::calls::views::{self, interval_json};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::lwlock::Lock;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, shmem, worker};
use crate::pure::atomics::GaugeU64;
use crate::pure::choice::Named;
use crate::pure::shares::Owner;
use crate::pure::state::{self, State};
use crate::pure::time::{At, Span};
use crate::pure::word::{self, SlotState};
use crate::shared::counters::Stat;
use crate::shared::text::load_text;
use crate::shared::{self, Shared};
use crate::task::document::time_json;
use crate::tenant::columns::Tasks;
use crate::tenant::queue::Pick;
use crate::tenant::{self, rights};
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Rows that tq_queues reads at most.
const QUEUE_ROWS: usize = 100_000;

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

/// tenant_q.failures(): rows of tq_failures, newest first.
fn failures(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Json(json!([]))) };
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
            json!({
                "at": time_json(Some(at)),
                "tenant": catalog::schema_name(schema),
                "handler": handler,
                "id": id,
                "attempt": attempt,
                "sqlstate": sqlstate,
                "message": message,
                "schedule": Some(schedule).filter(|s| !s.is_empty()),
                "role": catalog::role_name(role),
            })
        },
    );
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
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

/// tenant_q.stats(): rows of tq_stats.
fn stats(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Json(json!([]))) };
    let rows = visible_stats(&s).into_iter().map(|(tenant, stat)| {
        let get = |counter: &GaugeU64| counter.load() as i64;
        let span = |counter: &GaugeU64| Span::of_micros(get(counter));
        let (done, failed, retried) = (get(&stat.done), get(&stat.failed), get(&stat.retried));
        let attempts = (done + failed + retried).max(1);
        json!({
            "tenant": tenant,
            "handler": load_text(&stat.handler),
            "done": done,
            "failed": failed,
            "retried": retried,
            "timeouts": get(&stat.timeouts),
            "total_run_time": interval_json(span(&stat.run_total)),
            "mean_run_time": interval_json(span(&stat.run_total) / attempts),
            "max_run_time": interval_json(span(&stat.run_max)),
            "total_wait_time": interval_json(span(&stat.wait_total)),
            "mean_wait_time": interval_json(span(&stat.wait_total) / attempts),
            "max_wait_time": interval_json(span(&stat.wait_max)),
            "since": time_json(Some(stat.since.load())),
        })
    });
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
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

/// tenant_q.queues(tenant): rows of tq_queues.
fn queues(args: &Args) -> Result<Ret> {
    #[derive(Default)]
    struct Counts {
        queued: i64,
        running: i64,
        delayed: i64,
        retrying: i64,
        waiting: i64,
        oldest: Option<At>,
    }
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    rights::may_read(&tenant)?;
    let running = crate::calls::groups::running_ids(tenant.oid);
    let table = tenant.open_to_look(tenant.task)?;
    let now = clock::now();
    let mut found: BTreeMap<String, Counts> = BTreeMap::new();
    let (mut seen, mut more) = (0, false);
    for row in table.scan(&Tasks::PICK, &[]) {
        if seen == QUEUE_ROWS {
            more = true;
            break;
        }
        seen += 1;
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
    if more {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("only the first {QUEUE_ROWS} unfinished tasks are counted"))
            .hint("tq_tenants has the tenant's whole count.")
            .notice();
    }
    for queue in &tenant.queues {
        found.entry(queue.name.clone()).or_default();
    }
    let rows = found.iter().map(|(queue, counts)| {
        let set_up = tenant.queue(Some(queue));
        let paused = tenant.pauses.iter().any(|p| p.until > now && p.handler.is_empty() && (p.queue.is_empty() || p.queue == *queue));
        json!({
            "queue": queue,
            "queued": counts.queued,
            "running": counts.running,
            "delayed": counts.delayed,
            "retrying": counts.retrying,
            "waiting": counts.waiting,
            "lag": counts.oldest.map(|t| interval_json(now - t)),
            "paused": paused,
            "max_running": set_up.and_then(|q| q.max_running),
            "rate": set_up.and_then(|q| q.rate).map(|r| r.to_string()),
            "priority": set_up.and_then(|q| q.priority),
            "pick": set_up.and_then(|q| q.pick).unwrap_or(Pick::Priority).name(),
        })
    });
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
}

/// tenant_q.metrics(): rows of tq_metrics.
fn metrics(_args: &Args) -> Result<Ret> {
    let mut rows = Vec::new();
    let mut say =
        |name: &str, labels: Json, value: f64| rows.push(json!({ "name": format!("tenant_q_{name}"), "labels": labels, "value": value }));
    for tenant_row in views::tenant_rows()? {
        let number = |key: &str| tenant_row[key].as_f64().unwrap_or(0.0);
        let labels = json!({ "tenant": tenant_row["tenant"] });
        for key in ["queued", "running"] {
            say(key, labels.clone(), number(key));
        }
        for key in ["done", "failed", "retried"] {
            say(&format!("{key}_total"), labels.clone(), number(key));
        }
        say("lag_seconds", labels, number("lag_us") / 1e6);
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
            let launcher = shared.header.launcher_pid.load();
            say("up", json!({}), f64::from(u8::from(launcher > 0 && worker::is_alive(launcher))));
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
            say("waiting_roles", json!({}), f64::from(shared.header.waiting_roles.load()));
            say("entries", json!({}), shared.entries.iter().filter(|e| e.in_use.load() == 1).count() as f64);
            say("evictions_total", json!({}), shared.header.evictions.load() as f64);
            say("failed_attempts_total", json!({}), shared.header.failures.load() as f64);
        }
    }
    Ok(Ret::Json(rows.into()))
}

sql_functions! {
    tenant_q_failures, pg_finfo_tenant_q_failures => failures;
    tenant_q_stats, pg_finfo_tenant_q_stats => stats;
    tq_stats_reset, pg_finfo_tq_stats_reset => stats_reset;
    tenant_q_queues, pg_finfo_tenant_q_queues => queues;
    tenant_q_metrics, pg_finfo_tenant_q_metrics => metrics;
}
