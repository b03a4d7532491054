//! The column `options`: what is read of documents that the engine, or a row's owner, has written.

use serde_json::{Map, Value, json};
use tenant_q_pure::choice::{AfterOutcome, Said, Settled, UniqueUntil};
use tenant_q_pure::ids::Id;
use tenant_q_pure::options::Document;
use tenant_q_pure::options::schedule::{self, OfAll};
use tenant_q_pure::options::task::{self, Asked, Flow};
use tenant_q_pure::period::Period;
use tenant_q_pure::time::Span;

const ID: &str = "01234567-89ab-7def-8123-456789abcdef";
const ID_NUMBER: Id = Id::of(0x01234567_89ab_7def_8123_456789abcdef);

fn map(document: Value) -> Map<String, Value> {
    match document {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// Numbers as jsonb gives them: by their digits, whatever their size.
fn read<D: Document>(document: &str) -> D {
    D::read(map(serde_json::from_str(document).expect("a document")))
}

fn task(document: &str) -> task::Options {
    read(document)
}

#[test]
fn a_row_without_options_has_none_and_keeps_none() {
    assert_eq!(task("{}"), task::Options::default());
    assert_eq!(task::Options::default().document(), None);
    assert_eq!(schedule::Options::default().document(), None);
}

/// Every key of a task's document, with the very value that tables hold.
#[test]
fn each_field_of_a_task_has_its_key() {
    let options = task::Options {
        rest: Map::new(),
        delay: Some(Span::MICROSECOND.into()),
        expires: Some(Period { months: 1, days: -2, micros: 3 }),
        timeout: Some(Span::ZERO),
        max_attempts: Some(3),
        retry: Some(json!({"kind": "fixed", "base": 5})),
        save: Some(false),
        result_ttl: Some(Span::DAY.into()),
        snoozes: Some(4),
        alone: true,
        unique_until: Some(Said::Known(UniqueUntil::Deleted)),
        key_was: Some("k".into()),
        on_success: Some("s".into()),
        on_failure: Some("f".into()),
        hook: Some("h".into()),
        depends: vec![ID_NUMBER],
        any: true,
        allow_failure: true,
        ended: Some(Said::Known(Settled::Gone)),
        pass: Some(ID_NUMBER),
        each: true,
        only_if: Some("true".into()),
        fanout: Some(ID_NUMBER),
        stands_for: Some("t".into()),
        asked: Some(Asked::All),
        flow: Some(Flow { members: 2, chunked: false, inner: false }),
    };
    let document = json!({
        "delay": 1, "expires": [1, -2, 3], "snoozes": 4, "timeout": 0, "max_attempts": 3, "retry": {"kind": "fixed", "base": 5}, "save": false,
        "result_ttl": 86_400_000_000_i64, "alone": true, "unique_until": "deleted", "key_was": "k", "on_success": "s",
        "on_failure": "f", "hook": "h", "depends": [ID], "any": true, "allow_failure": true, "ended": "gone", "pass": ID, "each": true,
        "only_if": "true", "fanout": ID, "stands_for": "t", "asked": true, "flow": {"members": 2, "chunked": false},
    });
    assert_eq!(options.document(), Some(document.clone()));
    assert_eq!(task::Options::read(map(document)), options);
}

#[test]
fn each_field_of_a_schedule_has_its_key() {
    let options = schedule::Options {
        rest: Map::new(),
        active_hours: Some("9-17".into()),
        only_if: Some("true".into()),
        after: vec!["a".into(), "b".into()],
        after_outcome: Some(Said::Known(AfterOutcome::Any)),
        all: Some(OfAll { id: ID_NUMBER, revision: Id::of(1), stagger: Span::of_micros(7) }),
        tenants: Some(vec!["t".into()]),
    };
    let document = json!({
        "active_hours": "9-17", "only_if": "true", "after": ["a", "b"], "after_outcome": "any",
        "all": {"id": ID, "revision": "00000000-0000-0000-0000-000000000001", "stagger": 7}, "tenants": ["t"],
    });
    assert_eq!(options.document(), Some(document.clone()));
    assert_eq!(schedule::Options::read(map(document)), options);
}

/// What is garbled is as if it were not given, takes nothing else with it, and is still there afterwards.
#[test]
fn a_garbled_field_is_ignored_and_stays_as_it_is() {
    let fields = [
        ("delay", json!("1 day")),
        ("expires", json!([1, 2])),
        ("snoozes", json!(-1)),
        ("timeout", json!(1.5)),
        ("max_attempts", json!(5_000_000_000_i64)),
        ("save", json!("yes")),
        ("result_ttl", json!([])),
        ("alone", json!("true")),
        ("unique_until", json!(1)),
        ("key_was", json!({})),
        ("on_success", json!(7)),
        ("hook", json!([1])),
        ("depends", json!("x")),
        ("any", json!(1)),
        ("allow_failure", json!("true")),
        ("pass", json!("not a uuid")),
        ("each", json!(null)),
        ("only_if", json!(true)),
        ("fanout", json!(1)),
        ("asked", json!(false)),
        ("flow", json!({"members": -1})),
    ];
    for (key, value) in fields {
        let document = json!({"retry": {"kind": "fixed"}, "on_failure": "f", key: value});
        let read = task::Options::read(map(document.clone()));
        assert_eq!(read.on_failure.as_deref(), Some("f"), "{key}");
        assert_eq!(read.rest, map(json!({key: value})), "{key}");
        let others = task::Options { rest: Map::new(), ..read.clone() };
        assert_eq!(others.document(), Some(json!({"retry": {"kind": "fixed"}, "on_failure": "f"})), "{key}");
        assert_eq!(read.document(), Some(document), "{key}");
    }
}

#[test]
fn several_garbled_fields_are_each_ignored() {
    let read = task(r#"{"delay": "x", "timeout": 1e999, "max_attempts": 2, "retry": {"kind": 1e999}, "other": 1e999}"#);
    assert_eq!((read.delay, read.timeout, read.max_attempts), (None, None, Some(2)));
    assert_eq!(read.rest.len(), 3);
    assert!(read.retry.is_some());
}

/// A field that is set takes the place of what was garbled.
#[test]
fn a_field_that_is_set_is_what_is_written() {
    let read = task(r#"{"asked": 7, "hook": "h"}"#);
    let changed = task::Options { asked: Some(Asked::These(vec!["a".into()])), ..read };
    assert_eq!(changed.document(), Some(json!({"asked": ["a"], "hook": "h"})));
}

#[test]
fn unknown_keys_stay_with_their_numbers() {
    let document = r#"{"hook":"h","of_later":{"n":12345678901234567890123.5},"x":-1}"#;
    let read = task(document);
    assert_eq!(read.hook.as_deref(), Some("h"));
    let text = read.document().map(|d| d.to_string());
    assert_eq!(text.as_deref(), Some(document));
}

#[test]
fn another_word_for_unique_until_means_the_default_and_stays() {
    let read = task(r#"{"unique_until": "one day"}"#);
    assert_eq!(read.unique_until(), UniqueUntil::Finished);
    assert_eq!(read.document(), Some(json!({"unique_until": "one day"})));
    assert_eq!(task("{}").unique_until(), UniqueUntil::Finished);
    assert_eq!(task(r#"{"unique_until": "started"}"#).unique_until(), UniqueUntil::Started);
}

#[test]
fn of_what_a_task_depends_on_those_count_that_are_ids() {
    let read = task(&format!(r#"{{"depends": ["{ID}", 7, "x", null]}}"#));
    assert_eq!(read.depends, [ID_NUMBER]);
}

#[test]
fn who_was_asked_is_everybody_or_some() {
    let all = task(r#"{"asked": true}"#).asked.expect("somebody");
    assert!(all.contains("whoever"));
    let some = task(r#"{"asked": ["a", 7, "b"]}"#).asked.expect("somebody");
    assert!(some.contains("a") && some.contains("b") && !some.contains("c"));
}

#[test]
fn what_is_garbled_in_a_schedule_is_named() {
    let garbled = |document: &str| read::<schedule::Options>(document).garbled();
    assert_eq!(garbled(r#"{"after": "a"}"#), Some(("after", "an array of names")));
    assert_eq!(garbled(r#"{"after": [1]}"#), Some(("after", "an array of names")));
    assert_eq!(garbled(r#"{"only_if": 7, "active_hours": "x"}"#), Some(("only_if", "a text")));
    assert_eq!(garbled(r#"{"active_hours": 7}"#), Some(("active_hours", "a text")));
    assert_eq!(garbled(r#"{"after_outcome": {}}"#), Some(("after_outcome", "a text")));
    // Any word is a text; which of them mean something is another question.
    let read: schedule::Options = read(r#"{"after_outcome": "x", "all": {"id": 1}, "of_later": 1}"#);
    assert_eq!(read.garbled(), None);
    assert_eq!(read.after_outcome, Some(Said::Unknown("x".into())));
    assert_eq!(read.all, None);
}

#[test]
fn a_garbled_stagger_is_none() {
    let read: schedule::Options = read(&format!(r#"{{"all": {{"id": "{ID}", "revision": "{ID}", "stagger": "x"}}}}"#));
    assert_eq!(read.all, Some(OfAll { id: ID_NUMBER, revision: ID_NUMBER, stagger: Span::ZERO }));
}
