//! Mistakes and misfortunes that a caller has to know of. What a server does
//! wrong is a `Failure`, and what becomes of a mail an `Outcome`.

use std::fmt;

use crate::coordinator::NoReply;
use crate::host::LaneId;
use crate::journal::JournalError;
use crate::message::Message;
use crate::session::Step;

/// Why a call of the mailer did not do what was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Every lane is retired. What had been taken and had no final outcome is
    /// given back, the message that was about to be taken included.
    AllRetired {
        /// The messages, in the order in which they were to be sent.
        unsent: Vec<Message>,
        /// The last thing that went wrong on a connection, naming the host.
        last: Option<String>,
    },
    /// The mailer was quit or aborted; `restart` opens it again. The message
    /// that was about to be taken is given back.
    Closed(Vec<Message>),
    /// No message is taken any more: see
    /// [`Control::drain`](crate::Control::drain). What was held is sent, but for what
    /// waits for its retry delay; the message that was about to be taken is given back.
    Draining(Vec<Message>),
    /// No host was given, or one of them cannot be used as it is.
    Host {
        /// The host as it was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting of the mailer that belongs to no host cannot be used.
    Setting {
        /// The method that was given it.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate, key or other setting of TLS cannot be used.
    Tls {
        /// The host that it is for.
        host: String,
        /// The file or setting.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More sessions are wanted than this process may have descriptors.
    Descriptors {
        /// Descriptors needed: one a session, and some for everything else.
        needed: u64,
        /// Descriptors allowed (RLIMIT_NOFILE).
        allowed: u64,
    },
    /// The debug path cannot be written.
    Debug(JournalError),
    /// There is no such lane.
    NoSuchLane(LaneId),
    /// A question to a server has no reply: see
    /// [`Mailer::ask`](crate::Mailer::ask).
    Unanswered {
        /// The name of the lane's host.
        host: String,
        /// The lane that was to ask it.
        lane: LaneId,
        /// What was asked.
        step: Step,
        /// Why there is none.
        why: NoReply,
    },
    /// A call of [`NetSmtp`](crate::NetSmtp) came out of order.
    OutOfOrder {
        /// The call.
        call: &'static str,
        /// What has to come first.
        before: &'static str,
    },
    /// A mechanism given to [`NetSmtp`](crate::NetSmtp) is none.
    Mechanism(crate::auth::UnknownMechanism),
    /// An address given to [`NetSmtp`](crate::NetSmtp) is none.
    Address(crate::envelope::AddressError),
}

impl Error {
    /// The same with one more message to give back, where it gives back any.
    pub(crate) fn with_unsent(mut self, message: Message) -> Error {
        if let Error::AllRetired { unsent, .. } | Error::Closed(unsent) | Error::Draining(unsent) = &mut self
        {
            unsent.push(message);
        }
        self
    }

    /// The messages that the error gives back.
    pub fn into_unsent(self) -> Vec<Message> {
        match self {
            Error::AllRetired { unsent, .. } | Error::Closed(unsent) | Error::Draining(unsent) => unsent,
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::AllRetired { unsent, last } => {
                write!(f, "every lane is retired, and {} messages are given back", unsent.len())?;
                last.as_ref().map_or(Ok(()), |last| write!(f, "; last: {last}"))
            }
            Error::Closed(_) => f.write_str("the mailer is closed"),
            Error::Draining(_) => f.write_str("the mailer is drained, and takes no messages"),
            Error::Host { name, problem } => write!(f, "host {name:?}: {problem}"),
            Error::Setting { name, problem } => write!(f, "{name}: {problem}"),
            Error::Tls { host, what, problem } => write!(f, "TLS of host {host:?}: {what}: {problem}"),
            Error::Descriptors { needed, allowed } => {
                write!(f, "{needed} descriptors are needed and {allowed} allowed (RLIMIT_NOFILE)")
            }
            Error::Debug(error) => fmt::Display::fmt(error, f),
            Error::NoSuchLane(lane) => write!(f, "there is no thread {} of host {}", lane.thread, lane.host),
            Error::Unanswered { host, lane, step, why } => {
                write!(f, "{host}:{} {step} has no reply: ", lane.thread)?;
                match why {
                    NoReply::Failed(failure) => fmt::Display::fmt(failure, f),
                    NoReply::GivenUp => f.write_str("the connection was given up"),
                    NoReply::Retired => f.write_str("the lane is retired"),
                    NoReply::NotOffered(extension) => {
                        write!(f, "the server does not offer {}", extension.keyword())
                    }
                }
            }
            Error::OutOfOrder { call, before } => write!(f, "`{call}` was called before `{before}`"),
            Error::Mechanism(error) => fmt::Display::fmt(error, f),
            Error::Address(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Debug(error) => Some(error),
            Error::Mechanism(error) => Some(error),
            Error::Address(error) => Some(error),
            Error::Unanswered { why: NoReply::Failed(failure), .. } => Some(failure),
            _ => None,
        }
    }
}

/// There is no room for the message, or none is taken, and it is given back:
/// [`Mailer::ready`](crate::Mailer::ready) waits for room, and says what else it is.
#[derive(Debug)]
pub struct Full(pub Message);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no room for the message, or the mailer is closed or drained")
    }
}

impl std::error::Error for Full {}
