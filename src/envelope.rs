//! The envelope of a mail: who sends it, who gets it, and the name we greet with.
//!
//! Every value here is checked when it is built, against the grammar of RFC 5321 §4.1.2 (with the
//! UTF-8 of RFC 6531 §3.3), and cannot change afterwards, so that the command encoder may write it
//! as it stands. It must never let CR, LF, NUL or any other control character through: one such
//! octet in an address would be a command of the attacker's choice.
//!
//! An address whose domain is international and whose local part is ASCII goes onto the wire with
//! the `xn--` form of its domain, which any server takes. It is converted once, when the address is
//! built; what is shown and compared stays as it was given. Where the local part is international as
//! well, the address needs SMTPUTF8 and is sent as it was given.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::slice;
use std::str::FromStr;
use std::sync::Arc;

mod attached;
mod grammar;
mod text;

use attached::Attached;
pub use grammar::{AddressError, AddressErrorKind};
use grammar::{check_domain, check_mailbox, scan_local_part, without_brackets};
use text::{Text, a_labels};

/// Most octets in a local part (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;

/// Most octets in a domain or address literal (RFC 5321 §4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;

/// Most octets in a path, its angle brackets counted (RFC 5321 §4.5.3.1.3).
pub const MAX_PATH: usize = 256;

/// Most recipients in one [`Envelope`].
///
/// A bound of ours, far above the 100 that every server must take (RFC 5321 §4.5.3.1.8).
pub const MAX_RECIPIENTS: usize = 100_000;

/// The sender of a mail, as it goes into `MAIL FROM:<…>`; it may be null.
///
/// The null reverse-path is for mail that must not be bounced (RFC 5321 §4.5.5). Comparison is
/// octet by octet: a domain in other letter case is another value. Clones share the text, so that
/// the mails of one sender need it once.
///
/// ```
/// use smtp_bulk::envelope::ReversePath;
///
/// let sender: ReversePath = "<news@example.com>".parse()?;
/// assert_eq!(sender.as_str(), "news@example.com");
/// assert!("<>".parse::<ReversePath>()?.is_null());
/// assert!("a@b\r\nRSET".parse::<ReversePath>().is_err());
/// # Ok::<(), smtp_bulk::envelope::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReversePath(Text<Arc<str>>);

impl ReversePath {
    /// The null reverse-path, `<>` on the wire.
    #[must_use]
    pub fn null() -> Self {
        Self(Text::empty())
    }

    /// Whether this is the null reverse-path.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str().is_empty()
    }

    /// The address as it was given, without angle brackets; empty when null.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.given()
    }

    /// The address as it goes onto the wire: an international domain behind a local part of ASCII
    /// is in its `xn--` form.
    #[must_use]
    pub fn wire(&self) -> &str {
        self.0.wire()
    }

    /// Whether the address is pure ASCII on the wire; any other needs a server with SMTPUTF8 (RFC
    /// 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.wire().is_ascii()
    }

    /// What stands between the brackets, if there are any, and where it begins.
    fn check(text: &str) -> Result<(&str, usize), AddressError> {
        let (bare, offset) = without_brackets(text)?;
        if !bare.is_empty() {
            check_mailbox(bare).map_err(|error| error.moved(offset))?;
        }
        Ok((bare, offset))
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (bare, offset) = Self::check(text)?;
        Text::new(bare).map(Self).map_err(|error| error.moved(offset))
    }
}

impl TryFrom<&str> for ReversePath {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for ReversePath {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        // Without brackets the text may be kept as it is.
        if Self::check(&text)?.0.len() < text.len() { text.parse() } else { Text::owned(text).map(Self) }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One recipient of a mail, as it goes into `RCPT TO:<…>`.
///
/// Either a mailbox or the bare `Postmaster` of RFC 5321 §4.1.1.3, which every server must know.
/// Comparison is octet by octet.
///
/// ```
/// use smtp_bulk::envelope::ForwardPath;
///
/// let to: ForwardPath = "\"Ann Lee\"@[192.0.2.1]".parse()?;
/// assert_eq!((to.local_part(), to.domain()), ("\"Ann Lee\"", Some("[192.0.2.1]")));
/// assert_eq!("<POSTMASTER>".parse::<ForwardPath>()?.domain(), None);
/// # Ok::<(), smtp_bulk::envelope::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForwardPath(Text<Box<str>>);

impl ForwardPath {
    /// The address as it was given, without angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.given()
    }

