//! Lists of places (`parameters!`) name what the SQL function is declared with, in the same order.

use super::{files, shapes::names, text_of};
use std::collections::BTreeMap;

/// More arguments than so many have names.
const NUMBERED: usize = 7;

/// A list of places.
struct List<'a> {
    /// The SQL function, if it is a whole one's.
    of: Option<&'a str>,
    /// The list before it.
    behind: Option<&'a str>,
    names: Vec<&'a str>,
}

/// The lists of all `parameters!`, by their names.
fn lists(rust: &str) -> BTreeMap<&str, List<'_>> {
    let mut lists = BTreeMap::new();
    for body in rust.split("\nparameters! {\n").skip(1) {
        let body = body.split_once("\n}").expect("an end").0;
        for list in body.split("\n    }").filter_map(|list| list.split_once(" {\n")) {
            let head: Vec<&str> = list.0.lines().last().expect("a name").split_whitespace().collect();
            let behind = |word: &str| head.iter().position(|w| *w == word).map(|at| head[at + 1]);
            let names = list.1.lines().map(|line| line.trim().trim_end_matches(',')).collect();
            lists.insert(head[0], List { of: behind("of"), behind: behind("behind"), names });
        }
    }
    lists
}

/// Parameters of the functions that are lists of places, and of those that ought to be.
fn offences(sql: &str, rust: &str) -> Vec<String> {
    let lists = lists(rust);
    let mut offences = Vec::new();
    let mut named = Vec::new();
    for (name, list) in &lists {
        let Some(call) = list.of else { continue };
        named.push(call);
        let before = list.behind.map_or(&[][..], |first| &lists[first].names[..]);
        let places: Vec<String> = before.iter().chain(&list.names).map(|name| name.to_ascii_lowercase()).collect();
        let mark = format!("CREATE FUNCTION @extschema@.{call}");
        if names(sql, &mark) != places {
            offences.push(format!("{name} is not what {call} is declared with"));
        }
    }
    for declaration in sql.split("\nCREATE FUNCTION @extschema@.").skip(1) {
        let call = declaration.split('(').next().expect("a name");
        let is_ours = declaration.split(';').next().is_some_and(|text| text.contains("'MODULE_PATHNAME'"));
        if is_ours && names(declaration, call).len() > NUMBERED && !named.contains(&call) {
            offences.push(format!("{call} has more than {NUMBERED} parameters, and no list of places"));
        }
    }
    offences
}

#[test]
fn places_of_arguments_are_those_of_the_declaration() {
    let sql: Vec<String> = files("sql", ".sql").into_values().collect();
    let mut rust: Vec<String> = files("src/calls", ".rs").into_values().collect();
    rust.extend(["src/task/new.rs", "src/schedules/definition.rs"].map(text_of));
    let (sql, rust) = (sql.join("\n"), rust.join("\n"));
    assert!(lists(&rust).len() > 7, "they are found");
    assert_eq!(offences(&sql, &rust), [""; 0]);
}

#[test]
fn wrong_places_are_found() {
    let declared = |list: &str| format!("\nCREATE FUNCTION @extschema@.f({list}) RETURNS void\nLANGUAGE c AS 'MODULE_PATHNAME', 'f';\n");
    let two = declared("a text DEFAULT 'x, y', b int");
    let rust = |list: &str| format!("\nparameters! {{\n    /// Of f.\n    First {{\n        A,\n    }}\n    F of f{list} }}\n}}\n");
    assert_eq!(offences(&two, &rust(" {\n        A,\n        B,\n    }")), [""; 0]);
    assert_eq!(offences(&two, &rust(" behind First {\n        B,\n    }")), [""; 0]);
    for wrong in [" {\n        B,\n        A,\n    }", " {\n        A,\n    }", " behind First {\n        A,\n        B,\n    }"] {
        assert_eq!(offences(&two, &rust(wrong)), ["F is not what f is declared with"], "{wrong}");
    }
    let many = declared("a int, b int, c int, d int, e int, f int, g int, h int");
    assert_eq!(offences(&many, ""), ["f has more than 7 parameters, and no list of places"]);
}
