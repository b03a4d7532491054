//! When a database's tenants are to be swept for work that no commit announced: each interval, when they are told to,
//! and, where the table of entries was full, when work comes due that has no entry. The sweep itself is the scheduler's
//! (worker/sweep.rs).

use super::Launcher;
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::database::{Db, db_state};
use crate::shared::wakes::{Reason, Turn};

/// Whether a sweep is wanted there; one whose time has come is ordered, and told to the scheduler that lives.
pub(super) fn is_wanted(db: &Db, now: At, turn: &mut Turn) -> bool {
    if db.sweep_wanted.load() == 1 {
        return true;
    }
    if sweep_at(db) > now {
        return false;
    }
    db.sweep_wanted.store(1);
    turn.did(Reason::Sweep);
    db.call_scheduler();
    true
}

/// When this database is to be swept again, if that is to be and isn't wanted already.
fn sweep_at(db: &Db) -> At {
    if !settings::enabled() || db.state.load() != db_state::SERVED || db.sweep_wanted.load() == 1 {
        return At::NEVER;
    }
    let (began, swept) = (db.sweep_started.load(), db.swept_at.load());
    // Where there is no room for all, sweeps take turns with everything else.
    let unplaced = match db.unplaced_due.load() {
        At::NEVER => At::NEVER,
        at => at.max(swept + Span::SECOND.max((swept - began) * 4)),
    };
    settings::sweep_interval().map_or(At::NEVER, |interval| swept + Span::from(interval)).min(unplaced)
}

impl Launcher {
    /// When the first database is. One that is wanted already has its scheduler, or is waited for.
    pub(super) fn next_sweep(&self) -> At {
        self.shared.dbs.iter().map(sweep_at).min().unwrap_or(At::NEVER)
    }
}
