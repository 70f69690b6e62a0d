//! The rules of ARCHITECTURE.md that the compiler does not check: which layer may use which, no circular
//! imports, no waiting in the inner layers, and the length of files and functions. Violations are reported
//! with file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 60;
const COMMENT_WIDTH_MAX: usize = 110;

/// Words for which the glossary in docs/STYLE.md has better ones.
const DIALECT: [&str; 26] = [
    " told ",
    " tells ",
    " hears ",
    " heard ",
    " whoever ",
    " let in ",
    " of no meaning ",
    " of no use ",
    " void ",
    " voids ",
    " voided ",
    " voiding ",
    " lies in ",
    " lies apart ",
    " lie apart ",
    " once more ",
    " is gone ",
    " are gone ",
    " he ",
    " his ",
    " him ",
    " heed ",
    " heeds ",
    " crowd ",
    " herd ",
    " want of memory ",
];

/// A row of the table of layers in ARCHITECTURE.md.
#[derive(Clone)]
struct Layer {
    name: String,
    may_name: BTreeSet<String>,
    waits: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Waits {
    Never,
    Often,
}

/// The table of layers: `| layer | job | may name | may await |`.
static LAYERS: LazyLock<Vec<Layer>> = LazyLock::new(|| {
    let page = fs::read_to_string(root("ARCHITECTURE.md")).expect("it is text");
    let (_, table) = page.split_once(LAYERS_HEAD).expect("it has a table of layers");
    table.lines().skip(2).take_while(|line| line.starts_with('|')).map(Layer::parse).collect()
});

const LAYERS_HEAD: &str = "| layer | job | may name | may await |";

impl Layer {
    fn parse(row: &str) -> Layer {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[name, _, may_name, may_await] = &cells[..] else { panic!("a row has four cells: {row}") };
        let waits = match may_await {
            "no" => Waits::Never,
            "yes" => Waits::Often,
            _ => panic!("a layer may await or not: {row}"),
        };
        let may_name = match may_name {
            "–" => BTreeSet::new(),
            names => names.split(", ").map(str::to_owned).collect(),
        };
        Layer { name: name.trim_matches('`').to_owned(), may_name, waits }
    }
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The lines before the tests in the same file, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        code.lines().enumerate().map(|(n, line)| (n + 1, line))
    }

    /// The path below `src`.
    fn name(&self) -> String {
        self.path.strip_prefix(root("src")).expect("it is below src").display().to_string()
    }

    /// The module path below the crate root.
    fn module(&self) -> Names {
        let name = self.name();
        let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
        name.split('/').filter(|word| *word != "lib").map(str::to_owned).collect()
    }

    /// Its imports: the line, whether it is a re-export, and the path.
    fn uses(&self) -> Vec<(usize, bool, String)> {
        let (mut uses, mut open) = (Vec::new(), None);
        for (number, line) in self.lines() {
            let line = line.trim();
            let words =
                line.split_once("use ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
            if let (None, Some((before, rest))) = (&open, words) {
                open = Some((number, !before.is_empty(), rest.to_owned()));
            } else if let Some((.., text)) = &mut open {
                text.push_str(line);
            }
            if line.ends_with(';')
                && let Some((number, is_public, text)) = open.take()
            {
                let paths = expanded(text.trim_end_matches(';'));
                uses.extend(paths.into_iter().map(|path| (number, is_public, path)));
            }
        }
        uses
    }

    /// The layer of the file; `None` for the crate roots.
    fn layer(&self) -> Option<&'static Layer> {
        let first = self.path.strip_prefix(root("src")).expect("it is below src").iter().next()?;
        let name = Path::new(first).file_stem()?.to_str()?;
        LAYERS.iter().find(|layer| layer.name == name)
    }
}

#[test]
fn layers_point_one_way() {
    check(|source, report| {
        let Some(layer) = source.layer() else { return };
        for (number, line) in source.lines() {
            for Layer { name: other, .. } in LAYERS.iter() {
                let names_it = line.contains(&format!("crate::{other}"));
                if names_it && *other != layer.name && !layer.may_name.contains(other) {
                    report(number, format!("{} may not name {other}", layer.name));
                }
            }
        }
    });
}