    /// The address as it goes onto the wire: an international domain behind a local part of ASCII
    /// is in its `xn--` form.
    #[must_use]
    pub fn wire(&self) -> &str {
        self.0.wire()
    }

    /// Whether the address is pure ASCII on the wire; any other needs a server with SMTPUTF8 (RFC
    /// 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.wire().is_ascii()
    }

    /// What stands before the `@`, quotes and all; everything for a bare `Postmaster`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.split().map_or(self.as_str(), |(local_part, _)| local_part)
    }

    /// What stands behind the `@`, as it was given: a domain or an address literal; `None` for a bare
    /// `Postmaster`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.split().map(|(_, domain)| domain)
    }

    fn split(&self) -> Option<(&str, &str)> {
        let (local_part, rest) = self.as_str().split_at_checked(scan_local_part(self.as_str()).ok()?)?;
        Some((local_part, rest.strip_prefix('@')?))
    }

    /// What stands between the brackets, if there are any, and where it begins.
    fn check(text: &str) -> Result<(&str, usize), AddressError> {
        let (bare, offset) = without_brackets(text)?;
        if !bare.eq_ignore_ascii_case("postmaster") {
            check_mailbox(bare).map_err(|error| error.moved(offset))?;
        }
        Ok((bare, offset))
    }
}

impl FromStr for ForwardPath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (bare, offset) = Self::check(text)?;
        Text::new(bare).map(Self).map_err(|error| error.moved(offset))
    }
}

impl TryFrom<&str> for ForwardPath {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for ForwardPath {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        // Without brackets the text may be kept as it is.
        if Self::check(&text)?.0.len() < text.len() { text.parse() } else { Text::owned(text).map(Self) }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// So that `Envelope::new(from, to)` takes a single recipient as it is.
impl From<ForwardPath> for Vec<ForwardPath> {
    fn from(path: ForwardPath) -> Self {
        vec![path]
    }
}

/// The name we greet a server with: a domain or an address literal (RFC 5321 §4.1.1.1).
///
/// No server has offered SMTPUTF8 before it is greeted, so an international name is put into its
/// `xn--` form (RFC 6531 §3.7.1). At most [`MAX_DOMAIN`] octets.
///
/// ```
/// use smtp_bulk::envelope::Domain;
/// use std::net::Ipv6Addr;
///
/// assert_eq!(Domain::from_ip(Ipv6Addr::LOCALHOST.into()).as_str(), "[IPv6:::1]");
/// assert_eq!("bücher.example".parse::<Domain>()?.as_str(), "xn--bcher-kva.example");
/// assert!("client.example\r\nMAIL".parse::<Domain>().is_err());
/// # Ok::<(), smtp_bulk::envelope::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain(Box<str>);

impl Domain {
    /// The address literal for an address: `[127.0.0.1]`, `[IPv6:::1]` (RFC 5321 §4.1.3).
    ///
    /// An IPv4-mapped IPv6 address, which a dual-stack socket reports, is written as IPv4.
    #[must_use]
    pub fn from_ip(address: IpAddr) -> Self {
        let literal = match address.to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        Self(literal.into_boxed_str())
    }

