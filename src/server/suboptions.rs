//! `-o`: memcached's further options, each of them known: some work, most have nothing here to work on.
//!
//! Deliberately absent: ignoring. What is not known, and what would promise something that is not kept, is refused.

use super::tls::TlsOption;

/// One of the options behind `-o`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Suboption {
    /// `idle_timeout`, in seconds.
    IdleTimeout(u32),
    /// `maxconns_fast` and `no_maxconns_fast`: whether a connection too many is refused, or left waiting.
    MaxconnsFast(bool),
    /// It tunes a part of memcached that is not here.
    Meaningless(&'static str),
    /// `ssl_*`
    Tls(TlsOption),
    /// `watcher_logbuf_size`, in KiB.
    WatcherKilobytes(u32),
}

/// Reads `name` or `name=value`.
///
/// # Errors
/// A sentence for the user.
pub(super) fn suboption(text: &str) -> Result<Suboption, String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let number = || value.and_then(|value| value.parse().ok()).ok_or(format!("{name} needs a number"));
    match name {
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
        return Err(format!("{name} is not to be had: there is {why} (as with all of {prefix}*)"));
    }
    match MEANINGLESS.iter().find(|known| **known == name) {
        Some(known) => Ok(Suboption::Meaningless(known)),
        None => Err(format!("there is no suboption {name}")),
    }
}

/// What promises something else than speed or size, by its beginning, and what is not there to keep the promise.
const REFUSED: [(&str, &str); 2] =
    [("ext_", "no storage beside the memory"), ("proxy_", "no proxy in this server")];

/// What tunes slabs, LRU queues, the hash table, buffers or log workers, none of which are here.
const MEANINGLESS: [&str; 37] = [
    "drop_privileges",
    "hash_algorithm",
    "hashpower",
    "hot_lru_pct",
    "hot_max_factor",
    "inline_ascii_resp",
    "lru_crawler",
    "lru_crawler_sleep",
    "lru_crawler_tocrawl",
    "lru_maintainer",
    "modern",
    "no_chunked_items",
    "no_drop_privileges",
    "no_hashexpand",
    "no_inline_ascii_resp",
    "no_lru_crawler",
    "no_lru_maintainer",
    "no_modern",
    "no_slab_automove",
    "no_slab_reassign",
    "read_buf_mem_limit",
    "relaxed_privileges",
    "resp_obj_mem_limit",
    "slab_automove",
    "slab_automove_freeratio",
    "slab_automove_ratio",
    "slab_automove_window",
    "slab_chunk_max",
    "slab_reassign",
    "slab_sizes",
    "sock_cookie_id",
    "tail_repair_time",
    "temporary_ttl",
    "track_sizes",
    "warm_lru_pct",
    "warm_max_factor",
    "worker_logbuf_size",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suboption_of_memcached_works_means_nothing_or_is_refused() {
        assert_eq!(suboption("idle_timeout=5"), Ok(Suboption::IdleTimeout(5)));
        assert_eq!(suboption("watcher_logbuf_size=64"), Ok(Suboption::WatcherKilobytes(64)));
        assert_eq!(suboption("no_maxconns_fast"), Ok(Suboption::MaxconnsFast(false)));
        assert_eq!(suboption("hashpower=20"), Ok(Suboption::Meaningless("hashpower")));
        for text in [
            "idle_timeout",
            "idle_timeout=x",
            "idle_timeout=",
            "nonsense",
            "",
            "ext_path=/x:1G",
            "ssl_key=",
            "ssl_verify_mode=4",
            "ssl_wbuf_size=0",
        ] {
            assert!(suboption(text).is_err(), "{text}");
        }
        assert!(MEANINGLESS.is_sorted());
    }
}
