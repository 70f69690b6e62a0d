//! Flags that protect a server from untrusted clients, and from values that are too old.

use std::time::Duration;

use clap::Args;

use super::values::megabytes;

/// The flags.
#[derive(Args, Clone, Debug)]
pub struct SafetyOptions {
    /// Longest gap in service during `leasehold handover`, in seconds; after a longer one the cache is empty
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub handover_max_gap: u32,

    /// Connections at once from one address (IPv6: one /64); 0 for as many as -c allows
    #[arg(long, value_name = "NUM", default_value_t = 0)]
    pub conn_limit_per_client: u32,

    /// Memory for large requests that are being received, over all connections, in megabytes; the suffixes m
    /// and g are allowed [default: an eighth of -m, but at least 16, and no less than -I]
    #[arg(long, value_name = "MB", value_parser = megabytes)]
    pub receive_limit: Option<u32>,

    /// Refuse to start if a public address has neither TLS (-Z) nor authentication (-Y), instead of warning
    #[arg(long)]
    pub require_secure: bool,
}

impl SafetyOptions {
    /// Longest gap in service during a handover that keeps the items.
    pub fn handover_max_gap(&self) -> Duration {
        Duration::from_secs(self.handover_max_gap.into())
    }
}
