//! How an executor's session is set up: as its role's when it starts, and for the tasks of each tenant in turn.
//!
//! What ALTER ROLE and ALTER DATABASE set is meant for people's sessions and would break this one, so it is overridden. A
//! tenant's settings are its base: a task may change them, and the next one finds them as they were.

use super::{Executor, leave};
use crate::postgres::caught::{self, Failure};
use crate::postgres::{clock, latch, session, shmem, timeout, worker};
use crate::pure::word::SlotState;
use crate::shared::slot::{self, MY_SLOT};
use crate::shared::text::store_text;
use crate::shared::{self, ready};
use crate::tenant::Tenant;
use crate::tenant::reserved::check_reserved;
use std::rc::Rc;

/// Settings that ALTER ROLE or ALTER DATABASE may have changed and that would break us.
const OVERRIDES: &[(&std::ffi::CStr, &str)] = &[
    (c"default_transaction_isolation", "read committed"),
    (c"default_transaction_read_only", "off"),
    (c"default_transaction_deferrable", "off"),
    (c"statement_timeout", "0"),
    (c"lock_timeout", "0"),
    (c"idle_in_transaction_session_timeout", "0"),
    (c"idle_session_timeout", "0"),
    (c"transaction_timeout", "0"),
    (c"jit", "off"),
    (c"plan_cache_mode", "auto"),
    (c"enable_seqscan", "on"),
    (c"enable_indexscan", "on"),
    (c"enable_bitmapscan", "on"),
    (c"enable_nestloop", "on"),
    (c"enable_hashjoin", "on"),
    (c"enable_mergejoin", "on"),
    (c"enable_sort", "on"),
    // A crash in a parallel worker would be blamed on nobody, and the workers are few.
    (c"max_parallel_workers_per_gather", "0"),
    (c"row_security", "on"),
    // A task has no client.
    (c"client_encoding", "UTF8"),
    // A failed attempt is no reason to leave.
    (c"exit_on_error", "off"),
    // Losing the commit loses effects and completion together; the batch is flushed at its end.
    (c"synchronous_commit", "off"),
];

/// Main function; the argument: slot and its generation.
pub fn main(argument: u64) {
    let (place, generation) = ((argument & 0xFFFF) as usize, (argument >> 16) as u32);
    let shared = shared::shared();
    let slot = &shared.slots[place];
    if slot.state.load() != SlotState::Starting || slot.generation.load() != generation {
        return;
    }
    MY_SLOT.set(place);
    worker::on_quit(|| {
        // Somebody else's crash: say so before dying of it.
        if let Some(shared) = shared::get() {
            shared.slots[MY_SLOT.get()].bystander.store(1);
        }
    });
    worker::set_up_signals();
    slot.pid.store(shmem::my_pid());
    worker::connect(slot.database.load(), slot.role.load());
    // Who can't get so far has not started: the launcher tries later and later, and tq_problems shows the role.
    for (name, value) in OVERRIDES {
        session::set_session(name, value);
    }
    if !session::be_role(slot.role.load()) {
        pgrx::log!("tenant_q: an executor's session is not its role's: see the role's and the database's settings (pg_db_role_setting)");
        worker::exit(1);
    }
    slot.proc.store(latch::my_procno() + 1);
    worker::on_exit(leave::leave);
    session::report_appname("tenant_q executor");
    timeout::on_termination(slot::note_told_to_end);
    if let Err(error) = timeout::register() {
        caught::log_failure("an executor could not start", &error.into());
        worker::exit(1);
    }
    slot.since.store(clock::now());
    slot.tasks_done.store(0);
    slot.tasks_failed.store(0);
    slot.state.store(SlotState::Working);
    let role_index = slot.role_index.load() as usize;
    ready::join(&shared, role_index, place);
    shared.roles[role_index].starting.fetch_sub(1);
    shared.roles[role_index].start_failures.store(0);
    Executor::new(shared, place, role_index).work();
}

impl Executor {
    /// The session's base settings for this tenant's tasks.
    pub(super) fn prepare(&mut self, tenant: &Rc<Tenant>) -> Result<(), Failure> {
        let epoch = crate::tenant::epoch();
        if self.tenant.as_ref().is_some_and(|(seen, t)| *seen == epoch && Rc::ptr_eq(t, tenant)) {
            return Ok(());
        }
        check_reserved(tenant.settings.as_ref())?;
        let other = self.tenant.as_ref().is_some_and(|(_, t)| t.oid != tenant.oid);
        if other && worker::has_interpreter() {
            // Its globals would reach the next tenant: a fresh process takes over.
            self.slot.leave.store(1);
            worker::exit(0);
        }
        for name in self.based.drain(..) {
            session::reset_base(&name);
        }
        session::forget_random_state();
        session::set_base("search_path", &tenant.search_path());
        session::set_base("TimeZone", &tenant.zone());
        if let Some(serde_json::Value::Object(settings)) = &tenant.settings {
            for (name, value) in settings {
                session::set_base(name, &value.as_str().map_or_else(|| value.to_string(), str::to_string));
                self.based.push(name.clone());
            }
        }
        store_text(&self.slot.tenant_name, &tenant.name);
        self.tenant = Some((epoch, tenant.clone()));
        Ok(())
    }
}
