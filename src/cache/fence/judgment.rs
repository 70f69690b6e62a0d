//! Questions to a record, and its judgment about a set.

/// The reader that missed a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reader {
    /// It loads the value.
    Loads,
    /// Another one holds the lease. It waits, and asks again; but it may also load the value, and set it
    /// without a token.
    Waits,
}

/// Which sets answer a miss: the mode of a class of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Takes {
    /// Each one.
    Every,
    /// One whose value came before: the others may be writes that set and do not delete.
    Repeats,
    /// None: sets may be those of a job that refreshes values.
    None,
}

/// The judgment about a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) answers: Answers,
    /// The hash of its value, if it mattered.
    pub(super) value: Option<u64>,
    pub(crate) verdict: Verdict,
}

/// The miss that a set may answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answers {
    /// A miss that is younger than the load time.
    Miss,
    /// An older one.
    Late,
    /// No miss; and its value was set before.
    Repeat,
    /// No miss.
    Nothing,
}

/// Whether a set is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// No old load can bring this value.
    Fresh,
    /// Enough sets brought this value: it is fresh, although old loads may be running.
    Confirmed,
    /// An old load may have brought it.
    Doubtful,
    /// It answers a miss that is older than the load time, and the key was invalidated since.
    Late,
    /// Misses of the key were forgotten.
    Closed,
}
