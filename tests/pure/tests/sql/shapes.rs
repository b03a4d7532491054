//! What stands in SQL and in Rust, name by name in the same order.

use super::text_of;

/// The names that begin the parts of the list in parentheses right behind `mark`.
pub fn names<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let behind = text.match_indices(mark).find_map(|(at, _)| text[at + mark.len()..].trim_start().strip_prefix('('));
    let list = behind.unwrap_or_else(|| panic!("there is {mark}"));
    let (mut depth, mut quoted, mut begin, mut names) = (1, false, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && !quoted && c == ',') {
            names.extend(list[begin..at].split_whitespace().next());
            begin = at + 1;
        }
        if depth == 0 {
            return names;
        }
    }
    panic!("the list of {mark} ends");
}

/// The fields of a struct.
fn fields<'a>(text: &'a str, of: &str) -> Vec<&'a str> {
    let body = text.split_once(of).unwrap_or_else(|| panic!("there is {of}")).1.split_once("\n}").expect("an end").0;
    body.lines().filter_map(|line| line.trim_start().trim_start_matches("pub ").split_once(": ")).map(|(name, _)| name).collect()
}

#[test]
fn the_type_of_a_task_has_the_fields_of_its_document() {
    let (sql, rust) = (text_of("sql/tasks.sql"), text_of("src/task/document.rs"));
    let mut document = fields(&rust, "pub struct TaskDocument<'a> {");
    assert_eq!(document.remove(0), "event", "which is the listeners' alone");
    assert_eq!(names(&sql, "CREATE TYPE tenant_q.task AS"), document);
}

#[test]
fn names_are_found_whatever_stands_behind_them() {
    let sql =
        "CREATE FUNCTION f_too(z int); CREATE FUNCTION f(a numeric(3, 1) DEFAULT '1,2)',\n  b text DEFAULT now(), c jsonb) RETURNS (d)";
    assert_eq!(names(sql, "FUNCTION f"), ["a", "b", "c"]);
    assert_eq!(names("f()", "f"), [""; 0]);
}
