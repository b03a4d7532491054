//! Which role gets an executor: there are at most `tenant_q.max_executors`, and as many as the server has worker slots
//! for.
//!
//! A role with work and no executor *waits*: it is first, and while there is no place for it executors of roles that have
//! used more time leave (`ready::should_leave`). A role whose executors are all busy *wants* another one, which it gets
//! while nobody waits, except for the last places, which are kept for roles that have none.

use super::Launcher;
use crate::postgres::{clock, latch, shmem};
use crate::pure::time::At;
use crate::pure::word::SlotState;
use crate::settings;
use crate::shared::database::db_state;
use crate::shared::ready;
use crate::shared::role::Role;
use crate::shared::slot::{self, Slot};
use crate::shared::wakes::{Reason, Turn};

/// Roles that are to have an executor, each with its virtual time before it, the least first.
struct Queues {
    waiting: Vec<(u64, usize)>,
    wanting: Vec<(u64, usize)>,
    /// The least virtual time of a role that has executors; else of one that waits.
    least: u64,
}

impl Launcher {
    /// Gives places to roles that wait. True: somebody waits.
    pub(super) fn balance(&mut self, turn: &mut Turn) -> bool {
        let shared = self.shared;
        ready::gather_now(&shared);
        let now = clock::now();
        let mut max = settings::max_executors(shmem::max_worker_processes()) as usize;
        let Queues { waiting, wanting, least } = self.line_up(now, turn);
        shared.header.role_vtime.store(least);
        let mut used = shared.slots.iter().filter(|slot| slot.state.load() != SlotState::Free && !slot::is_lost(slot)).count();
        let scheduler = self.shortage.scheduler;
        let shortage = self.shortage.lasts_until(now);
        if shortage.is_some() || scheduler {
            // There are no more places than there are slots: who has one goes when it is another's turn.
            max = max.min(used);
        }
        if let Some(until) = shortage {
            turn.at(Reason::Retry, until);
        }
        let mut served = 0;
        for (_, role) in &waiting {
            if used >= max {
                break;
            }
            if !self.start(*role, turn) {
                max = used;
                break;
            }
            used += 1;
            served += 1;
        }
        let left = &waiting[served..];
        self.announce(left, scheduler, now);
        let somebody_waits = !left.is_empty() || scheduler;
        // The last ones are for roles that have none.
        let for_more = max.saturating_sub(settings::reserved_places());
        let idle = shared.slots.iter().enumerate().filter(|(place, slot)| self.idles_for_nothing(*place, slot)).count();
        let room = if somebody_waits { max } else { for_more };
        if (somebody_waits || !wanting.is_empty()) && used >= room && used - idle < room && self.dismiss_idle() {
            // One that idles for a role without work makes room at once.
            turn.did(Reason::Watch);
        }
        if !somebody_waits {
            for (_, role) in wanting.iter() {
                if used >= for_more || !self.start(*role, turn) {
                    break;
                }
                used += 1;
            }
        }
        !waiting.is_empty() || !wanting.is_empty()
    }

    /// Which roles are to have an executor, or one more.
    fn line_up(&self, now: At, turn: &mut Turn) -> Queues {
        let shared = self.shared;
        let mut queues = Queues { waiting: Vec::new(), wanting: Vec::new(), least: u64::MAX };
        for (index, role) in shared.roles.iter().enumerate() {
            if role.in_use.load() == 0 {
                break;
            }
            if role.start_failures.load() > 0 {
                // No executor comes to find out that there is nothing to do any more.
                ready::prune(&shared, index);
                if role.heap_count.load() == 0 {
                    role.start_failures.store(0);
                }
            }
            let lost = self.lost_of(index);
            let executors = role.executors.load().saturating_sub(lost);
            let ready = role.heap_count.load() > 0;
            if !ready || executors > 0 {
                role.waiting_since.store(At::UNSET);
            }
            if executors > 0 {
                queues.least = queues.least.min(role.vtime.load());
            }
            if !ready {
                if executors > 0 && self.has_stuck_list(index, role) && role.starting.load() == 0 {
                    queues.wanting.push((role.vtime.load(), index));
                }
                continue;
            }
            let Some(db) = shared.db(role.database.load()) else { continue };
            if db.state.load() != db_state::SERVED || db.is_away() {
                continue;
            }
            let start_after = role.start_after.load();
            if start_after > now {
                turn.at(Reason::Retry, start_after);
                continue;
            }
            if executors == 0 {
                queues.waiting.push((role.vtime.load(), index));
            } else if role.idle.load() == 0 && role.starting.load() == 0 {
                queues.wanting.push((role.vtime.load(), index));
            } else if role.idle.load() != 0 {
                ready::poke(&shared, index);
                turn.did(Reason::Watch);
            }
        }
        queues.waiting.sort();
        queues.wanting.sort();
        if queues.least == u64::MAX {
            queues.least = queues.waiting.first().map_or(0, |(vtime, _)| *vtime);
        }
        queues
    }

    /// Executors of this role that can't be stopped.
    fn lost_of(&self, role_index: usize) -> u32 {
        if self.shared.header.lost.load() == 0 {
            return 0;
        }
        let lost = |slot: &&Slot| slot.role_index.load() as usize == role_index && slot::is_lost(slot);
        self.shared.slots.iter().filter(lost).count() as u32
    }

    /// Whether a list of this role waits behind a long task and no idle executor is there to take it over.
    fn has_stuck_list(&self, role_index: usize, role: &Role) -> bool {
        role.idle.load() == 0 && self.shared.slots.iter().any(|slot| slot.role_index.load() as usize == role_index && slot::is_stuck(slot))
    }

    /// Executors are told how many wait for a place, so that those of roles that have had more give theirs up.
    fn announce(&self, left: &[(u64, usize)], scheduler: bool, now: At) {
        let shared = self.shared;
        for (_, role) in left {
            let _ = shared.roles[*role].waiting_since.compare_exchange(At::UNSET, now);
        }
        let first = if scheduler { Some(0) } else { left.first().map(|(vtime, _)| *vtime) };
        shared.header.waiting_vtime.store(first.unwrap_or(u64::MAX));
        shared.header.waiting_roles.store(left.len() as u32 + u32::from(scheduler));
    }

    fn idles_for_nothing(&self, place: usize, slot: &Slot) -> bool {
        let role = &self.shared.roles[slot.role_index.load() as usize];
        slot.state.load() == SlotState::Working && role.idle.load() & (1 << place) != 0 && role.heap_count.load() == 0
    }

    /// False: nobody idles for nothing.
    fn dismiss_idle(&self) -> bool {
        let Some((_, slot)) = self.shared.slots.iter().enumerate().find(|(place, slot)| self.idles_for_nothing(*place, slot)) else {
            return false;
        };
        slot.leave.store(1);
        let proc = slot.proc.load();
        if proc > 0 {
            latch::wake(proc - 1);
        }
        true
    }
}
