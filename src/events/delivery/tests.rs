//! The state machine, fed by hand.

use serde_json::{Value, json};

use super::*;
use crate::events::rule::rules::Rule;
use crate::events::source::Poison;

const START: Time = Time { ms: 10_000, wall_us: 1_000_000_000 };

fn after(ms: u64) -> Time {
    Time { ms: START.ms + ms, wall_us: START.wall_us + ms * 1_000 }
}

fn settings() -> Settings {
    Settings {
        covers: None,
        id: None,
        max_backlog: Some(1_000),
        name: "db".to_owned(),
        on_gap: Depth::Hard,
        resumes: true,
        storm: 100,
        takes_instructions: false,
    }
}

fn delivery(settings: Settings, rules: Value) -> Delivery {
    let rules: Vec<Rule> = serde_json::from_value(rules).expect("the rules are right");
    Delivery::new(settings, Arc::new(rules.into()), None)
}

fn products() -> Delivery {
    delivery(settings(), json!([{"table": "products", "keys": ["product:{row.id}"]}]))
}

fn at(offset: u64) -> Position {
    Position { identity: "a".to_owned(), offset }
}

fn change(id: u64) -> Result<Event, Poison> {
    let table = Some("public.products".to_owned());
    Ok(Event { after: json!({"id": id}), at: Some(START.wall_us), op: Op::Create, table, ..Event::default() })
}

fn batch(events: Vec<Result<Event, Poison>>, offset: u64) -> Input {
    Input::Batch(Batch { behind: None, events, position: Some(at(offset)), proven: None })
}

/// The names that steps invalidate, as `key:`, `prefix:` and `tag:`, in order.
fn names(steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    for step in steps {
        let Step::Apply(work) = step else { continue };
        for change in &work.steps {
            let Change::Invalidate(merged) = change else { continue };
            names.extend(merged.all.iter().map(|_| "all".to_owned()));
            names.extend(merged.keys.keys().map(|name| format!("key {name}")));
            names.extend(merged.prefixes.keys().map(|name| format!("prefix {name}")));
            names.extend(merged.tags.keys().map(|name| format!("tag {name}")));
        }
    }
    names
}

/// Whether the report of the batch is so.
fn reports(steps: &[Step], is_so: impl Fn(&Report) -> bool) -> bool {
    steps.iter().any(|step| matches!(step, Step::Report(report) if is_so(report)))
}

fn saved(steps: &[Step]) -> Vec<u64> {
    let saved = |step: &Step| if let Step::Save(position) = step { Some(position.offset) } else { None };
    steps.iter().filter_map(saved).collect()
}

#[test]
fn events_are_applied_then_saved_then_acknowledged_then_attested() {
    let mut delivery = products();
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let input =
        Batch { behind: Some(0), events: vec![change(7)], position: Some(at(5)), proven: Some(9_990) };
    let steps = delivery.handle(Input::Batch(input), START);
    assert_eq!(names(&steps), ["key product:7"]);
    let report = Report { applied: 1, committed: vec![START.wall_us], ..Report::default() };
    let after = [Step::Report(report), Step::Save(at(5)), Step::Acknowledge(at(5)), Step::Attest(9_990)];
    assert_eq!(steps[1..], after);
}

#[test]
fn many_events_for_one_key_cost_one_invalidation() {
    let mut delivery = products();
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let steps = delivery.handle(batch((0..50).map(|n| change(n % 2)).collect(), 1), START);
    assert_eq!(names(&steps), ["key product:0", "key product:1"]);
    assert!(reports(&steps, |report| report.merged == 48 && report.applied == 50));
}

#[test]
fn a_source_without_a_position_begins_at_the_end_with_nothing_cached() {
    let mut delivery = products();
    assert_eq!(delivery.want(), Want::Attach(None));
    let steps = delivery.handle(Input::Attached(Attached::AtEnd(at(9))), START);
    assert_eq!((names(&steps), saved(&steps)), (vec!["prefix product:".to_owned()], vec![9]));
    assert_eq!(delivery.want(), Want::Read);
}

#[test]
fn a_gap_invalidates_everything_that_the_source_can_name() {
    let covers = Some(vec!["shop:".to_owned()]);
    let mut delivery = delivery(Settings { covers, on_gap: Depth::Soft, ..settings() }, json!([]));
    let steps =
        delivery.handle(Input::Attached(Attached::Gap(at(9), "the slot is missing".to_owned())), START);
    assert_eq!(steps[0], Step::Gap("the slot is missing".to_owned()));
    assert_eq!((names(&steps), saved(&steps)), (vec!["prefix shop:".to_owned()], vec![9]));
    let Step::Apply(work) = &steps[1] else { panic!("{steps:?}") };
    assert!(matches!(&work.steps[0], Change::Invalidate(merged) if merged.prefixes["shop:"] == Depth::Soft));
}

