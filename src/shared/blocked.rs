//! Why an entry is left alone.

/// Why nothing could be picked, for `Entry::blocked_reason`.
pub mod reason {
    pub const LOCKED: u32 = 1;
    pub const PAUSED: u32 = 2;
    pub const NOT_READY: u32 = 3;
    pub const SUSPENDED: u32 = 4;
    pub const BROKEN: u32 = 5;
    pub const ERROR: u32 = 6;
    pub const UNRECORDED: u32 = 7;
    pub const SETTINGS: u32 = 8;
    pub const CROWDED: u32 = 9;
    pub fn text(reason: u32) -> Option<&'static str> {
        Some(match reason {
            LOCKED => "its tables are locked",
            PAUSED => "paused",
            NOT_READY => "not ready",
            SUSPENDED => "suspended",
            BROKEN => "its tables are not as tq_attach made them",
            ERROR => "its tables could not be read",
            SETTINGS => "its settings can't be set",
            CROWDED => "the ends of more of its attempts could not be recorded than tasks are held back one by one",
            UNRECORDED => "how an attempt ended is still to be written down",
            _ => return None,
        })
    }
}
