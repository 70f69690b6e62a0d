//! Options and helpers that both modes of the load generator share: rounds, results, progress, and number
//! parsing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// The number of rounds, and the destination of results.
#[derive(Args, Clone, Debug)]
pub struct Course {
    /// Rounds of --compare
    #[arg(long, value_name = "NUM", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Also write the results as JSON; - for the standard output, where they replace the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Print progress every second, even if the standard error is not a terminal
    #[arg(long)]
    pub progress: bool,
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
