//! The server's process, its successors, and what they are asked and measured.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::pause;

/// A process that is killed when this is dropped.
struct Process(Child);

/// A running server. Its log is a pipe that is full from the start on.
pub struct Server {
    pub address: SocketAddr,
    process: Process,
    flags: Vec<String>,
    folder: PathBuf,
    log: PipeWriter,
    program: PathBuf,
    /// The fixed tables, as its log said, in bytes.
    pub table_bytes: usize,
    /// Open, and never read again.
    _unread: BufReader<PipeReader>,
}

impl Server {
    pub fn start(program: PathBuf, memory_mb: usize) -> io::Result<Server> {
        let folder = env::temp_dir().join(format!("leasehold-soak-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let memory_mb = memory_mb.to_string();
        let flags = [
            "-p",
            "-1",
            "-t",
            "2",
            "-v",
            "-m",
            &memory_mb,
            "-e",
            &path("items"),
            "--config",
            &path("config"),
        ];
        let flags = flags.map(str::to_owned).to_vec();
        write_config(&folder, 0)?;
        let (reader, log) = io::pipe()?;
        let process = run(&program, &[], &flags, &log)?;
        let mut unread = BufReader::new(reader);
        let (mut address, mut tables_mb) = (None, None);
        while address.is_none() || tables_mb.is_none() {
            let mut line = String::new();
            if unread.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server does not start"));
            }
            let after = |text: &str| Some(line.split_once(text)?.1.split_whitespace().next()?.to_owned());
            address = address.or_else(|| after("listening on ")?.parse().ok());
            tables_mb = tables_mb.or_else(|| after("fixed_tables_mb=")?.parse::<usize>().ok());
        }
        fill(log.try_clone()?);
        let address = address.expect("the loop has found it");
        let table_bytes = (tables_mb.expect("the loop has found it") + 1) << 20;
        Ok(Server { address, process, flags, folder, log, program, table_bytes, _unread: unread })
    }

    /// Has a successor take its place.
    pub fn hand_over(&mut self) -> io::Result<()> {
        let successor = run(&self.program, &["handover"], &self.flags, &self.log)?;
        let mut former = std::mem::replace(&mut self.process, successor);
        let status = loop {
            if let Some(status) = self.process.0.try_wait()? {
                return Err(io::Error::other(format!("the successor exited: {status}")));
            }
            if let Some(status) = former.0.try_wait()? {
                break status;
            }
            pause(5);
        };
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the former server exited: {status}")))
        }
    }

    /// Changes a policy, and has the server read it.
    pub fn reload(&self, round: u64) -> io::Result<()> {
        write_config(&self.folder, round)?;
        self.signal(Signal::SIGHUP)
    }

    pub fn resident_bytes(&self) -> io::Result<usize> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.process.0.id()))?;
        let field = |nth| statm.split(' ').nth(nth).and_then(|pages| pages.parse::<usize>().ok());
        let pages = field(RESIDENT).zip(field(OF_FILES)).map(|(resident, of_files)| resident - of_files);
        pages.map(|pages| pages * 4096).ok_or_else(|| io::Error::other("no such field in statm"))
    }

    /// Ends it, which must succeed.
    pub fn stop(mut self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.process.0.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the server exited: {status}"))) }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(Pid::from_raw(self.process.0.id() as i32), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn run(program: &Path, words: &[&str], flags: &[String], log: &PipeWriter) -> io::Result<Process> {
    let mut command = Command::new(program);
    command.args(words).args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone()?);
    command.spawn().map(Process)
}

/// Fills the pipe, in a thread that waits for room until the end.
fn fill(mut log: PipeWriter) {
    thread::spawn(move || while log.write_all(&[b'.'; 4096]).is_ok() {});
}

fn write_config(folder: &Path, round: u64) -> io::Result<()> {
    let text = format!("[prefix.\"row:\"]\nttl = {}\n", 1_000 + round);
    fs::write(folder.join("new"), text)?;
    fs::rename(folder.join("new"), folder.join("config"))
}

/// Places of fields in `/proc/PID/statm`: resident pages, and those of them that belong to files.
const RESIDENT: usize = 1;
const OF_FILES: usize = 2;