    /// The name or literal as it goes onto the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        check_domain(text)?;
        a_labels(text).map(|name| Self(name.into()))
    }
}

impl TryFrom<&str> for Domain {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Domain {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        if !text.is_ascii() {
            return text.parse();
        }
        check_domain(&text).map(|()| Self(text.into_boxed_str()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One sender and one or more recipients, and what is asked of the server for them: see
/// [`parameters`](crate::parameters).
///
/// ```
/// use smtp_bulk::envelope::Envelope;
///
/// let envelope = Envelope::parse("news@example.com", ["ann@example.net", "bob@example.net"])?;
/// assert_eq!(envelope.recipients().len(), 2);
/// # Ok::<(), smtp_bulk::envelope::EnvelopeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Envelope {
    from: ReversePath,
    to: Recipients,
    attached: Option<Box<Attached>>,
}

impl Envelope {
    /// Puts checked addresses together.
    ///
    /// # Errors
    /// When there is no recipient, or more than [`MAX_RECIPIENTS`].
    pub fn new(from: ReversePath, to: impl Into<Vec<ForwardPath>>) -> Result<Self, EnvelopeError> {
        let to = to.into();
        if to.is_empty() {
            return Err(EnvelopeError::NoRecipient);
        }
        if to.len() > MAX_RECIPIENTS {
            return Err(EnvelopeError::TooManyRecipients);
        }
        Ok(Self { from, to: to.into(), attached: None })
    }

    /// Checks addresses and puts them together; reads at most [`MAX_RECIPIENTS`] + 1 of them.
    ///
    /// # Errors
    /// When an address is not acceptable, there is no recipient, or there are too many.
    pub fn parse(from: &str, to: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, EnvelopeError> {
        let from = from.parse().map_err(EnvelopeError::From)?;
        let mut paths = Vec::new();
        for (index, text) in to.into_iter().enumerate() {
            if index == MAX_RECIPIENTS {
                return Err(EnvelopeError::TooManyRecipients);
            }
            let path = text.as_ref().parse();
            paths.push(path.map_err(|error| EnvelopeError::Recipient { index, error })?);
        }
        Self::new(from, paths)
    }

    /// The sender.
    #[must_use]
    pub fn from(&self) -> &ReversePath {
        &self.from
    }

    /// The recipients in the order given, never empty.
    #[must_use]
    pub fn recipients(&self) -> &[ForwardPath] {
        &self.to
    }

    /// Whether all addresses are pure ASCII on the wire; otherwise the mail needs SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.from.is_ascii() && self.to.iter().all(ForwardPath::is_ascii)
    }

    /// Gives sender and recipients back by value, without their parameters.
    #[must_use]
    pub fn into_parts(self) -> (ReversePath, Vec<ForwardPath>) {
        (self.from, self.to.into_vec())
    }
}

/// The recipients of an envelope: one, as most mails have, needs no memory but its own.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Recipients {
    One(ForwardPath),
    Many(Box<[ForwardPath]>),
}

impl Recipients {
    fn into_vec(self) -> Vec<ForwardPath> {
        match self {
            Self::One(path) => vec![path],
            Self::Many(paths) => paths.into_vec(),
        }
    }
}

impl From<Vec<ForwardPath>> for Recipients {
    fn from(mut paths: Vec<ForwardPath>) -> Self {
        match paths.pop() {
            Some(only) if paths.is_empty() => Self::One(only),
            last => {
                paths.extend(last);
                Self::Many(paths.into())
            }
        }
    }
}

impl Deref for Recipients {
    type Target = [ForwardPath];

    fn deref(&self) -> &[ForwardPath] {
        match self {
            Self::One(path) => slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Why an [`Envelope`] could not be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The sender is not acceptable.
    From(AddressError),
    /// A recipient is not acceptable.
    Recipient {
        /// Its place among the recipients, the first being 0.
        index: usize,
        /// What is wrong with it.
        error: AddressError,
    },
    /// There is no recipient.
    NoRecipient,
    /// There are more than [`MAX_RECIPIENTS`].
    TooManyRecipients,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(error) => write!(f, "sender: {error}"),
            Self::Recipient { index, error } => {
                write!(f, "recipient {}: {error}", index.saturating_add(1))
            }
            Self::NoRecipient => f.write_str("an envelope needs at least one recipient"),
            Self::TooManyRecipients => write!(f, "more than {MAX_RECIPIENTS} recipients"),
        }
    }
}

impl Error for EnvelopeError {}

#[cfg(test)]
mod tests {
    use super::grammar::{BRACKETS, MAX_LABEL};
    use super::*;

    fn forward(text: &str) -> Result<ForwardPath, AddressError> {
        text.parse()
    }

    fn kind_at(text: &str) -> (AddressErrorKind, usize) {
        let error = forward(text).expect_err(text);
        (error.kind(), error.position())
    }

    #[test]
    fn null_reverse_path_is_written_empty() {
        for text in ["", "<>"] {
            let path: ReversePath = text.parse().unwrap();
            assert!(path.is_null() && path.is_ascii());
            assert_eq!(path, ReversePath::null());
            assert_eq!(path.to_string(), "");
        }
        assert!("postmaster".parse::<ReversePath>().is_err());
    }

    #[test]
    fn brackets_are_optional_and_not_kept() {
        for text in ["a@b", "<a@b>"] {
            assert_eq!(text.parse::<ReversePath>().unwrap().as_str(), "a@b");
            assert_eq!(forward(text).unwrap().to_string(), "a@b");
            assert_eq!(ForwardPath::try_from(text.to_owned()).unwrap().as_str(), "a@b");
            assert_eq!(ReversePath::try_from(text.to_owned()).unwrap().as_str(), "a@b");
        }
    }

