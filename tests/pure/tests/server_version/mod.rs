//! Servers that are too old, and that the README says the same of them.

use std::fs;
use std::path::Path;
use tenant_q_pure::server_version::{MINIMUMS, ServerVersion};

fn complaint(number: &str) -> Option<(String, String)> {
    ServerVersion::of(number).expect("a number").complaint()
}

#[test]
fn what_is_older_than_the_minimum_is_complained_about() {
    for least in MINIMUMS {
        let number = least.major * 10_000 + least.minor;
        assert!(complaint(&number.to_string()).is_none());
        assert!(complaint(&(number + 1).to_string()).is_none());
        let (detail, hint) = complaint(&(number - 1).to_string()).expect("a complaint");
        assert!(detail.contains(least.mends), "{detail}");
        assert!(hint.contains(&format!("to {}.{} or newer", least.major, least.minor)), "{hint}");
    }
    // Of what will be, nothing is known.
    assert!(complaint("190000").is_none());
}

#[test]
fn a_version_is_told_with_its_minimum() {
    assert_eq!(ServerVersion::of("150020").map(|v| v.text()).as_deref(), Some("15.20, at least 15.18 is needed"));
    assert_eq!(ServerVersion::of("190001").map(|v| v.text()).as_deref(), Some("19.1"));
    assert!(ServerVersion::of("").is_none());
}

/// Its table of majors: the line, and which majors there are.
#[test]
fn the_readme_says_the_same() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).expect("README.md");
    let line = |head: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(head)).unwrap_or_else(|| panic!("README.md has no line {head}"));
        found.trim_matches(['|', ' ']).split(" | ").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("| | 15"), MINIMUMS[1..].iter().map(|least| least.major.to_string()).collect::<Vec<_>>());
    assert_eq!(line("| Minor version at least |"), MINIMUMS.map(|least| format!("{}.{}", least.major, least.minor)));
    assert_eq!(line("| It mends |").len(), MINIMUMS.len());
    for (cell, least) in line("| It mends |").iter().zip(MINIMUMS) {
        assert!(cell.contains(least.mends), "{cell} is not {}", least.mends);
    }
}
