//! Reading the orchestrator's command line.

use super::Result;

/// The options that were given, without the one by which `cargo bench` says what it is; `None` when
/// `cargo test` has started this, whose arguments are for its own harness: then the roles are only to
/// prove that they work together, and to be quick about it.
pub fn given(arguments: &[String]) -> Option<impl Iterator<Item = &String>> {
    let is_mark = |argument: &&String| *argument == "--bench";
    let is_bench = arguments.iter().any(|argument| is_mark(&argument));
    is_bench.then(|| arguments.iter().filter(move |argument| !is_mark(argument)))
}

/// The number behind an option.
pub fn positive(name: &str, value: Option<&String>) -> Result<usize> {
    let number = value.and_then(|value| value.parse().ok()).filter(|&number| number > 0);
    number.ok_or_else(|| format!("{name} takes a number above 0").into())
}

/// What is said of an option that there is not.
pub fn unknown<T>(name: &str) -> Result<T> {
    Err(format!("unknown option {name}").into())
}
