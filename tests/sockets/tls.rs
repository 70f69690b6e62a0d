//! TLS with real certificates over real sockets: verification of clients, renewal, and plain listeners.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::support::served::Process;
use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

/// A certificate authority, and a folder with its certificates, which is removed with it.
struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

type TlsClient = BufReader<StreamOwned<ClientConnection, TcpStream>>;

impl Authority {
    fn new(name: &str) -> Authority {
        let folder = std::env::temp_dir().join(format!("leasehold-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        let mut params = CertificateParams::new([]).expect("no names are legal");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("it may sign itself");
        let authority = Authority { folder, issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority.certify("server");
        authority.certify("client");
        authority
    }

    /// A new key and certificate, in files of that name.
    fn certify(&self, name: &str) {
        let key = key();
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a legal name");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("the folder is ours");
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(name)).expect("it was written here")
    }

    fn start(&self, flags: &str) -> Server {
        self.start_without_authorities(&format!("-o ssl_ca_cert={} {flags}", self.path("ca.pem")))
    }

    fn start_without_authorities(&self, flags: &str) -> Server {
        let files = format!("ssl_chain_cert={},ssl_key={}", self.path("server.pem"), self.path("server.key"));
        let line = format!("leasehold -p -1 -t 1 -Z -o {files} {flags}");
        let options = Options::try_parse_from(line.split_whitespace()).expect("legal flags");
        Server::start(options.checked().expect("flags that fit")).expect("the server starts")
    }

    /// A client's configuration: the authority it trusts, and optionally its own certificate.
    fn client(&self, has_certificate: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("ca.pem")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_root_certificates(roots);
        if !has_certificate {
            return Arc::new(builder.with_no_client_auth());
        }
        let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("it was written here");
        Arc::new(builder.with_client_auth_cert(vec![self.certificate("client.pem")], key).expect("they fit"))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).expect("it is ours");
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsClient {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a legal session");
    BufReader::new(StreamOwned::new(session, stream))
}

fn asks(client: &mut TlsClient, request: &str) -> std::io::Result<String> {
    client.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    client.read_line(&mut line)?;
    Ok(line)
}

#[track_caller]
fn answers(client: &mut TlsClient, request: &str, expected: &str) {
    let line = asks(client, request).expect("the server answers");
    assert_eq!(line.trim_end(), expected, "to {request}");
}

#[test]
fn values_of_all_sizes_go_through() {
    let authority = Authority::new("sizes");
    let server = authority.start("-I 8m");
    let mut client = connect(server.address(), &authority.client(false));
    answers(&mut client, "set k 0 0 1\r\nx\r\n", "STORED");
    let large = "y".repeat(8 << 20);
    answers(&mut client, &format!("set large 0 0 {}\r\n{large}\r\n", large.len()), "STORED");
    answers(&mut client, "get k large\r\n", "VALUE k 0 1");
    let mut rest = vec![0; "x\r\nVALUE large 0 8388608\r\n\r\nEND\r\n".len() + large.len()];
    client.read_exact(&mut rest).expect("all of it comes");
    assert!(rest.ends_with(b"yyy\r\nEND\r\n"));
    answers(&mut client, "set k 0 0 x\r\nversion\r\n", "CLIENT_ERROR bad command line format");
    server.stop();
}

#[cfg(feature = "console")]
#[test]
fn the_command_line_tools_verify_the_server() {
    let authority = Authority::new("console");
    authority.write("other.pem", &Authority::new("console-other").issuer.pem());
    let server = authority.start("-o ssl_verify_mode=1");
    let strict = authority.start("-o ssl_verify_mode=2");
    let ask_at = |server: &Server, file: &str, own: &str| {
        let (port, file) = (server.address().port(), authority.path(file));
        let line = format!("cli localhost:{port} --ca {file} {own}mn");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leasehold"));
        command.args(line.split(' ')).output().expect("the binary starts")
    };
    let ask = |file: &str| ask_at(&server, file, "");
    let own = format!("--cert {} --key {} ", authority.path("client.pem"), authority.path("client.key"));
    let identified = ask_at(&strict, "ca.pem", &own);
    assert_eq!((&identified.stdout[..], identified.status.code()), (&b"MN\n"[..], Some(0)), "{identified:?}");
    assert_eq!(ask_at(&strict, "ca.pem", "").status.code(), Some(2));
    let fails = |line: &str, expected: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leasehold"));
        let failed = command.args(line.split(' ')).output().expect("the binary starts");
        let why = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success() && why.contains(expected), "{line}: {why}");
    };
    let address = server.address();
    // The system may drop the alert that says so with the connection.
    fails(&format!("cli {address} mn"), "requires TLS");
    fails(&format!("cli {address} mn"), "add --ca");
    fails(&format!("top {address} --once"), "requires TLS");
    fails(&format!("bench {address} -n 1 -t 1 -c 1"), "requires TLS");
    fails(&format!("bench stale {address}"), "requires TLS");
    let plain = authority.start("-l notls:127.0.0.1");
    let address = format!("localhost:{}", plain.address().port());
    let hint = format!("cannot connect to {address}: ");
    fails(&format!("cli {address} --ca {} mn", authority.path("ca.pem")), &hint);
    fails(&format!("cli {address} --ca {} mn", authority.path("ca.pem")), "leave out --ca");
    plain.stop();
    strict.stop();
    let trusted = ask("ca.pem");
    assert_eq!((&trusted.stdout[..], trusted.status.code()), (&b"MN\n"[..], Some(0)), "{trusted:?}");
    let refused = ask("other.pem");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && why.contains("certificate"), "{why}");
    server.stop();
}

