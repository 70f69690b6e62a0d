//! The real cache under a scheduler that explores the interleavings of threads. Empty without `--cfg
//! shuttle`.
//!
//! No exploration expects a single outcome. The versions of rows in the database only grow, so every read can
//! be checked: after an invalidation has returned, no read may see a version older than the one committed
//! before it. A thread that never wakes is a deadlock, which the explorer reports.
//!
//! Deliberately absent: weak memory. The explorer runs one thread at a time and treats each atomic as the
//! strictest.

#![cfg(shuttle)]

mod world;

use std::ops::Range;
use std::time::Duration;

use leasehold::cache::{Config, Expiry, Fill, Filled, Group, Implicit, Join, Mode, Policy, Refused, Token};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::{Runner, thread};

use world::{Client, PREFIX, ROWS, TAG, World, at, small};

/// Explores many schedules: at random, and by few but well-placed changes of priority.
fn explore(story: impl Fn() + Copy + Send + Sync + 'static) {
    run(RandomScheduler::new_from_seed(1, RANDOM_SCHEDULES), story);
    run(PctScheduler::new_from_seed(2, PCT_DEPTH, PCT_SCHEDULES), story);
}

/// Explores every schedule there is.
fn explore_all(story: impl Fn() + Send + Sync + 'static) {
    run(DfsScheduler::new(None, false), story);
}

fn run(scheduler: impl Scheduler + 'static, story: impl Fn() + Send + Sync + 'static) {
    Runner::new(scheduler, shuttle::Config::new()).run(story);
}

fn join<T, const N: usize>(threads: [thread::JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().expect("a thread that fails has failed the test already"))
}

fn delete(client: &mut Client) {
    client.write(0..1, |client, _| _ = client.delete(0, None));
}

fn read_by_lease(client: &mut Client) {
    client.read_by_lease(0);
    client.get(0);
}

fn set(client: &mut Client) {
    client.write(0..1, |client, version| _ = client.store(0, Mode::Set, version));
}

fn flush(client: &mut Client) {
    client.write(0..ROWS, |client, _| client.flush());
}

fn invalidate_prefix(client: &mut Client) {
    client.write(0..ROWS, |client, _| client.invalidate(Group::Prefix(PREFIX)));
}

fn invalidate_tag(client: &mut Client) {
    client.write(0..ROWS, |client, _| client.invalidate(Group::Tag(TAG)));
}

/// Two other groups displace the group of the rows from its table, so that the floor has to represent it. A
/// value of theirs is held in use, or they would not be remembered.
fn invalidate_tag_and_forget_it(client: &mut Client) {
    client.store_apart(b"apart", &[b"other", b"another"]);
    invalidate_tag(client);
    client.invalidate(Group::Tag(b"other"));
    client.invalidate(Group::Tag(b"another"));
}

/// Every way to invalidate all rows as a group.
const GROUPS: [fn(&mut Client); 3] = [invalidate_prefix, invalidate_tag, invalidate_tag_and_forget_it];

#[test]
fn a_delete_against_fills() {
    explore_all(|| {
        let world = World::new(small());
        let mut reader = world.client();
        let token = reader.lease(0).expect("no other client wants it");
        let version = reader.query(0);
        join([world.spawn(move |client| _ = client.fill(0, token, version)), world.spawn(delete)]);
        assert_eq!(reader.get(0), None, "in either order");
    });
    explore(|| {
        let world = World::new(small());
        join([
            world.spawn(read_by_lease),
            world.spawn(read_by_lease),
            world.spawn(|client| {
                delete(client);
                delete(client);
            }),
        ]);
        world.client().get(0);
    });
}

#[test]
fn a_flush_against_fills() {
    explore(|| {
        let world = World::new(small());
        let read_all = |client: &mut Client| (0..ROWS).for_each(|row| client.read_by_lease(row));
        join([world.spawn(read_all), world.spawn(read_all), world.spawn(flush)]);
        (0..ROWS).for_each(|row| _ = world.client().get(row));
    });
}

#[test]
fn a_group_invalidation_against_fills_and_reads() {
    for invalidate in GROUPS {
        explore(move || {
            let world = World::new(small());
            join([world.spawn(read_by_lease), world.spawn(read_by_lease), world.spawn(invalidate)]);
            world.client().get(0);
        });
    }
}

