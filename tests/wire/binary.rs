//! The binary protocol: every command and status, in pieces of every length, and random packets.

use std::time::Duration;

use leasehold::cache::{Config, Implicit, Policies, Policy, WhenFull};
use leasehold::command::{ImplicitReply, Rules};
use leasehold::protocol::Protocols;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::packets;
use super::support::packets::{Answer, Packet};
use super::support::wire::{Connection, Wire};

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const REPLACE: u8 = 0x03;
const DELETE: u8 = 0x04;
const INCR: u8 = 0x05;
const DECR: u8 = 0x06;
const QUIT: u8 = 0x07;
const FLUSH: u8 = 0x08;
const GETQ: u8 = 0x09;
const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;
const GETK: u8 = 0x0c;
const GETKQ: u8 = 0x0d;
const APPEND: u8 = 0x0e;
const PREPEND: u8 = 0x0f;
const STAT: u8 = 0x10;
const SETQ: u8 = 0x11;
const ADDQ: u8 = 0x12;
const REPLACEQ: u8 = 0x13;
const DELETEQ: u8 = 0x14;
const INCRQ: u8 = 0x15;
const DECRQ: u8 = 0x16;
const QUITQ: u8 = 0x17;
const FLUSHQ: u8 = 0x18;
const APPENDQ: u8 = 0x19;
const PREPENDQ: u8 = 0x1a;
const VERBOSITY: u8 = 0x1b;
const TOUCH: u8 = 0x1c;
const GAT: u8 = 0x1d;
const GATQ: u8 = 0x1e;
const MECHANISMS: u8 = 0x20;
const AUTH: u8 = 0x21;
const STEP: u8 = 0x22;
const GATK: u8 = 0x23;
const GATKQ: u8 = 0x24;
/// The expiry of a counter that is not to be created.
const NOT_CREATED: u32 = u32::MAX;
/// Small enough to be exceeded, large enough for values that are received outside the read buffer.
const VALUE_BYTES_MAX: usize = 20_000;

fn wire(rules: Rules) -> Wire {
    Wire::new(Config { value_bytes_max: VALUE_BYTES_MAX, ..Config::default() }, rules)
}

/// As in memcached, nothing is fenced: one connection does everything in these tests.
fn unfenced() -> Wire {
    let policies = Policies::new(Policy { implicit: Implicit::Off, ..Policy::default() }, Vec::new());
    let config = Config { policies, value_bytes_max: VALUE_BYTES_MAX, ..Config::default() };
    Wire::new(config, Rules::default())
}

fn connect(wire: &Wire) -> Connection {
    wire.connect_with(Protocols::Any)
}

/// The lines of the replies to all packets.
fn lines(wire: &Wire, connection: &mut Connection, packets: &[Packet]) -> Vec<String> {
    let sent: Vec<u8> = packets.iter().flat_map(Packet::bytes).collect();
    Answer::all(&connection.talk(wire, &sent)).iter().map(Answer::line).collect()
}

