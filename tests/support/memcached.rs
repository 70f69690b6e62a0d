//! A real memcached, if one is installed: `memcached`, or the program named by the environment variable
//! `MEMCACHED`.

use std::env;
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longer than anything here takes; a test that comes near it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Memcached {
    child: Child,
    port: u16,
}

impl Memcached {
    /// `None` if it is not installed.
    pub fn start(flags: &str) -> Option<Memcached> {
        // The port is freed at once. If another process takes it meanwhile, only the connection fails.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let port_flag = port.to_string();
        // Its background threads hold items for moments, in which incr and decr do not pad with spaces.
        let threads = "no_lru_crawler,no_lru_maintainer";
        let child = Command::new(program())
            .args(["-l", "127.0.0.1", "-U", "0", "-t", "1", "-u", "nobody", "-o", threads, "-p", &port_flag])
            .args(flags.split_whitespace())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Memcached { child, port })
    }

    /// Connects, as soon as it listens.
    pub fn connect(&mut self) -> TcpStream {
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => return stream,
                Err(_) => std::thread::yield_now(),
            }
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "memcached ended at once");
        }
    }

    /// Whether it is the version that leasehold is compatible with.
    pub fn is_1_6_45(&self) -> bool {
        let output = Command::new(program()).arg("-V").output().expect("it has just been started");
        output.stdout.starts_with(b"memcached 1.6.45")
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> OsString {
    env::var_os("MEMCACHED").unwrap_or("memcached".into())
}
