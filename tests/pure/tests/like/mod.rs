//! LIKE, as PostgreSQL has it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tenant_q_pure::like::matches;

#[test]
fn patterns_and_what_they_match() {
    for (pattern, yes, no) in [
        ("", &[""][..], &["a", " "][..]),
        ("test", &["test"], &["", "tes", "testt", "atest", "TEST"]),
        ("%", &["", "a", "%", "größe"], &[]),
        ("%%", &["", "a"], &[]),
        ("_", &["a", "_", "%", "ä", "日", "\u{1F600}"], &["", "ab"]),
        ("__", &["ab", "日本"], &["a", "abc"]),
        ("_%", &["a", "ab"], &[""]),
        ("%_", &["a", "ab"], &[""]),
        ("test%", &["test", "test_1"], &["atest", "tes"]),
        ("%test", &["test", "mytest", "testtest"], &["tests"]),
        ("%a%b%", &["ab", "xaxbx", "aab"], &["ba", "a", "b"]),
        ("a%a", &["aa", "aba", "aaa"], &["a", "ab"]),
        ("gr_ße%", &["größe", "größen"], &["grße", "groesse"]),
        // What is excluded unless somebody says otherwise.
        (r"test\_%", &["test_", "test_app"], &["test", "testing", r"test\_app"]),
        (r"100\%", &["100%"], &["100", "1000", r"100\%"]),
        (r"a\\b", &[r"a\b"], &["ab", r"a\\b"]),
        (r"\a\ä", &["aä"], &[r"\a\ä"]),
        (r"\\%", &[r"\", r"\x"], &["x", "%"]),
        (r"%\%", &["%", "a%", "%%"], &["", "a", "%a"]),
        // Nothing follows that it could take.
        (r"a\", &[r"a\"], &["a", "ab", r"a\\"]),
        (r"\", &[r"\"], &["", "a"]),
    ] {
        for text in yes {
            assert!(matches(text, pattern), "{text:?} is LIKE {pattern:?}");
        }
        for text in no {
            assert!(!matches(text, pattern), "{text:?} is not LIKE {pattern:?}");
        }
    }
}

/// The launcher asks this of each database's name, and names come from whoever may create one.
#[test]
fn no_pattern_takes_long_on_the_longest_name() {
    let (done, end) = mpsc::channel();
    // Not joined: what takes for ever is left behind.
    thread::spawn(move || {
        let found = [matches(&"a".repeat(63), &("%a".repeat(16) + "%b")), matches(&"ab".repeat(31), &("%a_".repeat(12) + "%bb"))];
        let _ = done.send(found);
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(5)), Ok([false, false]));
}

/// Where in the text one may stand after each piece of the pattern.
fn by_places(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut places = vec![false; text.len() + 1];
    places[0] = true;
    let mut pattern = pattern.chars();
    while let Some(piece) = pattern.next() {
        if piece == '%' {
            let first = places.iter().position(|p| *p).unwrap_or(places.len());
            places[first..].fill(true);
            continue;
        }
        let letter = match piece {
            '_' => None,
            '\\' => Some(pattern.next().unwrap_or('\\')),
            other => Some(other),
        };
        places = (0..=text.len()).map(|n| n > 0 && places[n - 1] && letter.is_none_or(|l| l == text[n - 1])).collect();
    }
    places[text.len()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn as_when_all_places_are_followed_at_once(text in r"[ab_%\\é]{0,8}", pattern in r"[abé_%%\\]{0,8}") {
        prop_assert_eq!(matches(&text, &pattern), by_places(&text, &pattern), "{:?} LIKE {:?}", text, pattern);
    }

    /// Most of the above don't match; these do.
    #[test]
    fn what_a_pattern_was_made_from_is_like_it(pieces in prop::collection::vec((r"[ab_%\\é]{0,3}", 0..4), 0..5)) {
        let (mut text, mut pattern) = (String::new(), String::new());
        for (piece, how) in pieces {
            text += &piece;
            match how {
                0 => pattern.push('%'),
                1 => pattern += &"_".repeat(piece.chars().count()),
                2 => pattern += &format!("_%{}", "_".repeat(piece.chars().count().saturating_sub(1)))[usize::from(piece.is_empty())..],
                _ => piece.chars().for_each(|c| pattern.extend(['\\', c])),
            }
        }
        prop_assert!(matches(&text, &pattern), "{:?} LIKE {:?}", text, pattern);
    }
}
