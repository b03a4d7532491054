//! How something is mended, said in SQL that can be run as it stands: what a person has to know or to add is a comment in it.
//!
//! Names in it are anybody's, and whoever runs it may be a superuser: a comment ends with its line, so it has one line only.

/// The statement, and what is to be known about it.
pub fn noted(sql: &str, note: &str) -> String {
    format!("{sql} {}", by_hand(note))
}

/// What nobody can say in somebody else's place: tq_problems says it in `reason`, and elsewhere running it does nothing.
pub fn by_hand(text: &str) -> String {
    format!("-- {}", text.replace(['\n', '\r'], " "))
}

/// The statement that is to be run, if there is one; and what is said in its place.
pub fn parts(fix: &str) -> (Option<&str>, Option<&str>) {
    const BEGINNINGS: [&str; 10] =
        ["SELECT ", "DELETE ", "CALL ", "ALTER ", "GRANT ", "REVOKE ", "DROP ", "CREATE ", "REINDEX ", "ROLLBACK "];
    if fix.is_empty() {
        return (None, None);
    }
    match fix.strip_prefix("-- ") {
        // What has a gap is to be completed.
        None if BEGINNINGS.iter().any(|word| fix.starts_with(word)) && !fix.contains('…') => (Some(fix), None),
        words => (None, words.or(Some(fix))),
    }
}
