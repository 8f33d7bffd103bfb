//! Makes any octets fit for the wire while they are copied out. For DATA every
//! line ends in CRLF, a leading dot is doubled, and the end is a lone dot (RFC
//! 5321 §2.3.8, §4.5.2). For BDAT the line ends are mended alike and nothing
//! else is done, so that the same mail arrives (RFC 3030 §2). No bare CR or LF
//! ever leaves, so that nothing in a content can be taken for its end or for a
//! command, but where the octets are to be left alone.

/// How octets are framed for the command that they stand behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Framing {
    /// Behind DATA: line ends mended, leading dots doubled, a lone dot at the
    /// end (RFC 5321 §4.5.2).
    Dotted,
    /// Behind BDAT: line ends mended as for DATA, one added where the last line
    /// lacks it, and no more: what arrives is what arrives by DATA (RFC 3030 §2).
    Chunked,
    /// Behind BDAT with `BODY=BINARYMIME`: octets as they are (RFC 3030 §3).
    Raw,
}

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

impl At {
    /// Where copying stands behind this octet, whatever stood before it.
    fn behind(octet: u8) -> At {
        match octet {
            b'\r' => At::AfterCr,
            b'\n' => At::LineStart,
            _ => At::MidLine,
        }
    }
}

/// The state that is carried from one chunk to the next.
#[derive(Debug)]
pub(crate) struct Stuffer {
    framing: Framing,
    at: At,
}

impl Stuffer {
    pub(crate) fn new(framing: Framing) -> Stuffer {
        Stuffer { framing, at: At::LineStart }
    }

