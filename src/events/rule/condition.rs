//! Conditions: which events a rule is for, beyond their table, kind and operation.
//!
//! ```text
//! or    = and { "or" and }        and  = not { "and" not }       not = "not" not | "(" or ")" | test
//! test  = "changed" "(" name { "," name } ")" | "exists" "(" path ")"
//!       | operand [ relation operand | "in" "[" operand { "," operand } "]" ]
//! relation = "==" | "!=" | "<" | "<=" | ">" | ">="
//! operand = path | "text" | 'text' | number | true | false | null
//! ```

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::cursor::{Cursor, Malformed};
use super::path::{Choice, Found, Missing, Path};
use crate::events::event::{Event, Op};
use crate::events::parsed::parsed;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    /// At least one of these columns changed.
    Changed(Vec<String>),
    Compare(Operand, Relation, Operand),
    Exists(Path),
    In(Operand, Vec<Operand>),
    Not(Box<Node>),
    /// The operand is `true`.
    True(Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Path),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
    NotGreater,
    NotLess,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// [`Malformed`] has the column and the reason.
    pub fn parse(text: &str) -> Result<Condition, Malformed> {
        let mut at = Cursor::new(text);
        let node = any(&mut at, 0)?;
        at.skip_spaces();
        if at.is_at_end() {
            Ok(Condition(node))
        } else {
            Err(at.error("expected \"and\", \"or\" or the end"))
        }
    }

    /// Whether an event fulfills it.
    ///
    /// # Errors
    /// A sentence that says which value is missing or of the wrong type.
    pub fn holds(&self, event: &Event) -> Result<bool, String> {
        self.0.holds(event)
    }

    /// Whether it needs columns of the old row that are no part of the row's identity.
    pub fn needs_full_before(&self, key: &[&str]) -> bool {
        self.0.needs_full_before(key)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |text| Condition::parse(text).map_err(|error| format!("{text:?}, {error}")))
    }
}

