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
//! A *flight* is what one step sends and the queue of replies that the server
//! owes for it. The flight is over when all are answered, or at a [`Failure`],
//! after which the connection can only be closed.

mod flight;
mod job;
mod login;
mod opening;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::zeroize::{Zeroize, Zeroizing};

use crate::auth::AuthFault;
use crate::command::Command;
use crate::content::{Content, ContentError, ContentStream, Filled};
use crate::envelope::{Domain, ForwardPath, ReversePath};
use crate::extensions::Extensions;
use crate::failure::Failure;
use crate::reply::{self, Found, Reply, ReplyCode, ReplyReader};
use crate::security::Security;
use crate::timeouts::{Timeouts, after};
pub use flight::{Answer, Step};
use flight::{Answered, Owed, is_challenge, is_pass};
pub use job::Job;
use login::Login;

/// Octets that `Session::fill` puts together for one write.
pub const FLIGHT_BUFFER: usize = 64 * 1024;

/// Room for commands and replies that a resting session keeps.
const KEPT: usize = 512;

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
    has_tls: bool,
    hello: Option<Domain>,
    extensions: Extensions,
    /// The authentication under way, or the one that ended last.
    login: Option<Box<Login>>,
    is_authenticated: bool,
    /// Encoded commands of this flight, and how many octets `fill` took of them.
    /// They may be secret.
    commands: Zeroizing<Vec<u8>>,
    commands_taken: usize,
    /// The opened content of the transaction; it is sent when `sending` is set.
    stream: Option<ContentStream>,
    sending: bool,
    /// Octets produced, and handed to the connection, since the connection opened.
    produced: u64,
    written: u64,
    flight_start: u64,
    owed: VecDeque<Owed>,
    answers: VecDeque<Answered>,
    /// Text of the answers, in order, and then of a reply that is not complete.
    text: Vec<u8>,
    text_judged: usize,
    reader: ReplyReader,
    failure: Option<Failure>,
    /// What was being done when the session failed.
    failed_at: Step,
    /// The server has said that it will close, or the content was cut short.
    spent: bool,
    began: Option<Instant>,
    deadline: Option<Instant>,
}

impl Session {
    /// A session without a connection.
    pub fn new(timeouts: Arc<Timeouts>) -> Session {
        Session {
            stage: Stage::Closed,
            transaction: Transaction::None,
            timeouts,
            security: Security::None,
            has_tls: false,
            hello: None,
            extensions: Extensions::default(),
            login: None,
            is_authenticated: false,
            commands: Zeroizing::default(),
            commands_taken: 0,
            stream: None,
            sending: false,
            produced: 0,
            written: 0,
            flight_start: 0,
            owed: VecDeque::new(),
            answers: VecDeque::new(),
            text: Vec::new(),
            text_judged: 0,
            reader: ReplyReader::default(),
            failure: None,
            failed_at: Step::Idle,
            spent: false,
            began: None,
            deadline: None,
        }
    }

    // ---- flights ----------------------------------------------------------

    /// Sends MAIL.
    pub fn mail(&mut self, from: &ReversePath, now: Instant) {
        self.begin(Command::mail(from), Step::Mail, 0, now);
        self.transaction = Transaction::Begun;
    }

    /// Sends RCPT for the mail's recipient number `recipient`.
    pub fn rcpt(&mut self, to: &ForwardPath, recipient: u32, now: Instant) {
        self.begin(Command::rcpt(to), Step::Rcpt, recipient, now);
    }

    /// Opens the content, and when that succeeds sends DATA. The content is
    /// read by the flight that follows, if the server says 354.
    pub fn data(&mut self, content: &Content, now: Instant) -> Result<(), ContentError> {
        self.stream = Some(content.open()?);
        self.begin(Command::Data, Step::Data, 0, now);
        Ok(())
    }

