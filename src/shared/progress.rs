//! How far a running task says it is: a fraction and a note in its slot, or in its claim.

use crate::pure::atomics::{GaugeU8, GaugeU32, HandshakeU32};
use crate::shared::claims::Claim;
use crate::shared::slot::Slot;
use crate::shared::text::{load_text, store_text};
use serde_json::Value as Json;

/// Bytes of a note.
pub const NOTE: usize = 256;

/// `Slot::progress` counts these from 1; 0 = nothing was said.
pub const STEPS: f64 = 1e9;

/// Where it is said.
pub trait Says {
    /// 0 = nothing was said, else `STEPS` from 1.
    fn progress(&self) -> &GaugeU32;
    /// Odd while the note is being written.
    fn version(&self) -> &HandshakeU32;
    fn note(&self) -> &[GaugeU8];
}

impl Says for Slot {
    fn progress(&self) -> &GaugeU32 {
        &self.progress
    }
    fn version(&self) -> &HandshakeU32 {
        &self.note_version
    }
    fn note(&self) -> &[GaugeU8] {
        &self.note
    }
}

impl Says for Claim {
    fn progress(&self) -> &GaugeU32 {
        &self.progress
    }
    fn version(&self) -> &HandshakeU32 {
        &self.note_version
    }
    fn note(&self) -> &[GaugeU8] {
        &self.note
    }
}

/// A new attempt begins: what was said of the last one is over.
pub fn begin(slot: &Slot) {
    if slot.progress.load() != 0 {
        slot.progress.store(0);
        write_note(slot, "");
    }
}

/// Odd while it is being written, so that nobody reads half of it.
pub fn write_note(of: &impl Says, text: &str) {
    of.version().fetch_add(1);
    store_text(of.note(), text);
    of.version().fetch_add(1);
}

/// What the running task said last.
pub fn of(of: &impl Says) -> (Option<f64>, Option<Json>) {
    let said = of.progress().load();
    if said == 0 {
        return (None, None);
    }
    for _ in 0..100 {
        let before = of.version().load();
        let text = load_text(of.note());
        if before.is_multiple_of(2) && of.version().load() == before {
            return (Some((said - 1) as f64 / STEPS), serde_json::from_str(&text).ok());
        }
        std::thread::yield_now();
    }
    (Some((said - 1) as f64 / STEPS), None)
}
