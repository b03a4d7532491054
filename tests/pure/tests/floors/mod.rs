//! The floors of `src/`: which folder may name which, and what may stand only where.
//!
//! A file may name `crate::X` only of a lower floor, or its own folder; so no two folders can need each other. The rest
//! keeps what is dangerous, or decides for everybody, in the one place where it is looked for. Offences are listed in
//! [`ARGUED`], which may only shrink: one that isn't in it fails, and so does one that is gone.

mod tokens;

use std::collections::BTreeSet;
use std::path::Path;
use tokens::{Kind, Token};

/// From the ground up. `claims` and the like to come are files of these folders; `upgrade` is a folder to come.
const FLOORS: [(&str, u8); 15] = [
    ("pure", 0),
    ("postgres", 1),
    ("settings", 2),
    ("shared", 3),
    ("tenant", 4),
    ("handler", 5),
    ("task", 6),
    ("waits", 7),
    ("schedules", 7),
    ("fanout", 8),
    ("work", 9),
    ("calls", 10),
    ("worker", 10),
    ("upgrade", 10),
    ("lib", 11),
];

/// Macros are at the root of the crate wherever they are made: these in postgres/.
const MACROS: [&str; 3] = ["sql_functions", "shared_struct", "worker_mains"];

/// Offences that are there, each with its reason.
const ARGUED: &[(&str, &str)] = &[
    // A table, a setting an entry.
    ("over 100 lines: register", "settings.rs"),
];

/// Nobody reads more at once.
const LINES_OF_A_FILE: usize = 600;
const LINES_OF_A_FUNCTION: usize = 100;

/// Functions of a formatted file, and how many lines each has.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let name = |line: &'_ str| -> Option<(usize, usize)> {
        let indent = line.len() - line.trim_start().len();
        let at = line.find("fn ").filter(|at| line[..*at].chars().all(|c| c.is_ascii_lowercase() || " ()\"C-_:".contains(c)))?;
        Some((indent, at + 3))
    };
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some((indent, at)) = name(line) else { continue };
        let end = format!("{}}}", " ".repeat(indent));
        let Some(last) = lines[first..].iter().position(|line| *line == end) else { continue };
        let name = line[at..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        found.push((name, last + 1));
    }
    found
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(folder, _)| *folder == name).map(|(_, floor)| *floor)
}

/// Which rule is broken in which file.
type Offences = BTreeSet<(String, String)>;

/// `file`: as seen from the root, with slashes.
fn check(file: &str, text: &str, offences: &mut Offences) {
    let all = tokens::of(text);
    let code: Vec<&Token> = all.iter().filter(|t| t.kind != Kind::Comment).collect();
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let folder = parts[0];
    let mut offends = |rule: &str| {
        offences.insert((rule.to_owned(), file.to_owned()));
    };
    if text.lines().count() > LINES_OF_A_FILE {
        offends("over 600 lines");
    }
    for (name, _) in functions(text).into_iter().filter(|(_, lines)| *lines > LINES_OF_A_FUNCTION) {
        offends(&format!("over 100 lines: {name}"));
    }
    for named in folders_named(&parts, &code) {
        if named == folder || MACROS.contains(&named.as_str()) {
            continue;
        }
        match (floor(folder), floor(&named)) {
            (Some(here), Some(there)) if there < here => {}
            _ => offends(&format!("names {named}")),
        }
    }
    let is_word = |n: usize, word: &str| code[n].kind == Kind::Word && code[n].text == word;
    for n in 0..code.len() {
        if is_word(n, "unsafe") && folder != "postgres" && code.get(n + 1).is_none_or(|t| t.text != "(") {
            offends("unsafe");
        }
        if is_word(n, "sql_functions") && folder != "calls" && file != "postgres/call.rs" {
            offends("SQL-callable");
        }
        if ["Relaxed", "SeqCst", "Acquire", "AcqRel"].iter().any(|o| is_word(n, o)) && folder != "postgres" && file != "pure/atomics.rs" {
            offends("memory ordering");
        }
        if code[n].kind == Kind::Text && is_sqlstate(&code[n].text) && file != "postgres/sqlstate.rs" {
            offends("SQLSTATE");
        }
        if folder == "lib" && is_word(n, "pub") && code.get(n + 1).is_some_and(|t| t.text == "mod") {
            offends("pub mod");
        }
    }
}

/// A text that looks like one: five digits and capitals, beginning as PostgreSQL's and ours do.
fn is_sqlstate(text: &str) -> bool {
    text.len() == 5
        && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && (text.as_bytes()[0].is_ascii_digit() || ["TQ", "P0", "XX", "F0", "HV"].iter().any(|class| text.starts_with(class)))
}