    /// Sends the content that `data` opened.
    pub fn content(&mut self, now: Instant) {
        assert!(self.transaction == Transaction::Content, "content without a 354 for it");
        self.flight(now);
        self.sending = true;
        self.owe(Step::Content, 0);
        if let Some(owed) = self.owed.back_mut() {
            owed.ends_at = None;
        }
    }

    /// Sends RSET, which gives up a transaction before its content.
    pub fn reset(&mut self, now: Instant) {
        self.begin(Command::Rset, Step::Rset, 0, now);
    }

    /// Sends QUIT; whatever the answer, the session is good for nothing else.
    pub fn quit(&mut self, now: Instant) {
        self.begin(Command::Quit, Step::Quit, 0, now);
        self.stage = Stage::Leaving;
    }

    /// Forgets the connection and all that was learnt on it.
    pub fn close(&mut self) {
        self.forget_login();
        let timeouts = Arc::clone(&self.timeouts);
        let (mut commands, mut text) = (std::mem::take(&mut self.commands), std::mem::take(&mut self.text));
        let (mut owed, mut answers) = (std::mem::take(&mut self.owed), std::mem::take(&mut self.answers));
        commands.clear();
        text.clear();
        owed.clear();
        answers.clear();
        let security = self.security;
        *self = Session { security, commands, text, owed, answers, ..Session::new(timeouts) };
    }

    // ---- octets -----------------------------------------------------------

    /// Whether `fill` has something to give, now or when a job is done.
    pub fn wants_write(&self) -> bool {
        let has_some = self.commands_taken < self.commands.len() || self.sending || self.wants_auth_job();
        self.failure.is_none() && has_some
    }

