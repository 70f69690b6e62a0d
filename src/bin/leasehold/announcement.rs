//! The first lines of the log: warnings about flags, the addresses, and the sizes.

use clap::CommandFactory;
use leasehold::options::{self, Options};
use leasehold::server::Listeners;

/// Logs what a server does with its options.
pub fn announce(listeners: &Listeners, options: &Options) {
    if options.udp_port != 0 {
        tracing::warn!(
            port = options.udp_port,
            "UDP is not served: spoofed requests made memcached's UDP port an amplifier of attacks"
        );
    }
    let without_effect = options.without_effect();
    if !without_effect.is_empty() {
        tracing::warn!("ignoring options that have no effect here: {}", without_effect.join(", "));
    }
    let unknown = options::unknown_variables(&Options::command());
    if !unknown.is_empty() {
        tracing::warn!("ignoring variables that stand for no flag: {}", unknown.join(", "));
    }
    if options.verifies_nothing() {
        tracing::warn!(
            "-l mtls: refuses all clients: -o ssl_ca_cert names no authority for their certificates"
        );
    }
    if options.allows_old_tls() {
        tracing::warn!("ssl_min_version: the oldest supported version is TLS 1.2");
    }
    log_addresses(listeners, options);
    let config = options.cache();
    tracing::info!(
        memory_mb = config.memory_bytes >> 20,
        fixed_tables_mb = config.fixed_table_bytes() >> 20,
        receive_limit_mb = options.receive_bytes() >> 20,
        threads = options.threads,
        connections = options.connections,
        implicit_leases = ?config.policies.general().implicit,
        "leasehold {}",
        env!("CARGO_PKG_VERSION")
    );
}

fn log_addresses(listeners: &Listeners, options: &Options) {
    let (addresses, paths) = (listeners.addresses(), listeners.paths());
    if addresses.is_empty() && paths.is_empty() {
        tracing::warn!("listening on nothing");
    }
    for path in paths {
        tracing::info!("listening on {}", path.display());
    }
    let why = match (listeners.are_passed, options.listen.is_empty()) {
        (true, _) => " (inherited socket, as no flag names an address)",
        (false, true) => " (loopback only; use -l for other addresses)",
        (false, false) => "",
    };
    for address in addresses {
        tracing::info!("listening on {address}{why}");
    }
    let is_default = !listeners.are_passed && options.listen.is_empty() && options.socket.is_none();
    if is_default && std::process::id() == CONTAINER_PID {
        tracing::warn!(
            "no client outside of this container can connect: use -l 0.0.0.0 or LEASEHOLD_LISTEN=0.0.0.0"
        );
    }
}

/// The first process of a container; outside of one, it is the system's own.
const CONTAINER_PID: u32 = 1;
