//! Commands of a client, and the one encoder that writes them. Arguments are
//! checked types, so that no command can carry a line end of its own.

use std::fmt;

use crate::envelope::{Domain, ForwardPath, ReversePath};
use crate::parameters::MAX_RAW;

mod argument;
mod line;

pub use argument::{Argument, ArgumentError, MAX_ARGUMENT};
pub use line::{MailLine, RcptLine};

/// Longest command line in octets, line end included (RFC 5321 §4.5.3.1.4),
/// for all commands without parameters. Only what answers a challenge of AUTH
/// may be longer.
pub const MAX_COMMAND: usize = 512;

/// Longest MAIL: what each extension adds to [`MAX_COMMAND`], the space before
/// a parameter counted. In this order: SIZE (RFC 1870 §3), BODY (RFC 6152 §2),
/// SMTPUTF8 (RFC 6531 §3.1), RET and ENVID (RFC 3461 §4.3, §4.4), BY (RFC 2852
/// §2), MT-PRIORITY (RFC 6710 §3), REQUIRETLS (RFC 8689 §2), HOLDUNTIL (RFC
/// 4865 §3), and the bound of raw ones.
pub const MAX_MAIL: usize = MAX_COMMAND + 26 + 17 + 10 + 9 + 107 + 17 + 15 + 11 + 34 + MAX_RAW;

/// Longest RCPT: NOTIFY and ORCPT (RFC 3461 §4.1, §4.2), and the bound of raw
/// parameters.
pub const MAX_RCPT: usize = MAX_COMMAND + 29 + 507 + MAX_RAW;

/// Longest VRFY and EXPN: SMTPUTF8 is added to them (RFC 6531 §3.1).
pub const MAX_INQUIRY: usize = MAX_COMMAND + 10;

/// A line of an authentication, which shows nothing of itself (RFC 4954 §4).
#[derive(Clone, Copy)]
pub struct AuthLine<'a> {
    mechanism: Option<&'a str>,
    base64: Option<&'a str>,
}

impl<'a> AuthLine<'a> {
    /// AUTH with the name of a mechanism, and perhaps its initial response in
    /// base64.
    pub(crate) fn begin(mechanism: &'a str, initial: Option<&'a str>) -> AuthLine<'a> {
        AuthLine { mechanism: Some(mechanism), base64: initial }
    }

    /// The answer to a challenge in base64, or `*`.
    pub(crate) fn answer(base64: &'a str) -> AuthLine<'a> {
        AuthLine { mechanism: None, base64: Some(base64) }
    }

    fn parts(self) -> [&'a str; 5] {
        let verb = if self.mechanism.is_some() { "AUTH " } else { "" };
        let space = if self.mechanism.and(self.base64).is_some() { " " } else { "" };
        [verb, self.mechanism.unwrap_or_default(), space, self.base64.unwrap_or_default(), "\r\n"]
    }

    /// Octets, line end included.
    pub(crate) fn length(self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

impl fmt::Debug for AuthLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLine").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// A command and its arguments (RFC 5321 §4.1.1).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Names the client and asks for the extensions (§4.1.1.1).
    Ehlo(&'a Domain),
    /// Names the client to a server that refuses EHLO (§4.1.1.1).
    Helo(&'a Domain),
    /// Names the client to a server of LMTP (RFC 2033 §4.1).
    Lhlo(&'a Domain),
    /// Asks for TLS (RFC 3207 §4).
    StartTls,
    /// Begins an authentication, answers a challenge, or gives up.
    Auth(AuthLine<'a>),
    /// Begins a mail transaction (§4.1.1.2).
    Mail(MailLine<'a>),
    /// Names one recipient (§4.1.1.3).
    Rcpt(RcptLine<'a>),
    /// Asks to send the content (§4.1.1.4).
    Data,
    /// Says that a piece of the content follows at once (RFC 3030 §2).
    Bdat {
        /// Octets of the piece.
        size: u64,
        /// Whether the content ends with it.
        last: bool,
    },
    /// Gives up the mail transaction (§4.1.1.5).
    Rset,
    /// Asks for nothing but a reply (§4.1.1.9).
    Noop,
    /// Asks for help, perhaps about something (§4.1.1.8).
    Help(Option<&'a Argument>),
    /// Asks whether there is such a user (§4.1.1.6).
    Vrfy(&'a Argument),
    /// Asks who is on a mailing list (§4.1.1.7).
    Expn(&'a Argument),
    /// Asks the server to send what it has for a host (RFC 1985 §5).
    Etrn(&'a Argument),
    /// Ends the session (§4.1.1.10).
    Quit,
}

impl<'a> Command<'a> {
    /// MAIL without parameters.
    pub fn mail(from: &'a ReversePath) -> Command<'a> {
        Command::Mail(MailLine::new(from))
    }

    /// RCPT without parameters.
    pub fn rcpt(to: &'a ForwardPath) -> Command<'a> {
        Command::Rcpt(RcptLine::new(to))
    }
}

impl Command<'_> {
    /// Appends the command line to `out`; nothing else is allocated.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Command::Ehlo(name) => append(out, ["EHLO ", name.as_str(), "\r\n"]),
            Command::Helo(name) => append(out, ["HELO ", name.as_str(), "\r\n"]),
            Command::Lhlo(name) => append(out, ["LHLO ", name.as_str(), "\r\n"]),
            Command::StartTls => append(out, ["STARTTLS\r\n"]),
            Command::Auth(auth) => {
                // One allocation: none that is left behind holds a secret.
                out.reserve(auth.length());
                append(out, auth.parts());
            }
            Command::Mail(line) => line.encode(out),
            Command::Rcpt(line) => line.encode(out),
            Command::Data => append(out, ["DATA\r\n"]),
            Command::Bdat { size, last } => {
                let end = if *last { " LAST\r\n" } else { "\r\n" };
                append(out, ["BDAT ", itoa::Buffer::new().format(*size), end]);
            }
            Command::Rset => append(out, ["RSET\r\n"]),
            Command::Noop => append(out, ["NOOP\r\n"]),
            Command::Help(None) => append(out, ["HELP\r\n"]),
            Command::Help(Some(argument)) => append(out, ["HELP ", argument.as_str(), "\r\n"]),
            Command::Vrfy(argument) => append(out, ["VRFY ", argument.as_str(), utf8(argument), "\r\n"]),
            Command::Expn(argument) => append(out, ["EXPN ", argument.as_str(), utf8(argument), "\r\n"]),
            Command::Etrn(argument) => append(out, ["ETRN ", argument.as_str(), "\r\n"]),
            Command::Quit => append(out, ["QUIT\r\n"]),
        }
    }
}

fn append<'a>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'a str>) {
    parts.into_iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// What tells a server that an argument is beyond ASCII (RFC 6531 §3.7.4.2).
fn utf8(argument: &Argument) -> &'static str {
    if argument.is_ascii() { "" } else { " SMTPUTF8" }
}

#[cfg(test)]
mod tests;
