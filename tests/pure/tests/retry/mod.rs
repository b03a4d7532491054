//! Retry policies: how long after which attempt, and which documents are policies at all.

use proptest::prelude::*;
use serde_json::{Value, json};
use tenant_q_pure::retry::Policy;
use tenant_q_pure::time::Span;

const SECOND: Span = Span::SECOND;
const HOUR: Span = Span::HOUR;
const CENTURY: Span = Span::of_days(36_500);

fn policy(document: Value) -> Policy {
    let policy: Policy = serde_json::from_value(document.clone()).unwrap_or_else(|e| panic!("{document}: {e}"));
    assert_eq!(policy.fault(), None, "{document}");
    policy
}

/// Without its random part.
fn exact(document: Value) -> Policy {
    Policy { jitter: Some(0.0), ..policy(document) }
}

#[test]
fn each_kind_waits_as_its_formula_says() {
    // Policy, and seconds after which attempt.
    let rows: [(Value, &[(u32, i64)]); 18] = [
        (json!({"kind": "exponential"}), &[(1, 15), (2, 30), (3, 60), (8, 1920), (9, 3600), (100, 3600)]),
        (json!({"kind": "exponential", "base": 2, "factor": 3, "cap": 100}), &[(1, 2), (2, 6), (3, 18), (4, 54), (5, 100)]),
        (json!({"kind": "exponential", "base": 100, "factor": 0.5}), &[(1, 100), (2, 50), (3, 25)]),
        (json!({"kind": "fixed"}), &[(1, 15), (2, 15), (1000, 15)]),
        (json!({"kind": "fixed", "base": 7200, "factor": 9}), &[(1, 7200), (9, 7200)]),
        (json!({"kind": "linear"}), &[(1, 15), (2, 30), (3, 45), (240, 3600), (241, 3600)]),
        (json!({"kind": "linear", "base": 10, "factor": 0.5}), &[(1, 10), (2, 15), (3, 20)]),
        (json!({"kind": "list", "delays": [5, 60, 1]}), &[(1, 5), (2, 60), (3, 1), (4, 1), (50, 1)]),
        // Without a limit of attempts there is no last one that it is counted from.
        (json!({"kind": "rq", "delays": [10, 30]}), &[(1, 10), (2, 30), (3, 30)]),
        (json!({"kind": "rq"}), &[(1, 0), (2, 0)]),
        (json!({"kind": "celery"}), &[(1, 1), (2, 2), (3, 4), (10, 512), (11, 600), (12, 600)]),
        (json!({"kind": "dramatiq"}), &[(1, 15), (2, 30), (16, 491_520), (17, 604_800), (18, 604_800)]),
        (json!({"kind": "procrastinate"}), &[(1, 0), (2, 0), (100, 0)]),
        (json!({"kind": "procrastinate", "base": 5, "factor": 2}), &[(1, 7), (2, 9), (3, 13)]),
        // What is longest if nothing is said is never shorter than the first one.
        (json!({"kind": "exponential", "base": 86_400}), &[(1, 86_400), (2, 86_400), (9, 86_400)]),
        (json!({"kind": "linear", "base": 7200}), &[(1, 7200), (2, 7200)]),
        (json!({"kind": "celery", "base": 3600}), &[(1, 3600), (2, 3600)]),
        (json!({"kind": "celery", "base": 60, "factor": 60, "cap": 100}), &[(1, 100)]),
    ];
    for (document, delays) in rows {
        for (attempt, seconds) in delays {
            assert_eq!(exact(document.clone()).delay(*attempt, 0, 1), Span::of_secs(*seconds), "{document} after attempt {attempt}");
        }
    }
    // What is documented of tasks without a policy.
    let default = Policy { jitter: Some(0.0), ..Policy::default() };
    assert_eq!([1, 2, 3, 9].map(|n| default.delay(n, 0, 1)), [SECOND * 15, SECOND * 30, SECOND * 60, HOUR]);
}

#[test]
fn a_delay_is_to_the_microsecond_what_was_asked_for() {
    for (seconds, micros) in [(0.000249, 249), (0.29, 290_000), (1.001, 1_001_000), (86_400.5, 86_400_500_000)] {
        assert_eq!(exact(json!({"kind": "fixed", "base": seconds})).delay(1, 0, 1), Span::of_micros(micros));
        assert_eq!(exact(json!({"kind": "list", "delays": [seconds]})).delay(1, 0, 1), Span::of_micros(micros));
    }
}

