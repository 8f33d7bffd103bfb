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
    /// AUTH (RFC 4954), also where it is spelt `AUTH=` as before that.
    Auth,
}

/// Most octets of mechanism names that are kept.
const MAX_MECHANISMS: usize = 1_000;

const KEYWORDS: [(&str, Extension); 9] = [
    ("SIZE", Extension::Size),
    ("PIPELINING", Extension::Pipelining),
    ("8BITMIME", Extension::EightBitMime),
    ("CHUNKING", Extension::Chunking),
    ("SMTPUTF8", Extension::SmtpUtf8),
    ("STARTTLS", Extension::StartTls),
    ("DSN", Extension::Dsn),
    ("ENHANCEDSTATUSCODES", Extension::EnhancedStatusCodes),
    ("AUTH", Extension::Auth),
];

impl Extension {
    /// Its EHLO keyword.
    pub fn keyword(self) -> &'static str {
        KEYWORDS.iter().find(|(_, known)| *known == self).map_or("", |(keyword, _)| keyword)
    }
}

/// The extensions that one session has been offered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    offered: u16,
    size: u64,
    /// The parameters of AUTH with a space between them.
    mechanisms: Option<Box<str>>,
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

    /// The mechanisms of AUTH that are offered, as the server spells them
    /// (RFC 4954 §3). None is left after AUTH has succeeded.
    pub fn auth_mechanisms(&self) -> impl Iterator<Item = &str> {
        self.mechanisms.as_deref().unwrap_or_default().split(' ').filter(|name| !name.is_empty())
    }

    /// They are not needed any more.
    pub(crate) fn forget_mechanisms(&mut self) {
        self.mechanisms = None;
    }

    fn read_line(&mut self, line: &[u8]) {
        // `AUTH=PLAIN LOGIN` is how servers spelt it before RFC 2554.
        let is_separator = |octet: &u8| *octet == b' ' || (*octet == b'=' && is_old_auth(line));
        let mut words = line.split(is_separator).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        let known = KEYWORDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(keyword));
        let Some(&(_, extension)) = known else { return };
        self.offered |= bit(extension);
        if extension == Extension::Size {
            let limit = words.next().and_then(|word| std::str::from_utf8(word).ok());
            self.size = limit.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        }
        if extension == Extension::Auth {
            words.filter_map(|word| std::str::from_utf8(word).ok()).for_each(|name| self.add_mechanism(name));
        }
    }

    /// A server that spells AUTH in both ways offers the mechanisms of both.
    fn add_mechanism(&mut self, name: &str) {
        let kept = self.mechanisms.as_deref().unwrap_or_default();
        let is_known = self.auth_mechanisms().any(|known| known.eq_ignore_ascii_case(name));
        if !is_known && kept.len() + name.len() < MAX_MECHANISMS {
            self.mechanisms = Some(format!("{kept} {name}").into());
        }
    }
}

fn is_old_auth(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"AUTH="))
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
    fn mechanisms_are_read_in_both_spellings() {
        let offered = |lines: &str| {
            let raw = format!("250-mx\r\n{lines}250 HELP\r\n");
            let extensions = Extensions::from_reply(Reply::parse(raw.as_bytes()).unwrap());
            assert_eq!(extensions.offers(Extension::Auth), !lines.is_empty());
            extensions.auth_mechanisms().collect::<Vec<_>>().join(",")
        };
        assert_eq!(offered(""), "");
        assert_eq!(offered("250-AUTH\r\n"), "");
        assert_eq!(offered("250-auth PLAIN  LOGIN\r\n"), "PLAIN,LOGIN");
        assert_eq!(offered("250-AUTH=PLAIN LOGIN\r\n"), "PLAIN,LOGIN");
        assert_eq!(offered("250-AUTH PLAIN X=Y\r\n250-AUTH=login plain\r\n"), "PLAIN,X=Y,login");
        let endless = format!("250-AUTH{}\r\n", " MECHANISM".repeat(1_000));
        assert_eq!(offered(&endless), "MECHANISM");
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
