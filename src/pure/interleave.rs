//! Several lists, one after the other's next.

/// One of each in turn, while there are any.
pub fn interleave<T>(groups: Vec<Vec<T>>) -> Vec<T> {
    let mut merged = Vec::with_capacity(groups.iter().map(Vec::len).sum());
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    loop {
        let before = merged.len();
        merged.extend(groups.iter_mut().filter_map(Iterator::next));
        if merged.len() == before {
            return merged;
        }
    }
}