#[test]
fn the_table_of_layers_names_layers_only() {
    let names: BTreeSet<_> = LAYERS.iter().map(|layer| layer.name.clone()).collect();
    assert_eq!(names.len(), LAYERS.len(), "a layer has one row");
    for layer in LAYERS.iter() {
        let strangers: Vec<_> = layer.may_name.difference(&names).collect();
        assert!(strangers.is_empty(), "{}: no layers: {strangers:?}", layer.name);
    }
    let cache = LAYERS.iter().find(|layer| layer.name == "cache").expect("it is a layer");
    assert!(cache.may_name.contains("store") && !cache.may_name.contains("server"));
    assert_eq!(cache.waits, Waits::Never);
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let imports = Imports::read();
    let complaints: Vec<_> = imports.circles().iter().flat_map(|circle| imports.within(circle)).collect();
    assert!(complaints.is_empty(), "these imports run in a circle:\n{}", complaints.join("\n"));
}

#[test]
fn every_module_belongs_to_a_layer() {
    check(|source, report| {
        let is_root = source.path.ends_with("src/lib.rs") || source.path.starts_with(root("src/bin"));
        if source.layer().is_none() && !is_root {
            report(1, "which layer is this? ARCHITECTURE.md must say".to_owned());
        }
    });
}

#[test]
fn inner_layers_never_wait() {
    check(|source, report| {
        let waits = source.layer().map_or(Waits::Often, |layer| layer.waits);
        for (number, line) in source.lines() {
            let awaits = line
                .split(".await")
                .skip(1)
                .any(|rest| !rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()));
            let awaits = awaits || line.contains("async ") || line.contains("tokio");
            if waits == Waits::Never && awaits {
                report(number, "nothing waits here".to_owned());
            }
        }
    });
}

#[test]
fn every_file_begins_with_a_doc_comment() {
    check(|source, report| {
        if !source.text.starts_with("//! ") {
            report(1, "a module opens by saying what it is".to_owned());
        }
    });
}

