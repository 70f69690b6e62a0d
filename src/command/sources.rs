//! `stats events`: the sources of events, and how late their events were applied.

use std::time::Duration;

use super::Command;
use crate::metrics::SourceCount;

impl Command<'_> {
    pub(super) fn sources(&mut self) {
        for source in self.conversation.metrics.sources.all() {
            let attestation = self.cache.attestation(&source.name, self.now);
            let delays = source.delays();
            let micros = |span: Option<Duration>| span.map(|span| span.as_micros().to_string());
            let mut stat =
                |name: &str, value: &str| self.replies.stat(&format!("{}:{name}", source.name), value);
            stat("kind", source.kind);
            stat("state", source.state().name());
            let known = [
                ("error", source.error().map(|error| error.replace(['\r', '\n'], " "))),
                ("position", source.position()),
                ("behind", source.behind().map(|behind| behind.to_string())),
                ("watermark_age_ms", attestation.age_ms.map(|age| age.to_string())),
                ("delay_us_p50", micros(delays.quantile(0.5))),
                ("delay_us_p99", micros(delays.quantile(0.99))),
            ];
            known
                .iter()
                .filter_map(|(name, value)| Some((name, value.as_ref()?)))
                .for_each(|(name, value)| stat(name, value));
            stat("withheld", if attestation.is_withheld { "1" } else { "0" });
            stat("withheld_misses", &attestation.withheld_misses.to_string());
            for count in SourceCount::ALL {
                stat(count.name(), &source.count(count).to_string());
            }
        }
    }
}
