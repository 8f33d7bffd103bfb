//! What every input file shares: an error that names file and line, and lines read in bounded memory.
//! It must never hold more than one line of a file, nor let what a file says spread an error over lines.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest line accepted, without its line end: far beyond any address, small enough to hold.
pub const MAX_LINE: usize = 64 * 1024;

/// Longest excerpt of an input that an error quotes, in characters.
const MAX_QUOTE: usize = 60;

/// A mistake in an input file, shown as `FILE:LINE: what is wrong` on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    path: PathBuf,
    line: Option<u64>,
    what: String,
}

impl InputError {
    /// A mistake in one line.
    pub fn at(path: &Path, line: u64, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(line), what: what.into() }
    }

    /// A mistake that is the whole file's.
    pub fn file(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into() }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        let what = one_line(&self.what);
        match self.line {
            Some(line) => write!(f, "{}:{line}: {what}", one_line(&path)),
            None => write!(f, "{}: {what}", one_line(&path)),
        }
    }
}

impl std::error::Error for InputError {}

/// A text with every control character made a space, so that it stays on one line of a terminal.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An excerpt of an input, escaped and cut, fit to stand in an error.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    out.extend(text.chars().take(MAX_QUOTE).flat_map(char::escape_debug));
    if text.chars().nth(MAX_QUOTE).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// The lines of a UTF-8 text file: a byte order mark is skipped, LF and CRLF both end a line.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// Opens a regular file. Anything else is refused, because the caller reads it twice.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        let cannot = |error: io::Error| InputError::file(path, format!("cannot open: {error}"));
        let kind = fs::metadata(path).map_err(cannot)?;
        if kind.is_dir() {
            return Err(InputError::file(path, "is a directory"));
        }
        if !kind.is_file() {
            let what = "is not a regular file, and it has to be read twice";
            return Err(InputError::file(path, what));
        }
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(MAX_LINE, File::open(path).map_err(cannot)?),
            line: 0,
            buffer: Vec::new(),
        })
    }

    /// The next line that is not blank, with its number; `None` at the end of the file.
    pub fn advance(&mut self) -> Result<Option<(u64, &str)>, InputError> {
        loop {
            if !self.fill()? {
                return Ok(None);
            }
            if !self.buffer.iter().all(|b| matches!(b, b' ' | b'\t')) {
                break;
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some((self.line, text))),
            Err(_) => Err(InputError::at(&self.path, self.line, "is not UTF-8 text")),
        }
    }

    fn fill(&mut self) -> Result<bool, InputError> {
        self.buffer.clear();
        let longest = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = self
            .reader
            .by_ref()
            .take(longest.saturating_add(2))
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| InputError::file(&self.path, format!("cannot read: {error}")))?;
        if read == 0 {
            return Ok(false);
        }
        self.line = self.line.saturating_add(1);
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        if self.buffer.len() > MAX_LINE {
            let what = format!("is longer than {MAX_LINE} bytes");
            return Err(InputError::at(&self.path, self.line, what));
        }
        if self.line == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.buffer.drain(..3);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let mut lines = Lines::open(file.path()).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        let shown = file.path().display().to_string();
        while let Some((line, text)) = lines.advance().map_err(|e| e.to_string().replace(&shown, "FILE"))? {
            all.push((line, text.to_owned()));
        }
        Ok(all)
    }

    #[test]
    fn byte_order_mark_crlf_and_blank_lines_leave_no_trace() {
        let all = lines_of(b"\xef\xbb\xbfone\r\n\r\n \t\ntwo\nthree").unwrap();
        let expected = [(1, "one"), (4, "two"), (5, "three")];
        assert_eq!(all, expected.map(|(n, t)| (n, t.to_owned())));
    }

    #[test]
    fn only_one_carriage_return_belongs_to_the_line_end() {
        assert_eq!(lines_of(b"a\r\r\n").unwrap(), [(1, "a\r".to_owned())]);
        assert_eq!(lines_of(b"a\r").unwrap(), [(1, "a\r".to_owned())]);
    }

    #[test]
    fn line_of_the_longest_length_is_read_and_a_longer_one_refused() {
        for end in ["", "\n", "\r\n"] {
            let fits = "x".repeat(MAX_LINE) + end;
            assert_eq!(lines_of(fits.as_bytes()).unwrap().len(), 1);
            let over = "ok\nx".to_owned() + &fits;
            let error = lines_of(over.as_bytes()).unwrap_err();
            assert_eq!(error, "FILE:2: is longer than 65536 bytes");
        }
    }

    #[test]
    fn endless_line_is_not_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let mut lines = Lines::open(file.path()).unwrap();
        assert!(lines.advance().is_err());
        assert!(lines.buffer.capacity() <= 4 * MAX_LINE);
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_with_its_line() {
        let error = lines_of(b"fine\nM\xfcller\n").unwrap_err();
        assert_eq!(error, "FILE:2: is not UTF-8 text");
    }

    #[test]
    fn directory_missing_file_and_device_are_refused() {
        let error = |path: &str| Lines::open(Path::new(path)).unwrap_err().to_string();
        assert_eq!(error("/tmp"), "/tmp: is a directory");
        assert!(error("/nonexistent/r.csv").starts_with("/nonexistent/r.csv: cannot open: No such"));
        assert!(error("/dev/null").contains("not a regular file"));
    }

    #[test]
    fn errors_stay_on_one_line_and_quotes_are_cut() {
        let error = InputError::at(Path::new("a\nb"), 3, "x\r\ny");
        assert_eq!(error.to_string(), "a b:3: x  y");
        assert_eq!(quoted("a\tb"), "`a\\tb`");
        assert!(quoted(&"x".repeat(1000)).chars().count() < 70);
    }
}
