//! States of tasks: as characters of rows, and as people see them.

use std::collections::HashSet;

use tenant_q_pure::state::{Ended, FanoutCause, FanoutKind, FanoutState, Letter, State, Stored, unfinished};
use tenant_q_pure::time::{At, Span};

#[test]
fn names_are_those_of_the_documentation_and_each_is_of_one_state() {
    let names = ["deferred", "delayed", "queued", "running", "retrying", "held", "done", "failed", "cancelled", "expired", "quarantined"];
    assert_eq!(State::ALL.map(State::name), names);
    assert_eq!(State::ALL.into_iter().collect::<HashSet<_>>().len(), 11);
    assert_eq!(State::ALL.map(State::name).into_iter().collect::<HashSet<_>>().len(), 11);
    let last = ["done", "failed", "cancelled", "expired", "quarantined"];
    assert!(State::ALL.iter().all(|s| s.is_final() == last.contains(&s.name())));
}

/// One table says what each is and what moves a task on.
#[test]
fn each_has_its_row_in_the_table_of_states() {
    let page = include_str!("../../../../docs/questions.md");
    let table = page.split_once("## States of a task").expect("the section").1.split("\n## ").next().expect("its text");
    let rows: HashSet<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    assert_eq!(rows, State::ALL.map(State::name).into_iter().collect());
}

/// They are in tables.
#[test]
fn characters_of_rows_never_change() {
    /// All letters that are taken for one of ours, and are written as they were read.
    fn letters<E: Letter + PartialEq + std::fmt::Debug>() -> Vec<u8> {
        let known: Vec<u8> = (0..=255).filter(|letter| E::of_letter(*letter) != E::default()).collect();
        assert!(known.iter().all(|letter| E::of_letter(*letter).letter() == *letter));
        known
    }
    assert_eq!(letters::<Stored>(), b"ehklqtuwx");
    use Stored::*;
    assert_eq!([Queued, Turn, External, Waiting, Held, Quarantined, Gated, Link, Key].map(Letter::letter), *b"qtewhxklu");
    assert_eq!(letters::<Ended>(), b"cdefx");
    assert_eq!([Ended::Done, Ended::Failed, Ended::Cancelled, Ended::Expired, Ended::Quarantined].map(Letter::letter), *b"dfcex");
    assert_eq!(letters::<FanoutKind>(), b"ad");
    assert_eq!(letters::<FanoutState>(), b"cdefoqsx");
    assert_eq!(letters::<FanoutCause>(), b"o");
    let tasks: Vec<u8> = letters::<Stored>().into_iter().filter(|letter| Stored::of_letter(*letter).is_task()).collect();
    assert_eq!(tasks, b"ehkqtw");
    let runnable: Vec<u8> = (0..=255).filter(|letter| Stored::of_letter(*letter).is_runnable()).collect();
    assert_eq!(runnable, b"eqt");
}

#[test]
fn an_outcome_of_a_fan_out_is_how_its_task_ended() {
    for letter in *b"dfcex" {
        assert_eq!(FanoutState::from(Ended::of_letter(letter)).letter(), letter);
    }
}

#[test]
fn what_a_row_of_an_unfinished_task_says() {
    const NOW: At = At::of_micros(1_000);
    // Character, attempts, due in so long, runs.
    for (character, attempts, in_so_long, runs, name) in [
        (b'q', 0, 0, false, "queued"),
        (b'q', 0, -1, false, "queued"),
        (b'q', 0, 1, false, "delayed"),
        (b'q', 1, 1, false, "retrying"),
        (b'q', 3, -1, false, "retrying"),
        (b'q', 0, 0, true, "running"),
        (b't', 0, 0, false, "queued"),
        (b't', 0, 1, false, "delayed"),
        (b't', 1, 0, false, "retrying"),
        (b't', 1, 0, true, "running"),
        // Waiting for a lock or a limit is waiting in the queue.
        (b'k', 0, 0, false, "queued"),
        (b'k', 0, 1, false, "delayed"),
        (b'k', 2, 0, false, "retrying"),
        (b'k', 2, 0, true, "running"),
        (b'w', 0, 0, false, "deferred"),
        (b'w', 0, 1, false, "deferred"),
        (b'w', 2, 1, false, "deferred"),
        (b'h', 0, 0, false, "held"),
        (b'h', 2, 1, false, "held"),
        (b'h', 0, 0, true, "running"),
    ] {
        let state = unfinished(Stored::of_letter(character), attempts, NOW + Span::of_micros(in_so_long), NOW, runs);
        let what = char::from(character);
        assert_eq!(state.name(), name, "{what}, {attempts} attempts, due in {in_so_long}, runs: {runs}");
        assert!(!state.is_final());
    }
}

#[test]
fn what_a_row_of_a_finished_task_says() {
    for (character, name) in [(b'd', "done"), (b'f', "failed"), (b'c', "cancelled"), (b'e', "expired"), (b'x', "quarantined")] {
        assert_eq!(Ended::of_letter(character).seen().name(), name);
    }
    // A character of a later release: not taken for a success.
    assert!((0..=255).map(|c| (c, Ended::of_letter(c).seen())).all(|(c, seen)| seen.is_final() && (c == b'd' || seen != State::Done)));
}
