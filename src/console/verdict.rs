//! The verdict on an answer, for scripts: done, missed or failed.

use super::reply::Entry;
use super::request::Request;
use super::verbs::{Takes, Verb};

/// Sorted by severity: the worst of several is the maximum.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Verdict {
    /// The value exists, or the command was carried out.
    Done,
    /// A miss, or a refused store.
    Missed,
    /// An error of the line, the server or the connection.
    Failed,
}

impl Verdict {
    /// Its exit code.
    pub(super) fn code(self) -> u8 {
        match self {
            Verdict::Done => 0,
            Verdict::Missed => 1,
            Verdict::Failed => FAILED,
        }
    }

    /// The verdict on an answer with this number of values before its last line.
    pub(super) fn of(request: &Request, hits: usize, last: &Entry) -> Verdict {
        match last.word(0) {
            "END" if is_reading(request) && hits < request.keys().count() => Verdict::Missed,
            "HD" | "VA" if has_no_value(last) => Verdict::Missed,
            "EN" if Verb::find(request.name()).is_some_and(|verb| verb.takes == Takes::Nothing) => {
                Verdict::Done
            }
            "EN" | "EX" | "EXISTS" | "NF" | "NOT_FOUND" | "NOT_STORED" | "NS" | "STALE_STORED" => {
                Verdict::Missed
            }
            "DELETED" | "END" | "HD" | "INVALIDATED" | "ME" | "MN" | "OK" | "RESET" | "STORED"
            | "TOUCHED" | "VA" | "VERSION" => Verdict::Done,
            word if is_number(word) || last.is_event() => Verdict::Done,
            _ => Verdict::Failed,
        }
    }
}

/// The exit code after an error, or without an answer.
pub const FAILED: u8 = 2;

pub(super) fn is_reading(request: &Request) -> bool {
    Verb::find(request.name()).is_some_and(|verb| matches!(verb.takes, Takes::Keys(_)))
}

pub(super) fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether there is a lease, of this or another client, in place of a value.
fn has_no_value(meta: &Entry) -> bool {
    let is_leased = meta.words().skip(1).any(|word| matches!(word, b"W" | b"Z"));
    is_leased && meta.data.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, hits: usize, last: &str, expected: Verdict) {
        let request = Request::typed(line.as_bytes()).unwrap();
        let data = last.strip_prefix("VA ").map(|rest| vec![b'x'; rest[..1].parse().unwrap()]);
        let entry = Entry { line: last.into(), data };
        assert_eq!(Verdict::of(&request, hits, &entry), expected, "{line}: {last}");
    }

    #[test]
    fn answers_have_verdicts() {
        use Verdict::{Done, Failed, Missed};
        check("get a b", 2, "END", Done);
        check("get a b", 1, "END", Missed);
        check("lease-wait 9 a", 0, "END", Missed);
        check("stats", 0, "END", Done);
        check("lru_crawler mgdump all", 0, "EN", Done);
        check("mg k v", 0, "EN", Missed);
        check("mg k v N0", 0, "VA 0 W", Missed);
        check("mg k v R9", 0, "VA 3 W", Done);
        check("mg k c", 0, "HD c17", Done);
        check("mg k c N0", 0, "HD c17 W", Missed);
        check("ms k \"v\"", 0, "NS", Missed);
        check("lease-set k 9 0 0 \"v\"", 0, "STALE_STORED", Missed);
        check("incr k 1", 0, "12", Done);
        check("delete k", 0, "DELETED", Done);
        check("nonsense", 0, "ERROR", Failed);
        check("get", 0, "CLIENT_ERROR bad command line format", Failed);
        check("set k 0 0 \"v\"", 0, "SERVER_ERROR out of memory storing object", Failed);
        check("shutdown", 0, "SERVER_ERROR: shutdown not enabled", Failed);
    }
}
