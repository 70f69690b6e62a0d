//! `leasehold top`: a live view of a server's activity.
//!
//! A `sample` holds the server's statistics at one moment, `view` the changes between two samples (`source`:
//! those of sources of events), `screen` the layout, and `live` the loop.

mod live;
mod sample;
mod screen;
mod source;
mod view;

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;
use tokio::time;

use self::sample::Sample;
use self::view::View;
use super::connect::Connect;
use super::link::{Link, Trouble};
use super::verdict::Verdict;
use crate::clock::Clock;

/// Watch a server's activity: commands, hits, leases, refused stale fills, memory.
///
/// Works with any server that speaks memcached's protocol; missing statistics are left out. Keys: q quits, p
/// pauses, tab shows the policies, up and down scroll through them.
#[derive(Debug, Parser)]
#[command(name = "top")]
pub struct Top {
    /// HOST:PORT, or the path of a Unix socket [default: 127.0.0.1:11211]
    server: Option<PathBuf>,

    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,

    /// Take two samples, print the changes between them, and exit; works without a terminal
    #[arg(long)]
    once: bool,

    /// Like --once, as one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Top {
    /// The subcommand, from its flags to its exit code.
    pub fn main(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(trouble) => {
                eprintln!("leasehold top: {trouble}");
                Verdict::Failed.code().into()
            }
        }
    }

    fn run(&self) -> Result<(), Trouble> {
        let target = self.connect.target(self.server.as_deref().map(OsStr::new))?;
        let (name, link) = (target.server.to_string(), Link::new(target));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Trouble::Setup)?;
        if self.once || self.json || !io::stdout().is_terminal() {
            return runtime.block_on(self.once(link, &name));
        }
        let mut terminal = ratatui::try_init().map_err(Trouble::Output)?;
        let shown = runtime.block_on(live::run(&mut terminal, link, self.interval, name));
        ratatui::restore();
        shown.map_err(Trouble::Output)
    }

    async fn once(&self, mut link: Link, server: &str) -> Result<(), Trouble> {
        let clock = Clock::system();
        let before = Sample::take(&mut link, &clock).await?;
        time::sleep(self.interval).await;
        let view = View::new(Some(&before), &Sample::take(&mut link, &clock).await?);
        let text = if self.json { format!("{}\n", view.json(server)) } else { screen::text(server, &view) };
        io::stdout().write_all(text.as_bytes()).map_err(Trouble::Output)
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds) if INTERVALS.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number from 0.1 to 86400"),
    }
}

/// In seconds. Sampling costs the server time, too.
const INTERVALS: RangeInclusive<f64> = 0.1..=86_400.0;
