//! What a flight consists of: steps, the replies owed for them, and the
//! answers that have come; and the one way to put a flight together.

use std::fmt;
use std::time::Instant;

use super::replies::Piece;
use super::{Session, Stage, Transaction};
use crate::command::{Command, MailLine, RcptLine};
use crate::content::{Content, ContentError, ContentStream, Framing};
use crate::extensions::Extension;
use crate::inquiry::Inquiry;
use crate::parameters::Body;
use crate::reply::{Reply, ReplyCode};

/// Most replies that one flight of commands may owe: what a session keeps of
/// them is bounded so, and what waits unread in the sockets between client and
/// server.
pub const MOST_OWED: usize = 256;

/// Most octets of commands in one flight.
pub const MOST_COMMANDS: usize = 16 * 1024;

/// What a flight has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Replies that may be owed.
    pub(crate) replies: usize,
    /// Octets of commands.
    pub(crate) octets: usize,
}

impl Room {
    /// All of a flight.
    pub(crate) const ALL: Room = Room { replies: MOST_OWED, octets: MOST_COMMANDS };
}

/// What is being done, and so what a reply, a failure or a timeout is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Resolving the name and connecting.
    Connect,
    /// Waiting for the server's 220.
    Greeting,
    /// EHLO, or LHLO.
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
    /// The content, by DATA or BDAT, and its final reply.
    Content,
    /// RSET.
    Rset,
    /// NOOP: a question of the caller's, or a sign of life of a session that rests.
    Noop,
    /// HELP.
    Help,
    /// VRFY.
    Vrfy,
    /// EXPN.
    Expn,
    /// ETRN.
    Etrn,
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
            Step::Noop => "NOOP",
            Step::Help => "HELP",
            Step::Vrfy => "VRFY",
            Step::Expn => "EXPN",
            Step::Etrn => "ETRN",
            Step::Quit => "QUIT",
            Step::Idle => "idle",
        })
    }
}

/// Which of a lane's mails something in a flight is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MailTag(pub u32);

/// A reply and what it answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was asked.
    pub step: Step,
    /// The mail that it was asked for.
    pub mail: MailTag,
    /// The position of the recipient that a reply to RCPT is about, and in LMTP
    /// the one to the content (RFC 2033 §4.2).
    pub recipient: u32,
    /// Whether the content that it is about was sent by BDAT.
    pub is_chunk: bool,
    /// Whether it is for one recipient's content alone (LMTP).
    pub is_of_many: bool,
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

/// A flight that is being put together. What it may consist of is what RFC 2920
/// §3.1 lets be sent together: DATA and QUIT come last in it, and a content that
/// a 354 was read for comes first.
///
/// ```
/// use smtp_bulk::command::{MailLine, RcptLine};
/// use smtp_bulk::session::{MailTag, Session};
/// use smtp_bulk::{Content, Timeouts};
/// use std::{sync::Arc, time::Instant};
///
/// let now = Instant::now();
/// let mut session = Session::new(Arc::new(Timeouts::default()));
/// session.open("client.example".parse().unwrap(), now);
/// session.receive(b"220 mx.example\r\n", now);
/// # let mut out = Vec::new();
/// # session.fill(&mut out);
/// # session.wrote(out.len(), now);
/// session.receive(b"250-mx.example\r\n250 PIPELINING\r\n", now);
///
/// let mut flight = session.flight(now);
/// flight.for_mail(MailTag(7));
/// flight.mail(MailLine::new(&"ann@example.org".parse().unwrap()));
/// flight.rcpt(RcptLine::new(&"bob@example.net".parse().unwrap()), 0);
/// flight.data(&Content::from("hello"))?;
///
/// let mut out = Vec::new();
/// session.fill(&mut out);
/// assert_eq!(out, b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n");
/// # Ok::<(), smtp_bulk::ContentError>(())
/// ```
#[derive(Debug)]
pub struct Flight<'a> {
    session: &'a mut Session,
    mail: MailTag,
}

impl Session {
    /// Begins a flight. All of it is put together before the session is asked
    /// for octets.
    ///
    /// # Panics
    /// When the session is not ready.
    pub fn flight(&mut self, now: Instant) -> Flight<'_> {
        assert!(self.stage == Stage::Ready && self.is_over(), "a flight while {:?}", self.stage);
        self.begin_flight(now);
        Flight { session: self, mail: MailTag::default() }
    }
}

