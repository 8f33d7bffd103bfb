//! Content behind `DATA`: finds its end and takes the dot-stuffing out, whatever the chunking.
//!
//! Only CRLF, dot, CRLF ends content (RFC 5321 §4.1.1.4). A bare LF or CR is an ordinary byte here
//! and must never begin a line: that is how mail is smuggled. Nothing is stored in this file.

use memchr::memmem::Finder;

/// How far the bytes read so far have come towards an end of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    InLine,
    AfterCr,
    AfterDot,
    AfterDotCr,
}

/// Takes content as it was sent, and gives it back as it was meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unstuffer {
    place: Place,
}

impl Unstuffer {
    /// Ready for the first byte behind the 354 reply, which is the start of a line.
    pub(super) fn new() -> Self {
        Self { place: Place::LineStart }
    }

    /// What [`Unstuffer::take`] looks for inside lines; building it is worth doing only once.
    pub(super) fn finder() -> Finder<'static> {
        Finder::new(b"\r\n.")
    }

    /// Reads from `input` and hands the content in it to `keep`, in pieces. Returns how many bytes
    /// were used, and whether the end of content was among them.
    pub(super) fn take(
        &mut self,
        finder: &Finder<'_>,
        input: &[u8],
        mut keep: impl FnMut(&[u8]),
    ) -> (usize, bool) {
        let mut rest = input;
        while let Some((&first, behind)) = rest.split_first() {
            match (self.place, first) {
                (Place::LineStart, b'.') => {
                    self.place = Place::AfterDot;
                    rest = behind;
                }
                (Place::AfterCr, b'\n') => {
                    keep(b"\n");
                    self.place = Place::LineStart;
                    rest = behind;
                }
                (Place::AfterDot, b'\r') => {
                    self.place = Place::AfterDotCr;
                    rest = behind;
                }
                (Place::AfterDotCr, b'\n') => {
                    self.place = Place::LineStart;
                    return (input.len().saturating_sub(behind.len()), true);
                }
                (Place::AfterDotCr, _) => {
                    keep(b"\r");
                    self.place = Place::AfterCr;
                }
                (Place::LineStart | Place::InLine | Place::AfterCr | Place::AfterDot, _) => {
                    rest = self.take_lines(finder, rest, &mut keep);
                }
            }
        }
        (input.len(), false)
    }

    /// Takes everything up to a line that begins with a dot, that dot included.
    fn take_lines<'a>(
        &mut self,
        finder: &Finder<'_>,
        rest: &'a [u8],
        keep: &mut impl FnMut(&[u8]),
    ) -> &'a [u8] {
        if let Some((lines, behind)) =
            finder.find(rest).and_then(|at| rest.split_at_checked(at.saturating_add(2)))
        {
            keep(lines);
            self.place = Place::AfterDot;
            return behind.get(1..).unwrap_or_default();
        }
        keep(rest);
        self.place = if rest.ends_with(b"\r\n") {
            Place::LineStart
        } else if rest.ends_with(b"\r") {
            Place::AfterCr
        } else {
            Place::InLine
        };
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `size` bytes; returns the content and what was left behind its end.
    fn unstuff(wire: &[u8], size: usize) -> (Vec<u8>, Option<usize>) {
        let (mut unstuffer, finder) = (Unstuffer::new(), Unstuffer::finder());
        let (mut content, mut used) = (Vec::new(), 0);
        for piece in wire.chunks(size) {
            let (taken, ended) = unstuffer.take(&finder, piece, |bytes| content.extend_from_slice(bytes));
            used += taken;
            if ended {
                return (content, Some(wire.len() - used));
            }
            assert_eq!(taken, piece.len());
        }
        (content, None)
    }

    #[test]
    fn any_chunking_gives_the_same_content() {
        let wire = b"a\r\n..b\r\n.c\r\n\r\n.\rd\r\n...\r\n.\r\r\n.\r\nQUIT\r\n";
        let meant = b"a\r\n.b\r\nc\r\n\r\n\rd\r\n..\r\n\r\r\n";
        for size in 1..=wire.len() {
            assert_eq!(unstuff(wire, size), (meant.to_vec(), Some("QUIT\r\n".len())), "pieces of {size}");
        }
    }

    #[test]
    fn only_crlf_dot_crlf_ends_content() {
        for almost in
            [&b"a\n.\n"[..], b"a\n.\r\n", b"a\r.\r\n", b"a\r\n.\n", b"a\r\n.\r", b"a\r\n.\rb\n", b"a.\r\n"]
        {
            for size in 1..=almost.len() {
                assert_eq!(unstuff(almost, size).1, None, "{:?}", almost.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn empty_content_is_a_lone_dot() {
        assert_eq!(unstuff(b".\r\n", 1), (Vec::new(), Some(0)));
    }

    #[test]
    fn random_content_survives_stuffing() {
        let mut dice = fastrand::Rng::with_seed(2);
        for _ in 0..5_000 {
            let mut content: Vec<u8> =
                (0..dice.usize(0..40)).map(|_| *dice.choice(b"\r\n.\r\n.ab").unwrap()).collect();
            content.extend_from_slice(b"\r\n");
            let mut wire = Vec::new();
            for (at, &byte) in content.iter().enumerate() {
                if byte == b'.' && (at == 0 || content[..at].ends_with(b"\r\n")) {
                    wire.push(b'.');
                }
                wire.push(byte);
            }
            wire.extend_from_slice(b".\r\n");
            let size = dice.usize(1..=wire.len());
            let (kept, left) = unstuff(&wire, size);
            assert_eq!(kept, content, "{:?}", wire.escape_ascii().to_string());
            assert_eq!(left, Some(0));
        }
    }
}
