//! What delivery status notifications are asked for by (RFC 3461): RET and ENVID of MAIL, NOTIFY and
//! ORCPT of RCPT, and the xtext that carries any text in a parameter.

use std::fmt::{self, Write};
use std::ops::BitOr;

use super::ParameterError;
use crate::envelope::ForwardPath;

/// Most octets of an envelope identifier, in its form on the wire (RFC 3461 §4.4).
pub const MAX_ENVELOPE_ID: usize = 100;

/// Most octets of an original recipient, in its form on the wire and with its type (RFC 3461 §4.2).
pub const MAX_ORIGINAL_RECIPIENT: usize = 500;

/// How much of a mail comes back with the notification that it failed (RFC 3461 §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ret {
    /// The whole mail: `RET=FULL`.
    Full,
    /// Its header fields: `RET=HDRS`.
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        })
    }
}

/// The caller's own name for a mail, as `ENVID` has it (RFC 3461 §4.4).
///
/// ```
/// use smtp_bulk::parameters::EnvelopeId;
///
/// assert_eq!(EnvelopeId::new("a+b = c")?.as_str(), "a+2Bb+20+3D+20c");
/// assert!(EnvelopeId::new("line\r\nend").is_err());
/// # Ok::<(), smtp_bulk::parameters::ParameterError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EnvelopeId(Box<str>);

impl EnvelopeId {
    /// Encodes a text of printable ASCII, spaces included, as xtext.
    ///
    /// # Errors
    /// When the text is empty, has another character, or is longer than [`MAX_ENVELOPE_ID`] once
    /// it is encoded.
    pub fn new(text: &str) -> Result<EnvelopeId, ParameterError> {
        xtext(String::new(), text, MAX_ENVELOPE_ID).map(|encoded| EnvelopeId(encoded.into()))
    }

    /// The identifier as it goes onto the wire: xtext.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// About what the sender wants to be notified (RFC 3461 §4.1).
///
/// ```
/// use smtp_bulk::parameters::Notify;
///
/// assert_eq!((Notify::DELAY | Notify::FAILURE).to_string(), "FAILURE,DELAY");
/// assert_eq!(Notify::NEVER.to_string(), "NEVER");
/// assert_eq!(Notify::NEVER | Notify::SUCCESS, Notify::SUCCESS);
/// assert!((Notify::DELAY | Notify::FAILURE).contains(Notify::DELAY));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Notify(u8);

impl Notify {
    /// About nothing, not even a failure: what the others are added to.
    pub const NEVER: Notify = Notify(0);
    /// The mail was delivered.
    pub const SUCCESS: Notify = Notify(1);
    /// The mail could not be delivered.
    pub const FAILURE: Notify = Notify(2);
    /// The mail is late.
    pub const DELAY: Notify = Notify(4);

    /// Whether the sender is notified of all that `other` has. [`Notify::NEVER`] is in itself alone.
    #[must_use]
    pub const fn contains(self, other: Notify) -> bool {
        match other.0 {
            0 => self.0 == 0,
            wanted => self.0 & wanted == wanted,
        }
    }
}

/// In the order of the RFC.
const NOTIFY: [(Notify, &str); 3] =
    [(Notify::SUCCESS, "SUCCESS"), (Notify::FAILURE, "FAILURE"), (Notify::DELAY, "DELAY")];

impl BitOr for Notify {
    type Output = Notify;

    fn bitor(self, other: Notify) -> Notify {
        Notify(self.0 | other.0)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Notify::NEVER {
            return f.write_str("NEVER");
        }
        let mut comma = "";
        for (_, word) in NOTIFY.iter().filter(|(about, _)| self.0 & about.0 != 0) {
            f.write_str(comma)?;
            f.write_str(word)?;
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notify({self})")
    }
}

/// The recipient's address as the sender had it, with the type of the address, as `ORCPT` has it
/// (RFC 3461 §4.2, RFC 6533 §3).
///
/// ```
/// use smtp_bulk::parameters::OriginalRecipient;
///
/// let list = OriginalRecipient::new("rfc822", "ann+list@example.com")?;
/// assert_eq!(list.as_str(), "rfc822;ann+2Blist@example.com");
/// let foreign = OriginalRecipient::of(&"grå@example.com".parse()?)?;
/// assert_eq!(foreign.as_str(), "utf-8;gr\\x{E5}@example.com");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OriginalRecipient(Box<str>);

impl OriginalRecipient {
    /// An address of a type, of which `rfc822` is that of ordinary mail. It is encoded as xtext,
    /// which takes printable ASCII; one of type `utf-8` as RFC 6533 has it for servers without
    /// SMTPUTF8 as well.
    ///
    /// # Errors
    /// When the type is no word of letters, digits and hyphens, the address is empty or has a
    /// character that cannot be encoded, or both have more than [`MAX_ORIGINAL_RECIPIENT`] octets
    /// once they are encoded.
    pub fn new(kind: &str, address: &str) -> Result<OriginalRecipient, ParameterError> {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if kind.is_empty() {
            return Err(ParameterError::Empty);
        }
        if let Some(odd) = kind.chars().find(|letter| !fits(*letter)) {
            return Err(ParameterError::UnexpectedCharacter(odd));
        }
        let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
        let encode = if is_utf8 { unicode_xtext } else { xtext };
        let begin = format!("{kind};");
        encode(begin, address, MAX_ORIGINAL_RECIPIENT).map(|encoded| OriginalRecipient(encoded.into()))
    }

    /// A recipient's own address, of type `utf-8` where it needs SMTPUTF8 and of `rfc822` otherwise.
    ///
    /// # Errors
    /// When it has more than [`MAX_ORIGINAL_RECIPIENT`] octets once it is encoded, as few addresses
    /// beyond ASCII do.
    pub fn of(path: &ForwardPath) -> Result<OriginalRecipient, ParameterError> {
        OriginalRecipient::new(if path.is_ascii() { "rfc822" } else { "utf-8" }, path.wire())
    }

    /// Type and address as they go onto the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends a text as `xtext` (RFC 3461 §4).
fn xtext(encoded: String, text: &str, limit: usize) -> Result<String, ParameterError> {
    escaped(encoded, text, limit, |encoded, letter| match letter {
        '+' | '=' | ' ' => write!(encoded, "+{:02X}", u32::from(letter)).is_ok(),
        '!'..='~' => encoded.write_char(letter).is_ok(),
        _ => false,
    })
}

/// Appends a text as `utf-8-addr-xtext` (RFC 6533 §3).
fn unicode_xtext(encoded: String, text: &str, limit: usize) -> Result<String, ParameterError> {
    escaped(encoded, text, limit, |encoded, letter| match letter {
        letter if letter.is_control() => false,
        '!'..='~' if !matches!(letter, '+' | '=' | '\\') => encoded.write_char(letter).is_ok(),
        _ => write!(encoded, "\\x{{{:X}}}", u32::from(letter)).is_ok(),
    })
}

/// Appends each character by `append`, which tells whether it may stand in the text at all.
fn escaped(
    mut encoded: String,
    text: &str,
    limit: usize,
    append: fn(&mut String, char) -> bool,
) -> Result<String, ParameterError> {
    if text.is_empty() {
        return Err(ParameterError::Empty);
    }
    for letter in text.chars() {
        if !append(&mut encoded, letter) {
            return Err(ParameterError::UnexpectedCharacter(letter));
        }
        if encoded.len() > limit {
            return Err(ParameterError::TooLong { limit });
        }
    }
    Ok(encoded)
}
