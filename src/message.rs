//! A mail as the caller hands it over: envelope, content, and what the caller
//! wants to have back with every event and report.

use std::fmt;
use std::time::Instant;

use crate::content::Content;
use crate::envelope::Envelope;

/// The caller's own name for a message: not the header field Message-ID,
/// which is the content's business.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum MessageId {
    /// None was given.
    #[default]
    None,
    /// A number, such as a row of a table.
    Number(u64),
    /// A short text.
    Text(Box<str>),
}

impl From<u64> for MessageId {
    fn from(number: u64) -> MessageId {
        MessageId::Number(number)
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> MessageId {
        MessageId::Text(text.into())
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> MessageId {
        MessageId::Text(text.into())
    }
}

impl fmt::Display for MessageId {
    /// Control characters are escaped, so that an id cannot forge a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageId::None => f.write_str("-"),
            MessageId::Number(number) => write!(f, "{number}"),
            MessageId::Text(text) => write!(f, "{}", text.escape_debug()),
        }
    }
}

/// A mail to be sent.
///
/// ```
/// use smtp_bulk::{Envelope, Message};
///
/// let envelope = Envelope::parse("news@example.org", ["ann@example.net"])?;
/// let message = Message::new(envelope, "Subject: hello\r\n\r\nHello.\r\n").id(17);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Message {
    id: MessageId,
    envelope: Envelope,
    content: Content,
    expires: Option<Instant>,
    all_or_nothing: bool,
}

impl Message {
    /// A mail with this envelope and content.
    pub fn new(envelope: Envelope, content: impl Into<Content>) -> Message {
        Message {
            id: MessageId::None,
            envelope,
            content: content.into(),
            expires: None,
            all_or_nothing: false,
        }
    }

    /// Names the message; the name comes back in every event and report.
    pub fn id(mut self, id: impl Into<MessageId>) -> Message {
        self.id = id.into();
        self
    }

    /// The message is not begun at or after this time, but reported abandoned.
    /// An attempt that is under way is finished.
    pub fn expires(mut self, at: Instant) -> Message {
        self.expires = Some(at);
        self
    }

    /// Gives up the whole message at the first refused recipient, instead of
    /// going on with the others.
    pub fn all_or_nothing(mut self) -> Message {
        self.all_or_nothing = true;
        self
    }

    /// The caller's name for it.
    pub fn message_id(&self) -> &MessageId {
        &self.id
    }

    /// Who sends it to whom.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What is sent.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// When it may no longer be begun.
    pub fn expiry(&self) -> Option<Instant> {
        self.expires
    }

    /// Whether the first refused recipient gives up the whole message.
    pub fn is_all_or_nothing(&self) -> bool {
        self.all_or_nothing
    }

    /// Envelope and content.
    pub fn into_parts(self) -> (Envelope, Content) {
        (self.envelope, self.content)
    }

    /// The same message with another envelope.
    pub fn with_envelope(mut self, envelope: Envelope) -> Message {
        self.envelope = envelope;
        self
    }
}
