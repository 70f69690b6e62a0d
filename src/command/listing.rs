//! Long listings: the dumps of all values, and the connections. They are sent piece by piece.

use super::{Command, Flow};
use crate::cache::Entry;
use crate::clock::Now;
use crate::protocol::{Dump, DumpForm, Listed, Reply, Status};

impl Command<'_> {
    pub(super) fn dump(&mut self, dump: &mut Dump) -> Flow {
        if !self.conversation.rules.may_dump {
            self.replies.status(match dump.form {
                DumpForm::Cachedump => Status::CachedumpNotAllowed,
                DumpForm::Keys => Status::KeyDumpNotAllowed,
                DumpForm::Meta => Status::MetadumpNotAllowed,
            });
            return Flow::Next;
        }
        if dump.next.is_none() && dump.form != DumpForm::Cachedump {
            self.replies.status(Status::Ok);
        }
        let (mut next, now) = (dump.next.unwrap_or(0), self.now);
        for _ in 0..STEPS {
            if dump.left == 0 {
                self.replies.status(if dump.form == DumpForm::Keys {
                    Status::EndOfKeys
                } else {
                    Status::End
                });
                return Flow::Next;
            }
            if self.replies.is_full() {
                break;
            }
            let replies = &mut self.replies;
            let rest = self.cache.list(next, now, |entry| {
                if dump.left > 0 {
                    replies.send(Reply::Listed(dump.form, listed(entry, now)));
                    dump.left -= 1;
                }
            });
            match rest {
                None => dump.left = 0,
                Some(rest) => next = rest,
            }
        }
        dump.next = Some(next);
        Flow::Pause
    }

    /// The connections from this number on, in memcached's format.
    pub(super) fn conns(&mut self, from: &mut u32) -> Flow {
        while !self.replies.is_full() {
            let some = self.conversation.metrics.open.some(*from);
            let Some((last, _)) = some.last() else {
                self.replies.status(Status::End);
                return Flow::Next;
            };
            *from = last + 1;
            for (number, connection) in &some {
                let idle = self.now.seconds().saturating_sub(connection.last_command());
                let mut stat = |name, value: &str| self.replies.stat(&format!("{number}:{name}"), value);
                stat("addr", &connection.address.to_string());
                if let Some(address) = &connection.listen_address {
                    stat("listen_addr", &address.to_string());
                }
                stat("state", connection.state());
                stat("secs_since_last_cmd", &idle.to_string());
            }
        }
        Flow::Pause
    }
}

fn listed<'a>(entry: Entry<'a>, now: Now) -> Listed<'a> {
    let idle = u64::from(entry.accessed.age_seconds(now));
    Listed {
        accessed_unix: now.unix.saturating_sub(idle),
        bytes: entry.bytes as u64,
        exptime_unix: entry.value.expiry.to_unix(now),
        flags: entry.value.flags,
        is_fetched: entry.is_fetched,
        key: entry.key,
        unique: entry.value.unique,
        value_bytes: entry.value.bytes.len() as u64,
    }
}

/// The number of dump steps before other connections are served.
const STEPS: usize = 2;