#[test]
fn a_source_that_failed_is_attached_again_where_it_was() {
    let mut delivery = products();
    delivery.handle(Input::Attached(Attached::Resumed), START);
    delivery.handle(batch(vec![change(7)], 5), START);
    let broken = Broken::Transient("the connection was closed".to_owned());
    let steps = delivery.handle(Input::Broken(broken.clone(), 0.0), START);
    assert_eq!((steps, delivery.want()), (vec![Step::Failed(broken)], Want::Wait(START.ms + 25)));
    delivery.handle(Input::Tick, after(24));
    assert_eq!(delivery.want(), Want::Wait(START.ms + 25));
    delivery.handle(Input::Tick, after(25));
    assert_eq!(delivery.want(), Want::Attach(Some(at(5))));
}

#[test]
fn an_event_that_cannot_be_applied_puts_the_scope_in_doubt_and_the_stream_goes_on() {
    let rules =
        json!([{"table": "products", "keys": ["product:{row.id}"]}, {"type": "*", "keys": ["page:{slug}"]}]);
    let mut delivery = delivery(settings(), rules);
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let misfit = Event { kind: Some("page".to_owned()), data: json!({}), ..Event::default() };
    let steps = delivery.handle(batch(vec![Ok(misfit), change(7)], 1), START);
    assert_eq!(names(&steps), ["key product:7", "prefix page:"]);
    let Step::DeadLetter(letter) = &steps[2] else { panic!("{steps:?}") };
    assert_eq!((letter.rule.as_deref(), letter.event.is_some()), (Some("*"), true));
    assert!(letter.error.contains("{slug}") && saved(&steps) == [1]);
    let garbled = Poison { error: "not JSON".to_owned(), payload: vec![0xff], subject: Some("t".to_owned()) };
    let steps = delivery.handle(batch(vec![Err(garbled)], 2), START);
    assert_eq!(names(&steps), ["prefix page:", "prefix product:"], "nobody knows which rule it is for");
    let Step::DeadLetter(letter) = &steps[2] else { panic!("{steps:?}") };
    let line = serde_json::to_string(letter).unwrap();
    let read: Letter = serde_json::from_str(&line).unwrap();
    assert_eq!((read.payload.unwrap().bytes(), read.subject.as_deref()), (Some(vec![0xff]), Some("t")));
}

/// `stats events` showed an event that does not fit its rule as applied, with a delay, as well as poison.
#[test]
fn an_event_that_fits_no_rule_that_is_for_it_does_not_count_as_applied() {
    let rules =
        json!([{"table": "products", "keys": ["a:{row.id}"]}, {"table": "products", "keys": ["b:{row.no}"]}]);
    let mut delivery = delivery(settings(), rules);
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let nothing = Event { after: json!({}), ..change(7).expect("it is an event") };
    let steps = delivery.handle(batch(vec![Ok(nothing)], 1), START);
    let counts =
        |report: &Report| (report.applied, report.committed.len(), report.poison.len(), report.unmatched);
    assert!(reports(&steps, |report| counts(report) == (0, 0, 2, 0)), "{steps:?}");
    // One of the rules applies.
    let steps = delivery.handle(batch(vec![change(7)], 2), START);
    assert!(reports(&steps, |report| counts(report) == (1, 1, 1, 0)), "{steps:?}");
}

#[test]
fn a_flood_of_poison_writes_a_limited_number_of_letters() {
    let mut delivery = products();
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let garbled = || Err(Poison { error: "not JSON".to_owned(), payload: Vec::new(), subject: None });
    let letters = |steps: &[Step]| steps.iter().filter(|step| matches!(step, Step::DeadLetter(_))).count();
    let steps = delivery.handle(batch((0..500).map(|_| garbled()).collect(), 1), START);
    assert_eq!(letters(&steps) as u64, LETTERS_PER_MINUTE_MAX);
    assert!(reports(&steps, |report| report.poison.len() == 500));
    let steps = delivery.handle(batch(vec![garbled()], 2), after(60_000));
    assert_eq!(letters(&steps), 1);
}

#[test]
fn an_event_that_comes_a_second_time_is_not_applied_again() {
    let id = Some(serde_json::from_value(json!("{id}")).unwrap());
    let mut delivery =
        delivery(Settings { id, ..settings() }, json!([{"type": "*", "keys": ["product:{product}"]}]));
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let event = |id: &str| {
        Ok(Event { data: json!({"id": id, "product": 7}), kind: Some("x".to_owned()), ..Event::default() })
    };
    let steps = delivery.handle(batch(vec![event("a"), event("a")], 1), START);
    assert!(reports(&steps, |report| report.applied == 1 && report.duplicate == 1));
    assert!(names(&delivery.handle(batch(vec![event("a")], 2), START)).is_empty());
    assert_eq!(names(&delivery.handle(batch(vec![event("b")], 3), START)), ["key product:7"]);
}