/// The first names behind `crate::`, also in a tree, and what `super::` leads to beyond the file's own folder.
fn folders_named(parts: &[&str], code: &[&Token]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Of a/b.rs and a/mod.rs the module is a::b and a.
    let module: Vec<&str> = if parts.last() == Some(&"mod") { parts[..parts.len() - 1].to_vec() } else { parts.to_vec() };
    let mut n = 0;
    while n < code.len() {
        let begins = n == 0 || code[n - 1].text != "::";
        if begins && code[n].kind == Kind::Word && ["crate", "super"].contains(&code[n].text.as_str()) {
            let mut left = if code[n].text == "crate" { 0 } else { module.len().saturating_sub(1) };
            while code.get(n + 1).is_some_and(|t| t.text == "::") && code.get(n + 2).is_some_and(|t| t.text == "super") {
                left = left.saturating_sub(1);
                n += 2;
            }
            match left {
                0 if code.get(n + 1).is_some_and(|t| t.text == "::") => names_behind(code, n + 2, &mut found),
                0 => {}
                _ => {
                    found.insert(module[0].to_owned());
                }
            }
        }
        n += 1;
    }
    found
}

/// The name that stands here, or the first ones of a tree.
fn names_behind(code: &[&Token], at: usize, found: &mut BTreeSet<String>) {
    let Some(first) = code.get(at) else { return };
    if first.text != "{" {
        found.insert(first.text.clone());
        return;
    }
    let mut depth = 0;
    for n in at..code.len() {
        match code[n].text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            _ if depth == 1 && code[n].kind == Kind::Word && ["{", ","].contains(&code[n - 1].text.as_str()) => {
                found.insert(code[n].text.clone());
            }
            _ => {}
        }
    }
}

fn offences(root: &Path) -> Offences {
    fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a directory of the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    files(root, &mut paths);
    assert!(!paths.is_empty(), "nothing to look at in {}", root.display());
    let mut found = Offences::new();
    for path in paths {
        let file = path.strip_prefix(root).expect("below the root").to_str().expect("a name").replace('\\', "/");
        // A program that writes the extension's SQL: not of the library.
        if !file.starts_with("bin/") {
            check(&file, &std::fs::read_to_string(&path).expect("a source"), &mut found);
        }
    }
    found
}

#[test]
fn every_file_stands_on_its_floor() {
    let found = offences(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src"));
    let argued: Offences = ARGUED.iter().map(|(rule, file)| (rule.to_string(), file.to_string())).collect();
    let new: Vec<_> = found.difference(&argued).collect();
    let gone: Vec<_> = argued.difference(&found).collect();
    assert!(new.is_empty(), "against the rule of floors: {new:#?}");
    assert!(gone.is_empty(), "no longer there, so no longer to be argued: {gone:#?}");
}

/// Each rule broken once, in a way that a comment, a text or a local name must not excuse or accuse.
#[test]
fn each_offence_is_noticed() {
    let found = offences(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/floors/fixture"));
    let expected = [
        ("SQL-callable", "work/enqueue.rs"),
        ("SQLSTATE", "work/enqueue.rs"),
        ("memory ordering", "work/enqueue.rs"),
        ("names calls", "work/enqueue.rs"),
        ("names elsewhere", "pure/upward.rs"),
        ("names task", "pure/upward.rs"),
        ("names tenant", "shared/tree.rs"),
        ("names work", "shared/tree.rs"),
        ("names worker", "calls/same_floor.rs"),
        ("pub mod", "lib.rs"),
        ("unsafe", "work/enqueue.rs"),
    ];
    let expected: Offences = expected.iter().map(|(rule, file)| (rule.to_string(), file.to_string())).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_too_long_is_noticed() {
    let of = |lines: usize| format!("impl X {{\n    pub(crate) fn long(&self) {{\n{}    }}\n}}\n", "        step();\n".repeat(lines - 2));
    let mut found = Offences::new();
    check("pure/x.rs", &of(LINES_OF_A_FUNCTION), &mut found);
    assert_eq!(found, Offences::new());
    check("pure/x.rs", &of(LINES_OF_A_FUNCTION + 1), &mut found);
    assert_eq!(found, Offences::from([("over 100 lines: long".to_owned(), "pure/x.rs".to_owned())]));
    found.clear();
    check("pure/y.rs", &"// A line.\n".repeat(LINES_OF_A_FILE), &mut found);
    assert_eq!(found, Offences::new());
    check("pure/y.rs", &"// A line.\n".repeat(LINES_OF_A_FILE + 1), &mut found);
    assert_eq!(found, Offences::from([("over 600 lines".to_owned(), "pure/y.rs".to_owned())]));
}
