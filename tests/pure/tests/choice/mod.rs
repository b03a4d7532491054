//! Closed choices: the words that users write and rows hold, and what is said of others.

use tenant_q_pure::choice::{AfterOutcome, DependsMode, Named, OnConflict, OnRedeclared, Said, SavePer, UniqueUntil};
use tenant_q_pure::rate::Algorithm;
use tenant_q_pure::schedule::catch_up::{CatchUp, Overlap};
use tenant_q_pure::schedule::rule::MonthEnd;

fn words<C: Named>() -> Vec<&'static str> {
    C::ALL.iter().map(|choice| choice.name()).collect()
}

/// They are in tables, and in everybody's calls.
#[test]
fn words_never_change() {
    assert_eq!(words::<UniqueUntil>(), ["started", "finished", "deleted"]);
    assert_eq!(words::<OnConflict>(), ["error", "skip", "replace"]);
    assert_eq!(words::<OnRedeclared>(), ["error", "replace", "nothing"]);
    assert_eq!(words::<DependsMode>(), ["all", "any"]);
    assert_eq!(words::<SavePer>(), ["none", "group", "name", "handler"]);
    assert_eq!(words::<AfterOutcome>(), ["success", "failure", "any"]);
    assert_eq!(words::<Algorithm>(), ["bucket", "window", "sliding"]);
    assert_eq!(words::<CatchUp>(), ["once", "all", "none"]);
    assert_eq!(words::<Overlap>(), ["queue", "allow", "skip", "renew"]);
    assert_eq!(words::<MonthEnd>(), ["clamp", "skip", "sticky"]);
}

fn is_found_by_its_word<C: Named + std::fmt::Debug>() {
    for choice in C::ALL {
        assert_eq!(C::of(choice.name()), Some(*choice));
        assert_eq!(C::one_of("it", choice.name()), Ok(*choice));
        assert_eq!(C::known("it", choice.name()), Ok(*choice));
        assert_eq!(C::of(&choice.name().to_uppercase()), None);
    }
    assert_eq!(C::of(""), None);
}

#[test]
fn each_is_found_by_its_word_alone() {
    is_found_by_its_word::<UniqueUntil>();
    is_found_by_its_word::<OnConflict>();
    is_found_by_its_word::<OnRedeclared>();
    is_found_by_its_word::<DependsMode>();
    is_found_by_its_word::<SavePer>();
    is_found_by_its_word::<AfterOutcome>();
    is_found_by_its_word::<Algorithm>();
    is_found_by_its_word::<CatchUp>();
    is_found_by_its_word::<Overlap>();
    is_found_by_its_word::<MonthEnd>();
}

#[test]
fn who_writes_another_word_is_told_which_there_are() {
    let unknown = UniqueUntil::one_of("unique_until", "now").expect_err("unknown");
    assert_eq!(unknown.message, "unique_until is \"now\"");
    assert_eq!(unknown.hint, "It is one of started, finished, deleted.");
    let unknown = Overlap::known("overlap", "never").expect_err("unknown");
    assert_eq!(unknown.message, "overlap \"never\" is not known");
    assert_eq!(unknown.hint, "Use \"queue\", \"allow\", \"skip\" or \"renew\".");
    let fault = MonthEnd::parse(&"x".repeat(50)).expect_err("unknown");
    assert_eq!(fault.message, format!("month_end \"{}…\" is not known", "x".repeat(40)));
    assert_eq!(fault.hint.as_deref(), Some("Use \"clamp\", \"skip\" or \"sticky\"."));
    assert_eq!(Algorithm::known("algorithm", "").expect_err("unknown").hint, "Use \"bucket\", \"window\" or \"sliding\".");
}

/// A row's owner can write any word into it: it is kept, and is no choice.
#[test]
fn what_somebody_has_written_is_said_again_as_it_was() {
    let known: Said<Overlap> = Said::of("skip".into());
    assert_eq!((known.word(), known.choice()), ("skip", Some(Overlap::Skip)));
    assert_eq!(known.or_fault(str::to_owned), Ok(Overlap::Skip));
    let other: Said<Overlap> = Said::of("Skip".into());
    assert_eq!((other.word(), other.choice()), ("Skip", None));
    assert_eq!(other.or_fault(str::to_owned), Err("Skip".to_owned()));
}

#[test]
fn what_is_made_up_for_has_tasks_of_its_own() {
    assert_eq!([CatchUp::Once, CatchUp::All, CatchUp::None].map(CatchUp::overlap), [Overlap::Queue, Overlap::Allow, Overlap::Queue]);
}
