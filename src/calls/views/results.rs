//! tenant_q.finished_task, behind tq_results: a tenant's results.

use super::columns::{
    ARGS, ATTEMPT, CREATED_AT, ENQUEUED_BY, ERROR, FINISHED_AT, GROUP_ID, HANDLER, ID, MAX_ATTEMPTS, META, NAME, PARENT_ID, PRIORITY,
    QUEUE, REASON, RESULT, RUN_AT, SCHEDULE, SCHEDULED_FOR, STARTED_AT, STATE, TENANT,
};
use crate::handler;
use crate::postgres::column::Value;
use crate::postgres::error::Result;
use crate::postgres::foreign::{Holding, INT4, Letters, Order, Passing, Searched, Shown, Shows, TEXT, Wanted};
use crate::postgres::relation::Table;
use crate::pure::state::{Ended, Letter};
use crate::settings;
use crate::task::document::DEFAULT_QUEUE;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::Results;
use crate::tenant::rights::{self, Right};
use std::rc::Rc;

pub struct FinishedTasks {
    tenant: Rc<Tenant>,
    wanted: Wanted,
}

/// What is worked out of a result.
pub struct Seen {
    max_attempts: Option<i32>,
}

fn letters(word: &str) -> Letters {
    if word == Ended::Unknown.word() {
        return Letters::Several;
    }
    Ended::of_word(word).map_or(Letters::None, |ended| Letters::One(ended.letter()))
}

impl Shown for FinishedTasks {
    type Rows = Results;
    type Seen = Seen;
    const NAME: &'static str = "finished_task";
    const COLUMNS: &'static [Shows<Results>] = &[
        Shows::own(Results::ID),
        Shows::Told(TEXT),
        Shows::own(Results::HANDLER),
        Shows::own(Results::NAME),
        Shows::Told(TEXT),
        Shows::Told(TEXT),
        Shows::own(Results::ARGS),
        Shows::own(Results::RESULT),
        Shows::own(Results::ERROR),
        Shows::own(Results::ATTEMPTS),
        Shows::Told(INT4),
        Shows::Told(TEXT),
        Shows::Told(INT4),
        Shows::own(Results::GROUP_ID),
        Shows::own(Results::PARENT_ID),
        Shows::own(Results::SCHEDULE),
        Shows::own(Results::SCHEDULED_FOR),
        Shows::own(Results::CREATED_AT),
        Shows::own(Results::RUN_AT),
        Shows::own(Results::STARTED_AT),
        Shows::own(Results::FINISHED_AT),
        Shows::own(Results::ENQUEUED_BY),
        Shows::own(Results::META),
    ];
    const ORDERS: &'static [Order<Results>] = &[
        Order { index: &Results::BY_ID, searched: &[Searched::As(ID)], holds: Holding::Unique },
        Order { index: &Results::BY_NAME, searched: &[Searched::As(NAME)], holds: Holding::Keyed },
        Order { index: &Results::BY_GROUP, searched: &[Searched::As(GROUP_ID)], holds: Holding::Keyed },
        Order { index: &Results::BY_END, searched: &[Searched::As(FINISHED_AT)], holds: Holding::All },
        Order {
            index: &Results::BY_STATE,
            searched: &[Searched::Word(STATE, letters), Searched::As(FINISHED_AT)],
            holds: Holding::AllBut(Ended::Done as u8, 3),
        },
        Order { index: &Results::BY_SCHEDULE, searched: &[Searched::As(SCHEDULE), Searched::As(FINISHED_AT)], holds: Holding::Keyed },
    ];

    fn begin(wanted: Wanted) -> Result<(FinishedTasks, Table<Results>)> {
        let tenant = rights::resolve(None, &[Right::Read])?;
        let table = tenant.open_to_look(tenant.result)?;
        Ok((FinishedTasks { tenant, wanted }, table))
    }

    fn see(&self, row: &Passing<Results>) -> Option<Seen> {
        let max_attempts = self.wanted.has(MAX_ATTEMPTS).then(|| {
            let own = row.has(Results::OPTIONS).then(|| {
                let row = row.copy_without(&[Results::ARGS.number(), Results::RESULT.number(), Results::ERROR.number()]);
                Options::of_result(&row).max_attempts
            });
            let of_handler = || handler::find(&self.tenant, &row.text(Results::HANDLER)?).ok().flatten()?.max_attempts;
            own.flatten().or_else(of_handler).unwrap_or_else(settings::max_attempts)
        });
        Some(Seen { max_attempts })
    }

    fn tell<'a>(&'a self, seen: &'a Seen, row: &Passing<'a, Results>, place: usize) -> Value<'a> {
        match place {
            TENANT => Value::Text(&self.tenant.name),
            STATE => Value::Text(row.letter(Results::STATE).word()),
            MAX_ATTEMPTS => seen.max_attempts.map_or(Value::Null, Value::I32),
            QUEUE if !row.has(Results::QUEUE) => Value::Text(DEFAULT_QUEUE),
            QUEUE => row.own(Results::QUEUE),
            PRIORITY => Value::I32(row.int2(Results::PRIORITY).unwrap_or(0).into()),
            _ => Value::Null,
        }
    }
}

/// The columns stand in the order in which their places are counted.
const _: () = assert!(
    ID + 1 == TENANT
        && HANDLER + 1 == NAME
        && REASON + 1 == ARGS
        && RESULT + 1 == ERROR
        && ATTEMPT + 1 == MAX_ATTEMPTS
        && PARENT_ID + 1 == SCHEDULE
        && SCHEDULED_FOR + 1 == CREATED_AT
        && RUN_AT + 1 == STARTED_AT
        && FINISHED_AT + 1 == ENQUEUED_BY
        && META + 1 == FinishedTasks::COLUMNS.len()
);
