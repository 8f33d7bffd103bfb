//! The pattern of a journal's path, as the user writes it, and the paths it leads to.
//!
//! It must never let a host name lead out of the folder that the user's own text names.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::ZonedDateTime;

use super::files::open_for_appending;
use super::{JournalError, Owner};

/// A checked pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Host,
    Thread,
    Year,
    Month,
    Day,
    Week,
    Hour,
    Minute,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, JournalError> {
        if text.is_empty() {
            return Err(JournalError::EmptyPattern);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, opened)) = rest.split_once('[') {
            let (word, behind) = opened.split_once(']').ok_or(JournalError::UnclosedBracket)?;
            pieces.push(Piece::Text(before.into()));
            pieces.push(Piece::named(word)?);
            rest = behind;
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self { pieces })
    }

    /// The path of an owner's lines at that time.
    pub(super) fn path(&self, owner: Owner<'_>, now: &ZonedDateTime) -> PathBuf {
        let mut path = String::new();
        for piece in &self.pieces {
            match (piece, owner) {
                (Piece::Text(text), _) => path.push_str(text),
                (Piece::Host | Piece::Thread, Owner::All) => path.push_str("all"),
                (Piece::Host, Owner::Lane(host, _)) => push_harmless(&mut path, host),
                (Piece::Thread, Owner::Lane(_, thread)) => push_number(&mut path, thread, 1),
                (piece, _) => piece.push_time(&mut path, now),
            }
        }
        PathBuf::from(path)
    }

    /// What tells an owner's file from that of others: the words that the pattern uses. Without
    /// it, lanes that share a file would each hold it open.
    pub(super) fn key<'a>(&self, owner: Owner<'a>) -> (Option<&'a str>, Option<usize>) {
        let Owner::Lane(host, thread) = owner else {
            return (None, None);
        };
        (
            self.pieces.contains(&Piece::Host).then_some(host),
            self.pieces.contains(&Piece::Thread).then_some(thread),
        )
    }

    /// The words of the pattern that depend on the time, written out; empty without any.
    pub(super) fn stamp(&self, now: &ZonedDateTime) -> String {
        let mut stamp = String::new();
        for piece in &self.pieces {
            piece.push_time(&mut stamp, now);
        }
        stamp
    }

    /// Opens an owner's file as a trial.
    pub(super) fn try_path(&self, owner: Owner<'_>, now: &ZonedDateTime) -> Result<(), JournalError> {
        let path = self.path(owner, now);
        match open_for_appending(Path::new(&path)) {
            Ok(_) => Ok(()),
            Err(cause) => Err(JournalError::Unwritable { path, cause }),
        }
    }
}

impl Piece {
    fn named(word: &str) -> Result<Self, JournalError> {
        match word {
            "HOST" => Ok(Self::Host),
            "THREAD" => Ok(Self::Thread),
            "YYYY" => Ok(Self::Year),
            "MM" => Ok(Self::Month),
            "DD" => Ok(Self::Day),
            "WK" => Ok(Self::Week),
            "hh" => Ok(Self::Hour),
            "mm" => Ok(Self::Minute),
            _ => Err(JournalError::UnknownWord(word.to_owned())),
        }
    }

    fn push_time(&self, out: &mut String, now: &ZonedDateTime) {
        match self {
            Self::Text(_) | Self::Host | Self::Thread => {}
            Self::Year => push_number(out, now.year(), 4),
            Self::Month => push_number(out, now.month(), 2),
            Self::Day => push_number(out, now.day(), 2),
            Self::Week => push_number(out, now.date().iso_week_date().week(), 2),
            Self::Hour => push_number(out, now.hour(), 2),
            Self::Minute => push_number(out, now.minute(), 2),
        }
    }
}

fn push_number(out: &mut String, number: impl std::fmt::Display, width: usize) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{number:0>width$}");
}

