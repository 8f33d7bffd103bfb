//! The library's debug lines on standard error, for `--debug` without `--debug-path`.
//! It must never disturb the progress bar, nor let what a server said steer the terminal.

use crate::input::one_line;
use crate::progress::Progress;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Crate whose lines are shown.
const SHOWN: &str = "smtp_bulk";

struct ToStandardError {
    progress: Progress,
}

/// Shows the library's log lines from now on; the library's own debug level says how many.
pub fn install(progress: Progress) {
    if log::set_boxed_logger(Box::new(ToStandardError { progress })).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

impl Log for ToStandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(SHOWN)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = one_line(&record.args().to_string());
        let line = format!("{} {}: {text}\n", record.level(), record.target());
        self.progress.aside(|| drop(std::io::stderr().write_all(line.as_bytes())));
    }

    fn flush(&self) {}
}
