//! Patterns: names of tables and kinds of events, in which `*` stands for any text.

use serde::{Deserialize, Deserializer};

use crate::events::parsed::parsed;

/// A name, in which `*` stands for any text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pattern(String);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, Pattern::new)
    }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Pattern, &'static str> {
        if text.is_empty() {
            Err("an empty name fits nothing: write \"*\" for all")
        } else {
            Ok(Pattern(text.to_owned()))
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Whether this text fits.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut left) = text.strip_prefix(first) else { return false };
        let mut parts = rest.split('*').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return left.ends_with(part);
            }
            let Some(found) = left.find(part) else { return false };
            left = &left[found + part.len()..];
        }
        true
    }

    /// Whether this table fits; a pattern without a schema fits tables of every schema.
    pub(super) fn is_match_of_table(&self, table: &str) -> bool {
        let name = if self.0.contains('.') { table } else { table.rsplit('.').next().unwrap_or(table) };
        self.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("product.*", "product.", true),
            ("product.*", "products.x", false),
            ("*.x", "a.b.x", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(Pattern(pattern.to_owned()).is_match(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_table_without_a_schema_is_in_any_schema() {
        let fits = |pattern: &str, table: &str| Pattern(pattern.to_owned()).is_match_of_table(table);
        assert!(fits("products", "public.products") && fits("products", "products"));
        assert!(fits("public.*", "public.products") && !fits("shop.products", "public.products"));
    }
}