/// A host name as part of a file's name. The first dot goes as well as the second of two, because
/// the user's text before the name may end in a dot.
fn push_harmless(out: &mut String, host: &str) {
    let mut dot_before = true;
    for c in host.chars() {
        let harmful = match c {
            '/' | '\\' | '\u{2028}' | '\u{2029}' => true,
            '.' => dot_before,
            // Drives and alternate streams.
            '<' | '>' | ':' | '"' | '|' | '?' | '*' => cfg!(windows),
            c => c.is_control(),
        };
        dot_before = c == '.';
        out.push(if harmful { '_' } else { c });
    }
    if host.is_empty() {
        out.push('_');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;

    fn at(year: i16, month: i8, day: i8) -> ZonedDateTime {
        let time = date(year, month, day).at(7, 5, 9, 0);
        time.to_zoned_datetime(TimeZone::UTC).unwrap()
    }

    fn expand(pattern: &str, owner: Owner<'_>, now: &ZonedDateTime) -> String {
        let path = Pattern::parse(pattern).unwrap().path(owner, now);
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn every_word_is_replaced() {
        let pattern = "log/[YYYY]-[MM]-[DD]/W[WK]/[hh][mm]/[HOST].[THREAD].]log";
        let now = at(2026, 3, 4);
        let lane = expand(pattern, Owner::Lane("mx.example", 12), &now);
        assert_eq!(lane, "log/2026-03-04/W10/0705/mx.example.12.]log");
        let all = expand(pattern, Owner::All, &now);
        assert_eq!(all, "log/2026-03-04/W10/0705/all.all.]log");
    }

    #[test]
    fn the_week_is_that_of_iso_8601() {
        for (day, week) in [(at(2027, 1, 1), "53"), (at(2027, 1, 4), "01"), (at(2024, 12, 30), "01")] {
            assert_eq!(expand("[WK]", Owner::All, &day), week);
        }
    }

    #[test]
    fn a_host_name_stays_in_its_folder() {
        let now = at(2026, 1, 1);
        for (host, name) in [
            ("../../etc/passwd", "___.__etc_passwd"),
            ("..", "__"),
            (".", "_"),
            ("", "_"),
            ("/etc", "_etc"),
            ("a\\..\\b", "a_.__b"),
            ("a\0b\nc", "a_b_c"),
            ("mx.example.", "mx.example."),
            // The host of a Unix socket is its path.
            ("/var/run/dovecot/lmtp", "_var_run_dovecot_lmtp"),
            ("./run/../lmtp.sock", "__run_.__lmtp.sock"),
        ] {
            let path = expand("d/[HOST]", Owner::Lane(host, 0), &now);
            assert_eq!(path, format!("d/{name}"));
        }
        assert_eq!(expand("d/.[HOST]/x", Owner::Lane(".", 0), &now), "d/._/x");
        #[cfg(unix)]
        assert_eq!(expand("[HOST]", Owner::Lane("::1", 0), &now), "::1");
    }

    #[test]
    fn unknown_and_open_brackets_are_errors() {
        let error = |pattern: &str| Pattern::parse(pattern).unwrap_err().to_string();
        assert!(error("a[host]").contains("[host]"));
        assert!(error("a[\n]").contains("[\\n]"));
        assert!(error("a[[HOST]]").contains("[[HOST]"));
        assert!(error("[]").contains("[]"));
        assert!(error("a[HOST").contains("without"));
        assert!(error("").contains("empty"));
    }

    #[test]
    fn the_stamp_changes_with_the_words_in_use_only() {
        let hourly = Pattern::parse("[HOST]/[hh]").unwrap();
        assert_eq!(hourly.stamp(&at(2026, 1, 1)), hourly.stamp(&at(2026, 1, 2)));
        let daily = Pattern::parse("[HOST]/[DD]").unwrap();
        assert_ne!(daily.stamp(&at(2026, 1, 1)), daily.stamp(&at(2026, 1, 2)));
        assert_eq!(Pattern::parse("x").unwrap().stamp(&at(2026, 1, 1)), "");
    }

    #[test]
    fn lanes_that_share_a_path_share_a_key() {
        let key = |pattern: &str| Pattern::parse(pattern).unwrap().key(Owner::Lane("h", 3));
        assert_eq!(key("x"), (None, None));
        assert_eq!(key("[HOST]"), (Some("h"), None));
        assert_eq!(key("[THREAD]"), (None, Some(3)));
        assert_eq!(key("[HOST][THREAD]"), (Some("h"), Some(3)));
    }
}
