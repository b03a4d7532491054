//! What somebody may have meant: slips of the pen are found, and nothing is made up.

use proptest::prelude::*;
use tenant_q_pure::nearest::{distance, nearest};

const NAMES: [&str; 9] = ["handler", "queue", "priority", "run_at", "max_attempts", "timeout", "id", "größe", "tenant"];

#[test]
fn slips_of_the_pen_are_found() {
    for (slip, meant) in [
        ("handler", "handler"),
        ("handlr", "handler"),
        ("handlerr", "handler"),
        ("hamdler", "handler"),
        // Two letters changed places: that is two changes.
        ("hanlder", "handler"),
        ("prioritaet", "priority"),
        ("runat", "run_at"),
        ("run-at", "run_at"),
        ("attempts", "max_attempts"),
        ("i", "id"),
        ("ie", "id"),
        ("idd", "id"),
        ("TIMEOUT", "timeout"),
        ("Quue", "queue"),
        ("grösse", "größe"),
        ("GRÖßE", "größe"),
        ("gröe", "größe"),
    ] {
        assert_eq!(nearest(slip, NAMES), Some(meant), "{slip}");
    }
}

#[test]
fn what_is_unlike_is_nothing() {
    for other in ["", "x", "xy", "handling_fee", "qqqqq", "run", "attempt_number", "größenordnung", "日本語", "priority_of_the_task"] {
        assert_eq!(nearest(other, NAMES), None, "{other}");
    }
    assert_eq!(nearest("handler", []), None);
    // Of short names half may differ, not more.
    assert_eq!(nearest("a", ["b", "bc"]), None);
    assert_eq!(nearest("ab", ["ba"]), None);
    assert_eq!(nearest("", ["a"]), None);
    assert_eq!(nearest("ab", ["ac"]), Some("ac"));
    // A third: two letters of six, and not of five.
    assert_eq!(nearest("abcdef", ["abcdxy"]), Some("abcdxy"));
    assert_eq!(nearest("abcde", ["abcxy"]), None);
}

#[test]
fn the_most_similar_is_meant_and_of_several_the_first_in_the_alphabet() {
    assert_eq!(nearest("handles", ["handlers", "handler", "handle"]), Some("handle"));
    assert_eq!(nearest("handles", ["hxndlxs", "handxes"]), Some("handxes"));
    for order in [["beat", "boat"], ["boat", "beat"]] {
        assert_eq!(nearest("bxat", order), Some("beat"));
    }
}

#[test]
fn long_names_are_compared_by_their_first_64_letters_and_by_their_length() {
    let long = |letter: &str, n: usize| letter.repeat(n);
    let wanted = long("é", 100);
    assert_eq!(nearest(&wanted, [long("É", 100).as_str()]), Some(long("É", 100).as_str()));
    let elsewhere = long("é", 64) + &long("x", 36);
    assert_eq!(nearest(&wanted, [elsewhere.as_str()]), Some(elsewhere.as_str()));
    let (five, six) = (long("x", 5) + &long("é", 95), long("x", 6) + &long("é", 94));
    assert_eq!(nearest(&wanted, [five.as_str()]), Some(five.as_str()));
    assert_eq!(nearest(&wanted, [six.as_str()]), None);
    let (longer, too_long) = (long("é", 105), long("é", 106));
    assert_eq!(nearest(&wanted, [too_long.as_str(), longer.as_str()]), Some(longer.as_str()));
    assert_eq!(nearest(&wanted, [too_long.as_str()]), None);
    assert_eq!(distance(&long("a", 1_000_000), &long("b", 1_000_000)), 64);
}

#[test]
fn distances() {
    for (a, b, expected) in [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("intention", "execution", 5),
        ("ab", "ba", 2),
        ("Tenant", "tENANT", 0),
        ("Straße", "STRASSE", 2),
        ("Überweisung", "ueberweisung", 2),
        ("ΑΒΓ", "αβδ", 1),
        ("日本語", "日本", 1),
        ("a\u{1F600}c", "abc", 1),
    ] {
        assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a}, {b}");
    }
}

/// By its definition, without a table.
fn by_definition(a: &[char], b: &[char]) -> usize {
    match (a, b) {
        ([], rest) | (rest, []) => rest.len(),
        ([x, a @ ..], [y, b @ ..]) if x == y => by_definition(a, b),
        ([_, c @ ..], [_, d @ ..]) => 1 + by_definition(c, d).min(by_definition(c, b)).min(by_definition(a, d)),
    }
}

proptest! {
    #[test]
    fn as_by_definition(a in "[abä]{0,6}", b in "[abä]{0,6}") {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(distance(&a, &b), by_definition(&letters(&a), &letters(&b)));
    }

    #[test]
    fn a_distance_in_the_sense_of_geometry(a in "\\PC{0,80}", b in "\\PC{0,80}", c in "[a-dA-D]{0,80}", d in "[a-d]{0,80}") {
        prop_assert_eq!(distance(&a, &a), 0);
        for (x, y, z) in [(&a, &b, &c), (&b, &c, &d), (&c, &d, &a)] {
            prop_assert_eq!(distance(x, y), distance(y, x));
            prop_assert!(distance(x, z) <= distance(x, y) + distance(y, z));
        }
    }

    #[test]
    fn one_slip_in_a_name_of_three_letters_or_more_is_always_found(name in "[a-z_]{3,63}", at: prop::sample::Index, kind in 0..3, letter in prop::char::range('A', 'Z')) {
        let mut slip: Vec<char> = name.chars().collect();
        let at = at.index(slip.len());
        match kind {
            0 => drop(slip.remove(at)),
            1 => slip.insert(at, letter),
            _ => slip[at] = letter,
        }
        let slip: String = slip.into_iter().collect();
        prop_assert_eq!(nearest(&slip, ["", name.as_str(), "0123456789"]), Some(name.as_str()));
    }
}