/// The only reply to a packet.
#[track_caller]
fn one(wire: &Wire, connection: &mut Connection, packet: &Packet) -> Answer {
    let mut answers = Answer::all(&connection.talk(wire, &packet.bytes()));
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

/// All commands, with the replies to each, in an order in which every status occurs.
fn table() -> Vec<(Packet, &'static [&'static str])> {
    let new = Packet::new;
    let (store, count, number) = (Packet::store, Packet::count, Packet::with_number);
    vec![
        (new(NOOP, ""), &["0a 00 0 - ||"]),
        (new(VERSION, ""), &["0b 00 0 - ||1.6.45"]),
        (new(GET, "k"), &["00 01 0 - ||Not found"]),
        (new(GETQ, "k"), &[]),
        (new(GETK, "k"), &["0c 01 0 - |k|"]),
        (new(GETKQ, "k"), &[]),
        (store(REPLACE, "k", 0, 0, b"v"), &["03 01 0 - ||Not found"]),
        (store(REPLACEQ, "k", 0, 0, b"v"), &["13 01 0 - ||Not found"]),
        (store(SET, "k", 0, 0, b"v").with_cas(9), &["01 01 0 - ||Not found"]),
        (new(APPEND, "k").with_value(b"v"), &["0e 05 0 - ||Not stored."]),
        (new(PREPENDQ, "k").with_value(b"v"), &["1a 05 0 - ||Not stored."]),
        (store(SET, "k", 0xdead_beef, 0, b"value").with_opaque(7), &["01 00 7 cas ||"]),
        (new(GET, "k").with_opaque(8), &["00 00 8 cas \\xde\\xad\\xbe\\xef||value"]),
        (new(GETQ, "k").with_opaque(8), &["09 00 8 cas \\xde\\xad\\xbe\\xef||value"]),
        (new(GETK, "k"), &["0c 00 0 cas \\xde\\xad\\xbe\\xef|k|value"]),
        (new(GETKQ, "k"), &["0d 00 0 cas \\xde\\xad\\xbe\\xef|k|value"]),
        (store(ADD, "k", 0, 0, b"v"), &["02 02 0 - ||Data exists for key."]),
        (store(ADDQ, "k", 0, 0, b"v"), &["12 02 0 - ||Data exists for key."]),
        (store(SET, "k", 0, 0, b"v").with_cas(9), &["01 02 0 - ||Data exists for key."]),
        // A number that could be a lease's token is only another unique that does not match.
        (store(SET, "k", 0, 0, b"v").with_cas(1 << 62), &["01 02 0 - ||Data exists for key."]),
        (store(ADD, "k", 0, 0, b"v").with_cas(9), &["02 02 0 - ||Data exists for key."]),
        (new(DELETE, "k").with_cas(9), &["04 02 0 - ||Data exists for key."]),
        (new(APPEND, "k").with_value(b"!").with_cas(9), &["0e 02 0 - ||Data exists for key."]),
        (new(APPEND, "k").with_value(b"!"), &["0e 00 0 cas ||"]),
        (new(APPENDQ, "k").with_value(b"?"), &[]),
        (new(PREPEND, "k").with_value(b"<"), &["0f 00 0 cas ||"]),
        (new(PREPENDQ, "k").with_value(b">"), &[]),
        (new(GET, "k"), &["00 00 0 cas \\xde\\xad\\xbe\\xef||><value!?"]),
        (count(INCR, "k", 1, 0, 0), &["05 06 0 - ||Non-numeric server-side value for incr or decr"]),
        (store(REPLACE, "k", 0, 0, b"w"), &["03 00 0 cas ||"]),
        (store(REPLACEQ, "k", 1, 0, b"x"), &[]),
        (store(SETQ, "k", 2, 0, b"y"), &[]),
        (store(ADDQ, "other", 3, 0, b""), &[]),
        (number(TOUCH, "k", 100), &["1c 00 0 cas \\x00\\x00\\x00\\x02||"]),
        (number(TOUCH, "none", 100), &["1c 01 0 - ||Not found"]),
        (number(GAT, "k", 0), &["1d 00 0 cas \\x00\\x00\\x00\\x02||y"]),
        (number(GATQ, "k", 0), &["1e 00 0 cas \\x00\\x00\\x00\\x02||y"]),
        (number(GATK, "other", 0), &["23 00 0 cas \\x00\\x00\\x00\\x03|other|"]),
        (number(GATKQ, "other", 0), &["24 00 0 cas \\x00\\x00\\x00\\x03|other|"]),
        (number(GAT, "none", 0), &["1d 01 0 - ||Not found"]),
        (number(GATQ, "none", 0), &[]),
        (number(GATK, "none", 0), &["23 01 0 - |none|"]),
        (number(GATKQ, "none", 0), &[]),
        (new(DELETE, "k"), &["04 00 0 - ||"]),
        (new(DELETE, "k"), &["04 01 0 - ||Not found"]),
        (new(DELETE, "k").with_cas(9), &["04 01 0 - ||Not found"]),
        (new(DELETEQ, "other"), &[]),
        (new(DELETEQ, "other"), &["14 01 0 - ||Not found"]),
        (count(INCR, "n", 5, 10, NOT_CREATED), &["05 01 0 - ||Not found"]),
        (count(INCR, "n", 5, 10, 0), &["05 00 0 cas ||\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\n"]),
        (count(INCR, "n", 5, 10, 0), &["05 00 0 cas ||\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x0f"]),
        (count(INCR, "n", 5, 10, 0).with_cas(9), &["05 02 0 - ||Data exists for key."]),
        (count(INCRQ, "n", 1, 0, NOT_CREATED), &[]),
        (count(DECR, "n", 2, 0, NOT_CREATED), &["06 00 0 cas ||\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x0e"]),
        (count(DECRQ, "n", 1, 0, 0), &[]),
        (count(DECRQ, "none", 1, 0, NOT_CREATED), &["16 01 0 - ||Not found"]),
        (count(DECR, "n", 99, 0, 0), &["06 00 0 cas ||\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"]),
        (count(INCR, "n", u64::MAX, 0, 0), &["05 00 0 cas ||\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff"]),
        (new(FLUSH, ""), &["08 00 0 - ||"]),
        (new(GET, "n"), &["00 01 0 - ||Not found"]),
        (number(FLUSH, "", 0), &["08 00 0 - ||"]),
        (new(FLUSHQ, ""), &[]),
        (number(FLUSHQ, "", 0), &[]),
        (number(VERBOSITY, "", 1), &["1b 00 0 - ||"]),
        (new(STAT, "sizes"), &["10 00 0 - |sizes_status|disabled", "10 00 0 - ||"]),
        (new(STAT, "items"), &["10 00 0 - ||"]),
        (new(STAT, "reset"), &["10 00 0 - ||"]),
        (new(STAT, "nonsense"), &["10 01 0 - ||Not found"]),
        (new(STAT, "detail"), &["10 01 0 - ||Not found"]),
        (new(STAT, "cachedump 1 0"), &["10 01 0 - ||Not found"]),
        (new(STAT, "detail on"), &["10 00 0 - ||"]),
        (new(GET, "a:b"), &["00 01 0 - ||Not found"]),
        (new(STAT, "detail dump"), &["10 00 0 - |prefix:a|get 1 hit 0 set 0 del 0", "10 00 0 - ||"]),
        (new(STAT, "detail off"), &["10 00 0 - ||"]),
        (new(0x1f, ""), &["1f 81 0 - ||Unknown command"]),
        (new(0xff, "key").with_value(b"skipped"), &["ff 81 0 - ||Unknown command"]),
        (new(MECHANISMS, ""), &["20 81 0 - ||Unknown command"]),
        (new(AUTH, "PLAIN").with_value(b"\0a\0b"), &["21 81 0 - ||Unknown command"]),
        (new(STEP, "PLAIN").with_value(b"\0a\0b"), &["22 81 0 - ||Unknown command"]),
        (store(SET, "k", 0, 0, b"old"), &["01 00 0 cas ||"]),
        (store(SETQ, "k", 0, 0, &[b'v'; VALUE_BYTES_MAX + 1]), &["11 03 0 - ||Too large."]),
        (new(GET, "k"), &["00 01 0 - ||Not found"]),
        (store(SETQ, "k", 0, 0, b"old"), &[]),
        (new(APPEND, "k").with_value(&[b'v'; VALUE_BYTES_MAX + 1]), &["0e 03 0 - ||Too large."]),
        (new(GET, "k"), &["00 00 0 cas \\x00\\x00\\x00\\x00||old"]),
        (new(QUIT, "").with_opaque(3), &["07 00 3 - ||"]),
    ]
}