    #[test]
    fn postmaster_needs_no_domain() {
        for text in ["Postmaster", "<postmaster>", "POSTMASTER"] {
            let path = forward(text).unwrap();
            assert!(path.local_part().eq_ignore_ascii_case("postmaster"));
            assert_eq!(path.domain(), None);
        }
        assert_eq!(forward("postmaster@b.example").unwrap().domain(), Some("b.example"));
    }

    #[test]
    fn well_formed_addresses_are_split_at_the_right_at() {
        for (text, local_part, domain) in [
            ("a.b+c=d/e@x-1.example", "a.b+c=d/e", "x-1.example"),
            ("\"\"@b", "\"\"", "b"),
            ("\"a@b c\"@d.example", "\"a@b c\"", "d.example"),
            ("\"a\\\"@\\\\<>\"@d", "\"a\\\"@\\\\<>\"", "d"),
            ("a@[127.0.0.1]", "a", "[127.0.0.1]"),
            ("a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"),
            ("a@[x-400:p@q;r]", "a", "[x-400:p@q;r]"),
            ("a@_dmarc.my_host.example", "a", "_dmarc.my_host.example"),
            ("grå@blåbær.example", "grå", "blåbær.example"),
            ("\"å\u{a0}å\"@例え.テスト", "\"å\u{a0}å\"", "例え.テスト"),
        ] {
            let path = forward(text).expect(text);
            assert_eq!((path.local_part(), path.domain()), (local_part, Some(domain)));
            assert_eq!(path.is_ascii(), text.is_ascii());
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        use AddressErrorKind::*;
        for (text, kind, position) in [
            ("", Empty, 1),
            ("<>", Empty, 2),
            ("<a@b", UnbalancedBracket, 1),
            ("a@b>", UnexpectedCharacter('>'), 4),
            ("<<a@b>>", UnexpectedCharacter('<'), 2),
            ("a", MissingAt, 2),
            ("\"a\"", MissingAt, 4),
            ("@b", EmptyLocalPart, 1),
            (".a@b", MisplacedDot, 1),
            ("a..b@c", MisplacedDot, 3),
            ("a.@b", MisplacedDot, 2),
            ("a@", EmptyDomain, 3),
            ("a@b..c", MisplacedDot, 5),
            ("a@b.", MisplacedDot, 5),
            ("a@-b", MisplacedHyphen, 3),
            ("a@b-", MisplacedHyphen, 4),
            ("a@b@c", UnexpectedCharacter('@'), 4),
            ("a b@c", UnexpectedCharacter(' '), 2),
            ("a@b c", UnexpectedCharacter(' '), 4),
            (" a@b", UnexpectedCharacter(' '), 1),
            ("<a@b\r\nDATA>", UnexpectedCharacter('\r'), 5),
            ("a\n@b", UnexpectedCharacter('\n'), 2),
            ("a\0@b", UnexpectedCharacter('\0'), 2),
            ("\"a\r\n\"@b", UnexpectedCharacter('\r'), 3),
            ("\"a\\\n\"@b", UnexpectedCharacter('\n'), 4),
            ("\"a\\å\"@b", UnexpectedCharacter('å'), 4),
            ("\"a\u{2028}\"@b", UnexpectedCharacter('\u{2028}'), 3),
            ("a\u{85}@b", UnexpectedCharacter('\u{85}'), 2),
            ("a@b\u{3000}c", UnexpectedCharacter('\u{3000}'), 4),
            ("\"a@b", UnclosedQuote, 5),
            ("\"a\\", UnclosedQuote, 4),
            ("\"a\"b@c", UnexpectedCharacter('b'), 4),
            ("@r,@s:a@b", SourceRoute, 1),
            ("a@[127.0.0.1", BadAddressLiteral, 13),
            ("a@[]", BadAddressLiteral, 4),
            ("a@[300.0.0.1]", BadAddressLiteral, 4),
            ("a@[::1]", BadAddressLiteral, 4),
            ("a@[IPv6:127.0.0.1]", BadAddressLiteral, 4),
            ("a@[IPv6:fe80::1%lo]", BadAddressLiteral, 4),
            ("a@[x-:y]", BadAddressLiteral, 4),
            ("a@[x:]", BadAddressLiteral, 4),
            ("a@[x:y z]", UnexpectedCharacter(' '), 7),
            ("a@[x:y]]", UnexpectedCharacter(']'), 7),
        ] {
            assert_eq!(kind_at(text), (kind, position), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_rfc() {
        use AddressErrorKind::*;
        let local = "l".repeat(MAX_LOCAL_PART);
        assert!(forward(&format!("{local}@b")).is_ok());
        assert_eq!(kind_at(&format!("{local}l@b")), (LocalPartTooLong, 65));
        assert_eq!(kind_at(&format!("<\"{local}\"@b>")).0, LocalPartTooLong);

        let label = "d".repeat(MAX_LABEL);
        assert!(forward(&format!("a@{label}.d")).is_ok());
        assert_eq!(kind_at(&format!("a@d.{label}d")), (LabelTooLong, 68));

        let long = format!("{label}.{label}.{label}.{}", "d".repeat(60));
        assert_eq!(long.len() + "a@".len() + BRACKETS, MAX_PATH);
        assert!(forward(&format!("a@{long}")).is_ok());
        assert!(forward(&format!("<a@{long}>")).is_ok());
        assert_eq!(kind_at(&format!("a@{long}d")), (PathTooLong, 255));
        assert_eq!(kind_at(&format!("<a@{long}d>")), (PathTooLong, 256));

        let full = format!("{label}.{label}.{label}.{label}");
        assert_eq!(full.len(), MAX_DOMAIN);
        assert!(full.parse::<Domain>().is_ok());
        let error = format!("{full}d").parse::<Domain>().unwrap_err();
        assert_eq!((error.kind(), error.position()), (DomainTooLong, 256));
    }

    #[test]
    fn errors_never_show_a_raw_control_character() {
        for text in ["a\x1b[31m@b", "a\r\n@b", "\u{9b}@b"] {
            let error = forward(text).unwrap_err().to_string();
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
        assert_eq!(forward("a\r@b").unwrap_err().to_string(), "unexpected character '\\r' at octet 2");
    }

    #[test]
    fn an_address_becomes_a_literal_that_parses() {
        for (address, literal) in [
            ("127.0.0.1", "[127.0.0.1]"),
            ("::1", "[IPv6:::1]"),
            ("2001:db8::25", "[IPv6:2001:db8::25]"),
            ("::ffff:192.0.2.1", "[192.0.2.1]"),
        ] {
            let domain = Domain::from_ip(address.parse().unwrap());
            assert_eq!(domain.as_str(), literal);
            assert_eq!(literal.parse::<Domain>().unwrap(), domain);
        }
    }

    #[test]
    fn a_greeting_name_is_one_word() {
        assert_eq!(Domain::try_from("client.example").unwrap().to_string(), "client.example");
        assert!(Domain::try_from(String::from("xn--blbr-roah.example")).is_ok());
        for text in ["", "a b", "a\r\nb", "a.", "<a>", "[a]", "a@b"] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_envelope_has_a_bounded_number_of_recipients() {
        let to = forward("a@b").unwrap();
        let one = Envelope::new(ReversePath::null(), to.clone()).unwrap();
        assert_eq!(one.into_parts(), (ReversePath::null(), vec![to.clone()]));
        assert_eq!(Envelope::new(ReversePath::null(), []), Err(EnvelopeError::NoRecipient));
        assert!(Envelope::new(ReversePath::null(), vec![to.clone(); MAX_RECIPIENTS]).is_ok());
        assert_eq!(
            Envelope::new(ReversePath::null(), vec![to; MAX_RECIPIENTS + 1]),
            Err(EnvelopeError::TooManyRecipients)
        );
        assert_eq!(Envelope::parse("", std::iter::repeat("a@b")), Err(EnvelopeError::TooManyRecipients));
    }

    #[test]
    fn a_bad_address_in_an_envelope_is_named_by_its_place() {
        let error = Envelope::parse("a@b", ["c@d", "e"]).unwrap_err();
        assert_eq!(error.to_string(), "recipient 2: the @ is missing at octet 2");
        let error = Envelope::parse("e", ["c@d"]).unwrap_err();
        assert_eq!(error.to_string(), "sender: the @ is missing at octet 2");
        let none = std::iter::empty::<&str>();
        assert_eq!(Envelope::parse("a@b", none), Err(EnvelopeError::NoRecipient));
    }

    #[test]
    fn one_address_beyond_ascii_marks_the_envelope() {
        assert!(Envelope::parse("a@b", ["c@d", "Postmaster"]).unwrap().is_ascii());
        assert!(!Envelope::parse("a@b", ["c@d", "ç@d"]).unwrap().is_ascii());
        assert!(!Envelope::parse("ä@b", ["c@d"]).unwrap().is_ascii());
    }

    /// Text biased towards the characters that matter to the grammar.
    fn random_text(random: &mut fastrand::Rng) -> String {
        const PIECES: [&str; 30] = [
            "a",
            "b",
            "7",
            "@",
            "@",
            ".",
            "-",
            "_",
            "\"",
            "\"",
            "\\",
            "<",
            ">",
            "[",
            "]",
            ":",
            "IPv6:",
            "127.0.0.1",
            "::1",
            " ",
            "\r",
            "\n",
            "\0",
            "\x7f",
            "å",
            "\u{85}",
            "\u{2028}",
            "\u{a0}",
            "postmaster",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ];
        let count = random.usize(0..12);
        (0..count).map(|_| PIECES[random.usize(0..PIECES.len())]).collect()
    }

    fn assert_clean(text: &str, kept: &str) {
        assert!(!kept.chars().any(char::is_control), "{text:?}");
        assert!(kept.len() <= MAX_DOMAIN, "{text:?}");
    }

    fn assert_holds(text: &str) -> bool {
        if let Ok(path) = text.parse::<ReversePath>() {
            assert_clean(text, path.as_str());
            assert_eq!(path.as_str().parse().as_ref(), Ok(&path));
            assert_eq!(format!("<{path}>").parse().as_ref(), Ok(&path));
            assert_eq!(ReversePath::try_from(text.to_owned()).as_ref(), Ok(&path));
        }
        if let Ok(name) = text.parse::<Domain>() {
            assert_clean(text, name.as_str());
            assert!(name.as_str().is_ascii() && !name.as_str().contains(' '));
            assert_eq!(Domain::try_from(text.to_owned()).as_ref(), Ok(&name));
        }
        let Ok(path) = text.parse::<ForwardPath>() else {
            return false;
        };
        assert_clean(text, path.as_str());
        assert_clean(text, path.wire());
        assert_eq!(path.wire().parse::<ForwardPath>().unwrap().wire(), path.wire());
        assert!(path.is_ascii() || !path.local_part().is_ascii(), "{text:?}");
        assert_eq!(path.as_str().parse().as_ref(), Ok(&path));
        assert_eq!(format!("<{path}>").parse().as_ref(), Ok(&path));
        match path.domain() {
            Some(domain) => assert_eq!(format!("{}@{domain}", path.local_part()), path.as_str()),
            None => assert_eq!(path.local_part(), path.as_str()),
        }
        true
    }

    /// A random text; half of them have the shape of an address, so that enough of them parse.
    fn random_address(random: &mut fastrand::Rng) -> String {
        if random.bool() {
            return random_text(random);
        }
        let quote = if random.bool() { "\"" } else { "" };
        let (local, domain) = (random_text(random), random_text(random));
        match random.u8(0..3) {
            0 => format!("<{quote}{local}{quote}@a{domain}>"),
            1 => format!("{quote}a{local}{quote}@[x:{domain}a]"),
            _ => format!("{quote}a{local}{quote}@a{domain}a"),
        }
    }

    #[test]
    fn random_text_never_panics_and_what_parses_is_clean() {
        let mut random = fastrand::Rng::with_seed(5321);
        let mut parsed = 0_u32;
        for _ in 0..100_000 {
            let text = random_address(&mut random);
            parsed += u32::from(assert_holds(&text));
            let bytes: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
            assert_holds(&String::from_utf8_lossy(&bytes));
        }
        assert!(parsed > 1_000, "only {parsed} texts were addresses");
    }

    #[test]
    fn a_mutated_address_stays_clean() {
        let mut random = fastrand::Rng::with_seed(6531);
        for _ in 0..50_000 {
            let seed = ["ann.lee@example.com", "\"a b\"@[127.0.0.1]", "<ö@x.example>"];
            let mut chars: Vec<char> = seed[random.usize(0..seed.len())].chars().collect();
            let place = random.usize(0..chars.len());
            let new = char::from(random.u8(..));
            chars[place] = new;
            assert_holds(&chars.iter().collect::<String>());
        }
    }
}
