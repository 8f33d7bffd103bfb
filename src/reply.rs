//! Replies of an SMTP server: plain values, and the reader that finds them in
//! a stream of bytes. It never holds more than its limits, and it never
//! interprets the free text (RFC 5321 §4.2).

use std::fmt;

/// Longest accepted reply line in octets, line end included. RFC 5321
/// §4.5.3.1.5 says 512; RFC 4954 §4 lets a challenge be 12,288.
pub const MAX_REPLY_LINE: usize = 12_288;

/// Most octets that are kept for the replies of one flight.
pub const MAX_REPLY: usize = 65_536;

/// A three-digit reply code (RFC 5321 §4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// The code as a number; `None` outside 200–599 (RFC 5321 §4.2.1).
    pub const fn new(code: u16) -> Option<ReplyCode> {
        if code >= 200 && code <= 599 { Some(ReplyCode(code)) } else { None }
    }

    fn from_digits(digits: [u8; 3]) -> Option<ReplyCode> {
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let [hundreds, tens, ones] = digits.map(|digit| u16::from(digit - b'0'));
        ReplyCode::new(hundreds * 100 + tens * 10 + ones)
    }

    /// The code as a number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// 2yz: the command was carried out.
    pub const fn is_completion(self) -> bool {
        matches!(self.0, 200..=299)
    }

    /// 3yz: the server waits for more.
    pub const fn is_intermediate(self) -> bool {
        matches!(self.0, 300..=399)
    }

    /// 4yz: refused now, may be accepted later.
    pub const fn is_transient(self) -> bool {
        matches!(self.0, 400..=499)
    }

    /// 5yz: refused for good.
    pub const fn is_permanent(self) -> bool {
        matches!(self.0, 500..=599)
    }

    /// 421: the server is about to close the connection, whatever was asked.
    pub const fn is_closing(self) -> bool {
        self.0 == 421
    }

    /// 500, 502, 503, 530, 538: before the content they are about the session
    /// or the host, and never about the mail.
    pub(crate) const fn blames_session(self) -> bool {
        matches!(self.0, 500 | 502 | 503 | 530 | 538)
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An enhanced status code such as `5.1.1` (RFC 2034, RFC 3463).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EnhancedStatusCode {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about: addresses, mailboxes, the mail system, …
    pub subject: u16,
    /// The detail within the subject.
    pub detail: u16,
}

impl EnhancedStatusCode {
    fn parse(text: &[u8]) -> Option<EnhancedStatusCode> {
        let word = text.split(|&octet| octet == b' ').next()?;
        let mut numbers = std::str::from_utf8(word).ok()?.split('.');
        let class = numbers.next()?.parse().ok()?;
        let code = EnhancedStatusCode {
            class,
            subject: short_number(numbers.next()?)?,
            detail: short_number(numbers.next()?)?,
        };
        (matches!(class, 2 | 4 | 5) && numbers.next().is_none()).then_some(code)
    }
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

fn short_number(digits: &str) -> Option<u16> {
    let plain = digits.len() <= 3 && digits.bytes().all(|octet| octet.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// A whole reply, borrowed from the session that read it.
///
/// ```
/// use smtp_bulk::Reply;
///
/// let reply = Reply::parse(b"250-first line\r\n250 2.0.0 queued as 4XyZ\r\n").unwrap();
/// assert_eq!(reply.code().as_u16(), 250);
/// assert_eq!(reply.lines().count(), 2);
/// assert_eq!(reply.to_string(), "250 first line / 2.0.0 queued as 4XyZ");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    code: ReplyCode,
    raw: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads exactly one reply; `None` when `raw` is not one, or is more than one.
    pub fn parse(raw: &'a [u8]) -> Option<Reply<'a>> {
        let mut reader = ReplyReader::default();
        match reader.feed(raw) {
            Fed { found: Found::Reply(code), consumed } if consumed == raw.len() => Some(Reply { code, raw }),
            _ => None,
        }
    }

    /// The reply at the start of `raw`, if a whole one is there.
    pub(crate) fn parse_first(raw: &'a [u8]) -> Option<Reply<'a>> {
        match ReplyReader::default().feed(raw) {
            Fed { found: Found::Reply(code), consumed } => Some(Reply { code, raw: raw.get(..consumed)? }),
            _ => None,
        }
    }

    /// The code of all its lines.
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code at the start of the last line, when there is one.
    pub fn enhanced(&self) -> Option<EnhancedStatusCode> {
        self.lines().last().and_then(EnhancedStatusCode::parse)
    }

    /// The text of each line, without code, separator and line end. The
    /// octets are the server's own and need not be UTF-8.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let raw = self.raw.strip_suffix(b"\n").unwrap_or(self.raw);
        raw.split(|&octet| octet == b'\n').map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.get(4..).unwrap_or_default()
        })
    }

    /// A copy that outlives the session's buffer.
    pub fn to_owned(&self) -> ReplyBuf {
        ReplyBuf { code: self.code, raw: self.raw.into() }
    }
}

impl fmt::Display for Reply<'_> {
    /// One line; control characters of the server are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        for (index, line) in self.lines().enumerate() {
            f.write_str(if index == 0 { " " } else { " / " })?;
            write_escaped(f, line)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({self})")
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, line: &[u8]) -> fmt::Result {
    for chunk in line.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                fmt::Write::write_char(f, letter)?;
            }
        }
        for octet in chunk.invalid() {
            write!(f, "\\x{octet:02x}")?;
        }
    }
    Ok(())
}

