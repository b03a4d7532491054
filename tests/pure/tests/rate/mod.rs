//! Rates: how many of many tries are let through, and when the next one would be.

use std::ops::RangeInclusive;

use Algorithm::{Bucket, Sliding, Window};
use proptest::prelude::*;
use tenant_q_pure::rate::{Algorithm, Level, Rate};
use tenant_q_pure::time::{At, Span};

/// Some instant that begins a minute, and so every window that divides one.
const BEGIN: At = At::of_micros(1_000_000_020_000_000);

/// When one is let through that tries every `each` from `begin` on, for so long.
fn admitted(rate: Rate, begin: At, each: Span, length: Span) -> Vec<At> {
    let mut state = Level::UNUSED;
    let tries = (0..).map(|n| begin + each * n).take_while(|now| *now < begin + length);
    tries.filter(|now| rate.admit(state, *now).map(|next| state = next).is_ok()).collect()
}

/// The most that any stretch of this length has seen.
fn most_within(times: &[At], length: Span) -> usize {
    times.iter().map(|from| times.iter().filter(|t| (*from..*from + length).contains(t)).count()).max().unwrap_or(0)
}

/// Rate, how it is counted, milliseconds after their beginning, tries every so many, for so long, let through.
type Row = (&'static str, Algorithm, i64, i64, i64, RangeInclusive<usize>);

/// Values of dramatiq's limiters; its bucket is our window.
#[test]
fn as_many_as_dramatiq_lets_through() {
    let rows: [Row; 8] = [
        ("2/s", Window, 0, 250, 2_000, 4..=4),
        ("2/s", Bucket, 0, 250, 2_000, 4..=5),
        ("2/5s", Window, 0, 100, 20_000, 8..=8),
        ("2/5s", Window, 3_000, 100, 20_000, 8..=10),
        ("2/5s", Bucket, 0, 100, 20_000, 8..=10),
        ("2/5s", Bucket, 3_000, 100, 20_000, 8..=10),
        ("2/5s", Sliding, 0, 100, 20_000, 8..=8),
        ("2/5s", Sliding, 3_000, 100, 20_000, 8..=8),
    ];
    for (text, window, offset, each, length, expected) in rows {
        let rate = Rate::parse(text, window).expect(text);
        let times = admitted(rate, BEGIN + Span::of_millis(offset), Span::of_millis(each), Span::of_millis(length));
        assert!(expected.contains(&times.len()), "{text}, {window:?}, offset {offset}: {} of {expected:?}", times.len());
    }
}

#[test]
fn a_burst_and_then_evenly() {
    let rate = Rate::parse("4/s", Bucket).expect("a rate");
    let times = admitted(rate, BEGIN, Span::of_millis(1), Span::of_secs(2));
    let after: Vec<_> = times.iter().map(|t| (*t - BEGIN).millis()).collect();
    assert_eq!(after, [0, 1, 2, 3, 250, 500, 750, 1000, 1250, 1500, 1750]);
}

/// The bound that neither of the others keeps: a burst at the end of one window, the next one at the beginning of another.
#[test]
fn sliding_lets_no_more_through_in_any_stretch() {
    let burst = |algorithm: Algorithm| {
        let rate = Rate::parse("100/m", algorithm).expect("a rate");
        let mut state = Level::UNUSED;
        let tries = (0..300).map(|n| BEGIN + Span::of_secs(59) + Span::of_millis(10) * n);
        let times: Vec<_> = tries.filter(|now| rate.admit(state, *now).map(|next| state = next).is_ok()).collect();
        most_within(&times, Span::MINUTE)
    };
    assert_eq!((burst(Window), burst(Bucket), burst(Sliding)), (200, 104, 100));
    let rate = Rate::parse("160/16s", Sliding).expect("a rate");
    let times = admitted(rate, BEGIN, Span::of_millis(20), Span::of_secs(170));
    // All at once, and again as soon as the seconds that they came in are over: 17 of them.
    assert_eq!(times.len(), 1600);
    assert_eq!(most_within(&times, Span::of_secs(16)), 160);
}

#[test]
fn texts() {
    for (text, shown) in [
        ("10/m", "10/m bucket"),
        ("100/h", "100/h bucket"),
        ("5 / 10 seconds", "5/10s bucket"),
        ("1/60s", "1/m bucket"),
        ("3/2d", "3/2d bucket"),
        ("5/s window", "5/s window"),
        ("5/10 s  sliding ", "5/10s sliding"),
    ] {
        let rate = Rate::parse(text, Bucket).expect(text);
        assert_eq!(rate.to_string(), shown);
        assert_eq!(Rate::parse(shown, Sliding), Ok(rate), "what is shown can be said");
    }
    assert_eq!(Rate::algorithm_of("5/s window"), Some(Window));
    assert_eq!(Rate::algorithm_of("5 / s"), None);
    for text in [
        "",
        "10",
        "10/",
        "/m",
        "0/m",
        "-1/m",
        "1/0s",
        "1/fortnight",
        "1.5/s",
        "1000001/s",
        "1/s/s",
        "5/s leaky",
        "window",
        "5/s window sliding",
    ] {
        assert!(Rate::parse(text, Bucket).is_err(), "{text}");
    }
}

/// What the hint says can be written as it stands, and lets through the same number in the same time.
#[test]
fn a_fraction_is_said_in_whole_numbers() {
    for (written, same) in [
        ("0.5/s", "1/2s"),
        ("1.5/m", "3/2m"),
        ("2.0/h", "2/h"),
        ("0.25/10s", "1/40s"),
        (" 12.50 / 3 min", "25/6min"),
        ("0.000001/s", "1/1000000s"),
    ] {
        assert!(Rate::parse(written, Bucket).is_err());
        assert_eq!(Rate::in_whole_numbers(written).as_deref(), Some(same), "{written}");
        assert!(Rate::parse(same, Bucket).is_ok());
    }
    for nonsense in
        ["often", "1/s", "0.0/s", ".5/s", "0./s", "-0.5/s", "0.5", "0.5/fortnight", "0.0000001/s", "0.5/99999999999999999999s", "1.5e3/s"]
    {
        assert_eq!(Rate::in_whole_numbers(nonsense), None, "{nonsense}");
    }
}

proptest! {
    #[test]
    fn never_more_than_it_says_and_again_when_it_says(
        count in 1i64..20, seconds in 1i64..100, algorithm in prop::sample::select(vec![Bucket, Window, Sliding]), offset in 0..100_000_000i64, gaps in prop::collection::vec(0..10_000_000i64, 1..200),
    ) {
        let rate = Rate { count, period: Span::of_secs(seconds), algorithm };
        // What a sliding one has counted by parts is over up to a part too late.
        let longest = if algorithm == Sliding { rate.period + rate.period / 16 } else { rate.period };
        let (mut state, mut now) = (Level::UNUSED, BEGIN + Span::of_micros(offset));
        let mut times = Vec::new();
        for gap in gaps {
            now += Span::of_micros(gap);
            match rate.admit(state, now) {
                Ok(next) => {
                    state = next;
                    times.push(now);
                }
                Err(when) => {
                    prop_assert!(when > now && when <= now + longest, "{when:?} is not soon after {now:?}");
                    prop_assert!(rate.admit(state, when).is_ok(), "not admitted when it said");
                    prop_assert!(rate.admit(state, when - Span::MICROSECOND).is_err(), "admitted before it said");
                }
            }
        }
        // A burst may come right before, and what is refilled right after it.
        let most = if algorithm == Sliding { count } else { 2 * count };
        prop_assert!(most_within(&times, rate.period) <= most as usize);
        if algorithm == Window {
            let mut starts: Vec<_> = times.iter().map(|t| *t - t.since_multiple_of(rate.period)).collect();
            starts.dedup();
            for start in starts {
                prop_assert!(times.iter().filter(|t| (start..start + rate.period).contains(*t)).count() <= count as usize);
            }
        } else if algorithm == Bucket && let (Some(first), Some(last)) = (times.first(), times.last()) {
            prop_assert!(times.len() as i64 <= count + (*last - *first) / (rate.period / count));
        }
    }

    /// A clock that is set back closes nothing for longer than a period.
    #[test]
    fn set_back(count in 1i64..20, algorithm in prop::sample::select(vec![Bucket, Window, Sliding]), back in 0..1_000_000_000_000i64) {
        let rate = Rate { count, period: Span::MINUTE, algorithm };
        let back = Span::of_micros(back);
        let mut state = Level::UNUSED;
        while let Ok(next) = rate.admit(state, BEGIN) {
            state = next;
        }
        if let Err(when) = rate.admit(state, BEGIN - back) {
            prop_assert!(when <= BEGIN - back + rate.period + rate.period / 16);
        }
    }
}
