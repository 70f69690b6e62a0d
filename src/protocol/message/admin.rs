//! Requests of operators and their tools: statistics, dumps and events.

/// The argument of `stats`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Statistics {
    /// `extstore`, `proxy` and its kinds: parts of memcached that do not exist here.
    Absent,
    /// `conns`: the connections, starting at this number.
    Conns {
        /// A descriptor number.
        from: u32,
    },
    /// `detail dump`
    Detail,
    /// `detail on` and `detail off`
    DetailSwitch {
        /// Whether uses of key prefixes are counted from now on.
        is_on: bool,
    },
    /// No argument: the general statistics.
    General,
    /// `items`
    Items,
    /// `leases`
    Leases,
    /// `memory`
    Memory,
    /// `mrc`
    Mrc,
    /// `policies`
    Policies,
    /// `events`: the sources of events
    Events,
    /// `ratio`
    Ratio,
    /// `reset`
    Reset,
    /// `settings`
    Settings,
    /// `sizes`
    Sizes,
    /// `slabs`
    Slabs,
}

/// A listing of all live values, in one of memcached's formats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dump {
    /// The format of each line.
    pub form: DumpForm,
    /// How many values may still be listed.
    pub left: u64,
    /// Where the listing continues; `None` before its first line.
    pub next: Option<u64>,
}

/// The format of a dump's lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DumpForm {
    /// `stats cachedump`: `ITEM <key> [<bytes> b; <unix> s]`
    Cachedump,
    /// `lru_crawler mgdump`: `mg <key>`
    Keys,
    /// `lru_crawler metadump`: `key=<key> exp=<unix> …`
    Meta,
}

/// A topic of `watch`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watched {
    /// `connevents`
    Connections,
    /// `deletions`
    Deletions,
    /// `evictions`
    Evictions,
    /// `fetchers`
    Fetches,
    /// `leases`
    Leases,
    /// `mutations`
    Mutations,
    /// A topic of memcached that has no events here.
    Nothing,
    /// `voids`
    Invalidations,
    /// `events`
    Sources,
}