/// A reply that owns its text.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyBuf {
    code: ReplyCode,
    raw: Box<[u8]>,
}

impl ReplyBuf {
    /// Borrows it.
    pub fn as_reply(&self) -> Reply<'_> {
        Reply { code: self.code, raw: &self.raw }
    }

    /// The code of all its lines.
    pub fn code(&self) -> ReplyCode {
        self.code
    }
}

impl fmt::Display for ReplyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_reply(), f)
    }
}

impl fmt::Debug for ReplyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_reply(), f)
    }
}

/// What `ReplyReader::feed` came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// All input was taken; the reply is not complete.
    Partial,
    /// The reply that ends where `consumed` says.
    Reply(ReplyCode),
    /// No server that speaks SMTP says this.
    Garbage,
    /// A line, or the replies together, are longer than the limits.
    TooLong,
}

/// How far `feed` came.
#[derive(Debug)]
pub(crate) struct Fed {
    pub found: Found,
    pub consumed: usize,
}

/// Recognises replies octet by octet, whatever the chunking. It keeps no
/// text: whoever feeds it does.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    /// The first four octets of the line so far.
    head: [u8; 4],
    /// Octets of the line so far.
    line: usize,
    /// Octets of the reply so far.
    total: usize,
    /// The code that the earlier lines of this reply bore.
    code: Option<ReplyCode>,
}

impl ReplyReader {
    /// Whether the next octet is a reply's first.
    pub(crate) fn is_between_replies(&self) -> bool {
        self.total == 0
    }

    /// Reads until one reply is complete or `input` ends.
    #[inline]
    pub(crate) fn feed(&mut self, input: &[u8]) -> Fed {
        match whole_line(input).filter(|_| self.total == 0) {
            Some(fed) => fed,
            None => self.feed_pieces(input),
        }
    }

    fn feed_pieces(&mut self, input: &[u8]) -> Fed {
        let mut consumed = 0;
        while let Some(rest) = input.get(consumed..).filter(|rest| !rest.is_empty()) {
            let end = memchr::memchr(b'\n', rest);
            let piece = rest.get(..end.map_or(rest.len(), |at| at + 1)).unwrap_or(rest);
            consumed += piece.len();
            self.keep_head(piece);
            self.line += piece.len();
            self.total += piece.len();
            if self.line > MAX_REPLY_LINE || self.total > MAX_REPLY {
                return Fed { found: Found::TooLong, consumed };
            }
            if !self.is_plausible() {
                return Fed { found: Found::Garbage, consumed };
            }
            if end.is_some() {
                match self.end_line() {
                    Found::Partial => {}
                    found => return Fed { found, consumed },
                }
            }
        }
        Fed { found: Found::Partial, consumed }
    }

    fn keep_head(&mut self, piece: &[u8]) {
        if let (0, Some(head)) = (self.line, piece.first_chunk()) {
            self.head = *head;
            return;
        }
        let room = self.head.iter_mut().skip(self.line);
        for (kept, octet) in room.zip(piece) {
            *kept = *octet;
        }
    }

    /// Garbage is refused at its first octets, not when its line ends.
    fn is_plausible(&self) -> bool {
        let [hundreds, tens, ones, separator] = self.head;
        (self.line < 1 || matches!(hundreds, b'2'..=b'5'))
            && (self.line < 2 || tens.is_ascii_digit())
            && (self.line < 3 || ones.is_ascii_digit())
            && (self.line < 4 || matches!(separator, b' ' | b'-' | b'\r' | b'\n'))
    }

    fn end_line(&mut self) -> Found {
        let length = std::mem::take(&mut self.line);
        let [digits @ .., separator] = self.head;
        let code = match ReplyCode::from_digits(digits) {
            Some(code) if length >= 4 => code,
            _ => return Found::Garbage,
        };
        if self.code.is_some_and(|earlier| earlier != code) {
            return Found::Garbage;
        }
        if separator == b'-' {
            self.code = Some(code);
            return Found::Partial;
        }
        *self = ReplyReader::default();
        Found::Reply(code)
    }
}

