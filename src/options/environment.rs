//! Flags from the environment: `LEASEHOLD_` and the long name of the flag, as in `LEASEHOLD_MEMORY_LIMIT=1g`.
//!
//! A flag on the command line takes precedence. Empty variables count as unset. A flag without a value is set
//! by `true`, `yes`, `on` or `1`, and `LEASEHOLD_VERBOSE` is a number. Lists are comma-separated.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, FromArgMatches};

/// Parses a command line; flags that it does not have come from the environment.
///
/// # Errors
/// If a flag or a variable is invalid; the message names it.
pub fn parse<P: FromArgMatches>(command: &Command, arguments: Vec<OsString>) -> Result<P, clap::Error> {
    let set: Vec<Variable> =
        command.get_arguments().filter_map(Variable::of).filter(Variable::is_set).collect();
    // Each alone first: otherwise the message would name a flag that nobody wrote.
    for variable in &set {
        let mut alone = with(command, std::slice::from_ref(variable));
        if let Err(error) = alone.try_get_matches_from_mut(["leasehold"]) {
            let text = error.to_string();
            let why = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            return Err(alone.error(ErrorKind::ValueValidation, format!("{}: {why}", variable.name)));
        }
    }
    let mut command = with(command, &set);
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The variables that look like flags and are none.
pub fn unknown_variables(command: &Command) -> Vec<String> {
    let known: Vec<Variable> = command.get_arguments().filter_map(Variable::of).collect();
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| is_mistyped(name, &known)).collect()
}

fn is_mistyped(name: &str, known: &[Variable]) -> bool {
    name.starts_with(PREFIX)
        && !OTHERS.iter().any(|other| name.starts_with(other))
        && known.iter().all(|variable| variable.name != name)
}

/// The variable of a flag.
struct Variable {
    flag: clap::Id,
    name: String,
}

impl Variable {
    /// `None` for flags that start no server, and for operands.
    fn of(arg: &Arg) -> Option<Variable> {
        let is_server = !arg.is_positional() && !WITHOUT.contains(&arg.get_id().as_str());
        let name = arg.get_long().unwrap_or(arg.get_id().as_str());
        let name = format!("{PREFIX}{}", name.replace('-', "_").to_ascii_uppercase());
        is_server.then(|| Variable { flag: arg.get_id().clone(), name })
    }

    fn is_set(&self) -> bool {
        env::var_os(&self.name).is_some_and(|value| !value.is_empty() && !is_of_kubernetes(&value))
    }
}

/// Beside a service named leasehold, Kubernetes sets `LEASEHOLD_PORT` to the URL of that service.
fn is_of_kubernetes(value: &OsStr) -> bool {
    value.as_encoded_bytes().starts_with(b"tcp://")
}

/// The command line with these flags from the environment.
fn with(command: &Command, variables: &[Variable]) -> Command {
    command.clone().mut_args(|arg| {
        let Some(variable) = variables.iter().find(|variable| variable.flag == *arg.get_id()) else {
            return arg;
        };
        // clap keeps names for ever; there are a few, read once.
        let name: &'static str = variable.name.clone().leak();
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            _ => arg,
        };
        arg.env(name).hide_env(true)
    })
}

const PREFIX: &str = "LEASEHOLD_";
/// Flags that print something instead of starting a server.
const WITHOUT: [&str; 4] = ["check_config", "help", "license", "version"];
/// Variables that belong to the unit file, and those that Kubernetes sets for a service named leasehold.
const OTHERS: [&str; 3] = ["LEASEHOLD_FLAGS", "LEASEHOLD_PORT_", "LEASEHOLD_SERVICE_"];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::options::Options;

    #[test]
    fn every_flag_of_a_server_has_a_variable() {
        let known: Vec<_> = Options::command().get_arguments().filter_map(Variable::of).collect();
        let names: Vec<_> = known.iter().map(|variable| &*variable.name).collect();
        for name in ["LEASEHOLD_LISTEN", "LEASEHOLD_MEMORY_LIMIT", "LEASEHOLD_ADMIN", "LEASEHOLD_DELIMITER"] {
            assert!(names.contains(&name), "{name} is none of {names:?}");
        }
        let flags = Options::command().get_arguments().filter(|arg| !arg.is_positional()).count();
        // clap adds the flag for help later.
        assert_eq!(names.len(), flags - 3);
        assert!(is_mistyped("LEASEHOLD_LISTN", &known) && !is_mistyped("LEASEHOLD_LISTEN", &known));
        assert!(!is_mistyped("LEASEHOLD_SERVICE_HOST", &known) && !is_mistyped("PATH", &known));
    }

    #[test]
    fn the_url_of_a_service_is_no_port() {
        assert!(
            is_of_kubernetes(OsStr::new("tcp://10.0.0.1:11211")) && !is_of_kubernetes(OsStr::new("11211"))
        );
    }
}
