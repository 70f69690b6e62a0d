//! A value, as the client stores and reads it.

use std::ops::Deref;

use bytes::Bytes;

/// Bytes, and a number for the client's own use that the server stores with them.
///
/// A value that was read shares the memory of its packet; copy values that live long.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Value {
    /// The bytes.
    pub data: Bytes,
    /// 0 unless the client uses it, for example for the format of the data.
    pub flags: u32,
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl From<Bytes> for Value {
    fn from(data: Bytes) -> Value {
        Value { data, flags: 0 }
    }
}

impl From<Vec<u8>> for Value {
    fn from(data: Vec<u8>) -> Value {
        Bytes::from(data).into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        text.into_bytes().into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        text.as_bytes().into()
    }
}

impl From<&[u8]> for Value {
    fn from(data: &[u8]) -> Value {
        Bytes::copy_from_slice(data).into()
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, text: &str) -> bool {
        *self.data == *text.as_bytes()
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}