#[test]
fn attempts_beyond_counting_neither_overflow_nor_wrap() {
    for attempt in [1_001, 65_537, i32::MAX as u32, i32::MAX as u32 + 1, u32::MAX] {
        let delay = |document: Value| exact(document).delay(attempt, 0, u64::MAX);
        assert_eq!(delay(json!({"kind": "exponential"})), HOUR);
        assert_eq!(delay(json!({"kind": "exponential", "factor": 1e300, "base": 1e300, "cap": 1e300})), CENTURY);
        assert_eq!(delay(json!({"kind": "exponential", "factor": 0.5})), Span::ZERO);
        assert_eq!(delay(json!({"kind": "linear", "factor": 1e300, "cap": 60})), SECOND * 60);
        assert_eq!(delay(json!({"kind": "celery"})), SECOND * 600);
        assert_eq!(delay(json!({"kind": "dramatiq"})), SECOND * 604_800);
        assert_eq!(delay(json!({"kind": "procrastinate", "factor": 10})), CENTURY);
        assert_eq!(delay(json!({"kind": "fixed", "base": 1e300})), CENTURY);
        assert_eq!(delay(json!({"kind": "list", "delays": [1, 2]})), SECOND * 2);
    }
}

#[test]
fn no_base_is_no_delay_however_often_it_is_multiplied() {
    for kind in ["exponential", "linear", "celery", "dramatiq"] {
        for (factor, attempt) in [(2.0, 5000), (3.0, 647), (3.0, 648), (10.0, 310), (1e300, 3), (1e300, u32::MAX)] {
            let delay = exact(json!({"kind": kind, "base": 0, "factor": factor})).delay(attempt, 0, 1);
            assert_eq!(delay, Span::ZERO, "{kind}, factor {factor}, attempt {attempt}");
        }
    }
}

#[test]
fn chance_fills_its_bounds_and_does_not_leave_them() {
    // Policy, attempt, least and most seconds.
    for (document, attempt, least, most) in [
        (json!({"kind": "exponential"}), 1, 13.5, 16.5),
        (json!({"kind": "exponential"}), 9, 3240.0, 3600.0),
        (json!({"kind": "exponential", "base": 86_400, "cap": 172_800}), 1, 77_760.0, 95_040.0),
        (json!({"kind": "exponential", "jitter": 1}), 2, 0.0, 60.0),
        (json!({"kind": "fixed", "base": 100, "jitter": 0.2}), 7, 80.0, 120.0),
        (json!({"kind": "fixed", "base": 100, "cap": 110, "jitter": 0.2}), 7, 80.0, 110.0),
        (json!({"kind": "list", "delays": [1, 10], "jitter": 0.5}), 3, 5.0, 15.0),
        (json!({"kind": "celery"}), 4, 0.0, 8.0),
        (json!({"kind": "celery", "jitter": 0.25}), 4, 6.0, 8.0),
        (json!({"kind": "dramatiq"}), 1, 15.0, 30.0),
        (json!({"kind": "dramatiq", "jitter": 0.5}), 1, 15.0, 22.5),
        (json!({"kind": "dramatiq"}), 60, 302_400.0, 604_800.0),
    ] {
        let policy = policy(document.clone());
        let delays: Vec<f64> = (0..1000).map(|seed| policy.delay(attempt, 0, seed).seconds()).collect();
        // To the microsecond.
        assert!(delays.iter().all(|d| (least - 1e-6..=most + 1e-6).contains(d)), "{document}");
        let edge = (most - least) / 20.0;
        assert!(delays.iter().any(|d| *d < least + edge) && delays.iter().any(|d| *d > most - edge), "{document}");
    }
    // Kinds that promise no chance have none.
    for document in [json!({"kind": "fixed"}), json!({"kind": "linear"}), json!({"kind": "rq", "delays": [15]})] {
        assert!((0..100).all(|seed| policy(document.clone()).delay(1, 0, seed) == SECOND * 15), "{document}");
    }
}

