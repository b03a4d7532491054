//! How far a running task says it is: a fraction and a note in its slot.

use crate::shared::slot::Slot;
use crate::shared::text::{load_text, store_text};
use serde_json::Value as Json;

/// Bytes of a note.
pub const NOTE: usize = 256;

/// `Slot::progress` counts these from 1; 0 = nothing was said.
pub const STEPS: f64 = 1e9;

/// A new attempt begins: what was said of the last one is over.
pub fn begin(slot: &Slot) {
    if slot.progress.load() != 0 {
        slot.progress.store(0);
        write_note(slot, "");
    }
}

/// Odd while it is being written, so that nobody reads half of it.
pub fn write_note(slot: &Slot, text: &str) {
    slot.note_version.fetch_add(1);
    store_text(&slot.note, text);
    slot.note_version.fetch_add(1);
}

/// What the running task said last.
pub fn of(slot: &Slot) -> (Option<f64>, Option<Json>) {
    let said = slot.progress.load();
    if said == 0 {
        return (None, None);
    }
    for _ in 0..100 {
        let before = slot.note_version.load();
        let text = load_text(&slot.note);
        if before.is_multiple_of(2) && slot.note_version.load() == before {
            return (Some((said - 1) as f64 / STEPS), serde_json::from_str(&text).ok());
        }
        std::thread::yield_now();
    }
    (Some((said - 1) as f64 / STEPS), None)
}
