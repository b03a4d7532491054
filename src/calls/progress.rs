//! How far a running task is: said by its handler, seen by others at once, because it is in the
//! executor's slot and in no transaction.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::shared::progress::Says;
use crate::shared::progress::{self, NOTE, STEPS};
use crate::task::current;
use crate::work::finish;
use crate::{shared, sql_functions};

/// tq_progress(fraction, note, claim)
fn progress(args: &Args) -> Result<Ret> {
    let claim = if args.declares(2) { args.uuid(2) } else { None };
    if claim.is_none() && current::current().is_none() {
        return Err(Error::state("tq_progress is for handlers, and no task runs in this session"));
    }
    let fraction =
        args.float(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "fraction is null").hint("Pass a number from 0 to 1."))?;
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::invalid(format!("fraction {fraction} is not from 0 to 1")));
    }
    let note = args.setting(1).map(|note| note.to_string()).unwrap_or_default();
    if note.len() > NOTE {
        return Err(Error::limit(format!("note takes {} bytes", note.len()))
            .detail(format!("It is kept in shared memory, in {NOTE} bytes."))
            .hint("Say it shorter, or write it into a table when the task ends."));
    }
    if let Some(id) = claim {
        let s = finish::shared()?;
        let claim = finish::of_caller(&s, id)?;
        progress::write_note(claim, &note);
        claim.progress().store((fraction * STEPS).round() as u32 + 1);
        return Ok(Ret::Void);
    }
    // A session that runs tasks by itself has no slot: nobody could look.
    if let (Some(s), Some(n)) = (shared::get(), crate::shared::slot::my_slot()) {
        let slot = &s.slots[n];
        progress::write_note(slot, &note);
        slot.progress().store((fraction * STEPS).round() as u32 + 1);
    }
    Ok(Ret::Void)
}

sql_functions! {
    tq_progress, pg_finfo_tq_progress => progress;
}
