//! How long to wait before the next attempt: pure, (policy, attempt, attempts in all, seed) → delay.
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
    /// Celery: `base` 1 s · `factor` 1 · 2ⁿ, at most 600 s, by chance anything between nothing and that.
    Celery,
    /// dramatiq: `base` 15 s · 2ⁿ, by chance up to twice as long; what is beyond 7 days is something between half of
    /// that and all of it.
    Dramatiq,
    /// RQ: `delays`, the last of which is before the last attempt: where there are more attempts than delays the first
    /// one is repeated, where there are fewer the first ones are left out. Without a limit of attempts as a list.
    Rq,
    /// procrastinate: `base` 0 + `linear` 0 · n + `factor` 0 ⁿ⁺¹ seconds.
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
    pub linear: Option<f64>,
    /// The longest delay. By default that of the kind, but never less than the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Share of the delay that is random: 0.1 = ± 10 %. `celery` only takes off: 1 = anything from 0 to the delay.
    /// `dramatiq` only adds: 1 = up to twice the delay.
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
            linear: None,
            cap: None,
            jitter: None,
            delays: vec![],
            retry_on: vec![],
            never_on: vec![],
        }
    }
}

/// The longest delay of all.
const CENTURY: f64 = (36_500 * DAY) as f64;

fn micros(seconds: f64) -> f64 {
    (seconds * SECOND as f64).round().clamp(0.0, CENTURY)
}

/// Nothing is nothing however often: what it is multiplied by may be beyond all numbers.
fn times(first: f64, by: f64) -> f64 {
    if first == 0.0 { 0.0 } else { first * by }
}

fn raised(factor: f64, to: u32) -> f64 {
    factor.powi(to.min(1000) as i32)
}

/// Uniform in [0, 1), the same for the same seed.
fn unit(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Policy {
    /// The wait after the `attempt`-th attempt (from 1) of at most `most` (0: of any number) has failed.
    pub fn delay(&self, attempt: u32, most: u32, seed: u64) -> Span {
        let n = attempt.max(1) - 1;
        let base = |default: i64| self.base.map_or(default as f64, micros);
        let factor = |default: f64| self.factor.unwrap_or(default);
        // What is waited, the longest that is waited if nothing else is said, and the share of chance.
        let (plain, cap, jitter) = match self.kind {
            Kind::Fixed => (base(15 * SECOND), CENTURY, 0.0),
            Kind::Linear => {
                let base = base(15 * SECOND);
                (times(base, 1.0 + times(factor(1.0), n.into())), base.max(HOUR as f64), 0.0)
            }
            Kind::Exponential => {
                let base = base(15 * SECOND);
                (times(base, raised(factor(2.0), n)), base.max(HOUR as f64), 0.1)
            }
            Kind::Dramatiq => {
                let base = base(15 * SECOND);
                (times(base, raised(factor(2.0), n)), base.max(7.0 * DAY as f64), 1.0)
            }
            Kind::Celery => {
                let base = times(base(SECOND), factor(1.0));
                (times(base, raised(2.0, n)), base.max(10.0 * MINUTE as f64), 1.0)
            }
            Kind::Procrastinate => {
                let linear = times(self.linear.map_or(0.0, micros), n.into());
                (base(0) + linear + SECOND as f64 * raised(factor(0.0), n.saturating_add(1)), CENTURY, 0.0)
            }
            Kind::List | Kind::Rq if !self.delays.is_empty() => (micros(self.delays[self.place(n, most)]), CENTURY, 0.0),
            Kind::List | Kind::Rq => (base(0), CENTURY, 0.0),
        };
        let cap = self.cap.map_or(cap, micros).min(CENTURY);
        let share = self.jitter.unwrap_or(jitter).clamp(0.0, 1.0);
        let draw = |nth: u64| unit(seed ^ (u64::from(attempt) << 32) ^ nth);
        let delay = match self.kind {
            Kind::Celery => plain.min(cap) * (1.0 - share * draw(0)),
            Kind::Dramatiq => match plain * (1.0 + share * draw(0)) {
                long if long > cap => cap * (1.0 - share / 2.0 * draw(1)),
                delay => delay,
            },
            _ => plain.min(cap) * (1.0 + share * (2.0 * draw(0) - 1.0)),
        };
        Span::of_micros(delay.clamp(0.0, cap) as i64)
    }

    /// Which of `delays` follows the attempt `n` (from 0).
    fn place(&self, n: u32, most: u32) -> usize {
        let last = self.delays.len() - 1;
        let place = match (self.kind, most) {
            (Kind::Rq, 1..) => self.delays.len().saturating_sub(most.saturating_sub(n + 1) as usize),
            _ => n as usize,
        };
        place.min(last)
    }

    /// A parameter that means nothing to this kind.
    pub fn unused(&self) -> Option<&'static str> {
        let grows = !matches!(self.kind, Kind::Fixed | Kind::List | Kind::Rq);
        let listed = matches!(self.kind, Kind::List | Kind::Rq);
        let based = self.kind != Kind::List && self.delays.is_empty();
        let given = [
            (self.factor.is_some(), grows, "factor"),
            (self.linear.is_some(), self.kind == Kind::Procrastinate, "linear"),
            (!self.delays.is_empty(), listed, "delays"),
            (self.base.is_some(), based, "base"),
        ];
        given.into_iter().find(|(given, means, _)| *given && !means).map(|(_, _, name)| name)
    }

    /// Whether an error of this SQLSTATE is worth another attempt.
    /// `class`: of a worker's error, as its language has it.
    pub fn retries(&self, sqlstate: &str, class: Option<&str>) -> bool {
        let listed = |list: &[String]| {
            list.iter().any(|l| match is_sqlstate(l) {
                true => sqlstate.starts_with(l.as_str()) || class == Some(l),
                // 'stripe.error.' is all of its classes, 'stripe.error.RateLimit' is one.
                false => class.is_some_and(|class| class == l || l.ends_with('.') && class.starts_with(l.as_str())),
            })
        };
        !listed(&self.never_on) && (self.retry_on.is_empty() || listed(&self.retry_on))
    }

    /// What is wrong with the policy; None = nothing.
    pub fn fault(&self) -> Option<String> {
        let numbers = [self.base, self.factor, self.linear, self.cap, self.jitter];
        for (name, value) in ["base", "factor", "linear", "cap", "jitter"].into_iter().zip(numbers) {
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
        if self.retry_on.iter().chain(&self.never_on).any(|s| !is_sqlstate(s) && !is_class(s)) {
            return Some(
                "retry_on and never_on take SQLSTATEs, or their first characters, and classes of errors such as 'requests.Timeout'".into(),
            );
        }
        None
    }
}

/// Five characters, or the first of them.
fn is_sqlstate(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
}

/// A class of errors as languages write them: names with dots or colons between. What would be a SQLSTATE in capitals is none.
fn is_class(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '$'));
    let mistyped = text.len() == 5 && text.contains(|c: char| c.is_ascii_digit()) && is_sqlstate(&text.to_ascii_uppercase());
    begins && is_name && text.len() <= 200 && !mistyped
}
