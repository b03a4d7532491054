//! Notes of a transaction and its savepoints: what was released stands, what was rolled back doesn't.

use proptest::prelude::*;
use tenant_q_pure::nested::{Nested, Notes};

/// Notes that say when they were made.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log(Vec<u32>);

impl Notes for Log {
    fn absorb(&mut self, later: Log) {
        self.0.extend(later.0);
    }
}

fn note(nested: &mut Nested<Log>, subtransaction: u32, what: u32) {
    nested.open(subtransaction).0.push(what);
}
fn standing(nested: &Nested<Log>) -> Vec<u32> {
    nested.all().flat_map(|log| log.0.iter().copied()).collect()
}
fn dropped(nested: &mut Nested<Log>, subtransaction: u32) -> Vec<u32> {
    nested.rolled_back(subtransaction).flat_map(|log| log.0).collect()
}

#[test]
fn a_transaction_without_savepoints_keeps_all_in_order() {
    let mut nested = Nested::default();
    assert!(nested.is_empty());
    assert_eq!(nested.take(), None);
    for n in [1, 2, 3] {
        note(&mut nested, 1, n);
    }
    assert!(!nested.is_empty());
    assert_eq!(nested.all().count(), 1);
    assert_eq!(nested.take(), Some(Log(vec![1, 2, 3])));
    // The next transaction begins with nothing.
    assert!(nested.is_empty() && nested.take().is_none());
}

#[test]
fn released_notes_stand_after_those_of_their_parent() {
    let mut nested = Nested::default();
    note(&mut nested, 1, 10);
    note(&mut nested, 2, 20);
    note(&mut nested, 3, 30);
    nested.released(3, 2);
    note(&mut nested, 2, 21);
    nested.released(2, 1);
    note(&mut nested, 1, 11);
    assert_eq!((nested.all().count(), standing(&nested)), (1, vec![10, 20, 30, 21, 11]));
    assert_eq!(nested.take(), Some(Log(vec![10, 20, 30, 21, 11])));
}

#[test]
fn what_is_rolled_back_is_handed_out_with_all_that_was_begun_since() {
    let mut nested = Nested::default();
    note(&mut nested, 1, 10);
    note(&mut nested, 2, 20);
    note(&mut nested, 4, 40);
    note(&mut nested, 5, 50);
    // 3 has noted nothing itself.
    assert_eq!(dropped(&mut nested, 3), [40, 50]);
    assert_eq!(standing(&nested), [10, 20]);
    // Not consumed, and gone all the same.
    drop(nested.rolled_back(2));
    assert_eq!(standing(&nested), [10]);
    assert!(dropped(&mut nested, 2).is_empty());
    note(&mut nested, 6, 60);
    assert_eq!(nested.take(), Some(Log(vec![10, 60])));
}

#[test]
fn what_was_released_goes_with_its_parent() {
    let mut nested = Nested::default();
    note(&mut nested, 1, 10);
    note(&mut nested, 2, 20);
    note(&mut nested, 3, 30);
    nested.released(3, 2);
    assert_eq!(dropped(&mut nested, 2), [20, 30]);
    assert_eq!(nested.take(), Some(Log(vec![10])));
}

#[test]
fn a_parent_that_has_noted_nothing_takes_its_childs_notes() {
    let mut nested = Nested::default();
    note(&mut nested, 1, 10);
    note(&mut nested, 4, 40);
    nested.released(4, 3);
    assert_eq!(standing(&nested), [10, 40]);
    // They are the parent's now: its end decides, and not that of whoever stands further out.
    note(&mut nested, 3, 31);
    assert_eq!(dropped(&mut nested, 3), [40, 31]);
    note(&mut nested, 6, 60);
    nested.released(6, 5);
    nested.released(5, 1);
    assert_eq!((nested.all().count(), nested.take()), (1, Some(Log(vec![10, 60]))));
    // Even when nobody has noted anything before.
    note(&mut nested, 8, 80);
    nested.released(8, 7);
    assert_eq!(dropped(&mut nested, 7), [80]);
    assert!(nested.is_empty());
}

#[test]
fn a_savepoint_that_has_noted_nothing_changes_nothing_when_it_is_released() {
    let mut nested = Nested::default();
    note(&mut nested, 1, 10);
    note(&mut nested, 2, 20);
    nested.released(3, 2);
    assert_eq!(standing(&nested), [10, 20]);
    assert_eq!(dropped(&mut nested, 2), [20]);
    let mut empty: Nested<Log> = Nested::default();
    empty.released(2, 1);
    assert!(empty.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Note,
    Begin,
    Release,
    /// Of so many levels at once, as far as there are.
    RollBack(usize),
}

proptest! {
    /// A session that opens, releases and rolls back savepoints at random, with every level written down in full.
    #[test]
    fn like_a_stack_of_all_levels(steps in prop::collection::vec(
        prop_oneof![3 => Just(Step::Note), 3 => Just(Step::Begin), 2 => Just(Step::Release), 1 => (1usize..4).prop_map(Step::RollBack)],
        1..100,
    )) {
        let mut nested = Nested::default();
        let mut stack: Vec<(u32, Vec<u32>)> = vec![(1, vec![])];
        let mut last = 1;
        for (n, step) in steps.into_iter().enumerate() {
            let depth = stack.len();
            match step {
                Step::Note => {
                    let (id, notes) = &mut stack[depth - 1];
                    notes.push(n as u32);
                    note(&mut nested, *id, n as u32);
                }
                Step::Begin => {
                    last += 1;
                    stack.push((last, vec![]));
                }
                Step::Release if depth > 1 => {
                    let (id, notes) = stack.pop().expect("more than one");
                    let (parent, before) = &mut stack[depth - 2];
                    before.extend(notes);
                    nested.released(id, *parent);
                }
                Step::RollBack(levels) if depth > 1 => {
                    let gone = stack.split_off((depth - levels.min(depth - 1)).max(1));
                    let expected: Vec<u32> = gone.iter().flat_map(|(_, notes)| notes.clone()).collect();
                    prop_assert_eq!(dropped(&mut nested, gone[0].0), expected);
                }
                _ => {}
            }
            let expected: Vec<u32> = stack.iter().flat_map(|(_, notes)| notes.clone()).collect();
            prop_assert_eq!(nested.is_empty(), expected.is_empty());
            prop_assert_eq!(standing(&nested), expected);
        }
        let expected: Vec<u32> = stack.into_iter().flat_map(|(_, notes)| notes).collect();
        prop_assert_eq!(nested.take(), Some(Log(expected)).filter(|log| !log.0.is_empty()));
    }
}
