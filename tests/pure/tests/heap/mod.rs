//! The pairing heap: against a sorted list, and what it leaves behind in the links.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use proptest::prelude::*;
use tenant_q_pure::heap::{NONE, Nodes, merge, pop, push};

/// Nodes, and how often one was looked at for its key.
struct Table {
    keys: Vec<Cell<u64>>,
    child: Vec<Cell<u32>>,
    next: Vec<Cell<u32>>,
    looks: Cell<usize>,
}

/// What shared memory may hold before a node is first pushed.
const RUBBISH: u32 = 7;

impl Table {
    fn new(keys: impl IntoIterator<Item = u64>) -> Table {
        let keys: Vec<_> = keys.into_iter().map(Cell::new).collect();
        let links = || (0..keys.len()).map(|_| Cell::new(RUBBISH)).collect();
        Table { child: links(), next: links(), keys, looks: Cell::new(0) }
    }
    fn push_all(&self, nodes: impl IntoIterator<Item = u32>) -> u32 {
        nodes.into_iter().fold(NONE, |root, node| push(self, root, node))
    }
    /// The nodes of a heap, each once; panics when one is reached twice or a child comes before its parent.
    fn nodes(&self, root: u32) -> HashSet<u32> {
        let mut found = HashSet::new();
        let mut open: Vec<u32> = Vec::from_iter((root != NONE).then_some(root));
        assert!(root == NONE || self.next[root as usize].get() == NONE, "a root has no siblings");
        while let Some(node) = open.pop() {
            assert!(found.insert(node), "{node} is reached twice");
            let mut child = self.child[node as usize].get();
            while child != NONE {
                assert!(self.keys[child as usize] >= self.keys[node as usize], "{child} lies above {node}");
                open.push(child);
                child = self.next[child as usize].get();
            }
        }
        found
    }
    fn drain(&self, mut root: u32) -> Vec<u32> {
        let mut order = Vec::new();
        while root != NONE {
            order.push(root);
            root = pop(self, root);
        }
        order
    }
}

impl Nodes for Table {
    fn key(&self, node: u32) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.keys[node as usize].get()
    }
    fn child(&self, node: u32) -> u32 {
        self.child[node as usize].get()
    }
    fn set_child(&self, node: u32, to: u32) {
        self.child[node as usize].set(to)
    }
    fn next(&self, node: u32) -> u32 {
        self.next[node as usize].get()
    }
    fn set_next(&self, node: u32, to: u32) {
        self.next[node as usize].set(to)
    }
}

#[test]
fn nodes_come_out_by_their_keys_whatever_order_they_went_in() {
    let table = Table::new([50, 10, 40, u64::MAX, 20, 0, 30]);
    for order in [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [5, 1, 4, 6, 2, 0, 3], [3, 0, 2, 6, 4, 1, 5]] {
        assert_eq!(table.drain(table.push_all(order)), [5, 1, 4, 6, 2, 0, 3], "pushed as {order:?}");
    }
}

#[test]
fn an_empty_heap_adds_nothing_and_the_last_node_leaves_one() {
    let table = Table::new([1, 2]);
    assert_eq!(merge(&table, NONE, NONE), NONE);
    assert_eq!(push(&table, NONE, 1), 1);
    assert_eq!(merge(&table, NONE, 1), 1);
    assert_eq!(merge(&table, 1, NONE), 1);
    assert_eq!(table.nodes(1), HashSet::from([1]));
    assert_eq!(pop(&table, 1), NONE);
}