#[test]
fn every_command_answers_as_memcached_does() {
    let wire = unfenced();
    let mut connection = connect(&wire);
    for (nth, (packet, expected)) in table().into_iter().enumerate() {
        assert!(!connection.is_closed());
        assert_eq!(lines(&wire, &mut connection, &[packet]), expected, "packet {nth}");
    }
    assert!(connection.is_closed());
}

#[test]
fn packets_may_arrive_in_pieces_of_any_length() {
    let sent: Vec<u8> = table().iter().flat_map(|(packet, _)| packet.bytes()).collect();
    let expected: Vec<_> = table().iter().flat_map(|(_, expected)| *expected).copied().collect();
    for chunk in [1, 2, 3, 23, 24, 25, 100, 4096, usize::MAX] {
        let wire = unfenced();
        let mut connection = connect(&wire);
        let answers = Answer::all(&connection.talk_in_chunks(&wire, &sent, chunk));
        assert_eq!(answers.iter().map(Answer::line).collect::<Vec<_>>(), expected, "in pieces of {chunk}");
    }
}

#[test]
fn a_packet_may_be_split_at_every_byte() {
    let pipeline = [
        Packet::store(SET, "key", 1, 0, b"value"),
        Packet::new(GETKQ, "key"),
        Packet::count(INCR, "n", 1, 1, 0),
        Packet::new(NOOP, ""),
    ];
    let sent: Vec<u8> = pipeline.iter().flat_map(Packet::bytes).collect();
    let mut all = Vec::new();
    for at in 0..=sent.len() {
        let wire = wire(Rules::default());
        let mut connection = connect(&wire);
        let answers = [connection.talk(&wire, &sent[..at]), connection.talk(&wire, &sent[at..])].concat();
        all.push(Answer::all(&answers).iter().map(Answer::line).collect::<Vec<_>>());
    }
    assert_eq!(all[0].len(), 4);
    assert!(all.iter().all(|answers| *answers == all[0]), "{all:?}");
}