/// No value bears the tag while it is invalidated, and the loads that bring it may be the first.
#[test]
fn a_tag_that_is_not_in_use_against_the_first_fill() {
    explore(|| {
        let world = World::new(small());
        let mut reader = world.client();
        let token = reader.lease(0).expect("no other client wants it");
        let version = reader.query(0);
        join([world.spawn(move |client| _ = client.fill(0, token, version)), world.spawn(invalidate_tag)]);
        assert_eq!(reader.get(0), None, "in either order");
    });
}

#[test]
fn a_group_invalidation_against_changes() {
    let incr = |client: &mut Client| client.incr(0);
    let replace = |client: &mut Client| _ = client.store(0, Mode::Replace, 8);
    let append = |client: &mut Client| _ = client.store(0, Mode::Append(Join::default()), 8);
    for (invalidate, change) in [
        (invalidate_prefix as fn(&mut Client), incr as fn(&mut Client)),
        (invalidate_tag, incr),
        (invalidate_tag, replace),
        (invalidate_prefix, append),
        (invalidate_tag_and_forget_it, incr),
    ] {
        explore(move || {
            let world = World::new(small());
            world.client().store(0, Mode::Set, 7);
            join([world.spawn(change), world.spawn(change), world.spawn(invalidate)]);
            assert_eq!(world.client().get(0), None, "the changed value was invalidated");
        });
    }
}

#[test]
fn gets_against_sets_and_a_delete() {
    explore(|| {
        // The readers load nothing, so there is nothing to fence.
        let world = World::fenced(Implicit::Off);
        let look = |client: &mut Client| (0..3).for_each(|_| _ = client.get(0));
        join([
            world.spawn(look),
            world.spawn(look),
            world.spawn(|client| {
                set(client);
                delete(client);
                set(client);
            }),
        ]);
        assert_eq!(world.client().get(0), Some(3), "the last set stands");
    });
}

#[test]
fn incrs_against_a_flush() {
    explore(|| {
        let world = World::new(small());
        (0..ROWS).for_each(|row| _ = world.client().store(row, Mode::Set, 7));
        let incr_all = |client: &mut Client| (0..ROWS).for_each(|row| client.incr(row));
        join([world.spawn(incr_all), world.spawn(incr_all), world.spawn(|client| client.flush())]);
        assert_eq!(
            [0; ROWS].map(|row| world.client().get(row)),
            [None; ROWS],
            "the incremented values were invalidated"
        );
    });
}

#[test]
fn concurrent_incrs_are_not_lost() {
    explore(|| {
        let world = World::new(small());
        world.client().store(0, Mode::Set, 10);
        let incr_twice = |client: &mut Client| (0..2).for_each(|_| client.incr(0));
        join([world.spawn(incr_twice), world.spawn(incr_twice)]);
        assert_eq!(world.client().get(0), Some(14));
    });
}

#[test]
fn a_lease_has_one_holder_at_a_time() {
    explore(|| {
        let world = World::new(small());
        let holders = Arc::new(AtomicU64::new(0));
        let threads = [0; 3].map(|_| {
            let holders = Arc::clone(&holders);
            world.spawn(move |client| {
                (0..2)
                    .filter_map(|_| {
                        client.lease(0).map(|token| {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                            holders.fetch_sub(1, Ordering::SeqCst);
                            assert_eq!(client.lease_set(0, token, Fill::Release), Ok(Filled::Released));
                        })
                    })
                    .count()
            })
        });
        assert!(join(threads).iter().sum::<usize>() >= 1);
    });
    explore(|| {
        let world = World::new(small());
        let threads = [0; 3].map(|_| world.spawn(|client| usize::from(client.lease(0).is_some())));
        let [first, second, third] = join(threads);
        assert_eq!(first + second + third, 1, "within the window");
    });
}

#[test]
fn a_token_fills_once() {
    explore(|| {
        let world = World::new(small());
        let token = world.client().lease(0).expect("no other client wants it");
        let threads = [0; 3].map(|_| world.spawn(move |client| client.fill(0, token, 0)));
        let done = join(threads);
        assert_eq!(done.iter().filter(|done| **done == Ok(Filled::Visible)).count(), 1);
        assert_eq!(done.iter().filter(|done| **done == Err(Refused::Superseded)).count(), 2);
    });
}

/// Everything that can end a lease.
const ENDINGS: [fn(&mut Client, Token); 8] = [
    |holder, _| holder.leave(),
    |holder, token| _ = holder.fill(0, token, 0),
    |holder, token| _ = holder.lease_set(0, token, Fill::Release),
    |holder, _| _ = holder.delete(0, None),
    |holder, _| _ = holder.store(0, Mode::Add, 0),
    |holder, _| _ = holder.store(0, Mode::Set, 0),
    |holder, _| holder.flush(),
    |holder, _| holder.invalidate(Group::Prefix(PREFIX)),
];

