//! Any text, given to each parser; what it is and means is checked by the same function as in `make test`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first bytes say where and when; the rest is the text.
    let Some((head, text)) = data.split_at_checked(16) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    tenant_q_pure::any_text::check(text, word(0), word(8));
});
