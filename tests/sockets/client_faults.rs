//! The client against servers that misbehave. Each server is scripted by its test.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::time::Duration;

use leasehold::client::{Client, Config, Error, Leased};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const FOREVER: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(60);
/// For answers that never come.
const HASTE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_late_reply_is_not_taken_for_the_next_answer() {
    let (server, client) = serve(Config { timeout: HASTE, ..patient() }).await;
    let connected = repeated(|| client.get("b"));
    let mut connection = tokio::select! {
        answer = connected => panic!("no answer was sent: {answer:?}"),
        connection = server.accept() => connection,
    };
    connection.answers(&client, "b").await;
    assert_eq!(client.get("a").await, Err(Error::TimedOut { server: server.name().into() }));
    connection.receives("get a").await;
    connection.sends("VALUE a 0 1\r\nA\r\nEND\r\n").await;
    connection.answers(&client, "b").await;
}

#[tokio::test]
async fn dropped_requests_do_not_disturb_the_order() {
    let (server, client) = serve(patient()).await;
    let mut connection = tokio::select! {
        _ = client.get("a") => panic!("no answer was sent"),
        connection = async {
            let mut connection = server.accept().await;
            connection.receives("get a").await;
            connection
        } => connection,
    };
    let (next, ()) = tokio::join!(client.get("b"), async {
        connection.receives("get b").await;
        connection.sends("END\r\nVALUE b 0 1\r\nB\r\nEND\r\n").await;
    });
    assert_eq!(next, Ok(Some("B".into())));
}

