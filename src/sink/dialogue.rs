//! The server's side of one connection, without input or output: bytes go in, replies come out.
//!
//! It works off whatever it is given, one command or many, and leaves its replies in a buffer that
//! goes out in one write once the input is used up. It must never wait, read a clock, or hold more
//! input than it is given: an unfinished line stays with the caller, who brings it back with more.
//!
//! ```text
//! (implicit TLS) ─▶ Handshake ◀── STARTTLS ──┐
//!                     │    └─────────────┐   │
//!                     ▼                  ▼   │
//! (in the clear) ─▶ Greeting ─────────▶ Command ◀─── SkippingLine ◀── line too long
//!                                        │   ▲  ▲
//!                                        │   │  └── 334, 235, 535 ──▶ Answer
//!                                     DATA   └── final reply ── Finishing
//!                                        ▼                          ▲
//!                                     Content ───────── dot ────────┘
//! ```

mod auth;
mod tls;

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_native_tls::TlsAcceptor;
use memchr::memchr;
use memchr::memmem::Finder;

use super::auth::{Exchange, Login, Offer};
use super::builder::Builder;
use super::content::Unstuffer;
use super::draft::{Draft, Origin, Spoilt};
use super::fault::{Faults, Misdeed, Step};
use super::ledger::{Counts, Ledger};
use super::maildir::Maildir;
use super::reply;
use super::syntax::{PathError, Verb, is_domain, is_mailbox, path};

/// The longest command line that is read, CRLF included. RFC 5321 §4.5.3.1.4 asks for 512 at least,
/// and extensions raise it.
pub(super) const MAX_COMMAND_LINE: usize = 2048;

/// Replies are written out when there are this many bytes of them, although there is more input.
const ENOUGH_REPLIES: usize = 16 * 1024;

/// What all connections of a server have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Builder,
    pub(super) faults: RefCell<Faults>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) maildir: Option<Maildir>,
    pub(super) finder: Finder<'static>,
    /// Makes TLS of any connection, if there is to be any.
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) offer: Offer,
}

/// What the connection has to do next; always after writing the replies out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Bring more input.
    Read,
    /// Come back with the same input.
    Write,
    /// Wait so long, and come back with the same input.
    Pause(Duration),
    /// Drop all input, shake hands for TLS, and come back with none.
    Handshake,
    /// Read on until the peer goes, and say nothing.
    Hang,
    /// Close, giving the peer time to read what was written.
    Close,
    /// Close at once.
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Greeting,
    Command,
    SkippingLine,
    /// A 334 waits for its answer.
    Answer,
    Content,
    Finishing,
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Dialogue {
    shared: Rc<Shared>,
    connection: u64,
    phase: Phase,
    tls: bool,
    /// The client's name; empty before `EHLO` and `HELO`.
    helo: String,
    /// Whether the client said `EHLO`, and so knows what is announced.
    extended: bool,
    /// An AUTH that is under way.
    exchange: Option<Box<Exchange>>,
    /// As whom the client has logged in.
    login: Option<Rc<Login>>,
    /// The mail that `MAIL` has begun.
    draft: Option<Draft>,
    unstuffer: Unstuffer,
    /// Whether faults in the middle of this content had their turn.
    content_begun: bool,
    /// The greeting was a refusal, so that only `QUIT` is left (RFC 5321 §3.1).
    turned_away: bool,
    /// Where to go on among the faults of this step, after one that was only a delay.
    faults_from: usize,
    /// What the ledger has not been told yet.
    seen: Counts,
}

impl Dialogue {
    pub(super) fn new(shared: Rc<Shared>, connection: u64) -> Self {
        let phase = if shared.is_tls_at_once() { Phase::Handshake } else { Phase::Greeting };
        Self {
            shared,
            connection,
            phase,
            tls: false,
            helo: String::new(),
            extended: false,
            exchange: None,
            login: None,
            draft: None,
            unstuffer: Unstuffer::new(),
            content_begun: false,
            turned_away: false,
            faults_from: 0,
            seen: Counts::default(),
        }
    }

    /// Whether a reply may be put in here: not in the middle of content, where none is due.
    pub(super) fn is_between_commands(&self) -> bool {
        matches!(self.phase, Phase::Command | Phase::SkippingLine | Phase::Answer)
    }

