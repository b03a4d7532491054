//! Reasons why tasks don't run, and the table of them that people read.

use std::fs;
use std::path::Path;

use tenant_q_pure::reason::{Keeps, TABLE};

#[test]
fn the_documents_have_every_reason_and_who_says_so() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let text = fs::read_to_string(path).expect("docs/operations.md");
    let head = "| Reason | Keeps | `tq_health()` | `tq_problems` | What to do |";
    let rows: Vec<Vec<&str>> = (text.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|')))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let told: Vec<Vec<&str>> = (TABLE.iter())
        .map(|told| {
            let keeps = match told.keeps {
                Keeps::Everything => "everything",
                Keeps::Tenant => "the tenant",
                Keeps::Part => "a part",
                Keeps::Task => "the task",
            };
            vec![told.word, keeps, told.check.unwrap_or(""), if told.is_problem { "yes" } else { "no" }]
        })
        .collect();
    assert_eq!(rows.iter().map(|row| row[..4].to_vec()).collect::<Vec<_>>(), told);
    assert!(rows.iter().all(|row| row.len() == 5 && row[4].len() > 5), "what to do about each");
}

/// A word means one thing, however much it keeps: by it a status, a label and a reason of tq_why are compared.
#[test]
fn the_decisive_ones_come_first() {
    let order = |keeps| match keeps {
        Keeps::Everything => 0,
        Keeps::Tenant | Keeps::Part => 1,
        Keeps::Task => 2,
    };
    let firsts: Vec<i32> = TABLE.iter().map(|told| order(told.keeps)).collect();
    let first_of_task = firsts.iter().position(|keeps| *keeps == 2).expect("some");
    let (outer, _) = firsts.split_at(first_of_task);
    assert!(outer.is_sorted(), "{outer:?}");
}
