//! What became of a message: its outcome, its recipients' outcomes, and the
//! report that gives the message back.

use std::fmt;

use crate::content::ContentError;
use crate::envelope::ForwardPath;
use crate::extensions::Extension;
use crate::failure::Failure;
use crate::host::LaneId;
use crate::message::Message;
use crate::parameters::Unfit;
use crate::reply::{Reply, ReplyBuf};
use crate::session::Step;

/// Why an attempt ended without a final outcome, or the last one did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The server refused for the time being.
    Reply(ReplyBuf),
    /// The connection failed.
    Failure(Failure),
    /// A callback gave up the transaction with this code.
    Verdict(u16),
    /// The content could not be opened for want of descriptors or memory.
    Content(ContentError),
    /// The message expired before it could be begun.
    Expired,
    /// The server takes no further recipients in this transaction.
    TooManyRecipients(ReplyBuf),
    /// The message was [for one host](crate::Message::host), of which no lane is left.
    NoLane,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Reply(reply) => fmt::Display::fmt(reply, f),
            Cause::Failure(failure) => fmt::Display::fmt(failure, f),
            Cause::Verdict(code) => write!(f, "given up by a callback's {code}"),
            Cause::Content(error) => fmt::Display::fmt(error, f),
            Cause::Expired => f.write_str("expired"),
            Cause::TooManyRecipients(reply) => write!(f, "too many recipients: {reply}"),
            Cause::NoLane => f.write_str("no lane of its host is left"),
        }
    }
}

/// Why the client itself refuses a message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientReason {
    /// Its content could not be read.
    Content(ContentError),
    /// It needs an extension that the server, or this client, lacks.
    MissingExtension(Extension),
    /// It needs REQUIRETLS (RFC 8689), and its session has no TLS, or none with a server
    /// that is known to be the right one: an offer counts for nothing there.
    NoTls,
    /// Its content is larger than the server takes (SIZE, RFC 1870 §4).
    TooLarge {
        /// Octets of the content.
        size: u64,
        /// Octets that the server takes.
        limit: u64,
    },
    /// All or none of its recipients are to get it, and there are more than
    /// one transaction takes.
    TooManyRecipients {
        /// How many recipients one transaction takes.
        limit: u32,
    },
    /// It asks for something outside the bounds that the server states.
    Unfit(Unfit),
}

impl fmt::Display for ClientReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientReason::Content(error) => fmt::Display::fmt(error, f),
            ClientReason::MissingExtension(extension) => {
                write!(f, "the message needs {}, which is not to be had", extension.keyword())
            }
            ClientReason::NoTls => {
                let keyword = Extension::RequireTls.keyword();
                write!(f, "the message needs {keyword}, and the session has no verified TLS")
            }
            ClientReason::TooLarge { size, limit } => {
                write!(f, "the message has {size} octets, and the server takes {limit}")
            }
            ClientReason::TooManyRecipients { limit } => {
                write!(
                    f,
                    "all or none are to get the message, and the server takes {limit} recipients at once"
                )
            }
            ClientReason::Unfit(unfit) => fmt::Display::fmt(unfit, f),
        }
    }
}

/// Who refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RefusedBy<'a> {
    /// The server, with a 5yz reply.
    Server(Reply<'a>),
    /// This client.
    Client(&'a ClientReason),
}

impl fmt::Display for RefusedBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefusedBy::Server(reply) => fmt::Display::fmt(reply, f),
            RefusedBy::Client(reason) => fmt::Display::fmt(reason, f),
        }
    }
}

/// What became of a message or a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// The server took responsibility; its reply may hold a queue id.
    Delivered(Reply<'a>),
    /// The recipients' outcomes differ: see [`Report::recipients`].
    Partial,
    /// Refused for good.
    Refused(RefusedBy<'a>),
    /// All attempts were used up, or the message expired.
    Abandoned(&'a Cause),
    /// A callback dropped it.
    Dropped,
    /// The whole content was sent and no answer came: the server may or may
    /// not have taken it (RFC 1047).
    InDoubt(&'a Failure),
    /// The mailer was given up before the message could be sent.
    Unsent,
}

impl Outcome<'_> {
    /// One word: `delivered`, `partial`, `refused`, `abandoned`, `dropped`,
    /// `in_doubt` or `unsent`.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Delivered(_) => "delivered",
            Outcome::Partial => "partial",
            Outcome::Refused(_) => "refused",
            Outcome::Abandoned(_) => "abandoned",
            Outcome::Dropped => "dropped",
            Outcome::InDoubt(_) => "in_doubt",
            Outcome::Unsent => "unsent",
        }
    }

    /// Whether the server took responsibility.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Outcome::Delivered(_))
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Outcome::Delivered(reply) => write!(f, ": {reply}"),
            Outcome::Refused(by) => write!(f, ": {by}"),
            Outcome::Abandoned(cause) => write!(f, ": {cause}"),
            Outcome::InDoubt(failure) => write!(f, ": {failure}"),
            Outcome::Partial | Outcome::Dropped | Outcome::Unsent => Ok(()),
        }
    }
}

/// An outcome that owns its texts: what is kept of a recipient whose fate is
/// settled while others of the same message are still open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Delivered(ReplyBuf),
    Refused(ReplyBuf),
    RefusedByClient(ClientReason),
    Abandoned(Cause),
    Dropped,
    InDoubt(Failure),
    Unsent,
}

