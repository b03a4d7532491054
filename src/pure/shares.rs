//! Who gives a place up when a table is full. Pure: counts and places are arguments.

use crate::pure::atomics::GaugeU32;

/// A tenant of a database; 0 = nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u64);

impl Owner {
    pub fn new(database: u32, tenant: u32) -> Owner {
        Owner((database as u64) << 32 | tenant as u64)
    }
    pub fn tenant(self) -> u32 {
        self.0 as u32
    }
}

/// What a place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It is nobody's.
    Free,
    /// What it said is over.
    Nothing,
    /// The least goes first.
    Something(i64),
    /// More than its owner may give up, or somebody is at it.
    Fixed,
}

/// Whom a newcomer's place was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub place: usize,
    /// Who loses something by it.
    pub displaced: Option<Owner>,
}

/// Which of these places a newcomer of `owner` gets; None = none of them. `count`: how many somebody has in all.
pub fn choose(owner: Owner, count: impl Fn(Owner) -> u32, places: impl Iterator<Item = (Owner, Says)>) -> Option<Chosen> {
    let mine = count(owner);
    let mut over = None;
    // Who has most, its least, where that is.
    let mut most: Option<(u32, i64, usize)> = None;
    let mut own: Option<(i64, usize)> = None;
    let (mut whose, mut last) = (Owner(0), None);
    for (n, (of, says)) in places.enumerate() {
        match says {
            Says::Free => return Some(Chosen { place: n, displaced: None }),
            Says::Nothing => over = over.or(Some(n)),
            Says::Something(least) if of == owner => own = own.filter(|o| o.0 <= least).or(Some((least, n))),
            Says::Something(least) => {
                let theirs = match last {
                    Some((known, theirs)) if known == of => theirs,
                    _ => count(of),
                };
                last = Some((of, theirs));
                // Not one more only: two would take it from each other in turn.
                if theirs > mine.saturating_add(1) && most.is_none_or(|(m, l, _)| theirs > m || theirs == m && of == whose && least < l) {
                    (most, whose) = (Some((theirs, least, n)), of);
                }
            }
            Says::Fixed => {}
        }
    }
    if let Some(place) = over {
        return Some(Chosen { place, displaced: None });
    }
    match (most, own) {
        (Some((.., place)), _) => Some(Chosen { place, displaced: Some(whose) }),
        (None, Some((_, place))) => Some(Chosen { place, displaced: Some(owner) }),
        (None, None) => None,
    }
}

/// How many places of one table everybody has: two counters for each, found by hashes, of which the lesser
/// counts. Two owners that share one are told apart by the other.
#[derive(Clone, Copy)]
pub struct Tally(&'static [GaugeU32]);

impl Tally {
    /// Counters for so many owners.
    pub fn counters(owners: usize) -> usize {
        2 * owners.next_power_of_two()
    }
    pub fn new(counters: &'static [GaugeU32]) -> Tally {
        Tally(counters)
    }
    fn both(&self, owner: Owner) -> [&'static GaugeU32; 2] {
        let half = self.0.len() / 2;
        let mixed = (owner.0 ^ owner.0 >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x94D0_49BB_1331_11EB);
        [&self.0[mixed as usize & (half - 1)], &self.0[half + ((mixed >> 32) as usize & (half - 1))]]
    }
    pub fn count(&self, owner: Owner) -> u32 {
        let [a, b] = self.both(owner);
        a.load().min(b.load())
    }
    pub fn add(&self, owner: Owner) {
        for counter in self.both(owner) {
            counter.fetch_add(1);
        }
    }
    pub fn sub(&self, owner: Owner) {
        // Never below nothing: that would be the most.
        for counter in self.both(owner) {
            let _ = counter.fetch_update(|n| n.checked_sub(1));
        }
    }
}
