//! How far a running task is: said by its handler, seen by others at once, because it is in the
//! executor's slot and in no transaction.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::shared::{self, Slot, load_text, store_text};
use crate::sql_functions;
use crate::work::run;
use serde_json::Value as Json;
use std::sync::atomic::Ordering::*;

/// Bytes of a note.
pub const NOTE: usize = 256;
/// `Slot::progress` counts these from 1; 0 = nothing was said.
const STEPS: f64 = 1e9;

/// A new attempt begins: what was said of the last one is over.
pub fn begin(slot: &Slot) {
    if slot.progress.load(Relaxed) != 0 {
        slot.progress.store(0, Relaxed);
        write_note(slot, "");
    }
}

/// Odd while it is being written, so that nobody reads half of it.
fn write_note(slot: &Slot, text: &str) {
    slot.note_version.fetch_add(1, SeqCst);
    store_text(&slot.note, text);
    slot.note_version.fetch_add(1, SeqCst);
}

/// What the running task said last.
pub fn of(slot: &Slot) -> (Option<f64>, Option<Json>) {
    let said = slot.progress.load(Relaxed);
    if said == 0 {
        return (None, None);
    }
    for _ in 0..100 {
        let before = slot.note_version.load(SeqCst);
        let text = load_text(&slot.note);
        if before.is_multiple_of(2) && slot.note_version.load(SeqCst) == before {
            return (Some((said - 1) as f64 / STEPS), serde_json::from_str(&text).ok());
        }
        std::thread::yield_now();
    }
    (Some((said - 1) as f64 / STEPS), None)
}

/// tq_progress(fraction, note)
fn progress(args: &Args) -> Result<Ret> {
    if run::current().is_none() {
        return Err(Error::state("tq_progress is for handlers, and no task runs in this session"));
    }
    let fraction = args.float(0).ok_or_else(|| Error::new("22004", "fraction is null").hint("Pass a number from 0 to 1."))?;
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::invalid(format!("fraction {fraction} is not from 0 to 1")));
    }
    let note = args.setting(1).map(|note| note.to_string()).unwrap_or_default();
    if note.len() > NOTE {
        return Err(Error::limit(format!("note takes {} bytes", note.len()))
            .detail(format!("It is kept in shared memory, in {NOTE} bytes."))
            .hint("Say it shorter, or write it into a table when the task ends."));
    }
    // A session that runs tasks by itself has no slot: nobody could look.
    if let (Some(s), Some(n)) = (shared::get(), crate::worker::executor::my_slot()) {
        let slot = &s.slots[n];
        write_note(slot, &note);
        slot.progress.store((fraction * STEPS).round() as u32 + 1, Relaxed);
    }
    Ok(Ret::Void)
}

sql_functions! {
    tq_progress, pg_finfo_tq_progress => progress;
}
