//! Why a connection cannot be used or reused. A `Failure` is the peer's fault,
//! or the network's; it is data, not an error of the caller.

use std::fmt;
use std::time::Duration;

use crate::auth::AuthFault;
use crate::content::ContentError;
use crate::fault::IoFault;
use crate::reply::{ReplyBuf, ReplyCode};
use crate::security::TlsFault;

/// Why a connection cannot be reused, or never came about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The host's name could not be resolved.
    Resolve(IoFault),
    /// No address of the host accepted the connection.
    Connect(IoFault),
    /// The greeting, or the reply to EHLO, HELO, STARTTLS or AUTH, was a
    /// refusal, of AUTH only one that may pass (4yz); or the one to NOOP, or RSET,
    /// on a session that rests.
    Refused(ReplyBuf),
    /// STARTTLS is demanded and the server does not offer it, or somebody in
    /// between took the offer away.
    TlsNotOffered,
    /// The TLS handshake failed.
    Tls(TlsFault),
    /// The client gave up the authentication.
    Auth(AuthFault),
    /// The server let a deadline pass.
    TimedOut {
        /// The timeout that was over.
        after: Duration,
    },
    /// Nothing moved on any session for so long:
    /// [`MailerBuilder::global_timeout`](crate::MailerBuilder::global_timeout).
    StoodStill {
        /// How long.
        after: Duration,
    },
    /// The server closed the connection.
    Closed,
    /// The connection broke.
    Lost(IoFault),
    /// What the server sent is no reply.
    Garbage,
    /// A reply was longer than the limits of [`crate::reply`].
    TooLong,
    /// The server spoke without being asked, or before the last octet of what it
    /// was asked was handed to the connection: this, where it is a reply, such
    /// as the 421 of a server that ends an idle session.
    Unsolicited(Option<ReplyBuf>),
    /// A reply that means another thing than the one awaited, such as a 250
    /// to DATA, or one that began before the content had been sent.
    Unexpected(ReplyCode),
    /// The content could not be sent to its end, so that the connection
    /// stands in the middle of it.
    Content(ContentError),
}

impl Failure {
    /// Why the connection can't be used further, in one sentence.
    pub fn explain(&self) -> &'static str {
        match self {
            Failure::Resolve(_) => "the name leads to no address",
            Failure::Connect(_) => "there is no connection",
            Failure::Refused(_) => "the server does not want this session",
            Failure::TlsNotOffered => "nothing is sent without TLS",
            Failure::Tls(_) => "there is no TLS on which anything could be sent",
            Failure::Auth(_) => "the session is not authenticated",
            Failure::TimedOut { .. } | Failure::StoodStill { .. } => {
                "a late reply would be taken for the answer to another command"
            }
            Failure::Closed | Failure::Lost(_) => "the connection is gone",
            Failure::Garbage | Failure::TooLong => "nobody can tell where the next reply begins",
            Failure::Unsolicited(_) => "replies can no longer be told apart from answers",
            Failure::Unexpected(_) => "client and server no longer agree on what comes next",
            Failure::Content(_) => "the rest of the content is missing, and only closing gives it up",
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Resolve(fault) => write!(f, "name not resolved: {fault}"),
            Failure::Connect(fault) => write!(f, "not connected: {fault}"),
            Failure::Refused(reply) => write!(f, "refused: {reply}"),
            Failure::TlsNotOffered => f.write_str("the server does not offer STARTTLS"),
            Failure::Tls(fault) => fmt::Display::fmt(fault, f),
            Failure::Auth(fault) => fmt::Display::fmt(fault, f),
            Failure::TimedOut { after } => write!(f, "no reply within {after:?}"),
            Failure::StoodStill { after } => write!(f, "nothing moved on any session within {after:?}"),
            Failure::Closed => f.write_str("closed by the server"),
            Failure::Lost(fault) => write!(f, "connection lost: {fault}"),
            Failure::Garbage => f.write_str("the server sent what is no reply"),
            Failure::TooLong => f.write_str("the server's reply is too long"),
            Failure::Unsolicited(None) => f.write_str("the server spoke unasked"),
            Failure::Unsolicited(Some(reply)) => write!(f, "the server spoke unasked: {reply}"),
            Failure::Unexpected(code) => write!(f, "the server answered out of turn: {code}"),
            Failure::Content(error) => fmt::Display::fmt(error, f),
        }
    }
}
