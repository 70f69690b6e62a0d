//! A column's text as JSON, by the type of the column.

use serde_json::{Number, Value};

use super::pgoutput::{Cell, Column};
use crate::events::event::UNAVAILABLE;

/// A value that is not text of UTF-8.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct NotText;

/// The value of a column.
///
/// Booleans and numbers are JSON's. A `numeric` is a number if that has the same value, and otherwise a
/// string: 12.50 is the number 12.5, and 20 digits are a string. `json` is parsed. All else is as PostgreSQL
/// prints it.
pub(super) fn json(cell: Cell, column: &Column) -> Result<Value, NotText> {
    let text = match cell {
        Cell::Binary(bytes) => return Ok(Value::String(hexadecimal(bytes))),
        Cell::Null => return Ok(Value::Null),
        Cell::Text(text) => std::str::from_utf8(text).map_err(|_| NotText)?,
        Cell::Unchanged => return Ok(Value::String(UNAVAILABLE.to_owned())),
    };
    let value = match column.oid {
        BOOL => Some(Value::Bool(text == "t")),
        INT2 | INT4 | INT8 | OID => whole(text),
        FLOAT4 | FLOAT8 => whole(text).or_else(|| text.parse().ok().and_then(number)),
        NUMERIC => numeric(text),
        JSON | JSONB => serde_json::from_str(text).ok(),
        _ => None,
    };
    Ok(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

fn whole(text: &str) -> Option<Value> {
    let signed = text.parse::<i64>().map(Value::from);
    signed.or_else(|_| text.parse::<u64>().map(Value::from)).ok()
}

/// `None` if it is not finite.
fn number(value: f64) -> Option<Value> {
    Number::from_f64(value).map(Value::Number)
}

/// The number with exactly this value, if there is one.
fn numeric(text: &str) -> Option<Value> {
    let shortest = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    whole(shortest).or_else(|| {
        let value: f64 = shortest.parse().ok()?;
        // Rust prints the fewest digits that identify the number, and never an exponent.
        if value.to_string() == shortest { number(value) } else { None }
    })
}

/// As PostgreSQL prints a `bytea`.
fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| char::from_digit(digit.into(), 16).expect("four bits are a digit"));
    ['\\', 'x'].into_iter().chain(digits).collect()
}

const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const OID: u32 = 26;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    fn text(oid: u32, text: &str) -> Value {
        let column = Column { is_key: false, name: "x".to_owned(), oid };
        json(Cell::Text(text.as_bytes()), &column).expect("it is text")
    }

    #[test]
    fn columns_become_json_by_their_type() {
        assert_eq!([text(BOOL, "t"), text(BOOL, "f")], [value!(true), value!(false)]);
        assert_eq!(text(INT2, "-7"), value!(-7));
        assert_eq!(text(INT8, "9223372036854775807"), value!(i64::MAX));
        assert_eq!(text(OID, "4294967295"), value!(u32::MAX));
        assert_eq!(text(FLOAT8, "1"), value!(1));
        assert_eq!(text(FLOAT8, "1e+300"), value!(1e300));
        assert_eq!([text(FLOAT4, "0.1"), text(FLOAT8, "NaN")], [value!(0.1), value!("NaN")]);
        assert_eq!(text(JSONB, r#"{"a": [1, null]}"#), value!({"a": [1, null]}));
        assert_eq!(text(JSON, "not JSON"), value!("not JSON"));
        assert_eq!(text(25, "7"), value!("7"));
        assert_eq!(text(1184, "2026-11-29 12:00:00+00"), value!("2026-11-29 12:00:00+00"));
    }

    #[test]
    fn a_numeric_is_a_number_if_that_has_the_same_value() {
        for (printed, expected) in [
            ("7900", value!(7900)),
            ("-12.50", value!(-12.5)),
            ("1.00", value!(1)),
            ("100", value!(100)),
            ("0.000", value!(0)),
            ("0.1", value!(0.1)),
            ("18446744073709551615", value!(u64::MAX)),
            ("18446744073709551617", value!("18446744073709551617")),
            ("0.12345678901234567890", value!("0.12345678901234567890")),
            ("NaN", value!("NaN")),
            ("Infinity", value!("Infinity")),
        ] {
            assert_eq!(text(NUMERIC, printed), expected, "{printed}");
        }
    }

    #[test]
    fn cells_without_text_have_a_value_too() {
        let column = Column { is_key: false, name: "x".to_owned(), oid: INT4 };
        assert_eq!(json(Cell::Null, &column), Ok(Value::Null));
        assert_eq!(json(Cell::Unchanged, &column), Ok(value!(UNAVAILABLE)));
        assert_eq!(json(Cell::Binary(&[0, 255]), &column), Ok(value!("\\x00ff")));
        assert_eq!(json(Cell::Text(&[0xff]), &column), Err(NotText));
    }
}
