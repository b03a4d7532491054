//! `sql/x.sql` declares what `src/calls/x.rs` binds: file by file, symbol by symbol.

mod parameters;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files of sql/ in which nothing is to be called.
const NO_CALLS: [&str; 1] = ["tenant_tables"];

/// Files of src/calls/ that nothing of SQL calls.
const NO_SQL: [&str; 2] = ["ddl", "mod"];

/// Texts of files by their names without the ending.
type Files = BTreeMap<String, String>;

/// What stands right behind each `mark`, as far as it is a word.
fn words_behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

/// (symbol, file)
fn found(files: &Files, mark: &str, comment: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (name, text) in files {
        for line in text.lines().filter(|line| !line.trim_start().starts_with(comment)) {
            found.extend(words_behind(line, mark).map(|symbol| (symbol.to_owned(), name.clone())));
        }
    }
    found
}

/// Symbols that SQL functions are made of.
fn declared(sql: &Files) -> BTreeSet<(String, String)> {
    found(sql, "'MODULE_PATHNAME', '", "--")
}

/// Each symbol of `sql_functions!` has a `pg_finfo_` of its own.
fn bound(calls: &Files) -> BTreeSet<(String, String)> {
    found(calls, "pg_finfo_", "//")
}

/// In a database of another encoding than UTF-8 CREATE EXTENSION is to be refused with a reason: its script is read whole, in
/// that encoding, before any of it runs.
#[test]
fn scripts_are_read_in_every_encoding() {
    for (name, text) in files("sql", ".sql") {
        assert!(text.is_ascii(), "{name}.sql has other characters than ASCII");
    }
}

fn offences(sql: &Files, calls: &Files) -> BTreeSet<String> {
    let (declared, bound) = (declared(sql), bound(calls));
    let mut offences = BTreeSet::new();
    for (symbol, file) in declared.difference(&bound) {
        offences.insert(format!("{file}.sql declares {symbol}, {file}.rs doesn't bind it"));
    }
    for (symbol, file) in bound.difference(&declared) {
        offences.insert(format!("{file}.rs binds {symbol}, {file}.sql doesn't declare it"));
    }
    for file in sql.keys().filter(|file| !NO_CALLS.contains(&file.as_str()) && !calls.contains_key(*file)) {
        offences.insert(format!("{file}.sql has no {file}.rs"));
    }
    for file in calls.keys().filter(|file| !NO_SQL.contains(&file.as_str()) && !sql.contains_key(*file)) {
        offences.insert(format!("{file}.rs has no {file}.sql"));
    }
    offences
}

/// What is in a folder of the project's; upgrades, which are of several files, aren't.
fn files(folder: &str, ending: &str) -> Files {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut files = Files::new();
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        if let Some(name) = name.strip_suffix(ending).filter(|name| !name.contains("--")) {
            files.insert(name.to_owned(), std::fs::read_to_string(&path).unwrap());
        }
    }
    files
}

/// A file of the project's.
fn text_of(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn each_file_of_sql_declares_what_the_one_of_its_name_in_calls_binds() {
    let (sql, mut calls) = (files("sql", ".sql"), files("src/calls", ".rs"));
    calls.remove(RELEASED);
    assert!(declared(&sql).len() > 50 && bound(&calls).len() > 50, "they are found");
    assert_eq!(offences(&sql, &calls), BTreeSet::new());
}

/// The file of src/calls/ that binds what only versions before declare.
const RELEASED: &str = "released";

#[test]
fn what_versions_before_have_declared_is_bound() {
    let (sql, calls) = (files("sql", ".sql"), files("src/calls", ".rs"));
    let symbols = |of: BTreeSet<(String, String)>| of.into_iter().map(|(symbol, _)| symbol).collect::<BTreeSet<String>>();
    let released = Files::from([(RELEASED.to_owned(), calls[RELEASED].clone())]);
    let before = Files::from([("0.1.0".to_owned(), text_of("tests/upgrade/tenant_q--0.1.0.sql"))]);
    let (today, before) = (symbols(declared(&sql)), symbols(declared(&before)));
    assert_eq!(symbols(bound(&released)), before.difference(&today).cloned().collect());
}

#[test]
fn wrong_pairs_are_found() {
    let fixture = |files: &[(&str, &str)]| files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect::<Files>();
    let declares = |symbol: &str| format!("-- 'MODULE_PATHNAME', 'comment'\nLANGUAGE c STRICT AS 'MODULE_PATHNAME', '{symbol}';\n");
    let binds = |symbol: &str| format!("// pg_finfo_comment\nsql_functions! {{\n    {symbol}, pg_finfo_{symbol} => f;\n}}\n");
    let (a, b, both) = (declares("tq_a"), declares("tq_b"), declares("tq_a") + &declares("tq_b"));
    let calls = [("a", &*binds("tq_a")), ("b", &*binds("tq_b")), ("ddl", ""), ("mod", "")];

    let right = [("a", &*a), ("b", &*b), ("tenant_tables", "")];
    assert_eq!(offences(&fixture(&right), &fixture(&calls)), BTreeSet::new());

    for (wrong, said) in [
        // Of another name.
        (&[("a", &*both), ("b", "")][..], &["a.sql declares tq_b, a.rs doesn't bind it", "b.rs binds tq_b, b.sql doesn't declare it"][..]),
        // Of one name too many.
        (&[("a", &*both), ("b", &*b)], &["a.sql declares tq_b, a.rs doesn't bind it"]),
        // Where there are to be none.
        (
            &[("a", ""), ("b", &*b), ("tenant_tables", &*a)],
            &["a.rs binds tq_a, a.sql doesn't declare it", "tenant_tables.sql declares tq_a, tenant_tables.rs doesn't bind it"],
        ),
        // Without a partner.
        (&[("a", &*a)], &["b.rs binds tq_b, b.sql doesn't declare it", "b.rs has no b.sql"]),
        (&[("a", &*a), ("b", &*b), ("c", "")], &["c.sql has no c.rs"]),
    ] {
        assert_eq!(offences(&fixture(wrong), &fixture(&calls)), said.iter().map(|s| s.to_string()).collect());
    }
}

/// A database of another encoding is told that it isn't supported, which is the first statement: what can't be converted
/// anywhere in the script would be said instead.
#[test]
fn scripts_are_plain_ascii() {
    for (name, text) in files("sql", ".sql") {
        let line = text.lines().position(|line| !line.is_ascii());
        assert_eq!(line.map(|n| n + 1), None, "the line of sql/{name}.sql");
    }
}
