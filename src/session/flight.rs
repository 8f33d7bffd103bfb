//! What a flight consists of: steps, the replies owed for them, and the
//! answers that have come. Plain values.

use std::fmt;
use std::time::Instant;

use crate::reply::{Reply, ReplyCode};

/// What is being done, and so what a reply, a failure or a timeout is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Resolving the name and connecting.
    Connect,
    /// Waiting for the server's 220.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO, after EHLO was refused.
    Helo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH, from the command to its final reply.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The content and its final reply.
    Content,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
    /// Nothing: the session rests.
    Idle,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "connect",
            Step::Greeting => "greeting",
            Step::Ehlo => "EHLO",
            Step::Helo => "HELO",
            Step::StartTls => "STARTTLS",
            Step::Tls => "TLS",
            Step::Auth => "AUTH",
            Step::Mail => "MAIL",
            Step::Rcpt => "RCPT",
            Step::Data => "DATA",
            Step::Content => "content",
            Step::Rset => "RSET",
            Step::Quit => "QUIT",
            Step::Idle => "idle",
        })
    }
}

/// A reply that the server owes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    pub(super) step: Step,
    /// Which recipient of the mail it is about; 0 where it is about none.
    pub(super) recipient: u32,
    /// Where in the stream of sent octets the thing asked ends; `None` while
    /// that is not known.
    pub(super) ends_at: Option<u64>,
}

/// A reply that has come and was not judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) owed: Owed,
    pub(super) code: ReplyCode,
    /// Where its text ends in the session's buffer.
    pub(super) text_end: usize,
    pub(super) at: Instant,
}

/// A reply and what it answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was asked.
    pub step: Step,
    /// The position of the recipient that a reply to RCPT is about.
    pub recipient: u32,
    /// What the server said.
    pub reply: Reply<'a>,
}

impl Answer<'_> {
    /// Whether it is the reply that the step hopes for: 354 for DATA, 235 for
    /// AUTH (RFC 4954 §6), any 2yz for all else.
    pub fn is_pass(&self) -> bool {
        is_pass(self.step, self.reply.code())
    }
}

/// Whether the reply is the one that the step hopes for.
pub(super) fn is_pass(step: Step, code: ReplyCode) -> bool {
    match step {
        Step::Data => code.as_u16() == 354,
        Step::Auth => code.as_u16() == 235,
        _ => code.is_completion(),
    }
}

/// Whether the reply asks for more of an authentication.
pub(super) fn is_challenge(step: Step, code: ReplyCode) -> bool {
    step == Step::Auth && code.as_u16() == 334
}
