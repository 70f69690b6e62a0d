//! The arguments of a record's judgment, and the judgment itself.

/// The reader that missed a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reader {
    /// It loads the value.
    Loads,
    /// It waits and asks again, because another reader holds the lease. But it may also load the value, and
    /// set it without a token.
    Waits,
}

/// The mode of a class of keys: which sets answer a miss.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Takes {
    /// Every set.
    Every,
    /// A set whose value came before. The others may be writes that set and do not delete.
    Repeats,
    /// No set. They may be those of a job that refreshes values.
    None,
}

/// The judgment of a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) answers: Answers,
    /// The hash of its value, where it was needed.
    pub(super) value: Option<u64>,
    pub(crate) verdict: Verdict,
}

/// The miss that a set may answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answers {
    /// A miss younger than the load time.
    Miss,
    /// An older miss.
    Late,
    /// No miss, and its value was set before.
    Repeat,
    /// No miss.
    Nothing,
}

/// Whether a set is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// No old load can bring this value.
    Fresh,
    /// Old loads may be running, but more sets have brought this value than there are such loads.
    Confirmed,
    /// An old load may have brought this value.
    Doubtful,
    /// It answers a miss older than the load time, and the key was invalidated since.
    Late,
    /// Misses of the key were forgotten.
    Closed,
}
