//! How much of each rate is used up. Under `Lock::Rates`.

use crate::postgres::lwlock::Lock;
use crate::pure::atomics::{GaugeAt, GaugeI64, GaugeU32, GaugeU64};
use crate::pure::ids::Id;
use crate::pure::rate::{self, Level};
use crate::pure::shares::{self, Owner, Says};
use crate::pure::time::At;
use crate::shared::Shared;
use crate::shared::share;
use crate::shared_struct;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Rates that are counted at a time, in all tenants, at the least.
pub const RATES: usize = 8192;

shared_struct! {
    /// How much of a rate (pure/rate.rs) is used up; read and written under `Lock::Rates`.
    pub struct RateUse {
        /// A hash of tenant and gate; 0 = never used.
        pub key: GaugeU64,
        pub owner: GaugeU64,
        pub at: GaugeAt,
        pub used: GaugeI64,
        pub parts: [GaugeU32; rate::PARTS + 1],
        /// From then on it says nothing.
        pub until: GaugeAt,
        /// It is the administrator's word: the tenant can't have it forgotten.
        pub fixed: GaugeU32,
    }
}

/// What is known of the use of a rate.
pub enum RateFound {
    /// The state that pure/rate.rs goes on from.
    Used(Level),
    /// Nothing is.
    Unused,
    /// There is no place to count it in.
    NoPlace,
}

impl RateUse {
    pub fn level(&self) -> Level {
        Level { at: self.at.load(), used: self.used.load(), parts: std::array::from_fn(|n| self.parts[n].load()) }
    }
    pub fn note(&self, level: Level) {
        self.at.store(level.at);
        self.used.store(level.used);
        for (part, starts) in self.parts.iter().zip(level.parts) {
            part.store(starts);
        }
    }
}

impl Shared {
    /// Where the use of this rate is counted, if it is.
    fn rate_at(&self, owner: Owner, gate: Id) -> (u64, usize, Option<usize>) {
        let secret = |n: usize| self.header.secret[n].load().to_ne_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&secret(0));
        bytes[8..].copy_from_slice(&secret(1));
        let mut hasher = SipHasher13::new_with_key(&bytes);
        hasher.write_u64(owner.0);
        hasher.write_u128(gate.number());
        let key = hasher.finish() | 1;
        let begin = (key >> 1) as usize % self.rates.len();
        let mut found = None;
        for n in 0..share::WINDOW.min(self.rates.len()) {
            let place = (begin + n) % self.rates.len();
            match self.rates[place].key.load() {
                // Places are taken in this order, and never given back.
                0 => break,
                k if k == key && self.rates[place].owner.load() == owner.0 => {
                    found = Some(place);
                    break;
                }
                _ => {}
            }
        }
        (key, begin, found)
    }

    /// What is used of this rate, for people.
    pub fn rate_used(&self, owner: Owner, gate: Id) -> RateFound {
        let _guard = Lock::Rates.shared();
        let (_, begin, found) = self.rate_at(owner, gate);
        match found {
            Some(place) => RateFound::Used(self.rates[place].level()),
            None if self.rate_for(owner, begin, &[]).is_some() => RateFound::Unused,
            None => RateFound::NoPlace,
        }
    }

    /// Which place a rate that has none would get.
    fn rate_for(&self, owner: Owner, begin: usize, except: &[usize]) -> Option<(usize, Option<Owner>)> {
        let now = crate::postgres::clock::now();
        let n = self.rates.len();
        let says = |place: usize| {
            let r = &self.rates[place];
            let says = if except.contains(&place) {
                Says::Fixed
            } else if r.key.load() == 0 {
                Says::Free
            } else if r.until.load() <= now {
                Says::Nothing
            } else if r.fixed.load() == 1 {
                Says::Fixed
            } else {
                Says::Something(r.until.load().micros())
            };
            (Owner(r.owner.load()), says)
        };
        let places = (0..share::WINDOW.min(n)).map(|i| says((begin + i) % n));
        shares::choose(owner, |o| self.rate_tally.count(o), places).map(|c| ((begin + c.place) % n, c.displaced))
    }

    /// The place of this rate, made if there is none; None: all that it could have are of rates in use. `except`:
    /// places that the caller is at. Under `Lock::Rates`, exclusive.
    pub fn rate(&self, owner: Owner, gate: Id, fixed: bool, except: &[usize]) -> Option<usize> {
        let (key, begin, found) = self.rate_at(owner, gate);
        if found.is_some() {
            return found;
        }
        let pressure = &self.header.pressure[share::Kind::Rates as usize];
        let Some((place, displaced)) = self.rate_for(owner, begin, except) else {
            pressure.note(owner, crate::postgres::clock::now());
            return None;
        };
        if let Some(displaced) = displaced {
            pressure.note(displaced, crate::postgres::clock::now());
        }
        let r = &self.rates[place];
        if r.key.load() != 0 {
            self.rate_tally.sub(Owner(r.owner.load()));
        }
        self.rate_tally.add(owner);
        r.key.store(key);
        r.owner.store(owner.0);
        r.fixed.store(fixed.into());
        r.note(Level::UNUSED);
        r.until.store(At::UNSET);
        Some(place)
    }
}
