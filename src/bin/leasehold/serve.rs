//! The server: what the binary is without a subcommand, with memcached's flags and exit codes; and
//! `handover`, which is a server that takes the place of another.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use leasehold::admin::{self, Admin};
use leasehold::command::Users;
use leasehold::events::config::SourceConfig;
use leasehold::handover::{self, Predecessor, Successor};
use leasehold::options::{Options, PolicyOptions, read_users};
use leasehold::pages;
use leasehold::process::signals::Signals;
use leasehold::process::{self, Inherited, PidFile, logging, systemd};
use leasehold::protocol::Shutdown;
use leasehold::server::{Listeners, Prepared, Server};
use leasehold::snapshot::{self, Boot};
use tokio::sync::oneshot;

use crate::EXIT_FAILURE;
use crate::announcement::announce;

/// The command line of `leasehold handover`.
// The description is an attribute, because the server's would override a comment.
#[derive(Parser)]
#[command(name = "handover", bin_name = "leasehold handover", help_template = HELP, after_help = "", about = HANDOVER, long_about = format!("{HANDOVER}.\n\n{HANDED_OVER}"))]
pub struct Handover {
    #[command(flatten)]
    options: Options,
}

/// Serves until a signal or a client stops it.
pub fn main(options: Options) -> ExitCode {
    serve(options, Mode::Start)
}

/// Takes over from the server that uses the same snapshot file, then serves as [`main`] does.
pub fn handover(Handover { options }: Handover) -> ExitCode {
    serve(options, Mode::Takeover)
}

fn serve(options: Options, mode: Mode) -> ExitCode {
    if options.license {
        print!("memcached 1.6.45\nleasehold {}\n\n{LICENSE}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let options = match options.checked() {
        Ok(options) => options,
        Err(sentence) => {
            let _ = Options::command().error(ErrorKind::ValueValidation, sentence).print();
            return EX_USAGE.into();
        }
    };
    if let (true, Some(path)) = (options.policies.check_config, &options.policies.config) {
        options.policies.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
        println!("{} is valid", path.display());
        return ExitCode::SUCCESS;
    }
    logging::init(options.verbose.into(), options.log_format);
    options.policies.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let code = match run(options, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            tracing::error!("{error}");
            code.into()
        }
    };
    logging::end();
    code
}

/// How a server begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// No other server is running.
    Start,
    /// It takes over from a running server: `leasehold handover`.
    Takeover,
}

/// Why the server did not start or stop as it should.
struct Failure {
    /// The exit code of the process.
    code: u8,
    error: io::Error,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure { code: EX_OSERR, error }
    }
}