impl Flight<'_> {
    /// The session that it is for.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// What is asked from now on is asked for this mail.
    pub fn for_mail(&mut self, mail: MailTag) {
        self.mail = mail;
    }

    /// Whether so much is asked already that the rest belongs into a flight of
    /// its own: see [`MOST_OWED`] and [`MOST_COMMANDS`].
    pub fn is_full(&self) -> bool {
        self.session.replies.owed().len() >= MOST_OWED || self.session.commands.len() >= MOST_COMMANDS
    }

    /// What more may be asked in it.
    pub(crate) fn room(&self) -> Room {
        Room {
            replies: MOST_OWED.saturating_sub(self.session.replies.owed().len()),
            octets: MOST_COMMANDS.saturating_sub(self.session.commands.len()),
        }
    }

    /// Gives up a transaction before its content (RFC 5321 §4.1.1.5).
    pub fn reset(&mut self) {
        self.ask(Command::Rset, Step::Rset, 0);
    }

    /// Begins a transaction.
    pub fn mail(&mut self, line: MailLine<'_>) {
        self.ask(Command::Mail(line), Step::Mail, 0);
    }

    /// Names the mail's recipient number `recipient`.
    pub fn rcpt(&mut self, line: RcptLine<'_>, recipient: u32) {
        self.ask(Command::Rcpt(line), Step::Rcpt, recipient);
    }

    /// Opens the content, and when that succeeds asks to send it. It is sent by
    /// a later flight, if the server says 354.
    ///
    /// # Errors
    /// When the content cannot be opened; nothing is asked then.
    pub fn data(&mut self, content: &Content) -> Result<(), ContentError> {
        self.data_for(content.open(Framing::Dotted)?);
        Ok(())
    }

    /// Asks to send what has been opened.
    pub(crate) fn data_for(&mut self, stream: ContentStream) {
        self.session.opened = Some(stream);
        self.ask(Command::Data, Step::Data, 0);
    }

    /// Sends the content that was opened for the DATA which was answered by 354.
    ///
    /// # Panics
    /// When there is none, or something stands before it in the flight.
    pub fn content(&mut self) {
        let is_first =
            self.session.replies.are_all_there() && self.session.transaction == Transaction::Content;
        assert!(is_first, "content without a 354 for it");
        let stream = self.session.opened.take();
        self.session.send(stream, self.mail, Piece::Whole, false);
    }

    /// Sends an empty content: the answer to a 354 that was given although no
    /// recipient was accepted (RFC 2920 §3.1).
    ///
    /// # Panics
    /// As [`Flight::content`].
    pub fn lone_dot(&mut self) {
        self.session.opened = Content::from("").open(Framing::Dotted).ok();
        self.content();
    }

    /// Opens the content, and when that succeeds sends it by BDAT, for which the
    /// server has to offer CHUNKING: what is in memory in one chunk, and of what is
    /// read as it is sent one for each piece of up to [`FLIGHT_BUFFER`](super::FLIGHT_BUFFER) octets (RFC
    /// 3030 §2). The pieces wait for each other's replies, unless the server offers
    /// PIPELINING (§4.2). A content whose [kind](Content::body_kind) is `BinaryMime`
    /// is sent as it is.
    ///
    /// ```
    /// # use smtp_bulk::command::{MailLine, RcptLine};
    /// # use smtp_bulk::session::Session;
    /// # use smtp_bulk::{Content, Timeouts};
    /// # use std::{sync::Arc, time::Instant};
    /// # let now = Instant::now();
    /// # let mut session = Session::new(Arc::new(Timeouts::default()));
    /// # session.open("client.example".parse().unwrap(), now);
    /// # session.receive(b"220 mx.example\r\n", now);
    /// # let mut out = Vec::new();
    /// # session.fill(&mut out);
    /// # session.wrote(out.len(), now);
    /// # session.receive(b"250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n", now);
    /// # out.clear();
    /// let mut flight = session.flight(now);
    /// flight.mail(MailLine::new(&"ann@example.org".parse().unwrap()));
    /// flight.rcpt(RcptLine::new(&"bob@example.net".parse().unwrap()), 0);
    /// flight.bdat(&Content::from("hello\n"))?;
    ///
    /// session.fill(&mut out);
    /// assert!(out.ends_with(b"RCPT TO:<bob@example.net>\r\nBDAT 7 LAST\r\nhello\r\n"));
    /// # Ok::<(), smtp_bulk::ContentError>(())
    /// ```
    ///
    /// # Errors
    /// When the content cannot be opened; nothing is asked then.
    pub fn bdat(&mut self, content: &Content) -> Result<(), ContentError> {
        let is_binary = content.body_kind() == Some(Body::BinaryMime);
        let framing = if is_binary { Framing::Raw } else { Framing::Chunked };
        let ahead = self.session.extensions.offers(Extension::Pipelining);
        self.chunks(content.open(framing)?, ahead);
        Ok(())
    }

    /// Sends the content that was opened, in one chunk or more (RFC 3030 §2): a
    /// chunk waits for the reply to the one before, unless the server takes them
    /// `ahead` of it (RFC 3030 §4.2).
    pub(crate) fn chunks(&mut self, stream: ContentStream, ahead: bool) {
        self.session.send(Some(stream), self.mail, Piece::LastChunk, ahead);
    }

    /// Asks something of the caller's, outside of any transaction.
    pub fn inquire(&mut self, inquiry: &Inquiry) {
        self.ask(inquiry.command(), inquiry.step(), 0);
    }

    /// Lets the server know that the session is wanted on (RFC 5321 §4.1.1.9).
    pub fn noop(&mut self) {
        self.ask(Command::Noop, Step::Noop, 0);
    }

    /// Ends the session; whatever the answer, it is good for nothing else.
    pub fn quit(&mut self) {
        self.ask(Command::Quit, Step::Quit, 0);
        self.session.stage = Stage::Leaving;
    }

    fn ask(&mut self, command: Command<'_>, step: Step, recipient: u32) {
        self.session.ask(command, step, self.mail, recipient);
    }
}
