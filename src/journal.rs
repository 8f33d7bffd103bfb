//! The debug journal: what happened, and at the highest level every line of the wire.
//!
//! It goes to the `log` crate or to files. It must never stop or slow the mail by an error: once
//! built, whatever fails inside is counted and said once. It must never let what a server sends
//! look like a line of its own.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

mod files;
mod pattern;
mod text;

use files::Files;
use pattern::Pattern;
use text::{Octets, Text, wire_lines};

/// How much is written to the [`Journal`], from 0 to 10; a level contains all lower ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Nothing is written: 0.
    pub const OFF: Self = Self(0);
    /// Summaries are written: 5.
    pub const SUMMARY: Self = Self(5);
    /// Hangs and fails are written as well: 7.
    pub const TROUBLE: Self = Self(7);
    /// Passes are written as well: 8.
    pub const PASSES: Self = Self(8);
    /// Everything on the wire is written as well: 10.
    pub const WIRE: Self = Self(10);

    /// The level of that number; `None` above 10.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number <= Self::WIRE.0 { Some(Self(number)) } else { None }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which way octets went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From us to the server, `>` in the journal.
    Sent,
    /// From the server to us, `<` in the journal.
    Received,
}

impl Direction {
    const fn sign(self) -> char {
        match self {
            Self::Sent => '>',
            Self::Received => '<',
        }
    }
}

/// Where events and wire lines are written, and how many of them.
///
/// Lines carry the local time with milliseconds and the lane as `host:thread` (in files; `log`
/// has its own clock). Control characters are escaped, so one event is one line. Written to files,
/// each line is one write that blocks the caller until the system has taken it: on a disk that
/// stalls, the mail stalls.
#[derive(Debug)]
pub struct Journal {
    level: Level,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Log,
    Files { zone: TimeZone, files: Box<Mutex<Files>> },
}

impl Journal {
    /// A journal that writes nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self::to_log(Level::OFF)
    }

    /// Writes to the `log` crate, under the targets `smtp_bulk::summary` (at `Info`),
    /// `smtp_bulk::event` (hangs and fails at `Warn`, passes at `Debug`) and `smtp_bulk::wire`
    /// (at `Trace`).
    #[must_use]
    pub const fn to_log(level: Level) -> Self {
        Self { level, place: Place::Log }
    }

    /// Writes to files named by a pattern, which are appended to and created with their folders.
    ///
    /// In the pattern `[HOST]` and `[THREAD]` stand for the lane (both `all` for summaries), and
    /// `[YYYY]`, `[MM]`, `[DD]`, `[WK]` (week of ISO 8601, 01 to 53), `[hh]` and `[mm]` for the
    /// local time of the line. In a host name, what could lead out of its folder becomes `_`.
    ///
    /// `hosts` gives each host's name and its number of threads, which count from 0. Every path
    /// that the level can need is opened once here, which creates it. Later at most
    /// [`MAX_OPEN_FILES`] are held open: with more lanes than that, each line may cost an opening.
    ///
    /// # Errors
    /// When the pattern is malformed, or one of its paths cannot be written now. At level 0 only
    /// the pattern is checked.
    pub fn to_files<H: AsRef<str>>(
        level: Level,
        pattern: &str,
        hosts: impl IntoIterator<Item = (H, usize)>,
    ) -> Result<Self, JournalError> {
        let pattern = Pattern::parse(pattern)?;
        if level == Level::OFF {
            return Ok(Self::off());
        }
        let zone = TimeZone::system();
        let now = Timestamp::now().to_zoned_datetime(zone.clone());
        pattern.try_path(Owner::All, &now)?;
        if level >= Level::TROUBLE {
            for (host, threads) in hosts {
                for thread in 0..threads {
                    pattern.try_path(Owner::Lane(host.as_ref(), thread), &now)?;
                }
            }
        }
        let files = Box::new(Mutex::new(Files::new(pattern)));
        Ok(Self { level, place: Place::Files { zone, files } })
    }

    /// Whether lines of this level are written. Cheap: ask before formatting costs anything.
    #[inline]
    #[must_use]
    pub fn wants(&self, level: Level) -> bool {
        level <= self.level && level > Level::OFF
    }

    /// How many lines could not be written to files so far.
    #[must_use]
    #[cfg(test)]
    pub fn lost_lines(&self) -> u64 {
        match &self.place {
            Place::Log => 0,
            Place::Files { files, .. } => lock(files).lost_lines(),
        }
    }

    /// Writes a summary at level 5, each of its lines as a line of the journal.
    pub fn summary(&self, text: fmt::Arguments<'_>) {
        if self.wants(Level::SUMMARY) {
            for line in text.to_string().lines() {
                self.put(Kind::Summary, Owner::All, format_args!("{}", Text(format_args!("{line}"))));
            }
        }
    }

    /// Writes a hang or a fail of a lane at level 7, as one line.
    pub fn trouble(&self, host: &str, thread: usize, text: fmt::Arguments<'_>) {
        if self.wants(Level::TROUBLE) {
            let owner = Owner::Lane(host, thread);
            self.put(Kind::Trouble, owner, format_args!("{}", Text(text)));
        }
    }

    /// Writes a pass of a lane at level 8, as one line.
    pub fn pass(&self, host: &str, thread: usize, text: fmt::Arguments<'_>) {
        if self.wants(Level::PASSES) {
            let owner = Owner::Lane(host, thread);
            self.put(Kind::Pass, owner, format_args!("{}", Text(text)));
        }
    }

    /// Writes what crossed the wire at level 10, each line of it as a line of the journal.
    ///
    /// A line ends at its CRLF, which is not shown; a bare LF is shown as `\n`. What is behind the
    /// last line end is a line of its own, so hand over whole lines where there are any. Octets
    /// that are no printable UTF-8 are escaped; of a longer line the first 1,000 octets are shown
    /// and the others counted.
    pub fn wire(&self, host: &str, thread: usize, direction: Direction, bytes: &[u8]) {
        if self.wants(Level::WIRE) {
            let (owner, sign) = (Owner::Lane(host, thread), direction.sign());
            for line in wire_lines(bytes) {
                self.put(Kind::Wire, owner, format_args!("{sign} {}", Octets(line)));
            }
        }
    }

    /// Writes one line; `text` is escaped already.
    fn put(&self, kind: Kind, owner: Owner<'_>, text: fmt::Arguments<'_>) {
        match (&self.place, owner) {
            (Place::Log, Owner::All) => {
                log::log!(target: kind.target(), kind.severity(), "{text}");
            }
            (Place::Log, Owner::Lane(..)) => {
                log::log!(target: kind.target(), kind.severity(), "{owner} {text}");
            }
            (Place::Files { zone, files }, _) => {
                let now = Timestamp::now().to_zoned_datetime(zone.clone());
                let line = file_line(owner, &now, text);
                let notice = lock(files).append(owner, &now, &line);
                // Said after the lock is free again: a logger is somebody else's code.
                if let Some(notice) = notice {
                    log::warn!(target: "smtp_bulk::journal", "{notice}");
                }
            }
        }
    }
}