#[test]
fn quiet_pipelines_answer_hits_and_errors_only() {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    let new = Packet::new;
    let pipeline = [
        Packet::store(SETQ, "a", 0, 0, b"1").with_opaque(1),
        Packet::store(ADDQ, "a", 0, 0, b"2").with_opaque(2),
        new(GETKQ, "a").with_opaque(3),
        new(GETKQ, "b").with_opaque(4),
        new(GETQ, "a").with_opaque(5),
        new(DELETEQ, "a").with_opaque(6),
        new(GETQ, "a").with_opaque(7),
        new(NOOP, "").with_opaque(8),
    ];
    let expected = [
        "12 02 2 - ||Data exists for key.",
        "0d 00 3 cas \\x00\\x00\\x00\\x00|a|1",
        "09 00 5 cas \\x00\\x00\\x00\\x00||1",
        "0a 00 8 - ||",
    ];
    assert_eq!(lines(&wire, &mut connection, &pipeline), expected);
    assert_eq!(lines(&wire, &mut connection, &[new(QUITQ, "")]), [""; 0]);
    assert!(connection.is_closed());
}

#[test]
fn uniques_guard_stores_deletes_and_counts() {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    let mut ask = |packet: Packet| one(&wire, &mut connection, &packet);
    let set = ask(Packet::store(SET, "k", 0, 0, b"1"));
    assert_eq!(ask(Packet::new(GET, "k")).cas, set.cas);
    let next = ask(Packet::store(REPLACE, "k", 0, 0, b"2").with_cas(set.cas));
    assert!(next.status == 0 && next.cas != set.cas);
    assert_eq!(ask(Packet::store(SET, "k", 0, 0, b"3").with_cas(set.cas)).status, 2);
    let counted = ask(Packet::count(INCR, "k", 1, 0, NOT_CREATED).with_cas(next.cas));
    assert_eq!((counted.status, &counted.value[..]), (0, &3_u64.to_be_bytes()[..]));
    let appended = ask(Packet::new(APPEND, "k").with_value(b"0").with_cas(counted.cas));
    assert_eq!(ask(Packet::new(GET, "k")).cas, appended.cas);
    assert_eq!(ask(Packet::new(DELETE, "k").with_cas(counted.cas)).status, 2);
    assert_eq!(ask(Packet::new(DELETE, "k").with_cas(appended.cas)).status, 0);
    assert_eq!(ask(Packet::new(GET, "k")).status, 1);
}

