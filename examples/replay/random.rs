//! Reproducible random numbers: a generator, and a distribution of keys.

/// SplitMix64 (Steele, Lea and Flood): any seed works, including a key's number.
pub struct Random(u64);

/// Popularity by rank: the key of rank r is requested about r^-skew times as often as the first.
pub struct Zipf {
    keys: u32,
    skew: f64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, end: u32) -> u32 {
        (self.number() % u64::from(end)) as u32
    }

    /// From 0 to less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to `high`, with as many values in each octave.
    pub fn log_uniform(&mut self, low: u32, high: u32) -> u32 {
        let (low, high) = (f64::from(low), f64::from(high));
        (low * (high / low).powf(self.unit())) as u32
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let (length, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * length.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

impl Zipf {
    /// A skew of exactly 1 would need another formula.
    pub fn new(keys: u32, skew: f64) -> Self {
        assert!(skew < 1.0);
        Zipf { keys, skew }
    }

    /// Draws a rank, from 0, by the continuous distribution, which needs no table.
    pub fn rank(&self, random: &mut Random) -> u32 {
        let power = 1.0 - self.skew;
        let top = (f64::from(self.keys) + 1.0).powf(power);
        let rank = (1.0 + random.unit() * (top - 1.0)).powf(power.recip());
        (rank as u32 - 1).min(self.keys - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_distribution() {
        let (zipf, mut random) = (Zipf::new(1_000, 0.9), Random::new(1));
        let mut counts = vec![0; 1_000];
        for _ in 0..1_000_000 {
            counts[zipf.rank(&mut random) as usize] += 1;
        }
        let ratio = f64::from(counts[99]) / f64::from(counts[799]);
        assert!((ratio - 8f64.powf(0.9)).abs() < 1.0, "{ratio}");
        assert!(counts.iter().all(|count| *count > 0));
    }
}
