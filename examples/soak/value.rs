//! Values that show whose they are, which version, and whether all their bytes are right.

/// The value of a version, with `bytes` bytes or a few more.
pub fn make(key: &str, version: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{key} {version} ").into_bytes();
    let len = value.len().max(bytes);
    value.resize(len, filler(version));
    value
}

/// The version of a value of this key; `None` if it is of another key, or a byte is wrong.
pub fn version(key: &str, value: &[u8]) -> Option<u64> {
    let mut words = value.splitn(3, |byte| *byte == b' ');
    let is_its = words.next()? == key.as_bytes();
    let version = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let is_right = words.next()?.iter().all(|byte| *byte == filler(version));
    (is_its && is_right).then_some(version)
}

fn filler(version: u64) -> u8 {
    b'a' + (version % 26) as u8
}
