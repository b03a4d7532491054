//! The executors that there are: their starts, which may fail, their lists, which may wait behind a long task, and tasks
//! that were told to stop and haven't. Who is to have an executor is decided in places.rs.

use super::Launcher;
use crate::postgres::clock;
use crate::postgres::worker::{self, Life};
use crate::pure::time::Span;
use crate::pure::word::{SlotState, Stop, Word};
use crate::shared::slot::{self, Slot};
use crate::shared::wakes::{Reason, Turn};
use crate::shared::{Shared, ready};

const CANCEL_AGAIN_NS: u64 = 1_000_000_000;

impl Launcher {
    /// Starts that failed, and lists that wait behind a long task. True: somebody waits.
    pub(super) fn look_after_executors(&mut self, turn: &mut Turn) -> bool {
        let shared = self.shared;
        let mut busy = self.hear_of_starts(turn);
        for (place, slot) in shared.slots.iter().enumerate() {
            if slot.state.load() == SlotState::Starting && !self.executors.contains_key(&place) {
                // Started by a launcher that is gone: it checks in soon, or never.
                let pid = slot.pid.load();
                let late = slot.since.load() + Span::of_secs(10);
                if pid != 0 && !worker::is_alive(pid) || clock::now() > late {
                    failed_start(&shared, place);
                    turn.did(Reason::Retry);
                } else {
                    turn.at(Reason::Retry, late + Span::MICROSECOND);
                }
                busy = true;
            }
            let word = Word::load(slot);
            let since = slot.busy_since.load();
            if slot.state.load() != SlotState::Working || word.next >= word.end {
                continue;
            }
            busy = true;
            if slot::is_stuck(slot) {
                if std::mem::replace(&mut self.stuck[place], since) != since {
                    turn.did(Reason::Stuck);
                }
                // An idle executor of the role takes it over; balance() may start one.
                let role = slot.role_index.load() as usize;
                if shared.roles[role].idle.load() != 0 {
                    ready::poke(&shared, role);
                    turn.did(Reason::Stuck);
                }
            } else if since != 0 {
                turn.at_ns(Reason::Stuck, since + slot::TAKE_OVER_AFTER.as_nanos() as u64);
            }
        }
        busy
    }

    /// What has become of the executors that this launcher has started. True: one has not checked in yet.
    fn hear_of_starts(&mut self, turn: &mut Turn) -> bool {
        let (shared, shortage) = (self.shared, &mut self.shortage);
        let mut starting = false;
        self.executors.retain(|place, handle| {
            let slot = &shared.slots[*place];
            match handle.life() {
                Life::Stopped => {
                    if slot.state.load() == SlotState::Starting {
                        failed_start(&shared, *place);
                    }
                    turn.did(Reason::Call);
                    // Its worker slot is free.
                    shortage.try_again();
                    handle.forget();
                    false
                }
                _ => {
                    starting |= slot.state.load() == SlotState::Starting;
                    true
                }
            }
        });
        starting
    }

    /// Starts an executor of this role; false: there is no worker slot.
    pub(super) fn start(&mut self, role_index: usize, turn: &mut Turn) -> bool {
        let shared = self.shared;
        let Some(place) = shared.slots.iter().position(|slot| slot.state.load() == SlotState::Free) else { return false };
        if let Some(handle) = self.executors.remove(&place) {
            handle.forget();
        }
        let role = &shared.roles[role_index];
        let slot = &shared.slots[place];
        let generation = slot.generation.fetch_add(1).wrapping_add(1);
        slot.database.store(role.database.load());
        slot.role.store(role.role.load());
        slot.role_index.store(role_index as u32);
        slot.tenant.store(0);
        slot.since.store(clock::now());
        slot.state.store(SlotState::Starting);
        role.executors.fetch_add(1);
        role.starting.fetch_add(1);
        let argument = ((generation as u64) << 16) | place as u64;
        turn.did(Reason::Retry);
        match worker::start("tenant_q executor", "tenant_q executor", "tenant_q_executor_main", argument) {
            Some(handle) => {
                self.executors.insert(place, handle);
                self.shortage.ended(&shared);
                true
            }
            None => {
                not_started(&shared, slot);
                self.shortage.note(&shared, turn);
                false
            }
        }
    }

    /// Cancel, cancel again, terminate.
    pub(super) fn repeat_cancels(&mut self, turn: &mut Turn) {
        for slot in self.shared.slots {
            if slot.state.load() != SlotState::Working || slot.cancel_reason.load() == Stop::No {
                continue;
            }
            let word = Word::load(slot);
            let same = word.running && slot.item_id(word.next - 1) == slot.cancel_id.load();
            if !same {
                continue;
            }
            let (at, signals) = (slot.cancel_at.load(), slot.cancel_signals.load());
            let mut next = at + CANCEL_AGAIN_NS * u64::from(signals);
            if clock::monotonic_ns() >= next {
                slot.cancel_signals.store(signals + 1);
                worker::signal(slot.pid.load(), if signals < 2 { libc::SIGINT } else { libc::SIGTERM });
                if signals >= 2 && slot.told_to_end.load() == 0 {
                    slot.told_to_end.store(clock::monotonic_ns());
                }
                turn.did(Reason::Cancel);
                next += CANCEL_AGAIN_NS;
            }
            turn.at_ns(Reason::Cancel, next);
        }
    }
}

impl Launcher {
    /// Executors that can't be stopped: their places are given to others. True: there are some, or will be.
    pub(super) fn look_for_lost(&mut self, turn: &mut Turn) -> bool {
        let header = self.shared.header;
        let mut told = self.shared.slots.iter().filter(|slot| slot.told_to_end.load() != 0).peekable();
        if told.peek().is_none() {
            header.lost.store(0);
            return false;
        }
        let mut lost = 0;
        for slot in told {
            if slot::is_lost(slot) {
                lost += 1;
            } else {
                turn.at_ns(Reason::Stuck, slot.told_to_end.load() + slot::LOST_AFTER.as_nanos() as u64);
            }
        }
        if header.lost.swap(lost) != lost {
            turn.did(Reason::Stuck);
        }
        true
    }
}

/// The postmaster could not start it, or it could not connect: dropped role, no LOGIN, no CONNECT.
fn failed_start(shared: &Shared, place: usize) {
    let slot = &shared.slots[place];
    let role = &shared.roles[slot.role_index.load() as usize];
    not_started(shared, slot);
    let now = clock::now();
    let failures = role.start_failures.fetch_add(1).min(6);
    if failures == 0 {
        role.failing_since.store(now);
    }
    role.start_after.store(now + (Span::SECOND << failures));
}

/// Its slot is free, its role has one executor less.
fn not_started(shared: &Shared, slot: &Slot) {
    let role = &shared.roles[slot.role_index.load() as usize];
    role.executors.fetch_sub(1);
    role.starting.fetch_sub(1);
    slot::free_slot(slot);
}
