//! Rules on random templates, conditions and events: none panics, and every name that comes out is possible.

use leasehold::events::event::{Event, Op};
use leasehold::events::format::{Format, Headers};
use leasehold::events::rule::Rules;
use leasehold::events::rule::condition::Condition;
use leasehold::events::rule::rules::NAMES_MAX;
use leasehold::events::rule::template::Template;
use serde_json::{Value, json};

use crate::support::random::Random;

/// Pieces of templates and conditions, right and wrong.
const PIECES: [&str; 34] = [
    "{",
    "}",
    "{{",
    "}}",
    "row",
    "each",
    "before",
    "after",
    "key",
    "data",
    "headers",
    "source",
    ".",
    "id",
    "[]",
    "[0]",
    "?",
    "|",
    "lower",
    "micros",
    "url",
    "md5",
    "product:",
    ":",
    " ",
    "and",
    "or",
    "not",
    "(",
    ")",
    "==",
    "changed(id)",
    "\"x\"",
    "ü",
];

fn pieces(random: &mut Random, most: u64) -> String {
    (0..random.below(most)).map(|_| PIECES[random.below(PIECES.len() as u64) as usize]).collect()
}

fn value(random: &mut Random, depth: u64) -> Value {
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.below(1_000_000)),
        2 => json!(random.below(2) == 0),
        3 => json!(["e", "x", "ü \n", "a b", "2026-11-29T12:00:00Z"][random.below(5) as usize]),
        4 => json!("k".repeat(1 + random.below(300) as usize)),
        5 => (0..random.below(4)).map(|_| value(random, depth - 1)).collect(),
        _ => object(random, depth - 1),
    }
}

fn object(random: &mut Random, depth: u64) -> Value {
    let names = ["id", "row", "key", "x", "items"];
    let fields = (0..random.below(5)).map(|nth| (names[nth as usize].to_owned(), value(random, depth)));
    Value::Object(fields.collect())
}

fn event(random: &mut Random) -> Event {
    Event {
        after: value(random, 2),
        before: value(random, 2),
        data: object(random, 3),
        key: value(random, 1),
        op: Op::ALL[random.below(6) as usize],
        source: value(random, 1),
        table: (random.below(2) == 0).then(|| "public.t".to_owned()),
        ..Event::default()
    }
}

#[test]
fn random_templates_and_conditions_parse_or_are_refused() {
    let mut random = Random(11);
    let mut parsed = (0, 0);
    for _ in 0..100_000 {
        let (text, event) = (pieces(&mut random, 12), event(&mut random));
        if let Ok(template) = Template::parse(&text) {
            parsed.0 += 1;
            let mut names = 0;
            let _ = template.render(&event, NAMES_MAX, NAMES_MAX, |_| names += 1);
            assert!(names <= NAMES_MAX);
        }
        if let Ok(condition) = Condition::parse(&text) {
            parsed.1 += 1;
            let _ = condition.holds(&event);
        }
    }
    assert!(parsed.0 > 1_000 && parsed.1 > 1_000, "{parsed:?}");
}

#[test]
fn every_name_that_a_rule_invalidates_is_possible() {
    let mut random = Random(12);
    let (mut names, mut misfits) = (0, 0);
    for _ in 0..20_000 {
        let hole =
            ["{row.id}", "{each.id}", "{items[].id}", "{x?}", "{key.id|url}", "{data.items[].x|row.id}"];
        let mut template = || format!("a:{}", hole[random.below(hole.len() as u64) as usize]);
        let (key, tag, prefix) = (template(), template(), template() + ":");
        let table = json!([{"source": "db", "op": Op::ALL.map(Op::name), "keys": [key], "tags": [tag], "prefixes": [prefix]}]);
        let rules: Rules = serde_json::from_value(table).unwrap();
        let event = event(&mut random);
        let rule = rules.iter().next().unwrap();
        match rule.apply(&event) {
            Ok(Some(effects)) => {
                let all = [effects.targets.keys, effects.targets.tags, effects.targets.prefixes].concat();
                for name in all {
                    names += 1;
                    let is_word = name.bytes().all(|byte| byte > b' ' && byte != 0x7f);
                    assert!(is_word && (1..=250).contains(&name.len()), "{name:?}");
                    assert!(!name.contains("::"), "an empty value in {name:?}");
                }
            }
            Ok(None) => {}
            Err(_) => misfits += 1,
        }
    }
    assert!(names > 1_000 && misfits > 1_000, "{names} {misfits}");
}

#[test]
fn random_bytes_are_an_event_or_refused() {
    let mut random = Random(13);
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "\"op\"",
        "\"source\"",
        "\"payload\"",
        "\"specversion\"",
        ":",
        ",",
        "null",
        "\"u\"",
        "7",
        "\u{1}",
    ];
    for _ in 0..100_000 {
        let body: String =
            (0..random.below(14)).map(|_| pieces[random.below(pieces.len() as u64) as usize]).collect();
        for format in [Format::Auto, Format::CloudEvents, Format::Debezium, Format::Json] {
            let _ = format.decode(body.as_bytes(), Headers::new());
        }
    }
}
