//! Ids: the same for the same subject, different for different ones, in the order of time where they have one.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use tenant_q_pure::ids::{self, Id};
use tenant_q_pure::time::At;

/// Some flow, fan-out or schedule: 019b76da-5c00-7123-8456-789abcdef012.
const SUBJECT: u128 = 0x019b_76da_5c00_7123_8456_789a_bcde_f012;
/// 2026-01-01T00:00:00Z, microseconds since 2000.
const NEW_YEAR: i64 = 820_540_800_000_000;

fn new_id() -> u128 {
    Id::fresh().number()
}
fn gate_id(kind: &str, name: &str) -> u128 {
    ids::gate_id(kind, name).number()
}
fn turn_id(queue: &str) -> u128 {
    ids::turn_id(queue).number()
}
fn member_id(flow: u128, n: usize) -> u128 {
    ids::member_id(Id::of(flow), n).number()
}
fn inner_member_id(flow: u128, n: usize) -> u128 {
    ids::inner_member_id(Id::of(flow), n).number()
}
fn fan_id(fanout: u128, tenant: &str) -> u128 {
    ids::fan_id(Id::of(fanout), tenant).number()
}
fn fire_id(schedule: u128, fire_time: i64) -> u128 {
    ids::fire_id(Id::of(schedule), At::of_micros(fire_time)).number()
}

/// Milliseconds since 1970.
fn millis(id: u128) -> u64 {
    (id >> 80) as u64
}
fn version(id: u128) -> u128 {
    id >> 76 & 0xF
}
fn variant(id: u128) -> u128 {
    id >> 62 & 0b11
}

/// They are in tables, and computed again by later releases. Values of an independent implementation.
#[test]
fn what_follows_from_its_subject_never_changes() {
    for (id, expected) in [
        (gate_id("lock", "a"), "bf6a372a-4988-5b98-9f19-5585f6cbaedf"),
        (turn_id("default"), "d6fc5324-2e06-50d6-8ae5-62ba20663847"),
        (member_id(SUBJECT, 0), "019b76da-5c00-7d77-8f39-5a8900000000"),
        (member_id(SUBJECT, 4711), "019b76da-5c00-7d77-8f39-5a8900001267"),
        (inner_member_id(SUBJECT, 4711), "019b76da-5c00-7d77-8f39-5a898f201267"),
        (fan_id(SUBJECT, "acme"), "019b76da-5c00-7dd6-9aae-bd8766c40aeb"),
        (fan_id(SUBJECT, "größe"), "019b76da-5c00-7319-9735-c1d90063bc39"),
        (fire_id(SUBJECT, NEW_YEAR), "019b76da-a800-7960-a557-acf3d12a79ff"),
        // Before 1970 there is no time to show: they differ nevertheless.
        (fire_id(SUBJECT, -1_000_000_000_000_000), "00000000-0000-726c-a981-0155f0a03783"),
        (SUBJECT, "019b76da-5c00-7123-8456-789abcdef012"),
        (0, "00000000-0000-0000-0000-000000000000"),
    ] {
        assert_eq!(Id::of(id).to_string(), expected);
    }
}

#[test]
fn an_id_is_its_text_its_words_and_its_bytes() {
    let (id, text) = (Id::of(SUBJECT), "019b76da-5c00-7123-8456-789abcdef012");
    assert_eq!((Id::of_words(id.high(), id.low()), Id::of_bytes(id.bytes()), Id::parse(text)), (id, id, Some(id)));
    assert_eq!((id.high(), id.low(), id.bytes()[..2].to_vec()), (0x019b_76da_5c00_7123, 0x8456_789a_bcde_f012, vec![0x01, 0x9b]));
    assert_eq!((serde_json::json!(id), serde_json::from_value(text.into()).ok()), (text.into(), Some(id)));
    for wrong in ["", "019b76da", "019b76da-5c00-7123-8456-789abcdef01g"] {
        assert!(Id::parse(wrong).is_none() && serde_json::from_value::<Id>(wrong.into()).is_err(), "{wrong}");
    }
    assert!(serde_json::from_str::<Id>("1").is_err() && serde_json::from_str::<Id>("null").is_err());
    assert!(Id::NIL < id && id < Id::LAST && Id::default() == Id::NIL);
}

#[test]
fn new_ids_are_of_version_7_and_ascend() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let before = now();
    let ids: Vec<u128> = (0..20_000).map(|_| new_id()).collect();
    let after = now();
    assert!(ids.is_sorted_by(|a, b| a < b));
    for id in ids {
        assert_eq!((version(id), variant(id)), (7, 0b10));
        // The clock of a busy machine may be set meanwhile.
        assert!((before - 1000..=after + 1000).contains(&millis(id)));
    }
}