#[test]
fn client_certificates_are_required_where_configured() {
    let authority = Authority::new("verify");
    for (flags, has_certificate, is_accepted) in [
        ("-o ssl_verify_mode=0", false, true),
        ("-o ssl_verify_mode=1", false, true),
        ("-o ssl_verify_mode=1", true, true),
        ("-o ssl_verify_mode=2", false, false),
        ("-o ssl_verify_mode=2", true, true),
        ("-l mtls:127.0.0.1", false, false),
        ("-l mtls:127.0.0.1", true, true),
        ("-o ssl_verify_mode=2 -l btls:127.0.0.1", false, true),
    ] {
        let server = authority.start(flags);
        let mut client = connect(server.address(), &authority.client(has_certificate));
        let answer = asks(&mut client, "version\r\n").unwrap_or_default();
        assert_eq!(answer == "VERSION 1.6.45\r\n", is_accepted, "{flags}, {has_certificate}: {answer}");
        server.stop();
    }
}

/// The tests of python-binary-memcached start memcached so.
#[test]
fn optional_certificates_need_no_authorities() {
    let authority = Authority::new("optional");
    let server = authority.start_without_authorities("-o ssl_verify_mode=1");
    for has_certificate in [false, true] {
        answers(
            &mut connect(server.address(), &authority.client(has_certificate)),
            "version\r\n",
            "VERSION 1.6.45",
        );
    }
    server.stop();
}

/// Before, the server did not start.
#[test]
fn no_client_is_accepted_where_certificates_are_required_and_none_can_be_verified() {
    let authority = Authority::new("nothing");
    let server = authority.start_without_authorities("-l mtls:127.0.0.1");
    for has_certificate in [false, true] {
        let mut client = connect(server.address(), &authority.client(has_certificate));
        assert!(!asks(&mut client, "version\r\n").is_ok_and(|line| line.starts_with("VERSION")));
    }
    server.stop();
}

#[test]
fn certificates_of_another_authority_are_refused() {
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let server = authority.start("-o ssl_verify_mode=1");
    assert!(asks(&mut connect(server.address(), &other.client(false)), "version\r\n").is_err());
    assert_ne!(
        asks(&mut connect(server.address(), &other.client(true)), "version\r\n").unwrap_or_default(),
        "VERSION 1.6.45\r\n"
    );
    server.stop();
}

#[test]
fn certificates_are_reloaded_without_closing_connections() {
    let authority = Authority::new("renewed");
    let server = authority.start("");
    let config = authority.client(false);
    let mut client = connect(server.address(), &config);
    answers(&mut client, "version\r\n", "VERSION 1.6.45");
    let shown =
        |client: &TlsClient| client.get_ref().conn.peer_certificates().expect("it was shown")[0].clone();
    assert_eq!(shown(&client), authority.certificate("server.pem"));

    authority.certify("server");
    answers(&mut client, "refresh_certs\r\n", "OK");
    answers(&mut client, "version\r\n", "VERSION 1.6.45");
    let mut newcomer = connect(server.address(), &authority.client(false));
    answers(&mut newcomer, "version\r\n", "VERSION 1.6.45");
    assert_eq!(shown(&newcomer), authority.certificate("server.pem"));
    assert_ne!(shown(&client), shown(&newcomer));

    authority.write("server.pem", "nothing");
    let refused = asks(&mut client, "refresh_certs\r\n").expect("the server answers");
    assert!(refused.starts_with("SERVER_ERROR ") && refused.contains("server.pem"), "{refused}");
    answers(&mut connect(server.address(), &authority.client(false)), "version\r\n", "VERSION 1.6.45");
    server.stop();
}

