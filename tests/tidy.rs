//! Holds the rules of the sources that the compiler does not: the layers, the sizes, what must not
//! be called, and the words. It reads `src` as text, with comments, strings and tests left out, and
//! never judges what a rule cannot say exactly.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// The layers and their modules. A module names its own layer and those before it only.
const LAYERS: [(&str, &[&str]); 4] = [
    (
        "wire",
        &[
            "envelope",
            "reply",
            "command",
            "extensions",
            "content",
            "stuffing",
            "outgoing",
            "parameters",
            "message",
            "fault",
            "security",
        ],
    ),
    ("protocol", &["auth", "failure", "inquiry", "session", "timeouts"]),
    (
        "batch",
        &[
            "pace",
            "limits",
            "reopening",
            "health",
            "host",
            "outcome",
            "event",
            "steps",
            "callbacks",
            "summary",
            "coordinator",
        ],
    ),
    ("io", &["transport", "tls", "sweep", "journal", "error", "mailer", "net_smtp", "sink"]),
];

/// Names nothing else of the crate, and is named by nothing else.
const APART: &str = "sink";

/// Lines of a file without its tests.
const MAX_FILE: usize = 600;

/// Lines of a function.
const MAX_FUNCTION: usize = 70;

/// What only the io layer may name: whatever waits, connects, or reads a clock.
const ONLY_IO: [&str; 16] = [
    "async",
    "await",
    "smol",
    "async_io",
    "async_native_tls",
    "futures",
    "futures_lite",
    "native_tls",
    "socket2",
    "jiff",
    "thread::",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

/// What would end the program, talk past its caller, or silence the compiler.
const NOWHERE: [&str; 16] = [
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    ".expect_err(",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
    "dbg!",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "process::exit",
    "#[allow(",
    "unsafe",
];

/// Words that no type of ours is called by.
const AVOIDED: [&str; 5] = ["Response", "Disposition", "Manager", "Context", "Worker"];

// ---- the rules -------------------------------------------------------------------

/// What is wrong with a file, one line each; `path` is below `src`, with slashes.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push("does not open with //!".to_owned());
    }
    if path.split('/').any(|part| part == "tests" || part == "tests.rs") {
        return located(path, found);
    }
    let code = without_tests(&bare(text));
    let lines = code.lines().filter(|line| !line.contains(CUT)).count();
    if lines > MAX_FILE {
        found.push(format!("has {lines} lines without its tests"));
    }
    if path == "lib.rs" {
        if !code.contains("#![forbid(unsafe_code)]") {
            found.push("does not forbid unsafe code".to_owned());
        }
    } else {
        found.extend(crossings(path, &code));
    }
    for word in NOWHERE {
        found.extend(places(&code, word).map(|line| format!("line {line} has {word}")));
    }
    found.extend(long_functions(&code));
    found.extend(bad_names(&code));
    for mark in ["TODO", "FIXME"] {
        found.extend(places(text, mark).map(|line| format!("line {line} has {mark}")));
    }
    located(path, found)
}

fn located(path: &str, complaints: Vec<String>) -> Vec<String> {
    complaints.into_iter().map(|complaint| format!("src/{path} {complaint}")).collect()
}

/// The number of a module's layer.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

/// Where a file names what its layer must not.
fn crossings(path: &str, code: &str) -> Vec<String> {
    let own = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let Some(own_layer) = layer(own) else { return vec![format!("is of no layer: {own}")] };
    let mut found = Vec::new();
    for module in named_modules(code) {
        match layer(&module) {
            None => found.push(format!("names crate::{module}, which is no module of a layer")),
            Some(other) if other > own_layer => {
                let (mine, theirs) = (LAYERS[own_layer].0, LAYERS[other].0);
                found.push(format!("is {mine} and names {module}, which is {theirs}"));
            }
            Some(_) if module != own && (own == APART || module == APART) => {
                found.push(format!("names {module}: {APART} stands apart"));
            }
            Some(_) => {}
        }
    }
    let depth = path.split('/').filter(|part| *part != "mod.rs").count();
    if code.contains(&"super::".repeat(depth)) {
        found.push("names the crate's root by super".to_owned());
    }
    if LAYERS[own_layer].0 != "io" {
        for word in ONLY_IO {
            let lines = places(code, word);
            found.extend(lines.map(|line| format!("line {line} has {word}, which is for io only")));
        }
    }
    found
}

