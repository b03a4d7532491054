//! Names against patterns, as LIKE has them.

/// Whether the text is LIKE the pattern: % stands for any letters, _ for one, a backslash takes what follows as it is.
pub fn matches(text: &str, pattern: &str) -> bool {
    fn go(t: &[char], p: &[char]) -> bool {
        match p {
            [] => t.is_empty(),
            ['%', rest @ ..] => (0..=t.len()).any(|n| go(&t[n..], rest)),
            ['\\', c, rest @ ..] => t.first() == Some(c) && go(&t[1..], rest),
            ['_', rest @ ..] => !t.is_empty() && go(&t[1..], rest),
            [c, rest @ ..] => t.first() == Some(c) && go(&t[1..], rest),
        }
    }
    go(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
}
