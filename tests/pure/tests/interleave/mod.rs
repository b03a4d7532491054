//! Turns: one of each group, as long as it has any.

use proptest::prelude::*;
use tenant_q_pure::interleave::interleave;

#[test]
fn one_of_each_in_turn() {
    assert_eq!(interleave(vec![vec![1, 2, 3], vec![10, 20, 30]]), [1, 10, 2, 20, 3, 30]);
    // Who has no more is passed over; the others go on.
    assert_eq!(interleave(vec![vec![1], vec![], vec![10, 20, 30, 40], vec![100, 200]]), [1, 10, 100, 20, 200, 30, 40]);
    assert_eq!(interleave(vec![vec![3, 1, 2]]), [3, 1, 2]);
}

#[test]
fn nothing_of_nothing() {
    assert_eq!(interleave::<u8>(vec![]), [0; 0]);
    assert_eq!(interleave::<u8>(vec![vec![], vec![], vec![]]), [0; 0]);
}

proptest! {
    /// In rounds, each group at most once a round and the first ones first, and nothing lost.
    #[test]
    fn in_rounds(lengths in prop::collection::vec(0usize..10, 0..8)) {
        let groups: Vec<Vec<(usize, usize)>> = lengths.iter().enumerate().map(|(g, length)| (0..*length).map(|n| (n, g)).collect()).collect();
        let mut expected: Vec<_> = groups.concat();
        expected.sort();
        prop_assert_eq!(interleave(groups), expected);
    }
}