/// Most files that a journal holds open at a time; the one least recently written is closed.
pub const MAX_OPEN_FILES: usize = 64;

/// Why a debug path cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The pattern is empty.
    EmptyPattern,
    /// The pattern has a `[` without its `]`.
    UnclosedBracket,
    /// The pattern has a word in brackets that has no meaning.
    UnknownWord(String),
    /// A path that the pattern leads to cannot be written.
    Unwritable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPattern => f.write_str("the debug path is empty"),
            Self::UnclosedBracket => f.write_str("the debug path has a [ without its ]"),
            Self::UnknownWord(word) => write!(
                f,
                "the debug path has [{}], but only [HOST] [THREAD] [YYYY] [MM] [DD] [WK] [hh] \
                 [mm] have a meaning",
                Text(format_args!("{word}"))
            ),
            Self::Unwritable { path, cause } => {
                write!(f, "cannot write the debug path {path:?}: {cause}")
            }
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unwritable { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// Whose line it is.
#[derive(Debug, Clone, Copy)]
enum Owner<'a> {
    /// The whole mailer's.
    All,
    /// That of a host's thread.
    Lane(&'a str, usize),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::All => f.write_str("all"),
            Self::Lane(host, thread) => write!(f, "{}:{thread}", Text(format_args!("{host}"))),
        }
    }
}

/// What a line is about.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Summary,
    Trouble,
    Pass,
    Wire,
}

impl Kind {
    const fn target(self) -> &'static str {
        match self {
            Self::Summary => "smtp_bulk::summary",
            Self::Trouble | Self::Pass => "smtp_bulk::event",
            Self::Wire => "smtp_bulk::wire",
        }
    }

    const fn severity(self) -> log::Level {
        match self {
            Self::Summary => log::Level::Info,
            Self::Trouble => log::Level::Warn,
            Self::Pass => log::Level::Debug,
            Self::Wire => log::Level::Trace,
        }
    }
}

