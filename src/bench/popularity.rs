//! How often each key is requested.

use std::fmt::{self, Display};
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

/// A distribution, as written on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// A share of the keys receives a share of the requests.
    Hot {
        keys: f64,
        requests: f64,
    },
    /// All keys in order, again and again.
    Sequential,
    Uniform,
    /// The n-th key is requested 1/n^exponent times as often as the first.
    Zipf {
        exponent: f64,
    },
}

/// Draws keys, as numbers below a count.
#[derive(Clone, Debug)]
pub struct Draw {
    count: u64,
    popularity: Drawn,
}

#[derive(Clone, Debug)]
enum Drawn {
    Hot { keys: u64, requests: f64 },
    Sequential { next: u64 },
    Uniform,
    Zipf(Zipf<f64>),
}

impl Popularity {
    /// Draws from `count` keys; a sequence begins at `first`.
    pub fn draw(self, count: usize, first: usize) -> Draw {
        let count = count as u64;
        let popularity = match self {
            Popularity::Hot { keys, requests } => {
                Drawn::Hot { keys: ((count as f64 * keys) as u64).clamp(1, count), requests }
            }
            Popularity::Sequential => Drawn::Sequential { next: first as u64 % count },
            Popularity::Uniform => Drawn::Uniform,
            Popularity::Zipf { exponent } => {
                Drawn::Zipf(Zipf::new(count as f64, exponent).expect("both were checked"))
            }
        };
        Draw { count, popularity }
    }
}

impl Draw {
    /// Draws the next key.
    #[inline]
    pub fn next(&mut self, random: &mut SmallRng) -> u64 {
        let count = self.count;
        match &mut self.popularity {
            Drawn::Hot { keys, requests } if *keys == count || random.random_bool(*requests) => {
                random.random_range(0..*keys)
            }
            Drawn::Hot { keys, .. } => random.random_range(*keys..count),
            Drawn::Sequential { next } => {
                let key = *next;
                *next = if key + 1 == count { 0 } else { key + 1 };
                key
            }
            // The error is below `count` / 2^64, for a third of the instructions of an exact range.
            Drawn::Uniform => ((u128::from(random.next_u64()) * u128::from(count)) >> 64) as u64,
            Drawn::Zipf(zipf) => zipf.sample(random) as u64 - 1,
        }
    }
}

impl FromStr for Popularity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Popularity, &'static str> {
        let number = |text: &str| text.parse::<f64>().map_err(|_| "not a number");
        let share = |text: &str| {
            number(text).and_then(|share| {
                if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is from 0 to 1") }
            })
        };
        let words: Vec<&str> = text.split(':').collect();
        match words[..] {
            ["hot", keys, requests] => Ok(Popularity::Hot { keys: share(keys)?, requests: share(requests)? }),
            ["sequential"] => Ok(Popularity::Sequential),
            ["uniform"] => Ok(Popularity::Uniform),
            ["zipf", exponent] => match number(exponent)? {
                exponent if exponent.is_finite() && exponent >= 0.0 => Ok(Popularity::Zipf { exponent }),
                _ => Err("an exponent is 0 or more"),
            },
            _ => Err("uniform, sequential, zipf:EXPONENT or hot:KEYS:REQUESTS"),
        }
    }
}

/// The notation of the command line.
impl Display for Popularity {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Popularity::Hot { keys, requests } => write!(to, "hot:{keys}:{requests}"),
            Popularity::Sequential => write!(to, "sequential"),
            Popularity::Uniform => write!(to, "uniform"),
            Popularity::Zipf { exponent } => write!(to, "zipf:{exponent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// How often each of `count` keys is drawn.
    fn drawn(popularity: &str, count: usize) -> Vec<u32> {
        let mut draw = popularity.parse::<Popularity>().unwrap().draw(count, 0);
        let mut random = SmallRng::seed_from_u64(7);
        let mut times = vec![0; count];
        (0..DRAWS).for_each(|_| times[draw.next(&mut random) as usize] += 1);
        times
    }

    #[test]
    fn zipf_gives_the_nth_key_its_share() {
        for exponent in [0.5, 0.99, 1.0, 1.2] {
            let weight = |n: usize| (n as f64).powf(-exponent);
            let sum: f64 = (1..=1_000).map(weight).sum();
            let times = drawn(&format!("zipf:{exponent}"), 1_000);
            for n in [1, 2, 3, 10, 100] {
                let expected = f64::from(DRAWS) * weight(n) / sum;
                let deviation = (f64::from(times[n - 1]) - expected).abs();
                assert!(deviation < 5.0 * expected.sqrt(), "{exponent}: key {n}: {deviation} off {expected}");
            }
        }
    }

    #[test]
    fn a_hot_spot_gets_its_share() {
        let times = drawn("hot:0.01:0.9", 1_000);
        let hot: u32 = times[..10].iter().sum();
        assert!(hot.abs_diff(DRAWS * 9 / 10) < 2_000);
        assert!(times.iter().all(|times| *times > 0));
        assert_eq!(drawn("hot:1:0", 1), [DRAWS]);
    }

    #[test]
    fn all_keys_are_requested() {
        assert!(drawn("sequential", 1_000).iter().all(|times| *times == DRAWS / 1_000));
        assert!(drawn("uniform", 100).iter().all(|times| times.abs_diff(DRAWS / 100) < 300));
    }

    #[test]
    fn distributions_print_in_the_notation_they_are_parsed_from() {
        for text in ["uniform", "sequential", "zipf:0.9", "hot:0.01:0.9"] {
            assert_eq!(text.parse::<Popularity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_distributions_are_refused() {
        for text in ["", "zipf", "zipf:-1", "zipf:nan", "hot:1", "hot:2:0.5", "hot:0.1:x", "uniform:1"] {
            assert!(text.parse::<Popularity>().is_err(), "{text}");
        }
    }

    const DRAWS: u32 = 400_000;
}
