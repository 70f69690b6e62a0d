//! The lines of a dump, in each of memcached's formats.

use std::borrow::Cow;

use super::{LINE_END, fact};
use crate::protocol::base64;
use crate::protocol::message::{DumpForm, Listed};
use crate::protocol::output::Output;
use crate::shown::{Encoded, word};

/// One line of a dump.
pub(super) fn listed(output: &mut Output, form: DumpForm, listed: &Listed) {
    match form {
        DumpForm::Cachedump => {
            output.push(b"ITEM ");
            output.push(word(listed.key).as_bytes());
            fact(output, b" [", listed.value_bytes);
            fact(output, b" b; ", listed.exptime_unix);
            output.push(b" s]\r\n");
        }
        DumpForm::Keys => {
            output.push(b"mg ");
            match word(listed.key) {
                Cow::Borrowed(word) => output.push(word.as_bytes()),
                Cow::Owned(_) => {
                    base64::encode(listed.key, |digits| output.push(digits));
                    output.push(b" b");
                }
            }
            output.push(LINE_END);
        }
        DumpForm::Meta => meta_listed(output, listed),
    }
}

/// memcached ends these lines with a space and a bare line feed.
fn meta_listed(output: &mut Output, listed: &Listed) {
    output.push(b"key=");
    output.push(Encoded(listed.key).to_string().as_bytes());
    match listed.exptime_unix {
        0 => output.push(b" exp=-1"),
        exptime => fact(output, b" exp=", exptime),
    }
    fact(output, b" la=", listed.accessed_unix);
    fact(output, b" cas=", listed.unique);
    output.push(if listed.is_fetched { b" fetch=yes" } else { b" fetch=no" });
    fact(output, b" cls=1 size=", listed.bytes);
    fact(output, b" flags=", listed.flags.into());
    output.push(b" \n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: DumpForm, key: &[u8], expected: &str) {
        let listed = Listed {
            accessed_unix: 8,
            bytes: 64,
            exptime_unix: 9,
            flags: 7,
            is_fetched: true,
            key,
            unique: 5,
            value_bytes: 3,
        };
        let mut output = Output::default();
        super::listed(&mut output, form, &listed);
        assert_eq!(String::from_utf8(output.take()).unwrap(), expected);
    }

    #[test]
    fn a_key_that_is_no_word_is_written_in_another_way() {
        check(DumpForm::Keys, b"a", "mg a\r\n");
        check(DumpForm::Keys, b"a b\x00c", "mg YSBiAGM= b\r\n");
        check(DumpForm::Cachedump, b"a", "ITEM a [3 b; 9 s]\r\n");
        check(DumpForm::Cachedump, b"a\r\nb", "ITEM a%0D%0Ab [3 b; 9 s]\r\n");
        let rest = "exp=9 la=8 cas=5 fetch=yes cls=1 size=64 flags=7 \n";
        check(DumpForm::Meta, b"a:%\xff", &format!("key=a%3A%25%FF {rest}"));
    }
}
