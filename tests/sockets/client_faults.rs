//! The client and servers that misbehave: each is a script in the test's own hand, and answers when that says so.

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
/// For what is known never to come.
const HASTE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_late_reply_is_not_given_to_the_next_who_asks() {
    let (server, client) = serve(Config { timeout: HASTE, ..patient() }).await;
    let connected = repeated(|| client.get("b"));
    let mut peer = tokio::select! {
        answer = connected => panic!("nobody has answered: {answer:?}"),
        peer = server.accept() => peer,
    };
    peer.answers(&client, "b").await;
    assert_eq!(client.get("a").await, Err(Error::TimedOut { server: server.name().into() }));
    peer.hears("get a").await;
    peer.says("VALUE a 0 1\r\nA\r\nEND\r\n").await;
    peer.answers(&client, "b").await;
}

#[tokio::test]
async fn questions_that_are_dropped_do_not_disturb_the_order() {
    let (server, client) = serve(patient()).await;
    let mut peer = tokio::select! {
        _ = client.get("a") => panic!("nobody has answered"),
        peer = async {
            let mut peer = server.accept().await;
            peer.hears("get a").await;
            peer
        } => peer,
    };
    let (next, ()) = tokio::join!(client.get("b"), async {
        peer.hears("get b").await;
        peer.says("END\r\nVALUE b 0 1\r\nB\r\nEND\r\n").await;
    });
    assert_eq!(next, Ok(Some("B".into())));
}

