//! `leasehold man` and `leasehold completions`: the command line as the shell and the reader of manuals want
//! it.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use leasehold::bench;
use leasehold::console::{Cli, Top};
use leasehold::options::Options;

use crate::healthcheck::HealthCheck;
use crate::serve::Handover;

/// Print the manual page, in roff
#[derive(Parser)]
#[command(name = "man")]
pub struct Wanted {
    /// Subcommand to document instead of the server, such as bench, or bench stale
    subcommand: Vec<String>,
}

/// Print a script by which a shell completes the command line
#[derive(Parser)]
#[command(name = "completions")]
pub struct Script {
    /// Shell to write for
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
    // zsh would count the server among the words before `stale`, and complete the wrong options behind it.
    let mut whole = whole().mut_subcommand("bench", without_words);
    clap_complete::generate(shell, &mut whole, "leasehold", &mut script);
    exit_code(io::stdout().write_all(&script))
}

/// The exit code of what was printed.
fn exit_code(printed: io::Result<()>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leasehold: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The server's command line with its subcommands, which the binary distinguishes by itself.
fn whole() -> Command {
    let server = Options::command().version(VERSION);
    // Not the words that memcached takes for nothing: zsh would count the subcommand as one of them.
    let flags = flags(&server);
    Command::new("leasehold")
        .version(VERSION)
        .about(server.get_about().cloned().unwrap_or_default())
        .long_about(server.get_long_about().cloned().unwrap_or_default())
        .args(flags)
        .disable_version_flag(true)
        // The binary has no `help` among them; `--help` it has.
        .disable_help_subcommand(true)
        .subcommand(bench::Options::command().name("bench").bin_name("bench"))
        .subcommand(Cli::command())
        .subcommand(Script::command())
        .subcommand(Handover::command().version(VERSION).display_name("handover").bin_name("handover"))
        .subcommand(HealthCheck::command())
        .subcommand(Wanted::command())
        .subcommand(Top::command())
}

/// A command with its flags and subcommands only.
fn without_words(command: Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    Command::new("bench").about(about).args(flags(&command)).subcommands(command.get_subcommands().cloned())
}

fn flags(command: &Command) -> Vec<Arg> {
    command.get_arguments().filter(|argument| !argument.is_positional()).cloned().collect()
}

fn write_page(command: Command, rest: Option<&str>) -> io::Result<()> {
    // The title's fields stand in a row, and the date's would be missing: an empty one is written as quotes.
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

/// Sections that no flag describes.
const REST: &str = r#".SH SIGNALS
.TP
SIGTERM, SIGINT
Answer what was read, and end.
.TP
SIGUSR1
The same, and leave the values in the file of \fB\-e\fR.
.TP
SIGHUP
Read the users (\fB\-Y\fR), the policies (\fB\-\-config\fR) and the token (\fB\-\-admin\-token\-file\fR) again.
.SH ENVIRONMENT
.TP
LISTEN_FDS, NOTIFY_SOCKET, WATCHDOG_USEC
As systemd sets them: sockets to serve, and where to report start, stop and health.
.TP
MEMCACHED_PORT_FILENAME
A file to write the ports to.
.SH "EXIT STATUS"
0 after a stop, 1 for flags that cannot be read, 64 for flags that do not fit each other or \fB\-\-require\-secure\fR,
67 for a user that does not exist, 71 when the system says no.
.SH FILES
Beside the file of \fB\-e\fR stand, with these endings, .leasehold\-lock (held by the server), .leasehold\-handover (the socket
at which the next server asks) and, for a moment, .leasehold\-new and .leasehold\-probe.
.SH "SEE ALSO"
\fBmemcached\fR(1)
"#;
