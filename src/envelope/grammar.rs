//! The grammar of addresses and domains: RFC 5321 §4.1.2 and §4.1.3, RFC 6531 §3.3.
//!
//! It decides whether a text is well-formed and says what is wrong and where. It must never
//! accept a control character, wherever it stands, nor repeat one in an error.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{MAX_DOMAIN, MAX_LOCAL_PART, MAX_PATH};

/// Most octets in one ASCII label of a domain (RFC 1035 §2.3.4).
pub(super) const MAX_LABEL: usize = 63;

/// The two angle brackets around a path.
pub(super) const BRACKETS: usize = 2;

/// Why a text is no acceptable address or domain: what is wrong, and where.
///
/// Its text never repeats the address, and a character is shown escaped, so it is safe to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    kind: AddressErrorKind,
    offset: usize,
}

impl AddressError {
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> AddressErrorKind {
        self.kind
    }

    /// The octet at which it was noticed, the first being 1; one more than the length when
    /// something is missing at the end.
    #[must_use]
    pub fn position(&self) -> usize {
        self.offset.saturating_add(1)
    }

    /// The same error seen from a text in which this one begins `by` octets later.
    pub(super) fn moved(self, by: usize) -> Self {
        Self { kind: self.kind, offset: self.offset.saturating_add(by) }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}", self.kind, self.position())
    }
}

impl Error for AddressError {}

/// What can be wrong with an address or a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressErrorKind {
    /// Nothing where an address should be.
    Empty,
    /// `<` at the beginning without `>` at the end.
    UnbalancedBracket,
    /// No `@` behind the local part.
    MissingAt,
    /// Nothing before the `@`.
    EmptyLocalPart,
    /// A dot at the beginning or end, or next to another dot.
    MisplacedDot,
    /// A quoted local part without its closing quote.
    UnclosedQuote,
    /// `@relay:user@domain`, which RFC 5321 §4.1.1.3 tells clients not to use.
    SourceRoute,
    /// Nothing where a domain should be.
    EmptyDomain,
    /// A label of the domain begins or ends with a hyphen.
    MisplacedHyphen,
    /// A label of the domain has more than 63 octets.
    LabelTooLong,
    /// An international domain has no `xn--` form (RFC 5891).
    BadInternationalDomain,
    /// `[…]` holds no IPv4 address, `IPv6:` address, or `tag:content`.
    BadAddressLiteral,
    /// A character that may not stand here.
    UnexpectedCharacter(char),
    /// The local part has more than [`MAX_LOCAL_PART`] octets.
    LocalPartTooLong,
    /// The domain has more than [`MAX_DOMAIN`] octets.
    DomainTooLong,
    /// The address has more than [`MAX_PATH`] octets, its brackets counted.
    PathTooLong,
}

impl fmt::Display for AddressErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Empty => "the address is empty",
            Self::UnbalancedBracket => "the closing angle bracket is missing",
            Self::MissingAt => "the @ is missing",
            Self::EmptyLocalPart => "nothing stands before the @",
            Self::MisplacedDot => "misplaced dot",
            Self::UnclosedQuote => "the closing quote is missing",
            Self::SourceRoute => "source routes are not supported",
            Self::EmptyDomain => "the domain is empty",
            Self::MisplacedHyphen => "misplaced hyphen in the domain",
            Self::LabelTooLong => "a label of the domain has more than 63 octets",
            Self::BadInternationalDomain => "the domain has no xn-- form",
            Self::BadAddressLiteral => "malformed address literal",
            Self::UnexpectedCharacter(found) => {
                return write!(f, "unexpected character '{}'", found.escape_default());
            }
            Self::LocalPartTooLong => "the local part has more than 64 octets",
            Self::DomainTooLong => "the domain has more than 255 octets",
            Self::PathTooLong => "the address has more than 256 octets, brackets counted",
        };
        f.write_str(text)
    }
}

pub(super) fn fail<T>(kind: AddressErrorKind, offset: usize) -> Result<T, AddressError> {
    Err(AddressError { kind, offset })
}

/// The text between the angle brackets, if there are any, and the offset at which it begins.
pub(super) fn without_brackets(text: &str) -> Result<(&str, usize), AddressError> {
    let (bare, offset) = match text.strip_prefix('<') {
        None => (text, 0),
        Some(rest) => match rest.strip_suffix('>') {
            Some(bare) => (bare, 1),
            None => return fail(AddressErrorKind::UnbalancedBracket, 0),
        },
    };
    if bare.len() > MAX_PATH - BRACKETS {
        return fail(AddressErrorKind::PathTooLong, MAX_PATH - BRACKETS + offset);
    }
    Ok((bare, offset))
}

/// `Mailbox` of RFC 5321 §4.1.2.
pub(super) fn check_mailbox(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return fail(AddressErrorKind::Empty, 0);
    }
    if text.strip_prefix('@').is_some_and(|rest| rest.contains('@')) {
        return fail(AddressErrorKind::SourceRoute, 0);
    }
    let at = scan_local_part(text)?;
    if at > MAX_LOCAL_PART {
        return fail(AddressErrorKind::LocalPartTooLong, MAX_LOCAL_PART);
    }
    let begin = at.saturating_add(1);
    check_domain(text.get(begin..).unwrap_or_default()).map_err(|error| error.moved(begin))
}

