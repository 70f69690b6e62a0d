//! The lengths of values.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::weighted::WeightedIndex;
use rand_distr::{Distribution, LogNormal};

/// A distribution, as written on the command line.
#[derive(Clone, Debug)]
pub enum Sizes {
    Fixed(usize),
    List {
        bytes: Vec<usize>,
        chosen: WeightedIndex<u32>,
    },
    /// Capped at a million bytes, which servers accept by default.
    LogNormal(LogNormal<f64>),
    /// Both ends are included.
    Range {
        from: usize,
        to: usize,
    },
}

impl Sizes {
    /// Draws the length of the next value.
    pub fn draw(&self, random: &mut SmallRng) -> usize {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::List { bytes, chosen } => bytes[chosen.sample(random)],
            Sizes::LogNormal(distribution) => {
                (distribution.sample(random) as usize).min(LOG_NORMAL_BYTES_MAX)
            }
            Sizes::Range { from, to } => random.random_range(*from..=*to),
        }
    }

    /// The upper limit on lengths.
    pub fn longest(&self) -> usize {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::List { bytes, .. } => bytes.iter().copied().max().unwrap_or(0),
            Sizes::LogNormal(_) => LOG_NORMAL_BYTES_MAX,
            Sizes::Range { to, .. } => *to,
        }
    }
}

impl FromStr for Sizes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Sizes, &'static str> {
        if let Some(parameters) = text.strip_prefix("lognormal:") {
            return log_normal(parameters);
        }
        if text.contains(':') {
            return list(text);
        }
        match text.split_once('-') {
            None => Ok(Sizes::Fixed(size(text)?)),
            Some((from, to)) => match (size(from)?, size(to)?) {
                (from, to) if from <= to => Ok(Sizes::Range { from, to }),
                _ => Err("a range begins with the shorter length"),
            },
        }
    }
}

fn log_normal(parameters: &str) -> Result<Sizes, &'static str> {
    let (median, sigma) = parameters.split_once(':').ok_or("lognormal:MEDIAN:SIGMA")?;
    let (median, sigma) = (size(median)? as f64, sigma.parse().map_err(|_| "sigma is a number")?);
    LogNormal::new(median.ln(), sigma).map(Sizes::LogNormal).map_err(|_| "no such distribution")
}

fn list(text: &str) -> Result<Sizes, &'static str> {
    let entry = |entry: &str| -> Result<(usize, u32), &'static str> {
        let (bytes, weight) = entry.split_once(':').unwrap_or((entry, "1"));
        Ok((size(bytes)?, weight.parse::<u32>().map_err(|_| "a weight is a number")?))
    };
    let entries: Vec<(usize, u32)> = text.split(',').map(entry).collect::<Result<_, _>>()?;
    let chosen =
        WeightedIndex::new(entries.iter().map(|(_, weight)| *weight)).map_err(|_| "no such weights")?;
    Ok(Sizes::List { bytes: entries.iter().map(|(bytes, _)| *bytes).collect(), chosen })
}

fn size(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(bytes) if bytes <= VALUE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err("values have at most 16 MiB"),
        Err(_) => Err("a length is a number of bytes"),
    }
}

const VALUE_BYTES_MAX: usize = 16 << 20;
const LOG_NORMAL_BYTES_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// A thousand lengths, sorted.
    fn drawn(sizes: &str) -> Vec<usize> {
        let sizes: Sizes = sizes.parse().unwrap();
        let mut random = SmallRng::seed_from_u64(7);
        let mut drawn: Vec<usize> = (0..1_000).map(|_| sizes.draw(&mut random)).collect();
        drawn.sort_unstable();
        assert!(drawn[999] <= sizes.longest());
        drawn
    }

    #[test]
    fn lengths_follow_their_distribution() {
        assert_eq!(drawn("100"), [100; 1_000]);
        let range = drawn("10-12");
        assert_eq!((range[0], range[999]), (10, 12));
        let list = drawn("1:900,5000:100");
        assert!(list.iter().filter(|bytes| **bytes == 5_000).count().abs_diff(100) < 30);
        let log_normal = drawn("lognormal:200:1");
        assert!(log_normal[500].abs_diff(200) < 20);
        assert!(log_normal[841].abs_diff(543) < 80, "one sigma above the median is e times as long");
    }

    #[test]
    fn invalid_sizes_are_refused() {
        for text in ["", "x", "-1", "9-8", "1:0", "1:x", "16777217", "lognormal:1", "lognormal:1:nan"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
