//! The sources of events of a server, as a line for each.

use serde_json::{Value, json};

use super::sample::Sample;

/// A source of events.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Source {
    pub(super) name: String,
    /// `live`, `behind` or `down`; or `withheld` if values that depend on it are.
    pub(super) state: String,
    /// The last failure, while it is down.
    pub(super) error: String,
    /// The amount that waits to be read, in bytes for PostgreSQL.
    pub(super) behind: Option<u64>,
    pub(super) is_in_bytes: bool,
    /// Everything that was committed longer ago has been applied.
    pub(super) watermark_age_ms: Option<u64>,
    /// From commit to invalidation.
    pub(super) delay_us_p50: Option<u64>,
    pub(super) delay_us_p99: Option<u64>,
    pub(super) applied: u64,
    /// Those that were applied between the samples; `None` if there is just one.
    pub(super) newly_applied: Option<u64>,
    pub(super) poison: u64,
    pub(super) gaps: u64,
    pub(super) dead_letters: u64,
    pub(super) reads_between: u64,
}

impl Source {
    /// All sources; those that are not live come first.
    pub(super) fn all(before: Option<&Sample>, after: &Sample) -> Vec<Source> {
        let mut sources: Vec<_> = after.sources().map(|name| Source::read(name, before, after)).collect();
        sources.sort_by_key(Source::is_live);
        sources
    }

    fn read(name: &str, before: Option<&Sample>, after: &Sample) -> Source {
        let text = |statistic| after.text_of_source(name, statistic);
        let number = |statistic| text(statistic).parse().ok();
        let count = |statistic| number(statistic).unwrap_or(0);
        let applied_before = before.and_then(|before| before.text_of_source(name, "applied").parse().ok());
        let is_withheld = text("withheld") == "1";
        Source {
            name: name.to_owned(),
            state: if is_withheld { WITHHELD } else { text("state") }.to_owned(),
            error: text("error").to_owned(),
            behind: number("behind"),
            is_in_bytes: text("kind") == "postgres",
            watermark_age_ms: number("watermark_age_ms"),
            delay_us_p50: number("delay_us_p50"),
            delay_us_p99: number("delay_us_p99"),
            applied: count("applied"),
            newly_applied: applied_before.map(|before| count("applied").saturating_sub(before)),
            poison: count("poison"),
            gaps: count("gaps"),
            dead_letters: count("dead_letters"),
            reads_between: count("reads_between"),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == "live"
    }

    /// The JSON form; docs/terminal.md specifies it.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "state": self.state,
            "error": Some(&self.error).filter(|error| !error.is_empty()),
            "behind": self.behind,
            "watermark_age_ms": self.watermark_age_ms,
            "delay_us_p50": self.delay_us_p50,
            "delay_us_p99": self.delay_us_p99,
            "applied": self.applied,
            "poison": self.poison,
            "gaps": self.gaps,
            "dead_letters": self.dead_letters,
            "reads_between": self.reads_between,
        })
    }
}

const WITHHELD: &str = "withheld";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(applied: &str) -> Sample {
        let stats = [
            ("pid", "1"),
            ("source app:kind", "http"),
            ("source app:state", "live"),
            ("source app:applied", applied),
            ("source app:delay_us_p99", "1500"),
            ("source app:withheld", "0"),
            ("source db:kind", "postgres"),
            ("source db:state", "down"),
            ("source db:error", "connection refused"),
            ("source db:withheld", "1"),
            ("source db:gaps", "2"),
        ];
        Sample::of(Duration::ZERO, &stats)
    }

    #[test]
    fn sources_are_read_by_name_and_those_in_trouble_come_first() {
        let sources = Source::all(Some(&sample("5")), &sample("8"));
        let [db, app] = &sources[..] else { panic!("{sources:?}") };
        assert_eq!((&*db.name, &*db.state, &*db.error, db.gaps), ("db", "withheld", "connection refused", 2));
        assert_eq!((db.is_in_bytes, db.newly_applied, db.behind), (true, None, None));
        assert_eq!((&*app.name, &*app.state, app.applied, app.newly_applied), ("app", "live", 8, Some(3)));
        let json = app.json();
        assert_eq!((&json["delay_us_p99"], &json["error"]), (&json!(1500), &json!(null)));
        assert_eq!(Source::all(None, &sample("8"))[1].newly_applied, None);
        assert!(Source::all(None, &Sample::default()).is_empty());
    }
}
