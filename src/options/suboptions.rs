//! `-o`: memcached's further options. Some work; most have no effect here.
//!
//! Unknown options are refused, and so are options for features that this server does not have.

use std::fmt;

use super::tls::TlsOption;

/// An option of `-o`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Suboption {
    /// `idle_timeout`, in seconds.
    IdleTimeout(u32),
    /// `maxconns_fast` and `no_maxconns_fast`: whether a connection above the limit is refused, or waits.
    MaxconnsFast(bool),
    /// An option that tunes a part of memcached that does not exist here.
    NoEffect(&'static str),
    /// The empty text between two commas.
    Nothing,
    /// `ssl_*`
    Tls(TlsOption),
    /// `watcher_logbuf_size`, in KiB.
    WatcherKilobytes(u32),
}

/// All options together; of several equal ones the last wins.
#[derive(Default)]
pub(super) struct Extended<'a> {
    pub idle_seconds: Option<u32>,
    pub maxconns_fast: Option<bool>,
    pub without_effect: Vec<&'static str>,
    pub tls: Vec<&'a TlsOption>,
    pub watcher_kilobytes: Option<u32>,
}

impl<'a> Extended<'a> {
    pub(super) fn new(suboptions: &'a [Suboption]) -> Extended<'a> {
        let mut extended = Extended::default();
        for suboption in suboptions {
            match suboption {
                Suboption::IdleTimeout(seconds) => extended.idle_seconds = Some(*seconds),
                Suboption::MaxconnsFast(is_fast) => extended.maxconns_fast = Some(*is_fast),
                Suboption::NoEffect(name) => extended.without_effect.push(name),
                Suboption::Nothing => {}
                Suboption::Tls(option) => extended.tls.push(option),
                Suboption::WatcherKilobytes(kilobytes) => extended.watcher_kilobytes = Some(*kilobytes),
            }
        }
        extended
    }
}

/// Parses `name` or `name=value`.
///
/// # Errors
/// A message for the user.
pub(super) fn suboption(text: &str) -> Result<Suboption, String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let number = || value.and_then(|value| value.parse().ok()).ok_or(format!("{name} needs a number"));
    match name {
        "" if value.is_none() => return Ok(Suboption::Nothing),
        "idle_timeout" => return number().map(Suboption::IdleTimeout),
        "maxconns_fast" => return Ok(Suboption::MaxconnsFast(true)),
        "no_maxconns_fast" => return Ok(Suboption::MaxconnsFast(false)),
        "watcher_logbuf_size" => return number().map(Suboption::WatcherKilobytes),
        _ => {}
    }
    if name.starts_with("ssl_") {
        return TlsOption::read(name, value).map(Suboption::Tls);
    }
    if let Some((prefix, why)) = REFUSED.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Err(format!("{name} is not supported: there is {why} (as with all of {prefix}*)"));
    }
    match WITHOUT_EFFECT.iter().find(|(known, _)| *known == name) {
        Some((known, needs)) if needs.is_met_by(value) => Ok(Suboption::NoEffect(known)),
        Some((_, needs)) => Err(format!("{name} {needs}")),
        None => Err(format!("unknown suboption {name}")),
    }
}

