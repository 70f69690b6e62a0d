//! Where the stream continues: decided from facts, without any I/O.
//!
//! The identity of a position is `system/timeline/database/slot`. The timeline is a part of it, because two
//! servers that were promoted from one write different things to the same places. A slot that was
//! synchronized to the new primary continues: if the old timeline ended at or after the position, nothing
//! that was applied has been undone.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::settings::Settings;
use crate::events::position::Position;
use crate::events::source::Broken;

/// The server and the slot as they are.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) database: String,
    /// The end of the log on disk.
    pub(super) end: u64,
    pub(super) has_publication: bool,
    /// Whether the slot was found to have changes that cannot be decoded.
    pub(super) is_undecodable: bool,
    /// `max_slot_wal_keep_size`; empty if the server is too old for it.
    pub(super) keep: String,
    /// Whether the publication has every kind of change.
    pub(super) publishes_all: bool,
    pub(super) slot: Option<Slot>,
    /// The former timelines, and where they ended.
    pub(super) switches: Vec<(u32, u64)>,
    pub(super) system: String,
    pub(super) timeline: u32,
    /// As 150018 for 15.18.
    pub(super) version: u32,
    pub(super) wal_level: String,
}

/// A replication slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Everything before it was acknowledged.
    pub(super) confirmed: u64,
    pub(super) database: String,
    /// The connection that reads it.
    pub(super) holder: Option<String>,
    pub(super) plugin: String,
    /// `wal_status`; empty if the server is too old for it.
    pub(super) status: String,
}

/// Where to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// From this place on; a reason if events before it are lost.
    At(u64, Option<String>),
    /// Where a new slot begins; a reason if events are lost.
    Created { first: First, lost: Option<String> },
    /// Directly after the old position.
    Resumed(u64),
}

/// The steps before a slot is created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct First {
    /// A former slot of this name is dropped.
    pub(super) drops: bool,
    /// The publication is created.
    pub(super) publishes: bool,
}

impl Facts {
    /// The identity of positions in this log.
    pub(super) fn identity(&self, slot: &str) -> String {
        format!("{}/{}/{}/{slot}", self.system, self.timeline, self.database)
    }

    /// Whether the plug-in passes on the messages of `pg_logical_emit_message`.
    pub(super) fn has_messages(&self) -> bool {
        self.version >= 140_000
    }

