//! Flags that keep a server from harm: by strangers, and by values that are too old.

use std::time::Duration;

use clap::Args;

/// The flags.
#[derive(Args, Clone, Debug)]
pub struct SafetyOptions {
    /// Seconds between the old server's last answer and this one's first (`leasehold handover`), beyond which it begins empty
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub handover_max_gap: u32,

    /// Connections at once from one address (of IPv6: from one /64); 0 for as many as -c allows
    #[arg(long, value_name = "NUM", default_value_t = 0)]
    pub conn_limit_per_client: u32,

    /// Refuse to start where a public address has neither TLS (-Z) nor users (-Y), instead of warning of it
    #[arg(long)]
    pub require_secure: bool,
}

impl SafetyOptions {
    /// For how long nobody may be served while one server takes over from another, if the items are to be kept.
    pub fn handover_max_gap(&self) -> Duration {
        Duration::from_secs(self.handover_max_gap.into())
    }
}
