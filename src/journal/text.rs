//! Text made safe for one line of a journal, and bounded.
//!
//! It must never let a character through that ends a line, steers a terminal or reorders text.

use std::fmt::{self, Write};

/// Most octets of an event's text that are shown; a reply of many long lines has more.
const MAX_TEXT: usize = 8_000;

/// Most octets of one line of the wire that are shown.
const MAX_OCTETS: usize = 1_000;

/// Formatted text with its control characters escaped.
pub(super) struct Text<'a>(pub(super) fmt::Arguments<'a>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaper = Escaper { out: f, room: MAX_TEXT, cut: 0 };
        escaper.write_fmt(self.0)?;
        let cut = escaper.cut;
        write_cut(f, cut)
    }
}

/// Octets of the wire: text where they are printable UTF-8, escaped where not. The backslash is
/// escaped too, so that it can be told what was sent.
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, cut) = self.0.split_at_checked(MAX_OCTETS).unwrap_or((self.0, &[]));
        for chunk in shown.utf8_chunks() {
            for (index, part) in chunk.valid().split('\\').enumerate() {
                if index > 0 {
                    f.write_str("\\\\")?;
                }
                part.chars().try_for_each(|c| write_escaped(f, c))?;
            }
            for octet in chunk.invalid() {
                write!(f, "\\x{octet:02x}")?;
            }
        }
        write_cut(f, cut.len())
    }
}

/// The lines of what crossed the wire, each without its CRLF; a bare LF stays, to be seen.
pub(super) fn wire_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split_inclusive(|octet| *octet == b'\n');
    lines.map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
}

/// Escapes what is written to it, until its room is used up; then it counts.
struct Escaper<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    room: usize,
    cut: usize,
}

impl Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match self.room.checked_sub(c.len_utf8()) {
                Some(room) if self.cut == 0 => {
                    self.room = room;
                    write_escaped(self.out, c)?;
                }
                _ => self.cut = self.cut.saturating_add(c.len_utf8()),
            }
        }
        Ok(())
    }
}

fn write_cut(f: &mut fmt::Formatter<'_>, octets: usize) -> fmt::Result {
    if octets > 0 {
        write!(f, " (and {octets} octets more)")?;
    }
    Ok(())
}

fn write_escaped(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    if is_harmful(c) { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
}

/// Controls, separators of lines, and what is invisible or turns the direction of text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let shown = Text(format_args!("a\r\n\t\0\x1b\x7f\u{9b}\u{202e}å\\")).to_string();
        assert_eq!(shown, "a\\r\\n\\t\\u{0}\\u{1b}\\u{7f}\\u{9b}\\u{202e}å\\");
        let shown = Octets("a\r\0\u{9b}å\\n".as_bytes()).to_string();
        assert_eq!(shown, "a\\r\\u{0}\\u{9b}å\\\\n");
        assert_eq!(Octets(b"\xc3(\xff").to_string(), "\\xc3(\\xff");
    }

    #[test]
    fn a_long_line_is_cut_with_a_count() {
        let exact = "x".repeat(MAX_OCTETS);
        assert_eq!(Octets(exact.as_bytes()).to_string(), exact);
        let long = "x".repeat(MAX_OCTETS + 7);
        let shown = Octets(long.as_bytes()).to_string();
        assert_eq!(shown, format!("{exact} (and 7 octets more)"));
        let split = format!("{}å", "x".repeat(MAX_OCTETS - 1));
        assert!(Octets(split.as_bytes()).to_string().ends_with("x\\xc3 (and 1 octets more)"));
    }

    #[test]
    fn a_long_text_is_cut_with_a_count() {
        let exact = "x".repeat(MAX_TEXT);
        assert_eq!(Text(format_args!("{exact}")).to_string(), exact);
        let shown = Text(format_args!("{exact}åy{}", 'z')).to_string();
        assert_eq!(shown, format!("{exact} (and 4 octets more)"));
    }

    #[test]
    fn lines_of_the_wire_end_at_their_line_feed() {
        let lines = |bytes: &'static [u8]| wire_lines(bytes).collect::<Vec<_>>();
        assert_eq!(lines(b"a\r\nb\n\r\nc"), [&b"a"[..], b"b\n", b"", b"c"]);
        assert_eq!(lines(b"a\r\n"), [&b"a"[..]]);
        assert!(lines(b"").is_empty());
    }
}
