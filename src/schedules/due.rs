//! Which of a schedule's fire times are to be served by now.

use crate::pure::schedule::catch_up::{self, CatchUp, Lateness};
use crate::pure::time::{At, instant};
use crate::schedules::follow::Notes;
use crate::schedules::row::Schedule;
use chrono::{DateTime, Utc};

impl Schedule {
    /// The rule's own fire time that it stands before; `next_run`: as its row has it.
    pub fn waiting_for(&self, next_run: Option<At>, state: &Notes) -> Option<At> {
        if state.released.is_some() { state.planned.filter(|_| !self.rule.is_after()) } else { next_run }
    }

    /// Why a fire time that was due is not served, where it is not the tenant that leaves it out.
    pub fn why_passed_over(&self, at: At, now: At) -> String {
        if self.lateness.deadline.is_some_and(|deadline| instant(now) - instant(at) > deadline) {
            return "it came to be served later than deadline allows".into();
        }
        match self.lateness.catch_up {
            CatchUp::Once => "a later fire time was served in its place: catch_up is once".into(),
            CatchUp::None => "it came to be served too late: catch_up is none".into(),
            CatchUp::All => "more fire times than catch_up_limit were late".into(),
        }
    }

    /// The fire times that are to be served now, the rule's own and the one of a release, at most about `count`; and the
    /// rule's next one. `next_run`: as its row has it. `state`: its notes, where it is noted what is still to be served.
    pub fn due(&self, next_run: Option<At>, state: &mut Notes, now: At, count: usize) -> (Vec<DateTime<Utc>>, Option<At>) {
        let plan = self.plan();
        let is_in_time = |at: &At| self.lateness.deadline.is_none_or(|deadline| instant(now) - instant(*at) <= deadline);
        let released = state.released.filter(is_in_time);
        let waiting_for = self.waiting_for(next_run, state);
        let (mut fire_times, next) = match waiting_for {
            // Before any clock of a computer's: somebody means at once.
            Some(at) if at <= now => {
                let from = instant(if at < At::UNIX_EPOCH { now } else { at });
                // A release is one of those that are made up for.
                let lateness = Lateness { limit: self.lateness.limit - usize::from(released.is_some()), ..self.lateness };
                let part = catch_up::part(&plan, from, instant(now), &lateness, state.promised.map(instant), count.max(1));
                state.promised = part.promised.map(At::from);
                (part.serve, part.next.map(At::from))
            }
            // The owner has written a release into it by hand, and lost the rule's own.
            None if state.released.is_some() => (vec![], plan.next_after(instant(now)).map(At::from)),
            at => (vec![], at),
        };
        if let Some(at) = released {
            fire_times.push(instant(at));
            fire_times.sort();
            fire_times.dedup();
        }
        (fire_times, next)
    }
}
