//! The statistics of a server at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::body::harmless;
use super::super::link::{Link, Trouble};
use super::super::reply::Entry;
use super::super::request::Request;
use crate::clock::Clock;

/// The answers to `stats`, `stats memory` and `stats policies`; memcached supports only the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// The time, on the client's clock.
    pub(super) at: Duration,
    stats: BTreeMap<String, String>,
}

impl Sample {
    /// Takes a sample.
    pub(super) async fn take(link: &mut Link, clock: &Clock) -> Result<Sample, Trouble> {
        link.ready().await?;
        let mut sample = Sample { at: clock.elapsed(), stats: BTreeMap::new() };
        sample.ask(link, "stats").await?.map_err(Trouble::Login)?;
        for line in ["stats memory", "stats policies"] {
            // Servers that do not support these report less.
            let _ = sample.ask(link, line).await?;
        }
        Ok(sample)
    }

    /// Adds the statistics of an answer; if the server refuses, returns its message.
    async fn ask(&mut self, link: &mut Link, line: &str) -> Result<Result<(), String>, Trouble> {
        let mut refusal = Ok(());
        let mut receive = |entry: Entry| {
            match entry.word(0) {
                "END" => {}
                "STAT" => {
                    self.stats.insert(entry.word(1).to_owned(), entry.word(2).to_owned());
                }
                _ => refusal = Err(harmless(&entry.line)),
            }
            Ok(())
        };
        link.ask(&Request::plain(line), &mut receive).await?;
        Ok(refusal)
    }

    /// Empty if the server does not report it.
    pub(super) fn text(&self, name: &str) -> &str {
        self.stats.get(name).map_or("", String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// A sample for tests.
    #[cfg(test)]
    pub(super) fn of(at: Duration, stats: &[(&str, &str)]) -> Sample {
        let stats = stats.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Sample { at, stats: stats.collect() }
    }
}
