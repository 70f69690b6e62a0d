//! Logs invalidations of many values with their origin: a look at the log shows why the cache is empty.

use tokio::time::Instant;

use crate::cache::Depth;
use crate::command::{Invalidation, InvalidationKind};
use crate::metrics::Address;
use crate::process::logging::Limit;
use crate::shown::word;

/// Logs what the client at this address has invalidated, under its user name, if it has one.
pub(super) fn log(client: &Address, user: Option<&[u8]>, invalidation: &Invalidation) {
    let Some(suppressed) = LIMIT.admit(Instant::now()) else { return };
    let Invalidation { depth, first, kind, names } = invalidation;
    let what = match kind {
        InvalidationKind::All => "everything",
        InvalidationKind::Flush => "everything, by flush_all",
        InvalidationKind::Prefix => "prefixes",
        InvalidationKind::Tag => "tags",
    };
    let first = (!first.is_empty()).then(|| word(first));
    tracing::info!(
        %client,
        user = user.map(word).as_deref(),
        names,
        first = first.as_deref(),
        soft = *depth == Depth::Soft,
        suppressed,
        "invalidated {what}"
    );
}

static LIMIT: Limit = Limit::new();
