//! Events that are sent to the admin interface: `POST /events/NAME`.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::{Attached, Batch, Broken, Source};
use crate::clock::{self, Clock};
use crate::events::event::Event;
use crate::events::format::{Format, Headers, without_bom};
use crate::events::position::Position;
use crate::events::report::Report;
use crate::events::rule::filter::micros;

/// How bodies are read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The form of events.
    pub format: Format,
    /// Whether the sender says how far it has come.
    pub proves: bool,
}

/// A request whose events are to be applied.
#[derive(Debug)]
pub struct Posted {
    /// Receives the report once they have been applied.
    pub answer: oneshot::Sender<Report>,
    /// The decoded events.
    pub events: Vec<Event>,
    /// The sender has sent everything that was committed before this time, in monotonic milliseconds.
    pub proven: Option<u64>,
}

/// Requests as a source. It has no log that it could resume from: a sender repeats what was not answered.
#[derive(Debug)]
pub struct Http {
    open: Option<oneshot::Sender<Report>>,
    requests: u64,
    posts: mpsc::Receiver<Posted>,
}

impl Http {
    /// A source of the requests that this receives.
    pub fn new(posts: mpsc::Receiver<Posted>) -> Self {
        Http { open: None, requests: 0, posts }
    }

    fn position(&self) -> Position {
        Position { identity: "http".to_owned(), offset: self.requests }
    }
}

impl Source for Http {
    async fn attach(&mut self, from: Option<&Position>) -> Result<Attached, Broken> {
        // Nothing is lost between two requests: a sender that was not answered sends again.
        Ok(match from {
            Some(_) => Attached::Resumed,
            None => Attached::AtEnd(self.position()),
        })
    }

    async fn next(&mut self) -> Result<Batch, Broken> {
        let Some(posted) = self.posts.recv().await else { std::future::pending().await };
        self.requests += 1;
        self.open = Some(posted.answer);
        let events = posted.events.into_iter().map(Ok).collect();
        Ok(Batch { behind: Some(0), events, position: Some(self.position()), proven: posted.proven })
    }

    async fn done(&mut self, _upto: &Position, report: &Report) -> Result<(), Broken> {
        if let Some(answer) = self.open.take() {
            // It fails only if the sender has gone.
            let _ = answer.send(report.clone());
        }
        Ok(())
    }
}

impl Settings {
    /// The events of a request: one, an array of them, or one in each line.
    ///
    /// # Errors
    /// A sentence that names the event, counted from 1. Then none of them may be applied.
    pub fn events(self, body: &[u8], headers: &Headers) -> Result<Vec<Event>, String> {
        let parts = parts(without_bom(body))?;
        if parts.len() > EVENTS_MAX {
            return Err(format!("{} events in one request: at most {EVENTS_MAX} are possible", parts.len()));
        }
        let many = parts.len() > 1;
        let mut events = Vec::with_capacity(parts.len());
        for (nth, part) in parts.into_iter().enumerate() {
            let named = |why: String| if many { format!("event {}: {why}", nth + 1) } else { why };
            let mut event = self.format.decode(part, headers.clone()).map_err(named)?;
            // The identity of a request is that of its only event.
            if let (Some(event), Some(key)) = (&mut event, headers.get("idempotency-key")) {
                let place = if many { format!(" {nth}") } else { String::new() };
                event.id.get_or_insert_with(|| format!("{key}{place}"));
            }
            events.extend(event);
        }
        Ok(events)
    }
}

/// The monotonic milliseconds of a time of the wall clock; now, if it is slightly in the future.
///
/// # Errors
/// A sentence with an example; or if the time is so far in the future that the clocks disagree: then nobody
/// knows what the sender has sent.
pub fn proven(text: &str, clock: &Clock) -> Result<u64, String> {
    proven_at(micros(text)?, clock::wall().as_micros() as u64, clock.now().millis)
}

fn proven_at(at_us: u64, wall_us: u64, now_ms: u64) -> Result<u64, String> {
    let ahead_ms = at_us.saturating_sub(wall_us) / 1000;
    if ahead_ms > AHEAD_MS_MAX {
        return Err(format!(
            "the time is {ahead_ms} ms in the future: set the clocks of sender and server, by NTP for example"
        ));
    }
    Ok(now_ms.saturating_sub(wall_us.saturating_sub(at_us) / 1000))
}

/// The bytes of each event.
fn parts(body: &[u8]) -> Result<Vec<&[u8]>, String> {
    if body.trim_ascii_start().starts_with(b"[") {
        let all = <Vec<&RawValue>>::deserialize(&mut serde_json::Deserializer::from_slice(body));
        return all
            .map(|all| all.iter().map(|one| one.get().as_bytes()).collect())
            .map_err(|error| error.to_string());
    }
    let mut parts = Vec::new();
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
    for value in &mut values {
        parts.push(value.map_err(|error| error.to_string())?.get().as_bytes());
    }
    // A binary CloudEvent may have no body at all.
    Ok(if parts.is_empty() { vec![body] } else { parts })
}

/// More than clocks that are kept right differ by.
const AHEAD_MS_MAX: u64 = 1_000;
/// Events of one request.
const EVENTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn events(body: &str) -> Result<usize, String> {
        Settings::default().events(body.as_bytes(), &Headers::new()).map(|events| events.len())
    }

    #[test]
    fn a_request_has_one_event_an_array_or_lines() {
        assert_eq!(events(r#"{"a":1}"#), Ok(1));
        assert_eq!(events(r#" [{"a":1}, {"a":2}]"#), Ok(2));
        assert_eq!(events("{\"a\":1}\n{\"a\":2}\n"), Ok(2));
        assert_eq!(events("[]"), Ok(0));
        assert_eq!(events("\u{feff}[{\"a\":1}, {\"a\":2}]"), Ok(2));
        assert!(events(r#"[{"a":1}, 7]"#).unwrap_err().starts_with("event 2: "));
        assert!(events("").is_err() && events("{\"a\":1}\n{").is_err());
        let many = format!("[{}]", vec!["{}"; EVENTS_MAX + 1].join(","));
        assert!(events(&many).unwrap_err().contains("at most 10000"));
    }

    #[test]
    fn a_time_in_the_future_proves_nothing() {
        let (wall_us, now_ms) = (1_000_000_000, 60_000);
        assert_eq!(proven_at(wall_us - 5_000_999, wall_us, now_ms), Ok(55_000));
        assert_eq!(proven_at(0, wall_us, now_ms), Ok(0));
        assert_eq!(proven_at(wall_us + 1_000_999, wall_us, now_ms), Ok(60_000), "it counts as now");
        assert!(proven_at(wall_us + 1_001_000, wall_us, now_ms).unwrap_err().contains("set the clocks"));
    }

    #[test]
    fn the_idempotency_key_identifies_the_event() {
        let headers: Headers = [("idempotency-key".to_owned(), "k".to_owned())].into();
        let ids = |body: &str| {
            let events = Settings::default().events(body.as_bytes(), &headers).unwrap();
            events.into_iter().map(|event| event.id.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids("{}"), ids("[{},{}]")),
            (vec!["k".to_owned()], vec!["k 0".to_owned(), "k 1".to_owned()])
        );
    }
}
