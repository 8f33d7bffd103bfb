//! What a server says it can do: the keywords of its EHLO reply (RFC 5321
//! §4.1.1.1). Unknown keywords and parameters are passed over.

mod set;

use crate::parameters::is_utc_date_time;
use crate::reply::Reply;
pub use set::ExtensionSet;

/// An extension that this crate knows by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
    /// BINARYMIME (RFC 3030).
    BinaryMime,
    /// DELIVERBY (RFC 2852).
    DeliverBy,
    /// MT-PRIORITY (RFC 6710).
    MtPriority,
    /// REQUIRETLS (RFC 8689).
    RequireTls,
    /// LIMITS (RFC 9422).
    Limits,
    /// FUTURERELEASE (RFC 4865).
    FutureRelease,
    /// ETRN (RFC 1985).
    Etrn,
    /// VRFY (RFC 5321 §4.1.1.6), which a server need not announce.
    Vrfy,
    /// EXPN (RFC 5321 §4.1.1.7).
    Expn,
    /// HELP (RFC 5321 §4.1.1.8).
    Help,
}

/// Most octets of mechanism names that are kept.
const MAX_MECHANISMS: usize = 1_000;

/// Most digits of a number of seconds (RFC 2852 §2, RFC 4865 §3).
const MAX_SECONDS_DIGITS: usize = 9;

/// Most digits of a limit (RFC 9422).
const MAX_LIMIT_DIGITS: usize = 6;

const KEYWORDS: [(&str, Extension); 19] = [
    ("SIZE", Extension::Size),
    ("PIPELINING", Extension::Pipelining),
    ("8BITMIME", Extension::EightBitMime),
    ("CHUNKING", Extension::Chunking),
    ("SMTPUTF8", Extension::SmtpUtf8),
    ("STARTTLS", Extension::StartTls),
    ("DSN", Extension::Dsn),
    ("ENHANCEDSTATUSCODES", Extension::EnhancedStatusCodes),
    ("AUTH", Extension::Auth),
    ("BINARYMIME", Extension::BinaryMime),
    ("DELIVERBY", Extension::DeliverBy),
    ("MT-PRIORITY", Extension::MtPriority),
    ("REQUIRETLS", Extension::RequireTls),
    ("LIMITS", Extension::Limits),
    ("FUTURERELEASE", Extension::FutureRelease),
    ("ETRN", Extension::Etrn),
    ("VRFY", Extension::Vrfy),
    ("EXPN", Extension::Expn),
    ("HELP", Extension::Help),
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
    offered: ExtensionSet,
    size: u64,
    /// Apart, because every session has one of these and hardly any has this
    /// once it is authenticated.
    details: Option<Box<Details>>,
}

