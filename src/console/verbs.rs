//! The commands at the prompt: their form, their purpose, and how their answers end.
//!
//! protocol.md documents them in detail.

/// A command.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// The words after the name.
    pub(super) form: &'static str,
    pub(super) about: &'static str,
    pub(super) takes: Takes,
    /// The possible first words after the name, if they are fixed.
    pub(super) choices: &'static [&'static str],
}

/// The arguments of a command, as far as they matter here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Takes {
    /// One key at this position; the name has position 0.
    Key(usize),
    /// Any number of keys, starting at this position.
    Keys(usize),
    /// No keys.
    Nothing,
    /// A key, and a value whose length is at this position.
    Value(usize),
}

/// How the answer to a command ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ends {
    /// The server closes the connection.
    Closing,
    /// With an end line, after an `OK` that does not end it.
    Dump,
    /// With a line that is recognizable as the last one.
    Itself,
    /// It never ends.
    Never,
    /// There is no answer, unless there is an error.
    Silent,
}

impl Verb {
    pub(super) fn find(name: &[u8]) -> Option<&'static Verb> {
        VERBS.iter().find(|verb| verb.name.as_bytes() == name)
    }

    /// The place of the first key; `None` if it has no keys.
    pub(super) fn first_key(&self) -> Option<usize> {
        match self.takes {
            Takes::Key(place) | Takes::Keys(place) => Some(place),
            Takes::Nothing => None,
            Takes::Value(_) => Some(1),
        }
    }

    /// Whether these words may follow the value; the server checks the meaning of a list.
    pub(super) fn may_end_in(&self, words: &[&[u8]]) -> bool {
        let (_, behind) = self.form.split_once("<value>").unwrap_or_default();
        let words = words.strip_suffix(&[&b"noreply"[..]]).unwrap_or(words);
        behind.ends_with('*') || words.len() == behind.split_whitespace().count()
    }

    fn is_meta(&self) -> bool {
        matches!(self.name, "ma" | "md" | "me" | "mg" | "ms")
    }
}

impl Ends {
    /// How the answer to these words ends.
    pub(super) fn of(words: &[&[u8]]) -> Ends {
        let is_quiet = |verb: &Verb| {
            let flags = words.get(2..).unwrap_or_default();
            match verb.takes {
                Takes::Keys(_) => false,
                _ if verb.is_meta() => flags.contains(&&b"q"[..]),
                Takes::Key(_) | Takes::Nothing | Takes::Value(_) => words.last() == Some(&&b"noreply"[..]),
            }
        };
        match words {
            [b"watch", ..] => Ends::Never,
            [b"lru_crawler", b"metadump" | b"mgdump", ..] => Ends::Dump,
            [b"quit" | b"shutdown", ..] => Ends::Closing,
            [name, ..] if Verb::find(name).is_some_and(is_quiet) => Ends::Silent,
            _ => Ends::Itself,
        }
    }
}

const fn verb(name: &'static str, form: &'static str, takes: Takes, about: &'static str) -> Verb {
    Verb { name, form, about, takes, choices: &[] }
}

const fn choice(
    name: &'static str,
    form: &'static str,
    choices: &'static [&'static str],
    about: &'static str,
) -> Verb {
    Verb { name, form, about, takes: Takes::Nothing, choices }
}

