//! Names against patterns, as LIKE has them.

/// A piece of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Any letters.
    Many,
    /// Any one.
    One,
    This(char),
}

/// Whether the text is LIKE the pattern: % stands for any letters, _ for one, a backslash takes what follows as it is; one
/// at the end stands for itself.
///
/// What a % stands for is tried shortest first, and only that of the last % again: whatever an earlier one could take, the
/// later one can leave. So it takes no more steps than text times pattern.
pub fn matches(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut pieces = Vec::new();
    let mut letters = pattern.chars();
    while let Some(c) = letters.next() {
        pieces.push(match c {
            '%' => Piece::Many,
            '_' => Piece::One,
            '\\' => Piece::This(letters.next().unwrap_or('\\')),
            c => Piece::This(c),
        });
    }
    let (mut t, mut p) = (0, 0);
    // Behind the last %: which piece comes next, and how far the text was then.
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        match pieces.get(p) {
            Some(Piece::Many) => {
                p += 1;
                again = Some((p, t));
            }
            Some(piece) if *piece == Piece::One || *piece == Piece::This(text[t]) => (t, p) = (t + 1, p + 1),
            _ => match again {
                Some((piece, from)) => {
                    (t, p) = (from + 1, piece);
                    again = Some((piece, from + 1));
                }
                None => return false,
            },
        }
    }
    pieces[p..].iter().all(|piece| *piece == Piece::Many)
}
