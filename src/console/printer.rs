//! Prints answers while they arrive: formatted for a terminal, as JSON, or unchanged.

use std::io::{self, Write};

use ratatui::crossterm::style::{StyledContent, Stylize};

use super::body::{harmless, shown};
use super::json;
use super::reply::Entry;
use super::request::Request;
use super::verbs::Ends;
use super::verdict::{Verdict, is_reading};

/// How answers are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// One JSON object on a line.
    Json,
    /// The server's words, without the frame around values.
    Plain,
    /// Formatted for a terminal.
    Pretty,
}

/// An answer that is being printed.
pub(super) struct Printer<'a> {
    form: Form,
    request: &'a Request,
    /// The number of values received.
    hits: usize,
    /// The number of printed keys.
    keys: usize,
    /// The entries of a future JSON object.
    entries: Vec<Entry>,
    verdict: Verdict,
}

impl<'a> Printer<'a> {
    pub(super) fn new(form: Form, request: &'a Request) -> Self {
        Printer { form, request, hits: 0, keys: 0, entries: Vec::new(), verdict: Verdict::Done }
    }

    /// Prints the next line of the answer.
    pub(super) fn print(&mut self, entry: Entry, to: &mut dyn Write) -> io::Result<()> {
        self.hits += usize::from(matches!(entry.word(0), "META" | "VALUE"));
        self.keys += usize::from(matches!(entry.word(0), "LVALUE" | "META" | "VALUE"));
        if entry.is_last(self.request.ends()) {
            self.verdict = Verdict::of(self.request, self.hits, &entry);
        }
        match self.form {
            Form::Json if entry.is_event() => writeln!(to, "{}", json::event(&entry)),
            Form::Json => {
                self.entries.push(entry);
                Ok(())
            }
            Form::Plain => plain(&entry, to),
            Form::Pretty => self.pretty(&entry, to),
        }
    }

    /// Completes the answer.
    pub(super) fn end(self, to: &mut dyn Write) -> io::Result<Verdict> {
        // The OK of a watch is not printed after events.
        let is_news = self.request.ends() != Ends::Never || self.verdict == Verdict::Failed;
        if self.form == Form::Json && is_news {
            writeln!(to, "{}", json::answer(self.request, &self.entries))?;
        }
        Ok(self.verdict)
    }

    fn pretty(&self, entry: &Entry, to: &mut dyn Write) -> io::Result<()> {
        let word = |nth| harmless(entry.words().nth(nth).unwrap_or_default());
        match entry.word(0) {
            "END" | "EN" if !is_reading(self.request) && self.request.name() != b"mg" => Ok(()),
            "END" if self.keys > 0 => Ok(()),
            "END" | "EN" => writeln!(to, "{}", "no value".dim()),
            "LVALUE" => {
                let details = lease(&word(1), entry);
                writeln!(to, "{}  {}", word(1).bold(), details.dim())
            }
            "META" => {
                let rest = harmless(&entry.words().skip(2).collect::<Vec<_>>().join(&b' '));
                writeln!(to, "{}  {}", word(1).bold(), rest.dim())
            }
            "STAT" => {
                let rest = harmless(&entry.words().skip(2).collect::<Vec<_>>().join(&b' '));
                writeln!(to, "{:<32} {rest}", word(1))
            }
            "VALUE" => {
                let unique = if word(4).is_empty() { String::new() } else { format!(", unique {}", word(4)) };
                let details = format!("{}, flags {}{unique}", bytes(entry), word(2));
                writeln!(to, "{}  {}", word(1).bold(), details.dim())
            }
            "VA" => writeln!(to, "{}", [bytes(entry), flags(entry, 2)].join("  ").trim_end().dim()),
            _ => self.status(entry, to),
        }?;
        to.write_all(entry.data.as_deref().map(shown).unwrap_or_default().as_bytes())
    }

    fn status(&self, entry: &Entry, to: &mut dyn Write) -> io::Result<()> {
        let line = harmless(&entry.line);
        if !entry.is_last(self.request.ends()) {
            return writeln!(to, "{line}");
        }
        let remark = remark(self.request.name(), entry);
        let line = if entry.word(0) == "HD" { "HD".to_owned() } else { line };
        let gap = if remark.is_empty() { "" } else { "  " };
        writeln!(to, "{}{gap}{}", colored(line, self.verdict), remark.dim())
    }
}

