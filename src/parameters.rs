//! Parameters of MAIL and RCPT (RFC 5321 §4.1.2): what an envelope asks of a server beyond taking
//! the mail.
//!
//! Every value is checked when it is built and printed by `Display` in the very form that it has on
//! the wire, so that the command encoder may write it as it stands. None must ever hold a space, a
//! control character or an octet beyond ASCII: it would begin a parameter of its own.
//!
//! Some are *wished*: where the server lacks the extension, the mail goes without them. The others
//! are *needed*: the mail would not be what was asked for, and the client refuses to send it.
//!
//! | parameter | extension | where the server lacks it |
//! | --- | --- | --- |
//! | `RET`, `ENVID`, `NOTIFY`, `ORCPT` | DSN (RFC 3461) | left out |
//! | `MT-PRIORITY` | MT-PRIORITY (RFC 6710) | left out |
//! | `BY` | DELIVERBY (RFC 2852) | the mail is refused |
//! | `REQUIRETLS` | REQUIRETLS (RFC 8689) | the mail is refused |
//! | `HOLDFOR`, `HOLDUNTIL` | FUTURERELEASE (RFC 4865) | the mail is refused |
//! | raw ones | not looked at | sent all the same |
//!
//! [`Message::require`](crate::Message::require) makes any extension needed.

use std::error::Error;
use std::fmt;

use crate::extensions::{Extension, ExtensionSet, Extensions};

mod dsn;
mod raw;
mod time;

pub use dsn::{EnvelopeId, MAX_ENVELOPE_ID, MAX_ORIGINAL_RECIPIENT, Notify, OriginalRecipient, Ret};
pub use raw::MAX_RAW;
use raw::RawParameters;
pub(crate) use time::is_utc_date_time;
pub use time::{DeliverBy, Hold, Priority, Unfit};

/// What octets a content is made of, as BODY tells the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Body {
    /// Lines of ASCII (RFC 5321 §2.3.7).
    SevenBit,
    /// Lines with octets beyond ASCII: needs 8BITMIME (RFC 6152).
    EightBitMime,
    /// Any octets, and line ends mean nothing: needs BINARYMIME and CHUNKING (RFC 3030).
    BinaryMime,
}

impl Body {
    /// The value of BODY.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Body::SevenBit => "7BIT",
            Body::EightBitMime => "8BITMIME",
            Body::BinaryMime => "BINARYMIME",
        }
    }

    /// The extension without which the server does not know this value.
    #[must_use]
    pub fn extension(self) -> Extension {
        match self {
            Body::SevenBit | Body::EightBitMime => Extension::EightBitMime,
            Body::BinaryMime => Extension::BinaryMime,
        }
    }
}

/// The parameters of MAIL that a caller may ask for, none of them at first.
///
/// SIZE, BODY and SMTPUTF8 are not among them: they follow from the mail itself.
///
/// ```
/// use smtp_bulk::Envelope;
/// use smtp_bulk::parameters::{EnvelopeId, MailParameters, Priority, Ret};
///
/// let parameters = MailParameters::new()
///     .with_ret(Ret::Headers)
///     .with_envelope_id(EnvelopeId::new("batch 17")?)
///     .with_priority(Priority::new(3)?)
///     .with_require_tls()
///     .with_raw("AUTH", Some("<>"))?;
/// let envelope = Envelope::parse("news@example.org", ["ann@example.net"])?;
/// let envelope = envelope.with_mail_parameters(parameters);
///
/// let asked = envelope.mail_parameters().expect("some were given");
/// assert_eq!((asked.ret(), asked.priority().map(Priority::number)), (Some(Ret::Headers), Some(3)));
/// assert_eq!(asked.envelope_id().map(EnvelopeId::as_str), Some("batch+2017"));
/// assert!(asked.requires_tls() && asked.deliver_by().is_none() && asked.hold().is_none());
/// assert_eq!(asked.raw().collect::<Vec<_>>(), [("AUTH", Some("<>"))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MailParameters {
    ret: Option<Ret>,
    envelope_id: Option<EnvelopeId>,
    deliver_by: Option<DeliverBy>,
    priority: Option<Priority>,
    require_tls: bool,
    hold: Option<Hold>,
    raw: RawParameters,
}

impl MailParameters {
    /// None yet.
    #[must_use]
    pub fn new() -> MailParameters {
        MailParameters::default()
    }

