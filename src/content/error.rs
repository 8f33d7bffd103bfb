//! Why a content could not be sent, as plain data.

use std::fmt;
use std::io;

/// Why a content could not be sent: a fault of its source, never the server's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ContentError {
    /// The source could not be opened or read.
    Io {
        /// The kind of the input error.
        kind: io::ErrorKind,
        /// What the operating system or the reader said.
        text: Box<str>,
    },
    /// The source ended before what was promised.
    TooShort {
        /// Octets promised.
        promised: u64,
        /// Octets given.
        given: u64,
    },
    /// The source had more than what was promised.
    TooLong {
        /// Octets promised.
        promised: u64,
    },
    /// A blocking source gave nothing within the content timeout.
    Stalled,
    /// The source gave more octets than the server takes (SIZE, RFC 1870), which
    /// was not known before they were read.
    AboveLimit {
        /// Octets that the server takes.
        limit: u64,
    },
    /// This process is short of descriptors or memory: not the source's fault.
    Shortage(Box<str>),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> ContentError {
        let text = error.to_string().into();
        if crate::fault::is_shortage(&error) {
            ContentError::Shortage(text)
        } else {
            ContentError::Io { kind: error.kind(), text }
        }
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentError::Io { text, .. } => write!(f, "the content's source failed: {text}"),
            ContentError::TooShort { promised, given } => {
                write!(f, "the content's source ended after {given} of {promised} octets")
            }
            ContentError::TooLong { promised } => {
                write!(f, "the content's source gave more than the {promised} octets promised")
            }
            ContentError::Stalled => f.write_str("the content's source gave nothing in time"),
            ContentError::AboveLimit { limit } => {
                write!(f, "the content is larger than the {limit} octets that the server takes")
            }
            ContentError::Shortage(text) => write!(f, "no means to open the content: {text}"),
        }
    }
}

impl std::error::Error for ContentError {}
