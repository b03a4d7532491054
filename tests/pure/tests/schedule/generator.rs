//! Numbers that look random and are the same for the same seed.

/// The seed of this run, told so that a failure can be had again: `TENANT_Q_SEED=…`.
pub fn seed() -> u64 {
    let seed = std::env::var("TENANT_Q_SEED").map_or(1, |seed| seed.parse().expect("TENANT_Q_SEED is a number"));
    println!("seed {seed}");
    seed
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
