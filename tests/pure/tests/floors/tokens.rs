//! Rust as words, texts and signs: as much of the language as it takes to tell code from comments and literals.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// A string literal, without its quotes.
    Text,
    Comment,
    Sign,
}

#[derive(Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
}

pub fn of(source: &str) -> Vec<Token> {
    let s: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(n, c)| s.get(at + n) == Some(&c));
    let word = |c: char| c.is_alphanumeric() || c == '_';
    while at < s.len() {
        let begin = at;
        if s[at].is_whitespace() {
            at += 1;
            continue;
        }
        if starts(at, "//") {
            while at < s.len() && s[at] != '\n' {
                at += 1;
            }
            found.push(Token { kind: Kind::Comment, text: s[begin..at].iter().collect() });
            continue;
        }
        if starts(at, "/*") {
            let mut depth = 0;
            loop {
                assert!(at < s.len(), "a comment without an end");
                if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += 1;
                }
                if depth == 0 {
                    break;
                }
            }
            found.push(Token { kind: Kind::Comment, text: s[begin..at].iter().collect() });
            continue;
        }
        // b"…", c"…", r"…", br#"…"#: letters in front belong to the literal.
        let letters = s[at..].iter().take_while(|c| "bcr".contains(**c)).count();
        let hashes = s[at + letters..].iter().take_while(|c| **c == '#').count();
        let raw = s[at..at + letters].contains(&'r');
        if letters <= 2 && (raw || hashes == 0) && s.get(at + letters + hashes) == Some(&'"') {
            at += letters + hashes + 1;
            let text = at;
            let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            while !starts(at, &end) {
                assert!(at < s.len(), "a text without an end");
                at += if !raw && s[at] == '\\' { 2 } else { 1 };
            }
            found.push(Token { kind: Kind::Text, text: s[text..at].iter().collect() });
            at += end.len();
            continue;
        }
        if word(s[at]) {
            while at < s.len() && word(s[at]) {
                at += 1;
            }
            found.push(Token { kind: Kind::Word, text: s[begin..at].iter().collect() });
            continue;
        }
        if s[at] == '\'' {
            // A character, or else a lifetime.
            let end = if s.get(at + 1) == Some(&'\\') { (at + 3..s.len()).find(|n| s[*n] == '\'') } else { Some(at + 2) };
            if let Some(end) = end.filter(|end| s.get(*end) == Some(&'\'')) {
                at = end + 1;
                continue;
            }
        }
        at += if starts(at, "::") { 2 } else { 1 };
        found.push(Token { kind: Kind::Sign, text: s[begin..at].iter().collect() });
    }
    found
}