#[test]
fn two_heaps_become_one_with_the_nodes_of_both() {
    let table = Table::new([1, 2, 3, 4, 5, 6]);
    let (odd, even) = (table.push_all([4, 0, 2]), table.push_all([1, 5, 3]));
    let one = merge(&table, even, odd);
    assert_eq!(table.nodes(one), (0..6).collect());
    assert_eq!(table.drain(one), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn what_was_popped_names_nobody_and_can_be_pushed_with_another_key() {
    let table = Table::new([10, 20, 30, 40, 50]);
    let mut root = table.push_all(0..5);
    // An entry that has had its turn is charged and comes back: round and round.
    for turn in 0..100 {
        let popped = root;
        assert_eq!(u64::from(popped), turn % 5);
        root = pop(&table, popped);
        assert_eq!((table.child(popped), table.next(popped)), (NONE, NONE));
        assert_eq!(table.nodes(root), (0..5).filter(|n| *n != popped).collect());
        table.keys[popped as usize].set(60 + 10 * turn);
        root = push(&table, root, popped);
        assert_eq!(table.nodes(root), (0..5).collect());
    }
}

#[test]
fn as_many_as_there_may_be_cost_a_logarithm_each() {
    const N: u32 = 1 << 15;
    let ascending = |n: u32| u64::from(n);
    let descending = |n: u32| u64::from(N - n);
    let zigzag = |n: u32| u64::from(if n.is_multiple_of(2) { n } else { 2 * N - n });
    let equal = |_: u32| 1;
    let shuffled = |n: u32| u64::from(n.wrapping_mul(0x9E37_79B1) >> 4);
    let keys: [(&str, &dyn Fn(u32) -> u64); 5] =
        [("ascending", &ascending), ("descending", &descending), ("zigzag", &zigzag), ("equal", &equal), ("shuffled", &shuffled)];
    for (name, key) in keys {
        let table = Table::new((0..N).map(key));
        let root = table.push_all(0..N);
        assert!(table.looks.get() <= 2 * N as usize, "{name}: pushing isn't O(1)");
        table.looks.set(0);
        assert_eq!(table.drain(root).len(), N as usize);
        // Two looks a comparison, two comparisons a level, 15 levels: without pairing it would be N / 2 for each.
        assert!(table.looks.get() <= N as usize * 2 * 2 * 15, "{name}: {} looks", table.looks.get());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { heap: usize, key: u64 },
    Pop { heap: usize },
    Merge { into: usize, from: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // Few keys, so that many are equal.
    let key = prop_oneof![3 => 0u64..20, 1 => any::<u64>()];
    prop_oneof![
        5 => (0usize..3, key).prop_map(|(heap, key)| Step::Push { heap, key }),
        4 => (0usize..3).prop_map(|heap| Step::Pop { heap }),
        1 => (0usize..3, 0usize..3).prop_map(|(into, from)| Step::Merge { into, from }),
    ]
}

proptest! {
    #[test]
    fn like_the_heaps_of_the_standard_library(steps in prop::collection::vec(step(), 1..300)) {
        let table = Table::new((0..300).map(|_| 0));
        let mut free: Vec<u32> = (0..300).collect();
        let mut heaps = [NONE; 3];
        let mut models: [BinaryHeap<Reverse<u64>>; 3] = Default::default();
        for step in steps {
            match step {
                Step::Push { heap, key } => {
                    let node = free.pop().expect("no more steps than nodes");
                    table.keys[node as usize].set(key);
                    heaps[heap] = push(&table, heaps[heap], node);
                    models[heap].push(Reverse(key));
                }
                Step::Pop { heap } if heaps[heap] != NONE => {
                    let node = heaps[heap];
                    prop_assert_eq!(Some(Reverse(table.keys[node as usize].get())), models[heap].pop());
                    heaps[heap] = pop(&table, node);
                    // The one popped last is pushed next: links that weren't cut would show.
                    free.push(node);
                }
                Step::Merge { into, from } if into != from => {
                    heaps[into] = merge(&table, heaps[into], heaps[from]);
                    heaps[from] = NONE;
                    let moved = std::mem::take(&mut models[from]);
                    models[into].extend(moved);
                }
                _ => {}
            }
            for (root, model) in heaps.iter().zip(&models) {
                prop_assert_eq!(table.nodes(*root).len(), model.len());
            }
        }
        for (root, model) in heaps.into_iter().zip(models) {
            let keys: Vec<_> = table.drain(root).iter().map(|n| table.keys[*n as usize].get()).collect();
            let expected: Vec<_> = model.into_sorted_vec().into_iter().rev().map(|Reverse(key)| key).collect();
            prop_assert_eq!(keys, expected);
        }
    }
}
