//! Short texts in shared memory, cut to what has room.

use crate::pure::atomics::GaugeU8;

pub fn store_text(target: &[GaugeU8], text: &str) {
    let bytes = text.as_bytes();
    for (i, t) in target.iter().enumerate() {
        t.store(bytes.get(i).copied().unwrap_or(0));
    }
}

pub fn load_text(source: &[GaugeU8]) -> String {
    let bytes: Vec<u8> = source.iter().map(|b| b.load()).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
