//! Values of flags: sizes, counts and permissions, and the reasons why one is refused.

pub(super) fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or("not octal permissions".to_owned())
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = with_unit(text, [('k', 1 << 10), ('m', MEGABYTE)]);
    let number: usize = digits.parse().map_err(|_| "not a size such as 1048576, 512k or 1m".to_owned())?;
    number.checked_mul(unit).ok_or("a size that is too large".to_owned())
}

/// memcached takes megabytes, and ignores a suffix.
pub(super) fn megabytes(text: &str) -> Result<u32, String> {
    let (digits, unit) = with_unit(text, [('m', 1), ('g', 1 << 10)]);
    let number = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    number.ok_or("not a number of megabytes such as 64, 64m or 1g".to_owned())
}

/// Parts a number from its suffix, in either case; without one of these suffixes, the unit is 1.
fn with_unit<N: From<u8>, const UNITS: usize>(text: &str, units: [(char, N); UNITS]) -> (&str, N) {
    let parted = units.into_iter().find_map(|(suffix, unit)| {
        let digits = text.strip_suffix([suffix, suffix.to_ascii_uppercase()])?;
        Some((digits, unit))
    });
    parted.unwrap_or((text, N::from(1)))
}

pub(super) fn factor(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|factor| *factor > 1.0).ok_or("not a factor above 1".to_owned())
}

pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    text.bytes().next().ok_or("one character is needed".to_owned())
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    let threads: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    (1..=THREADS_MAX).contains(&threads).then_some(threads).ok_or(format!("1 to {THREADS_MAX} threads"))
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

pub(super) const MEGABYTE: usize = 1 << 20;
pub(super) const THREADS_MAX: usize = 256;