    /// One that has already copied something whose last octet is this.
    pub(crate) fn behind(framing: Framing, octet: u8) -> Stuffer {
        Stuffer { framing, at: At::behind(octet) }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Says that octets were copied past it, mended already, from some whose
    /// last is this one.
    pub(crate) fn passed(&mut self, octet: u8) {
        self.at = At::behind(octet);
    }

    /// Copies from `raw` until it is used up or `out` holds `limit` octets
    /// (three more at the most), and says how much of `raw` was used.
    pub(crate) fn copy(&mut self, raw: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
        if self.framing == Framing::Raw {
            let copied = raw.get(..limit.saturating_sub(out.len())).unwrap_or(raw);
            out.extend_from_slice(copied);
            return copied.len();
        }
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
                // Line by line as far as was looked: not again for each of them.
                let looked_at = used + rest.len().min(REACH);
                while used < looked_at && out.len() < limit && self.at != At::AfterCr {
                    used += self.copy_line(raw.get(used..).unwrap_or_default(), out, limit);
                }
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
        let dots = self.framing == Framing::Dotted;
        if first == Some(&b'\n') || (dots && self.at == At::LineStart && first == Some(&b'.')) {
            return 0;
        }
        let must_mend = if dots { must_mend::<true>(lines) } else { must_mend::<false>(lines) };
        if must_mend { 0 } else { lines.len() }
    }

    /// Ends the content; nothing may be copied afterwards.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.framing == Framing::Raw {
            return;
        }
        if self.at != At::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        if self.framing == Framing::Dotted {
            out.extend_from_slice(b".\r\n");
        }
    }

    /// Copies at most to the end of the line that `rest` stands in.
    fn copy_line(&mut self, rest: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
        if self.framing == Framing::Dotted && self.at == At::LineStart && rest.first() == Some(&b'.') {
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

/// Whether one of these whole lines cannot be copied as it is. One pass without
/// a branch, which the compiler makes wide: each CR stands before an LF and no
/// LF elsewhere, and, for `DOTS`, no line behind the first begins with a dot.
fn must_mend<const DOTS: bool>(lines: &[u8]) -> bool {
    let pairs = lines.iter().zip(lines.get(1..).unwrap_or_default());
    pairs.fold(false, |must_mend, (&one, &next)| {
        let dot = DOTS && (one == b'\n') & (next == b'.');
        must_mend | ((one == b'\r') != (next == b'\n')) | dot
    })
}

/// Whether a [`Stuffer`] writes just these octets, but for a final dot.
pub(crate) fn is_unchanged(raw: &[u8], framing: Framing) -> bool {
    let (Some(&first), Some(&last)) = (raw.first(), raw.last()) else { return true };
    match framing {
        Framing::Raw => true,
        _ if first == b'\n' || last != b'\n' => false,
        Framing::Chunked => !must_mend::<false>(raw),
        Framing::Dotted => first != b'.' && !must_mend::<true>(raw),
    }
}

/// Octets whose additions fit into a count of one octet.
const COUNTED: usize = 120;

/// Counts the octets that a [`Stuffer`] would write, without writing them.
#[derive(Debug)]
pub(crate) struct Measure {
    framing: Framing,
    /// The octet counted last; at the start a line's end, behind which a line
    /// begins just so.
    last: u8,
    octets: u64,
}

impl Measure {
    pub(crate) fn new(framing: Framing) -> Measure {
        Measure::behind(framing, b'\n')
    }

    /// One that has counted nothing, but knows which octet came last.
    pub(crate) fn behind(framing: Framing, octet: u8) -> Measure {
        Measure { framing, last: octet, octets: 0 }
    }

    pub(crate) fn add(&mut self, raw: &[u8]) {
        self.octets += raw.len() as u64;
        let (Some(&first), Some(&last)) = (raw.first(), raw.last()) else { return };
        if self.framing == Framing::Raw {
            return;
        }
        let dots = self.framing == Framing::Dotted;
        self.octets += u64::from(added(self.last, first, dots));
        self.last = last;
        let next = raw.get(1..).unwrap_or_default();
        for (one, next) in raw.chunks(COUNTED).zip(next.chunks(COUNTED)) {
            self.octets +=
                u64::from(if dots { all_added::<true>(one, next) } else { all_added::<false>(one, next) });
        }
    }

    /// Counts octets that were measured before, behind the one counted last.
    pub(crate) fn skip(&mut self, octets: u64, last: u8) {
        self.octets += octets;
        self.last = last;
    }

    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// The whole, with what a [`Stuffer`] writes at the end.
    pub(crate) fn total(&self) -> u64 {
        let line_end = match self.last {
            b'\n' => 0,
            b'\r' => 1,
            _ => 2,
        };
        match self.framing {
            Framing::Dotted => self.octets + line_end + 3,
            Framing::Chunked => self.octets + line_end,
            Framing::Raw => self.octets,
        }
    }
}

/// How many octets mending adds between these two: one for a CR or an LF that
/// stands alone, and one for a dot at the start of a line.
fn added(one: u8, next: u8, dots: bool) -> u8 {
    let alone = (one == b'\r') != (next == b'\n');
    let dot = dots & (next == b'.') & ((one == b'\n') | (one == b'\r'));
    u8::from(alone) + u8::from(dot)
}

/// The sum over all neighbours in at most [`COUNTED`] octets, made wide by the
/// compiler.
fn all_added<const DOTS: bool>(one: &[u8], next: &[u8]) -> u8 {
    one.iter().zip(next).fold(0_u8, |sum, (&one, &next)| sum.wrapping_add(added(one, next, DOTS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(raw: &[u8], chunk: usize, limit: usize) -> Vec<u8> {
        framed(Framing::Dotted, raw, chunk, limit)
    }

    fn framed(framing: Framing, raw: &[u8], chunk: usize, limit: usize) -> Vec<u8> {
        let mut stuffer = Stuffer::new(framing);
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

    #[test]
    fn what_is_counted_is_what_is_written() {
        let mut random = fastrand::Rng::with_seed(6);
        for round in 0..3_000 {
            let most = if round % 10 == 0 { 1000 } else { 20 };
            let raw: Vec<u8> =
                (0..random.usize(0..most)).map(|_| *random.choice(b"\r\n.a").unwrap()).collect();
            for framing in [Framing::Dotted, Framing::Chunked, Framing::Raw] {
                let mut measure = Measure::new(framing);
                raw.chunks(random.usize(1..300)).for_each(|piece| measure.add(piece));
                let sent = framed(framing, &raw, random.usize(1..300), 4096);
                let dot = if framing == Framing::Dotted { &b".\r\n"[..] } else { b"" };
                let same = sent.strip_suffix(dot) == Some(&raw);
                assert_eq!(
                    is_unchanged(&raw, framing),
                    same,
                    "{framing:?} {:?}",
                    raw.escape_ascii().to_string()
                );
                assert_eq!(
                    measure.total(),
                    sent.len() as u64,
                    "{framing:?} {:?}",
                    raw.escape_ascii().to_string()
                );
            }
        }
    }
}