#[test]
fn values_expire_and_touch_prolongs_them() {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    let statuses = |wire: &Wire, connection: &mut Connection, packets: &[Packet]| -> Vec<u16> {
        packets.iter().map(|packet| one(wire, connection, packet).status).collect()
    };
    let packets = [
        Packet::store(SET, "a", 0, 10, b"1"),
        Packet::store(SET, "b", 0, 10, b"1"),
        Packet::count(INCR, "n", 1, 1, 10),
        Packet::with_number(TOUCH, "b", 100),
        Packet::with_number(FLUSH, "", 50),
    ];
    assert_eq!(statuses(&wire, &mut connection, &packets), [0; 5]);
    wire.clock.advance(Duration::from_secs(11));
    let reads = ["a", "b", "n"].map(|key| Packet::new(GET, key));
    assert_eq!(statuses(&wire, &mut connection, &reads), [1, 0, 1]);
    wire.clock.advance(Duration::from_secs(40));
    assert_eq!(statuses(&wire, &mut connection, &reads), [1, 1, 1]);
}

#[test]
fn large_values_are_received_and_sent_whole() {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    let value: Vec<u8> = (0..VALUE_BYTES_MAX).map(|n| (n % 251) as u8).collect();
    for chunk in [999, usize::MAX] {
        let sent = [Packet::store(SET, "k", 5, 0, &value).bytes(), Packet::new(GETK, "k").bytes()].concat();
        let answers = Answer::all(&connection.talk_in_chunks(&wire, &sent, chunk));
        assert_eq!((answers[0].status, &answers[1].key[..]), (0, &b"k"[..]));
        assert!(answers[1].value == value && answers[0].cas == answers[1].cas);
    }
}

/// Each of these packets is answered with this status, and the connection closed.
#[test]
fn packets_with_wrong_lengths_close_the_connection() {
    let get = Packet::new(GET, "k");
    let cases = [
        // The key and the extras are longer than the body.
        (get.header((2, 0, 1)), 0x81),
        (get.header((1, 4, 4)), 0x81),
        (get.header((u16::MAX, u8::MAX, 0)), 0x81),
        (get.header((251, 0, 251)), 0x04),
        (get.header((0, 0, 0)), 0x04),
        (get.clone().with_value(b"more").bytes(), 0x04),
        (Packet::with_number(GET, "k", 0).bytes(), 0x04),
        (Packet::new(SET, "k").with_value(b"v").bytes(), 0x04),
        (Packet::store(SET, "", 0, 0, b"v").bytes(), 0x04),
        (Packet::new(GAT, "k").bytes(), 0x04),
        (Packet::new(INCR, "k").bytes(), 0x04),
        (Packet::new(NOOP, "k").bytes(), 0x04),
        (Packet::new(QUIT, "k").bytes(), 0x04),
        (Packet::new(VERSION, "").with_value(b"v").bytes(), 0x04),
        (Packet::new(VERBOSITY, "").bytes(), 0x04),
        (Packet::with_number(STAT, "", 0).bytes(), 0x04),
        (Packet::new(FLUSH, "k").bytes(), 0x04),
    ];
    for (sent, status) in cases {
        let wire = wire(Rules::default());
        let mut connection = connect(&wire);
        let answers = Answer::all(&connection.talk(&wire, &sent));
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{sent:?}");
        assert!(connection.is_closed());
    }
}

#[test]
fn keys_have_any_bytes_and_at_most_250() {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    let keys = [vec![b'k'; 250], b"a b\r\n\0\xff".to_vec()];
    for key in keys {
        let set = Packet { key: key.clone(), ..Packet::store(SET, "", 0, 0, b"v") };
        assert_eq!(one(&wire, &mut connection, &set).status, 0);
        let answer = one(&wire, &mut connection, &Packet { key: key.clone(), ..Packet::new(GETK, "") });
        assert_eq!((answer.key, answer.value), (key, b"v".to_vec()));
    }
}

