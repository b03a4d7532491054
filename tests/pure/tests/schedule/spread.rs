//! Randomness that repeats.

use std::collections::HashSet;

use chrono::TimeDelta;
use tenant_q_pure::schedule::spread::{jitter, stagger};

use super::{Schedule, instant};

#[test]
fn random_gaps_stay_in_their_range_and_vary() {
    for (rule, min, max) in [
        ("every 5 to 30 minutes", 300, 1800),
        ("every 1 to 2 seconds", 1, 2),
        ("every 5 to 6 seconds", 5, 6),
        ("every 3 to 10 seconds", 3, 10),
        ("every 1 to 20 days", 86_400, 20 * 86_400),
    ] {
        for seed in 0..20 {
            let schedule = Schedule { seed, ..Schedule::new(rule, "UTC", "2024-01-01 00:00") };
            let mut times = vec![schedule.anchor];
            times.extend(schedule.fire_times(schedule.anchor, 100));
            let gaps: HashSet<i64> = times.windows(2).map(|pair| (pair[1] - pair[0]).num_seconds()).collect();
            assert!(gaps.iter().all(|gap| (min..=max).contains(gap)), "{rule}: {gaps:?}");
            assert!(gaps.len() > 1, "{rule}: {gaps:?}");
        }
    }
    let of_seed = |seed| Schedule { seed, ..Schedule::new("every 5 to 30 minutes", "UTC", "2024-01-01 00:00") };
    let times = |seed| of_seed(seed).fire_times(instant("2024-01-01 00:00"), 10);
    assert_eq!(times(7), times(7));
    assert_ne!(times(7), times(8));
}

#[test]
fn jitter_and_stagger() {
    let minute = TimeDelta::minutes(1);
    let noon = instant("2024-01-01 12:00");
    let spread: HashSet<TimeDelta> = (0..1_000).map(|tenant| stagger(tenant, minute)).collect();
    assert!(spread.iter().all(|delay| (TimeDelta::zero()..minute).contains(delay)));
    assert!(spread.len() > 990, "1,000 tenants share {} places", spread.len());
    assert_eq!(jitter(1, noon, minute), jitter(1, noon, minute));
    assert_ne!(jitter(1, noon, minute), jitter(1, noon + minute, minute));
    assert_eq!(jitter(1, noon, TimeDelta::zero()), TimeDelta::zero());
    assert_eq!(stagger(1, TimeDelta::seconds(-5)), TimeDelta::zero());
}
