//! A pairing heap whose nodes are numbers and whose links the caller keeps: it fits into shared
//! memory, allocates nothing, and does what is asked in O(1) (push) and O(log n) amortised (pop).

/// No node.
pub const NONE: u32 = u32::MAX;

/// Where the links and keys of the nodes are kept.
pub trait Nodes {
    fn key(&self, node: u32) -> u64;
    fn child(&self, node: u32) -> u32;
    fn set_child(&self, node: u32, to: u32);
    fn next(&self, node: u32) -> u32;
    fn set_next(&self, node: u32, to: u32);
}

/// One heap of two; returns its root.
pub fn merge(nodes: &impl Nodes, a: u32, b: u32) -> u32 {
    if a == NONE {
        return b;
    }
    if b == NONE {
        return a;
    }
    let (top, below) = if nodes.key(b) < nodes.key(a) { (b, a) } else { (a, b) };
    nodes.set_next(below, nodes.child(top));
    nodes.set_child(top, below);
    top
}

/// Adds `node`, which is in no heap; returns the new root.
pub fn push(nodes: &impl Nodes, root: u32, node: u32) -> u32 {
    nodes.set_child(node, NONE);
    nodes.set_next(node, NONE);
    merge(nodes, root, node)
}

/// Removes the root, which has the least key; returns the new root.
pub fn pop(nodes: &impl Nodes, root: u32) -> u32 {
    // Pairs from left to right, linked into a list that runs right to left …
    let mut pairs = NONE;
    let mut at = nodes.child(root);
    while at != NONE {
        let second = nodes.next(at);
        let rest = if second == NONE { NONE } else { nodes.next(second) };
        nodes.set_next(at, NONE);
        if second != NONE {
            nodes.set_next(second, NONE);
        }
        let pair = merge(nodes, at, second);
        nodes.set_next(pair, pairs);
        pairs = pair;
        at = rest;
    }
    // … and that list into one.
    let mut heap = NONE;
    while pairs != NONE {
        let next = nodes.next(pairs);
        nodes.set_next(pairs, NONE);
        heap = merge(nodes, heap, pairs);
        pairs = next;
    }
    nodes.set_child(root, NONE);
    heap
}