/// A reply of one line that is there as a whole, as nearly all are.
fn whole_line(input: &[u8]) -> Option<Fed> {
    let [digits @ .., b' '] = *input.first_chunk::<4>()? else { return None };
    let code = ReplyCode::from_digits(digits)?;
    let consumed = memchr::memchr(b'\n', input)? + 1;
    (consumed <= MAX_REPLY_LINE).then_some(Fed { found: Found::Reply(code), consumed })
}

/// Whether that is what a server says that closes, as far as it is there: a 421, and
/// nothing behind it.
pub(crate) fn is_notice_of_close(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"421") else { return false };
    let fed = ReplyReader::default().feed(bytes);
    match fed.found {
        Found::Reply(_) => fed.consumed == bytes.len(),
        Found::Partial => rest.first().is_none_or(|separator| b" -\r\n".contains(separator)),
        Found::Garbage | Found::TooLong => false,
    }
}

/// A complete reply's text within the flight's buffer.
pub(crate) fn view(code: ReplyCode, raw: &[u8]) -> Reply<'_> {
    Reply { code, raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_whatever_the_chunking() {
        let input = b"250-a\r\n250-\r\n250 b\r\n354 go\n";
        for size in 1..=input.len() {
            let mut reader = ReplyReader::default();
            let mut codes = Vec::new();
            for chunk in input.chunks(size) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let fed = reader.feed(rest);
                    rest = &rest[fed.consumed..];
                    if let Found::Reply(code) = fed.found {
                        codes.push(code.as_u16());
                    }
                }
            }
            assert_eq!(codes, [250, 354], "chunks of {size}");
            assert_eq!(reader.total, 0);
        }
    }

    #[test]
    fn what_is_no_reply_is_garbage_at_once() {
        for input in
            [&b"hello"[..], b"25", b"150 x\r\n", b"2 0 x\r\n", b"250x\r\n", b"250-a\r\n251 b\r\n", b"\r\n"]
        {
            let found = ReplyReader::default().feed(input).found;
            let expected = if input == b"25" { Found::Partial } else { Found::Garbage };
            assert_eq!(found, expected, "{input:?}");
        }
    }

    #[test]
    fn a_bare_code_is_a_reply() {
        assert_eq!(Reply::parse(b"250\r\n").unwrap().code().as_u16(), 250);
        assert_eq!(Reply::parse(b"250 \r\n").unwrap().to_string(), "250 ");
        assert!(Reply::parse(b"250 a\r\n250 b\r\n").is_none());
    }

    #[test]
    fn lines_and_replies_are_bounded_while_they_are_read() {
        let mut reader = ReplyReader::default();
        assert_eq!(reader.feed(b"250 ").found, Found::Partial);
        assert_eq!(reader.feed(&[b'x'; MAX_REPLY_LINE]).found, Found::TooLong);

        let mut reader = ReplyReader::default();
        let line = [b"250-".as_slice(), &[b'x'; 994], b"\r\n"].concat();
        let many = line.repeat(MAX_REPLY / line.len() + 1);
        assert_eq!(reader.feed(&many).found, Found::TooLong);
    }

    #[test]
    fn enhanced_codes_are_parsed_or_absent() {
        let code = |raw: &'static [u8]| Reply::parse(raw).unwrap().enhanced().map(|c| c.to_string());
        assert_eq!(code(b"452 4.5.3 too many\r\n").as_deref(), Some("4.5.3"));
        assert_eq!(code(b"550 no such user\r\n"), None);
        assert_eq!(code(b"550 5.1.1.2 x\r\n"), None);
        assert_eq!(code(b"550 5.1.+1 x\r\n"), None);
    }

    #[test]
    fn a_notice_of_close_is_a_421_and_nothing_else() {
        for notice in ["421", "421 ", "421-too", "421 bye\r\n", "421-too many\r\n421 errors\r\n", "421\r\n"] {
            assert!(is_notice_of_close(notice.as_bytes()), "{notice:?}");
        }
        for other in
            ["", "4", "42", "4210", "421\0", "421 bye\r\n250 ok\r\n", "421-a\r\n250 b\r\n", "250 ok\r\n"]
        {
            assert!(!is_notice_of_close(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_server_cannot_forge_a_line() {
        let reply = Reply::parse(b"550 a\x1b[0m\rb\xff\r\n").unwrap();
        assert_eq!(reply.to_string(), "550 a\\u{1b}[0m\\rb\\xff");
    }
}