fn plain(entry: &Entry, to: &mut dyn Write) -> io::Result<()> {
    match entry.word(0) {
        "END" | "EN" => return Ok(()),
        "VALUE" => {}
        "LVALUE" if entry.data.as_ref().is_some_and(Vec::is_empty) => {
            to.write_all(&entry.line)?;
            return to.write_all(b"\n");
        }
        _ => {
            to.write_all(&entry.line)?;
            to.write_all(b"\n")?;
        }
    }
    if let Some(data) = &entry.data {
        to.write_all(data)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

fn colored(line: String, verdict: Verdict) -> StyledContent<String> {
    match verdict {
        Verdict::Done => line.green(),
        Verdict::Failed => line.red(),
        Verdict::Missed => line.yellow(),
    }
}

fn lease(key: &str, entry: &Entry) -> String {
    let copy = match entry.data.as_deref() {
        None | Some([]) => String::new(),
        Some(_) => format!("; a stale copy, {}", bytes(entry)),
    };
    match entry.word(2) {
        json::BUSY => format!("wait: another client is loading it{copy}"),
        token => {
            format!(
                "token {token}: load the value, then lease-set {key} {token} <flags> <exptime> <value>{copy}"
            )
        }
    }
}

fn bytes(entry: &Entry) -> String {
    match entry.data.as_deref().unwrap_or_default().len() {
        1 => "1 byte".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}

/// The flags of a meta answer; lease flags are explained in words.
fn flags(entry: &Entry, from: usize) -> String {
    let words = entry.words().skip(from).map(|word| match word {
        b"W" => "W: load it, then ms … C<token>".to_owned(),
        b"X" => "X: a stale copy".to_owned(),
        b"Z" => "Z: another client is loading it".to_owned(),
        _ => harmless(word),
    });
    words.collect::<Vec<_>>().join("  ")
}

/// An explanation of answers that are easily misread.
fn remark(verb: &[u8], entry: &Entry) -> String {
    match (verb, entry.word(0)) {
        (b"lease-set", "NOT_STORED") => "the token is not valid: nothing was stored".to_owned(),
        (b"lease-set", "STALE_STORED") => "invalidated meanwhile: stored as a stale copy".to_owned(),
        (b"delete", "NOT_FOUND") => "its leases are invalidated anyway".to_owned(),
        (_, "HD") => flags(entry, 1),
        (_, "ERROR") => "unknown command".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn printed(form: Form, line: &str, answer: &str) -> (String, Verdict) {
        let request = Request::typed(line.as_bytes()).unwrap();
        let (mut printer, mut text) = (Printer::new(form, &request), Vec::new());
        let mut input = BytesMut::from(answer);
        while let Some(entry) = Entry::read(&mut input).unwrap() {
            printer.print(entry, &mut text).unwrap();
        }
        let verdict = printer.end(&mut text).unwrap();
        (String::from_utf8(text).unwrap(), verdict)
    }

    /// Compares without colors.
    #[track_caller]
    fn check(line: &str, answer: &str, expected: &str) {
        let mut text = printed(Form::Pretty, line, answer).0;
        while let Some(start) = text.find("\x1b[") {
            let end = start + text[start..].find('m').unwrap();
            text.replace_range(start..=end, "");
        }
        assert_eq!(text, expected, "{line}");
    }

    #[test]
    fn answers_are_explained_on_a_terminal() {
        check("get a", "VALUE a 7 5\r\nhello\r\nEND\r\n", "a  5 bytes, flags 7\nhello\n");
        check("gets a", "VALUE a 7 1 99\r\n1\r\nEND\r\n", "a  1 byte, flags 7, unique 99\n1\n");
        check("get a", "END\r\n", "no value\n");
        check("mg a v", "EN\r\n", "no value\n");
        check(
            "lease-get a",
            "LVALUE a 1 0 3\r\nold\r\nEND\r\n",
            "a  wait: another client is loading it; a stale copy, 3 bytes\nold\n",
        );
        check("set a 0 0 \"x\"", "STORED\r\n", "STORED\n");
        check(
            "lease-set a 9 0 0 \"x\"",
            "NOT_STORED\r\n",
            "NOT_STORED  the token is not valid: nothing was stored\n",
        );
        check("mg a c N0", "HD c9 W\r\n", "HD  c9  W: load it, then ms … C<token>\n");
        check("mg a v t", "VA 2 t-1 X\r\nhi\r\n", "2 bytes  t-1  X: a stale copy\nhi\n");
        check("stats", "STAT uptime 5\r\nEND\r\n", "uptime                           5\n");
        check("watch", "OK\r\nts=1.0 gid=1 type=x\r\n", "OK\nts=1.0 gid=1 type=x\n");
        check("get a", "CLIENT_ERROR \x1b[2J\r\n", "CLIENT_ERROR \\u{1b}[2J\n");
    }

    #[test]
    fn a_pipe_receives_values_without_their_header_lines() {
        let plain = |line, answer| printed(Form::Plain, line, answer);
        assert_eq!(
            plain("get a", "VALUE a 7 3\r\n\x1b\n!\r\nEND\r\n"),
            ("\x1b\n!\n".to_owned(), Verdict::Done)
        );
        assert_eq!(plain("get a", "END\r\n"), (String::new(), Verdict::Missed));
        assert_eq!(plain("mg a v t", "VA 2 t5\r\nhi\r\n"), ("VA 2 t5\nhi\n".to_owned(), Verdict::Done));
        let granted = "LVALUE a 99 0 0\r\n\r\nEND\r\n";
        assert_eq!(plain("lease-get a", granted), ("LVALUE a 99 0 0\n".to_owned(), Verdict::Missed));
        assert_eq!(plain("stats", "STAT a 1\r\nEND\r\n").0, "STAT a 1\n");
    }

    #[test]
    fn json_output_is_one_object_per_answer() {
        let json = |line, answer| printed(Form::Json, line, answer).0;
        assert_eq!(json("delete a", "DELETED\r\n"), "{\"command\":\"delete a\",\"status\":\"DELETED\"}\n");
        let events = "OK\r\nts=1.5 gid=1 type=x\r\n";
        assert_eq!(json("watch", events), "{\"gid\":1,\"ts\":1.5,\"type\":\"x\"}\n");
        assert_eq!(json("watch x", "ERROR\r\n"), "{\"command\":\"watch x\",\"status\":\"ERROR\"}\n");
    }
}
