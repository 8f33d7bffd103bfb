//! The argument of the commands that ask a server about itself or its users.

use std::error::Error;
use std::fmt;

/// Most octets in an [`Argument`], so that no command of a four-letter verb is longer than
/// [`MAX_COMMAND`](super::MAX_COMMAND).
pub const MAX_ARGUMENT: usize = super::MAX_COMMAND - "VRFY ".len() - "\r\n".len();

/// What VRFY, EXPN, ETRN and HELP are asked about: one line without control characters, at most
/// [`MAX_ARGUMENT`] octets, not empty and without spaces around it.
///
/// ```
/// use smtp_bulk::command::Argument;
///
/// assert_eq!(Argument::new("Ann Lee")?.as_str(), "Ann Lee");
/// assert!(Argument::new("ann\r\nQUIT").is_err());
/// assert!(Argument::new("grå").is_err());
/// assert!(Argument::utf8("grå").is_ok());
/// # Ok::<(), smtp_bulk::command::ArgumentError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Argument(Box<str>);

impl Argument {
    /// A text of printable ASCII.
    ///
    /// # Errors
    /// When the text has another character, or is empty or too long.
    pub fn new(text: &str) -> Result<Argument, ArgumentError> {
        Argument::checked(text, |letter| matches!(letter, ' '..='~'))
    }

    /// A text that may go beyond ASCII. VRFY and EXPN then carry SMTPUTF8, which is for a server that
    /// offers it (RFC 6531 §3.7.4.2); ETRN and HELP have no form for such a text.
    ///
    /// # Errors
    /// When the text has a control character, or is empty or too long.
    pub fn utf8(text: &str) -> Result<Argument, ArgumentError> {
        // U+2028 and U+2029 end lines for whoever shows them.
        Argument::checked(text, |letter| !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}'))
    }

    /// The text as it goes onto the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is pure ASCII.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    fn checked(text: &str, fits: fn(char) -> bool) -> Result<Argument, ArgumentError> {
        if let Some(odd) = text.chars().find(|letter| !fits(*letter)) {
            return Err(ArgumentError::UnexpectedCharacter(odd));
        }
        if text.is_empty() {
            return Err(ArgumentError::Empty);
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(ArgumentError::UnexpectedCharacter(' '));
        }
        if text.len() > MAX_ARGUMENT {
            return Err(ArgumentError::TooLong);
        }
        Ok(Argument(text.into()))
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is no acceptable [`Argument`].
///
/// Its text never repeats the argument, and a character is shown escaped, so it is safe to log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ArgumentError {
    /// Nothing where an argument should be.
    Empty,
    /// A character that may not stand here.
    UnexpectedCharacter(char),
    /// More than [`MAX_ARGUMENT`] octets.
    TooLong,
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the argument is empty"),
            Self::UnexpectedCharacter(found) => {
                write!(f, "unexpected character '{}' in the argument", found.escape_default())
            }
            Self::TooLong => write!(f, "the argument has more than {MAX_ARGUMENT} octets"),
        }
    }
}

impl Error for ArgumentError {}
