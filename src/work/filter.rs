//! Which tasks somebody means, by what their rows say.

use crate::postgres::column::{Column, Json, Relation, Text};
use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use crate::postgres::scan::Scan;
use crate::pure::ids::Id;
use crate::pure::like;
use crate::pure::state::{Ended, State};
use crate::pure::time::At;
use crate::task::document;
use crate::tenant::columns::{Results, Tasks};

/// Which tasks are meant: those of which all that is given is true.
#[derive(Default)]
pub struct Filter {
    pub handler: Option<String>,
    /// A pattern, as LIKE has them.
    pub name_like: Option<String>,
    pub states: Option<Vec<State>>,
    pub queue: Option<String>,
    pub schedule: Option<String>,
    pub group_id: Option<String>,
    /// Of the last error.
    pub sqlstate: Option<String>,
    /// When it was finished, or enqueued if it isn't: from then on.
    pub since: Option<At>,
    /// And before then.
    pub until: Option<At>,
}

/// What both kinds of rows say of a task.
pub trait Known: Relation + Sized {
    const HANDLER: Column<Self, Text>;
    const NAME: Column<Self, Text>;
    const QUEUE: Column<Self, Text>;
    const SCHEDULE: Column<Self, Text>;
    const GROUP_ID: Column<Self, Text>;
    /// Where its last error stands.
    const TROUBLE: Column<Self, Json>;
    fn id(row: &Row<Self>) -> Id;
    fn at(row: &Row<Self>) -> At;
    fn sqlstate(row: &Row<Self>) -> Option<String>;
}

impl Known for Tasks {
    const HANDLER: Column<Tasks, Text> = Tasks::HANDLER;
    const NAME: Column<Tasks, Text> = Tasks::NAME;
    const QUEUE: Column<Tasks, Text> = Tasks::QUEUE;
    const SCHEDULE: Column<Tasks, Text> = Tasks::SCHEDULE;
    const GROUP_ID: Column<Tasks, Text> = Tasks::GROUP_ID;
    const TROUBLE: Column<Tasks, Json> = Tasks::HISTORY;
    fn id(row: &Row<Tasks>) -> Id {
        row.get(Tasks::ID).unwrap_or_default()
    }
    fn at(row: &Row<Tasks>) -> At {
        row.get(Tasks::CREATED_AT).unwrap_or_default()
    }
    fn sqlstate(row: &Row<Tasks>) -> Option<String> {
        sqlstate_of(&document::last_error(row.get(Tasks::HISTORY)))
    }
}

impl Known for Results {
    const HANDLER: Column<Results, Text> = Results::HANDLER;
    const NAME: Column<Results, Text> = Results::NAME;
    const QUEUE: Column<Results, Text> = Results::QUEUE;
    const SCHEDULE: Column<Results, Text> = Results::SCHEDULE;
    const GROUP_ID: Column<Results, Text> = Results::GROUP_ID;
    const TROUBLE: Column<Results, Json> = Results::ERROR;
    fn id(row: &Row<Results>) -> Id {
        row.get(Results::ID).unwrap_or_default()
    }
    fn at(row: &Row<Results>) -> At {
        row.get(Results::FINISHED_AT).unwrap_or_default()
    }
    fn sqlstate(row: &Row<Results>) -> Option<String> {
        sqlstate_of(&row.get(Results::ERROR)?)
    }
}

fn sqlstate_of(error: &serde_json::Value) -> Option<String> {
    error.get("sqlstate")?.as_str().map(str::to_string)
}