#[tokio::test]
async fn the_lease_of_a_dropped_fetch_is_released() {
    let (server, client) = serve(patient()).await;
    let mut connection = tokio::select! {
        _ = client.fetch("k", FOREVER, || async { Ok::<_, Infallible>("v") }) => panic!("no answer was sent"),
        connection = async {
            let mut connection = server.accept().await;
            connection.receives("lease-get k").await;
            connection
        } => connection,
    };
    connection.sends("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
    connection.receives("lease-set k 9 0 -1 0").await;
    connection.receives("").await;
    connection.sends("STORED\r\n").await;
}

#[tokio::test]
async fn a_lease_that_arrives_too_late_is_released() {
    let (server, client) = serve(Config { timeout: HASTE, ..patient() }).await;
    let (late, mut connection) = tokio::join!(client.lease_get("k"), server.accept());
    assert!(matches!(late, Err(Error::TimedOut { .. })));
    connection.receives("lease-get k").await;
    connection.sends("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
    connection.receives("lease-set k 9 0 -1 0").await;
}

/// The caller receives the loaded value even if the fill fails.
#[tokio::test]
async fn an_unanswered_fill_does_not_delay_the_value() {
    let (server, client) = serve(patient()).await;
    let fetch = client.fetch("k", FOREVER, || async { Ok::<_, Infallible>("v") });
    let (fetched, ()) = tokio::join!(fetch, async {
        let mut connection = server.accept().await;
        connection.receives("lease-get k").await;
        connection.sends("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
        connection.receives("lease-set k 9 0 0 1").await;
    });
    assert_eq!(fetched, Ok("v".into()));
}

/// As when the server's machine has lost power: no packet reports it.
#[tokio::test]
async fn a_connection_without_an_answer_for_too_long_is_closed() {
    let (server, client) = serve(Config { silence_max: HASTE, ..patient() }).await;
    let (answer, _) = tokio::join!(client.delete("a"), async {
        let mut connection = server.accept().await;
        connection.receives("delete a").await;
        assert!(connection.is_closed().await);
    });
    assert_eq!(answer, Err(Error::Lost { server: server.name().into() }));
    answers_again(&server, &client).await;
}

#[tokio::test]
async fn a_lost_connection_fails_changes_and_repeats_reads() {
    let (server, client) = serve(patient()).await;
    let (answers, ()) =
        tokio::join!(async { (client.incr("n", 1).await, client.incr("n", 1).await) }, async {
            let mut connection = server.accept().await;
            connection.receives("incr n 1").await;
            connection.sends("2\r\n").await;
            connection.receives("incr n 1").await;
        });
    assert_eq!(answers, (Ok(Some(2)), Err(Error::Lost { server: server.name().into() })));
    let (answers, ()) = tokio::join!(async { (client.get("a").await, client.get("b").await) }, async {
        let mut connection = server.accept().await;
        connection.misses("get a").await;
        connection.receives("get b").await;
        drop(connection);
        server.accept().await.misses("get b").await;
    });
    assert_eq!(answers, (Ok(None), Ok(None)));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_closes_the_connection() {
    for (request, reply) in [("get a", "STORED\r\n"), ("get a", "VALUE b 0 1\r\nB\r\nEND\r\n")] {
        let (server, client) = serve(patient()).await;
        let (answer, ()) = tokio::join!(client.get("a"), async {
            let mut connection = server.accept().await;
            connection.receives(request).await;
            connection.sends(reply).await;
            assert!(connection.is_closed().await);
        });
        assert_eq!(answer, Err(Error::Garbled { server: server.name().into() }));
        answers_again(&server, &client).await;
    }
}

/// An unsolicited reply would be taken for the answer to the next request.
#[tokio::test]
async fn an_unsolicited_reply_closes_the_connection() {
    let (server, client) = serve(patient()).await;
    let (answer, ()) = tokio::join!(client.get("a"), async {
        let mut connection = server.accept().await;
        connection.receives("get a").await;
        connection.sends("END\r\nVALUE b 0 1\r\nB\r\nEND\r\n").await;
        assert!(connection.is_closed().await);
    });
    assert_eq!(answer, Ok(None));
    answers_again(&server, &client).await;
}

/// A server that does not know `lease-set` answers a second time, for the data that it takes for a command.
#[tokio::test]
async fn a_connection_whose_data_may_be_read_as_commands_is_closed() {
    let (server, client) = serve(patient()).await;
    let fill = async {
        let Ok(Leased::Granted(lease, _)) = client.lease_get("k").await else { panic!("it is granted") };
        lease.fill("v", FOREVER).await
    };
    let (filled, ()) = tokio::join!(fill, async {
        let mut connection = server.accept().await;
        connection.receives("lease-get k").await;
        connection.sends("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
        connection.receives("lease-set k 9 0 0 1").await;
        connection.receives("v").await;
        connection.sends("ERROR\r\nERROR\r\n").await;
        assert!(connection.is_closed().await);
    });
    assert_eq!(filled, Err(Error::Refused { server: server.name().into(), why: "ERROR".into() }));
}

/// Replies are read while requests are written: otherwise each side would wait for the other to read first.
#[tokio::test]
async fn requests_and_replies_larger_than_the_socket_buffers_pass() {
    let (server, client) = serve(patient()).await;
    let value = "x".repeat(100_000);
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        let (one, other, value) = (client.clone(), client.clone(), value.clone());
        let expected = Some(value.as_str().into());
        requests.spawn(async move { assert_eq!(one.set("k", value, FOREVER).await, Ok(true)) });
        requests.spawn(async move { assert_eq!(other.get("k").await, Ok(expected)) });
    }
    let mut connection = server.accept().await;
    for _ in 0..400 {
        if connection.line().await == "get k" {
            connection.sends(&format!("VALUE k 0 100000\r\n{value}\r\nEND\r\n")).await;
        } else {
            connection.receives(&value).await;
            connection.sends("STORED\r\n").await;
        }
    }
    requests.join_all().await;
}

#[tokio::test]
async fn an_unreachable_server_fails_requests_at_once() {
    let (server, client) = serve(patient()).await;
    let name = server.name();
    drop(server);
    for _ in 0..3 {
        assert_eq!(client.get("a").await, Err(Error::Down { server: name.as_str().into() }));
    }
}

/// A scripted server.
struct Fake(TcpListener);

/// One connection to a scripted server.
struct Connection(BufReader<TcpStream>);

/// A client with one connection.
async fn serve(config: Config) -> (Fake, Client) {
    let fake = Fake(TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports"));
    let server = fake.name().parse().expect("an address");
    (fake, Client::new(vec![server], Config { connections: 1, ..config }))
}

fn patient() -> Config {
    Config { silence_max: PATIENCE, timeout: PATIENCE, ..Config::default() }
}

/// Repeats a request until the server answers it in time.
async fn repeated<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match ask().await {
            Err(Error::Down { .. } | Error::Lost { .. } | Error::TimedOut { .. }) => {
                tokio::task::yield_now().await
            }
            answer => return answer,
        }
    }
}

/// Checks that the client gets an answer over a new connection.
async fn answers_again(server: &Fake, client: &Client) {
    let answers = async {
        loop {
            let mut connection = server.accept().await;
            while connection.line().await == "get again" {
                let _ = connection.0.get_mut().write_all(b"END\r\n").await;
            }
        }
    };
    tokio::select! {
        answer = repeated(|| client.get("again")) => assert_eq!(answer, Ok(None)),
        () = answers => {}
    }
}

impl Fake {
    fn name(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }

    /// The next connection, after its greeting.
    async fn accept(&self) -> Connection {
        let mut connection = self.accept_silently().await;
        connection.receives("mn").await;
        connection.receives("mn").await;
        connection.sends("MN\r\nMN\r\n").await;
        connection
    }

    async fn accept_silently(&self) -> Connection {
        let (stream, _) =
            timeout(PATIENCE, self.0.accept()).await.expect("the client comes").expect("a socket");
        Connection(BufReader::new(stream))
    }
}

impl Connection {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        timeout(PATIENCE, read).await.expect("the client asks").expect("it is text");
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn receives(&mut self, expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move { assert_eq!(self.line().await, expected, "at {caller}") }
    }

    async fn sends(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.expect("the client reads");
    }

    /// Answers reads of this key until one is in time; by then the client has dealt with all earlier replies.
    async fn answers(&mut self, client: &Client, key: &str) {
        let answers = async {
            loop {
                self.receives(&format!("get {key}")).await;
                self.sends(&format!("VALUE {key} 0 1\r\nV\r\nEND\r\n")).await;
            }
        };
        tokio::select! {
            answer = repeated(|| client.get(key)) => assert_eq!(answer, Ok(Some("V".into()))),
            () = answers => {}
        }
    }

    /// Answers with a miss.
    async fn misses(&mut self, request: &str) {
        self.receives(request).await;
        self.sends("END\r\n").await;
    }

    async fn is_closed(&mut self) -> bool {
        match timeout(PATIENCE, self.0.read_u8()).await.expect("the client closes") {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
        }
    }
}
