//! `stats items`, `stats slabs` and `stats sizes`, as tools of memcached read them.
//!
//! memcached sorts items into classes by their size. Here all items are of class 1, and a chunk of it is the
//! mean size of an item. Its pages are the segments of the log, and as much memory as large values take.

use super::Command;
use crate::cache::Counts;
use crate::metrics::Count;

impl Command<'_> {
    /// `stats items`
    pub(super) fn items(&mut self) {
        let counts = self.cache.counts();
        if counts.items == 0 && counts.evictions == 0 && counts.expired == 0 {
            return;
        }
        let age = counts.oldest_access.map_or(0, |tick| tick.age_seconds(self.now));
        let (_, evicted_age) = counts.last_evicted;
        let figures = [
            ("number", counts.items),
            ("age", age.into()),
            ("mem_requested", counts.bytes),
            ("evicted", counts.evictions),
            ("evicted_nonzero", counts.evicted_nonzero),
            ("evicted_time", evicted_age.into()),
            ("outofmemory", self.conversation.metrics.total(Count::StoreNoMemory)),
            ("tailrepairs", 0),
            ("reclaimed", counts.expired),
            ("expired_unfetched", counts.expired_unfetched),
            ("evicted_unfetched", counts.evicted_unfetched),
        ];
        figures.iter().for_each(|(name, value)| self.of_class("items:1", name, *value));
    }

    /// `stats slabs`
    pub(super) fn slabs(&mut self) {
        let (counts, metrics) = (self.cache.counts(), &self.conversation.metrics);
        let mut figures = Vec::new();
        if let Some(chunk_bytes) = chunk_bytes(&counts) {
            let page_bytes = self.cache.config().segment_bytes() as u64;
            let free = (counts.open_bytes + counts.dead_bytes) / chunk_bytes;
            let uses = [
                ("get_hits", Count::GetHits),
                ("cmd_set", Count::CmdSet),
                ("delete_hits", Count::DeleteHits),
                ("incr_hits", Count::IncrHits),
                ("decr_hits", Count::DecrHits),
                ("cas_hits", Count::CasHits),
                ("cas_badval", Count::CasBadval),
                ("touch_hits", Count::TouchHits),
            ];
            figures.extend([
                ("chunk_size", chunk_bytes),
                ("chunks_per_page", page_bytes / chunk_bytes),
                ("total_pages", counts.segments + counts.large_bytes.div_ceil(page_bytes)),
                ("total_chunks", counts.items + free),
                ("used_chunks", counts.items),
                ("free_chunks", free),
                ("free_chunks_end", counts.open_bytes / chunk_bytes),
                ("mem_requested", counts.bytes),
            ]);
            figures.extend(uses.map(|(name, count)| (name, metrics.total(count))));
        }
        figures.iter().for_each(|(name, value)| self.of_class("1", name, *value));
        self.replies.stat("active_slabs", &u64::from(counts.items > 0).to_string());
        self.replies.stat("total_malloced", &self.cache.memory_bytes().1.to_string());
    }

    /// `stats sizes`, in steps of 32 bytes. Without items, the answer is that of a memcached that counts
    /// none.
    pub(super) fn sizes(&mut self) {
        let counts = self.cache.counts();
        match chunk_bytes(&counts) {
            None => self.replies.stat("sizes_status", "disabled"),
            Some(chunk_bytes) => {
                self.replies.stat(&chunk_bytes.next_multiple_of(32).to_string(), &counts.items.to_string());
            }
        }
    }

    fn of_class(&mut self, class: &str, name: &str, value: u64) {
        self.replies.stat(&format!("{class}:{name}"), &value.to_string());
    }
}

/// The mean size of an item, rounded up, with its slot in the index; `None` if there are none.
fn chunk_bytes(counts: &Counts) -> Option<u64> {
    (counts.items > 0).then(|| counts.bytes.div_ceil(counts.items) + SLOT_BYTES)
}

const SLOT_BYTES: u64 = 8;
