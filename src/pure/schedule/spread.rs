//! Randomness that repeats: jitter, stagger and random gaps from a seed.
//!
//! Contract: the same arguments give the same answer on every machine and in every release, so whoever
//! computes a fire time twice gets the same instant, and nothing needs to be stored.

use chrono::{DateTime, TimeDelta, Utc};

/// How much later than its fire time a task may run, so that schedules due in the same second don't all
/// start at once: less than `limit`, drawn anew for each fire time. The fire time itself stays.
pub fn jitter(seed: u64, fire_time: DateTime<Utc>, limit: TimeDelta) -> TimeDelta {
    below(seed, fire_time.timestamp() as u64, limit)
}

/// As [`jitter`], but the same for all fire times: a tenant keeps its place in the queue of all tenants.
pub fn stagger(seed: u64, limit: TimeDelta) -> TimeDelta {
    below(seed, 0, limit)
}

fn below(seed: u64, draw: u64, limit: TimeDelta) -> TimeDelta {
    match limit.num_microseconds() {
        Some(limit @ 1..) => TimeDelta::microseconds(random_below(seed, draw, limit as u64) as i64),
        _ => TimeDelta::zero(),
    }
}

/// The `draw`th number of a seed, evenly distributed in `0..limit`.
pub fn random_below(seed: u64, draw: u64, limit: u64) -> u64 {
    // SplitMix64's finalizer, twice: seeds are often small neighbours, and so are draws.
    let mixed = mix(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(draw));
    ((u128::from(mixed) * u128::from(limit)) >> 64) as u64
}

fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