/// Opens sockets, switches users, goes into the background, and serves. This order opens sockets while the
/// process has the rights, and reports failures before it leaves the terminal. A predecessor is stopped last.
fn run(mut options: Options, mode: Mode) -> Result<(), Failure> {
    process::allow_descriptors(options.connections)?;
    process::mappings().into_iter().for_each(pages::allow_mappings);
    if options.enable_coredumps {
        process::allow_cores()?;
    }
    if options.lock_memory {
        process::allow_locked_memory()?;
    }
    let users = options.users().map_err(|error| Failure { code: EXIT_FAILURE, error })?;
    let (predecessor, mut inherited) = inherit(&options, mode)?;
    let admin = Admin::bind(&options.admin, &mut inherited)?;
    check_exposure(&options.exposed(&inherited)?, &options)?;
    let listeners = Listeners::bind(&options, inherited)?;
    if let Some(path) = std::env::var_os(PORT_FILE_VARIABLE) {
        or_warn(process::write_ports(path.as_ref(), &listeners.addresses()));
    }
    if let Some(user) = &options.user {
        process::become_user(user).map_err(|error| Failure { code: EX_NOUSER, error })?;
    }
    if options.daemon {
        go_into_background(&mut options)?;
    }
    logging::begin_waiting();
    // A daemon does not inherit memory locks.
    if options.lock_memory {
        process::lock_memory()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Caught before the process announces itself, so that no signal arrives too early.
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let files = Files {
        admin: admin.as_ref(),
        auth_file: options.auth_file.clone(),
        policies: options.policies.clone(),
        sources: options.policies.events().sources.clone(),
    };
    let watchdog = systemd::watchdog().or(predecessor.as_ref().and_then(|former| former.watchdog));
    let Some((prepared, pid_file)) =
        runtime.block_on(start(predecessor, listeners, users, options, &mut signals))?
    else {
        systemd::stopping();
        return Ok(());
    };
    if let Some(admin) = &admin {
        tracing::info!("admin at http://{}/", admin.address());
    }
    let (server, end) = runtime.block_on(serve_until_the_end(prepared, signals, files, watchdog))?;
    Ok(stop(server, end, pid_file)?)
}

/// The admin address is served from the beginning, also while sources of events are tried.
async fn serve_until_the_end(
    prepared: Prepared,
    signals: Signals,
    files: Files<'_>,
    watchdog: Option<Duration>,
) -> io::Result<(Server, End)> {
    let (admin, view) = (files.admin, prepared.view());
    let serving = async {
        let server = in_a_thread("start", || prepared.serve()).await?;
        systemd::ready();
        let end = ended(&server, signals, files, watchdog).await;
        Ok((server, end))
    };
    tokio::select! {
        served = serving => served,
        failed = admin::serve(admin, view) => failed.map(|never| match never {}),
    }
}

fn stop(server: Server, end: End, pid_file: Option<PidFile>) -> io::Result<()> {
    match end {
        End::Stop(how) => {
            systemd::stopping();
            match how {
                Shutdown::AtOnce => server.stop(),
                Shutdown::Graceful => server.stop_gracefully()?,
            }
        }
        End::HandOver(successor) => {
            systemd::main_pid(successor.pid);
            let completion = server.hand_over(successor);
            drop(pid_file);
            completion.send();
        }
    }
    Ok(())
}

/// Logs or refuses public addresses without protection.
fn check_exposure(exposed: &[SocketAddr], options: &Options) -> Result<(), Failure> {
    let all = exposed.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    match (exposed.is_empty(), options.safety.require_secure) {
        (true, _) => Ok(()),
        (false, false) => {
            tracing::warn!("clients that reach {all} can read, change and delete everything: {REMEDIES}");
            Ok(())
        }
        (false, true) => {
            let why = format!(
                "--require-secure: clients that reach {all} could read, change and delete everything: {REMEDIES}"
            );
            Err(Failure { code: EX_USAGE, error: io::Error::other(why) })
        }
    }
}

/// Loads the items, and prepares to accept connections; `None` if a signal came before.
async fn start(
    predecessor: Option<Predecessor>,
    listeners: Listeners,
    users: Option<Users>,
    options: Options,
    signals: &mut Signals,
) -> io::Result<Option<(Prepared, Option<PidFile>)>> {
    let path = options.pidfile.clone();
    let write = || path.as_deref().and_then(|path| or_warn(PidFile::write(path)));
    // A predecessor removes its own pid file before it exits.
    let own = predecessor.is_none().then(write);
    announce(&listeners, &options);
    let boot = tokio::select! {
        // If the load has finished, the server starts, so that the items can be saved again.
        biased;
        boot = boot(predecessor, options.clone()) => boot?,
        why = signals.end.at_once() => {
            tracing::info!("stopping: {why}, before serving started");
            return Ok(None);
        }
    };
    Ok(Some((Server::prepare(boot, listeners, users, options)?, own.unwrap_or_else(write))))
}

/// Loads the initial cache in its own thread, which ends with the process if a signal comes first.
async fn boot(predecessor: Option<Predecessor>, options: Options) -> io::Result<Boot> {
    let load = move || match predecessor {
        None => Boot::resume(&options),
        Some(predecessor) => handover::take_over(predecessor, &options),
    };
    in_a_thread("memory", load).await
}

/// Waits for work that blocks.
async fn in_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    // Sending fails only if nobody waits any more.
    thread::Builder::new().name(name.to_owned()).spawn(move || sender.send(work()).ok())?;
    done.await.expect("the work does not panic")
}

/// The sockets that exist already, and the server that serves them.
fn inherit(options: &Options, mode: Mode) -> io::Result<(Option<Predecessor>, Inherited)> {
    match (mode, &options.memory_file) {
        (Mode::Start, _) => Ok((None, Inherited::from_systemd()?)),
        (Mode::Takeover, None) => Err(io::Error::other("handover needs the -e FILE of the running server")),
        (Mode::Takeover, Some(file)) => {
            let (predecessor, inherited) = Predecessor::ask(file, options.user.as_deref())?;
            Ok((Some(predecessor), inherited))
        }
    }
}

