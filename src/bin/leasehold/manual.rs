//! `leasehold man` and `leasehold completions`: manual pages and shell completions, from the command line's
//! definition.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use leasehold::bench;
use leasehold::console::{Cli, Top};
use leasehold::options::Options;

use crate::events::EventsTool;
use crate::healthcheck::HealthCheck;
use crate::serve::Handover;

/// Print the manual page, in roff
#[derive(Parser)]
#[command(name = "man")]
pub struct Wanted {
    /// Subcommand to document instead of the server, such as bench, or bench stale
    subcommand: Vec<String>,
}

/// Print a script that completes the command line in a shell
#[derive(Parser)]
#[command(name = "completions")]
pub struct Script {
    /// Shell to print the script for
    shell: Shell,
}

/// Prints a manual page.
pub fn page(Wanted { subcommand }: Wanted) -> ExitCode {
    let whole = whole();
    if subcommand.is_empty() {
        return exit_code(write_page(whole, Some(REST)));
    }
    let found = subcommand.iter().try_fold(&whole, |command, name| command.find_subcommand(name));
    exit_code(match found {
        None => Err(io::Error::other(format!("there is no subcommand {}", subcommand.join(" ")))),
        Some(command) => {
            let command = command.clone().display_name(format!("leasehold-{}", subcommand.join("-")));
            write_page(command.bin_name(format!("leasehold {}", subcommand.join(" "))), None)
        }
    })
}

/// Prints a script that completes the command line.
pub fn completions(Script { shell }: Script) -> ExitCode {
    let mut script = Vec::new();
    // With bench's positional argument, zsh would complete the wrong options after `stale`.
    let mut whole = whole().mut_subcommand("bench", without_positionals);
    clap_complete::generate(shell, &mut whole, "leasehold", &mut script);
    exit_code(io::stdout().write_all(&script))
}

/// The exit code after printing.
fn exit_code(printed: io::Result<()>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leasehold: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The server's command line with its subcommands, which `main` dispatches without clap.
fn whole() -> Command {
    let server = Options::command().version(VERSION);
    // Without the ignored operands: zsh would count the subcommand as one of them.
    let flags = flags(&server);
    Command::new("leasehold")
        .version(VERSION)
        .about(server.get_about().cloned().unwrap_or_default())
        .long_about(server.get_long_about().cloned().unwrap_or_default())
        .args(flags)
        .disable_version_flag(true)
        // The binary has `--help`, but no subcommand `help`.
        .disable_help_subcommand(true)
        .subcommand(bench::Options::command().name("bench").bin_name("bench"))
        .subcommand(Cli::command())
        .subcommand(Script::command())
        .subcommand(Handover::command().version(VERSION).display_name("handover").bin_name("handover"))
        .subcommand(EventsTool::command())
        .subcommand(HealthCheck::command())
        .subcommand(Wanted::command())
        .subcommand(Top::command())
}

/// A command with its flags and subcommands only.
fn without_positionals(command: Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    Command::new("bench").about(about).args(flags(&command)).subcommands(command.get_subcommands().cloned())
}

fn flags(command: &Command) -> Vec<Arg> {
    command.get_arguments().filter(|argument| !argument.is_positional()).cloned().collect()
}

fn write_page(command: Command, rest: Option<&str>) -> io::Result<()> {
    // The fields of the title are positional, so that an empty date must be written as quotes.
    let man = Man::new(command.clone()).date("\"\"").manual("leasehold manual");
    let man = man.source(format!("leasehold {VERSION}"));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(rest.unwrap_or_default().as_bytes());
    io::stdout().write_all(&page)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Sections that are not generated from the flags.
const REST: &str = r#".SH SIGNALS
.TP
SIGTERM, SIGINT
Answer the requests that were read, and exit.
.TP
SIGUSR1
The same, and save the items to the file of \fB\-e\fR.
.TP
SIGHUP
Reload the certificates (\fB\-Z\fR), the users (\fB\-Y\fR), the policies (\fB\-\-config\fR) and the token
(\fB\-\-admin\-token\-file\fR). What cannot be read stays as it was, and the log warns.
.SH ENVIRONMENT
.TP
LEASEHOLD_LISTEN, LEASEHOLD_MEMORY_LIMIT, ...
Every flag, by LEASEHOLD_ and its long name; \fB\-D\fR is LEASEHOLD_DELIMITER. A flag on the command line takes precedence,
and both take precedence over the file of \fB\-\-config\fR. Lists are comma-separated, flags without a value are set by true,
LEASEHOLD_VERBOSE is a number, and empty variables count as unset.
.TP
LISTEN_FDS, NOTIFY_SOCKET, WATCHDOG_USEC
As systemd sets them: sockets to serve, and where to report start, stop and health.
.TP
RUST_LOG
Lines of the log by their origin, instead of \fB\-v\fR, as in leasehold=debug,mio=trace.
.TP
MEMCACHED_PORT_FILENAME
A file to write the ports to.
.SH "EXIT STATUS"
0 after a stop, 1 for invalid flags, 64 for flags that conflict and for \fB\-\-require\-secure\fR, 67 for a user that does
not exist, 71 for an error of the operating system.
.SH FILES
The server creates these files next to the file of \fB\-e\fR, with suffixes added to its name: .leasehold\-lock (locked by the
server), .leasehold\-handover (the socket for the next server) and, briefly, .leasehold\-new and .leasehold\-probe.
.SH "SEE ALSO"
\fBmemcached\fR(1)
"#;