#[test]
fn a_connection_keeps_the_protocol_of_its_first_byte() {
    let wire = wire(Rules::default());
    let mut text = connect(&wire);
    assert_eq!(text.talk(&wire, b"set k 5 0 1\r\nv\r\n"), b"STORED\r\n");
    let mut binary = connect(&wire);
    let answer = one(&wire, &mut binary, &Packet::new(GET, "k"));
    assert_eq!((&answer.extras[..], &answer.value[..]), (&[0, 0, 0, 5][..], &b"v"[..]));
    assert_eq!(binary.talk(&wire, b"get k\r\n"), b"", "this has no magic byte");
    assert!(binary.is_closed());
    let refused = text.talk(&wire, &Packet::new(GET, "k").bytes());
    assert!(refused.starts_with(b"CLIENT_ERROR the binary protocol is not spoken here") && text.is_closed());
}

#[test]
fn a_single_protocol_refuses_the_other_one() {
    let wire = wire(Rules::default());
    let mut text = wire.connect_with(Protocols::Text);
    let refused = text.talk(&wire, &Packet::new(NOOP, "").bytes());
    assert!(refused.starts_with(b"CLIENT_ERROR the binary protocol is not spoken here") && text.is_closed());
    let mut binary = wire.connect_with(Protocols::Binary);
    assert_eq!(one(&wire, &mut binary, &Packet::new(NOOP, "")).status, 0);
    let mut binary = wire.connect_with(Protocols::Binary);
    let refused = binary.talk(&wire, b"version\r\n");
    assert_eq!(refused, b"CLIENT_ERROR only the binary protocol is spoken here\r\n");
    assert!(binary.is_closed());
}

/// A full cache that evicts nothing refuses everything that needs memory, in quiet commands, too.
#[test]
fn stores_without_memory_are_refused() {
    let policies = Policies::new(Policy { implicit: Implicit::Off, ..Policy::default() }, Vec::new());
    let when_full = WhenFull::Refuse;
    let config = Config {
        memory_bytes: 8 << 20,
        policies,
        value_bytes_max: VALUE_BYTES_MAX,
        when_full,
        ..Config::default()
    };
    let wire = Wire::new(config, Rules::default());
    let mut connection = connect(&wire);
    let mut refused = Vec::new();
    for bytes in [10_000, 1_000, 100, 0] {
        // Each shard must be full.
        refused.clear();
        for nth in 0.. {
            let key = format!("{bytes}:{nth}");
            match one(&wire, &mut connection, &Packet::store(SET, &key, 0, 0, &vec![b'v'; bytes])).status {
                0 => refused.clear(),
                _ => refused.push(key),
            }
            if refused.len() == 200 {
                break;
            }
        }
    }
    let (key, value) = (&refused[0], &[b'v'; 10_000]);
    let packets = [
        Packet::store(SET, key, 0, 0, value),
        Packet::store(SETQ, key, 0, 0, value),
        Packet::store(ADD, key, 0, 0, value),
        Packet::store(ADDQ, key, 0, 0, value),
        Packet::store(REPLACE, "10000:0", 0, 0, &[b'v'; 20_000]),
        Packet::new(APPEND, "10000:1").with_value(value),
        Packet::new(PREPENDQ, "10000:2").with_value(value),
        Packet::count(INCR, key, 1, 1, 0),
        Packet::count(DECRQ, key, 1, 1, 0),
    ];
    for packet in packets {
        let answer = one(&wire, &mut connection, &packet.with_opaque(7));
        let found = (answer.status, answer.opaque, answer.cas, &answer.value[..]);
        assert_eq!(found, (0x82, 7, 0, &b"Out of memory"[..]), "{:02x}", answer.opcode);
    }
    assert_eq!(one(&wire, &mut connection, &Packet::new(GET, key)).status, 1);
    // As in memcached, the old value is removed by a set, and by no other command.
    let set = Packet::store(SET, "10000:3", 0, 0, &[b'v'; 20_000]);
    assert_eq!(one(&wire, &mut connection, &set).status, 0x82);
    let statuses = [0, 1, 2, 3].map(|nth| {
        let get = Packet::new(GET, &format!("10000:{nth}"));
        one(&wire, &mut connection, &get).status
    });
    assert_eq!(statuses, [0, 0, 0, 1]);
}

