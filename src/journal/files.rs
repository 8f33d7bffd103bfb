//! The files of a journal: opened when needed, a bounded number kept, each line one write.
//!
//! It must never return an error to the mail and never fill a log with its own misery: a failure
//! is said once, and once more when it is over.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::ZonedDateTime;

use super::pattern::Pattern;
use super::{MAX_OPEN_FILES, Owner};

/// Most times that an interrupted write is tried again.
const MAX_INTERRUPTIONS: u32 = 8;

/// The open files and what went wrong with them.
#[derive(Debug)]
pub(super) struct Files {
    pattern: Pattern,
    /// The time words of the pattern, written out for `minute`.
    stamp: String,
    /// The minute since the epoch at which `stamp` was last looked at.
    minute: Option<i64>,
    /// At most [`MAX_OPEN_FILES`].
    open: Vec<OpenFile>,
    /// Counts lines, so that the file least recently written can be told.
    line_number: u64,
    lost_lines: u64,
    /// The file whose failure was said and which has not worked since.
    failing: Option<Key>,
    /// The minute at which a failure was last said.
    said_at: Option<i64>,
}

#[derive(Debug)]
struct OpenFile {
    key: Key,
    file: File,
    /// The line that was written last.
    line_number: u64,
    /// The last line was written in part, so the next one must not be appended to it.
    torn: bool,
}

/// What tells one file of the pattern from another, see [`Pattern::key`].
#[derive(Debug)]
struct Key {
    host: Option<Box<str>>,
    thread: Option<usize>,
}

/// Something that the user should be told, once.
#[derive(Debug)]
pub(super) enum Notice {
    Failed(PathBuf, io::Error),
    WorksAnew(PathBuf, u64),
}

impl Files {
    pub(super) const fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            stamp: String::new(),
            minute: None,
            open: Vec::new(),
            line_number: 0,
            lost_lines: 0,
            failing: None,
            said_at: None,
        }
    }

    #[cfg(test)]
    pub(super) const fn lost_lines(&self) -> u64 {
        self.lost_lines
    }

    /// Writes a line, which ends in LF, to its owner's file.
    pub(super) fn append(&mut self, owner: Owner<'_>, now: &ZonedDateTime, line: &str) -> Option<Notice> {
        let minute = now.timestamp().as_second().div_euclid(60);
        self.turn_over(now, minute);
        let written = self.write(owner, now, line);
        let key = self.pattern.key(owner);
        match written {
            Ok(()) => {
                self.failing.take_if(|failing| failing.is(key))?;
                Some(Notice::WorksAnew(self.pattern.path(owner, now), self.lost_lines))
            }
            Err(cause) => {
                self.lost_lines = self.lost_lines.saturating_add(1);
                // A nearly full disk takes short lines and refuses long ones: without the second
                // condition that would be said over and over.
                if self.failing.is_some() || self.said_at == Some(minute) {
                    return None;
                }
                self.failing = Some(Key::new(key));
                self.said_at = Some(minute);
                Some(Notice::Failed(self.pattern.path(owner, now), cause))
            }
        }
    }

    /// Closes all files when the time leads to others.
    fn turn_over(&mut self, now: &ZonedDateTime, minute: i64) {
        if self.minute != Some(minute) {
            self.minute = Some(minute);
            let stamp = self.pattern.stamp(now);
            if stamp != self.stamp {
                self.stamp = stamp;
                self.open.clear();
            }
        }
    }

    fn write(&mut self, owner: Owner<'_>, now: &ZonedDateTime, line: &str) -> io::Result<()> {
        self.line_number = self.line_number.saturating_add(1);
        let key = self.pattern.key(owner);
        let known = self.open.iter().position(|open| open.key.is(key));
        let mut open = match known {
            Some(place) => self.open.swap_remove(place),
            None => {
                self.make_room();
                OpenFile {
                    key: Key::new(key),
                    file: open_for_appending(&self.pattern.path(owner, now))?,
                    line_number: 0,
                    torn: false,
                }
            }
        };
        open.line_number = self.line_number;
        let written = open.write(line);
        // A file that refuses is opened anew for its next line: its folder may have come back.
        if written.is_ok() || open.torn {
            self.open.push(open);
        }
        written
    }

    fn make_room(&mut self) {
        while self.open.len() >= MAX_OPEN_FILES {
            let oldest = self.open.iter().map(|open| open.line_number).min();
            self.open.retain(|open| Some(open.line_number) != oldest);
        }
    }
}

impl OpenFile {
    fn write(&mut self, line: &str) -> io::Result<()> {
        let repaired;
        let bytes = if self.torn {
            repaired = format!("\n{line}");
            repaired.as_bytes()
        } else {
            line.as_bytes()
        };
        let mut interruptions = 0;
        let written = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    interruptions += 1;
                    if interruptions > MAX_INTERRUPTIONS {
                        return Err(error);
                    }
                }
                result => break result?,
            }
        };
        if written == bytes.len() {
            self.torn = false;
            return Ok(());
        }
        self.torn |= written > 0;
        Err(io::Error::new(io::ErrorKind::WriteZero, "only part of a line was written"))
    }
}

impl Key {
    fn new((host, thread): (Option<&str>, Option<usize>)) -> Self {
        Self { host: host.map(Into::into), thread }
    }