/// Sorted by name; `quit` is missing because it has no answer.
pub(super) const VERBS: [Verb; 36] = [
    verb("add", STORE, Takes::Value(4), "store a value if the key has none"),
    verb("append", STORE, Takes::Value(4), "append to the existing value"),
    verb("cache_memlimit", "<megabytes>", Takes::Nothing, "change the memory for items"),
    verb(
        "cas",
        "<key> <flags> <exptime> <value> <unique>",
        Takes::Value(4),
        "store if the unique is still this one",
    ),
    verb("decr", "<key> <delta>", Takes::Key(1), "count down, to 0 at most"),
    verb(
        "delete",
        "<key> [<seconds>]",
        Takes::Key(1),
        "delete, invalidate leases, and hold off fills for some seconds",
    ),
    verb("flush_all", "[<exptime>]", Takes::Nothing, "delete everything, now or later"),
    verb("gat", "<exptime> <key>*", Takes::Keys(2), "read, and set a new expiry time"),
    verb("gats", "<exptime> <key>*", Takes::Keys(2), "the same, with uniques"),
    verb("get", "<key>*", Takes::Keys(1), "read values"),
    verb("gets", "<key>*", Takes::Keys(1), "read values and their uniques"),
    verb("incr", "<key> <delta>", Takes::Key(1), "count up"),
    choice(
        "invalidate",
        "[soft] key|tag|prefix|all <name>*",
        INVALIDATE_WORDS,
        "invalidate many values and their leases at once",
    ),
    verb("lease-get", "<key>*", Takes::Keys(1), "read values, or get leases to load them"),
    verb(
        "lease-set",
        "<key> <token> <flags> <exptime> <value> [tag=<tag>]*",
        Takes::Value(5),
        "store the value loaded for a lease; exptime -1 releases it",
    ),
    verb(
        "lease-wait",
        "<milliseconds> <key>*",
        Takes::Keys(2),
        "like lease-get, and wait for another client's load",
    ),
    choice("lru", "mode|temp_ttl|tune …", &["mode", "temp_ttl", "tune"], "has no effect here"),
    choice("lru_crawler", "metadump|mgdump all", &["metadump", "mgdump"], "list all keys"),
    verb(
        "ma",
        META,
        Takes::Key(1),
        "count by flags: D<delta>, MD counts down, N<exptime> creates the number J<number>",
    ),
    verb("md", META, Takes::Key(1), "delete by flags: I keeps a stale copy, V<version> of the row"),
    verb("me", "<key>", Takes::Key(1), "show the metadata of a value"),
    verb("metaget", "<key>*", Takes::Keys(1), "show age and expiry without reading"),
    verb(
        "mg",
        META,
        Takes::Key(1),
        "read by flags: v value, c unique or token, t seconds left, N<seconds> requests a lease",
    ),
    verb("mn", "", Takes::Nothing, "no operation: answered by MN"),
    verb(
        "ms",
        "<key> <value> <flag>*",
        Takes::Value(2),
        "store by flags: T<exptime> F<flags> C<unique or token> G<tag>",
    ),
    verb("prepend", STORE, Takes::Value(4), "prepend to the existing value"),
    verb("refresh_certs", "", Takes::Nothing, "reload the TLS certificates"),
    verb("replace", STORE, Takes::Value(4), "store a value if the key has one"),
    verb("set", STORE, Takes::Value(4), "store a value"),
    choice("shutdown", "[graceful]", &["graceful"], "stop the server, if it was started with -A"),
    choice("slabs", "automove|reassign …", &["automove", "reassign"], "has no effect here"),
    choice("stats", "[<what>]", STATISTICS, "show statistics: stats leases, stats memory, stats policies …"),
    verb("touch", "<key> <exptime>", Takes::Key(1), "set a new expiry time"),
    verb("verbosity", "<level>", Takes::Nothing, "change the log level"),
    verb("version", "", Takes::Nothing, "show the version of memcached that is emulated"),
    choice("watch", "<topic>*", TOPICS, "show events until Ctrl-C"),
];

const META: &str = "<key> <flag>*";
const STATISTICS: &[&str] = &[
    "cachedump",
    "conns",
    "detail",
    "events",
    "items",
    "leases",
    "memory",
    "mrc",
    "policies",
    "ratio",
    "reset",
    "settings",
    "sizes",
    "slabs",
];
const STORE: &str = "<key> <flags> <exptime> <value>";
const TOPICS: &[&str] =
    &["connevents", "deletions", "events", "evictions", "fetchers", "leases", "mutations", "voids"];
const INVALIDATE_WORDS: &[&str] = &["all", "key", "prefix", "soft", "tag"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, Refusal};

    /// Whether the server knows the command.
    fn is_known(line: &str) -> bool {
        let mut decoder = Decoder::new(1 << 20);
        decoder.space().put_slice(format!("{line}\r\n").as_bytes());
        !matches!(decoder.decode(), Some(Err(Refusal::Unknown)))
    }

    #[test]
    fn the_server_knows_every_command() {
        assert!(!is_known("nonsense"));
        // Some commands need these words to be recognized.
        let rests = ["", " 64", " automove 1", " metadump all", " mode flat"];
        for Verb { name, .. } in &VERBS {
            assert!(rests.iter().any(|rest| is_known(&format!("{name}{rest}"))), "{name}");
        }
        for (name, choices) in [("stats", STATISTICS), ("watch", TOPICS)] {
            for choice in choices {
                assert!(is_known(&format!("{name} {choice}")), "{name} {choice}");
            }
        }
        assert!(VERBS.is_sorted_by_key(|verb| verb.name));
    }

    #[track_caller]
    fn check(line: &str, expected: Ends) {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        assert_eq!(Ends::of(&words), expected, "{line}");
    }

    #[test]
    fn answers_end_in_different_ways() {
        check("get noreply", Ends::Itself);
        check("delete k noreply", Ends::Silent);
        check("mg q v", Ends::Itself);
        check("mg k v q", Ends::Silent);
        check("watch", Ends::Never);
        check("lru_crawler mgdump all", Ends::Dump);
        check("lru_crawler enable", Ends::Itself);
        check("shutdown", Ends::Closing);
        check("hello", Ends::Itself);
    }
}
