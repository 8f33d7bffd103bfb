//! What a server says it can do: the keywords of its EHLO reply (RFC 5321
//! §4.1.1.1). Unknown keywords and parameters are passed over.

use crate::reply::Reply;

/// An extension that this crate knows by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Extension {
    /// SIZE (RFC 1870).
    Size,
    /// PIPELINING (RFC 2920).
    Pipelining,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// CHUNKING (RFC 3030).
    Chunking,
    /// SMTPUTF8 (RFC 6531).
    SmtpUtf8,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// DSN (RFC 3461).
    Dsn,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    EnhancedStatusCodes,
}

const KEYWORDS: [(&str, Extension); 8] = [
    ("SIZE", Extension::Size),
    ("PIPELINING", Extension::Pipelining),
    ("8BITMIME", Extension::EightBitMime),
    ("CHUNKING", Extension::Chunking),
    ("SMTPUTF8", Extension::SmtpUtf8),
    ("STARTTLS", Extension::StartTls),
    ("DSN", Extension::Dsn),
    ("ENHANCEDSTATUSCODES", Extension::EnhancedStatusCodes),
];

impl Extension {
    /// Its EHLO keyword.
    pub fn keyword(self) -> &'static str {
        KEYWORDS.iter().find(|(_, known)| *known == self).map_or("", |(keyword, _)| keyword)
    }
}

/// The extensions that one session has been offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    offered: u16,
    size: u64,
}

impl Extensions {
    /// Reads them from an EHLO reply; its first line is the server's name.
    pub fn from_reply(reply: Reply<'_>) -> Extensions {
        let mut extensions = Extensions::default();
        for line in reply.lines().skip(1) {
            extensions.read_line(line);
        }
        extensions
    }

    /// Whether the server offers this.
    pub fn offers(&self, extension: Extension) -> bool {
        self.offered & bit(extension) != 0
    }

    /// The largest message in octets, when the server states one (RFC 1870 §4).
    pub fn size_limit(&self) -> Option<u64> {
        (self.size > 0).then_some(self.size)
    }

    fn read_line(&mut self, line: &[u8]) {
        let mut words = line.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        let known = KEYWORDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(keyword));
        let Some(&(_, extension)) = known else { return };
        self.offered |= bit(extension);
        if extension == Extension::Size {
            let limit = words.next().and_then(|word| std::str::from_utf8(word).ok());
            self.size = limit.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        }
    }
}

fn bit(extension: Extension) -> u16 {
    1 << extension as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case_and_unknown_ones_passed_over() {
        let raw = b"250-mx.example.org SIZE\r\n250-size 1000\r\n250-X-ODD y\r\n250-PiPeLiNiNg\r\n250 \r\n";
        let extensions = Extensions::from_reply(Reply::parse(raw).unwrap());
        assert!(extensions.offers(Extension::Size));
        assert!(extensions.offers(Extension::Pipelining));
        assert!(!extensions.offers(Extension::Chunking));
        assert_eq!(extensions.size_limit(), Some(1000));
    }

    #[test]
    fn a_size_that_is_no_number_is_no_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE -1", "SIZE 99999999999999999999999"] {
            let raw = format!("250-x\r\n250 {line}\r\n");
            let extensions = Extensions::from_reply(Reply::parse(raw.as_bytes()).unwrap());
            assert!(extensions.offers(Extension::Size));
            assert_eq!(extensions.size_limit(), None, "{line}");
        }
    }
}