#[test]
fn waiters_are_woken_by_every_end_of_a_lease() {
    for ending in ENDINGS {
        explore(move || {
            let world = World::new(small());
            let mut holder = world.client();
            let token = holder.lease(0).expect("no other client wants it");
            join([
                world.spawn(|client| client.read_patiently(0)),
                world.spawn(|client| client.read_patiently(0)),
                world.spawn(|client| client.read_impatiently(0)),
                thread::spawn(move || ending(&mut holder, token)),
            ]);
        });
    }
}

#[test]
fn waiters_are_woken_when_a_hold_off_ends() {
    explore(|| {
        let world = World::fenced(Implicit::Off);
        world.client().delete(0, Some(at(Duration::from_secs(5)).millis));
        join([
            world.spawn(|client| client.read_patiently(0)),
            world.spawn(|client| client.read_patiently(0)),
            world.spawn(set),
        ]);
    });
}

/// Clients without leases, against a client with leases and a writer.
fn plain_story(implicit: Implicit, mode: Mode, write: fn(&mut Client)) {
    let world = World::fenced(implicit);
    join([
        world.spawn(move |client| {
            client.read_plainly(0, mode);
            client.get(0);
        }),
        world.spawn(move |client| client.read_plainly(0, Mode::Set)),
        world.spawn(read_by_lease),
        world.spawn(write),
    ]);
    world.client().get(0);
}

#[test]
fn a_plain_fill_against_an_invalidation() {
    for (implicit, mode, write) in [
        (Implicit::On, Mode::Set, delete as fn(&mut Client)),
        (Implicit::On, Mode::Add, delete),
        (Implicit::On, Mode::Set, flush),
        (Implicit::Shared, Mode::Set, delete),
        (Implicit::On, Mode::Set, invalidate_prefix),
        (Implicit::On, Mode::Add, invalidate_tag),
        (Implicit::Shared, Mode::Set, invalidate_tag_and_forget_it),
    ] {
        explore(move || plain_story(implicit, mode, write));
    }
}

#[test]
#[should_panic(expected = "is served after the invalidation of")]
fn a_stale_fill_is_found_without_the_fence() {
    explore(|| plain_story(Implicit::Off, Mode::Set, delete));
}

#[test]
fn a_clients_own_invalidation_does_not_hide_anothers() {
    let flush = |client: &mut Client| client.flush();
    let delete_own = |client: &mut Client| _ = client.delete(0, None);
    for (own, foreign) in [
        (flush as fn(&mut Client), delete as fn(&mut Client)),
        (delete_own, delete),
        (delete_own, invalidate_tag),
        (flush, invalidate_prefix),
    ] {
        explore(move || {
            let world = World::new(small());
            join([
                world.spawn(foreign),
                world.spawn(move |client| {
                    if client.get(0).is_none() {
                        let version = client.query(0);
                        own(client);
                        client.store(0, Mode::Set, version);
                    }
                }),
            ]);
            world.client().get(0);
        });
    }
}

#[test]
fn a_token_has_its_full_life_if_threads_race_at_a_new_second() {
    explore(|| {
        let world = World::new(small());
        let second = |client: &mut Client| client.now = at(Duration::from_secs(5));
        let leases = |row| {
            move |client: &mut Client| {
                second(client);
                (row, client.lease(row).expect("no other client wants it"))
            }
        };
        let tokens = join([world.spawn(leases(0)), world.spawn(leases(1))]);
        let mut late = world.client();
        late.now = at(Duration::from_secs(65));
        let [(row, token), (_, too_old)] = tokens;
        assert_eq!(late.fill(row, token, 0), Ok(Filled::Visible), "60 s are not too old");
        late.now = at(Duration::from_secs(66));
        assert_eq!(late.fill(1, too_old, 0), Err(Refused::Unknown), "61 s are");
    });
}

#[test]
fn the_memory_limit_holds_when_all_threads_store_at_once() {
    explore(|| {
        let world = World::new(small());
        // Nine values, of which four fit.
        let threads = [0..3, 3..6, 6..9].map(|names: Range<usize>| {
            world.spawn(move |client| {
                names.for_each(|name| client.store_large(name, small().memory_bytes / 5))
            })
        });
        join(threads);
        let counts = world.cache.counts();
        assert!(counts.bytes <= small().memory_bytes as u64 && counts.evictions >= 5, "{counts:?}");
    });
}

