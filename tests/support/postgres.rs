//! A real PostgreSQL, if one is installed as Debian installs it: in its own folder, on a free port.
//!
//! It ends with this process, however that ends: a shell beside it waits for the end of its input. If the
//! environment variable `REQUIRE_POSTGRES` is 1, a missing PostgreSQL is a failure.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use postgres_protocol::message::frontend;

/// Longer than anything here takes; a test that comes near it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A row as text.
pub type Row = Vec<Option<String>>;

pub struct Cluster {
    folder: PathBuf,
    pub port: u16,
    shell: Option<Child>,
}

/// A connection for statements.
pub struct Sql {
    input: BytesMut,
    stream: TcpStream,
}

impl Cluster {
    /// The one that most tests use, each with its own database; `None` if PostgreSQL is not installed.
    pub fn shared() -> Option<&'static Cluster> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start("")).as_ref()
    }

    /// A new one, with these lines in its configuration.
    pub fn start(configuration: &str) -> Option<Cluster> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(programs) = programs() else {
            let is_required = std::env::var("REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
            assert!(!is_required, "PostgreSQL is not installed: run .ci/install postgresql");
            println!("skipped: PostgreSQL is not installed");
            return None;
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("leasehold-postgres-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new folder");
        if let Some(user) = server_user() {
            nix::unistd::chown(&folder, Some(user.uid), Some(user.gid)).expect("we are root");
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let mut initdb = as_server(programs.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(folder.join("data"));
        let output = initdb.output().expect("it is installed");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut cluster = Cluster { folder, port, shell: None };
        let sockets = cluster.folder.display();
        cluster.configure(&format!("{BASE}unix_socket_directories = '{sockets}'\n{configuration}\n"));
        cluster.run();
        Some(cluster)
    }

    /// Appends to its configuration, for the next start or reload.
    pub fn configure(&self, lines: &str) {
        let path = self.folder.join("data/postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("initdb has made it");
        file.write_all(lines.as_bytes()).expect("it can be written");
    }

    /// Writes a file that only the server may read, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(name);
        fs::write(&path, text).expect("the folder is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        if let Some(user) = server_user() {
            nix::unistd::chown(&path, Some(user.uid), Some(user.gid)).expect("we are root");
        }
        path.display().to_string()
    }

    /// Replaces the rules of who may log in.
    pub fn rules(&self, lines: &str) {
        fs::write(self.folder.join("data/pg_hba.conf"), lines).expect("the folder is ours");
    }

    /// Starts it, and waits until it answers.
    pub fn run(&mut self) {
        let programs = programs().expect("it was started before");
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log"));
        let log = log.expect("the folder is ours");
        loop {
            let mut shell = as_server("/bin/sh");
            shell.args(["-c", SHELL, "sh"]).arg(&self.folder).arg(programs.join("postgres"));
            shell.arg("-D").arg(self.folder.join("data")).args(["-p", &self.port.to_string()]);
            shell
                .stdin(Stdio::piped())
                .stdout(log.try_clone().expect("a file"))
                .stderr(log.try_clone().expect("a file"));
            let mut shell = shell.spawn().expect("there is a shell");
            let is_up = self.wait(&mut shell);
            self.shell = Some(shell);
            if is_up {
                return;
            }
            // After a kill, the processes of the former server may take a moment to end.
        }
    }

    /// Whether it answers, and does not end before.
    fn wait(&self, shell: &mut Child) -> bool {
        loop {
            if Sql::try_connect(self.port, "postgres").is_some() {
                return true;
            }
            if shell.try_wait().expect("it is a child").is_some() {
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// The folder of its Unix socket.
    pub fn sockets(&self) -> String {
        self.folder.display().to_string()
    }

    /// Ends it without any notice, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.end("keep\n");
    }

    /// Asks it to end its connections and itself (a fast shutdown).
    pub fn stop(&self) {
        self.signal(Signal::SIGINT);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.shell.as_mut().is_none_or(|shell| shell.try_wait().expect("it is a child").is_some())
    }

    fn signal(&self, signal: Signal) {
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
        let pid = file.lines().next().and_then(|line| line.parse().ok()).expect("the first line is its pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Makes it a standby of nobody, and promotes it: the log continues on a new timeline.
    pub fn promote(&mut self) {
        self.kill();
        self.file("data/standby.signal", "");
        self.run();
        self.sql("postgres").run("SELECT pg_promote()");
    }

    /// A new database, in which there is nothing.
    pub fn database(&self, name: &str) -> Sql {
        self.sql("postgres").run(&format!("CREATE DATABASE \"{name}\""));
        self.sql(name)
    }

    pub fn sql(&self, database: &str) -> Sql {
        Sql::try_connect(self.port, database).expect("it runs")
    }

    fn end(&mut self, word: &str) {
        if let Some(mut shell) = self.shell.take() {
            let mut input = shell.stdin.take().expect("it is a pipe");
            let _ = input.write_all(word.as_bytes());
            drop(input);
            let _ = shell.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end("");
    }
}

impl Sql {
    fn try_connect(port: u16, database: &str) -> Option<Sql> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        stream.set_nodelay(true).expect("it is connected");
        let mut sql = Sql { input: BytesMut::new(), stream };
        let mut output = BytesMut::new();
        let parameters = [("user", "postgres"), ("database", database)];
        frontend::startup_message(parameters, &mut output).expect("legal parameters");
        sql.stream.write_all(&output).ok()?;
        sql.rows().ok().map(|_| sql)
    }

    /// A connection to a server that may be down.
    pub fn try_open(port: u16, database: &str) -> Option<Sql> {
        Sql::try_connect(port, database)
    }

    /// As [`Sql::run`], for a server that may end.
    pub fn try_run(&mut self, statements: &str) -> Option<Vec<Row>> {
        let mut output = BytesMut::new();
        frontend::query(statements, &mut output).expect("no zero bytes");
        self.stream.write_all(&output).ok()?;
        self.rows().ok()
    }

    /// Executes statements, and returns the rows of all of them.
    #[track_caller]
    pub fn run(&mut self, statements: &str) -> Vec<Row> {
        let mut output = BytesMut::new();
        frontend::query(statements, &mut output).expect("no zero bytes");
        self.stream.write_all(&output).expect("the server runs");
        self.rows().unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// The first column of the only row.
    #[track_caller]
    pub fn value(&mut self, statement: &str) -> String {
        let rows = self.run(statement);
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next());
        value.flatten().unwrap_or_else(|| panic!("{statement}: no value"))
    }

    fn message(&mut self) -> Option<(u8, BytesMut)> {
        let (head, rest) = self.input.split_first_chunk::<5>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let tag = head[0];
        if rest.len() < length {
            return None;
        }
        self.input.advance(5);
        Some((tag, self.input.split_to(length)))
    }

    fn rows(&mut self) -> Result<Vec<Row>, String> {
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            while let Some((tag, body)) = self.message() {
                match tag {
                    b'D' => rows.push(row(&body[2..])),
                    b'E' => failure = Some(String::from_utf8_lossy(&body).replace('\0', " ")),
                    b'Z' => return failure.map_or(Ok(rows), Err),
                    _ => {}
                }
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(failure.unwrap_or_else(|| "closed".to_owned())),
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

fn row(mut bytes: &[u8]) -> Row {
    let mut row = Row::new();
    while bytes.has_remaining() {
        row.push(usize::try_from(bytes.get_i32()).ok().map(|length| {
            let (value, rest) = bytes.split_at(length);
            bytes = rest;
            String::from_utf8_lossy(value).into_owned()
        }));
    }
    row
}

/// The newest installed version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<_> =
        versions.filter_map(|entry| entry.ok().map(|it| it.path().join("bin"))).collect();
    versions.retain(|programs| programs.join("postgres").exists() && programs.join("initdb").exists());
    versions.sort();
    versions.pop()
}

/// PostgreSQL refuses to run as root.
fn server_user() -> Option<User> {
    let is_root = Uid::effective().is_root();
    is_root.then(|| User::from_name("postgres").ok().flatten().expect("the package makes this user"))
}

fn as_server(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir("/");
    if let Some(user) = server_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Runs the server until the input ends, and then removes the folder unless it is to be kept. If the server
/// ends by itself, so does the shell.
const SHELL: &str = r#"folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read -r word <&3; [ "$word" = keep ] || touch "$folder/over"; kill -QUIT "$server"; } & reader=$!
wait "$server"
kill "$reader"
[ ! -e "$folder/over" ] || rm -rf "$folder"
"#;

const BASE: &str = "
listen_addresses = '127.0.0.1'
wal_level = logical
max_connections = 60
max_replication_slots = 32
max_wal_senders = 32
shared_buffers = 16MB
fsync = off
";
