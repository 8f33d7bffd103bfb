//! What the library has to say, on standard error: its warnings, such as that a host does not stand
//! its level, and for `--debug` without `--debug-path` its debug lines.
//! It must never disturb the progress bar, nor let what a server said steer the terminal.

use crate::input::one_line;
use crate::progress::Progress;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Crate whose lines are shown.
const SHOWN: &str = "smtp_bulk";

struct ToStandardError {
    progress: Progress,
    has_debug_lines: bool,
}

/// Shows the library's warnings from now on, and with debug lines all that its own debug level has
/// it say.
pub fn install(progress: Progress, has_debug_lines: bool) {
    if log::set_boxed_logger(Box::new(ToStandardError { progress, has_debug_lines })).is_ok() {
        log::set_max_level(if has_debug_lines { LevelFilter::Trace } else { LevelFilter::Warn });
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
        let line = match self.has_debug_lines {
            true => format!("{} {}: {text}\n", record.level(), record.target()),
            false => format!("bulk_send: warning: {text}\n"),
        };
        self.progress.aside(|| drop(std::io::stderr().write_all(line.as_bytes())));
    }

    fn flush(&self) {}
}
