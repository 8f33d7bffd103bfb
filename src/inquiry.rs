//! What a caller may ask a server besides sending mail. Plain values.
//!
//! TURN and ATRN are not among them: after them client and server change places,
//! and this is no server (RFC 5321 App. F.1 says why TURN must not be used; RFC
//! 2645 has ATRN for it).

use crate::command::{Argument, Command};
use crate::session::Step;

/// A question to a server: see [`Mailer::ask`](crate::Mailer::ask).
///
/// ```
/// use smtp_bulk::Inquiry;
/// use smtp_bulk::command::Argument;
///
/// let inquiry = Inquiry::Vrfy(Argument::new("smith")?);
/// # let _ = inquiry;
/// # Ok::<(), smtp_bulk::command::ArgumentError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Inquiry {
    /// NOOP: whether the server is there (RFC 5321 §4.1.1.9).
    Noop,
    /// RSET: the same, understood by every server (RFC 5321 §4.1.1.5).
    Rset,
    /// HELP, perhaps about something (RFC 5321 §4.1.1.8).
    Help(Option<Argument>),
    /// VRFY: whether there is such a user (RFC 5321 §4.1.1.6). Many servers answer
    /// 252 to everything.
    Vrfy(Argument),
    /// EXPN: who is on a mailing list (RFC 5321 §4.1.1.7).
    Expn(Argument),
    /// ETRN: the server is to send what it has queued for this host (RFC 1985).
    Etrn(Argument),
}

impl Inquiry {
    /// The step that its reply, or the lack of one, is about.
    pub fn step(&self) -> Step {
        match self {
            Inquiry::Noop => Step::Noop,
            Inquiry::Rset => Step::Rset,
            Inquiry::Help(_) => Step::Help,
            Inquiry::Vrfy(_) => Step::Vrfy,
            Inquiry::Expn(_) => Step::Expn,
            Inquiry::Etrn(_) => Step::Etrn,
        }
    }

    /// Whether its argument is beyond ASCII.
    pub(crate) fn needs_utf8(&self) -> bool {
        match self {
            Inquiry::Help(Some(argument))
            | Inquiry::Vrfy(argument)
            | Inquiry::Expn(argument)
            | Inquiry::Etrn(argument) => !argument.is_ascii(),
            Inquiry::Noop | Inquiry::Rset | Inquiry::Help(None) => false,
        }
    }

    /// Whether there is a form of it for such an argument (RFC 6531 §3.7.4.2).
    pub(crate) fn may_be_utf8(&self) -> bool {
        matches!(self, Inquiry::Vrfy(_) | Inquiry::Expn(_))
    }

    /// Whether it has no place within a transaction.
    pub(crate) fn ends_transactions(&self) -> bool {
        matches!(self, Inquiry::Etrn(_))
    }

    pub(crate) fn command(&self) -> Command<'_> {
        match self {
            Inquiry::Noop => Command::Noop,
            Inquiry::Rset => Command::Rset,
            Inquiry::Help(about) => Command::Help(about.as_ref()),
            Inquiry::Vrfy(user) => Command::Vrfy(user),
            Inquiry::Expn(list) => Command::Expn(list),
            Inquiry::Etrn(host) => Command::Etrn(host),
        }
    }
}
