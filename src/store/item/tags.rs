//! The tags of an item: names by which many items can be invalidated together.
//!
//! They are packed, each after a byte with its length, in requests and in items alike.

use crate::limits::{KEY_BYTES_MAX, TAGS_MAX};

/// The tags of an item.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tags<'a>(&'a [u8]);

/// Owned tags, borrowed as [`Tags`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TagList(Vec<u8>);

impl<'a> Tags<'a> {
    /// No tags.
    pub const NONE: Tags<'static> = Tags(&[]);

    /// The result of [`Tags::packed`].
    pub(crate) fn from_packed(packed: &'a [u8]) -> Self {
        Tags(packed)
    }

    pub(crate) fn packed(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    pub fn to_list(self) -> TagList {
        TagList(self.0.to_vec())
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first()?;
        let (tag, rest) = rest.split_at((*len).into());
        self.0 = rest;
        Some(tag)
    }
}

impl TagList {
    /// At most [`TAGS_MAX`] tags, each of 1 to [`KEY_BYTES_MAX`] bytes; `None` for others.
    pub fn new<'a>(tags: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut packed, mut count) = (Vec::new(), 0);
        for tag in tags {
            if !(1..=KEY_BYTES_MAX).contains(&tag.len()) || count == TAGS_MAX {
                return None;
            }
            packed.push(tag.len() as u8);
            packed.extend_from_slice(tag);
            count += 1;
        }
        Some(TagList(packed))
    }

    /// The tags, borrowed.
    pub fn tags(&self) -> Tags<'_> {
        Tags(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_tags_are_read_back_in_order() {
        let list = TagList::new([&b"a"[..], &[b't'; 250], b"c"]).unwrap();
        assert_eq!(list.tags().collect::<Vec<_>>(), [&b"a"[..], &[b't'; 250], b"c"]);
        assert_eq!(list.tags().to_list(), list);
    }

    #[test]
    fn an_item_has_at_most_sixteen_tags_of_at_most_250_bytes() {
        let packed = |count, len| TagList::new(std::iter::repeat_n(&[b't'; 251][..len], count));
        assert_eq!(packed(16, 250).unwrap().tags().packed().len(), 16 * 251);
        assert_eq!((packed(17, 1), packed(1, 251), packed(1, 0)), (None, None, None));
    }
}
