//! Places in a configuration file.

use toml::de::{DeTable, DeValue};

/// A line and the column in it, both counted from 1.
pub(super) type Place = (usize, usize);

/// The place of this byte.
pub(super) fn place(text: &str, start: usize) -> Place {
    let before = text.get(..start.min(text.len())).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The place of a setting, by the names of its tables and its own; a number counts in an array. If there is
/// no such setting, the place of the innermost table.
pub(super) fn locate(text: &str, path: &[impl AsRef<str>]) -> Place {
    let start = DeTable::parse(text).ok().and_then(|whole| start(whole.get_ref(), path));
    place(text, start.unwrap_or(0))
}

fn start(table: &DeTable<'_>, path: &[impl AsRef<str>]) -> Option<usize> {
    let (name, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name.as_ref())?;
    match value.get_ref() {
        // A header begins before the name, and a table in one line after it.
        DeValue::Table(inner) => start(inner, rest).or(Some(value.span().start.min(key.span().start))),
        DeValue::Array(elements) => {
            let element = rest.split_first().and_then(|(nth, rest)| {
                let element = elements.get(nth.as_ref().parse::<usize>().ok()?)?;
                let inner =
                    if let DeValue::Table(inner) = element.get_ref() { start(inner, rest) } else { None };
                Some(inner.unwrap_or(element.span().start))
            });
            element.or(Some(key.span().start))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => Some(key.span().start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_however_they_are_written() {
        let text = "[default]\nttl = 5\n[source.a]\nkind = \"http\"\n  covers = [\"x:\"]\n[source]\nb.slot = 1\nb.d = { e = 1 }\n\
                    [[rule]]\nkeys = []\n[[rule]]\n keys = []\n[prefix.'p\"q:']\nttl = 7\n";
        for (path, expected) in [
            (&["default", "ttl"][..], (2, 1)),
            (&["source", "a", "covers"], (5, 3)),
            (&["source", "a", "slot"], (3, 1)),
            (&["source", "b", "slot"], (7, 3)),
            (&["source", "b", "d"], (8, 3)),
            (&["rule", "1", "keys"], (12, 2)),
            (&["rule", "0", "tags"], (9, 1)),
            (&["rule", "7"], (9, 3)),
            (&["prefix", "p\"q:", "ttl"], (14, 1)),
            (&["nothing"], (1, 1)),
            (&[], (1, 1)),
        ] {
            assert_eq!(locate(text, path), expected, "{path:?}");
        }
    }
}