/// What `originals.py` has found out from the other systems' own code: system, version, policy, most attempts, attempt, least and
/// most seconds.
#[test]
fn each_preset_waits_as_the_system_it_is_named_after() {
    let lines = include_str!("originals.tsv").lines();
    for line in lines {
        let [system, version, document, most, attempt, low, high] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let number = |text: &str| text.parse::<f64>().unwrap_or_else(|e| panic!("{line}: {e}"));
        let (low, high) = (number(low), number(high));
        let policy = policy(serde_json::from_str(document).unwrap_or_else(|e| panic!("{line}: {e}")));
        let delays = (0..2000).map(|seed| policy.delay(number(attempt) as u32, number(most) as u32, seed).seconds());
        let (least, longest) = delays.fold((f64::MAX, 0.0_f64), |(least, longest), d| (least.min(d), longest.max(d)));
        let edge = (high - low) / 50.0 + 2e-6;
        let (from, to) = (low - 2e-6..low + edge, high - edge..high + 2e-6);
        assert!(from.contains(&least) && to.contains(&longest), "{system} {version}: {line}\nhere {least} to {longest}");
    }
}

#[test]
fn parameters_that_mean_nothing_to_a_kind_are_told() {
    for (document, unused) in [
        (json!({"kind": "fixed", "factor": 2}), Some("factor")),
        (json!({"kind": "linear", "linear": 2}), Some("linear")),
        (json!({"kind": "exponential", "delays": [1]}), Some("delays")),
        (json!({"kind": "list", "delays": [1], "base": 2}), Some("base")),
        (json!({"kind": "rq", "delays": [1], "base": 2}), Some("base")),
        (json!({"kind": "rq", "factor": 2}), Some("factor")),
        (json!({"kind": "rq", "base": 2, "cap": 1, "jitter": 0}), None),
        (json!({"kind": "procrastinate", "base": 1, "linear": 2, "factor": 3}), None),
        (json!({"kind": "celery", "base": 1, "factor": 3}), None),
    ] {
        assert_eq!(policy(document.clone()).unused(), unused, "{document}");
    }
}

#[test]
fn the_same_task_waits_the_same_after_the_same_attempt_and_another_time_after_another() {
    let policy = policy(json!({"kind": "fixed", "base": 1000, "jitter": 1}));
    for seed in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
        let delays: Vec<_> = (1..=50).map(|attempt| policy.delay(attempt, 0, seed)).collect();
        assert_eq!(delays, (1..=50).map(|attempt| policy.delay(attempt, 0, seed)).collect::<Vec<_>>());
        let mut different = delays;
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 50);
    }
}

#[test]
fn documents_that_are_policies_and_documents_that_are_not() {
    for document in [
        json!({"kind": "fixed"}),
        json!({"kind": "list", "delays": [0.0]}),
        json!({"kind": "celery", "base": 0.5, "factor": 0.0, "cap": 0.0, "jitter": 1.0}),
        json!({"kind": "rq", "retry_on": ["40001", "40", "5", "XX"], "never_on": ["P0001"]}),
    ] {
        // Stored, and read by people: nothing is added to what was written.
        assert_eq!(serde_json::to_value(policy(document.clone())).expect("a document"), document);
    }
    for document in [
        json!({}),
        json!(null),
        json!("fixed"),
        json!({"kind": null}),
        json!({"kind": "Fixed"}),
        json!({"kind": "fibonacci"}),
        json!({"kind": "fixed", "bsae": 1}),
        json!({"kind": "fixed", "base": "1 second"}),
        json!({"kind": "list", "delays": 5}),
        json!({"kind": "list", "delays": [null]}),
        json!({"kind": "fixed", "retry_on": [40001]}),
    ] {
        assert!(serde_json::from_value::<Policy>(document.clone()).is_err(), "{document}");
    }
    let one_at_most = "jitter is a share: at most 1";
    let states = "retry_on and never_on take SQLSTATEs, or their first characters, and classes of errors such as 'requests.Timeout'";
    for (document, fault) in [
        (json!({"kind": "fixed", "base": -0.1}), "base is negative or not a number"),
        (json!({"kind": "fixed", "factor": -1}), "factor is negative or not a number"),
        (json!({"kind": "fixed", "cap": -1}), "cap is negative or not a number"),
        (json!({"kind": "fixed", "jitter": -0.5}), "jitter is negative or not a number"),
        (json!({"kind": "fixed", "jitter": 1.01}), one_at_most),
        (json!({"kind": "list"}), "kind list needs delays"),
        (json!({"kind": "list", "delays": []}), "kind list needs delays"),
        (json!({"kind": "rq", "delays": [1, -1]}), "a delay is negative or not a number"),
        (json!({"kind": "fixed", "retry_on": [""]}), states),
        (json!({"kind": "fixed", "retry_on": ["400011"]}), states),
        (json!({"kind": "fixed", "never_on": ["p0001"]}), states),
        (json!({"kind": "fixed", "never_on": ["40001", "4 %"]}), states),
        (json!({"kind": "fixed", "never_on": ["ÄÄ"]}), states),
    ] {
        let policy: Policy = serde_json::from_value(document.clone()).expect("the right types");
        assert_eq!(policy.fault().as_deref(), Some(fault), "{document}");
    }
    // Not from a document, which knows no such numbers.
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(Policy { base: Some(wrong), ..Policy::default() }.fault().is_some());
        assert!(Policy { delays: vec![1.0, wrong], ..Policy::default() }.fault().is_some());
    }
}

