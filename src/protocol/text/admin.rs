//! Commands of operators and their tools: `stats` and its kinds, the dumps, and tuning commands.
//!
//! memcached sorts items into slab classes. Here all items are in class 1, and the other classes are
//! empty.
//!
//! Commands that tune slabs or LRU queues are accepted and have no effect.

use nom::character::complete::u32 as unsigned32;

use super::words::full;
use crate::protocol::message::{Dump, DumpForm, Refusal, Request, Shutdown, Statistics, Watched, words};

/// `watch [<topic>*]`
pub(super) fn watch(args: &[u8]) -> Result<Request<'_>, Refusal> {
    let topics: Option<Vec<Watched>> = words(args).map(watched).collect();
    let topics = topics.ok_or(Refusal::Unknown)?;
    Ok(Request::Watch { topics: if topics.is_empty() { vec![Watched::Fetches] } else { topics } })
}

/// An invalid mode is reported only where `shutdown` is allowed.
pub(super) fn shutdown(args: &[u8]) -> Option<Shutdown> {
    let mut words = words(args);
    match (words.next(), words.next()) {
        (None, _) => Some(Shutdown::AtOnce),
        (Some(b"graceful"), None) => Some(Shutdown::Graceful),
        (Some(_), _) => None,
    }
}

fn watched(word: &[u8]) -> Option<Watched> {
    match word {
        b"connevents" => Some(Watched::Connections),
        b"deletions" => Some(Watched::Deletions),
        b"events" => Some(Watched::Sources),
        b"evictions" => Some(Watched::Evictions),
        b"fetchers" => Some(Watched::Fetches),
        b"leases" => Some(Watched::Leases),
        b"mutations" => Some(Watched::Mutations),
        b"proxyevents" | b"proxyreqs" | b"proxyuser" | b"rawcmds" | b"sysevents" => Some(Watched::Nothing),
        b"voids" => Some(Watched::Invalidations),
        _ => None,
    }
}

/// `stats [<what>]`
pub(in crate::protocol) fn stats(args: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut words = words(args);
    let what = match words.next() {
        None => Statistics::General,
        Some(b"cachedump") => return cachedump(words),
        Some(b"conns") => Statistics::Conns { from: 0 },
        Some(b"detail") => match words.next() {
            Some(b"dump") => Statistics::Detail,
            Some(b"off") => Statistics::DetailSwitch { is_on: false },
            Some(b"on") => Statistics::DetailSwitch { is_on: true },
            None | Some(_) => return Err(Refusal::BadDetail),
        },
        Some(b"extstore" | b"proxy" | b"proxybe" | b"proxyfuncs") => Statistics::Absent,
        Some(b"items") => Statistics::Items,
        Some(b"leases") => Statistics::Leases,
        Some(b"memory") => Statistics::Memory,
        Some(b"events") => Statistics::Events,
        Some(b"policies") => Statistics::Policies,
        Some(b"mrc") => Statistics::Mrc,
        Some(b"ratio") => Statistics::Ratio,
        Some(b"reset") => Statistics::Reset,
        Some(b"settings") => Statistics::Settings,
        Some(b"sizes") => Statistics::Sizes,
        Some(b"slabs") => Statistics::Slabs,
        Some(_) => return Err(Refusal::Unknown),
    };
    Ok(Request::Stats(what))
}

/// `stats cachedump <class> <most>`; 0 is all of them.
fn cachedump<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Request<'a>, Refusal> {
    let (Some(class), Some(most)) = (words.next(), words.next()) else { return Err(Refusal::BadCachedump) };
    let (class, most) = full(unsigned32, class).zip(full(unsigned32, most)).ok_or(Refusal::BadLine)?;
    let left = match (class, most) {
        (CLASSES.., _) => return Err(Refusal::BadSlabId),
        (ONLY_CLASS, 0) => u64::MAX,
        (ONLY_CLASS, most) => most.into(),
        (_, _) => 0,
    };
    Ok(Request::Dump(Dump { form: DumpForm::Cachedump, left, next: None }))
}

/// `lru_crawler …`: there is no crawler, but its dumps work.
pub(super) fn lru_crawler(args: &[u8]) -> Result<Request<'_>, Refusal> {
    let words: Vec<&[u8]> = words(args).take(3).collect();
    match words[..] {
        [b"enable" | b"disable"] => Ok(Request::Ignored),
        [b"sleep" | b"tocrawl", number] => {
            full(unsigned32, number).map(|_| Request::Ignored).ok_or(Refusal::BadLine)
        }
        [b"crawl", classes] => items_of(classes).map(|_| Request::Ignored),
        [b"metadump", classes] => dump(DumpForm::Meta, classes),
        [b"mgdump", classes] => dump(DumpForm::Keys, classes),
        _ => Err(Refusal::Unknown),
    }
}

fn dump<'a>(form: DumpForm, classes: &'a [u8]) -> Result<Request<'a>, Refusal> {
    Ok(Request::Dump(Dump { form, left: items_of(classes)?, next: None }))
}

/// How many items these classes can hold at most: all or none.
fn items_of(classes: &[u8]) -> Result<u64, Refusal> {
    if matches!(classes, b"all" | b"hash") {
        return Ok(u64::MAX);
    }
    let mut most = 0;
    for class in classes.split(|byte| *byte == b',').filter(|class| !class.is_empty()) {
        match full(unsigned32, class) {
            Some(ONLY_CLASS) => most = u64::MAX,
            Some(2..CLASSES) => {}
            None | Some(_) => return Err(Refusal::BadClass),
        }
    }
    Ok(most)
}

/// `lru …`: has no effect, because there are no LRU queues.
pub(super) fn lru(args: &[u8]) -> Result<Request<'_>, Refusal> {
    let words: Vec<&[u8]> = words(args).take(6).collect();
    match words[..] {
        [b"mode", b"flat" | b"segmented", ..] => Ok(Request::Ignored),
        [b"temp_ttl", number, ..] if is_number(number) => Ok(Request::Ignored),
        [b"tune", hot, warm, hot_factor, factor, ..]
            if [hot, warm, hot_factor, factor].into_iter().all(is_number) =>
        {
            Ok(Request::Ignored)
        }
        _ => Err(Refusal::Unknown),
    }
}

fn is_number(word: &[u8]) -> bool {
    str::from_utf8(word).is_ok_and(|word| word.parse::<f64>().is_ok())
}

/// `slabs …`: has no effect, because there are no slabs.
pub(super) fn slabs(args: &[u8]) -> Result<Request<'_>, Refusal> {
    let words: Vec<&[u8]> = words(args).take(4).collect();
    match words[..] {
        [b"automove", b"freeratio" | b"ratio", ref rest @ ..] => match rest.first() {
            Some(number) if is_number(number) => Ok(Request::Ignored),
            None | Some(_) => Err(Refusal::Unknown),
        },
        [b"automove", b"window", number] | [b"automove", number] => {
            full(unsigned32, number).map(|_| Request::Ignored).ok_or(Refusal::BadLine)
        }
        [b"reassign", _, _] => Err(Refusal::NoSlabs),
        _ => Err(Refusal::Unknown),
    }
}

/// The slab class of all items.
const ONLY_CLASS: u32 = 1;
/// memcached's slab classes have numbers below this.
const CLASSES: u32 = 64;
