//! What somebody may have meant: the most similar of some names.

/// Letters that count: names that come from outside may be long.
const LETTERS: usize = 64;
/// So many letters may differ at most, however long the names are.
const DIFFERENT: usize = 5;

/// Letters to insert, delete or change between two names, without regard to case.
pub fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().take(LETTERS).flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    // The row of the table for as many letters of `a` as have been looked at: Wagner and Fischer.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The candidate most like `name`, the first in the alphabet of several; None if none is like it: a third of the letters
/// may differ, one in any case, and never more than half of them.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = |text: &str| text.chars().count();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let longer = length(name).max(length(candidate));
            let allowed = (longer / 3).clamp(1, DIFFERENT);
            // What differs in length by more needs no closer look.
            if length(name).abs_diff(length(candidate)) > allowed {
                return None;
            }
            let distance = distance(name, candidate);
            (distance <= allowed && 2 * distance <= longer).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}
