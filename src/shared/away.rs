//! Workers stay away from a database while somebody drops, renames or copies it.

use crate::postgres::{latch, shmem, worker};
use crate::pure::word::SlotState;
use crate::shared::Shared;
use crate::shared::database::db_state;

/// A session that has the workers of a database keep away.
pub struct Away {
    database: u32,
    place: usize,
    by: u64,
}

impl Away {
    pub fn begin(s: &Shared, database: u32) -> Option<Away> {
        let db = s.db(database)?;
        let by = ((latch::my_procno() as u64 + 1) << 32) | shmem::my_pid() as u64;
        // None is free: those who have them keep the workers away as well.
        let place = db.away.iter().position(|a| a.compare_exchange(0, by).is_ok())?;
        Some(Away { database, place, by })
    }

    /// Where the database still is, by whatever name, its work goes on at once. Atomics and latches only.
    pub fn over(self, s: &Shared) {
        let Some(db) = s.db(self.database) else { return };
        if db.away[self.place].compare_exchange(self.by, 0).is_ok() && !db.is_away() {
            if db.state.load() == db_state::SERVED {
                db.look_again();
            }
            s.header.rescan.store(1);
            s.call_launcher_now();
        }
    }
}

/// Ends the executors of a database, busy ones too: their tasks run again some day, uncounted.
pub fn dismiss(s: &Shared, database: u32) {
    for slot in s.slots {
        if slot.state.load() != SlotState::Free && slot.database.load() == database {
            slot.leave.store(1);
            worker::signal(slot.pid.load(), libc::SIGTERM);
        }
    }
}
