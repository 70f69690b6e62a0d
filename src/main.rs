//! The server's command line.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use leasehold::server::process::{self, PidFile};
use leasehold::server::{Listeners, Options, Server, logging};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_help { ExitCode::SUCCESS } else { EX_USAGE.into() };
        }
    };
    let options = match options.checked() {
        Ok(options) => options,
        Err(sentence) => {
            let _ = Options::command().error(ErrorKind::ValueValidation, sentence).print();
            return EX_USAGE.into();
        }
    };
    logging::init(options.verbose.into());
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            EX_OSERR.into()
        }
    }
}

/// Sockets first, then the user, then the background: what needs rights comes before they are given up, and what
/// fails is seen by whoever started it.
fn run(options: Options) -> io::Result<()> {
    process::allow_descriptors(options.connections)?;
    let listeners = Listeners::bind(&options)?;
    if let Some(user) = &options.user {
        process::become_user(user)?;
    }
    if options.daemon {
        process::daemonize()?;
    }
    let pid_file = options.pidfile.as_deref().map(PidFile::write).transpose()?;
    announce(&listeners, &options);
    let server = Server::serve(listeners, options)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(told_to_stop(&server))?;
    server.stop();
    drop(pid_file);
    Ok(())
}

fn announce(listeners: &Listeners, options: &Options) {
    if options.udp_port != 0 {
        tracing::warn!(
            port = options.udp_port,
            "UDP is not served: spoofed requests made memcached's UDP port an amplifier of attacks"
        );
    }
    if let Some(path) = &options.socket {
        tracing::info!("listening on {}", path.display());
    }
    let why = if options.listen.is_empty() { " (loopback only; -l names others)" } else { "" };
    for address in listeners.addresses() {
        tracing::info!("listening on {address}{why}");
    }
    tracing::info!(
        memory_mb = options.memory,
        fixed_tables_mb = leasehold::cache::FIXED_TABLE_BYTES >> 20,
        threads = options.threads,
        connections = options.connections,
        implicit_leases = ?options.implicit_leases,
        "leasehold {}",
        env!("CARGO_PKG_VERSION")
    );
}

async fn told_to_stop(server: &Server) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = server.stopped() => tracing::info!("a client asked to stop"),
    }
    Ok(())
}

/// As memcached exits when its command line makes no sense, and when the system says no (`sysexits.h`).
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;
