//! The server's command line.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use leasehold::server::process::{self, PidFile};
use leasehold::server::{Listeners, Options, Server, logging};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anybody can know that this process runs, so that no signal finds it unprepared.
    let signals = runtime.block_on(async { Signals::catch() })?;
    let pid_file = options.pidfile.as_deref().map(PidFile::write).transpose()?;
    announce(&listeners, &options);
    let server = Server::serve(listeners, options)?;
    runtime.block_on(told_to_stop(&server, signals));
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
        fixed_tables_mb = options.cache().fixed_table_bytes() >> 20,
        threads = options.threads,
        connections = options.connections,
        implicit_leases = ?options.implicit_leases,
        "leasehold {}",
        env!("CARGO_PKG_VERSION")
    );
}

/// The signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

async fn told_to_stop(server: &Server, mut signals: Signals) {
    tokio::select! {
        _ = signals.terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = signals.interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = server.stopped() => tracing::info!("a client asked to stop"),
    }
}

/// As memcached exits when its command line makes no sense, and when the system says no (`sysexits.h`).
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;
