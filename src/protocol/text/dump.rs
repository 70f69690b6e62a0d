//! The lines of a dump, in each of memcached's formats.

use crate::protocol::base64;
use crate::protocol::message::{DumpForm, Listed};
use crate::protocol::output::Output;

impl Output {
    /// One line of a dump.
    pub fn listed(&mut self, form: DumpForm, listed: &Listed) {
        match form {
            DumpForm::Cachedump => {
                self.raw(b"ITEM ");
                self.raw(listed.key);
                self.part(b" [", listed.value_bytes);
                self.part(b" b; ", listed.exptime_unix);
                self.raw(b" s]\r\n");
            }
            DumpForm::Keys if listed.key.iter().any(|byte| *byte == b' ' || byte.is_ascii_control()) => {
                self.raw(b"mg ");
                base64::encode(listed.key, |digits| self.raw(digits));
                self.raw(b" b\r\n");
            }
            DumpForm::Keys => {
                self.raw(b"mg ");
                self.raw(listed.key);
                self.raw(b"\r\n");
            }
            DumpForm::Meta => self.meta_listed(listed),
        }
    }

    /// memcached ends these lines with a space and a bare line feed.
    fn meta_listed(&mut self, listed: &Listed) {
        self.raw(b"key=");
        for byte in listed.key {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.raw(&[*byte]),
                _ => self.raw(&[b'%', hex(byte >> 4), hex(byte & 15)]),
            }
        }
        match listed.exptime_unix {
            0 => self.raw(b" exp=-1"),
            exptime => self.part(b" exp=", exptime),
        }
        self.part(b" la=", listed.accessed_unix);
        self.part(b" cas=", listed.unique);
        self.raw(if listed.is_fetched { b" fetch=yes" } else { b" fetch=no" });
        self.part(b" cls=1 size=", listed.bytes);
        self.part(b" flags=", listed.flags.into());
        self.raw(b" \n");
    }

    fn part(&mut self, before: &[u8], number: u64) {
        self.raw(before);
        self.digits(number);
    }
}

fn hex(half: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(half)]
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
        output.listed(form, &listed);
        assert_eq!(String::from_utf8(output.take()).unwrap(), expected);
    }

    #[test]
    fn a_key_that_is_no_word_is_written_in_another_way() {
        check(DumpForm::Keys, b"a", "mg a\r\n");
        check(DumpForm::Keys, b"a b\x00c", "mg YSBiAGM= b\r\n");
        check(DumpForm::Cachedump, b"a", "ITEM a [3 b; 9 s]\r\n");
        let rest = "exp=9 la=8 cas=5 fetch=yes cls=1 size=64 flags=7 \n";
        check(DumpForm::Meta, b"a:%\xff", &format!("key=a%3A%25%FF {rest}"));
    }
}
