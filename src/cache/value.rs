//! Arithmetic on values, by memcached's rules.

use bytes::Bytes;

/// What `incr` and `decr` do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Subtracts; the result is never below 0.
    Decr(u64),
    /// Adds; the result wraps at 2^64.
    Incr(u64),
}

/// The value is not the decimal form of a number below 2^64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotANumber;

/// The number after the step, and its text: as long as before where it is shorter, filled up with spaces.
pub(crate) fn step(value: &[u8], step: Step) -> Result<(u64, Bytes), NotANumber> {
    let old = parse(value).ok_or(NotANumber)?;
    let new = match step {
        Step::Decr(delta) => old.saturating_sub(delta),
        Step::Incr(delta) => old.wrapping_add(delta),
    };
    let mut text = itoa::Buffer::new().format(new).as_bytes().to_vec();
    text.resize(text.len().max(value.len()), b' ');
    Ok((new, text.into()))
}

/// As C's `strtoull` with white space around the digits; whatever follows that is ignored, as memcached does.
fn parse(value: &[u8]) -> Option<u64> {
    let text = value.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits);
    if !rest.first().is_none_or(|byte| byte.is_ascii_whitespace() || *byte == 0x0b) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, by: Step, expected: Result<(u64, &str), NotANumber>) {
        let expected = expected.map(|(number, text)| (number, Bytes::copy_from_slice(text.as_bytes())));
        assert_eq!(step(value.as_bytes(), by), expected);
    }

    #[test]
    fn incr_wraps_and_decr_stops_at_zero() {
        check("5", Step::Incr(3), Ok((8, "8")));
        check("99", Step::Incr(1), Ok((100, "100")));
        check("18446744073709551615", Step::Incr(2), Ok((1, "1                   ")));
        check("5", Step::Decr(6), Ok((0, "0")));
        check("100", Step::Decr(1), Ok((99, "99 ")));
    }

    #[test]
    fn only_a_number_can_be_counted() {
        for text in ["", "a", "12a", "-1", "1.5", " ", "18446744073709551616", "111111111111111111111"] {
            check(text, Step::Incr(1), Err(NotANumber));
        }
        for text in [" 12", "12 ", "12 a", "+12", "12\n", "012"] {
            assert_eq!(step(text.as_bytes(), Step::Incr(1)).map(|(number, _)| number), Ok(13), "{text:?}");
        }
    }
}