/// The values that memcached accepts for an option without effect here, so that both refuse the same
/// mistakes.
#[derive(Clone, Copy)]
enum Needs {
    /// No value is allowed.
    Nothing,
    /// An optional number within these bounds.
    Perhaps(i64, i64),
    /// A number above 0, and no greater than this.
    Positive(f64),
    /// Any value.
    Something,
    /// A number within these bounds.
    Whole(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Needs {
    fn is_met_by(self, value: Option<&str>) -> bool {
        match (self, value) {
            (Needs::Nothing, _) | (Needs::Perhaps(..), None) | (Needs::Something, Some(_)) => true,
            (_, None) => false,
            (Needs::Perhaps(least, most) | Needs::Whole(least, most), Some(value)) => {
                value.parse().is_ok_and(|number| (least..=most).contains(&number))
            }
            (Needs::Positive(most), Some(value)) => {
                value.parse().is_ok_and(|number: f64| 0.0 < number && number <= most)
            }
            (Needs::Word(words), Some(value)) => words.contains(&value),
        }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Needs::Nothing | Needs::Something => write!(out, "needs a value"),
            Needs::Perhaps(least, most) | Needs::Whole(least, most) => {
                write!(out, "is a number from {least} to {most}")
            }
            Needs::Positive(most) => write!(out, "is a number above 0, at most {most}"),
            Needs::Word(words) => write!(out, "is one of {}", words.join(", ")),
        }
    }
}

/// Options that are refused, by prefix, and the feature that is missing for them.
const REFUSED: [(&str, &str); 2] =
    [("ext_", "no storage beside the memory"), ("proxy_", "no proxy in this server")];

/// Options that tune slabs, LRU queues, the hash table, buffers or log workers, none of which exist here.
const WITHOUT_EFFECT: [(&str, Needs); 37] = [
    ("drop_privileges", Needs::Nothing),
    ("hash_algorithm", Needs::Word(&["jenkins", "murmur3", "xxh3"])),
    ("hashpower", Needs::Whole(12, 32)),
    ("hot_lru_pct", Needs::Whole(1, 79)),
    ("hot_max_factor", Needs::Positive(f64::INFINITY)),
    ("inline_ascii_resp", Needs::Nothing),
    ("lru_crawler", Needs::Nothing),
    ("lru_crawler_sleep", Needs::Whole(0, 1_000_000)),
    ("lru_crawler_tocrawl", Needs::Whole(0, U32_MAX)),
    ("lru_maintainer", Needs::Nothing),
    ("modern", Needs::Nothing),
    ("no_chunked_items", Needs::Nothing),
    ("no_drop_privileges", Needs::Nothing),
    ("no_hashexpand", Needs::Nothing),
    ("no_inline_ascii_resp", Needs::Nothing),
    ("no_lru_crawler", Needs::Nothing),
    ("no_lru_maintainer", Needs::Nothing),
    ("no_modern", Needs::Nothing),
    ("no_slab_automove", Needs::Nothing),
    ("no_slab_reassign", Needs::Nothing),
    ("read_buf_mem_limit", Needs::Whole(0, U32_MAX)),
    ("relaxed_privileges", Needs::Nothing),
    ("resp_obj_mem_limit", Needs::Nothing),
    ("slab_automove", Needs::Perhaps(0, 2)),
    ("slab_automove_freeratio", Needs::Positive(f64::INFINITY)),
    ("slab_automove_ratio", Needs::Positive(1.0)),
    ("slab_automove_window", Needs::Whole(3, 1800)),
    // Kilobytes; before memcached 1.6.22 they were bytes.
    ("slab_chunk_max", Needs::Whole(1, U32_MAX)),
    ("slab_reassign", Needs::Nothing),
    ("slab_sizes", Needs::Something),
    ("sock_cookie_id", Needs::Nothing),
    ("tail_repair_time", Needs::Whole(10, I32_MAX)),
    ("temporary_ttl", Needs::Whole(-I32_MAX, I32_MAX)),
    ("track_sizes", Needs::Nothing),
    ("warm_lru_pct", Needs::Whole(1, 79)),
    ("warm_max_factor", Needs::Positive(f64::INFINITY)),
    ("worker_logbuf_size", Needs::Whole(0, U32_MAX)),
];
const U32_MAX: i64 = u32::MAX as i64;
const I32_MAX: i64 = i32::MAX as i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suboption_of_memcached_works_has_no_effect_or_is_refused() {
        assert_eq!(suboption("idle_timeout=5"), Ok(Suboption::IdleTimeout(5)));
        assert_eq!(suboption("watcher_logbuf_size=64"), Ok(Suboption::WatcherKilobytes(64)));
        assert_eq!(suboption("no_maxconns_fast"), Ok(Suboption::MaxconnsFast(false)));
        assert_eq!(suboption("hashpower=20"), Ok(Suboption::NoEffect("hashpower")));
        for text in [
            "idle_timeout",
            "idle_timeout=x",
            "idle_timeout=",
            "nonsense",
            "=",
            "hashpower",
            "hashpower=11",
            "hashpower=33",
            "hash_algorithm=md5",
            "slab_automove=3",
            "slab_automove_ratio=0",
            "slab_automove_ratio=1.1",
            "slab_sizes",
            "ext_path=/x:1G",
            "ssl_key=",
            "ssl_verify_mode=4",
            "ssl_wbuf_size=0",
        ] {
            assert!(suboption(text).is_err(), "{text}");
        }
        for text in ["", "hashpower=12", "hash_algorithm=xxh3", "slab_automove", "slab_automove_ratio=1"] {
            assert!(suboption(text).is_ok(), "{text}");
        }
        assert!(WITHOUT_EFFECT.is_sorted_by_key(|(name, _)| *name));
    }
}