/// Readers of a replica may store the old row after the first invalidation. If the server stops before the
/// second one, the events have to come again.
#[test]
fn a_position_is_saved_once_its_repetitions_were_made() {
    let rules = json!([{"table": "products", "keys": ["product:{row.id}"], "repeat-after": "3s"}]);
    let mut delivery = delivery(settings(), rules);
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let steps = delivery.handle(batch(vec![change(7)], 1), START);
    assert_eq!((names(&steps), saved(&steps)), (vec!["key product:7".to_owned()], vec![]));
    assert!(saved(&delivery.handle(batch(vec![], 2), after(1_000))).is_empty());
    assert_eq!(delivery.due(), Some(START.ms + 3_000));
    let steps = delivery.handle(Input::Tick, after(3_000));
    assert_eq!((names(&steps), saved(&steps)), (vec!["key product:7".to_owned()], vec![1, 2]));
    assert_eq!(delivery.due(), None);
}

#[test]
fn too_much_to_catch_up_with_is_given_up_for_a_fresh_start() {
    let mut delivery = products();
    delivery.handle(Input::Attached(Attached::AtEnd(at(9))), START);
    delivery.handle(Input::Broken(Broken::Transient("closed".to_owned()), 1.0), START);
    delivery.handle(Input::Tick, after(50));
    delivery.handle(Input::Attached(Attached::Resumed), after(60));
    let late = Batch { behind: Some(1_001), events: vec![change(7)], position: Some(at(10)), proven: None };
    let steps = delivery.handle(Input::Batch(late), after(60));
    assert!(matches!(&steps[0], Step::Gap(why) if why.contains("max-backlog = 1000")));
    assert_eq!((names(&steps), delivery.want()), (vec!["prefix product:".to_owned()], Want::Attach(None)));
    let steps = delivery.handle(Input::Attached(Attached::AtEnd(at(2_000))), after(70));
    assert_eq!(names(&steps), ["prefix product:"]);
}

/// The limit counted only for the first batch after a restart.
#[test]
fn the_backlog_is_limited_as_long_as_the_source_is_attached() {
    let mut delivery = products();
    let mut offset = 9;
    let mut gives_up = |delivery: &mut Delivery, behind| {
        offset += 1;
        let batch = Batch { behind, events: vec![change(7)], position: Some(at(offset)), proven: None };
        let steps = delivery.handle(Input::Batch(batch), START);
        let is_gap = matches!(&steps[0], Step::Gap(_));
        assert_eq!((saved(&steps).is_empty(), delivery.want() != Want::Read), (is_gap, is_gap));
        is_gap
    };
    delivery.handle(Input::Attached(Attached::Resumed), START);
    assert!(!gives_up(&mut delivery, None) && !gives_up(&mut delivery, Some(1_000)));
    assert!(gives_up(&mut delivery, Some(1_001)));
    delivery.handle(Input::Attached(Attached::AtEnd(at(2_000))), START);
    // A source begins somewhat before the end: to give up again would not help.
    assert!(!gives_up(&mut delivery, Some(4_000_000)) && !gives_up(&mut delivery, Some(1_001)));
    assert!(!gives_up(&mut delivery, Some(1_000)) && gives_up(&mut delivery, Some(1_001)));
}

#[test]
fn a_truncated_table_invalidates_the_scope_of_its_rules() {
    let rules = json!([{"table": "products", "keys": ["product:{row.id}"]}, {"table": "orders", "keys": ["order:{row.id}"]}]);
    let mut delivery = delivery(settings(), rules);
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let table = Some("public.products".to_owned());
    let steps =
        delivery.handle(batch(vec![Ok(Event { op: Op::Truncate, table, ..Event::default() })], 1), START);
    assert_eq!(names(&steps), ["prefix product:"]);
}

#[test]
fn a_message_may_name_what_it_invalidates() {
    let mut delivery = delivery(Settings { takes_instructions: true, ..settings() }, json!([]));
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let message = |data: Value| Ok(Event { data, ..Event::default() });
    let steps = delivery.handle(batch(vec![message(json!({"tags": ["cat:17"], "keys": ["top"]}))], 1), START);
    assert_eq!(names(&steps), ["key top", "tag cat:17"]);
    let steps = delivery.handle(batch(vec![message(json!({"order": 7})), message(json!({}))], 2), START);
    assert!(reports(&steps, |report| report.unmatched == 2));
    let steps = delivery.handle(batch(vec![message(json!({"prefixes": ["no-colon"]}))], 3), START);
    assert_eq!(names(&steps), ["all"], "nobody knows what it meant");
}

#[test]
fn an_import_of_many_rows_invalidates_their_parent() {
    let mut delivery =
        delivery(settings(), json!([{"table": "products", "prefixes": ["product:{row.id}:"]}]));
    delivery.handle(Input::Attached(Attached::Resumed), START);
    let steps = delivery.handle(batch((0..200).map(change).collect(), 1), START);
    assert_eq!(names(&steps), ["prefix product:"]);
}