/// The modules in `crate::module` and `crate::{module, …}`.
fn named_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, found)| code.split_at(at + found.len())) {
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(group_heads(group)),
            None => modules.push(identifier(rest).to_owned()),
        }
    }
    modules.sort_unstable();
    modules.dedup();
    modules
}

/// The first names in a group of paths, behind its opening brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut head) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => head = true,
            _ if head && !letter.is_whitespace() => {
                heads.push(identifier(&group[at..]).to_owned());
                head = false;
            }
            _ => {}
        }
    }
    heads
}

fn long_functions(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, name) in named(code, "fn") {
        let Some(body) = code[at..].find(['{', ';']).map(|offset| at + offset) else { continue };
        let end = if code[body..].starts_with('{') { closing(code, body) } else { body };
        let lines = code[at..end].lines().count();
        if lines > MAX_FUNCTION {
            found.push(format!("{name} has {lines} lines"));
        }
    }
    found
}

fn bad_names(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (_, name) in named(code, "fn") {
        let verb = name.split('_').next().unwrap_or_default();
        if matches!(verb, "get" | "handle") && name != verb || verb == "process" {
            found.push(format!("has a function called {name}"));
        }
    }
    for kind in ["struct", "enum", "trait", "type", "union"] {
        for (_, name) in named(code, kind) {
            if name == "StatusCode" || camel_words(name).any(|word| AVOIDED.contains(&word)) {
                found.push(format!("has a type called {name}"));
            }
        }
    }
    found
}

// ---- reading -----------------------------------------------------------------------

/// Stands in every line of a test that was cut out.
const CUT: char = '\u{0}';

/// The source with the same lines and the same columns, but spaces for what comments and literals
/// say.
fn bare(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let blank = token_to_blank(rest);
        let word = if blank == 0 { identifier(rest).len().max(first.len_utf8()) } else { 0 };
        code.push_str(&rest[..word]);
        code.extend(rest[word..word + blank].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        rest = &rest[word + blank..];
    }
    code
}

/// The length of the comment or literal that the text begins with.
fn token_to_blank(text: &str) -> usize {
    let until =
        |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until("*/", 2);
    }
    let prefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - prefixed.len();
    if prefix <= 1 {
        if let Some(raw) = prefixed.strip_prefix('r') {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            if raw[hashes..].starts_with('"') {
                return until(&format!("\"{}", "#".repeat(hashes)), prefix + 1 + hashes + 1);
            }
        }
        if prefixed.starts_with('"') {
            return prefix + quoted(prefixed, '"');
        }
        let letter = prefixed.strip_prefix('\'').and_then(|inner| inner.chars().next());
        if let Some(letter) = letter {
            // Else it is a lifetime.
            let is_literal = letter == '\\' || prefixed[1 + letter.len_utf8()..].starts_with('\'');
            return if is_literal { prefix + quoted(prefixed, '\'') } else { 0 };
        }
    }
    0
}

/// The length of a literal in quotes, the quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The code with every item under `#[cfg(test)]` cut out.
fn without_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    const TEST: &str = "#[cfg(test)]";
    while let Some(start) = kept.find(TEST) {
        let item = start + TEST.len();
        let body = kept[item..].find(['{', ';']).map_or(kept.len(), |at| item + at);
        let end =
            if kept[body..].starts_with('{') { closing(&kept, body) } else { (body + 1).min(kept.len()) };
        let cut: String =
            kept[start..end].split('\n').map(|_| CUT.to_string()).collect::<Vec<_>>().join("\n");
        kept.replace_range(start..end, &cut);
    }
    kept
}

/// Behind the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, letter) in code[open..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn identifier(text: &str) -> &str {
    &text[..text.find(|letter| !is_word(letter)).unwrap_or(text.len())]
}

/// The numbers of the lines where `word` stands by itself.
fn places(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let stands = |at: &usize| -> bool {
        let Range { start, end } = *at..at + word.len();
        let before = word.starts_with(is_word) && code[..start].ends_with(is_word);
        let behind = word.ends_with(is_word) && code[end..].starts_with(is_word);
        !before && !behind
    };
    code.match_indices(word).map(|(at, _)| at).filter(stands).map(|at| code[..at].matches('\n').count() + 1)
}

