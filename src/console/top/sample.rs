//! The statistics of a server at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::body::harmless;
use super::super::link::{Link, Trouble};
use super::super::reply::Entry;
use super::super::request::Request;
use crate::clock::Clock;

/// The answers to `stats`, `stats memory`, `stats policies` and `stats events`; memcached supports only the
/// first.
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
        sample.ask(link, "stats", "").await?.map_err(Trouble::Login)?;
        for (line, before) in [("stats memory", ""), ("stats policies", ""), ("stats events", SOURCE)] {
            // Servers that do not support these report less.
            let _ = sample.ask(link, line, before).await?;
        }
        Ok(sample)
    }

    /// Adds the statistics of an answer, with this before their names; if the server refuses, returns its
    /// message.
    async fn ask(
        &mut self,
        link: &mut Link,
        line: &str,
        before: &str,
    ) -> Result<Result<(), String>, Trouble> {
        let mut refusal = Ok(());
        let mut receive = |entry: Entry| {
            match entry.word(0) {
                "END" => {}
                "STAT" => {
                    let value: Vec<&[u8]> = entry.words().skip(2).collect();
                    self.stats.insert(format!("{before}{}", entry.word(1)), harmless(&value.join(&b' ')));
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

    /// The names of the sources of events.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        let names = self.stats.range(SOURCE.to_owned()..).map_while(|(name, _)| name.strip_prefix(SOURCE));
        names.filter_map(|name| name.strip_suffix(":state"))
    }

    /// A statistic of a source; empty if the server does not report it.
    pub(super) fn text_of_source(&self, source: &str, name: &str) -> &str {
        self.text(&format!("{SOURCE}{source}:{name}"))
    }

    /// A sample for tests.
    #[cfg(test)]
    pub(super) fn of(at: Duration, stats: &[(&str, &str)]) -> Sample {
        let stats = stats.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Sample { at, stats: stats.collect() }
    }
}

/// Stands before the statistics of sources, whose names could be those of other statistics.
const SOURCE: &str = "source ";
