//! A process's memory of others' things: never more than allowed, never what was replaced, and what is used stays.

use proptest::prelude::*;
use tenant_q_pure::cache::Bounded;

fn kept(cache: &Bounded<u32, u32>, keys: impl IntoIterator<Item = u32>) -> Vec<u32> {
    keys.into_iter().filter(|k| cache.contains(k)).collect()
}

#[test]
fn what_is_used_stays_and_what_was_asked_for_once_goes() {
    let mut cache = Bounded::new(100, 1 << 20);
    cache.insert(0, 7, 10);
    for n in 1..10_000 {
        cache.insert(n, n, 10);
        assert_eq!(cache.get(&0), Some(7), "after {n}");
        assert!(kept(&cache, 0..=n).len() <= 100);
    }
    assert_eq!(kept(&cache, 0..9_900), [0]);
    // Half of the room is for what was used lately.
    assert_eq!(kept(&cache, 9_951..10_000).len(), 49);
}

#[test]
fn a_few_large_ones_or_many_small_ones() {
    let mut cache = Bounded::new(1000, 1000);
    for n in 0..100 {
        cache.insert(n, n, 500);
        assert!(kept(&cache, 0..100).len() <= 2);
        assert_eq!(cache.get(&n), Some(n), "just half of the room");
    }
    for n in 100..10_000 {
        cache.insert(n, n, 10);
    }
    let small = kept(&cache, 0..10_000).len();
    assert!((50..=100).contains(&small), "{small} of 10 bytes in 1000");
    for n in 0..10_000 {
        cache.insert(n, n, 0);
    }
    let empty = kept(&cache, 0..10_000).len();
    assert!((500..=1000).contains(&empty), "{empty} of no bytes, at most 1000");
}

#[test]
fn what_is_too_large_is_not_kept_and_drives_nobody_out() {
    let mut cache = Bounded::new(100, 1000);
    cache.insert(1, 1, 100);
    for bytes in [501, 1000, 1001, usize::MAX] {
        cache.insert(2, 2, bytes);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
        // Nor is what it replaces: that would be out of date.
        cache.insert(3, 3, 1);
        cache.insert(3, 33, bytes);
        assert_eq!((cache.get(&1), cache.get(&3)), (Some(1), None));
    }
}

#[test]
fn what_is_replaced_or_removed_takes_no_room() {
    let mut cache = Bounded::new(10, 1000);
    cache.insert(1, 1, 100);
    for n in 0..100 {
        cache.insert(2, n, 400);
        assert_eq!(cache.get(&2), Some(n));
    }
    assert!(cache.contains(&1));
    for n in 3..100 {
        cache.insert(n, n, 300);
        assert_eq!(cache.remove(&n), Some(n));
        assert_eq!((cache.get(&n), cache.remove(&n)), (None, None));
    }
    // They have driven out what they met, but none of them counts any more: there is room for five of a hundred.
    for n in 100..105 {
        cache.insert(n, n, 100);
    }
    assert_eq!(kept(&cache, 100..105), [100, 101, 102, 103, 104]);
    cache.clear();
    assert!(kept(&cache, 0..105).is_empty());
    for n in 0..5 {
        cache.insert(n, n, 100);
    }
    assert_eq!(kept(&cache, 0..5), [0, 1, 2, 3, 4]);
}

#[test]
fn keys_are_found_by_what_they_are_borrowed_as() {
    let mut cache = Bounded::new(10, 1000);
    cache.insert("acme".to_string(), 1, 4);
    assert!(cache.contains("acme") && !cache.contains("Acme"));
    assert_eq!((cache.get("acme"), cache.get("")), (Some(1), None));
    assert_eq!(cache.remove("acme"), Some(1));
}

#[test]
fn room_for_one_or_none_is_kept_too() {
    for room in [1, 0] {
        let mut cache = Bounded::new(room, 1000);
        for n in 0..10 {
            cache.insert(n, n, 1);
            let kept = kept(&cache, 0..10);
            assert!(kept.len() <= room, "{kept:?} in room for {room}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u32, bytes: usize },
    Get { key: u32 },
    Remove { key: u32 },
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0u32..30, prop_oneof![0usize..20, 0usize..200]).prop_map(|(key, bytes)| Step::Insert { key, bytes }),
        10 => (0u32..30).prop_map(|key| Step::Get { key }),
        3 => (0u32..30).prop_map(|key| Step::Remove { key }),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn within_its_bounds_and_up_to_date(number_max in 2usize..20, bytes_max in 0usize..500, steps in steps()) {
        let mut cache = Bounded::new(number_max, bytes_max);
        // What was last inserted of each key, if it may be there still: value and bytes.
        let mut written: [Option<(u32, usize)>; 30] = [None; 30];
        // Keys by their last use, the latest last.
        let mut used: Vec<u32> = Vec::new();
        for (value, step) in steps.into_iter().enumerate() {
            let value = value as u32;
            match step {
                Step::Insert { key, bytes } => {
                    cache.insert(key, value, bytes);
                    let fits = bytes <= bytes_max / 2;
                    prop_assert_eq!(cache.contains(&key), fits, "what is new stays if it fits");
                    written[key as usize] = fits.then_some((value, bytes));
                    used.retain(|k| *k != key);
                    used.extend(fits.then_some(key));
                }
                Step::Get { key } => {
                    let was_there = cache.contains(&key);
                    let found = cache.get(&key);
                    prop_assert_eq!(found, was_there.then(|| written[key as usize].expect("not out of nothing").0));
                    prop_assert_eq!(cache.contains(&key), was_there, "a use drives nothing of itself out");
                    used.retain(|k| *k != key);
                    used.extend(was_there.then_some(key));
                }
                Step::Remove { key } => {
                    let was_there = cache.contains(&key);
                    prop_assert_eq!(cache.remove(&key), written[key as usize].filter(|_| was_there).map(|(value, _)| value));
                    prop_assert!(!cache.contains(&key));
                    written[key as usize] = None;
                    used.retain(|k| *k != key);
                }
                Step::Clear => {
                    cache.clear();
                    prop_assert!(kept(&cache, 0..30).is_empty());
                    (written, used) = ([None; 30], Vec::new());
                }
            }
            let there = kept(&cache, 0..30);
            prop_assert!(there.len() <= number_max);
            prop_assert!(there.iter().map(|k| written[*k as usize].expect("not out of nothing").1).sum::<usize>() <= bytes_max);
            // The latest ones that fit into half of the room are there, whatever was before them.
            let mut bytes = 0;
            for key in used.iter().rev().take(number_max / 2) {
                bytes += written[*key as usize].expect("a use of what is there").1;
                prop_assert!(bytes > bytes_max / 2 || cache.contains(key), "{} of {:?}", key, used);
            }
            // What went when others were larger stays away when they shrink.
            used.retain(|key| cache.contains(key));
        }
    }
}
