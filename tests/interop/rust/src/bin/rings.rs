//! leasehold's own client reads values that another client has distributed over several servers.
//!
//! `rings ketama|rendezvous <server>…`: the keys are `key:0` to `key:999`, and each is its own value.

use leasehold::client::{Client, Config, Spread};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let spread = match arguments.next().as_deref() {
        Some("ketama") => Spread::Ketama,
        Some("rendezvous") => Spread::Rendezvous,
        other => panic!("unknown ring {other:?}: expected ketama or rendezvous"),
    };
    let servers: Vec<_> = arguments.map(|server| server.parse().expect("a server")).collect();
    let client = Client::new(servers, Config { spread, ..Config::default() });
    let keys: Vec<String> = (0..1000).map(|n| format!("key:{n}")).collect();
    for (key, found) in keys.iter().zip(client.get_many(&keys).await) {
        let value = found
            .expect("the server answers")
            .unwrap_or_else(|| panic!("{key} is not on the expected server"));
        assert_eq!(value, key.as_str());
    }
}