/// What few servers say, and the mechanisms, which are soon forgotten. 0 and
/// an empty text stand for nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Details {
    /// The parameters of AUTH with a space between them.
    mechanisms: Box<str>,
    deliver_by: u32,
    recipients: u32,
    mails: u32,
    domains: u32,
    hold_seconds: u32,
    hold_until: Box<str>,
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
        self.offered.contains(extension)
    }

    /// All that the server offers.
    pub fn set(&self) -> ExtensionSet {
        self.offered
    }

    /// The largest message in octets, when the server states one (RFC 1870 §4).
    pub fn size_limit(&self) -> Option<u64> {
        (self.size > 0).then_some(self.size)
    }

    /// The mechanisms of AUTH that are offered, as the server spells them
    /// (RFC 4954 §3). None is left after AUTH has succeeded.
    pub fn auth_mechanisms(&self) -> impl Iterator<Item = &str> {
        let mechanisms = self.details.as_ref().map_or("", |details| &details.mechanisms);
        mechanisms.split(' ').filter(|name| !name.is_empty())
    }

    /// The shortest time in seconds that the server takes for a mail which is
    /// to be returned when it is late (RFC 2852 §2).
    pub fn deliver_by_minimum(&self) -> Option<u32> {
        self.number(|details| details.deliver_by)
    }

    /// For how many seconds at most, and until when at the latest, the server
    /// holds a mail (RFC 4865 §3); `None` unless it says both in the form of
    /// the RFC, the date and time in UTC.
    pub fn future_release(&self) -> Option<(u32, &str)> {
        let details = self.details.as_deref()?;
        (!details.hold_until.is_empty()).then_some((details.hold_seconds, &*details.hold_until))
    }

    /// Most recipients in one transaction: RCPTMAX of LIMITS (RFC 9422).
    pub fn recipients_limit(&self) -> Option<u32> {
        self.number(|details| details.recipients)
    }

    /// Most transactions in one session: MAILMAX of LIMITS (RFC 9422).
    pub fn mails_limit(&self) -> Option<u32> {
        self.number(|details| details.mails)
    }

    /// Most domains among the recipients of one transaction: RCPTDOMAINMAX of
    /// LIMITS (RFC 9422).
    pub fn recipient_domains_limit(&self) -> Option<u32> {
        self.number(|details| details.domains)
    }

    /// The mechanisms are not needed any more.
    pub(crate) fn forget_mechanisms(&mut self) {
        if let Some(details) = &mut self.details {
            details.mechanisms = Box::default();
        }
        self.details.take_if(|details| **details == Details::default());
    }

    fn number(&self, of: fn(&Details) -> u32) -> Option<u32> {
        self.details.as_deref().map(of).filter(|number| *number > 0)
    }

    fn read_line(&mut self, line: &[u8]) {
        // `AUTH=PLAIN LOGIN` is how servers spelt it before RFC 2554.
        let is_separator = |octet: &u8| *octet == b' ' || (*octet == b'=' && is_old_auth(line));
        let mut words = line.split(is_separator).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        let known = KEYWORDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(keyword));
        let Some(&(_, extension)) = known else { return };
        self.offered = self.offered.with(extension);
        let mut words = words.filter_map(|word| std::str::from_utf8(word).ok());
        match extension {
            Extension::Size => self.size = words.next().and_then(|digits| digits.parse().ok()).unwrap_or(0),
            Extension::Auth => words.for_each(|name| self.add_mechanism(name)),
            Extension::DeliverBy => self.read_deliver_by(words.next()),
            Extension::FutureRelease => self.read_future_release(words.next(), words.next()),
            Extension::Limits => words.for_each(|limit| self.read_limit(limit)),
            _ => {}
        }
    }

    /// A server that spells AUTH in both ways offers the mechanisms of both.
    fn add_mechanism(&mut self, name: &str) {
        let is_known = self.auth_mechanisms().any(|known| known.eq_ignore_ascii_case(name));
        let details = self.details.get_or_insert_default();
        if !is_known && details.mechanisms.len() + name.len() < MAX_MECHANISMS {
            details.mechanisms = format!("{} {name}", details.mechanisms).into();
        }
    }

    /// The minimum is the first of options between commas (RFC 2852 §2).
    fn read_deliver_by(&mut self, options: Option<&str>) {
        let minimum = options.and_then(|options| options.split(',').next());
        if let Some(minimum) = minimum.and_then(|digits| number(digits, MAX_SECONDS_DIGITS)) {
            self.details.get_or_insert_default().deliver_by = minimum;
        }
    }

    fn read_future_release(&mut self, seconds: Option<&str>, until: Option<&str>) {
        let seconds = seconds.and_then(|digits| number(digits, MAX_SECONDS_DIGITS));
        let until = until.filter(|until| is_utc_date_time(until));
        if let (Some(seconds), Some(until)) = (seconds, until) {
            let details = self.details.get_or_insert_default();
            details.hold_seconds = seconds;
            details.hold_until = until.into();
        }
    }

    /// `NAME=number`; a limit that is unknown or no number is none.
    fn read_limit(&mut self, limit: &str) {
        let Some((name, digits)) = limit.split_once('=') else { return };
        let Some(number) = number(digits, MAX_LIMIT_DIGITS) else { return };
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("RCPTMAX") {
            self.details.get_or_insert_default().recipients = number;
        } else if is("MAILMAX") {
            self.details.get_or_insert_default().mails = number;
        } else if is("RCPTDOMAINMAX") {
            self.details.get_or_insert_default().domains = number;
        }
    }
}