/// A renewal needed a client that sends `refresh_certs`: the signal reloaded all other files.
#[test]
fn sighup_reloads_the_certificates() {
    let authority = Authority::new("hangup");
    let files = format!("{},ssl_key={}", authority.path("server.pem"), authority.path("server.key"));
    let mut process = Process::start(&format!("-p -1 -t 1 -Z -o ssl_chain_cert={files}"));
    let address = process.address();
    let shown = || {
        let mut client = connect(address, &authority.client(false));
        answers(&mut client, "version\r\n", "VERSION 1.6.45");
        client.get_ref().conn.peer_certificates().expect("it was shown")[0].clone()
    };
    assert_eq!(shown(), authority.certificate("server.pem"));
    authority.certify("server");
    process.signal(Signal::SIGHUP);
    process.logged("SIGHUP: reloaded certificates");
    let renewed = authority.certificate("server.pem");
    assert_eq!(shown(), renewed);
    authority.write("server.pem", "nothing");
    process.signal(Signal::SIGHUP);
    let line = process.logged("keeping the previous certificates");
    assert!(line.contains("WARN") && line.contains("server.pem"), "{line}");
    assert_eq!(shown(), renewed);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn sessions_are_resumed_if_the_cache_is_enabled() {
    let authority = Authority::new("resumed");
    for (flags, expected) in [("-o ssl_session_cache", HandshakeKind::Resumed), ("", HandshakeKind::Full)] {
        let server = authority.start(flags);
        let config = authority.client(false);
        let mut kinds = (0..2).map(|_| {
            let mut client = connect(server.address(), &config);
            answers(&mut client, "version\r\n", "VERSION 1.6.45");
            client.get_ref().conn.handshake_kind()
        });
        assert_eq!(
            [kinds.next(), kinds.next()],
            [Some(Some(HandshakeKind::Full)), Some(Some(expected))],
            "{flags}"
        );
        // As in memcached, new sessions are counted only then.
        let mut client = connect(server.address(), &config);
        client.get_mut().write_all(b"stats\r\n").expect("the server takes it");
        let lines = client.lines().map(|line| line.expect("a line")).take_while(|line| line != "END");
        let counted: Vec<String> = lines.filter(|line| line.starts_with("STAT ssl_new_sessions ")).collect();
        assert_eq!(counted.is_empty(), flags.is_empty(), "{flags}: {counted:?}");
        server.stop();
    }
}

#[test]
fn plain_text_is_accepted_only_on_a_plain_listener() {
    let authority = Authority::new("mixed");
    let server = authority.start("-l notls:127.0.0.1");
    let mut plain = BufReader::new(TcpStream::connect(server.address()).expect("the server listens"));
    let mut answer = String::new();
    plain.get_mut().write_all(b"refresh_certs\r\n").expect("the server takes it");
    plain.read_line(&mut answer).expect("the server answers");
    assert_eq!(answer, "OK\r\n");
    server.stop();

    let server = authority.start("");
    let mut plain = TcpStream::connect(server.address()).expect("the server listens");
    plain.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
    plain.write_all(b"version\r\n").expect("the server takes it");
    let mut received = Vec::new();
    // A TLS alert, and the end of the stream.
    let _ = plain.read_to_end(&mut received);
    assert!(!received.starts_with(b"VERSION"));
    let mut client = connect(server.address(), &authority.client(false));
    answers(&mut client, "version\r\n", "VERSION 1.6.45");
    client.get_mut().write_all(b"stats\r\n").expect("the server takes it");
    let mut lines = client.lines().map(|line| line.expect("a line"));
    assert!(lines.any(|line| line == "STAT ssl_handshake_errors 1"), "the plain connection was counted");
    server.stop();
}

#[test]
fn a_watcher_receives_failed_handshakes() {
    let authority = Authority::new("watched");
    let server = authority.start("");
    let mut watcher = connect(server.address(), &authority.client(false));
    answers(&mut watcher, "watch connevents\r\n", "OK");
    let mut plain = TcpStream::connect(server.address()).expect("the server listens");
    plain.write_all(b"version\r\n").expect("the server takes it");
    let mut lines = watcher.lines().map(|line| line.expect("a line"));
    for expected in [" type=conn_new ", " type=conntlserr fd=", " type=conn_close "] {
        let line = lines.next().expect("it goes on");
        assert!(line.contains(expected), "{line}");
    }
    server.stop();
}

/// A client could not distinguish a connection closed by the server from one cut by an attacker.
#[test]
fn the_server_closes_connections_with_close_notify() {
    let authority = Authority::new("goodbye");
    let config = authority.client(false);
    let receives_close_notify = |mut client: TlsClient| {
        let mut rest = String::new();
        client.read_to_string(&mut rest).expect("a close_notify");
        assert_eq!(rest, "");
    };
    let server = authority.start("--idle-timeout 1");
    let mut idle = connect(server.address(), &config);
    answers(&mut idle, "version\r\n", "VERSION 1.6.45");
    receives_close_notify(idle);

    let mut left = connect(server.address(), &config);
    answers(&mut left, "version\r\n", "VERSION 1.6.45");
    left.get_mut().conn.send_close_notify();
    left.get_mut().flush().expect("it is sent");
    receives_close_notify(left);

    let mut open = connect(server.address(), &config);
    answers(&mut open, "version\r\n", "VERSION 1.6.45");
    server.stop();
    receives_close_notify(open);
}

/// Longer than anything here takes; a test that comes near it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