/// A source was late, and its events are applied now. A reader that looked for invalidations first, and at
/// the attested time after, was served a value that is older than the bound.
#[test]
fn a_value_that_is_withheld_is_not_served_while_its_source_catches_up() {
    for invalidate in [delete, invalidate_prefix, invalidate_tag] {
        explore(move || {
            let policy = Policy {
                depends_on: vec!["db".to_owned()],
                max_staleness: Duration::from_secs(2),
                ..Policy::default()
            };
            let world = World::new(Config { policies: policy.into(), ..small() });
            world.client().store(0, Mode::Set, 0);
            let late = |client: &mut Client| client.now = at(Duration::from_secs(10));
            let source = world.spawn(move |client| {
                late(client);
                invalidate(client);
                client.attest("db");
            });
            let reader = world.spawn(move |client| {
                late(client);
                assert_eq!(client.get(0), None, "it is withheld, or invalidated");
            });
            join([source, reader]);
        });
    }
}

/// Reads a row several times, of which all but the first may be served by a copy. Versions only grow.
fn watch(client: &mut Client) {
    let mut newest = 0;
    for found in (0..4).filter_map(|_| client.get(0)) {
        assert!(found >= newest, "version {found} is served after version {newest}");
        newest = found;
    }
}

#[test]
fn copies_against_every_change() {
    let incr = |client: &mut Client| client.write(0..1, |client, _| client.incr(0));
    let set_longer = |client: &mut Client| {
        client.write(0..1, |client, version| client.store_padded(0, version));
    };
    for change in [delete, set, set_longer, incr, flush, invalidate_prefix, invalidate_tag] {
        explore(move || {
            // The readers load nothing, so there is nothing to fence.
            let world = World::fenced(Implicit::Off);
            world.client().store(0, Mode::Set, 0);
            let changes = world.spawn(move |client| {
                change(client);
                change(client);
            });
            join([world.spawn(watch), world.spawn(watch), changes]);
            world.client().get(0);
        });
    }
}

/// A change that does not invalidate at once, but by which a value is no longer served at a later time, in
/// the same sixteenth of a second or later.
fn copies_against(end: fn(&mut Client, &World), millis: u64) {
    explore(move || {
        let world = World::fenced(Implicit::Off);
        world.client().store(0, Mode::Set, 0);
        let has_ended = Arc::new(AtomicU64::new(0));
        let (ended, cache) = (Arc::clone(&has_ended), Arc::clone(&world));
        let ends = world.spawn(move |client| {
            client.now = at(Duration::from_millis(10_005));
            end(client, &cache);
            ended.store(1, Ordering::SeqCst);
        });
        let reads = world.spawn(move |client| {
            for _ in 0..3 {
                client.now = at(Duration::from_millis(10_005));
                client.get(0);
                let is_over = has_ended.load(Ordering::SeqCst) == 1;
                client.now = at(Duration::from_millis(millis));
                assert!(client.get(0).is_none() || !is_over, "it has ended");
            }
        });
        join([ends, reads]);
    });
}

#[test]
fn copies_against_a_flush_that_is_due_later() {
    copies_against(|client, _| client.flush_at(Some(10_030)), 10_040);
}

#[test]
fn copies_against_an_expiry() {
    let end: fn(&mut Client, &World) = |client, _| {
        client.touch(0, Expiry::after(Duration::from_millis(1), client.now));
    };
    copies_against(end, 10_100);
}

#[test]
fn copies_against_a_policy_that_withholds_values() {
    copies_against(
        |_, world| {
            let (depends_on, max_staleness) = (vec!["db".to_owned()], Duration::from_secs(2));
            world.cache.set_policies(Policy { depends_on, max_staleness, ..Policy::default() }.into());
        },
        10_005,
    );
}

#[test]
fn reads_of_copies_are_counted_also_those_of_threads_that_have_ended() {
    explore(|| {
        let world = World::fenced(Implicit::Off);
        world.client().store(0, Mode::Set, 0);
        join([0; 2].map(|_| world.spawn(watch)));
        assert_eq!(world.cache.counts().hits(), 8);
    });
}

const RANDOM_SCHEDULES: usize = 4_000;
const PCT_SCHEDULES: usize = 4_000;
/// Changes of priority in one schedule.
const PCT_DEPTH: usize = 3;
