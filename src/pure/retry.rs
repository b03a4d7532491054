//! How long to wait before the next attempt: pure, (policy, attempt, seed) → delay.
//!
//! A policy is what `tq_backoff` returns, a jsonb document, so that it can be stored, passed on
//! and read by people. The presets reproduce the formulas of the systems they are named after.

use serde::{Deserialize, Serialize};

use crate::pure::time::Span;

const SECOND: i64 = Span::SECOND.micros();
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `base` every time.
    Fixed,
    /// `base` + `factor` · `base` · n.
    Linear,
    /// `base` · `factor`ⁿ.
    Exponential,
    /// The n-th of `delays`, the last one for all further attempts.
    List,
    /// Celery: min(`cap` 600 s, `base` 1 s · 2ⁿ), full jitter on request.
    Celery,
    /// dramatiq: 15 s · 2ⁿ, at most 7 days, up to half of it taken off by chance.
    Dramatiq,
    /// RQ: a list of intervals, 0 by default.
    Rq,
    /// procrastinate: `base` at once.
    Procrastinate,
}

/// A retry policy. Durations in seconds, as people read them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Share of the delay that is random: 0.1 = ± 10 %. `celery` and `dramatiq` only take off: 1 =
    /// anything from 0 to the delay, 0.5 = from half of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delays: Vec<f64>,
    /// SQLSTATEs or their first characters; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<String>,
}

impl Default for Policy {
    /// 15 s · 2ⁿ, ± 10 %, at most an hour: an outage of a minute is survived by the first two
    /// retries, one of an hour doesn't cost a thousand attempts.
    fn default() -> Self {
        Policy {
            kind: Kind::Exponential,
            base: None,
            factor: None,
            cap: None,
            jitter: None,
            delays: vec![],
            retry_on: vec![],
            never_on: vec![],
        }
    }
}

fn micros(seconds: f64) -> i64 {
    (seconds * SECOND as f64).round().clamp(0.0, 36500.0 * DAY as f64) as i64
}

/// Uniform in [0, 1), the same for the same seed.
fn unit(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Policy {
    /// The wait after the `attempt`-th attempt (from 1) has failed.
    pub fn delay(&self, attempt: u32, seed: u64) -> Span {
        let n = attempt.max(1) - 1;
        let grow = |factor: f64| factor.powi(n.min(1000) as i32);
        // Nothing is nothing however often: what it is multiplied by may be beyond all numbers.
        let grown = |default: i64, by: f64| match self.base.map_or(default, micros) {
            0 => 0.0,
            base => base as f64 * by,
        };
        let factor = self.factor;
        let (plain, cap, jitter) = match self.kind {
            Kind::Fixed => (grown(15 * SECOND, 1.0), None, 0.0),
            Kind::Linear => (grown(15 * SECOND, 1.0 + factor.unwrap_or(1.0) * n as f64), Some(HOUR), 0.0),
            Kind::Exponential => (grown(15 * SECOND, grow(factor.unwrap_or(2.0))), Some(HOUR), 0.1),
            Kind::Dramatiq => (grown(15 * SECOND, grow(factor.unwrap_or(2.0))), Some(7 * DAY), 0.5),
            Kind::Celery => (grown(SECOND, grow(factor.unwrap_or(2.0))), Some(10 * MINUTE), 1.0),
            Kind::Procrastinate => (grown(0, grow(factor.unwrap_or(1.0))), None, 0.0),
            Kind::List | Kind::Rq => {
                let at = (n as usize).min(self.delays.len().saturating_sub(1));
                (self.delays.get(at).map_or(0.0, |d| micros(*d) as f64), None, 0.0)
            }
        };
        let cap = self.cap.map(micros).or(cap).unwrap_or(36500 * DAY) as f64;
        let capped = plain.min(cap);
        let share = self.jitter.unwrap_or(jitter).clamp(0.0, 1.0);
        let random = unit(seed ^ ((attempt as u64) << 32));
        let jittered = match self.kind {
            // The formula's delay is the longest one there, as in the originals.
            Kind::Celery | Kind::Dramatiq => capped * (1.0 - share * random),
            _ => capped * (1.0 + share * (2.0 * random - 1.0)),
        };
        Span::of_micros(jittered.clamp(0.0, cap.max(0.0)) as i64)
    }

    /// Whether an error of this SQLSTATE is worth another attempt.
    pub fn retries(&self, sqlstate: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|l| sqlstate.starts_with(l.as_str()));
        !listed(&self.never_on) && (self.retry_on.is_empty() || listed(&self.retry_on))
    }

    /// What is wrong with the policy; None = nothing.
    pub fn fault(&self) -> Option<String> {
        for (name, value) in [("base", self.base), ("factor", self.factor), ("cap", self.cap), ("jitter", self.jitter)] {
            if value.is_some_and(|v| !v.is_finite() || v < 0.0) {
                return Some(format!("{name} is negative or not a number"));
            }
        }
        if self.jitter.is_some_and(|j| j > 1.0) {
            return Some("jitter is a share: at most 1".into());
        }
        if self.kind == Kind::List && self.delays.is_empty() {
            return Some("kind list needs delays".into());
        }
        if self.delays.iter().any(|d| !d.is_finite() || *d < 0.0) {
            return Some("a delay is negative or not a number".into());
        }
        if self
            .retry_on
            .iter()
            .chain(&self.never_on)
            .any(|s| s.is_empty() || s.len() > 5 || !s.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()))
        {
            return Some("retry_on and never_on take SQLSTATEs, or their first characters".into());
        }
        None
    }
}