    /// The same, and a notification of failure brings back so much of the mail (RFC 3461 §4.3).
    #[must_use]
    pub fn with_ret(mut self, ret: Ret) -> MailParameters {
        self.ret = Some(ret);
        self
    }

    /// How much of the mail a notification of failure brings back.
    #[must_use]
    pub fn ret(&self) -> Option<Ret> {
        self.ret
    }

    /// The same with a name that comes back in every notification about this mail (RFC 3461 §4.4).
    #[must_use]
    pub fn with_envelope_id(mut self, id: EnvelopeId) -> MailParameters {
        self.envelope_id = Some(id);
        self
    }

    /// The name that comes back in every notification.
    #[must_use]
    pub fn envelope_id(&self) -> Option<&EnvelopeId> {
        self.envelope_id.as_ref()
    }

    /// The same, and the mail is to be delivered by then (RFC 2852). Needs DELIVERBY.
    #[must_use]
    pub fn with_deliver_by(mut self, by: DeliverBy) -> MailParameters {
        self.deliver_by = Some(by);
        self
    }

    /// By when the mail is to be delivered.
    #[must_use]
    pub fn deliver_by(&self) -> Option<DeliverBy> {
        self.deliver_by
    }

    /// The same, and so urgent among others (RFC 6710).
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> MailParameters {
        self.priority = Some(priority);
        self
    }

    /// How urgent the mail is among others.
    #[must_use]
    pub fn priority(&self) -> Option<Priority> {
        self.priority
    }

    /// The same, and every server on the way is to pass the mail on under verified TLS, or not at all
    /// (RFC 8689). Needs REQUIRETLS, which servers offer under TLS alone, and counts for something
    /// where the server is verified, or has a [pin](crate::Tls::pin).
    #[must_use]
    pub fn with_require_tls(mut self) -> MailParameters {
        self.require_tls = true;
        self
    }

    /// Whether every server on the way is to pass the mail on under TLS.
    #[must_use]
    pub fn requires_tls(&self) -> bool {
        self.require_tls
    }

    /// The same, and the server keeps the mail before it sends it on (RFC 4865). Needs FUTURERELEASE.
    #[must_use]
    pub fn with_hold(mut self, hold: Hold) -> MailParameters {
        self.hold = Some(hold);
        self
    }

    /// How long the server keeps the mail before it sends it on.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// The same with a parameter that this crate does not know, sent whatever the server offers. The
    /// keyword has letters, digits and hyphens; the value any printable ASCII but space and `=`, for
    /// which an extension usually has xtext (RFC 3461 §4).
    ///
    /// # Errors
    /// When keyword or value is none (RFC 5321 §4.1.2), the keyword is one that this crate writes
    /// itself or was given before, or all raw parameters together have more than [`MAX_RAW`]
    /// octets.
    pub fn with_raw(mut self, keyword: &str, value: Option<&str>) -> Result<MailParameters, ParameterError> {
        self.raw = self.raw.with(keyword, value)?;
        Ok(self)
    }

    /// The keywords and values of the raw parameters, in the order in which they were given.
    pub fn raw(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.raw.iter()
    }

    pub(crate) fn has_raw(&self) -> bool {
        self.raw().next().is_some()
    }

    /// Whether none was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == MailParameters::default()
    }

    /// The extensions without which the mail must not be sent.
    #[must_use]
    pub fn needs(&self) -> ExtensionSet {
        let needed = [
            (self.deliver_by.is_some(), Extension::DeliverBy),
            (self.require_tls, Extension::RequireTls),
            (self.hold.is_some(), Extension::FutureRelease),
        ];
        needed.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, extension)| extension).collect()
    }

    /// The extensions without which some of the parameters are left out.
    #[must_use]
    pub fn wishes(&self) -> ExtensionSet {
        let wished = [
            (self.ret.is_some() || self.envelope_id.is_some(), Extension::Dsn),
            (self.priority.is_some(), Extension::MtPriority),
        ];
        wished.into_iter().filter(|(is_wished, _)| *is_wished).map(|(_, extension)| extension).collect()
    }

    /// What lies outside the bounds that the server states, if anything does.
    #[must_use]
    pub fn unfit(&self, extensions: &Extensions) -> Option<Unfit> {
        let late = self.deliver_by.and_then(|by| by.unfit(extensions));
        late.or_else(|| self.hold.as_ref()?.unfit(extensions))
    }
}