    /// Works off `input`, adding replies to `out`. Returns how many bytes were used, and what to do
    /// next. [`Next::Read`] leaves no more unused than the longest line has.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Next) {
        let mut rest = input;
        let next = loop {
            if out.len() >= ENOUGH_REPLIES {
                break Next::Write;
            }
            let (used, next) = match self.phase {
                Phase::Handshake => (0, self.await_handshake(out)),
                Phase::Greeting => (0, self.greet(out)),
                Phase::Command | Phase::Answer => self.read_line(rest, out),
                Phase::SkippingLine => self.skip_line(rest, out),
                Phase::Content => self.read_content(rest, out),
                Phase::Finishing => (0, self.finish(out)),
            };
            rest = rest.get(used..).unwrap_or_default();
            if let Some(next) = next {
                break next;
            }
        };
        if self.seen != Counts::default() {
            self.shared.ledger.add(&mem::take(&mut self.seen));
        }
        (input.len().saturating_sub(rest.len()), next)
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        self.act(Step::Greeting, None, out, |this, out| {
            this.phase = Phase::Command;
            reply::push(out, 220, &this.shared.settings.greeting_text());
            None
        })
    }

    fn read_line(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Next>) {
        let Some(end) = memchr(b'\n', input) else {
            if input.len() < MAX_COMMAND_LINE || input.len() < self.longest_line(input) {
                return (0, Some(Next::Read));
            }
            self.end_exchange();
            self.phase = Phase::SkippingLine;
            return (input.len(), None);
        };
        let used = end.saturating_add(1);
        if used > MAX_COMMAND_LINE && used > self.longest_line(input) {
            self.end_exchange();
            self.mistake(out, reply::LINE_TOO_LONG);
            return (used, None);
        }
        let line = input.get(..end).unwrap_or_default();
        let next = match line.strip_suffix(b"\r") {
            Some(line) if memchr::memchr2(b'\r', 0, line).is_none() => match self.phase {
                Phase::Answer => self.hear_answer(line, out),
                _ => self.obey(line, used < input.len(), out),
            },
            // Never obeyed: a command behind a bare LF is how mail is smuggled.
            _ => {
                self.end_exchange();
                self.mistake(out, reply::BAD_LINE_END)
            }
        };
        match next {
            Some(Next::Pause(_)) => (0, next),
            _ => (used, next),
        }
    }

    fn skip_line(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Next>) {
        let Some(end) = memchr(b'\n', input) else {
            return (input.len(), Some(Next::Read));
        };
        self.phase = Phase::Command;
        self.mistake(out, reply::LINE_TOO_LONG);
        (end.saturating_add(1), None)
    }

    fn read_content(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Next>) {
        if input.is_empty() {
            return (0, Some(Next::Read));
        }
        if !self.content_begun {
            let next = self.act(Step::Content, None, out, |_, _| None);
            if matches!(next, Some(Next::Pause(_))) {
                return (0, next);
            }
            self.content_begun = true;
            if next.is_some() {
                return (0, next);
            }
        }
        let max_size = self.shared.settings.max_message_size;
        let draft = self.draft.get_or_insert_default();
        let (used, ended) = self.unstuffer.take(&self.shared.finder, input, |piece| {
            draft.take(piece, max_size);
        });
        if ended {
            self.phase = Phase::Finishing;
        }
        (used, None)
    }

    /// Answers the final dot.
    fn finish(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        let spoilt = self.draft.as_ref().and_then(Draft::spoilt);
        if spoilt == Some(Spoilt::Answered) {
            self.end_transaction();
            return None;
        }
        self.act(Step::Dot, None, out, |this, out| {
            this.store(out);
            None
        })
    }

    fn store(&mut self, out: &mut Vec<u8>) {
        let draft = self.draft.take().unwrap_or_default();
        self.end_transaction();
        let (recipients, size) = (draft.recipients() as u64, draft.size());
        let login = self.login.as_deref();
        let origin = Origin { connection: self.connection, tls: self.tls, login, helo: &self.helo };
        match draft.finish(&origin) {
            Ok(mail) => {
                mail.into_iter().for_each(|mail| self.shared.ledger.store(mail));
                self.seen.mails += 1;
                self.seen.recipients += recipients;
                self.seen.bytes += size;
                out.extend_from_slice(reply::STORED);
            }
            Err(spoilt) => self.refuse(out, reply::not_stored(spoilt)),
        }
    }

    fn end_transaction(&mut self) {
        self.draft = None;
        self.phase = Phase::Command;
    }

    /// Carries out one line, given without its CRLF; `more` says whether others follow already.
    fn obey(&mut self, line: &[u8], more: bool, out: &mut Vec<u8>) -> Option<Next> {
        let (verb, arguments) = Verb::parse(line);
        if self.turned_away && verb != Some(Verb::Quit) {
            return self.mistake(out, reply::TURNED_AWAY);
        }
        let bare = arguments.is_empty();
        match verb {
            Some(Verb::Rcpt) => self.rcpt(arguments, out),
            Some(Verb::Mail) => self.mail(arguments, out),
            Some(Verb::Data) if bare => self.act(Step::Data, None, out, Self::data),
            Some(Verb::Rset) if bare => self.act(Step::Rset, None, out, Self::rset),
            Some(Verb::Quit) if bare => self.act(Step::Quit, None, out, |_, out| {
                out.extend_from_slice(reply::BYE);
                Some(Next::Close)
            }),
            Some(Verb::StartTls) if !self.shared.is_tls_on_demand() => {
                self.mistake(out, reply::NOT_IMPLEMENTED)
            }
            Some(Verb::StartTls) if bare => self.start_tls(more, out),
            Some(Verb::Data | Verb::Rset | Verb::Quit | Verb::StartTls) => {
                self.mistake(out, reply::NO_ARGUMENTS)
            }
            Some(Verb::Ehlo) => self.hello(Step::Ehlo, arguments, out),
            Some(Verb::Helo) => self.hello(Step::Helo, arguments, out),
            Some(Verb::Noop) => self.act(Step::Noop, None, out, |_, out| {
                out.extend_from_slice(reply::OK);
                None
            }),
            Some(Verb::Vrfy) if bare => self.mistake(out, reply::ARGUMENT_MISSING),
            Some(Verb::Vrfy) => self.act(Step::Vrfy, None, out, |_, out| {
                out.extend_from_slice(reply::CANNOT_VERIFY);
                None
            }),
            Some(Verb::Help) => {
                out.extend_from_slice(reply::HELP);
                None
            }
            Some(Verb::Auth) => self.auth(line, arguments, out),
            Some(Verb::Known) => self.mistake(out, reply::NOT_IMPLEMENTED),
            None => self.mistake(out, reply::UNKNOWN_COMMAND),
        }
    }

    fn hello(&mut self, step: Step, name: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_domain(name)) else {
            return self.mistake(out, reply::BAD_NAME);
        };
        self.act(step, None, out, |this, out| {
            this.draft = None;
            name.clone_into(&mut this.helo);
            this.extended = step == Step::Ehlo;
            let hostname = &this.shared.settings.hostname;
            if this.extended {
                reply::push_lines(out, 250, hostname, this.extensions());
            } else {
                reply::push(out, 250, hostname);
            }
            None
        })
    }

    /// What `EHLO` announces now.
    fn extensions(&self) -> impl Iterator<Item = &str> {
        let always = reply::EXTENSIONS.iter().copied();
        always.chain(self.offers_tls().then_some("STARTTLS")).chain(self.auth_announced())
    }

    fn mail(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let (address, parameters) = match path(arguments, "FROM:") {
            Ok((address, _)) if !address.is_empty() && !is_mailbox(address) => {
                return self.mistake(out, reply::BAD_SENDER);
            }
            Ok(parts) => parts,
            Err(PathError::Syntax) => return self.mistake(out, reply::BAD_SENDER),
            Err(PathError::NotAscii) => return self.mistake(out, reply::NOT_ASCII),
        };
        if !parameters.is_empty() && !self.knows_parameter(parameters) {
            return self.mistake(out, reply::UNKNOWN_PARAMETER);
        }
        self.act(Step::Mail, Some(address), out, |this, out| {
            if this.helo.is_empty() {
                return this.mistake(out, reply::HELLO_FIRST);
            }
            if this.lacks_tls() {
                return this.mistake(out, reply::TLS_REQUIRED);
            }
            if this.lacks_login() {
                return this.mistake(out, reply::AUTH_REQUIRED);
            }
            if this.draft.is_some() {
                return this.mistake(out, reply::NESTED_MAIL);
            }
            this.draft = Some(Draft::new(address, this.shared.ledger.keeps()));
            out.extend_from_slice(reply::SENDER_OK);
            None
        })
    }

    fn rcpt(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let (address, parameters) = match path(arguments, "TO:") {
            Ok(parts) if is_mailbox(parts.0) || parts.0.eq_ignore_ascii_case("postmaster") => parts,
            Ok(_) | Err(PathError::Syntax) => return self.mistake(out, reply::BAD_RECIPIENT),
            Err(PathError::NotAscii) => return self.mistake(out, reply::NOT_ASCII),
        };
        if !parameters.is_empty() {
            return self.mistake(out, reply::UNKNOWN_PARAMETER);
        }
        if let Some(draft) = &mut self.draft {
            draft.addressed = true;
        }
        self.act(Step::Rcpt, Some(address), out, |this, out| {
            let most = this.shared.settings.max_recipients;
            match &mut this.draft {
                None => return this.mistake(out, reply::MAIL_FIRST),
                Some(draft) if draft.recipients() >= most => {
                    this.refuse(out, reply::TOO_MANY_RECIPIENTS);
                }
                Some(draft) => {
                    draft.add_recipient(address);
                    out.extend_from_slice(reply::RECIPIENT_OK);
                }
            }
            None
        })
    }

    fn data(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        let begun = match &mut self.draft {
            None => return self.mistake(out, reply::MAIL_FIRST),
            Some(draft) if !draft.addressed => return self.mistake(out, reply::RCPT_FIRST),
            Some(draft) if draft.recipients() == 0 => {
                self.refuse(out, reply::NO_RECIPIENTS);
                return None;
            }
            Some(draft) => draft.begin(self.shared.maildir.as_ref()),
        };
        if let Err(spoilt) = begun {
            self.refuse(out, reply::not_stored(spoilt));
            return None;
        }
        self.unstuffer = Unstuffer::new();
        self.content_begun = !self.shared.faults.borrow().waits_at(Step::Content);
        self.phase = Phase::Content;
        out.extend_from_slice(reply::GO_AHEAD);
        None
    }

    fn rset(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        self.draft = None;
        self.seen.resets += 1;
        out.extend_from_slice(reply::OK);
        None
    }

    /// Does `behave`, unless a fault of this step fires, which then has its way.
    fn act(
        &mut self,
        step: Step,
        address: Option<&str>,
        out: &mut Vec<u8>,
        behave: impl FnOnce(&mut Self, &mut Vec<u8>) -> Option<Next>,
    ) -> Option<Next> {
        let from = mem::take(&mut self.faults_from);
        let fired = self.shared.faults.borrow_mut().roll(step, address, from);
        let Some((index, misdeed)) = fired else {
            return behave(self, out);
        };
        self.seen.faults += 1;
        match misdeed {
            Misdeed::Delay(time) => {
                self.faults_from = index.saturating_add(1);
                Some(Next::Pause(time))
            }
            Misdeed::Refuse(code, text) => {
                reply::push(out, code, &text);
                self.undo(step, code);
                None
            }
            Misdeed::Close421 => {
                out.extend_from_slice(reply::CLOSING);
                self.undo(step, 421);
                Some(Next::Close)
            }
            Misdeed::Garbage(_) | Misdeed::LongReply(_) if step == Step::Tls => {
                let mark = out.len();
                reply::disfigure(out, mark, &misdeed);
                Some(Next::Hang)
            }
            misdeed => {
                let mark = out.len();
                let next = behave(self, out);
                reply::disfigure(out, mark, &misdeed).or(next)
            }
        }
    }

    /// Sees to it that a refused step has no effect.
    fn undo(&mut self, step: Step, code: u16) {
        self.seen.refused += u64::from(code >= 400);
        match (step, &mut self.draft) {
            (Step::Greeting, _) => {
                self.turned_away = true;
                self.phase = Phase::Command;
            }
            (Step::Dot, _) => self.end_transaction(),
            (Step::Challenge, _) => self.end_exchange(),
            (Step::Content, Some(draft)) => draft.spoil(Spoilt::Answered),
            _ => {}
        }
    }

    fn refuse(&mut self, out: &mut Vec<u8>, reply: &[u8]) {
        self.seen.refused += 1;
        out.extend_from_slice(reply);
    }

    fn mistake(&mut self, out: &mut Vec<u8>, reply: &[u8]) -> Option<Next> {
        self.seen.protocol_errors += 1;
        out.extend_from_slice(reply);
        None
    }
}
