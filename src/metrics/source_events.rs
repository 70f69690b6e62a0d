//! The life of a source of events, as watchers see it. Texts from outside are encoded as keys are.

use std::fmt;
use std::time::Duration;

use super::sources::{SourceCount, SourceState};
use crate::shown::Encoded;

/// A step in the life of a source of events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceEvent<'a> {
    /// Events of a batch were applied.
    Applied {
        /// The longest time since a commit; `None` if no event has one.
        delay: Option<Duration>,
        /// Their number.
        events: u64,
        /// The number of names that were invalidated.
        names: u64,
    },
    /// Events of a batch were left out.
    LeftOut {
        /// Their number.
        events: u64,
        /// The count that they belong to, which is the reason.
        why: SourceCount,
    },
    /// Events were lost.
    Gap {
        /// The reason.
        why: &'a str,
    },
    /// An event could not be applied.
    Poison {
        /// The reason.
        error: &'a str,
        /// The rule that it does not fit; `None` if it could not be decoded.
        rule: Option<&'a str>,
    },
    /// The state changed, or the source failed for another reason.
    State {
        /// The failure.
        error: Option<&'a str>,
        /// The new state.
        state: SourceState,
    },
}

impl SourceEvent<'_> {
    pub(super) fn write(self, source: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = Encoded(source.as_bytes());
        match self {
            SourceEvent::Applied { delay, events, names } => {
                write!(f, "type=event_applied source={source} events={events} names={names}")?;
                delay.map_or(Ok(()), |delay| write!(f, " delay_us={}", delay.as_micros()))
            }
            SourceEvent::LeftOut { events, why } => {
                write!(f, "type=event_{} source={source} events={events}", why.name())
            }
            SourceEvent::Gap { why } => write!(f, "type=source_gap source={source} why={}", beginning(why)),
            SourceEvent::Poison { error, rule } => {
                write!(f, "type=event_poison source={source}")?;
                rule.map_or(Ok(()), |rule| write!(f, " rule={}", beginning(rule)))?;
                write!(f, " error={}", beginning(error))
            }
            SourceEvent::State { error, state } => {
                write!(f, "type=source_state source={source} state={}", state.name())?;
                error.map_or(Ok(()), |error| write!(f, " error={}", beginning(error)))
            }
        }
    }
}

/// The beginning of a text: an error may quote a value of any length.
fn beginning(text: &str) -> Encoded<'_> {
    Encoded(&text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}

/// The limit on the bytes of a text in a line, before they are encoded.
const TEXT_BYTES_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Event, Topic};

    fn line(what: SourceEvent) -> String {
        let event = Event::Source { source: "db", what };
        assert_eq!(event.topic(), Topic::Sources);
        event.to_string()
    }

    #[test]
    fn each_step_is_a_line() {
        let applied = |delay| SourceEvent::Applied { delay, events: 12, names: 15 };
        let state = |state, error| SourceEvent::State { error, state };
        for (event, expected) in [
            (
                applied(Some(Duration::from_micros(1_500))),
                "type=event_applied source=db events=12 names=15 delay_us=1500",
            ),
            (applied(None), "type=event_applied source=db events=12 names=15"),
            (
                SourceEvent::LeftOut { events: 2, why: SourceCount::Unmatched },
                "type=event_unmatched source=db events=2",
            ),
            (
                SourceEvent::Gap { why: "the slot\nis lost" },
                "type=source_gap source=db why=the%20slot%0Ais%20lost",
            ),
            (
                SourceEvent::Poison { error: "{row.id}", rule: Some("all products") },
                "type=event_poison source=db rule=all%20products error=%7Brow.id%7D",
            ),
            (SourceEvent::Poison { error: "x", rule: None }, "type=event_poison source=db error=x"),
            (state(SourceState::Live, None), "type=source_state source=db state=live"),
            (state(SourceState::Down, Some("a=b")), "type=source_state source=db state=down error=a%3Db"),
        ] {
            assert_eq!(line(event), expected);
        }
    }

    /// An error quotes the name that a rule has made of an event, and an event may have a megabyte.
    #[test]
    fn long_texts_are_cut_between_two_characters() {
        let error = |error: &str| line(SourceEvent::Poison { error, rule: None });
        assert!(error(&"x".repeat(500)).ends_with(&format!("error={}", "x".repeat(500))));
        assert!(error(&"x".repeat(501)).ends_with(&format!("error={}", "x".repeat(500))));
        assert!(error(&format!("{}ä", "x".repeat(499))).ends_with("xx"));
    }
}
