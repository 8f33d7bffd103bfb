//! A mail as the caller hands it over: envelope, content, and what the caller
//! wants to have back with every event and report.

use std::fmt;
use std::time::Instant;

use crate::content::Content;
use crate::envelope::Envelope;
use crate::extensions::{Extension, ExtensionSet};

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
    /// Apart, because most messages have none of it and a backlog has many.
    terms: Option<Box<Terms>>,
}

/// How a message is to be sent, or not.
#[derive(Clone, Debug, Default)]
struct Terms {
    expires: Option<Instant>,
    all_or_nothing: bool,
    required: ExtensionSet,
    host: Option<u32>,
}

impl Message {
    /// A mail with this envelope and content.
    pub fn new(envelope: Envelope, content: impl Into<Content>) -> Message {
        Message { id: MessageId::None, envelope, content: content.into(), terms: None }
    }

    /// Names the message; the name comes back in every event and report.
    pub fn id(mut self, id: impl Into<MessageId>) -> Message {
        self.id = id.into();
        self
    }

    /// The message is not begun at or after this time, but reported abandoned.
    /// An attempt that is under way is finished.
    pub fn expires(mut self, at: Instant) -> Message {
        self.terms_mut().expires = Some(at);
        self
    }

    /// Gives up the whole message at the first refused recipient, instead of
    /// going on with the others. In LMTP each recipient has a reply to the content, too,
    /// where some can have it already when another is refused: then it is partial.
    pub fn all_or_nothing(mut self) -> Message {
        self.terms_mut().all_or_nothing = true;
        self
    }

    /// The message goes to this host alone, by its position among those that the builder
    /// was given ([`LaneId::host`](crate::LaneId::host)): it waits for a lane of that host,
    /// in a queue of its own, and holds up no message for another one that was taken. While
    /// the host [rests](crate::Host::circuit_breaker) and another one is at work, it waits
    /// as one that was put off, within
    /// [`MailerBuilder::max_delayed`](crate::MailerBuilder::max_delayed), and beyond that
    /// it is reported abandoned, so that your own queue can keep it: set that bound to
    /// what you want to be held through an outage. When no lane of the host is left, or
    /// there is no such host, it is reported abandoned at once
    /// ([`Cause::NoLane`](crate::Cause::NoLane)).
    ///
    /// ```
    /// use smtp_bulk::{Envelope, Message};
    ///
    /// let envelope = Envelope::parse("news@example.org", ["ann@example.net"])?;
    /// let message = Message::new(envelope, "Subject: hello\r\n\r\nHello.\r\n").host(1);
    /// assert_eq!(message.bound_to(), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn host(mut self, position: u32) -> Message {
        self.terms_mut().host = Some(position);
        self
    }

    /// The message is refused by the client where the server lacks this
    /// extension, even one that the message could go without. `SmtpUtf8` is
    /// declared then, too, as it has to be for header fields beyond ASCII (RFC
    /// 6531 §3.4), which nobody looks for.
    ///
    /// ```
    /// use smtp_bulk::{Envelope, Extension, Message};
    ///
    /// let envelope = Envelope::parse("news@example.org", ["ann@example.net"])?;
    /// let message = Message::new(envelope, "Subject: hello\r\n\r\nHello.\r\n").require(Extension::Dsn);
    /// assert!(message.needs().contains(Extension::Dsn));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn require(mut self, extension: Extension) -> Message {
        let terms = self.terms_mut();
        terms.required = terms.required.with(extension);
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
        self.terms.as_deref()?.expires
    }

    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.expiry().is_some_and(|at| at <= now)
    }

    /// Whether the first refused recipient gives up the whole message.
    pub fn is_all_or_nothing(&self) -> bool {
        self.terms.as_deref().is_some_and(|terms| terms.all_or_nothing)
    }

    /// The position of the only host that it may go to.
    pub fn bound_to(&self) -> Option<u32> {
        self.terms.as_deref()?.host
    }

    /// The extensions without which it is not sent: what its envelope needs,
    /// and what was required besides.
    pub fn needs(&self) -> ExtensionSet {
        let required = self.terms.as_deref().map_or(ExtensionSet::EMPTY, |terms| terms.required);
        self.envelope.needs().union(required)
    }

    /// The same message for those recipients alone whose place, the first
    /// being 0, `keep` is true for; `None` when there is no such recipient.
    pub(crate) fn for_recipients(self, keep: impl FnMut(usize) -> bool) -> Option<Message> {
        Some(Message { envelope: self.envelope.subset(keep)?, ..self })
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

    fn terms_mut(&mut self) -> &mut Terms {
        self.terms.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extensions::Extension::{Dsn, RequireTls, SmtpUtf8};
    use crate::parameters::MailParameters;

    fn message() -> Message {
        Message::new(Envelope::parse("news@example.org", ["ann@example.net", "bob@example.net"]).unwrap(), "")
    }

    #[test]
    fn a_message_needs_what_its_envelope_needs_and_what_was_required() {
        assert!(message().needs().is_empty());
        let envelope =
            message().envelope().clone().with_mail_parameters(MailParameters::new().with_require_tls());
        let all = message().with_envelope(envelope).require(Dsn).require(SmtpUtf8);
        assert_eq!(all.needs(), [Dsn, SmtpUtf8, RequireTls].into_iter().collect());
    }

    #[test]
    fn a_message_for_some_recipients_is_the_same_in_all_else() {
        let now = Instant::now();
        let whole = message().id(7).all_or_nothing().require(Dsn).expires(now);
        let part = whole.clone().for_recipients(|place| place == 1).unwrap();
        assert_eq!(part.envelope().recipients()[0].as_str(), "bob@example.net");
        assert_eq!((part.message_id(), part.expiry()), (&MessageId::Number(7), Some(now)));
        assert!(part.is_all_or_nothing() && part.needs().contains(Dsn));
        assert!(whole.for_recipients(|_| false).is_none());
    }
}
