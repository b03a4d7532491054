//! Full tables: who gives a place up for whom.

use tenant_q_pure::pure::atomics::GaugeU32;

use proptest::prelude::*;
use tenant_q_pure::shares::{Owner, Says, Tally, choose};

/// A table, each place with its owner and how much it says.
struct Table(Vec<(Owner, Says)>);

impl Table {
    fn new(places: usize) -> Table {
        Table(vec![(Owner(0), Says::Free); places])
    }
    fn count(&self, owner: Owner) -> u32 {
        self.0.iter().filter(|(o, says)| *o == owner && *says != Says::Free).count() as u32
    }
    /// A newcomer that says so much; who lost something by it, or Err: there was no place.
    fn add(&mut self, owner: Owner, says: i64) -> Result<Option<Owner>, ()> {
        let chosen = choose(owner, |o| self.count(o), self.0.iter().copied()).ok_or(())?;
        self.0[chosen.place] = (owner, Says::Something(says));
        Ok(chosen.displaced)
    }
}

fn tenant(n: u32) -> Owner {
    Owner::new(1, n)
}

#[test]
fn who_fills_a_table_displaces_its_own_and_makes_room_for_others() {
    let mut table = Table::new(100);
    for n in 0..5 {
        assert_eq!(table.add(tenant(2), n), Ok(None));
    }
    for n in 0..10_000 {
        assert!(matches!(table.add(tenant(1), n), Ok(None | Some(Owner(_)))));
        assert_eq!(table.count(tenant(2)), 5, "a neighbour that fits keeps what it has");
    }
    assert_eq!(table.count(tenant(1)), 95);
    // What says least went first.
    assert!(table.0.iter().all(|(o, says)| *o != tenant(1) || matches!(says, Says::Something(n) if *n >= 9_905)));
    for n in 0..20 {
        assert_eq!(table.add(tenant(3), n), Ok(Some(tenant(1))));
    }
    assert_eq!((table.count(tenant(1)), table.count(tenant(2)), table.count(tenant(3))), (75, 5, 20));
}

#[test]
fn two_who_hold_as_much_take_nothing_from_each_other() {
    let mut table = Table::new(10);
    for n in 0..100 {
        let _ = table.add(tenant(1 + n % 2), n.into());
    }
    for n in 0..100 {
        let who = tenant(1 + n % 2);
        assert_eq!(table.add(who, n.into()), Ok(Some(who)));
    }
}

#[test]
fn what_says_nothing_goes_first_and_what_is_fixed_never() {
    let mut table = Table::new(4);
    table.0 = vec![(tenant(1), Says::Fixed), (tenant(1), Says::Something(1)), (tenant(2), Says::Nothing), (tenant(1), Says::Fixed)];
    assert_eq!(choose(tenant(1), |_| 3, table.0.iter().copied()).map(|c| (c.place, c.displaced)), Some((2, None)));
    table.0[2] = (tenant(2), Says::Something(0));
    assert_eq!(table.add(tenant(1), 9), Ok(Some(tenant(1))));
    assert_eq!(table.0[1], (tenant(1), Says::Something(9)));
    table.0 = vec![(tenant(1), Says::Fixed); 4];
    assert_eq!(table.add(tenant(1), 0), Err(()));
    assert_eq!(table.add(tenant(2), 0), Err(()));
}

proptest! {
    #[test]
    fn nobody_loses_to_one_who_holds_as_much(newcomers in prop::collection::vec((1u32..6, 0i64..100), 1..300)) {
        let mut table = Table::new(20);
        for (who, says) in newcomers {
            let owner = tenant(who);
            let before: Vec<u32> = (1..6).map(|n| table.count(tenant(n))).collect();
            let mine = before[who as usize - 1];
            match table.add(owner, says) {
                Ok(Some(displaced)) if displaced != owner => {
                    let theirs = before[displaced.tenant() as usize - 1];
                    prop_assert!(theirs > mine + 1 && before.iter().all(|n| *n <= theirs));
                }
                Ok(Some(_)) => prop_assert!(before.iter().all(|n| *n <= mine + 1)),
                Ok(None) => prop_assert!(before.iter().sum::<u32>() < 20),
                Err(()) => prop_assert!(mine == 0 && before.iter().all(|n| *n <= 1)),
            }
        }
    }

    #[test]
    fn a_tally_never_says_less_than_is_held_and_ends_at_nothing(owners in prop::collection::vec(0u32..1000, 1..200)) {
        let counters: &'static [GaugeU32] = (0..Tally::counters(64)).map(|_| GaugeU32::new(0)).collect::<Vec<_>>().leak();
        let tally = Tally::new(counters);
        for o in &owners {
            tally.add(tenant(*o));
        }
        for o in &owners {
            prop_assert!(tally.count(tenant(*o)) as usize >= owners.iter().filter(|n| *n == o).count());
        }
        for o in &owners {
            tally.sub(tenant(*o));
        }
        prop_assert!(owners.iter().all(|o| tally.count(tenant(*o)) == 0));
    }
}