#[test]
fn forbidden_commands_are_answered_with_an_auth_failure() {
    let wire = wire(Rules { may_flush: false, may_dump: false, ..Rules::default() });
    let mut connection = connect(&wire);
    let packets = [Packet::new(FLUSH, ""), Packet::new(FLUSHQ, ""), Packet::new(STAT, "detail on")];
    let expected = ["08 20 0 - ||Auth failure.", "18 20 0 - ||Auth failure.", "10 20 0 - ||Auth failure."];
    assert_eq!(lines(&wire, &mut connection, &packets), expected);
}

/// A value that was read before a delete is refused, as from a client of the text protocol.
#[test]
fn the_fence_refuses_a_late_set() {
    for (implicit_reply, expected) in
        [(ImplicitReply::Stored, "01 00 0 cas ||"), (ImplicitReply::NotStored, "01 05 0 - ||Not stored.")]
    {
        for opcode in [GET, GETQ, GETK] {
            let wire = wire(Rules { implicit_reply, ..Rules::default() });
            let (mut reader, mut writer) = (connect(&wire), connect(&wire));
            lines(&wire, &mut reader, &[Packet::new(opcode, "k")]);
            assert_eq!(one(&wire, &mut writer, &Packet::new(DELETE, "k")).status, 1);
            let set = Packet::store(SET, "k", 0, 0, b"old");
            let answer = one(&wire, &mut reader, &set);
            assert_eq!(answer.line(), expected);
            assert_eq!(one(&wire, &mut writer, &Packet::new(GET, "k")).status, 1, "it was not stored");
            // The unique of a set that was refused matches nothing.
            if answer.cas != 0 {
                assert_eq!(one(&wire, &mut reader, &set.with_cas(answer.cas)).status, 1);
            }
        }
    }
}

/// A read that waits for the load of another client is answered in its own form.
#[test]
fn reads_wait_for_the_load_of_another_client() {
    let policy = Policy { herd_wait: Duration::from_secs(1), ..Policy::default() };
    let policies = Policies::new(policy, Vec::new());
    for is_filled in [true, false] {
        let config = Config { policies: policies.clone(), ..Config::default() };
        let wire = Wire::new(config, Rules::default());
        let (mut loader, mut waiter) = (connect(&wire), connect(&wire));
        assert_eq!(one(&wire, &mut loader, &Packet::new(GET, "k")).status, 1);
        let sent = [Packet::new(GETK, "k").with_opaque(5).bytes(), Packet::new(NOOP, "").bytes()].concat();
        assert_eq!(waiter.talk(&wire, &sent), b"", "it waits");
        let expected = if is_filled {
            assert_eq!(one(&wire, &mut loader, &Packet::store(SET, "k", 0, 0, b"v")).status, 0);
            "0c 00 5 cas \\x00\\x00\\x00\\x00|k|v"
        } else {
            wire.clock.advance(Duration::from_secs(2));
            "0c 01 5 - |k|"
        };
        let answers = Answer::all(&waiter.listen(&wire));
        assert_eq!(answers.iter().map(Answer::line).collect::<Vec<_>>(), [expected, "0a 00 0 - ||"]);
    }
}

#[test]
fn statistics_come_in_groups() {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    for (group, name) in
        [("", "pid"), ("settings", "maxbytes"), ("memory", "soon_bytes"), ("slabs", "active_slabs")]
    {
        let answers = Answer::all(&connection.talk(&wire, &Packet::new(STAT, group).with_opaque(5).bytes()));
        assert!(answers.iter().all(|answer| (answer.status, answer.opaque, answer.opcode) == (0, 5, STAT)));
        assert!(
            answers.iter().any(|answer| answer.key == name.as_bytes() && !answer.value.is_empty()),
            "{group}"
        );
        let ends = answers.iter().filter(|answer| answer.key.is_empty()).count();
        assert!(ends == 1 && answers.last().is_some_and(|answer| answer.key.is_empty()), "{group}");
    }
}