/// What `keyword` gives a name to, and where.
fn named<'a>(code: &'a str, keyword: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(keyword) {
        let name = &code[at + keyword.len()..];
        let is_apart = !code[..at].ends_with(is_word) && name.starts_with(char::is_whitespace);
        let name = identifier(name.trim_start());
        if is_apart && !name.is_empty() {
            found.push((at, name));
        }
    }
    found
}

/// `MailerBuilder` is `Mailer` and `Builder`.
fn camel_words(name: &str) -> impl Iterator<Item = &str> {
    let heads = name.char_indices().filter(|(_, letter)| letter.is_uppercase()).map(|(at, _)| at);
    let ends = heads.clone().skip(1).chain([name.len()]);
    heads.zip(ends).map(|(start, end)| &name[start..end])
}

/// All sources: the path below `src`, and the text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let parts: Vec<_> =
                    path.strip_prefix(&root).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
                files.push((parts.join("/"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort_unstable();
    files
}

// ---- the tests -----------------------------------------------------------------------

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources();
    assert!(sources.len() > 40, "the sources are not where they were");
    let found: Vec<String> = sources.iter().flat_map(|(path, text)| complaints(path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_layers_name_every_module_and_no_other() {
    let (_, root) = sources().into_iter().find(|(path, _)| path == "lib.rs").unwrap();
    let code = without_tests(&bare(&root));
    let is_file = |at: usize, name: &str| {
        code[at..].trim_start_matches("mod").trim_start()[name.len()..].starts_with(';')
    };
    let mut modules: Vec<&str> = named(&code, "mod")
        .into_iter()
        .filter(|(at, name)| is_file(*at, name))
        .map(|(_, name)| name)
        .collect();
    let mut layered: Vec<&str> = LAYERS.iter().flat_map(|(_, modules)| modules.iter().copied()).collect();
    modules.sort_unstable();
    layered.sort_unstable();
    assert_eq!(modules, layered);
}

/// Lines of code that nothing is wrong with.
fn filler(lines: usize) -> String {
    "    let x = 1;\n".repeat(lines)
}

#[test]
fn planted_faults_are_found() {
    let long_file = format!("//! Long.\n{}", "const X: u8 = 0;\n".repeat(MAX_FILE));
    let long_function = format!("//! Long.\nfn long() {{\n{}}}\n", filler(MAX_FUNCTION - 1));
    let cases = [
        ("reply.rs", "use std::fmt;\n", "does not open with //!"),
        ("session/tests.rs", "use std::fmt;\n", "does not open with //!"),
        ("lib.rs", "//! The crate.\n", "does not forbid unsafe code"),
        ("reply.rs", &long_file, "has 601 lines"),
        ("reply.rs", &long_function, "long has 71 lines"),
        ("oddity.rs", "//! A.\n", "is of no layer: oddity"),
        ("reply.rs", "//! A.\nuse crate::session::Step;\n", "is wire and names session, which is protocol"),
        (
            "session/flight.rs",
            "//! A.\nuse crate::host::LaneId;\n",
            "is protocol and names host, which is batch",
        ),
        ("outcome.rs", "//! A.\nuse crate::{reply, error::{Error, Full}};\n", "names error, which is io"),
        ("event.rs", "//! A.\nfn f() { crate::mailer::g() }\n", "is batch and names mailer, which is io"),
        ("mailer.rs", "//! A.\nuse crate::Message;\n", "names crate::Message, which is no module"),
        ("mailer.rs", "//! A.\nuse crate::sink::Sink;\n", "names sink: sink stands apart"),
        ("sink/server.rs", "//! A.\nuse crate::reply::Reply;\n", "names reply: sink stands apart"),
        ("host.rs", "//! A.\nuse super::mailer::Mailer;\n", "names the crate's root by super"),
        ("coordinator/desk.rs", "//! A.\nuse super::super::mailer;\n", "names the crate's root by super"),
        ("sink/mod.rs", "//! A.\nuse super::mailer;\n", "names the crate's root by super"),
        ("session.rs", "//! A.\nuse async_io::Timer;\n", "line 2 has async_io, which is for io only"),
        ("session.rs", "//! A.\nuse smol::block_on;\n", "line 2 has smol"),
        ("summary.rs", "//! A.\nfn f() {\n    std::time::Instant::now();\n}\n", "line 3 has Instant::now"),
        ("content.rs", "//! A.\nasync fn f() {}\n", "line 2 has async"),
        ("fault.rs", "//! A.\nuse std::net::TcpStream;\n", "line 2 has TcpStream"),
        ("fault.rs", "//! A.\nuse socket2::Socket;\n", "line 2 has socket2"),
        ("host.rs", "//! A.\nuse jiff::Zoned;\n", "line 2 has jiff"),
        ("sweep.rs", "//! A.\nfn f() { None::<u8>.unwrap(); }\n", "line 2 has .unwrap()"),
        ("sweep.rs", "//! A.\nfn f() { None::<u8>\n.expect(\"x\"); }\n", "line 3 has .expect("),
        ("sweep.rs", "//! A.\nfn f() { panic!(\"x\") }\n", "line 2 has panic!"),
        ("sink/mod.rs", "//! A.\nfn f() { println!() }\n", "line 2 has println!"),
        ("sweep.rs", "//! A.\nfn f() { todo!() }\n", "line 2 has todo!"),
        ("sweep.rs", "//! A.\n#[allow(dead_code)]\nfn f() {}\n", "line 2 has #[allow("),
        ("sweep.rs", "//! A.\nunsafe fn f() {}\n", "line 2 has unsafe"),
        ("sweep.rs", "//! A.\n// TODO: all of it\n", "line 2 has TODO"),
        ("reply.rs", "//! A.\nfn get_code() {}\n", "has a function called get_code"),
        ("reply.rs", "//! A.\nfn handle_reply() {}\n", "has a function called handle_reply"),
        ("reply.rs", "//! A.\npub fn process() {}\n", "has a function called process"),
        ("reply.rs", "//! A.\npub struct Response;\n", "has a type called Response"),
        ("reply.rs", "//! A.\nenum StatusCode {}\n", "has a type called StatusCode"),
        ("mailer.rs", "//! A.\ntrait LaneManager {}\n", "has a type called LaneManager"),
        ("mailer.rs", "//! A.\ntype WorkerPool = u8;\n", "has a type called WorkerPool"),
    ];
    for (path, text, expected) in cases {
        let found = complaints(path, text);
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
        assert!(found[0].contains(expected), "{path}: {expected}: {found:?}");
    }
}

#[test]
fn what_only_looks_like_a_fault_is_left_alone() {
    let full = format!("//! A.\nfn fits() {{\n{}}}\n", filler(MAX_FUNCTION - 2));
    let tested =
        format!("//! A.\n#[cfg(test)]\nmod tests {{\n    fn f() {{\n{}    }}\n}}\n", filler(MAX_FILE));
    let cases = [
        ("reply.rs", full.as_str()),
        ("reply.rs", &tested),
        ("lib.rs", "//! The crate.\n#![forbid(unsafe_code)]\npub use mailer::Mailer;\n"),
        ("reply.rs", "//! A.\n//! ```\n//! x.unwrap(); crate::mailer::f();\n//! ```\n"),
        ("reply.rs", "//! A.\n/* panic!() /  */ const TEXT: &str = \"println!() \\\" todo!()\";\n"),
        (
            "reply.rs",
            "//! A.\nconst A: &[u8] = br#\" \" panic!() \"#; const B: char = '\"'; const C: u8 = b'\\'';\n",
        ),
        (
            "reply.rs",
            "//! A.\nfn f<'a>(x: &'a str, y: fn(&'a str) -> u8) -> Option<u8> { x.bytes().next() }\n",
        ),
        ("reply.rs", "//! A.\n#[cfg(test)]\nmod tests;\nfn f() {}\n"),
        ("coordinator/tests/script.rs", "//! A.\nfn f() { panic!(\"{:?}\", crate::mailer::X.unwrap()) }\n"),
        (
            "reply.rs",
            "//! A.\nstruct EnhancedStatusCode; fn processed() {} fn forget_all() {} fn unwrap_or() {}\n",
        ),
        ("mailer.rs", "//! A.\nuse std::task::Context;\nasync fn f() { std::time::Instant::now(); }\n"),
        ("coordinator/desk.rs", "//! A.\nuse super::lane::Lane;\nuse crate::session::Session;\n"),
        (
            "session.rs",
            "//! A.\nuse std::time::Instant;\nuse crate::{command::Command, reply::{self, Reply}};\n",
        ),
    ];
    for (path, text) in cases {
        assert_eq!(complaints(path, text), [""; 0], "{path}: {text}");
    }
}