#[tokio::test]
async fn a_lease_that_nobody_waits_for_any_more_is_given_back() {
    let (server, client) = serve(patient()).await;
    let mut peer = tokio::select! {
        _ = client.fetch("k", FOREVER, || async { Ok::<_, Infallible>("v") }) => panic!("nobody has answered"),
        peer = async {
            let mut peer = server.accept().await;
            peer.hears("lease-get k").await;
            peer
        } => peer,
    };
    peer.says("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
    peer.hears("lease-set k 9 0 -1 0").await;
    peer.hears("").await;
    peer.says("STORED\r\n").await;
}

#[tokio::test]
async fn a_lease_that_comes_too_late_is_given_back() {
    let (server, client) = serve(Config { timeout: HASTE, ..patient() }).await;
    let (late, mut peer) = tokio::join!(client.lease_get("k"), server.accept());
    assert!(matches!(late, Err(Error::TimedOut { .. })));
    peer.hears("lease-get k").await;
    peer.says("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
    peer.hears("lease-set k 9 0 -1 0").await;
}

/// The loader has what it needs, and the caller gets it, whatever the cache does about it.
#[tokio::test]
async fn a_fill_that_is_not_answered_is_given_up_and_the_value_returned() {
    let (server, client) = serve(patient()).await;
    let fetch = client.fetch("k", FOREVER, || async { Ok::<_, Infallible>("v") });
    let (fetched, ()) = tokio::join!(fetch, async {
        let mut peer = server.accept().await;
        peer.hears("lease-get k").await;
        peer.says("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
        peer.hears("lease-set k 9 0 0 1").await;
    });
    assert_eq!(fetched, Ok("v".into()));
}

/// The machine behind the other end is gone, and nobody says so.
#[tokio::test]
async fn a_server_that_owes_an_answer_and_is_silent_is_left() {
    let (server, client) = serve(Config { silence_max: HASTE, ..patient() }).await;
    let (answer, _) = tokio::join!(client.delete("a"), async {
        let mut peer = server.accept().await;
        peer.hears("delete a").await;
        assert!(peer.is_closed().await);
    });
    assert_eq!(answer, Err(Error::Lost { server: server.name().into() }));
    answers_again(&server, &client).await;
}

#[tokio::test]
async fn a_change_is_lost_with_its_connection_and_a_read_is_repeated() {
    let (server, client) = serve(patient()).await;
    let (answers, ()) =
        tokio::join!(async { (client.incr("n", 1).await, client.incr("n", 1).await) }, async {
            let mut peer = server.accept().await;
            peer.hears("incr n 1").await;
            peer.says("2\r\n").await;
            peer.hears("incr n 1").await;
        });
    assert_eq!(answers, (Ok(Some(2)), Err(Error::Lost { server: server.name().into() })));
    let (answers, ()) = tokio::join!(async { (client.get("a").await, client.get("b").await) }, async {
        let mut peer = server.accept().await;
        peer.misses("get a").await;
        peer.hears("get b").await;
        drop(peer);
        server.accept().await.misses("get b").await;
    });
    assert_eq!(answers, (Ok(None), Ok(None)));
}

#[tokio::test]
async fn a_server_that_answers_something_else_is_left() {
    for (asked, heard) in [("get a", "STORED\r\n"), ("get a", "VALUE b 0 1\r\nB\r\nEND\r\n")] {
        let (server, client) = serve(patient()).await;
        let (answer, ()) = tokio::join!(client.get("a"), async {
            let mut peer = server.accept().await;
            peer.hears(asked).await;
            peer.says(heard).await;
            assert!(peer.is_closed().await);
        });
        assert_eq!(answer, Err(Error::Garbled { server: server.name().into() }));
        answers_again(&server, &client).await;
    }
}

/// What has not been asked for would be taken for the answer to the next question.
#[tokio::test]
async fn a_server_that_speaks_unasked_is_left() {
    let (server, client) = serve(patient()).await;
    let (answer, ()) = tokio::join!(client.get("a"), async {
        let mut peer = server.accept().await;
        peer.hears("get a").await;
        peer.says("END\r\nVALUE b 0 1\r\nB\r\nEND\r\n").await;
        assert!(peer.is_closed().await);
    });
    assert_eq!(answer, Ok(None));
    answers_again(&server, &client).await;
}

/// A server that does not know `lease-set` answers a second time, for the data that it takes for a command.
#[tokio::test]
async fn a_connection_is_left_when_data_may_be_taken_for_commands() {
    let (server, client) = serve(patient()).await;
    let fill = async {
        let Ok(Leased::Granted(lease, _)) = client.lease_get("k").await else { panic!("it is granted") };
        lease.fill("v", FOREVER).await
    };
    let (filled, ()) = tokio::join!(fill, async {
        let mut peer = server.accept().await;
        peer.hears("lease-get k").await;
        peer.says("LVALUE k 9 0 0\r\n\r\nEND\r\n").await;
        peer.hears("lease-set k 9 0 0 1").await;
        peer.hears("v").await;
        peer.says("ERROR\r\nERROR\r\n").await;
        assert!(peer.is_closed().await);
    });
    assert_eq!(filled, Err(Error::Refused { server: server.name().into(), why: "ERROR".into() }));
}

/// Replies are read while questions are written: otherwise each side would wait for the other to read first.
#[tokio::test]
async fn more_than_fits_into_the_sockets_is_under_way_in_both_directions() {
    let (server, client) = serve(patient()).await;
    let value = "x".repeat(100_000);
    let mut asked = JoinSet::new();
    for _ in 0..200 {
        let (one, other, value) = (client.clone(), client.clone(), value.clone());
        let expected = Some(value.as_str().into());
        asked.spawn(async move { assert_eq!(one.set("k", value, FOREVER).await, Ok(true)) });
        asked.spawn(async move { assert_eq!(other.get("k").await, Ok(expected)) });
    }
    let mut peer = server.accept().await;
    for _ in 0..400 {
        if peer.line().await == "get k" {
            peer.says(&format!("VALUE k 0 100000\r\n{value}\r\nEND\r\n")).await;
        } else {
            peer.hears(&value).await;
            peer.says("STORED\r\n").await;
        }
    }
    asked.join_all().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    let (server, client) = serve(patient()).await;
    let name = server.name();
    drop(server);
    for _ in 0..3 {
        assert_eq!(client.get("a").await, Err(Error::Down { server: name.as_str().into() }));
    }
}

/// A server under the test's hand.
struct Fake(TcpListener);

/// One connection to it.
struct Peer(BufReader<TcpStream>);

/// A client with one connection.
async fn serve(config: Config) -> (Fake, Client) {
    let fake = Fake(TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports"));
    let server = fake.name().parse().expect("an address");
    (fake, Client::new(vec![server], Config { connections: 1, ..config }))
}

fn patient() -> Config {
    Config { silence_max: PATIENCE, timeout: PATIENCE, ..Config::default() }
}

/// Until the server has been there in time.
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

/// On a new connection.
async fn answers_again(server: &Fake, client: &Client) {
    let answers = async {
        loop {
            let mut peer = server.accept().await;
            while peer.line().await == "get again" {
                let _ = peer.0.get_mut().write_all(b"END\r\n").await;
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

    /// The next connection, greeted.
    async fn accept(&self) -> Peer {
        let mut peer = self.accept_silently().await;
        peer.hears("mn").await;
        peer.hears("mn").await;
        peer.says("MN\r\nMN\r\n").await;
        peer
    }

    async fn accept_silently(&self) -> Peer {
        let (stream, _) =
            timeout(PATIENCE, self.0.accept()).await.expect("the client comes").expect("a socket");
        Peer(BufReader::new(stream))
    }
}

impl Peer {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        timeout(PATIENCE, read).await.expect("the client asks").expect("it is text");
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn hears(&mut self, expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move { assert_eq!(self.line().await, expected, "at {caller}") }
    }

    async fn says(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.expect("the client listens");
    }

    /// Until the client has heard the value of this key in time; whatever it was told before is dealt with then.
    async fn answers(&mut self, client: &Client, key: &str) {
        let answers = async {
            loop {
                self.hears(&format!("get {key}")).await;
                self.says(&format!("VALUE {key} 0 1\r\nV\r\nEND\r\n")).await;
            }
        };
        tokio::select! {
            answer = repeated(|| client.get(key)) => assert_eq!(answer, Ok(Some("V".into()))),
            () = answers => {}
        }
    }

    /// Answers that there is nothing.
    async fn misses(&mut self, question: &str) {
        self.hears(question).await;
        self.says("END\r\n").await;
    }

    async fn is_closed(&mut self) -> bool {
        match timeout(PATIENCE, self.0.read_u8()).await.expect("the client closes") {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
        }
    }
}