#[test]
fn files_and_functions_are_short() {
    check(|source, report| {
        let lines: Vec<_> = source.lines().collect();
        let is_test = source.text.contains("#[test]\n") && !source.text.contains("#[cfg(test)]");
        if lines.len() > FILE_LINES_MAX && !is_test {
            report(FILE_LINES_MAX, format!("{} lines, at most {FILE_LINES_MAX}", lines.len()));
        }
        for (start, length) in functions(&lines) {
            if length > FUNCTION_LINES_MAX {
                report(start, format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    });
}

#[test]
fn prose_is_plain_english() {
    let mut complaints = Vec::new();
    for path in texts() {
        let text = fs::read_to_string(&path).expect("it is text");
        let is_code = path.extension().is_some_and(|ending| ending == "rs");
        let mut is_block = false;
        for (number, line) in text.lines().enumerate() {
            is_block ^= !is_code && line.trim_start().starts_with("```");
            let prose = if is_code { comments_and_strings(line) } else { line.to_owned() };
            if is_block || (!is_code && line.starts_with("    ")) {
                continue;
            }
            let mut report = |why: &str| complaints.push(format!("{}:{}: {why}", path.display(), number + 1));
            let words = words(&prose);
            DIALECT.iter().filter(|word| words.contains(**word)).for_each(|word| report(word.trim()));
            if is_code {
                let comment = line.trim_start();
                let doc = comment.strip_prefix("/// ").or(comment.strip_prefix("//! ")).unwrap_or("");
                let opens = ["Who ", "Whoever ", "What "].iter().any(|word| doc.starts_with(word));
                if opens && !doc.contains('?') && !is_continued(&text, number) {
                    report("name the thing first");
                }
                if comment.starts_with("//")
                    && !doc.starts_with('|')
                    && line.chars().count() > COMMENT_WIDTH_MAX
                {
                    report("the comment is too wide");
                }
            }
        }
    }
    assert!(complaints.is_empty(), "docs/STYLE.md has better words:\n{}", complaints.join("\n"));
}

/// Whether the line before is a doc comment as well, whose sentence goes on here.
fn is_continued(text: &str, number: usize) -> bool {
    let before = number.checked_sub(1).and_then(|before| text.lines().nth(before)).unwrap_or("").trim();
    (before.starts_with("/// ") || before.starts_with("//! ")) && !before.ends_with(['.', ':', '?', '!'])
}

/// The comment and the string literals of a line of code; a literal of one word is a name.
fn comments_and_strings(line: &str) -> String {
    let (code, comment) = line.split_once("// ").unwrap_or((line, ""));
    let comment =
        if line.trim_start().starts_with("//") { line.trim_start_matches([' ', '/', '!']) } else { comment };
    let literals = code.split('"').skip(1).step_by(2).filter(|literal| literal.trim().contains(' '));
    // These are names on the wire.
    let literals = literals.filter(|literal| !literal.contains("void"));
    literals.chain([comment]).collect::<Vec<_>>().join(" ")
}

/// Lower-case words with a space around each; what stands in backticks are names, not prose.
fn words(prose: &str) -> String {
    let outside = prose.split('`').step_by(2).collect::<Vec<_>>().join(" x ");
    let plain = outside.to_lowercase().replace(|c: char| !c.is_alphanumeric() && !"_-'".contains(c), " ");
    format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// All files with prose that people read.
fn texts() -> Vec<PathBuf> {
    let mut texts = Vec::new();
    let pages = fs::read_dir(root("")).expect("the root is here").map(|entry| entry.expect("listed").path());
    texts.extend(pages.filter(|path| path.is_file()));
    for folder in ["src", "tests", "benches", "examples", "docs", "packaging"] {
        texts.extend(files_below(root(folder)));
    }
    let endings = ["rs", "md", "js", "py", "rb", "go", "pl", "java", "yml", "service", "socket"];
    let is_text = |path: &PathBuf| {
        let is_own = !path.ends_with("docs/STYLE.md") && !path.ends_with("tests/tidy.rs");
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        is_own && endings.contains(&ending) && !path.ends_with("CHANGELOG.md")
    };
    texts.retain(is_text);
    texts
}

/// Expands a `use` with braces into single paths.
fn expanded(text: &str) -> Vec<String> {
    let Some((start, rest)) = text.split_once('{') else {
        return vec![text.trim().to_owned()];
    };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inside.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().expect("there is one").push(letter),
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| expanded(&format!("{}{part}", start.trim()))).collect()
}

/// The first line and the length of each function, found by the indentation of its first and last line.
fn functions(lines: &[(usize, &str)]) -> Vec<(usize, usize)> {
    let is_function = |line: &str| {
        let words = line.trim_start().trim_start_matches("pub").trim_start_matches("(crate)");
        words.trim_start_matches("(super)").trim_start().trim_start_matches("async ").starts_with("fn ")
    };
    let mut found = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        if is_function(line) && !line.ends_with([';', '}']) {
            let length = lines[index..].iter().position(|(_, line)| *line == end).unwrap_or(0);
            found.push((*number, length + 1));
        }
    }
    found
}

/// Imports between files, from the `use` declarations of the library's own names.
///
/// An import of a re-exported name (`pub use`) counts as an import from the file that defines it. A file and
/// the files in its own folder may import each other, because a module and its children are one unit to Rust,
/// too.
#[derive(Default)]
struct Imports {
    /// Files by module path.
    files: BTreeMap<Names, String>,
    /// Re-exports: the public path of a name, and the path it comes from.
    handed_on: BTreeMap<Names, Names>,
    /// Imports: the module, the imported path, and the line.
    uses: Vec<(Names, Names, usize)>,
    /// Imports from file to file, with the first line that has one.
    edges: BTreeMap<String, BTreeMap<String, usize>>,
}

/// A module path below the crate root.
type Names = Vec<String>;

impl Imports {
    fn read() -> Imports {
        let mut imports = Imports::default();
        let sources: Vec<_> =
            sources().into_iter().filter(|source| !source.path.starts_with(root("src/bin"))).collect();
        for source in &sources {
            imports.files.insert(source.module(), source.name());
        }
        for source in &sources {
            let module = source.module();
            for (line, is_public, path) in source.uses() {
                let (path, name) =
                    path.split_once(" as ").unwrap_or((&path, path.rsplit("::").next().unwrap_or("")));
                let Some(target) = imports.absolute(&module, path) else { continue };
                if is_public {
                    imports.handed_on.insert([&module[..], &[name.to_owned()]].concat(), target);
                } else {
                    imports.uses.push((module.clone(), target, line));
                }
            }
        }
        for (module, target, line) in &imports.uses {
            let other = imports.home(target);
            if !module.starts_with(&other) && !other.starts_with(module) {
                let (from, to) = (&imports.files[module], &imports.files[&other]);
                imports.edges.entry(from.clone()).or_default().entry(to.clone()).or_insert(*line);
            }
        }
        imports
    }

    /// The path from the crate root; `None` for a path in another crate.
    fn absolute(&self, module: &[String], path: &str) -> Option<Names> {
        let mut words: Names = path.split("::").filter(|word| *word != "self").map(str::to_owned).collect();
        let up = words.iter().take_while(|word| *word == "super").count();
        let base = match words.first()?.as_str() {
            "crate" => Vec::new(),
            "super" => module[..module.len() - up].to_vec(),
            _ if path.starts_with("self::") => module.to_vec(),
            first if self.files.contains_key(&[module, &[first.to_owned()]].concat()) => module.to_vec(),
            _ => return None,
        };
        words.drain(..up.max(usize::from(words[0] == "crate")));
        Some([base, words].concat())
    }

    /// The module that defines the item at this path.
    fn home(&self, path: &[String]) -> Names {
        let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]));
        let length = length.expect("the root is a file");
        let handed_on = path.get(..length + 1).and_then(|name| self.handed_on.get(name));
        match handed_on {
            Some(source) => self.home(&[source, &path[length + 1..]].concat()),
            None => path[..length].to_vec(),
        }
    }

    /// The files that this one imports, directly or indirectly.
    fn reached(&self, file: &str) -> BTreeSet<&String> {
        let (mut reached, mut ahead) = (BTreeSet::new(), vec![file]);
        while let Some(file) = ahead.pop() {
            for next in self.edges.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(next) {
                    ahead.push(next);
                }
            }
        }
        reached
    }

    fn circles(&self) -> BTreeSet<BTreeSet<String>> {
        let reached: BTreeMap<_, _> = self.edges.keys().map(|file| (file, self.reached(file))).collect();
        let circle = |file: &String| -> BTreeSet<String> {
            let back = |other: &&&String| reached.get(**other).is_some_and(|reached| reached.contains(file));
            reached[file].iter().filter(back).map(|other| (*other).clone()).collect()
        };
        self.edges.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
    }

    /// The imports between these files.
    fn within(&self, circle: &BTreeSet<String>) -> Vec<String> {
        let mut found = Vec::new();
        for from in circle {
            let ahead = self.edges[from].iter().filter(|(to, _)| circle.contains(*to));
            found.extend(ahead.map(|(to, line)| format!("src/{from}:{line}: imports src/{to}")));
        }
        found
    }
}

/// Applies `rule` to every source file, and fails with all its reports.
#[track_caller]
fn check(rule: impl Fn(&Source, &mut dyn FnMut(usize, String))) {
    let mut complaints = Vec::new();
    for source in sources() {
        rule(&source, &mut |line, why| complaints.push(format!("{}:{line}: {why}", source.path.display())));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn sources() -> Vec<Source> {
    let is_code = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "rs");
    let read = |path| Source { text: fs::read_to_string(&path).expect("sources are text"), path };
    files_below(root("src")).into_iter().filter(is_code).map(read).collect()
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is here") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}
