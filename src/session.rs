//! One connection's side of SMTP, without any input or output of its own.
//! Bytes come in by `receive`, go out by `fill`, and time is an argument. It
//! never decides what becomes of a mail, and it never sends a byte that the
//! server's last reply has not made right to send.
//!
//! ```text
//!  Closed ── open ──▶ WaitingForGreeting ── 220 ──▶ WaitingForEhlo ── 250 ──▶ Ready
//!    │                  ▲                            ▲  │   │ 5yz             ▲
//!    │ TLS comes first  │ secured            secured │  │   ▼                 │
//!    └──────────▶ WaitingForTls ─────────────────────┘  │  WaitingForHelo ─ 250 ─┤
//!                       ▲                               │ offered, wanted        │
//!                       └──── 220 ── WaitingForStartTls ◀┘                       ▼
//!      Closed ◀── close ── Leaving ◀── quit ── Ready ⇄ flight: AUTH, MAIL, RCPT, DATA, content, RSET
//! ```
//!
//! A *flight* is what one step sends, one command or as many as the server lets
//! the client send together, and the queue of replies that it owes for them. The
//! flight is over when all are answered, or at a [`Failure`], after which the
//! connection can only be closed.

mod flight;
mod job;
mod login;
mod opening;
mod receiving;
mod replies;
mod sending;
mod watched;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::zeroize::Zeroizing;

use crate::auth::AuthFault;
use crate::content::{ContentError, ContentStream};
use crate::envelope::Domain;
use crate::extensions::Extensions;
use crate::failure::Failure;
pub use crate::outgoing::{Outgoing, Slices};
use crate::reply::{self, ReplyReader};
use crate::security::Security;
use crate::timeouts::{Timeouts, after};
pub(crate) use flight::Room;
pub use flight::{Answer, Flight, MOST_COMMANDS, MOST_OWED, MailTag, Step};
pub use job::Job;
use login::Login;
use replies::{Owed, Piece, Replies};
use sending::Part;

/// Octets that `Session::fill` puts together for one write.
pub const FLIGHT_BUFFER: usize = 64 * 1024;

/// Room for commands and replies that a resting session keeps, and what it keeps
/// for each further reply of its last flight, so that one flight like the other
/// needs no memory of its own.
const KEPT: usize = 512;
const KEPT_PER_REPLY: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Closed,
    WaitingForGreeting,
    WaitingForEhlo,
    WaitingForHelo,
    WaitingForStartTls,
    WaitingForTls,
    Ready,
    Leaving,
}

/// How far the server is in a mail transaction, and so how to give it up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transaction {
    None,
    /// MAIL was sent: RSET gives it up.
    Begun,
    /// 354 was read: only closing gives it up until the content is answered.
    Content,
}

/// The protocol state of one connection.
///
/// ```
/// use smtp_bulk::session::{Session, Step};
/// use smtp_bulk::{Content, Timeouts};
/// use std::{sync::Arc, time::Instant};
///
/// let now = Instant::now();
/// let mut session = Session::new(Arc::new(Timeouts::default()));
/// session.open("client.example".parse().unwrap(), now);
/// session.receive(b"220 mx.example\r\n", now);
/// let mut out = Vec::new();
/// session.fill(&mut out);
/// assert_eq!(out, b"EHLO client.example\r\n");
/// session.wrote(out.len(), now);
/// session.receive(b"250 mx.example\r\n", now);
/// assert!(session.is_ready());
/// ```
pub struct Session {
    stage: Stage,
    transaction: Transaction,
    timeouts: Arc<Timeouts>,
    security: Security,
    is_lmtp: bool,
    has_tls: bool,
    hello: Option<Domain>,
    extensions: Extensions,
    /// The authentication under way, or the one that ended last.
    login: Option<Box<Login>>,
    is_authenticated: bool,
    /// What is to be sent, in order.
    parts: VecDeque<Part>,
    /// Encoded commands of this flight, and how many octets `fill` took of them.
    /// They may be secret.
    commands: Zeroizing<Vec<u8>>,
    commands_taken: usize,
    /// The content that DATA was said for, and which its 354 lets be sent.
    opened: Option<ContentStream>,
    /// The mail of which a chunk was refused in this flight.
    spoilt: Option<MailTag>,
    /// A content that could not be sent to its end, and whose.
    broken: Option<(ContentError, MailTag)>,
    /// Octets produced, and handed to the connection, since the connection opened.
    produced: u64,
    written: u64,
    flight_start: u64,
    replies: Replies,
    /// In LMTP, the recipients that were accepted in this transaction.
    accepted: Vec<u32>,
    /// Text of the replies that have come, in order, and then of one that is not
    /// complete.
    text: Vec<u8>,
    text_judged: usize,
    reader: ReplyReader,
    /// The reply that is read has begun before all was written that it would answer.
    has_begun_early: bool,
    failure: Option<Failure>,
    /// What was being done, and for which mail, when the session failed.
    failed_at: Step,
    failed_mail: MailTag,
    /// There was a reply too many, and none of this flight's is an answer.
    is_out_of_step: bool,
    /// More than one reply was owed for the flight before.
    was_pipelined: bool,
    /// A chunk was refused in this flight, of a mail whose MAIL was not.
    has_refused_chunk: bool,
    /// The same of the flight before.
    had_refused_chunk: bool,
    /// The server has said that it will close, or the content was cut short.
    spent: bool,
    /// The connection is not to be used further when this flight is over.
    is_worn: bool,
    began: Option<Instant>,
    /// When the server was heard last.
    heard: Option<Instant>,
    /// Since when the server has had time for the awaited reply.
    waiting_since: Option<Instant>,
    /// When octets were moved last, or a failure was noticed; `None` when nobody said.
    moved_at: Option<Instant>,
}

