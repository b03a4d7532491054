//! A slot's word: nothing is lost in it, and no two states of a slot look the same.

use std::collections::HashSet;

use proptest::prelude::*;
use tenant_q_pure::pure::atomics::Choice;
use tenant_q_pure::word::{Scheduler, SlotState, Stop, Unpark, Word};

/// As many tasks as a slot's list has room for.
const BATCH: usize = 64;

#[test]
fn all_states_of_a_list_come_back_and_differ() {
    let mut words = HashSet::new();
    let mut states = 0;
    for sequence in [0, 1, 2, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
        for end in 0..=BATCH {
            for next in 0..=end {
                for running in [false, true] {
                    let word = Word { sequence, running, next, end };
                    assert_eq!(Word::unpack(word.pack()), word);
                    words.insert(word.pack());
                    states += 1;
                }
            }
        }
    }
    // 6 sequences, 65 · 66 / 2 lists, running or not.
    assert_eq!((states, words.len()), (25_740, 25_740));
}

#[test]
fn fresh_memory_is_an_executor_with_nothing_to_do() {
    let word = Word::unpack(0);
    assert_eq!(word, Word { sequence: 0, running: false, next: 0, end: 0 });
    assert!(word.live().is_empty());
}

#[test]
fn live_are_the_running_one_and_those_that_wait() {
    for (running, next, end, live) in [
        (false, 0, 0, 0..0),
        (false, 0, 3, 0..3),
        // The first is running, two wait.
        (true, 1, 3, 0..3),
        // It is done, the second not begun.
        (false, 1, 3, 1..3),
        (true, 2, 3, 1..3),
        (true, 3, 3, 2..3),
        (false, 3, 3, 3..3),
        // The rest was taken over: the running one stays.
        (true, 1, 1, 0..1),
        (true, 64, 64, 63..64),
        (false, 0, 64, 0..64),
    ] {
        for sequence in [0, u32::MAX] {
            assert_eq!(Word { sequence, running, next, end }.live(), live, "running {running}, {next} of {end}");
        }
    }
}

#[test]
fn a_sequence_that_wraps_touches_nothing_else_and_is_another_word() {
    let last = Word { sequence: u32::MAX, running: true, next: BATCH, end: BATCH };
    let first = Word { sequence: last.sequence.wrapping_add(1), ..last };
    assert_eq!(Word::unpack(first.pack()), Word { sequence: 0, running: true, next: 64, end: 64 });
    assert_ne!(first.pack(), last.pack());
}

#[test]
fn no_scheduler_one_that_starts_and_each_that_lives_differ() {
    let mut all = vec![Scheduler::None, Scheduler::Starting];
    // Process numbers count from 0; PostgreSQL has at most 2^18 of them and some.
    all.extend((0..1000).chain([(1 << 18) - 1, 1 << 18, 1 << 20]).map(Scheduler::Lives));
    for scheduler in &all {
        assert_eq!(Scheduler::unpack(scheduler.pack()), *scheduler);
    }
    assert_eq!(all.iter().map(|s| s.pack()).collect::<HashSet<_>>().len(), 1005);
    // In fresh memory there is none.
    assert_eq!(Scheduler::unpack(0), Scheduler::None);
}

proptest! {
    /// Far beyond what a list has room for today.
    #[test]
    fn every_word_is_one_state(a: (u32, bool), b: (u32, bool), places in [0usize..0x8000, 0usize..0x8000], ends in [0usize..0x1_0000, 0usize..0x1_0000], word: u64) {
        let of = |(sequence, running), n: usize| Word { sequence, running, next: places[n], end: ends[n] };
        let (a, b) = (of(a, 0), of(b, 1));
        prop_assert_eq!(Word::unpack(a.pack()), a);
        prop_assert_eq!(a == b, a.pack() == b.pack());
        prop_assert_eq!(Word::unpack(word).pack(), word);
    }
}

#[test]
fn each_choice_comes_back_as_it_was_and_new_memory_says_the_first() {
    fn all<T: Choice>(choices: &[T]) {
        for (n, choice) in choices.iter().enumerate() {
            assert_eq!(T::unpack(choice.pack()), *choice);
            assert!(choices[..n].iter().all(|other| other.pack() != choice.pack()), "{choice:?} is told as another");
        }
        assert_eq!(T::unpack(0), choices[0]);
    }
    all(&[SlotState::Free, SlotState::Starting, SlotState::Working]);
    all(&[Stop::No, Stop::Cancelled, Stop::Room]);
    all(&[Unpark::No, Unpark::Asked, Unpark::Unsure, Unpark::TakenBy(0), Unpark::TakenBy(63)]);
    all(&[Scheduler::None, Scheduler::Starting, Scheduler::Lives(0), Scheduler::Lives(1)]);
}
