//! Plays the sessions with `leasehold cli` that README.md and protocol.md show.
//!
//! No test played them: an answer that was worded anew would have stayed in the README as it was.

use std::collections::BTreeMap;

use crate::support::served::start;
use crate::terminal::Terminal;

/// A line that is typed, and the lines that answer it.
struct Exchange<'a> {
    /// Before the prompt.
    name: &'a str,
    typed: &'a str,
    answer: Vec<&'a str>,
}

#[test]
fn the_sessions_of_the_readme_print_what_it_shows() {
    let typed = play(include_str!("../../README.md"));
    assert!(typed >= 13, "{typed}");
}

#[test]
fn the_session_of_the_protocol_prints_what_it_shows() {
    let typed = play(include_str!("../../protocol.md"));
    assert!(typed >= 5, "{typed}");
}

/// Plays all sessions of a document against one server, with a program for each name, as a reader does
/// whose terminals stay open; returns how many lines were typed.
fn play(document: &str) -> usize {
    let server = start("");
    let mut programs = BTreeMap::new();
    // Long numbers of the document, and those that the server has chosen instead.
    let mut chosen = BTreeMap::new();
    let mut count = 0;
    for Exchange { name, typed, answer } in exchanges(document) {
        let line = format!("cli {}", server.address());
        let program = programs.entry(name).or_insert_with(|| Terminal::start_piped(&line));
        program.types(&format!("{}\n", replaced(typed, &chosen)));
        let shown = program.lines(answer.len());
        for (expected, shown) in answer.iter().zip(&shown) {
            learn(expected, shown, &mut chosen);
        }
        let expected: Vec<_> = answer.iter().map(|line| replaced(line, &chosen)).collect();
        assert_eq!(shown, expected, "{name}> {typed}");
        count += 1;
    }
    for (name, program) in programs {
        assert_eq!(program.rest(), "", "{name}> shows more");
    }
    server.stop();
    count
}

/// The lines of all sessions: blocks of text in which a line begins with a prompt.
fn exchanges(document: &str) -> Vec<Exchange<'_>> {
    let blocks = document.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut exchanges = Vec::new();
    for block in blocks.filter(|block| block.lines().next().and_then(prompt).is_some()) {
        for line in block.lines() {
            match (prompt(line), exchanges.last_mut()) {
                (Some((name, typed)), _) => exchanges.push(Exchange { name, typed, answer: Vec::new() }),
                (None, Some(Exchange { answer, .. })) => answer.push(line),
                (None, None) => unreachable!("a session begins with a prompt"),
            }
        }
    }
    exchanges
}

/// The name before the prompt, and the line after it.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase());
    line.split_once("> ").or((line == ">").then_some(("", ""))).filter(|(name, _)| is_name(name))
}

/// Pairs the long numbers of a line of the document with those that were shown in their place.
fn learn<'a>(expected: &'a str, shown: &str, chosen: &mut BTreeMap<&'a str, String>) {
    for (old, new) in long_numbers(expected).zip(long_numbers(shown)) {
        chosen.entry(old).or_insert_with(|| new.to_owned());
    }
}

/// The text with the numbers that the server has chosen.
fn replaced(text: &str, chosen: &BTreeMap<&str, String>) -> String {
    chosen.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
}

/// Numbers that no reader expects to see again, such as tokens.
fn long_numbers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| digits.len() >= LONG_DIGITS)
}

const LONG_DIGITS: usize = 10;