    /// Appends what is to be sent next to `out`, up to about
    /// [`FLIGHT_BUFFER`] octets in all. Nothing is appended when all has been
    /// given, or when a job has to be done first (see [`Session::take_job`]).
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        if self.failure.is_some() {
            return;
        }
        let before = out.len();
        out.extend_from_slice(self.commands.get(self.commands_taken..).unwrap_or_default());
        self.commands_taken = self.commands.len();
        if self.is_authenticating() {
            self.commands.zeroize();
            self.commands_taken = 0;
        }
        let filled = match &mut self.stream {
            Some(stream) if self.sending => stream.fill(out, FLIGHT_BUFFER),
            _ => Ok(Filled::ToLimit),
        };
        if let Err(error) = filled {
            out.truncate(before);
            return self.fail(Failure::Content(error));
        }
        self.produced += (out.len() - before) as u64;
        if filled == Ok(Filled::ToEnd) {
            self.sending = false;
            self.stream = None;
            if let Some(owed) = self.owed.back_mut() {
                owed.ends_at = Some(self.produced);
            }
        }
    }

    /// `count` octets of what `fill` gave were handed to the connection.
    pub fn wrote(&mut self, count: usize, now: Instant) {
        let was_begun = self.has_flight_begun();
        self.written += count as u64;
        assert!(self.written <= self.produced, "more was written than produced");
        // The server's time begins when it is asked, however long ago that was
        // decided: callbacks of others may have run since.
        let goes_on = !was_begun || self.awaited() == Step::Content;
        if count > 0 && goes_on && self.failure.is_none() {
            self.deadline = Some(after(now, self.current_timeout()));
        }
    }

    /// Whether octets that `fill` gave have not been written.
    pub fn has_unwritten(&self) -> bool {
        self.written < self.produced
    }

    /// What has to be done before `fill` can go on; run it where blocking is
    /// allowed, and give it back.
    pub fn take_job(&mut self) -> Option<Job> {
        if self.failure.is_some() {
            return None;
        }
        if let Some(job) = self.take_auth_job() {
            return Some(Job::Auth(job));
        }
        let stream = self.stream.as_mut().filter(|_| self.sending)?;
        stream.take_read_job().map(Job::Read)
    }

    /// Gives back what [`Session::take_job`] gave, after it has run.
    pub fn return_job(&mut self, job: Job, now: Instant) {
        match job {
            Job::Auth(job) => self.return_auth_job(job, now),
            Job::Read(job) => {
                if let Some(stream) = &mut self.stream {
                    stream.return_read_job(job);
                }
            }
        }
    }

    /// The server sent `bytes`.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        let mut rest = bytes;
        while !rest.is_empty() && self.failure.is_none() && !self.spent {
            let Some(owed) = self.owed.front().copied() else { return self.unsolicited(rest) };
            if self.written == self.flight_start && owed.step != Step::Greeting {
                return self.unsolicited(rest);
            }
            let fed = self.reader.feed(rest);
            let (taken, left) = rest.split_at_checked(fed.consumed).unwrap_or((rest, &[]));
            self.text.extend_from_slice(taken);
            rest = left;
            match fed.found {
                _ if self.text.len() > reply::MAX_REPLY => self.fail(Failure::TooLong),
                Found::Partial => {}
                Found::Reply(code) => {
                    self.withhold_secrets(code);
                    self.answered(owed, code, now);
                }
                Found::Garbage => self.fail(Failure::Garbage),
                Found::TooLong => self.fail(Failure::TooLong),
            }
        }
    }

    /// The connection ended, broke, or could not be written to.
    pub fn lost(&mut self, failure: Failure) {
        self.fail(failure);
    }

    /// Fails the session when its deadline has passed.
    pub fn check_deadline(&mut self, now: Instant) {
        if self.is_over() || self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let waits = self.stream.as_ref().is_some_and(ContentStream::is_waiting);
        let own_fault = self.sending && waits && !self.has_unwritten();
        let after = self.current_timeout();
        self.fail(if own_fault {
            Failure::Content(ContentError::Stalled)
        } else if self.wants_auth_job() {
            Failure::Auth(AuthFault::Stalled)
        } else {
            Failure::TimedOut { after }
        });
    }

    // ---- state ------------------------------------------------------------

    /// Whether nothing is awaited any more: all replies owed are there, or
    /// the session has failed.
    pub fn is_over(&self) -> bool {
        self.owed.is_empty() || self.failure.is_some() || self.spent
    }

    /// Whether the session can carry out a command.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready && self.failure.is_none() && !self.spent && self.owed.is_empty()
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

    /// Whether the last octet of a content was handed to the connection and the
    /// server has not answered it.
    pub fn is_in_doubt(&self) -> bool {
        let out = |owed: &Owed| owed.ends_at.is_some_and(|end| end <= self.written);
        self.owed.iter().any(|owed| owed.step == Step::Content && out(owed))
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

    /// The recipient that the reply being waited for is about, at RCPT.
    pub fn recipient(&self) -> Option<u32> {
        self.owed.front().filter(|owed| owed.step == Step::Rcpt).map(|owed| owed.recipient)
    }

    /// Whether there is a reply that has not been judged.
    pub fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The first reply that has not been judged.
    pub fn answer(&self) -> Option<Answer<'_>> {
        let answered = self.answers.front()?;
        let raw = self.text.get(self.text_judged..answered.text_end).unwrap_or_default();
        let reply = reply::view(answered.code, raw);
        Some(Answer { step: answered.owed.step, recipient: answered.owed.recipient, reply })
    }

    /// The time from the beginning of the flight until that reply was read.
    pub fn answer_took(&self) -> Duration {
        let (Some(answered), Some(began)) = (self.answers.front(), self.began) else { return Duration::ZERO };
        answered.at.saturating_duration_since(began)
    }

    /// The first reply has been judged.
    pub fn answer_judged(&mut self) {
        if let Some(answered) = self.answers.pop_front() {
            self.text_judged = answered.text_end;
        }
    }

    /// Why the connection can't be used further.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// When the current flight began.
    pub fn began(&self) -> Option<Instant> {
        self.began
    }

    /// When waiting ends; `None` while nothing is waited for.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_over() { None } else { self.deadline }
    }

    /// What the server offers.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    // ---- inside -----------------------------------------------------------

    fn begin(&mut self, command: Command<'_>, step: Step, recipient: u32, now: Instant) {
        assert!(self.stage == Stage::Ready && self.is_over(), "{step} while {:?}", self.stage);
        self.flight(now);
        self.ask(command, step, recipient);
    }

    fn flight(&mut self, now: Instant) {
        self.forget_login();
        self.commands.clear();
        self.commands_taken = 0;
        self.text.clear();
        self.text_judged = 0;
        self.answers.clear();
        self.commands.shrink_to(KEPT);
        self.text.shrink_to(KEPT);
        self.flight_start = self.written;
        self.began = Some(now);
    }

    /// Puts a command into the flight.
    fn ask(&mut self, command: Command<'_>, step: Step, recipient: u32) {
        command.encode(&mut self.commands);
        self.owe(step, recipient);
    }

    fn owe(&mut self, step: Step, recipient: u32) {
        let unproduced = self.commands.len().saturating_sub(self.commands_taken) as u64;
        self.owed.push_back(Owed { step, recipient, ends_at: Some(self.produced + unproduced) });
        self.deadline = self.began.map(|began| after(began, self.current_timeout()));
    }

    fn is_all_written(&self) -> bool {
        !self.sending && !self.has_unwritten()
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
            Step::Content if self.is_all_written() => timeouts.final_reply,
            Step::Content => timeouts.content,
            Step::Rset => timeouts.rset,
            Step::Quit | Step::Idle => timeouts.quit,
        }
    }

    fn awaited(&self) -> Step {
        self.owed.front().map_or(Step::Idle, |owed| owed.step)
    }

    fn fail(&mut self, failure: Failure) {
        // Behind the last reply, the step that it answered is still the one.
        let answered = self.answers.back().map(|answered| answered.owed.step);
        let step = if self.owed.is_empty() { answered.unwrap_or(Step::Idle) } else { self.awaited() };
        self.fail_at(step, failure);
    }

    fn fail_at(&mut self, step: Step, failure: Failure) {
        if self.failure.is_none() {
            self.failed_at = step;
            self.failure = Some(self.auth_failure(failure));
            self.stream = None;
        }
    }

    fn unsolicited(&mut self, bytes: &[u8]) {
        let shown = Reply::parse_first(bytes).filter(|_| !self.is_concealed(bytes));
        self.fail(Failure::Unsolicited(shown.map(|reply| reply.to_owned())));
    }

    fn answered(&mut self, owed: Owed, code: ReplyCode, now: Instant) {
        let refused = code.is_transient() || code.is_permanent();
        if owed.ends_at.is_none_or(|end| end > self.written) {
            // A refusal in the middle of the content is believed; nothing more
            // of it is sent, so the connection is of no further use.
            let believed = owed.step == Step::Content && refused;
            if !believed {
                return self.fail(Failure::Unexpected(code));
            }
            self.spent = true;
            self.sending = false;
        }
        if !refused && !is_pass(owed.step, code) && !is_challenge(owed.step, code) {
            return self.fail(Failure::Unexpected(code));
        }
        self.owed.pop_front();
        self.spent |= code.is_closing();
        match owed.step {
            Step::Greeting => return self.greeted(code, now),
            Step::Ehlo | Step::Helo => return self.introduced(owed.step, code, now),
            Step::StartTls => return self.upgrade_answered(code, now),
            Step::Auth if !self.auth_answered(code, now) => return,
            Step::Rset if !refused => self.transaction = Transaction::None,
            Step::Data if !refused => self.transaction = Transaction::Content,
            Step::Data => self.stream = None,
            Step::Content if !self.spent || code.is_closing() => self.transaction = Transaction::None,
            _ => {}
        }
        self.answers.push_back(Answered { owed, code, text_end: self.text.len(), at: now });
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
