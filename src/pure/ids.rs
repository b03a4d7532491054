//! Ids: new ones, and those that follow from what they are about, so that writing one twice is writing it once.

use crate::pure::time::At;

/// What stands in `waits_for` for a gate, or for a queue's turn.
pub fn gate_id(kind: &str, name: &str) -> u128 {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("tenant_q {kind} {name}").as_bytes()).as_u128()
}

pub fn turn_id(queue: &str) -> u128 {
    gate_id("turn", queue)
}

/// The id of a flow's member: as much in the order of time as the flow's own.
pub fn member_id(flow: u128, n: usize) -> u128 {
    const LOW: u128 = 0xFFFF_FFFF;
    let mixed = uuid::Uuid::new_v5(&uuid::Uuid::from_u128(flow), b"member").as_u128();
    // Time and version from the flow, variant kept, the number last.
    let keep = (flow >> 76) << 76;
    let random = (mixed & ((1 << 76) - 1)) & !(0b11 << 62) | (0b10 << 62);
    keep | (random & !LOW) | n as u128
}

/// A UUID as people write it.
pub fn uuid_text(id: u128) -> String {
    uuid::Uuid::from_u128(id).hyphenated().to_string()
}

/// A new id, version 7: ordered by time, unique across tenants and servers.
pub fn new_id() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

/// The id of the task that a fan-out has in one tenant: the same whoever computes it.
pub fn fan_id(fanout: u128, tenant: &str) -> u128 {
    // FNV-1a, then mixed: names that differ in one letter are far apart.
    let mut h = tenant.bytes().fold(fanout ^ 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D, |h, b| {
        (h ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B)
    });
    h = (h ^ (h >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A076_1D64_78BD_642F);
    h ^= h >> 61;
    (fanout >> 80 << 80) | (0x7 << 76) | ((h >> 100 & 0xFFF) << 64) | (0b10 << 62) | (h & 0x3FFF_FFFF_FFFF_FFFF)
}

/// The id of the task that serves one fire time of one schedule: the same whoever computes it.
pub fn fire_id(schedule: u128, fire_time: At) -> u128 {
    const EPOCH_2000_MS: i64 = 946_684_800_000;
    let ms = (fire_time.micros().div_euclid(1000) + EPOCH_2000_MS).max(0) as u128 & 0xFFFF_FFFF_FFFF;
    // Any good mixing will do: the schedule's id is random already.
    let mut h = schedule ^ (fire_time.micros() as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    h = (h ^ (h >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A076_1D64_78BD_642F);
    h ^= h >> 61;
    let random_a = (h >> 100) & 0xFFF;
    let random_b = h & 0x3FFF_FFFF_FFFF_FFFF;
    (ms << 80) | (0x7 << 76) | (random_a << 64) | (0b10 << 62) | random_b
}