#[test]
fn threads_make_different_new_ids() {
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| (0..5000).map(|_| new_id()).collect::<Vec<_>>())).collect();
    let ids: HashSet<u128> = threads.into_iter().flat_map(|t| t.join().expect("made ids")).collect();
    assert_eq!(ids.len(), 20_000);
}

#[test]
fn members_are_as_old_as_their_flow_and_in_its_order() {
    let members: Vec<_> = (0..1000).map(|n| member_id(SUBJECT, n)).collect();
    assert!(members.is_sorted_by(|a, b| a < b));
    for (n, id) in members.iter().enumerate() {
        assert_eq!((millis(*id), version(*id), variant(*id)), (millis(SUBJECT), 7, 0b10));
        assert_eq!(*id as u32, n as u32);
    }
    // A flow of the next millisecond comes later with all its members.
    assert!(members.iter().all(|id| *id < SUBJECT + (1 << 80) && *id != SUBJECT));
}

#[test]
fn fire_times_are_the_time_of_their_tasks() {
    const SECOND: i64 = 1_000_000;
    let ids: Vec<_> = (0..1000).map(|n| fire_id(SUBJECT, NEW_YEAR + n * SECOND)).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!((millis(id), version(id), variant(id)), (1_767_225_600_000 + 1000 * n as u64, 7, 0b10));
    }
    // What shares a millisecond, and what is out of range, differs all the same.
    let odd = [NEW_YEAR, NEW_YEAR + 1, NEW_YEAR + 999, NEW_YEAR - 1, i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, -946_684_800_000_000];
    assert_eq!(odd.map(|at| fire_id(SUBJECT, at)).into_iter().collect::<HashSet<_>>().len(), odd.len());
}

#[test]
fn names_that_are_nearly_the_same_have_ids_that_are_not() {
    let names = ["a", "b", "A", "a ", " a", "aa", "", "ä", "tenant_1", "tenant_2", "tenant_12", "tenant_21", "lock", "lock a"];
    let fans: HashSet<_> = names.iter().map(|name| fan_id(SUBJECT, name)).collect();
    assert_eq!(fans.len(), names.len());
    for id in fans {
        assert_eq!((millis(id), version(id), variant(id)), (millis(SUBJECT), 7, 0b10));
    }
    // A tenant's place within a stagger: its last half alone tells thousands apart.
    let halves: HashSet<_> = (0..10_000).map(|n| fan_id(0, &format!("tenant_{n}")) as u64).collect();
    assert_eq!(halves.len(), 10_000);
}

/// All that one text may be the name of, in the tables of one tenant.
#[test]
fn what_is_of_one_name_is_not_confused() {
    let mut all = HashSet::new();
    let mut number = 0;
    let mut add = |id: u128| {
        all.insert(id);
        number += 1;
    };
    for name in ["", "a", "a b", "default", "turn", "lock", "turn default"] {
        for kind in ["lock", "limit", "handler", "queue", "tenant"] {
            add(gate_id(kind, name));
        }
        add(turn_id(name));
        for subject in [0, 1, SUBJECT, SUBJECT + 1] {
            add(fan_id(subject, name));
        }
    }
    for subject in [0, 1, SUBJECT, SUBJECT + 1] {
        add(subject);
        for n in 0..100 {
            add(member_id(subject, n));
            add(fire_id(subject, n as i64));
            add(fire_id(subject, NEW_YEAR + n as i64));
        }
    }
    assert_eq!((number, all.len()), (1274, 1274));
}

proptest! {
    #[test]
    fn equal_subjects_have_equal_ids_and_others_others(
        flows: [u128; 2], n in [0usize..1 << 32, 0usize..1 << 32], tenants in ["[a-c]{0,3}", "[a-c]{0,3}"], times: [i64; 2],
    ) {
        let (flow, other) = (flows[0], flows[1]);
        prop_assume!(flow != other);
        prop_assert_eq!(n[0] == n[1], member_id(flow, n[0]) == member_id(flow, n[1]));
        prop_assert_ne!(member_id(flow, n[0]), member_id(other, n[0]));
        let inner = n.map(|n| n % (1 << 17));
        prop_assert_eq!(inner[0] == inner[1], inner_member_id(flow, inner[0]) == inner_member_id(flow, inner[1]));
        prop_assert_ne!(inner_member_id(flow, inner[0]), inner_member_id(other, inner[0]));
        prop_assert_eq!(tenants[0] == tenants[1], fan_id(flow, &tenants[0]) == fan_id(flow, &tenants[1]));
        prop_assert_ne!(fan_id(flow, &tenants[0]), fan_id(other, &tenants[0]));
        prop_assert_eq!(times[0] == times[1], fire_id(flow, times[0]) == fire_id(flow, times[1]));
        prop_assert_ne!(fire_id(flow, times[0]), fire_id(other, times[0]));
        prop_assert_eq!(tenants[0] == tenants[1], gate_id("lock", &tenants[0]) == gate_id("lock", &tenants[1]));
    }
}
