//! What must hold for any text whatever, shared by the tests and `fuzz/`: parsers neither panic nor hang, errors say
//! where in the text, and what is accepted has fire times that ascend.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::schedule::active_hours::ActiveHours;
use crate::schedule::describe::describe;
use crate::schedule::next::Plan;
use crate::schedule::rule::{MonthEnd, Rule, RuleError};
use crate::schedule::zone::parse_zone;

/// Far above what anything takes, even unoptimised, on a busy machine: an endless search, not a slow one.
const HANG: Duration = Duration::from_secs(5);

/// Panics when something doesn't hold. `place` and `seed` choose zone, instants and options.
pub fn check(text: &str, place: u64, seed: u64) {
    let began = Instant::now();
    let zone = TZ_VARIANTS[(place % TZ_VARIANTS.len() as u64) as usize];
    // The years 1 to 9999, and often those around now.
    let after = match place >> 62 {
        0 => (place >> 16) as i64 % 253_402_300_799,
        1 => -((place >> 16) as i64 % 62_135_596_800),
        _ => (place >> 16) as i64 % 4_102_444_800,
    };
    let after = DateTime::from_timestamp(after, (seed % 1_000_000_000) as u32).unwrap_or_default();
    rule(text, zone, after, seed);
    if let Some(hours) = parsed(text, ActiveHours::parse(text)) {
        hours.contain(zone, after);
    }
    parsed(text, parse_zone(text));
    parsed(text, MonthEnd::parse(text));
    assert!(began.elapsed() < HANG, "{text:?} took {:?}", began.elapsed());
}

fn rule(text: &str, zone: Tz, after: DateTime<Utc>, seed: u64) {
    let Some(rule) = parsed(text, Rule::parse(text, seed & 1 == 1)) else { return };
    assert_eq!(Rule::parse(text, seed & 1 == 1).as_ref(), Ok(&rule), "{text:?} twice");
    assert!(!rule.kind().is_empty() && !describe(&rule).is_empty(), "{text:?}");
    let month_end = [MonthEnd::Clamp, MonthEnd::Skip, MonthEnd::Sticky][(seed >> 1) as usize % 3];
    let distance = TimeDelta::try_seconds((seed >> 8) as i64 % 1_000_000_000).unwrap_or_default();
    let anchor = after.checked_sub_signed(distance).unwrap_or(after);
    let start_at = (seed & 8 == 8).then_some(anchor);
    let plan = Plan { rule: &rule, zone, anchor, start_at, until: None, active_hours: None, back_to: None, month_end, seed };
    if let Some(first) = plan.first() {
        assert!(first >= anchor, "{text:?} first fires at {first}, before {anchor}");
    }
    let mut previous = after;
    for _ in 0..4 {
        let Some(next) = plan.next_after(previous) else { break };
        assert!(next > previous, "{text:?} in {zone} fires at {next} after {previous}");
        let just_before = next - TimeDelta::nanoseconds(1);
        assert_eq!(plan.next_after(just_before), Some(next), "{text:?} in {zone}, asked at {just_before}");
        previous = next;
    }
}

/// The value, or nothing after a look at the error.
fn parsed<T: Debug>(text: &str, result: Result<T, RuleError>) -> Option<T> {
    result
        .inspect_err(|error| {
            assert!(!error.message.is_empty() && error.message.len() < 400, "{text:?}: {error}");
            if let Some(position) = error.position {
                assert!(text.is_char_boundary(position), "{text:?}: {error}");
            }
        })
        .ok()
}