impl Node {
    fn holds(&self, event: &Event) -> Result<bool, String> {
        match self {
            Node::All(nodes) => {
                for node in nodes {
                    if !node.holds(event)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Any(nodes) => {
                for node in nodes {
                    if node.holds(event)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Changed(columns) => {
                for column in columns {
                    if changed(column, event)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Compare(left, relation, right) => {
                compare(left.value(event)?.as_ref(), *relation, right.value(event)?.as_ref())
            }
            Node::Exists(path) => Ok(!matches!(
                path.find(event, &Choice::default()),
                Found::Missing(Missing::Absent | Missing::Null | Missing::NoBefore)
            )),
            Node::In(operand, list) => {
                let value = operand.value(event)?;
                for candidate in list {
                    if compare(&value, Relation::Equal, candidate.value(event)?.as_ref())? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Not(node) => Ok(!node.holds(event)?),
            Node::True(operand) => match &*operand.value(event)? {
                Value::Bool(value) => Ok(*value),
                other => Err(format!("{other} is not true or false")),
            },
        }
    }

    fn needs_full_before(&self, key: &[&str]) -> bool {
        let needs = |operand: &Operand| match operand {
            Operand::Path(path) => {
                path.needs_before() && !path.column().is_some_and(|name| key.contains(&name))
            }
            Operand::Literal(_) => false,
        };
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().any(|node| node.needs_full_before(key)),
            Node::Changed(columns) => columns.iter().any(|column| !key.contains(&column.as_str())),
            Node::Compare(left, _, right) => needs(left) || needs(right),
            Node::Exists(_) => false,
            Node::In(operand, list) => needs(operand) || list.iter().any(needs),
            Node::Not(node) => node.needs_full_before(key),
            Node::True(operand) => needs(operand),
        }
    }
}

impl Operand {
    fn parse(at: &mut Cursor) -> Result<Operand, Malformed> {
        at.skip_spaces();
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if at.take_word(word) {
                return Ok(Operand::Literal(value));
            }
        }
        match at.peek() {
            Some(quote @ ('"' | '\'')) => {
                at.take(quote.encode_utf8(&mut [0; 4]));
                let text = at.take_while(|c| c != quote).to_owned();
                at.expect(quote.encode_utf8(&mut [0; 4]))?;
                Ok(Operand::Literal(Value::String(text)))
            }
            Some(first) if first.is_ascii_digit() || first == '-' => {
                let text = at.take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | 'e' | 'E' | '+'));
                let number =
                    serde_json::from_str(text).map_err(|_| at.error(format!("{text:?} is not a number")))?;
                Ok(Operand::Literal(Value::Number(number)))
            }
            _ => {
                let start = *at;
                let path = Path::parse(at)?;
                if path.is_many() {
                    return Err(
                        start.error("a condition compares single values: \"each\" and \"[]\" have many")
                    );
                }
                Ok(Operand::Path(path))
            }
        }
    }

    fn value<'v>(&'v self, event: &'v Event) -> Result<Cow<'v, Value>, String> {
        let path = match self {
            Operand::Literal(value) => return Ok(Cow::Borrowed(value)),
            Operand::Path(path) => path,
        };
        match path.find(event, &Choice::default()) {
            Found::Array(..) => unreachable!("the parser refuses paths to many values"),
            Found::Missing(Missing::Null) => Ok(Cow::Owned(Value::Null)),
            Found::Missing(_) if path.is_optional => Ok(Cow::Owned(Value::Null)),
            Found::Missing(why) => Err(format!("{}: {}", path.text(), why.reason())),
            Found::Number(number) => Ok(Cow::Owned(number.into())),
            Found::Text(text) => Ok(Cow::Owned(Value::String(text.into_owned()))),
            Found::Value(value) => Ok(Cow::Borrowed(value)),
        }
    }
}

/// Whether a column differs between the two rows. A row that appears or disappears changes all of them, and a
/// column that the source does not send may have changed.
fn changed(column: &str, event: &Event) -> Result<bool, String> {
    if event.op != Op::Update {
        return Ok(true);
    }
    let Some(after) = event.after.get(column) else {
        return Err(format!("changed({column}): {}", Missing::Absent.reason()));
    };
    if after.as_str() == Some(crate::events::event::UNAVAILABLE) {
        return Ok(true);
    }
    // The identity comes with the old row only if it changed.
    let before =
        event.before.get(column).or(if event.before.is_null() { event.key.get(column) } else { None });
    match before {
        Some(before) => Ok(before != after),
        None => Err(format!("changed({column}): {}", Missing::NoBefore.reason())),
    }
}

fn compare(left: &Value, relation: Relation, right: &Value) -> Result<bool, String> {
    match relation {
        Relation::Equal => return Ok(is_equal(left, right)),
        Relation::NotEqual => return Ok(!is_equal(left, right)),
        _ => {}
    }
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64().partial_cmp(&right.as_f64()),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    let order = order.ok_or_else(|| format!("{left} and {right} have no order"))?;
    Ok(match relation {
        Relation::Greater => order == Ordering::Greater,
        Relation::Less => order == Ordering::Less,
        Relation::NotGreater => order != Ordering::Greater,
        Relation::NotLess => order != Ordering::Less,
        Relation::Equal | Relation::NotEqual => unreachable!("returned above"),
    })
}

/// 1 and 1.0 are equal.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()))
        }
        _ => left == right,
    }
}

fn any(at: &mut Cursor, depth: usize) -> Result<Node, Malformed> {
    let mut nodes = vec![all(at, depth)?];
    while at.take_word("or") {
        nodes.push(all(at, depth)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
}

fn all(at: &mut Cursor, depth: usize) -> Result<Node, Malformed> {
    let mut nodes = vec![not(at, depth)?];
    while at.take_word("and") {
        nodes.push(not(at, depth)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
}

fn not(at: &mut Cursor, depth: usize) -> Result<Node, Malformed> {
    if depth > DEPTH_MAX {
        return Err(at.error(format!("more than {DEPTH_MAX} levels of brackets and \"not\"")));
    }
    at.skip_spaces();
    if at.take_word("not") {
        return Ok(Node::Not(Box::new(not(at, depth + 1)?)));
    }
    if at.take("(") {
        let node = any(at, depth + 1)?;
        at.expect(")")?;
        return Ok(node);
    }
    test(at)
}

fn test(at: &mut Cursor) -> Result<Node, Malformed> {
    if let Some(ahead) = call(at, "changed") {
        *at = ahead;
        let mut columns = Vec::new();
        loop {
            at.skip_spaces();
            let column = at.word().ok_or_else(|| at.error("expected the name of a column"))?;
            columns.push(column.to_owned());
            at.skip_spaces();
            if !at.take(",") {
                break;
            }
        }
        at.expect(")")?;
        return Ok(Node::Changed(columns));
    }
    if let Some(ahead) = call(at, "exists") {
        *at = ahead;
        at.skip_spaces();
        let path = Path::parse(at)?;
        at.expect(")")?;
        return Ok(Node::Exists(path));
    }
    let left = Operand::parse(at)?;
    at.skip_spaces();
    if at.take_word("in") {
        return Ok(Node::In(left, list(at)?));
    }
    for (sign, relation) in RELATIONS {
        if at.take(sign) {
            return Ok(Node::Compare(left, relation, Operand::parse(at)?));
        }
    }
    Ok(Node::True(left))
}

fn list(at: &mut Cursor) -> Result<Vec<Operand>, Malformed> {
    at.expect("[")?;
    let mut operands = Vec::new();
    loop {
        operands.push(Operand::parse(at)?);
        at.skip_spaces();
        if !at.take(",") {
            at.expect("]")?;
            return Ok(operands);
        }
    }
}

/// The place after the opening bracket, if a call of this function comes next.
fn call<'t>(at: &Cursor<'t>, name: &str) -> Option<Cursor<'t>> {
    let mut ahead = *at;
    (ahead.take_word(name) && ahead.take("(")).then_some(ahead)
}

/// The longer signs first.
const RELATIONS: [(&str, Relation); 6] = [
    ("==", Relation::Equal),
    ("!=", Relation::NotEqual),
    ("<=", Relation::NotGreater),
    (">=", Relation::NotLess),
    ("<", Relation::Less),
    (">", Relation::Greater),
];

const DEPTH_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update() -> Event {
        Event {
            before: json!({"id": 7, "price": 99, "name": "Tea", "note": null}),
            after: json!({"id": 7, "price": 79.0, "name": "Tea", "note": null, "on": true}),
            op: Op::Update,
            table: Some("public.products".to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn conditions_judge_events() {
        for (text, expected) in [
            ("op == \"update\" and table == 'public.products'", true),
            ("op == 'delete' or row.price < 80", true),
            ("row.price == 79 and before.price == 99.0", true),
            ("not row.on", false),
            ("not (row.on and row.id != 7)", true),
            ("changed(price)", true),
            ("changed(name)", false),
            ("changed(name, price)", true),
            ("changed(name) or row.id in [1, 7]", true),
            ("row.name in ['Coffee']", false),
            ("row.note == null", true),
            ("exists(row.on) and not exists(before.on)", true),
            ("row.none? == null", true),
            ("row.name >= 'Tea' and row.name <= 'Tea'", true),
            ("row.id > -1", true),
        ] {
            let condition = Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(condition.holds(&update()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_row_that_appears_or_disappears_changes_all_columns() {
        let condition = Condition::parse("changed(price)").unwrap();
        for op in [Op::Create, Op::Delete] {
            assert_eq!(condition.holds(&Event { op, ..update() }), Ok(true));
        }
        let unsent = json!({"id": 7, "price": crate::events::event::UNAVAILABLE});
        assert_eq!(condition.holds(&Event { after: unsent, ..update() }), Ok(true), "it may have changed");
    }

    #[test]
    fn a_missing_value_is_an_error() {
        let partly = Event { before: Value::Null, key: json!({"id": 7}), ..update() };
        for (text, why) in [
            ("row.none == 1", "no such field"),
            ("changed(price)", "REPLICA IDENTITY FULL"),
            ("before.price == 1", "REPLICA IDENTITY FULL"),
            ("row.name", "is not true or false"),
            ("row.name < 1", "have no order"),
        ] {
            let error = Condition::parse(text).unwrap().holds(&partly).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!(Condition::parse("changed(id)").unwrap().holds(&partly), Ok(false));
    }

    #[test]
    fn errors_have_the_column() {
        let deep = "(".repeat(DEPTH_MAX + 1);
        for (text, column, why) in [
            ("row.id ==", 10, "name of a field"),
            ("(row.on", 8, "expected \")\""),
            ("row.on and", 11, "name of a field"),
            ("row.on row.on", 8, "expected \"and\""),
            ("changed()", 9, "name of a column"),
            ("items[].id == 1", 1, "have many"),
            ("row.id in 7", 11, "expected \"[\""),
            ("row.name == 'Tea", 17, "expected \"'\""),
            ("row.id == 1-1", 14, "is not a number"),
            (&deep, DEPTH_MAX + 2, "levels of brackets"),
        ] {
            let error = Condition::parse(text).expect_err(text);
            assert!(error.column == column && error.why.contains(why), "{text}: {error}");
        }
    }
}