/// A number above 0 of so many digits at most.
fn number(digits: &str, most: usize) -> Option<u32> {
    let is_number = digits.len() <= most && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && *number > 0)
}

fn is_old_auth(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"AUTH="))
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

    fn offers(lines: &[&str]) -> Extensions {
        let lines: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        Extensions::from_reply(Reply::parse(format!("250-mx\r\n{lines}250 HELP\r\n").as_bytes()).unwrap())
    }

    #[test]
    fn every_keyword_is_known_to_its_extension() {
        for (keyword, extension) in KEYWORDS {
            let extensions = offers(&[keyword]);
            assert!(extensions.offers(extension));
            assert_eq!(extensions.set(), [Extension::Help, extension].into_iter().collect());
            assert_eq!(extension.keyword(), keyword);
        }
    }

    #[test]
    fn the_minimum_of_deliverby_is_its_first_option() {
        for (line, minimum) in [
            ("DELIVERBY", None),
            ("DELIVERBY 30", Some(30)),
            ("deliverby 240,x-extra,y", Some(240)),
            ("DELIVERBY ,x", None),
            ("DELIVERBY 0", None),
            ("DELIVERBY +30", None),
            ("DELIVERBY -30", None),
            ("DELIVERBY 999999999", Some(999_999_999)),
            ("DELIVERBY 1000000000", None),
            ("DELIVERBY soon", None),
        ] {
            let extensions = offers(&[line]);
            assert!(extensions.offers(Extension::DeliverBy));
            assert_eq!(extensions.deliver_by_minimum(), minimum, "{line}");
        }
    }

    #[test]
    fn bounds_of_futurerelease_are_believed_when_both_are_well_formed() {
        let both = offers(&["FUTURERELEASE 86400 2030-01-31T00:00:00Z"]);
        assert_eq!(both.future_release(), Some((86_400, "2030-01-31T00:00:00Z")));
        for line in ["", " 86400", " 86400 1209600", " 0 2030-01-31T00:00:00Z", " x 2030-01-31T00:00:00Z"] {
            let extensions = offers(&[&format!("FUTURERELEASE{line}")]);
            assert!(extensions.offers(Extension::FutureRelease));
            assert_eq!(extensions.future_release(), None, "{line}");
        }
    }

    #[test]
    fn limits_are_read_and_nonsense_is_no_limit() {
        let read = |line: &str| {
            let extensions = offers(&[line]);
            assert!(extensions.offers(Extension::Limits));
            let limits = [
                extensions.recipients_limit(),
                extensions.mails_limit(),
                extensions.recipient_domains_limit(),
            ];
            limits.map(|limit| limit.unwrap_or(0))
        };
        assert_eq!(read("LIMITS RCPTMAX=20 MAILMAX=5"), [20, 5, 0]);
        assert_eq!(read("limits rcptmax=1 X=Y=Z RcptDomainMax=999999 FLAG"), [1, 0, 999_999]);
        assert_eq!(read("LIMITS RCPTMAX=0 MAILMAX=-1 RCPTDOMAINMAX=1000000"), [0; 3]);
        assert_eq!(read("LIMITS RCPTMAX= MAILMAX=+1 RCPTDOMAINMAX = 1"), [0; 3]);
        assert_eq!(read("LIMITS"), [0; 3]);
    }

    #[test]
    fn a_profile_of_mt_priority_is_passed_over() {
        let extensions = offers(&["MT-PRIORITY MIXER"]);
        assert!(extensions.offers(Extension::MtPriority));
        assert!(extensions.details.is_none());
    }

    #[test]
    fn a_session_keeps_little_and_nothing_apart_once_it_is_authenticated() {
        assert_eq!(size_of::<Extensions>(), 24);
        let mut extensions = offers(&["SIZE 1000", "AUTH PLAIN"]);
        extensions.forget_mechanisms();
        assert!(extensions.details.is_none());
        let mut extensions = offers(&["LIMITS RCPTMAX=7", "AUTH PLAIN"]);
        extensions.forget_mechanisms();
        assert_eq!((extensions.recipients_limit(), extensions.auth_mechanisms().count()), (Some(7), 0));
    }
}