impl Session {
    /// A session without a connection.
    pub fn new(timeouts: Arc<Timeouts>) -> Session {
        Session {
            stage: Stage::Closed,
            transaction: Transaction::None,
            timeouts,
            security: Security::None,
            is_lmtp: false,
            has_tls: false,
            hello: None,
            extensions: Extensions::default(),
            login: None,
            is_authenticated: false,
            parts: VecDeque::new(),
            commands: Zeroizing::default(),
            commands_taken: 0,
            opened: None,
            spoilt: None,
            broken: None,
            produced: 0,
            written: 0,
            flight_start: 0,
            replies: Replies::default(),
            accepted: Vec::new(),
            text: Vec::new(),
            text_judged: 0,
            reader: ReplyReader::default(),
            has_begun_early: false,
            failure: None,
            failed_at: Step::Idle,
            failed_mail: MailTag::default(),
            is_out_of_step: false,
            was_pipelined: false,
            has_refused_chunk: false,
            had_refused_chunk: false,
            spent: false,
            is_worn: false,
            began: None,
            heard: None,
            waiting_since: None,
            moved_at: None,
        }
    }

    /// Forgets the connection and all that was learnt on it.
    pub fn close(&mut self) {
        self.forget_login();
        let timeouts = Arc::clone(&self.timeouts);
        let take = std::mem::take::<Vec<u8>>;
        let (mut commands, mut text) = (std::mem::take(&mut self.commands), take(&mut self.text));
        let mut accepted = std::mem::take(&mut self.accepted);
        let (mut parts, mut replies) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.replies));
        commands.clear();
        text.clear();
        accepted.clear();
        parts.clear();
        replies.restart();
        let (security, is_lmtp) = (self.security, self.is_lmtp);
        let fresh = Session::new(timeouts);
        *self = Session { security, is_lmtp, commands, text, accepted, parts, replies, ..fresh };
    }

    /// The connection ended, broke, or could not be written to.
    pub fn lost(&mut self, failure: Failure) {
        self.moved_at = self.moved_at.filter(|_| self.failure.is_some());
        self.fail(failure);
    }

    /// Fails the session when its deadline has passed.
    pub fn check_deadline(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let after = self.current_timeout();
        self.fail(if self.is_source_awaited() {
            Failure::Content(ContentError::Stalled)
        } else if self.wants_auth_job() {
            Failure::Auth(AuthFault::Stalled)
        } else {
            Failure::TimedOut { after }
        });
        self.moved_at = Some(now);
    }

    // ---- state ------------------------------------------------------------

    /// Whether nothing is awaited any more: all replies owed are there, or
    /// the session has failed.
    pub fn is_over(&self) -> bool {
        self.replies.are_all_there() || self.failure.is_some() || self.spent
    }

    /// Whether the session can carry out a command.
    pub fn is_ready(&self) -> bool {
        let is_fit = self.failure.is_none() && !self.spent && !self.is_worn;
        self.stage == Stage::Ready && is_fit && self.replies.are_all_there()
    }

    /// Whether the transaction can be ended, and the session go on, without a
    /// new connection.
    pub fn is_usable(&self) -> bool {
        self.is_ready() && self.transaction != Transaction::Content
    }

    /// Whether RSET has to come before the next MAIL.
    pub fn needs_reset(&self) -> bool {
        self.transaction == Transaction::Begun
    }

    /// Whether the transaction stands at a 354: the next octets are a content.
    pub fn is_at_content(&self) -> bool {
        self.is_ready() && self.transaction == Transaction::Content
    }

    /// Whether the last octet of a content was handed to the connection and the
    /// server has not answered it. What it says that it will not answer any more
    /// (421, RFC 5321 §3.8) counts as answered.
    pub fn has_doubt(&self) -> bool {
        self.replies.owed().any(|owed| self.is_doubtful(owed))
    }

    /// The same for one mail.
    pub fn is_in_doubt(&self, mail: MailTag) -> bool {
        self.replies.owed().any(|owed| owed.mail == mail && self.is_doubtful(owed))
    }

    fn is_doubtful(&self, owed: &Owed) -> bool {
        // Of a content that it has begun to answer, a server that closes has said
        // nothing for the others.
        let may_be_done = !self.spent || owed.is_of_many;
        owed.is_last_of_content() && may_be_done && owed.ends_at <= self.written
    }

    /// Whether nothing of what this flight has for the mail was handed to the
    /// connection.
    pub(crate) fn is_unsaid(&self, mail: MailTag) -> bool {
        let first = self.replies.owed().find(|owed| owed.mail == mail);
        first.is_some_and(|owed| owed.ends_at.saturating_sub(u64::from(owed.octets)) >= self.written)
    }

    /// Whether any reply to the current flight has come.
    pub(crate) fn has_been_answered(&self) -> bool {
        self.replies.owed().len() < self.replies.asked() as usize
    }

    /// Whether more than one reply is owed for the current flight, or was.
    pub fn is_pipelined(&self) -> bool {
        self.replies.asked() > 1
    }

    /// Whether a reply came that nobody asked for, where several were owed: none
    /// of those that came in this flight is taken for an answer.
    pub fn is_out_of_step(&self) -> bool {
        self.is_out_of_step
    }

    /// Whether in this flight a content stands ahead of the first reply that has not
    /// been judged, and not one whose MAIL was refused with it.
    pub(crate) fn is_behind_content(&self) -> bool {
        let mut has_begun = true;
        self.replies.judged().any(|(owed, said)| {
            has_begun = if owed.step == Step::Mail { said.code.is_completion() } else { has_begun };
            has_begun && owed.is_last_of_content()
        })
    }

    /// Whether it failed with nothing under way since a flight for which more than one
    /// reply was owed.
    pub(crate) fn has_failed_behind_pipelined(&self) -> bool {
        if self.has_flight_begun() {
            self.failed_at == Step::Idle && self.is_pipelined()
        } else {
            self.was_pipelined
        }
    }

    /// Whether QUIT was sent.
    pub fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// Octets handed to the connection since the connection opened.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// Whether any octet of the current flight was handed to the connection.
    pub fn has_flight_begun(&self) -> bool {
        self.written > self.flight_start
    }

    /// Whether the next octet that is written is its flight's first.
    pub fn is_about_to_write(&self) -> bool {
        !self.has_flight_begun() && (self.wants_write() || self.has_unwritten())
    }

    /// What is being waited for, or was when the session failed.
    pub fn step(&self) -> Step {
        if self.failure.is_some() { self.failed_at } else { self.awaited() }
    }

    /// The mail that the reply being waited for, or the failure, is about.
    pub fn mail(&self) -> MailTag {
        if self.failure.is_some() { self.failed_mail } else { self.awaited_mail() }
    }

    /// The recipient that the reply being waited for is about, at RCPT.
    pub fn recipient(&self) -> Option<u32> {
        self.replies.awaited().filter(|owed| owed.step == Step::Rcpt).map(|owed| owed.recipient)
    }

    /// Whether there is a reply that has not been judged.
    pub fn has_answer(&self) -> bool {
        self.replies.first_come().is_some()
    }

    /// The first reply that has not been judged.
    pub fn answer(&self) -> Option<Answer<'_>> {
        let (owed, said) = self.replies.first_come()?;
        let raw = self.text.get(self.text_judged..said.text_end as usize).unwrap_or_default();
        let reply = reply::view(said.code, raw);
        let &Owed { step, mail, recipient, piece, is_of_many, .. } = owed;
        Some(Answer { step, mail, recipient, is_chunk: piece != Piece::Whole, is_of_many, reply })
    }

    /// Whether behind the first reply that has not been judged another one of its
    /// mail has come, or is owed.
    pub(crate) fn has_more_for_mail(&self) -> bool {
        let Some((first, _)) = self.replies.first_come() else { return false };
        self.replies.second().is_some_and(|second| second.mail == first.mail)
    }

    /// The time from the beginning of the flight until that reply was read.
    pub fn answer_took(&self) -> Duration {
        self.replies.first_come().map_or(Duration::ZERO, |(_, said)| said.took)
    }

    /// The first reply has been judged.
    pub fn answer_judged(&mut self) {
        if let Some(text_end) = self.replies.first_judged() {
            self.text_judged = text_end as usize;
        }
    }

    /// Whether behind the first reply that has not been judged one to another
    /// RCPT of its mail has come, or is owed.
    pub(crate) fn asks_more_recipients(&self) -> bool {
        self.has_more_for_mail() && self.replies.second().is_some_and(|owed| owed.step == Step::Rcpt)
    }

    /// Why the connection can't be used further.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// When the current flight began.
    pub fn began(&self) -> Option<Instant> {
        self.began
    }

    /// When the server was heard last on this connection.
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard
    }

    /// When waiting ends; `None` while nothing is waited for.
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.waiting_since.filter(|_| !self.is_over())?;
        Some(after(since, self.current_timeout()))
    }

    /// Whether the server waits for a content, or for the rest of one.
    pub(crate) fn is_in_content(&self) -> bool {
        self.transaction == Transaction::Content && self.failure.is_none() && !self.spent
    }

    /// The same, and not all of it is out.
    pub(crate) fn owes_content(&self) -> bool {
        let is_to_be_said = self.wants_write() || self.has_unwritten() || self.replies.are_all_there();
        self.is_in_content() && is_to_be_said
    }

    /// What the server offers.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    // ---- inside -----------------------------------------------------------

    fn begin_flight(&mut self, now: Instant) {
        self.forget_login();
        let kept = KEPT + KEPT_PER_REPLY.saturating_mul((self.replies.asked() as usize).saturating_sub(1));
        let most = (self.replies.asked() as usize).max(4) * 2;
        self.commands.clear();
        self.commands_taken = 0;
        self.text.clear();
        self.text_judged = 0;
        self.parts.clear();
        self.was_pipelined = self.is_pipelined();
        self.had_refused_chunk = std::mem::take(&mut self.has_refused_chunk);
        self.replies.restart();
        self.spoilt = None;
        self.parts.shrink_to(most);
        self.accepted.shrink_to(most);
        self.commands.shrink_to(kept);
        self.text.shrink_to(kept);
        self.flight_start = self.written;
        self.began = Some(now);
    }

    fn current_timeout(&self) -> Duration {
        let timeouts = &self.timeouts;
        match self.awaited() {
            Step::Connect => timeouts.connect,
            Step::Greeting => timeouts.greeting,
            Step::Ehlo | Step::Helo => timeouts.ehlo,
            Step::StartTls | Step::Tls => timeouts.tls,
            Step::Auth => timeouts.auth,
            Step::Mail => timeouts.mail,
            Step::Rcpt => timeouts.rcpt,
            Step::Data => timeouts.data,
            Step::Content if self.is_end_awaited() => timeouts.final_reply,
            Step::Content => timeouts.content,
            Step::Rset | Step::Noop | Step::Help | Step::Vrfy | Step::Expn | Step::Etrn => timeouts.rset,
            Step::Quit | Step::Idle => timeouts.quit,
        }
    }

    /// Whether the content's end is out and its reply is the one that is awaited.
    fn is_end_awaited(&self) -> bool {
        self.is_awaited_out() && self.replies.awaited().is_some_and(|owed| owed.piece != Piece::Chunk)
    }

    fn awaited_mail(&self) -> MailTag {
        self.awaited_or_last().map_or_else(MailTag::default, |owed| owed.mail)
    }

    fn awaited(&self) -> Step {
        self.replies.awaited().map_or(Step::Idle, |owed| owed.step)
    }

    /// Behind the last reply, what that answered is still being done.
    fn awaited_or_last(&self) -> Option<&Owed> {
        self.replies.awaited().or(self.replies.last_come().map(|(owed, _)| owed))
    }

    fn fail(&mut self, failure: Failure) {
        let step = self.awaited_or_last().map_or(Step::Idle, |owed| owed.step);
        self.fail_at(step, failure);
    }

    fn fail_at(&mut self, step: Step, failure: Failure) {
        if self.failure.is_none() {
            self.failed_at = step;
            self.failed_mail = self.awaited_mail();
            self.failure = Some(self.auth_failure(failure));
            self.opened = None;
            self.parts.clear();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("stage", &self.stage)
            .field("transaction", &self.transaction)
            .field("step", &self.step())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
