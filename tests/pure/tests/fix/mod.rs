//! Statements that mend something.

use tenant_q_pure::fix::{by_hand, noted, parts};

#[test]
fn a_comment_has_one_line_whatever_is_named_in_it() {
    assert_eq!(noted("SELECT 1", "or not"), "SELECT 1 -- or not");
    for name in ["a\nDROP TABLE t;", "a\rDROP TABLE t;", "a\r\nDROP TABLE t;"] {
        let text = by_hand(name);
        assert!(text.starts_with("-- a"), "{text}");
        assert!(!text.contains(['\n', '\r']), "{text:?}");
    }
}

#[test]
fn a_fix_is_a_statement_or_words() {
    for sql in
        ["SELECT tq_resume('a')", "SELECT tq_resume('a') -- if it is to run", "ROLLBACK PREPARED 'x'", "DROP INDEX a.b; DROP INDEX a.c"]
    {
        assert_eq!(parts(sql), (Some(sql), None));
    }
    let written = noted("ALTER ROLE a LOGIN", "it needs no password");
    assert_eq!(parts(&written), (Some(written.as_str()), None));
    for words in ["wait", "CREATE FUNCTION f …; SELECT tq_register('f')"] {
        assert_eq!(parts(&by_hand(words)), (None, Some(words)));
        assert_eq!(parts(words), (None, Some(words)));
    }
    assert_eq!(parts("Selected by nobody."), (None, Some("Selected by nobody.")));
    assert_eq!(parts(""), (None, None));
}
