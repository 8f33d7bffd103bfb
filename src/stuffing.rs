//! Makes any octets fit for DATA while they are copied out: every line ends
//! in CRLF, a leading dot is doubled, and the end is a lone dot (RFC 5321
//! §2.3.8, §4.5.2). No bare CR or LF ever leaves, so that nothing in a content
//! can be taken for its end or for a command.

/// Octets that are looked at together: so much is looked at twice when one of
/// its lines has to be mended.
const REACH: usize = 4096;

/// Where in a line the copying stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum At {
    #[default]
    LineStart,
    MidLine,
    /// A CR was read and nothing written for it yet.
    AfterCr,
}

/// The state that is carried from one chunk to the next.
#[derive(Debug, Default)]
pub(crate) struct Stuffer {
    at: At,
}

impl Stuffer {
    /// Copies from `raw` until it is used up or `out` holds `limit` octets
    /// (three more at the most), and says how much of `raw` was used.
    pub(crate) fn copy(&mut self, raw: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
        let mut used = 0;
        while out.len() < limit {
            let Some((&first, _)) = raw.get(used..).and_then(|rest| rest.split_first()) else { break };
            if self.at == At::AfterCr {
                out.extend_from_slice(b"\r\n");
                self.at = At::LineStart;
                used += usize::from(first == b'\n');
                continue;
            }
            let rest = raw.get(used..).unwrap_or_default();
            let plain = self.plain_lines(rest, limit - out.len());
            if plain > 0 {
                out.extend_from_slice(rest.get(..plain).unwrap_or_default());
                self.at = At::LineStart;
                used += plain;
            } else {
                used += self.copy_line(rest, out, limit);
            }
        }
        used
    }

    /// How many octets at the start of `rest`, whole lines and at most `room`,
    /// can be copied as they are. Nearly all mail is like that, and to see it
    /// costs a fraction of looking at each line.
    fn plain_lines(&self, rest: &[u8], room: usize) -> usize {
        let reach = rest.get(..room.min(REACH)).unwrap_or(rest);
        let Some(lines) = memchr::memrchr(b'\n', reach).and_then(|end| reach.get(..=end)) else { return 0 };
        let first = lines.first();
        if first == Some(&b'\n') || (self.at == At::LineStart && first == Some(&b'.')) {
            return 0;
        }
        // One pass without a branch, which the compiler makes wide: each CR
        // stands before an LF and no LF elsewhere, and no line begins with a dot.
        let pairs = lines.iter().zip(lines.get(1..).unwrap_or_default());
        let must_mend = pairs.fold(false, |must_mend, (&one, &next)| {
            must_mend | ((one == b'\r') != (next == b'\n')) | ((one == b'\n') & (next == b'.'))
        });
        if must_mend { 0 } else { lines.len() }
    }

    /// Ends the content; nothing may be copied afterwards.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at != At::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }

    /// Copies at most to the end of the line that `rest` stands in.
    fn copy_line(&mut self, rest: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
        if self.at == At::LineStart && rest.first() == Some(&b'.') {
            out.push(b'.');
        }
        let room = limit.saturating_sub(out.len()).max(1);
        let reach = rest.get(..room).unwrap_or(rest);
        let Some(end) = memchr::memchr2(b'\r', b'\n', reach) else {
            out.extend_from_slice(reach);
            self.at = At::MidLine;
            return reach.len();
        };
        out.extend_from_slice(reach.get(..end).unwrap_or_default());
        match (reach.get(end), rest.get(end + 1)) {
            (Some(b'\r'), None) => {
                self.at = At::AfterCr;
                end + 1
            }
            (Some(b'\r'), Some(b'\n')) => {
                out.extend_from_slice(b"\r\n");
                self.at = At::LineStart;
                end + 2
            }
            _ => {
                out.extend_from_slice(b"\r\n");
                self.at = At::LineStart;
                end + 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(raw: &[u8], chunk: usize, limit: usize) -> Vec<u8> {
        let mut stuffer = Stuffer::default();
        let mut sent = Vec::new();
        for chunk in raw.chunks(chunk.max(1)) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let mut out = Vec::new();
                let used = stuffer.copy(rest, &mut out, limit);
                assert!(out.len() <= limit + 3, "{} octets for a limit of {limit}", out.len());
                rest = &rest[used..];
                sent.extend_from_slice(&out);
            }
        }
        stuffer.finish(&mut sent);
        sent
    }

    #[test]
    fn content_is_stuffed_and_its_line_ends_are_mended() {
        let facts: [(&[u8], &[u8]); 12] = [
            (b"", b".\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b"..", b"...\r\n.\r\n"),
            (b"a\r\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"\r\r\n\n", b"\r\n\r\n\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b"\0.\xff\n", b"\0.\xff\r\n.\r\n"),
        ];
        for (raw, expected) in facts {
            for chunk in 1..=raw.len().max(1) {
                for limit in [1, 2, 3, 4, 7, 100] {
                    let sent = stuffed(raw, chunk, limit);
                    assert_eq!(sent, expected, "{raw:?} in chunks of {chunk}, limit {limit}");
                }
            }
        }
    }

    #[test]
    fn no_random_content_ends_early_or_holds_a_bare_line_end() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..2_000 {
            let raw: Vec<u8> = (0..random.usize(0..40)).map(|_| *random.choice(b"\r\n.a").unwrap()).collect();
            let sent = stuffed(&raw, random.usize(1..9), random.usize(1..30));
            let text = String::from_utf8(sent).unwrap();
            assert!(text.ends_with("\r\n.\r\n") || text == ".\r\n");
            let lines = text.replace("\r\n", "|");
            assert!(!lines.contains(['\r', '\n']), "{raw:?}");
            assert_eq!(lines.split('|').filter(|line| *line == ".").count(), 1, "{raw:?}");
        }
    }
}
