//! Misses that a handover passes on.

use std::time::Duration;

use leasehold::cache::{Cache, Config, Deletion, Draft, Mode, Policy};
use leasehold::clock::Clock;

/// A reader misses a key and reads the old row. A writer sets another value, which takes the reader's miss
/// away if every set answers one; but in this class only sets that repeat a value do, so that the load may
/// still be running. Then the writer commits and deletes, and the server is handed over. The reader's late
/// set was stored once: the next process received that no miss of the key was left.
#[test]
fn a_load_that_is_answered_in_another_mode_only_is_passed_on() {
    let (policy, clock) =
        (Policy { load_time_max: Duration::from_secs(1), ..Policy::default() }, Clock::manual());
    let config = Config { policies: policy.into(), ..Config::default() };
    let former = Cache::with_seed(config.clone(), [7; 32]);
    clock.advance(Duration::from_secs(2));
    let (mut reader, mut writer) = (former.session(), former.session());
    let (key, now) = (former.key(b"user:1").expect("a legal key"), clock.now());
    assert_eq!(former.get(&key, &mut reader, now, |_| ()), None);
    former.store(&key, Mode::Set, Draft::new("other"), &mut writer, now);
    former.delete(&key, &Deletion::default(), &mut writer, now);

    let next = Cache::after(config, former.lineage());
    former.guards(now, |guard| next.guard(guard, now));
    let (mut reader, mut other) = (next.session(), next.session());
    let key = next.key(b"user:1").expect("a legal key");
    next.store(&key, Mode::Set, Draft::new("old"), &mut reader, now);
    assert_eq!(next.get(&key, &mut other, now, |_| ()), None, "the old value is served");
}