    fn is(&self, (host, thread): (Option<&str>, Option<usize>)) -> bool {
        self.thread == thread && self.host.as_deref() == host
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(path, cause) => write!(
                f,
                "the debug journal cannot write {path:?}: {cause}; the mail goes on, lines are lost"
            ),
            Self::WorksAnew(path, lost) => {
                write!(f, "the debug journal can write {path:?} again; lines lost so far: {lost}")
            }
        }
    }
}

/// Opens a file to append to it; makes it and its folders when they are missing.
pub(super) fn open_for_appending(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            options.open(path)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use jiff::{Span, ToSpan};

    fn files(folder: &Path, pattern: &str) -> Files {
        Files::new(Pattern::parse(&format!("{}/{pattern}", folder.display())).unwrap())
    }

    fn after(span: Span) -> ZonedDateTime {
        let start = date(2026, 11, 23).at(23, 58, 0, 0);
        let start = start.to_zoned_datetime(TimeZone::UTC).unwrap();
        start.checked_add(span).unwrap()
    }

    fn read(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn at_most_64_files_are_open_with_100_threads() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path(), "[THREAD]");
        let now = after(0.seconds());
        for round in 0..2 {
            for thread in 0..100 {
                let line = format!("{round}\n");
                assert!(files.append(Owner::Lane("h", thread), &now, &line).is_none());
                assert!(files.open.len() <= MAX_OPEN_FILES);
            }
        }
        assert_eq!(files.open.len(), MAX_OPEN_FILES);
        for thread in 0..100 {
            assert_eq!(read(folder.path(), &thread.to_string()), "0\n1\n");
        }
    }

    #[test]
    fn the_file_least_recently_written_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path(), "[THREAD]");
        let now = after(0.seconds());
        for thread in (0..MAX_OPEN_FILES).chain([0, MAX_OPEN_FILES]) {
            files.append(Owner::Lane("h", thread), &now, "x\n");
        }
        let is_open = |thread| files.open.iter().any(|open| open.key.is((None, Some(thread))));
        assert!(is_open(0) && is_open(2) && is_open(MAX_OPEN_FILES) && !is_open(1));
    }

    #[test]
    fn lanes_of_one_path_share_one_open_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path(), "[DD]");
        for thread in 0..100 {
            files.append(Owner::Lane("h", thread), &after(0.seconds()), "x\n");
        }
        assert_eq!(files.open.len(), 1);
        assert_eq!(read(folder.path(), "23"), "x\n".repeat(100));
    }

    #[test]
    fn the_path_follows_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path(), "[MM]/[DD]/[hh].[mm]");
        for (minutes, line) in [(0, "a\n"), (1, "b\n"), (1, "c\n"), (2, "d\n")] {
            files.append(Owner::All, &after(minutes.minutes()), line);
            assert_eq!(files.open.len(), 1);
        }
        assert_eq!(read(folder.path(), "11/23/23.58"), "a\n");
        assert_eq!(read(folder.path(), "11/23/23.59"), "b\nc\n");
        assert_eq!(read(folder.path(), "11/24/00.00"), "d\n");
    }

    #[test]
    fn a_folder_taken_away_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path(), "[hh]/x");
        files.append(Owner::All, &after(0.minutes()), "a\n");
        fs::remove_dir_all(folder.path().join("23")).unwrap();
        assert!(files.append(Owner::All, &after(1.days()), "b\n").is_none());
        files.open.clear();
        assert!(files.append(Owner::All, &after(1.days()), "c\n").is_none());
        assert_eq!(read(folder.path(), "23/x"), "c\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_once_until_it_works_anew() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("x");
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        let mut files = files(folder.path(), "x");
        let mut append = |minutes: i64| {
            let notice = files.append(Owner::All, &after(minutes.minutes()), "a\n");
            notice.map(|notice| notice.to_string()).unwrap_or_default()
        };
        assert!(append(0).contains("cannot write"));
        for minutes in 0..100 {
            assert_eq!(append(minutes), "");
        }
        fs::remove_file(&link).unwrap();
        assert!(append(100).ends_with("again; lines lost so far: 101"));
        assert_eq!(append(100), "");
        assert_eq!(read(folder.path(), "x"), "a\na\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_failure_is_said_at_most_once_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let full = folder.path().join("0");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let mut files = files(folder.path(), "[THREAD]");
        let says = |files: &mut Files, thread: usize, minutes: i64| {
            let now = after(minutes.minutes());
            let owner = Owner::Lane("h", thread);
            files.append(owner, &now, "a\n").is_some()
        };
        assert!(says(&mut files, 0, 0));
        assert!(!says(&mut files, 1, 0), "another file ends no failure");
        assert!(!says(&mut files, 0, 0));
        fs::remove_file(&full).unwrap();
        assert!(says(&mut files, 0, 0), "it works anew");
        fs::remove_file(&full).unwrap();
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        files.open.clear();
        assert!(!says(&mut files, 0, 0), "the second one within a minute");
        assert!(says(&mut files, 0, 1));
        assert!(!says(&mut files, 0, 2));
        assert_eq!(files.lost_lines(), 5);
    }

    #[test]
    fn a_line_behind_a_torn_one_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path(), "x");
        let now = after(0.seconds());
        files.append(Owner::All, &now, "half");
        files.open.iter_mut().for_each(|open| open.torn = true);
        files.append(Owner::All, &now, "whole\n");
        files.append(Owner::All, &now, "next\n");
        assert_eq!(read(folder.path(), "x"), "half\nwhole\nnext\n");
    }
}