impl Filter {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let texts = [&self.handler, &self.name_like, &self.queue, &self.schedule, &self.group_id, &self.sqlstate];
        texts.iter().all(|text| text.is_none()) && self.states.is_none() && self.since.is_none() && self.until.is_none()
    }

    /// The only name that can match.
    fn name(&self) -> Option<&str> {
        self.name_like.as_deref().filter(|pattern| !pattern.contains(['%', '_', '\\']))
    }

    /// Rows among which all are that match, by the best index that there is.
    pub fn unfinished<'t>(&self, table: &'t Table<Tasks>) -> Scan<'t, Tasks> {
        if let Some(name) = self.name() {
            return table.scan(&Tasks::BY_NAME, &[Tasks::NAME.equals(name)]);
        }
        if let Some(group) = &self.group_id {
            return table.scan(&Tasks::BY_GROUP, &[Tasks::GROUP_ID.equals(group)]);
        }
        table.scan(&Tasks::PICK, &[])
    }

    /// The same of finished ones. Several walks, one after the other; a row is in one of them only.
    pub fn finished<'t>(&self, table: &'t Table<Results>) -> Vec<Scan<'t, Results>> {
        if let Some(name) = self.name() {
            return vec![table.scan(&Results::BY_NAME, &[Results::NAME.equals(name)])];
        }
        if let Some(group) = &self.group_id {
            return vec![table.scan(&Results::BY_GROUP, &[Results::GROUP_ID.equals(group)])];
        }
        let since = self.since.map(|since| Results::FINISHED_AT.at_least(since));
        let until = self.until.map(|until| Results::FINISHED_AT.below(until));
        let times = || since.into_iter().chain(until);
        if let Some(schedule) = self.schedule.as_deref().filter(|_| table.has(&Results::BY_SCHEDULE)) {
            let keys: Vec<_> = std::iter::once(Results::SCHEDULE.equals(schedule)).chain(times()).collect();
            return vec![table.scan(&Results::BY_SCHEDULE, &keys)];
        }
        let unwell = self.states.as_deref().filter(|states| !states.contains(&State::Done) && table.has(&Results::BY_STATE));
        if let Some(states) = unwell {
            let ends = Ended::UNWELL.into_iter().filter(|end| states.contains(&end.seen()));
            let walk = |end| {
                let keys: Vec<_> = std::iter::once(Results::STATE.equals(end)).chain(times()).collect();
                table.scan(&Results::BY_STATE, &keys)
            };
            return ends.map(walk).collect();
        }
        if (since.is_some() || until.is_some()) && table.has(&Results::BY_END) {
            return vec![table.scan(&Results::BY_END, &times().collect::<Vec<_>>())];
        }
        vec![table.scan(&Results::BY_ID, &[])]
    }

    /// Whether the row matches; `state` is asked last, and only if it matters.
    pub fn matches<R: Known>(&self, table: &Table<R>, row: &Row<R>, state: impl FnOnce() -> State) -> bool {
        let row = &*table.whole(row, self.lacks(row));
        let is = |wanted: &Option<String>, column| wanted.as_ref().is_none_or(|wanted| row.get(column) == Some(wanted.as_str()));
        let at = R::at(row);
        is(&self.handler, R::HANDLER)
            && is(&self.schedule, R::SCHEDULE)
            && is(&self.group_id, R::GROUP_ID)
            && self.queue.as_ref().is_none_or(|queue| row.get(R::QUEUE).unwrap_or(document::DEFAULT_QUEUE) == queue)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && self.name_like.as_ref().is_none_or(|pattern| row.get(R::NAME).is_some_and(|name| like::matches(name, pattern)))
            && self.sqlstate.as_ref().is_none_or(|code| R::sqlstate(row).as_ref() == Some(code))
            && self.states.as_ref().is_none_or(|states| states.contains(&state()))
    }

    /// Whether something that it looks at stands out of line, and was not fetched.
    fn lacks<R: Known>(&self, row: &Row<R>) -> bool {
        row.outside > 0
            && ([R::HANDLER, R::NAME, R::QUEUE, R::SCHEDULE, R::GROUP_ID].into_iter().any(|column| row.lacks(column))
                || self.sqlstate.is_some() && row.lacks(R::TROUBLE))
    }
}