proptest! {
    #![proptest_config(seeded())]

    /// Each packet of a loud command is answered, in the order of the packets, unless the connection closes.
    #[test]
    fn random_packets_are_answered_in_order(packets in vec(packet(), 0..20), cut in 1..60_usize) {
        let packets: Vec<Packet> =
            (1..).zip(packets).map(|(opaque, packet)| packet.with_opaque(opaque)).collect();
        let sent: Vec<u8> = packets.iter().flat_map(Packet::bytes).collect();
        let (whole, is_closed) = played(&sent, usize::MAX);
        // Statistics have times in them.
        if packets.iter().all(|packet| packet.opcode != STAT) {
            prop_assert_eq!(&whole, &played(&sent, cut).0);
        }
        packets::check(&sent, cut);
        let opaques: Vec<u32> = Answer::all(&whole).iter().map(|answer| answer.opaque).collect();
        prop_assert!(opaques.is_sorted());
        let last = if is_closed { opaques.last().copied().unwrap_or(0) } else { u32::MAX };
        for packet in packets.iter().filter(|packet| packet.opaque < last && is_loud(packet.opcode)) {
            prop_assert!(opaques.contains(&packet.opaque), "{:#x} has no reply", packet.opcode);
        }
    }

    /// Whatever follows the first byte, nothing panics, and the division into pieces makes no difference.
    #[test]
    fn random_bytes_keep_the_rules(bytes in vec(any::<u8>(), 0..200), small in any::<bool>(), cut in 1..40_usize) {
        let mut sent = vec![0x80];
        sent.extend(bytes);
        if small && sent.len() > 12 {
            // Lengths that may be right.
            (sent[2], sent[8], sent[9], sent[10]) = (0, 0, 0, 0);
        }
        // Statistics have times in them.
        prop_assume!(sent.get(1) != Some(&STAT));
        let (whole, _) = played(&sent, usize::MAX);
        prop_assert_eq!(&whole, &played(&sent, cut).0);
        Answer::all(&whole);
        packets::check(&sent, cut);
    }
}

/// The replies to these bytes, and whether the connection was closed.
fn played(bytes: &[u8], cut: usize) -> (Vec<u8>, bool) {
    let wire = wire(Rules::default());
    let mut connection = connect(&wire);
    let replies = connection.talk_in_chunks(&wire, bytes, cut);
    (replies, connection.is_closed())
}

fn is_loud(opcode: u8) -> bool {
    !matches!(opcode, GETQ | GETKQ | SETQ..=PREPENDQ | GATQ | GATKQ)
}

/// The same cases each time, so that a failure repeats.
fn seeded() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(9);
    ProptestConfig { cases: 300, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

/// A packet that a client may send, or nearly.
fn packet() -> impl Strategy<Value = Packet> {
    let extras =
        prop_oneof![4 => Just(None), 1 => prop::sample::select(vec![0, 4, 8, 20, 255]).prop_map(Some)];
    let value = prop_oneof![6 => vec(any::<u8>(), 0..9), 1 => Just(vec![b'9'; 17_000]), 1 => Just(vec![b'9'; 20_001])];
    let cas = prop_oneof![4 => Just(0), 1 => 1..9_u64, 1 => any::<u64>()];
    (0..0x27_u8, "[ab]{0,2}", extras, value, cas, any::<u32>()).prop_map(
        |(opcode, key, extras, value, cas, number)| {
            let usual = match opcode {
                SET | ADD | REPLACE | SETQ | ADDQ | REPLACEQ => 8,
                INCR | DECR | INCRQ | DECRQ => 20,
                TOUCH | GAT | GATQ | GATK | GATKQ | VERBOSITY => 4,
                _ => 0,
            };
            let takes_value =
                usual == 8 || matches!(opcode, APPEND | PREPEND | APPENDQ | PREPENDQ | AUTH | STEP);
            let takes_none =
                matches!(opcode, NOOP | VERSION | QUIT | QUITQ | FLUSH | FLUSHQ | VERBOSITY | MECHANISMS);
            let extras = extras.unwrap_or(usual);
            Packet {
                opcode,
                opaque: 0,
                cas,
                extras: number.to_be_bytes().into_iter().cycle().take(extras).collect(),
                key: if takes_none && extras == usual { Vec::new() } else { key.into_bytes() },
                value: if takes_value { value } else { Vec::new() },
            }
        },
    )
}