impl Ending {
    pub(crate) fn outcome(&self) -> Outcome<'_> {
        match self {
            Ending::Delivered(reply) => Outcome::Delivered(reply.as_reply()),
            Ending::Refused(reply) => Outcome::Refused(RefusedBy::Server(reply.as_reply())),
            Ending::RefusedByClient(reason) => Outcome::Refused(RefusedBy::Client(reason)),
            Ending::Abandoned(cause) => Outcome::Abandoned(cause),
            Ending::Dropped => Outcome::Dropped,
            Ending::InDoubt(failure) => Outcome::InDoubt(failure),
            Ending::Unsent => Outcome::Unsent,
        }
    }

    /// `None` for [`Outcome::Partial`], which is no recipient's.
    pub(crate) fn from_outcome(outcome: Outcome<'_>) -> Option<Ending> {
        Some(match outcome {
            Outcome::Delivered(reply) => Ending::Delivered(reply.to_owned()),
            Outcome::Refused(RefusedBy::Server(reply)) => Ending::Refused(reply.to_owned()),
            Outcome::Refused(RefusedBy::Client(reason)) => Ending::RefusedByClient(reason.clone()),
            Outcome::Abandoned(cause) => Ending::Abandoned(cause.clone()),
            Outcome::Dropped => Ending::Dropped,
            Outcome::InDoubt(failure) => Ending::InDoubt(failure.clone()),
            Outcome::Unsent => Ending::Unsent,
            Outcome::Partial => return None,
        })
    }
}

/// How it ended for one recipient, and at which step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    /// `None` when it was not tried.
    pub(crate) step: Option<Step>,
}

/// The recipients' outcomes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Endings<'a> {
    /// All share the message's.
    Same,
    /// One each, in the order of the envelope.
    Each(&'a [Ended]),
}

/// What became of a message for one recipient.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RecipientReport<'a> {
    /// The recipient.
    pub path: &'a ForwardPath,
    /// What became of the message for it.
    pub outcome: Outcome<'a>,
    /// The step at which that was decided; `None` when it was not tried.
    pub step: Option<Step>,
}

/// A message's final outcome; it gives the message back.
///
/// ```
/// use smtp_bulk::{Mailer, Outcome};
///
/// let builder = Mailer::builder().on_report(|report| {
///     if let Outcome::Partial = report.outcome {
///         for recipient in report.recipients() {
///             println!("{}: {} {}", report.message.message_id(), recipient.path, recipient.outcome);
///         }
///     }
/// });
/// # let _ = builder;
/// ```
///
/// The reply texts are borrowed: copy what has to outlive the callback.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report<'a> {
    /// The message, as it was handed over.
    pub message: Message,
    /// What became of it.
    pub outcome: Outcome<'a>,
    /// How many attempts were counted against it, the last one included.
    pub attempts: u32,
    /// The step at which the outcome was decided; `None` when the message was
    /// not tried, and when recipients differ: see [`Report::recipients`].
    pub step: Option<Step>,
    /// The lane that held it last, if any did.
    pub lane: Option<LaneId>,
    /// The name of that lane's host.
    pub host: Option<&'a str>,
    pub(crate) endings: Endings<'a>,
}

impl<'a> Report<'a> {
    /// What became of the message for each recipient, in the order of the
    /// envelope.
    pub fn recipients(&self) -> impl Iterator<Item = RecipientReport<'_>> {
        let paths = self.message.envelope().recipients();
        paths.iter().enumerate().map(|(index, path)| {
            let (outcome, step) = match self.endings {
                Endings::Same => (self.outcome, self.step),
                Endings::Each(endings) => endings
                    .get(index)
                    .map_or((self.outcome, self.step), |ended| (ended.ending.outcome(), ended.step)),
            };
            RecipientReport { path, outcome, step }
        })
    }

    /// The message for those recipients alone whose server has neither taken
    /// it nor may have taken it, to be tried elsewhere; `None` when there are
    /// none.
    pub fn into_undelivered(self) -> Option<Message> {
        let keep = |outcome: Outcome<'_>| !matches!(outcome, Outcome::Delivered(_) | Outcome::InDoubt(_));
        let open: Vec<bool> = self.recipients().map(|recipient| keep(recipient.outcome)).collect();
        self.message.for_recipients(|place| open.get(place) == Some(&true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_the_client_say_what_is_asked_and_what_is_to_be_had() {
        for (reason, text) in [
            (
                ClientReason::MissingExtension(Extension::RequireTls),
                "the message needs REQUIRETLS, which is not to be had",
            ),
            (ClientReason::NoTls, "the message needs REQUIRETLS, and the session has no verified TLS"),
            (
                ClientReason::TooLarge { size: 2_000, limit: 1_000 },
                "the message has 2000 octets, and the server takes 1000",
            ),
            (
                ClientReason::TooManyRecipients { limit: 100 },
                "all or none are to get the message, and the server takes 100 recipients at once",
            ),
            (
                ClientReason::Unfit(Unfit::HoldFor { seconds: 90, maximum: 60 }),
                "FUTURERELEASE: the message is to be held for 90 s, and the server holds for 60 s at most",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