fn go_into_background(options: &mut Options) -> io::Result<()> {
    // A daemon's paths begin at the root.
    let Options { admin, auth_file, memory_file, policies, .. } = &mut *options;
    for path in [&mut admin.token_file, auth_file, memory_file, &mut policies.config] {
        *path = path.take().map(std::path::absolute).transpose()?;
    }
    // This is the last chance to report an error to the caller.
    options.memory_file.as_deref().map(snapshot::probe).transpose()?;
    // Core files are written to the folder that it runs in.
    process::daemonize(options.enable_coredumps, options.verbose > 0 || logging::is_journal())
}

/// As in memcached, the server also runs if it cannot write its pid file or port file.
fn or_warn<T>(written: io::Result<T>) -> Option<T> {
    written.inspect_err(|error| tracing::warn!("{error}; continuing without it")).ok()
}

/// The way a server ends.
enum End {
    HandOver(Successor),
    Stop(Shutdown),
}

async fn ended(
    server: &Server,
    mut signals: Signals,
    mut files: Files<'_>,
    watchdog: Option<Duration>,
) -> End {
    let mut successor = pin!(server.successor(files.admin.map(Admin::socket), watchdog));
    let mut alive = pin!(send_heartbeats(server, watchdog));
    let (how, why) = loop {
        tokio::select! {
            _ = signals.hangup.recv() => files.reload(server),
            end = signals.end.recv() => break end,
            how = server.stopped() => break (how, "requested by a client"),
            successor = &mut successor => {
                tracing::info!("stopping: process {} takes over", successor.pid);
                return End::HandOver(successor);
            }
            () = &mut alive => {}
        }
    };
    tracing::info!("stopping: {why}");
    End::Stop(how)
}

/// Pings systemd's watchdog as long as all threads respond.
async fn send_heartbeats(server: &Server, watchdog: Option<Duration>) {
    let Some(period) = watchdog else { return pending().await };
    loop {
        tokio::time::sleep(period / 3).await;
        server.heartbeat().await;
        systemd::alive();
    }
}

/// The files that are reloaded at a SIGHUP.
struct Files<'s> {
    admin: Option<&'s Admin>,
    auth_file: Option<PathBuf>,
    policies: PolicyOptions,
    /// The sources that run.
    sources: Vec<SourceConfig>,
}

impl Files<'_> {
    /// Reloads certificates, users, policies and the admin token.
    fn reload(&mut self, server: &Server) {
        let users = self.auth_file.as_deref().map(|path| {
            server.set_users(read_users(path)?);
            Ok(())
        });
        let policies = self.policies.config.is_some().then(|| {
            self.policies.read().map_err(io::Error::other)?;
            self.policies.warnings().iter().for_each(|warning| tracing::warn!("SIGHUP: {warning}"));
            if self.policies.events().sources != self.sources {
                tracing::warn!(
                    "SIGHUP: the [source] tables differ from the sources that run: they take effect at the next start"
                );
            }
            server.set_policies(self.policies.policies());
            server.set_rules(Arc::clone(&self.policies.events().rules));
            Ok(())
        });
        let token = self.admin.filter(|admin| admin.has_token()).map(Admin::read_token);
        let certificates = server.reload_certificates();
        let all =
            [("certificates", certificates), ("policies", policies), ("token", token), ("users", users)];
        if all.iter().all(|(_, read)| read.is_none()) {
            tracing::info!("SIGHUP: no file to reload");
        }
        for (what, read) in all {
            match read {
                None => {}
                Some(Err(error)) => tracing::warn!("SIGHUP: {error}; keeping the previous {what}"),
                Some(Ok(())) => tracing::info!("SIGHUP: reloaded {what}"),
            }
        }
    }
}

const REMEDIES: &str = "enable TLS (-Z -o ssl_chain_cert=FILE) or authentication (-Y FILE)";
const HELP: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}";
const HANDOVER: &str =
    "Take over the sockets and the values of the running server that uses the same -e file";
const HANDED_OVER: &str = "The flags are those of the new server. The old server serves until the new one is ready, then \
answers the requests that it has read, writes its values and exits; no requests are served in between. See docs/upgrade.md.";
const LICENSE: &str = include_str!("../../../LICENSE");
/// The environment variable that names the file for the ports; memcached's tests use it.
const PORT_FILE_VARIABLE: &str = "MEMCACHED_PORT_FILENAME";
/// memcached's exit codes (`sysexits.h`): conflicting flags, an unknown user, and errors of the operating
/// system. Invalid flags exit with `EXIT_FAILURE`.
const EX_USAGE: u8 = 64;
const EX_NOUSER: u8 = 67;
const EX_OSERR: u8 = 71;
