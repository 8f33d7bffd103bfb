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
//!                                     │  │   ▲  ▲
//!      Chunk ◀──────── BDAT ──────────┘  │   │  └── 334, 235, 535 ──▶ Answer
//!      │   └── octets read, its reply ───┼──▶│
//!      │                              DATA   └── final reply ── Finishing
//!      │                                 ▼                        ▲  ▲
//!      │                              Content ───────── dot ──────┘  │
//!      └── octets of the last one read ──────────────────────────────┘
//! ```
//!
//! In LMTP, `Finishing` gives one final reply after another, one for each recipient.

mod auth;
mod chunks;
mod content;
mod envelope;
mod misdeeds;
mod tls;

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_native_tls::TlsAcceptor;
use memchr::memchr;
use memchr::memmem::Finder;

use self::chunks::Chunk;
use super::auth::{Exchange, Login, Offer};
use super::builder::Builder;
use super::content::Unstuffer;
use super::draft::Draft;
use super::extension::{Announcement, Extension};
use super::fault::{Faults, Step};
use super::ledger::{Counts, Ledger};
use super::maildir::Maildir;
use super::reply;
use super::syntax::{Verb, is_domain};

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
    pub(super) announcements: Vec<Announcement>,
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
    /// The octets of a `BDAT` are read, or its reply is due.
    Chunk,
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
    /// Whether the client said `EHLO` or `LHLO`, and so knows what is announced.
    extended: bool,
    /// An AUTH that is under way.
    exchange: Option<Box<Exchange>>,
    /// As whom the client has logged in.
    login: Option<Rc<Login>>,
    /// The mail that `MAIL` has begun.
    draft: Option<Draft>,
    unstuffer: Unstuffer,
    /// The `BDAT` that is under way.
    chunk: Chunk,
    /// Transactions that were begun.
    mails: usize,
    /// Whether faults in the middle of this content had their turn.
    content_begun: bool,
    /// More input is at hand behind what is obeyed now.
    followed: bool,
    /// A content or a chunk has ended in the input of this read.
    behind_content: bool,
    /// What else was read is to be lost.
    loses_input: bool,
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
            chunk: Chunk::default(),
            mails: 0,
            content_begun: false,
            followed: false,
            behind_content: false,
            loses_input: false,
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
                Phase::Chunk => self.read_chunk(rest, out),
                Phase::Finishing => (0, self.finish(!rest.is_empty(), out)),
            };
            rest = rest.get(used..).unwrap_or_default();
            if mem::take(&mut self.loses_input) {
                rest = &[];
            }
            if let Some(next) = next {
                break next;
            }
        };
        // What comes next was not read together with this.
        self.behind_content &= next != Next::Read;
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

    /// Carries out one line, given without its CRLF; `more` says whether others follow already.
    fn obey(&mut self, line: &[u8], more: bool, out: &mut Vec<u8>) -> Option<Next> {
        let (verb, arguments) = Verb::parse(line);
        if self.turned_away && verb != Some(Verb::Quit) {
            return self.mistake(out, reply::TURNED_AWAY);
        }
        // Octets may follow a BDAT at once; everything else waits for a reply.
        self.followed = more;
        if self.forbids_pipelining() && (self.behind_content || more && verb != Some(Verb::Bdat)) {
            self.mistake(out, reply::NO_PIPELINING);
            return Some(Next::Close);
        }
        let bare = arguments.is_empty();
        match verb {
            Some(Verb::Rcpt) => self.rcpt(arguments, out),
            Some(Verb::Mail) => self.mail(arguments, out),
            Some(Verb::Data) if bare => self.act(Step::Data, None, out, Self::data),
            Some(Verb::Bdat) if self.announces(Extension::Chunking) => self.bdat(arguments, out),
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
            Some(Verb::Lhlo) if self.shared.settings.lmtp => self.hello(Step::Ehlo, arguments, out),
            Some(Verb::Ehlo) if !self.shared.settings.lmtp => self.hello(Step::Ehlo, arguments, out),
            Some(Verb::Helo) if !self.shared.settings.lmtp => self.hello(Step::Helo, arguments, out),
            Some(Verb::Noop) => self.act(Step::Noop, None, out, |_, out| {
                out.extend_from_slice(reply::OK);
                None
            }),
            Some(Verb::Vrfy) => self.look_up(Step::Vrfy, bare, out),
            Some(Verb::Expn) if self.announces(Extension::Expn) => self.look_up(Step::Expn, bare, out),
            Some(Verb::Etrn) if self.announces(Extension::Etrn) => self.etrn(arguments, out),
            Some(Verb::Help) => {
                out.extend_from_slice(reply::HELP);
                None
            }
            Some(Verb::Auth) => self.auth(line, arguments, out),
            Some(Verb::Bdat | Verb::Expn | Verb::Etrn) => self.mistake(out, reply::NOT_IMPLEMENTED),
            Some(Verb::Ehlo | Verb::Helo | Verb::Lhlo) | None => self.mistake(out, reply::UNKNOWN_COMMAND),
        }
    }

    fn hello(&mut self, step: Step, name: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let name = std::str::from_utf8(name).ok().filter(|name| name.is_ascii() && is_domain(name));
        let Some(name) = name else {
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

    /// Whether the client may use this extension now.
    fn announces(&self, extension: Extension) -> bool {
        self.extended
            && self.shared.settings.offered.has(extension)
            && (self.tls || extension != Extension::RequireTls)
    }

    /// Whether a client has to wait for each reply.
    fn forbids_pipelining(&self) -> bool {
        self.shared.settings.strict_pipelining && !self.announces(Extension::Pipelining)
    }

    /// What `EHLO` announces now.
    fn extensions(&self) -> impl Iterator<Item = &str> {
        let announced =
            self.shared.announcements.iter().filter(|announcement| {
                announcement.extension.is_none_or(|extension| self.announces(extension))
            });
        let lines = announced.map(|announcement| announcement.line.as_str());
        lines.chain(self.offers_tls().then_some("STARTTLS")).chain(self.auth_announced())
    }

    /// Obeys `VRFY` and `EXPN`.
    fn look_up(&mut self, step: Step, bare: bool, out: &mut Vec<u8>) -> Option<Next> {
        if bare {
            return self.mistake(out, reply::ARGUMENT_MISSING);
        }
        self.act(step, None, out, |_, out| {
            out.extend_from_slice(reply::CANNOT_VERIFY);
            None
        })
    }

    /// Obeys `ETRN` with a domain, also one of RFC 1985 §5.3 that begins with `@` or `#`.
    fn etrn(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let node = std::str::from_utf8(arguments).ok();
        let node = node.map(|node| node.strip_prefix(['@', '#']).unwrap_or(node));
        if !node.is_some_and(|node| node.is_ascii() && is_domain(node)) {
            return self.mistake(out, reply::BAD_QUEUE);
        }
        self.act(Step::Etrn, None, out, |this, out| {
            if this.draft.is_some() {
                return this.mistake(out, reply::NESTED_MAIL);
            }
            out.extend_from_slice(reply::NOTHING_QUEUED);
            None
        })
    }

    fn rset(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        self.draft = None;
        self.seen.resets += 1;
        out.extend_from_slice(reply::OK);
        None
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
