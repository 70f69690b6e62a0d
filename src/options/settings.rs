//! The lines of `stats settings` that come from the command line, under memcached's names.
//!
//! The command layer adds the settings that can change while the server runs.

use super::command_line::Options;
use super::tls::TlsSettings;
use crate::protocol::Protocols;

/// The names and values of the settings that apply here, as memcached prints them.
pub(crate) fn settings(options: &Options) -> Vec<(&'static str, String)> {
    let is_on_tcp = options.socket.is_none();
    let inter = if options.listen.is_empty() { "127.0.0.1".to_owned() } else { options.listen.join(",") };
    let yes = |is_so: bool| if is_so { "yes" } else { "no" }.to_owned();
    let path = |path: &Option<std::path::PathBuf>, none: &str| {
        path.as_ref().map_or(none.to_owned(), |path| path.display().to_string())
    };
    let protocol = match options.protocols() {
        Protocols::Any => "auto-negotiate",
        Protocols::Binary => "binary",
        Protocols::Text => "ascii",
    };
    let admin = options.admin.address.map_or("no".to_owned(), |address| address.to_string());
    let mut settings = vec![
        ("admin", admin),
        ("admin_token_file", path(&options.admin.token_file, "NULL")),
        ("tcpport", if is_on_tcp { options.tcp_port() } else { 0 }.to_string()),
        ("udpport", "0".to_owned()),
        ("inter", inter),
        ("domain_socket", path(&options.socket, "NULL")),
        ("umask", format!("{:o}", options.socket_mode)),
        ("num_threads", options.threads.to_string()),
        ("stat_key_prefix", char::from(options.prefix_delimiter()).to_string()),
        ("reqs_per_event", options.requests_per_event.to_string()),
        ("cas_enabled", "yes".to_owned()),
        ("tcp_backlog", options.backlog.to_string()),
        ("binding_protocol", protocol.to_owned()),
        ("auth_enabled_sasl", yes(options.enable_sasl)),
        ("auth_enabled_ascii", path(&options.auth_file, "no")),
        ("maxconns_fast", yes(options.refuses_when_full())),
        ("idle_timeout", options.idle().map_or(0, |idle| idle.as_secs()).to_string()),
        ("receive_limit", options.receive_bytes().to_string()),
        ("memory_file", path(&options.memory_file, "(null)")),
        ("track_sizes", "no".to_owned()),
        ("watcher_logbuf_size", options.watcher_bytes().to_string()),
        ("ssl_enabled", yes(options.enable_ssl)),
        ("client_flags_size", size_of::<u32>().to_string()),
    ];
    let tls = options.tls();
    let of = |value: fn(&TlsSettings) -> String, none: &str| tls.as_ref().map_or(none.to_owned(), value);
    settings.extend([
        ("ssl_chain_cert", of(|tls| tls.chain.display().to_string(), "(null)")),
        ("ssl_key", of(|tls| tls.key_file().display().to_string(), "(null)")),
        ("ssl_verify_mode", of(|tls| (tls.verify as u8).to_string(), "0")),
        // PEM.
        ("ssl_keyformat", "1".to_owned()),
        ("ssl_ciphers", "NULL".to_owned()),
        ("ssl_ca_cert", path(&tls.as_ref().and_then(|tls| tls.authorities.clone()), "NULL")),
        ("ssl_wbuf_size", of(|tls| tls.write_bytes.to_string(), "16384")),
        ("ssl_session_cache", yes(tls.as_ref().is_some_and(|tls| tls.resumes))),
        ("ssl_kernel_tls", "no".to_owned()),
        (
            "ssl_min_version",
            of(|tls| if tls.is_13_only { "tlsv1.3" } else { "tlsv1.2" }.to_owned(), "tlsv1.2"),
        ),
    ]);
    settings
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Tools that check a server's TLS by `stats settings` found no lines where it is off.
    #[test]
    fn the_lines_of_tls_are_always_there() {
        let of = |flags: &str| {
            let options =
                Options::try_parse_from(format!("leasehold {flags}").split(' ')).expect("legal flags");
            let all = settings(&options).into_iter().filter(|(name, _)| name.starts_with("ssl_"));
            all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        let keyformat = "ssl_keyformat=1 ssl_ciphers=NULL";
        assert_eq!(
            of("-t 1"),
            format!(
                "ssl_enabled=no ssl_chain_cert=(null) ssl_key=(null) ssl_verify_mode=0 {keyformat} ssl_ca_cert=NULL \
                 ssl_wbuf_size=16384 ssl_session_cache=no ssl_kernel_tls=no ssl_min_version=tlsv1.2"
            )
        );
        assert_eq!(
            of(
                "-Z -o ssl_chain_cert=/c,ssl_key=/k,ssl_ca_cert=/a,ssl_verify_mode=2,ssl_wbuf_size=64 -o ssl_session_cache,ssl_min_version=3"
            ),
            format!(
                "ssl_enabled=yes ssl_chain_cert=/c ssl_key=/k ssl_verify_mode=2 {keyformat} ssl_ca_cert=/a \
                 ssl_wbuf_size=65536 ssl_session_cache=yes ssl_kernel_tls=no ssl_min_version=tlsv1.3"
            )
        );
    }
}