/// The parameters of RCPT that a caller may ask for, none of them at first.
///
/// ```
/// use smtp_bulk::Envelope;
/// use smtp_bulk::parameters::{Notify, OriginalRecipient, RecipientParameters};
///
/// let all = RecipientParameters::new().with_notify(Notify::FAILURE | Notify::DELAY);
/// let bob = all.clone().with_original_recipient(OriginalRecipient::new("rfc822", "robert@example.com")?);
/// let envelope = Envelope::parse("news@example.org", ["ann@example.net", "bob@example.net"])?
///     .with_recipient_parameters(all)
///     .with_parameters_for(1, bob)?;
///
/// let asked = envelope.recipient_parameters(1).expect("some were given");
/// assert!(asked.notify().is_some_and(|notify| notify.contains(Notify::DELAY)));
/// let original = asked.original_recipient().map(OriginalRecipient::as_str);
/// assert_eq!(original, Some("rfc822;robert@example.com"));
/// assert_eq!(asked.raw().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct RecipientParameters {
    notify: Option<Notify>,
    original_recipient: Option<OriginalRecipient>,
    raw: RawParameters,
}

impl RecipientParameters {
    /// None yet.
    #[must_use]
    pub fn new() -> RecipientParameters {
        RecipientParameters::default()
    }

    /// The same, and the sender is to be notified about this (RFC 3461 §4.1).
    #[must_use]
    pub fn with_notify(mut self, notify: Notify) -> RecipientParameters {
        self.notify = Some(notify);
        self
    }

    /// About what the sender is to be notified; where it is not said, the server decides.
    #[must_use]
    pub fn notify(&self) -> Option<Notify> {
        self.notify
    }

    /// The same with the address that the sender used, before any list or alias changed it (RFC 3461
    /// §4.2).
    #[must_use]
    pub fn with_original_recipient(mut self, recipient: OriginalRecipient) -> RecipientParameters {
        self.original_recipient = Some(recipient);
        self
    }

    /// The address that the sender used.
    #[must_use]
    pub fn original_recipient(&self) -> Option<&OriginalRecipient> {
        self.original_recipient.as_ref()
    }

    /// The same with a parameter that this crate does not know, sent whatever the server offers: see
    /// [`MailParameters::with_raw`].
    ///
    /// # Errors
    /// As [`MailParameters::with_raw`].
    pub fn with_raw(
        mut self,
        keyword: &str,
        value: Option<&str>,
    ) -> Result<RecipientParameters, ParameterError> {
        self.raw = self.raw.with(keyword, value)?;
        Ok(self)
    }

    /// The keywords and values of the raw parameters, in the order in which they were given.
    pub fn raw(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.raw.iter()
    }

    /// Whether none was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == RecipientParameters::default()
    }

    /// The extensions without which some of the parameters are left out.
    #[must_use]
    pub fn wishes(&self) -> ExtensionSet {
        match self.notify.is_some() || self.original_recipient.is_some() {
            true => Extension::Dsn.into(),
            false => ExtensionSet::EMPTY,
        }
    }
}

/// Why a value is no acceptable parameter.
///
/// Its text never repeats the value, and a character is shown escaped, so it is safe to log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ParameterError {
    /// Nothing where a value should be.
    Empty,
    /// A character that may not stand here.
    UnexpectedCharacter(char),
    /// More octets than may be, in the form that it has on the wire.
    TooLong {
        /// How many may be.
        limit: usize,
    },
    /// A number outside of its bounds.
    OutOfRange {
        /// The least that may be.
        least: i32,
        /// The most that may be.
        most: i32,
    },
    /// No date and time in UTC of the form `2030-01-31T12:00:00Z` (RFC 3339).
    BadDateTime,
    /// A raw parameter of a keyword that this crate writes itself.
    Reserved,
    /// A raw parameter of a keyword that was given before.
    Repeated,
    /// The envelope has no recipient at this place.
    NoSuchRecipient,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the value is empty"),
            Self::UnexpectedCharacter(found) => {
                write!(f, "unexpected character '{}'", found.escape_default())
            }
            Self::TooLong { limit } => write!(f, "more than {limit} octets on the wire"),
            Self::OutOfRange { least, most } => write!(f, "not between {least} and {most}"),
            Self::BadDateTime => f.write_str("no UTC date and time like 2030-01-31T12:00:00Z"),
            Self::Reserved => f.write_str("this parameter is not for raw use"),
            Self::Repeated => f.write_str("this parameter was given before"),
            Self::NoSuchRecipient => f.write_str("the envelope has no such recipient"),
        }
    }
}

impl Error for ParameterError {}

#[cfg(test)]
mod tests;
