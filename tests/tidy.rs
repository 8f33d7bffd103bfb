//! Holds the rules of the source that a reader would otherwise have to
//! remember: which layer may name which, what only io may touch, how long
//! files and functions may be, and words that are not used.

use std::fs;
use std::path::{Path, PathBuf};

/// A layer may name itself and those before it.
const LAYERS: [(&str, &[&str]); 4] = [
    (
        "wire",
        &["envelope", "reply", "command", "extensions", "stuffing", "content", "message", "fault", "failure"],
    ),
    ("protocol", &["timeouts", "session"]),
    ("batch", &["host", "outcome", "event", "summary", "callbacks", "coordinator"]),
    ("io", &["journal", "error", "transport", "sweep", "mailer", "net_smtp", "sink"]),
];

const IO: usize = 3;

/// What only io may name: waiting, clocks, sockets.
const ONLY_IO: [&str; 12] = [
    "smol",
    "async_io",
    "futures",
    "native_tls",
    "socket2",
    "jiff",
    "async fn",
    "async {",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "thread::",
];

/// What no file may hold outside its tests: a peer or a caller could make it panic.
const NOWHERE: [&str; 10] = [
    ".unwrap()",
    ".expect(",
    "panic!(",
    "todo!(",
    "unimplemented!(",
    "unreachable!(",
    "dbg!(",
    "println!(",
    "#[allow(",
    "unsafe ",
];

const AVOIDED_TYPES: [&str; 6] = ["Response", "StatusCode", "Disposition", "Manager", "Context", "Worker"];

const AVOIDED_FUNCTIONS: [&str; 3] = ["get_", "handle_", "process"];

const MAX_FILE: usize = 600;

const MAX_FUNCTION: usize = 70;

/// A file of `src`, without its tests.
struct Source {
    name: String,
    text: String,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        Source { name: name.to_owned(), text: code.to_owned() }
    }

    /// The first part of its path: `coordinator` for `coordinator/desk.rs`.
    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    fn layer(&self) -> Option<usize> {
        layer_of(self.module())
    }

    /// Its lines of code, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines());
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |line: usize, what: String| faults.push(format!("{}:{line}: {what}", self.name));
        if !self.text.starts_with("//!") {
            fault(1, "does not say what it is for".to_owned());
        }
        if self.text.lines().count() > MAX_FILE {
            fault(MAX_FILE, format!("is longer than {MAX_FILE} lines"));
        }
        if self.layer().is_none() && self.name != "lib.rs" {
            fault(1, "is in no layer".to_owned());
        }
        for (number, line) in self.code() {
            for what in self.line_faults(line) {
                fault(number, what);
            }
        }
        for (number, name, length) in self.functions() {
            if length > MAX_FUNCTION {
                fault(number, format!("fn {name} has {length} lines"));
            }
            if AVOIDED_FUNCTIONS.iter().any(|avoided| name.starts_with(avoided)) {
                fault(number, format!("fn {name} is a name that says little"));
            }
        }
        faults
    }

    fn line_faults(&self, line: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let layer = self.layer().unwrap_or(IO);
        for word in NOWHERE.iter().filter(|word| line.contains(**word)) {
            faults.push(format!("has {word}"));
        }
        for word in ONLY_IO.iter().filter(|word| layer < IO && line.contains(**word)) {
            faults.push(format!("names {word}, which only io may"));
        }
        for named in names_of_modules(line) {
            let allowed = match layer_of(named) {
                Some(_) if self.module() == "sink" => named == "sink",
                Some(named) => named <= layer,
                None => true,
            };
            if !allowed {
                faults.push(format!("names crate::{named}, which is no layer before it"));
            }
        }
        let mut words =
            line.split_whitespace().skip_while(|word| !["struct", "enum", "trait"].contains(word));
        let defined = words.nth(1).unwrap_or_default();
        let defined = defined.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
        if AVOIDED_TYPES.contains(&defined) {
            faults.push(format!("defines {defined}"));
        }
        faults
    }

    /// Line, name and length of each function: rustfmt puts its closing brace
    /// under its beginning.
    fn functions(&self) -> Vec<(usize, String, usize)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            let Some((before, behind)) = code.split_once("fn ") else { continue };
            if !before
                .split_whitespace()
                .all(|word| word.starts_with("pub") || "const async in".contains(word))
            {
                continue;
            }
            let name: String =
                behind.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            let end = format!("{indent}}}");
            let length = lines[index..].iter().position(|line| **line == *end).map_or(1, |length| length + 1);
            let is_one_line = line.ends_with(['}', ';']);
            functions.push((index + 1, name, if is_one_line { 1 } else { length }));
        }
        functions
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

fn names_of_modules(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next())
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with("/tests.rs") && !name.contains("/tests/") {
                sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources
}

#[test]
fn the_source_keeps_its_rules() {
    let sources = sources();
    assert!(sources.len() > 20, "the source was not found");
    let faults: Vec<String> = sources.iter().flat_map(Source::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let lib = sources.iter().find(|source| source.name == "lib.rs").unwrap();
    assert!(lib.text.contains("#![forbid(unsafe_code)]"));
}

/// A rule that finds nothing may be broken itself.
#[test]
fn planted_faults_are_found() {
    let long = format!("//! x\nfn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(MAX_FUNCTION));
    let longer = format!("//! x\n{}", "\n".repeat(MAX_FILE));
    for (name, text, found) in [
        ("reply.rs", "//! x\nuse crate::session::Session;\n", "crate::session"),
        ("session.rs", "//! x\nuse crate::coordinator::Lane;\n", "crate::coordinator"),
        ("coordinator/desk.rs", "//! x\n    let now = Instant::now();\n", "Instant::now"),
        ("host.rs", "//! x\nuse smol::net;\n", "smol"),
        ("sink/server.rs", "//! x\nuse crate::mailer::Mailer;\n", "crate::mailer"),
        ("mailer.rs", "//! x\n    let one = list.first().unwrap();\n", ".unwrap()"),
        ("mailer.rs", "use std::fmt;\n", "what it is for"),
        ("mailer.rs", "//! x\npub(crate) struct Manager<T> {\n", "Manager"),
        ("mailer.rs", "//! x\n    pub async fn get_it(&self) {}\n", "get_it"),
        ("mailer.rs", long.as_str(), "fn long"),
        ("mailer.rs", longer.as_str(), "longer"),
        ("odds.rs", "//! x\n", "no layer"),
    ] {
        let faults = Source::new(name, text).faults();
        assert!(faults.len() == 1 && faults[0].contains(found), "{name} {text:?}: {faults:?}");
    }
    let fine =
        "//! x\n// one.unwrap()\nuse crate::reply::Reply;\n#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\n";
    assert_eq!(Source::new("session.rs", fine).faults(), [""; 0]);
}