/// A whole line of a file, line end included.
fn file_line(owner: Owner<'_>, now: &ZonedDateTime, text: fmt::Arguments<'_>) -> String {
    format!("{} {owner} {text}\n", now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
}

/// A panic elsewhere leaves nothing half done in there that could hurt.
fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn level(number: u8) -> Level {
        Level::new(number).unwrap()
    }

    /// The lines of a file without their time stamps, whose form is checked on the way.
    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let stripped = text.lines().map(|line| {
            let (stamp, rest) = line.split_once(' ').unwrap();
            let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            let shape = shape.replace('-', "+");
            assert_eq!(shape, "0000+00+00T00:00:00.000+00:00");
            rest.to_owned()
        });
        stripped.collect()
    }

    fn journal_in(folder: &Path, pattern: &str, number: u8) -> Journal {
        let pattern = format!("{}/{pattern}", folder.display());
        Journal::to_files(level(number), &pattern, [("mx.example", 2)]).unwrap()
    }

    fn write_one_of_each(journal: &Journal) {
        journal.summary(format_args!("sum"));
        journal.trouble("mx.example", 0, format_args!("fail"));
        journal.pass("mx.example", 1, format_args!("pass"));
        journal.wire("mx.example", 1, Direction::Sent, b"QUIT\r\n");
    }

    #[test]
    fn a_level_contains_all_lower_ones() {
        let folder = tempfile::tempdir().unwrap();
        for (number, count) in [(0, 0), (4, 0), (5, 1), (6, 1), (7, 2), (8, 3), (9, 3), (10, 4)] {
            let journal = journal_in(folder.path(), &format!("{number}.log"), number);
            write_one_of_each(&journal);
            let path = folder.path().join(format!("{number}.log"));
            assert_eq!(path.exists(), number > 0);
            assert_eq!(if number > 0 { lines(&path).len() } else { 0 }, count);
            assert_eq!(journal.wants(Level::WIRE), number == 10);
            assert!(!journal.wants(Level::OFF));
        }
        assert_eq!(Level::new(11), None);
    }

    #[test]
    fn each_lane_and_the_summary_have_their_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_in(folder.path(), "deep/er/[HOST]/[THREAD].log", 10);
        write_one_of_each(&journal);
        let file = |name: &str| lines(&folder.path().join("deep/er").join(name));
        assert_eq!(file("all/all.log"), ["all sum"]);
        assert_eq!(file("mx.example/0.log"), ["mx.example:0 fail"]);
        assert_eq!(file("mx.example/1.log"), ["mx.example:1 pass", "mx.example:1 > QUIT"]);
        assert_eq!(journal.lost_lines(), 0);
    }

    #[test]
    fn an_existing_file_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["first", "second"] {
            journal_in(folder.path(), "x.log", 5).summary(format_args!("{text}"));
        }
        assert_eq!(lines(&folder.path().join("x.log")), ["all first", "all second"]);
    }

    #[test]
    fn only_the_files_that_the_level_needs_are_tried() {
        let folder = tempfile::tempdir().unwrap();
        let _journal = journal_in(folder.path(), "[THREAD].log", 5);
        assert!(folder.path().join("all.log").exists());
        assert!(!folder.path().join("0.log").exists());
        let _journal = journal_in(folder.path(), "[THREAD].log", 7);
        assert!(folder.path().join("1.log").exists() && !folder.path().join("2.log").exists());
    }

    #[test]
    fn an_unwritable_path_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plain");
        fs::write(&file, "").unwrap();
        let pattern = format!("{}/x.log", file.display());
        let none = std::iter::empty::<(&str, usize)>();
        let error = Journal::to_files(Level::SUMMARY, &pattern, none).unwrap_err();
        let JournalError::Unwritable { path, cause } = &error else {
            panic!("{error}");
        };
        assert_eq!(path, Path::new(&pattern));
        assert!(error.to_string().contains(&pattern), "{error}");
        assert!(error.to_string().contains(&cause.to_string()), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn one_lane_without_its_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("mx-1.log")).unwrap();
        let pattern = format!("{}/[HOST]-[THREAD].log", folder.path().display());
        let error = Journal::to_files(Level::WIRE, &pattern, [("mx", 2)]).unwrap_err();
        assert!(error.to_string().contains("mx-1.log"), "{error}");
    }

    #[test]
    fn a_bad_pattern_is_an_error_at_every_level() {
        for number in [0, 10] {
            for pattern in ["", "x[FOO].log", "x[HOST", "[hh][yyyy]"] {
                let none = std::iter::empty::<(&str, usize)>();
                let error = Journal::to_files(level(number), pattern, none).unwrap_err();
                assert!(!matches!(error, JournalError::Unwritable { .. }), "{error}");
            }
        }
    }

    #[test]
    fn nothing_a_server_sends_begins_a_line_of_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_in(folder.path(), "x.log", 10);
        let evil = "550 no\r\n2026-01-01T00:00:00.000+00:00 mx.example:0 forged\x1b[2J\u{2028}\u{85}";
        journal.trouble("mx.example", 0, format_args!("{evil}"));
        journal.wire("mx.example", 0, Direction::Received, evil.as_bytes());
        journal.wire("mx.example", 0, Direction::Received, b"a\rb\0c\xff\\\nd");
        journal.pass("evil\nhost", 0, format_args!("x"));
        let lines = lines(&folder.path().join("x.log"));
        assert_eq!(
            lines,
            [
                "mx.example:0 550 no\\r\\n2026-01-01T00:00:00.000+00:00 mx.example:0 \
                 forged\\u{1b}[2J\\u{2028}\\u{85}",
                "mx.example:0 < 550 no",
                "mx.example:0 < 2026-01-01T00:00:00.000+00:00 mx.example:0 \
                 forged\\u{1b}[2J\\u{2028}\\u{85}",
                "mx.example:0 < a\\rb\\u{0}c\\xff\\\\\\n",
                "mx.example:0 < d",
                "evil\\nhost:0 x",
            ]
        );
    }

    #[test]
    fn random_octets_make_exactly_their_number_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_in(folder.path(), "x.log", 10);
        let mut random = fastrand::Rng::with_seed(10);
        let mut expected = 0;
        for _ in 0..300 {
            let bytes: Vec<u8> = (0..random.usize(1..200))
                .map(|_| if random.u8(0..8) == 0 { b"\r\n"[random.usize(0..2)] } else { random.u8(..) })
                .collect();
            expected += bytes.split_inclusive(|byte| *byte == b'\n').count() + 1;
            journal.wire("mx.example", 0, Direction::Received, &bytes);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            journal.trouble("mx.example", 1, format_args!("{text}"));
        }
        let text = fs::read_to_string(folder.path().join("x.log")).unwrap();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert_eq!(lines(&folder.path().join("x.log")).len(), expected);
    }

    #[test]
    fn a_summary_of_several_lines_stays_readable() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_in(folder.path(), "x.log", 5);
        journal.summary(format_args!("taken 3\ndelivered\t3"));
        let lines = lines(&folder.path().join("x.log"));
        assert_eq!(lines, ["all taken 3", "all delivered\\t3"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let none = std::iter::empty::<(&str, usize)>();
        let journal = Journal::to_files(Level::WIRE, "/dev/full", none).unwrap();
        for _ in 0..100 {
            write_one_of_each(&journal);
        }
        assert_eq!(journal.lost_lines(), 400);
    }

    /// What the `log` crate was handed by all tests; a process has one logger.
    static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    struct Collector;

    impl log::Log for Collector {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target().starts_with("smtp_bulk::")
        }

        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                let line = format!("{} {} {}", record.level(), record.target(), record.args());
                LOGGED.lock().unwrap().push(line);
            }
        }

        fn flush(&self) {}
    }

    /// Runs something and gives all that was logged with that mark in it so far.
    fn logged(mark: &str, run: impl FnOnce()) -> Vec<String> {
        // Fails when another test came first, which is as good.
        let _ = log::set_logger(&Collector);
        log::set_max_level(log::LevelFilter::Trace);
        run();
        let lines = LOGGED.lock().unwrap();
        lines.iter().filter(|line| line.contains(mark)).cloned().collect()
    }

    #[test]
    fn the_log_crate_sees_stable_targets() {
        let journal = Journal::to_log(Level::WIRE);
        let lines = logged("log.example", || {
            journal.summary(format_args!("log.example: 3 mails"));
            journal.trouble("log.example", 0, format_args!("fail\n"));
            journal.pass("log.example", 1, format_args!("pass"));
            journal.wire("log.example", 1, Direction::Received, b"250-a\r\n250 b\r\n");
        });
        assert_eq!(
            lines,
            [
                "INFO smtp_bulk::summary log.example: 3 mails",
                "WARN smtp_bulk::event log.example:0 fail\\n",
                "DEBUG smtp_bulk::event log.example:1 pass",
                "TRACE smtp_bulk::wire log.example:1 < 250-a",
                "TRACE smtp_bulk::wire log.example:1 < 250 b",
            ]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_logged_once() {
        let folder = tempfile::tempdir().unwrap();
        let full = folder.path().join("full.log");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let journal = journal_in(folder.path(), "full.log", 10);
        let mark = full.display().to_string();
        let lines = logged(&mark, || (0..50).for_each(|_| write_one_of_each(&journal)));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("WARN smtp_bulk::journal "), "{lines:?}");
        fs::remove_file(&full).unwrap();
        let lines = logged(&mark, || write_one_of_each(&journal));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].ends_with("lines lost so far: 200"), "{lines:?}");
        assert_eq!(journal.lost_lines(), 200);
    }

    #[test]
    fn a_journal_can_be_shared_between_threads() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<Journal>();
    }

    #[test]
    fn journals_without_files_lose_nothing() {
        for journal in [Journal::off(), Journal::to_log(Level::WIRE)] {
            write_one_of_each(&journal);
            assert_eq!(journal.lost_lines(), 0);
        }
        assert!(!Journal::off().wants(Level::SUMMARY));
    }
}