    /// Complaints that do not keep it from working.
    pub(super) fn warnings(&self, slot: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.keep == "-1" || self.keep.is_empty() {
            warnings.push(
                "max_slot_wal_keep_size is not limited: while nobody reads the slot, its log fills the disk of the \
                 primary; set it there, for example to 10GB"
                    .to_owned(),
            );
        }
        if self.slot.as_ref().is_some_and(|slot| slot.status == "unreserved") {
            warnings.push(format!("slot {slot} is about to be lost: it is behind by max_slot_wal_keep_size"));
        }
        if self.has_publication && !self.publishes_all {
            warnings.push(
                "the publication leaves out some kinds of changes: run ALTER PUBLICATION … SET (publish = 'insert, \
                 update, delete, truncate')"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Decides where to start.
    ///
    /// # Errors
    /// If something must be changed first, or if the slot is in use.
    pub(super) fn start(&self, settings: &Settings, from: Option<&Position>) -> Result<Start, Broken> {
        self.check(settings)?;
        self.slot.iter().try_for_each(|slot| self.check_slot(settings, slot))?;
        if !self.has_publication {
            return self.published(settings, from.is_some());
        }
        let Some(slot) = &self.slot else {
            let lost = from.map(|_| format!("slot {} is missing", settings.slot));
            return self.created(settings, "missing", lost);
        };
        if slot.status == "lost" {
            let lost = from.map(|_| format!("slot {} is lost", settings.slot));
            return self.created(settings, "lost", lost);
        }
        let Some(from) = from else { return Ok(Start::At(self.near_end(slot), None)) };
        match self.obstacle(settings, slot, from) {
            Some(why) => Ok(Start::At(self.near_end(slot), Some(why))),
            None if self.is_undecodable => {
                let lost = format!("publication {} was missing for a while", settings.publication);
                self.created(settings, UNDECODABLE, Some(lost))
            }
            None => Ok(Start::Resumed(from.offset)),
        }
    }

    /// Shortly before the end of the log.
    ///
    /// A transaction is in the log before others see it, and much before where it waits for a standby. Events
    /// of transactions that ended before cost nothing but invalidations.
    fn near_end(&self, slot: &Slot) -> u64 {
        self.end.saturating_sub(OVERLAP_BYTES).max(slot.confirmed)
    }

    /// The reason why the stream cannot continue after this position.
    fn obstacle(&self, settings: &Settings, slot: &Slot, from: &Position) -> Option<String> {
        let switched = self.switched_from(settings, &from.identity);
        if from.identity != self.identity(&settings.slot) && switched.is_none() {
            let now = self.identity(&settings.slot);
            return Some(format!("the position is of another log: {} instead of {now}", from.identity));
        }
        if switched.is_some_and(|switch| switch < from.offset) {
            return Some("the position is beyond the place where a new primary took over".to_owned());
        }
        if from.offset > self.end {
            return Some("the position is beyond the end of the log".to_owned());
        }
        if slot.confirmed > from.offset {
            return Some("the slot has been read beyond the position".to_owned());
        }
        None
    }

    /// Where the timeline of this identity ended, if it is a former one of the same log.
    fn switched_from(&self, settings: &Settings, identity: &str) -> Option<u64> {
        let rest = identity.strip_prefix(&self.system)?.strip_prefix('/')?;
        let (timeline, rest) = rest.split_once('/')?;
        let is_same = rest == format!("{}/{}", self.database, settings.slot);
        let timeline: u32 = timeline.parse().ok().filter(|_| is_same)?;
        self.switches.iter().find(|(former, _)| *former == timeline).map(|(_, switch)| *switch)
    }

    fn check(&self, settings: &Settings) -> Result<(), Broken> {
        if self.wal_level != "logical" {
            return Err(Broken::Misconfigured(format!(
                "wal_level is {}: run ALTER SYSTEM SET wal_level = 'logical', and restart PostgreSQL",
                self.wal_level
            )));
        }
        let needs_messages = settings.messages.is_some() || !settings.heartbeat.is_zero();
        if needs_messages && !self.has_messages() {
            return Err(Broken::Misconfigured(format!(
                "messages and heartbeats need PostgreSQL 14, and this is {}: configure neither, or upgrade",
                self.version / 10_000
            )));
        }
        Ok(())
    }

    fn check_slot(&self, settings: &Settings, slot: &Slot) -> Result<(), Broken> {
        let name = &settings.slot;
        if slot.plugin != "pgoutput" || slot.database != self.database {
            let plugin = if slot.plugin.is_empty() { "no plug-in" } else { &slot.plugin };
            return Err(Broken::Misconfigured(format!(
                "slot {name} has {plugin} and database {:?}, not pgoutput and {:?}: choose another name",
                slot.database, self.database
            )));
        }
        match &slot.holder {
            Some(holder) => Err(Broken::Transient(format!("slot {name} is in use by {holder}"))),
            None => Ok(()),
        }
    }

    /// Without a publication, the changes that wait in a slot can never be decoded: PostgreSQL looks for the
    /// publication as it was at the time of each change.
    fn published(&self, settings: &Settings, has_position: bool) -> Result<Start, Broken> {
        let Settings { publication, slot, .. } = settings;
        let drops = self.slot.is_some();
        if settings.create {
            let lost = has_position.then(|| format!("publication {publication} is missing"));
            return Ok(Start::Created { first: First { drops, publishes: true }, lost });
        }
        let then = match drops {
            true => format!("; if changes were made meanwhile, {} after it", self.anew(slot)),
            false => String::new(),
        };
        Err(Broken::Misconfigured(format!(
            "publication {publication} is missing in database {}: run CREATE PUBLICATION {} FOR TABLE …, or … FOR ALL \
             TABLES{then}, or set create = true",
            self.database,
            escape_identifier(publication)
        )))
    }

    /// A new slot, because the present one is in this state.
    fn created(&self, settings: &Settings, state: &str, lost: Option<String>) -> Result<Start, Broken> {
        if settings.create {
            let first = First { drops: self.slot.is_some(), publishes: false };
            return Ok(Start::Created { first, lost });
        }
        let name = &settings.slot;
        Err(Broken::Misconfigured(format!(
            "slot {name} {}{state}: run {}, or set create = true",
            if state == UNDECODABLE { "" } else { "is " },
            self.anew(name)
        )))
    }

    /// The statements for a new slot.
    fn anew(&self, slot: &str) -> String {
        let name = escape_literal(slot);
        let drop = self.slot.as_ref().map(|_| format!("SELECT pg_drop_replication_slot({name}); "));
        let drop = drop.unwrap_or_default();
        format!("{drop}SELECT pg_create_logical_replication_slot({name}, 'pgoutput')")
    }
}

const OVERLAP_BYTES: u64 = 4 << 20;
const UNDECODABLE: &str = "has changes from a time without the publication, which PostgreSQL cannot decode";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        Settings {
            create: true,
            heartbeat: Duration::ZERO,
            messages: None,
            password: None,
            publication: "shop".to_owned(),
            slot: "cache".to_owned(),
            url: String::new(),
        }
    }

    fn facts() -> Facts {
        Facts {
            database: "db".to_owned(),
            end: 100 << 20,
            has_publication: true,
            is_undecodable: false,
            keep: "10GB".to_owned(),
            publishes_all: true,
            slot: Some(Slot {
                confirmed: 50 << 20,
                database: "db".to_owned(),
                holder: None,
                plugin: "pgoutput".to_owned(),
                status: "reserved".to_owned(),
            }),
            switches: vec![(1, 20 << 20), (2, 70 << 20)],
            system: "7".to_owned(),
            timeline: 3,
            version: 150_018,
            wal_level: "logical".to_owned(),
        }
    }

    fn at(identity: &str, offset: u64) -> Option<Position> {
        Some(Position { identity: identity.to_owned(), offset })
    }

    #[test]
    fn the_stream_resumes_only_where_nothing_can_be_missing() {
        let facts = facts();
        for (from, expected) in [
            (at("7/3/db/cache", 50 << 20), None),
            (at("7/3/db/cache", 100 << 20), None),
            (at("7/3/db/cache", (50 << 20) - 1), Some("the slot has been read beyond the position")),
            (at("7/3/db/cache", (100 << 20) + 1), Some("the position is beyond the end of the log")),
            (at("7/2/db/cache", 70 << 20), None),
            (at("7/2/db/cache", (70 << 20) + 1), Some("a new primary took over")),
            (at("7/1/db/cache", 60 << 20), Some("a new primary took over")),
            (at("7/4/db/cache", 60 << 20), Some("another log: 7/4/db/cache instead of 7/3/db/cache")),
            (at("8/3/db/cache", 60 << 20), Some("another log")),
            (at("7/2/db/other", 60 << 20), Some("another log")),
            (at("", 60 << 20), Some("another log")),
        ] {
            let from = from.expect("each has one");
            match (facts.start(&settings(), Some(&from)), expected) {
                (Ok(Start::Resumed(offset)), None) => assert_eq!(offset, from.offset),
                (Ok(Start::At(offset, Some(why))), Some(expected)) => {
                    assert!(why.contains(expected), "{why}");
                    assert_eq!(offset, 96 << 20, "shortly before the end");
                }
                (start, _) => panic!("{from:?}: {start:?}"),
            }
        }
    }

    #[test]
    fn a_missing_or_lost_slot_is_a_gap_only_after_a_position() {
        let position = at("7/3/db/cache", 60 << 20);
        let missing = Facts { slot: None, ..facts() };
        let mut lost = facts();
        lost.slot.as_mut().expect("it has one").status = "lost".to_owned();
        for (facts, drops, state) in [(missing, false, "missing"), (lost, true, "lost")] {
            let created = facts.start(&settings(), None);
            let first = First { drops, publishes: false };
            assert_eq!(created, Ok(Start::Created { first, lost: None }));
            let why = Some(format!("slot cache is {state}"));
            assert_eq!(facts.start(&settings(), position.as_ref()), Ok(Start::Created { first, lost: why }));
            let refused = facts.start(&Settings { create: false, ..settings() }, None);
            assert!(matches!(refused, Err(Broken::Misconfigured(why)) if why.contains(state)));
        }
    }

    /// A source stayed down after its publication was dropped, until somebody dropped its slot, too.
    #[test]
    fn a_missing_publication_needs_a_new_slot() {
        let facts = Facts { has_publication: false, ..facts() };
        let first = First { drops: true, publishes: true };
        assert_eq!(facts.start(&settings(), None), Ok(Start::Created { first, lost: None }));
        let (from, lost) = (at("7/3/db/cache", 60 << 20), Some("publication shop is missing".to_owned()));
        assert_eq!(facts.start(&settings(), from.as_ref()), Ok(Start::Created { first, lost }));
        let slotless = Facts { slot: None, ..facts.clone() };
        let first = First { drops: false, publishes: true };
        assert_eq!(slotless.start(&settings(), None), Ok(Start::Created { first, lost: None }));
        let by_hand = Settings { create: false, ..settings() };
        let refused = |facts: &Facts| match facts.start(&by_hand, from.as_ref()) {
            Err(Broken::Misconfigured(why)) => why,
            other => panic!("{other:?}"),
        };
        let why = refused(&facts);
        assert!(
            why.contains("CREATE PUBLICATION \"shop\" FOR TABLE") && why.contains("drop_replication_slot")
        );
        assert!(!refused(&slotless).contains("drop_replication_slot"), "there is none");
    }

    #[test]
    fn a_slot_that_cannot_be_decoded_is_made_anew() {
        let facts = Facts { is_undecodable: true, ..facts() };
        let from = at("7/3/db/cache", 60 << 20);
        let first = First { drops: true, publishes: false };
        let lost = Some("publication shop was missing for a while".to_owned());
        assert_eq!(facts.start(&settings(), from.as_ref()), Ok(Start::Created { first, lost }));
        let refused = facts.start(&Settings { create: false, ..settings() }, from.as_ref());
        assert!(
            matches!(refused, Err(Broken::Misconfigured(why)) if why.contains("run SELECT pg_drop_repl"))
        );
        // Somebody has made it anew.
        let old = at("7/3/db/cache", 40 << 20);
        assert!(matches!(facts.start(&settings(), old.as_ref()), Ok(Start::At(_, Some(_)))));
    }

    #[test]
    fn messages_and_heartbeats_need_a_server_that_has_them() {
        let old = Facts { version: 130_010, ..facts() };
        assert!(old.start(&settings(), None).is_ok());
        let messages = Settings { messages: Some("shop".to_owned()), ..settings() };
        let heartbeat = Settings { heartbeat: Duration::from_secs(1), ..settings() };
        for settings in [messages, heartbeat] {
            let refused = old.start(&settings, None);
            assert!(matches!(refused, Err(Broken::Misconfigured(why)) if why.contains("need PostgreSQL 14")));
        }
    }

    #[test]
    fn warnings_are_about_the_disk_the_slot_and_the_publication() {
        assert_eq!(facts().warnings("cache"), Vec::<String>::new());
        let mut facts = Facts { keep: "-1".to_owned(), publishes_all: false, ..facts() };
        facts.slot.as_mut().expect("it has one").status = "unreserved".to_owned();
        assert_eq!(facts.warnings("cache").len(), 3);
    }
}
