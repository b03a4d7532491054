//! Ids: new ones, and those that follow from what they are about, so that writing one twice is writing it once.

use crate::pure::time::At;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Debug, Display, Formatter};
use uuid::Uuid;

/// A UUID: the id of a task, a flow, a schedule or a fan-out, or the key of a gate. Documents have it as a text, as people
/// write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Id(u128);

impl Id {
    /// Nobody's.
    pub const NIL: Id = Id(0);
    pub const LAST: Id = Id(u128::MAX);

    pub const fn of(number: u128) -> Id {
        Id(number)
    }
    pub const fn number(self) -> u128 {
        self.0
    }
    pub const fn of_words(high: u64, low: u64) -> Id {
        Id((high as u128) << 64 | low as u128)
    }
    pub const fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }
    pub const fn low(self) -> u64 {
        self.0 as u64
    }
    pub const fn of_bytes(bytes: [u8; 16]) -> Id {
        Id(u128::from_be_bytes(bytes))
    }
    pub const fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
    /// In any of the ways in which UUIDs are written.
    pub fn parse(text: &str) -> Option<Id> {
        Uuid::parse_str(text).ok().map(|id| Id(id.as_u128()))
    }
    /// A new one, version 7: ordered by time, unique across tenants and servers.
    pub fn fresh() -> Id {
        Id(Uuid::now_v7().as_u128())
    }
    /// The one that follows from this one and a name, version 5.
    pub fn derived(self, name: &[u8]) -> Id {
        Id(Uuid::new_v5(&Uuid::from_u128(self.0), name).as_u128())
    }
}

impl Display for Id {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        Display::fmt(&Uuid::from_u128(self.0).hyphenated(), f)
    }
}
impl Debug for Id {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        Display::fmt(self, f)
    }
}
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        let text = String::deserialize(from)?;
        Uuid::parse_str(&text).map(|id| Id(id.as_u128())).map_err(serde::de::Error::custom)
    }
}

/// What stands in `waits_for` for a gate, or for a queue's turn.
pub fn gate_id(kind: &str, name: &str) -> Id {
    Id(Uuid::NAMESPACE_OID.as_u128()).derived(format!("tenant_q {kind} {name}").as_bytes())
}

pub fn turn_id(queue: &str) -> Id {
    gate_id("turn", queue)
}

/// In front of every run's key. No time and no hash of ours begins so and has version 8.
const RUN: u128 = 0xFFFF << 112 | 0x8 << 76 | 0b10 << 62;

/// What stands in `waits_for` for the tasks of one external handler and one queue, which lie together in the index over it: first
/// those of one handler, in them those of one queue. Names that share a key share a run; whoever takes looks at the row.
pub fn run_id(handler: &str, queue: Option<&str>) -> Id {
    Id(RUN | of_handler(handler) | u128::from(of_queue(queue)))
}

/// The first and the last key that runs of this handler can have.
pub fn runs_of(handler: &str) -> (Id, Id) {
    let first = RUN | of_handler(handler);
    (Id(first), Id(first | ((1 << 62) - 1)))
}

/// The first and the last key that any run can have.
pub const RUNS: (Id, Id) = (Id(0xFFFF << 112), Id::LAST);

/// Whether this is a run's key.
pub fn is_run(id: Id) -> bool {
    id.0 & (0xFFFF << 112 | 0xF << 76 | 0b11 << 62) == RUN
}

/// 48 bits of a handler's name, around the version.
fn of_handler(handler: &str) -> u128 {
    let hash = gate_id("handler", handler).0;
    (hash >> 96) << 80 | (hash & 0xFFF) << 64
}

/// 62 bits of a queue's name.
fn of_queue(queue: Option<&str>) -> u64 {
    gate_id("queue", queue.unwrap_or("default")).low() & ((1 << 62) - 1)
}

/// The id of a flow's member: as much in the order of time as the flow's own.
pub fn member_id(flow: Id, n: usize) -> Id {
    numbered(flow, n, 32)
}

/// The id of a member of a flow that is a member itself. There may be a hundred thousand such flows of one time beside each
/// other, so more of it is random.
pub fn inner_member_id(flow: Id, n: usize) -> Id {
    numbered(flow, n, 17)
}

fn numbered(flow: Id, n: usize, bits: u32) -> Id {
    let low = (1 << bits) - 1;
    let mixed = flow.derived(b"member").0;
    // Time and version from the flow, variant kept, the number last.
    let keep = (flow.0 >> 76) << 76;
    let random = (mixed & ((1 << 76) - 1)) & !(0b11 << 62) | (0b10 << 62);
    Id(keep | (random & !low) | n as u128)
}

/// The id of the task that a fan-out has in one tenant: the same whoever computes it.
pub fn fan_id(fanout: Id, tenant: &str) -> Id {
    let fanout = fanout.0;
    // FNV-1a, then mixed: names that differ in one letter are far apart.
    let mut h = tenant.bytes().fold(fanout ^ 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D, |h, b| {
        (h ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B)
    });
    h = (h ^ (h >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A076_1D64_78BD_642F);
    h ^= h >> 61;
    Id((fanout >> 80 << 80) | (0x7 << 76) | ((h >> 100 & 0xFFF) << 64) | (0b10 << 62) | (h & 0x3FFF_FFFF_FFFF_FFFF))
}

/// The id of the task that serves one fire time of one schedule: the same whoever computes it.
pub fn fire_id(schedule: Id, fire_time: At) -> Id {
    const EPOCH_2000_MS: i64 = 946_684_800_000;
    let ms = (fire_time.micros().div_euclid(1000) + EPOCH_2000_MS).max(0) as u128 & 0xFFFF_FFFF_FFFF;
    // Any good mixing will do: the schedule's id is random already.
    let mut h = schedule.0 ^ (fire_time.micros() as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    h = (h ^ (h >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A076_1D64_78BD_642F);
    h ^= h >> 61;
    let random_a = (h >> 100) & 0xFFF;
    let random_b = h & 0x3FFF_FFFF_FFFF_FFFF;
    Id((ms << 80) | (0x7 << 76) | (random_a << 64) | (0b10 << 62) | random_b)
}