#[test]
fn errors_are_retried_by_what_their_sqlstate_begins_with() {
    let retries = |document: Value, states: &[(&str, bool)]| {
        for (state, expected) in states {
            assert_eq!(policy(document.clone()).retries(state, None), *expected, "{document}: {state}");
        }
    };
    retries(json!({"kind": "fixed"}), &[("40001", true), ("23505", true)]);
    retries(
        json!({"kind": "fixed", "retry_on": ["40", "55P03"]}),
        &[("40001", true), ("40P01", true), ("55P03", true), ("55P04", false), ("04000", false)],
    );
    retries(json!({"kind": "fixed", "never_on": ["23"]}), &[("23505", false), ("22P02", true)]);
    // What is never retried stays so, whatever else is said of it.
    retries(json!({"kind": "fixed", "retry_on": ["4"], "never_on": ["40001"]}), &[("40001", false), ("40P01", true), ("23505", false)]);
}

proptest! {
    #[test]
    fn delays_lie_between_nothing_and_the_cap_and_do_not_shrink_when_it_goes_on(
        kind in prop::sample::select(vec!["exponential", "linear", "celery", "dramatiq", "procrastinate"]),
        base in 0.001f64..1e9, factor in 1f64..1e6, cap in 0f64..1e10, jitter in 0f64..=1.0, seed: u64, attempts in prop::collection::vec(1u32.., 2..20),
    ) {
        let policy = policy(json!({"kind": kind, "base": base, "factor": factor, "cap": cap, "jitter": jitter}));
        let most = Span::of_micros((cap * 1e6).round() as i64).min(CENTURY);
        let mut attempts = attempts;
        attempts.sort();
        let mut before = Span::ZERO;
        for attempt in attempts {
            let random = policy.delay(attempt, 0, seed);
            prop_assert!((Span::ZERO..=most).contains(&random), "{random:?} of {most:?}");
            let plain = Policy { jitter: Some(0.0), ..policy.clone() }.delay(attempt, 0, seed);
            prop_assert!((before..=most).contains(&plain), "{plain:?} after {before:?}, at most {most:?}");
            before = plain;
        }
    }
}

#[test]
fn errors_of_workers_are_retried_by_their_class() {
    let retries = |document: Value, class: Option<&str>| policy(document).retries("TQ008", class);
    let timeouts = json!({"kind": "fixed", "retry_on": ["requests.Timeout", "stripe.error."]});
    assert!(retries(timeouts.clone(), Some("requests.Timeout")));
    assert!(retries(timeouts.clone(), Some("stripe.error.RateLimitError")));
    assert!(!retries(timeouts.clone(), Some("requests.TimeoutExpired")), "another class, whose name begins alike");
    assert!(!retries(timeouts.clone(), Some("stripe.errors")));
    assert!(!retries(timeouts, None), "of an error without a class nothing is known");
    let never = json!({"kind": "fixed", "never_on": ["ValueError"]});
    assert!(!retries(never.clone(), Some("ValueError")));
    assert!(retries(never.clone(), Some("KeyError")));
    assert!(retries(never, None));
    // SQLSTATEs and classes beside each other; a class in capitals is one too.
    let both = policy(json!({"kind": "fixed", "retry_on": ["40", "IO"]}));
    assert!(both.retries("40001", None) && both.retries("TQ008", Some("IO")) && !both.retries("TQ008", Some("IOError")));
}
