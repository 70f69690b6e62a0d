//! Single requests at times that the test chooses, because two threads may read different times.

use std::sync::Arc;

use leasehold::clock::{Clock, Now};
use leasehold::command::{Conversation, Rules, execute};
use leasehold::metrics::Metrics;
use leasehold::protocol::{Decoder, Output, Replies};
use leasehold::{Cache, Config};

/// The answer to `sent` on a new connection, if its thread's clock shows `now`.
fn answer(cache: &Cache, sent: &str, now: Now) -> String {
    let metrics = Arc::new(Metrics::new(1, 1));
    let counters = metrics.of_thread(0);
    let mut conversation = Conversation::new(cache, metrics, counters, Rules::default());
    let mut decoder = Decoder::new(cache.config().value_bytes_max);
    decoder.space().put_slice(sent.as_bytes());
    let (mut output, mut request) = (Output::default(), decoder.decode().expect("whole").expect("legal"));
    execute(&mut request, cache, &mut conversation, Replies::text(&mut output), now);
    String::from_utf8(output.take()).expect("all of it is text")
}

/// A thread reads the clock once per batch, so a thread that read it a second later may act first.
#[test]
fn a_reader_with_an_older_clock_sees_a_newer_value() {
    let cache = Cache::with_seed(Config::default(), [5; 32]);
    let early = Clock::manual().now();
    let late = Now { millis: early.millis + 1_000, unix: early.unix + 1 };
    assert_eq!(answer(&cache, "set k 0 0 1\r\nv\r\n", late), "STORED\r\n");
    let expected = "META k age: 0; exptime: 0; from: unknown; is_transient: 0\r\nEND\r\n";
    assert_eq!(answer(&cache, "metaget k\r\n", early), expected);
    assert_eq!(answer(&cache, "touch k 10\r\n", early), "TOUCHED\r\n");
    assert_eq!(answer(&cache, "get k\r\n", early), "VALUE k 0 1\r\nv\r\nEND\r\n");
    assert!(answer(&cache, "lease-get j\r\n", late).starts_with("LVALUE j "));
    assert_eq!(answer(&cache, "lease-get j\r\n", early), "LVALUE j 1 0 0\r\n\r\nEND\r\n");
}