/// The offset of the `@` behind a well-formed local part. A domain literal and a quoted local part
/// may hold an `@` as well, so neither the first nor the last one of the text will do.
pub(super) fn scan_local_part(text: &str) -> Result<usize, AddressError> {
    match text.strip_prefix('"') {
        Some(quoted) => scan_quoted(quoted).map_err(|error| error.moved(1)).map(|at| at + 1),
        None => scan_dot_string(text),
    }
}

/// `Dot-string` up to and without its `@`.
fn scan_dot_string(text: &str) -> Result<usize, AddressError> {
    let mut dot_before = None;
    let mut atom_is_empty = true;
    for (offset, c) in text.char_indices() {
        match c {
            '@' => match dot_before {
                Some(dot) if atom_is_empty => return fail(AddressErrorKind::MisplacedDot, dot),
                None if atom_is_empty => return fail(AddressErrorKind::EmptyLocalPart, offset),
                _ => return Ok(offset),
            },
            '.' if atom_is_empty => return fail(AddressErrorKind::MisplacedDot, offset),
            '.' => {
                dot_before = Some(offset);
                atom_is_empty = true;
            }
            c if is_atext(c) => atom_is_empty = false,
            c => return fail(AddressErrorKind::UnexpectedCharacter(c), offset),
        }
    }
    fail(AddressErrorKind::MissingAt, text.len())
}

/// `Quoted-string` behind its opening quote, up to and without the `@` that follows it.
fn scan_quoted(text: &str) -> Result<usize, AddressError> {
    let mut chars = text.char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '"' => {
                return match chars.next() {
                    Some((at, '@')) => Ok(at),
                    Some((at, c)) => fail(AddressErrorKind::UnexpectedCharacter(c), at),
                    None => fail(AddressErrorKind::MissingAt, text.len()),
                };
            }
            '\\' => match chars.next() {
                Some((_, ' '..='~')) => {}
                Some((at, c)) => return fail(AddressErrorKind::UnexpectedCharacter(c), at),
                None => break,
            },
            ' '..='~' => {}
            c if is_plain_utf8(c) || (!c.is_ascii() && is_spacing(c)) => {}
            c => return fail(AddressErrorKind::UnexpectedCharacter(c), offset),
        }
    }
    fail(AddressErrorKind::UnclosedQuote, text.len())
}

/// `Domain / address-literal` of RFC 5321 §4.1.2.
pub(super) fn check_domain(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return fail(AddressErrorKind::EmptyDomain, 0);
    }
    if text.len() > MAX_DOMAIN {
        return fail(AddressErrorKind::DomainTooLong, MAX_DOMAIN);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.strip_suffix(']') {
            Some(inner) => check_literal(inner).map_err(|error| error.moved(1)),
            None => fail(AddressErrorKind::BadAddressLiteral, text.len()),
        };
    }
    let mut begin = 0_usize;
    for label in text.split('.') {
        check_label(label).map_err(|error| error.moved(begin))?;
        begin = begin.saturating_add(label.len()).saturating_add(1);
    }
    Ok(())
}

/// `sub-domain`, or the `U-label` of RFC 6531. The underscore is no letter of the RFC, but names
/// of real hosts carry it and servers take it.
fn check_label(label: &str) -> Result<(), AddressError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || is_plain_utf8(c);
    if let Some((offset, found)) = label.char_indices().find(|(_, c)| !allowed(*c)) {
        return fail(AddressErrorKind::UnexpectedCharacter(found), offset);
    }
    if label.is_empty() {
        return fail(AddressErrorKind::MisplacedDot, 0);
    }
    if label.starts_with('-') {
        return fail(AddressErrorKind::MisplacedHyphen, 0);
    }
    if label.ends_with('-') {
        return fail(AddressErrorKind::MisplacedHyphen, label.len().saturating_sub(1));
    }
    // The limit is one of the encoded form: an international label may be longer in UTF-8.
    if label.is_ascii() && label.len() > MAX_LABEL {
        return fail(AddressErrorKind::LabelTooLong, MAX_LABEL);
    }
    Ok(())
}

/// What stands between the square brackets (RFC 5321 §4.1.3).
fn check_literal(text: &str) -> Result<(), AddressError> {
    let is_content = |c: char| matches!(c, '!'..='Z' | '^'..='~');
    if let Some((offset, found)) = text.char_indices().find(|(_, c)| !is_content(*c)) {
        return fail(AddressErrorKind::UnexpectedCharacter(found), offset);
    }
    let well_formed = match text.split_once(':') {
        None => Ipv4Addr::from_str(text).is_ok(),
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => Ipv6Addr::from_str(address).is_ok(),
        Some((tag, content)) => {
            !content.is_empty()
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && tag.ends_with(|c: char| c.is_ascii_alphanumeric())
        }
    };
    if well_formed { Ok(()) } else { fail(AddressErrorKind::BadAddressLiteral, 0) }
}

/// `atext` of RFC 5322 §3.2.3, widened by RFC 6531 §3.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_plain_utf8(c)
}

/// A character beyond ASCII that can neither steer a terminal nor end a line or a word.
fn is_plain_utf8(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace()
}

/// White space beyond ASCII that ends no line; it may stand between quotes only.
fn is_spacing(c: char) -> bool {
    c.is_whitespace() && !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}
