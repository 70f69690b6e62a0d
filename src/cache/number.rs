//! Arithmetic on values, by memcached's rules.

/// The step of `incr` and `decr`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Subtracts; the result is never below 0.
    Decr(u64),
    /// Adds; the result wraps at 2^64.
    Incr(u64),
}

/// The number after the step, and its text: as long as before where it is shorter, filled up with spaces.
/// `None` if the value is no number below 2^64.
pub(crate) fn step(value: &[u8], step: Step) -> Option<(u64, Vec<u8>)> {
    let old = parse(value)?;
    let new = match step {
        Step::Decr(delta) => old.saturating_sub(delta),
        Step::Incr(delta) => old.wrapping_add(delta),
    };
    let mut text = itoa::Buffer::new().format(new).as_bytes().to_vec();
    text.resize(text.len().max(value.len()), b' ');
    Some((new, text))
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
    fn check(value: &str, by: Step, expected: Option<(u64, &str)>) {
        let expected = expected.map(|(number, text)| (number, text.as_bytes().to_vec()));
        assert_eq!(step(value.as_bytes(), by), expected);
    }

    #[test]
    fn incr_wraps_and_decr_stops_at_zero() {
        check("5", Step::Incr(3), Some((8, "8")));
        check("99", Step::Incr(1), Some((100, "100")));
        check("18446744073709551615", Step::Incr(2), Some((1, "1                   ")));
        check("5", Step::Decr(6), Some((0, "0")));
        check("100", Step::Decr(1), Some((99, "99 ")));
    }

    #[test]
    fn only_a_number_can_be_counted() {
        for text in ["", "a", "12a", "-1", "1.5", " ", "18446744073709551616", "111111111111111111111"] {
            check(text, Step::Incr(1), None);
        }
        for text in [" 12", "12 ", "12 a", "+12", "12\n", "012"] {
            assert_eq!(step(text.as_bytes(), Step::Incr(1)).map(|(number, _)| number), Some(13), "{text:?}");
        }
    }
}
