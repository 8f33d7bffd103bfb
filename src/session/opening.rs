//! From a new connection to a session that is ready: greeting, EHLO, STARTTLS
//! and what an old or hostile server makes of them. Nothing that was learnt
//! before TLS is believed after it (RFC 3207 §4.2).

use std::time::Instant;

use super::flight::{MailTag, Step};
use super::{Session, Stage};
use crate::command::Command;
use crate::envelope::Domain;
use crate::extensions::{Extension, Extensions};
use crate::failure::Failure;
use crate::reply::{self, Reply, ReplyCode, ReplyReader};
use crate::security::Security;

impl Session {
    /// The same session, protected so on each of its connections.
    pub fn with_security(self, security: Security) -> Session {
        Session { security, ..self }
    }

    /// The same session, speaking LMTP (RFC 2033) instead of SMTP: it says LHLO,
    /// and a content has a reply for each recipient that was accepted.
    pub fn with_lmtp(self, is_lmtp: bool) -> Session {
        Session { is_lmtp, ..self }
    }

    /// A new connection stands: waits for TLS if that comes first, and for the
    /// greeting, then says EHLO as `hello`, and STARTTLS where that is wanted.
    /// The flight is over when the session is ready or has failed.
    pub fn open(&mut self, hello: Domain, now: Instant) {
        self.close();
        self.moved_at = Some(now);
        self.hello = Some(hello);
        if self.security.is_implicit() { self.await_tls(now) } else { self.await_greeting(now) }
    }

    /// Whether the next thing to be done on the connection is a TLS handshake,
    /// and nothing may be read from it or written to it otherwise. Nothing is
    /// awaited of the server before [`Session::securing`].
    pub fn wants_tls(&self) -> bool {
        self.stage == Stage::WaitingForTls && self.failure.is_none()
    }

    /// The handshake begins: the server's time runs from now on, however long the
    /// client had others to shake hands with.
    ///
    /// # Panics
    /// When [`Session::wants_tls`] says no.
    pub fn securing(&mut self, now: Instant) {
        assert!(self.wants_tls(), "TLS unasked");
        self.waiting_since = Some(now);
    }

    /// The handshake is done, and the peer is who it should be.
    ///
    /// # Panics
    /// When [`Session::wants_tls`] says no.
    pub fn secured(&mut self, now: Instant) {
        assert!(self.wants_tls(), "TLS unasked");
        self.moved_at = Some(now);
        self.replies.forget_awaited();
        self.has_tls = true;
        if self.security.is_implicit() {
            return self.await_greeting(now);
        }
        self.extensions = Extensions::default();
        self.reader = ReplyReader::default();
        self.stage = Stage::WaitingForEhlo;
        self.introduce(Step::Ehlo, now);
    }

    /// Whether what is said is protected by TLS.
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    fn await_greeting(&mut self, now: Instant) {
        self.stage = Stage::WaitingForGreeting;
        self.begin_flight(now);
        // The greeting answers the connection itself, which has been made.
        self.owe_unasked(Step::Greeting, true);
    }

    fn await_tls(&mut self, now: Instant) {
        self.stage = Stage::WaitingForTls;
        self.begin_flight(now);
        self.owe_unasked(Step::Tls, true);
        self.waiting_since = None;
    }

    /// A reply to one of the steps of an opening.
    pub(super) fn opening_answered(&mut self, step: Step, code: ReplyCode, now: Instant) {
        match step {
            Step::Greeting => self.greeted(code, now),
            Step::StartTls => self.upgrade_answered(code, now),
            _ => self.introduced(step, code, now),
        }
    }

    fn greeted(&mut self, code: ReplyCode, now: Instant) {
        if !code.is_completion() {
            return self.refused_opening(Step::Greeting);
        }
        self.stage = Stage::WaitingForEhlo;
        self.introduce(Step::Ehlo, now);
    }

    /// What an old server's refusal of EHLO means, and what the offers are
    /// (RFC 5321 §3.2, §4.1.1.1).
    fn introduced(&mut self, step: Step, code: ReplyCode, now: Instant) {
        if code.is_completion() {
            if step == Step::Ehlo {
                self.extensions = Extensions::from_reply(reply::view(code, &self.text));
            }
            self.upgrade(now);
        } else if step == Step::Ehlo && code.is_permanent() && !self.is_lmtp {
            self.stage = Stage::WaitingForHelo;
            self.introduce(Step::Helo, now);
        } else {
            self.refused_opening(step);
        }
    }

    /// Says STARTTLS where it is wanted and offered.
    fn upgrade(&mut self, now: Instant) {
        let is_wanted = self.security.upgrades() && !self.has_tls;
        if is_wanted && self.extensions.offers(Extension::StartTls) {
            self.stage = Stage::WaitingForStartTls;
            self.begin_flight(now);
            self.ask(Command::StartTls, Step::StartTls, MailTag::default(), 0);
        } else if is_wanted && self.security.demands_upgrade() {
            self.fail_at(Step::StartTls, Failure::TlsNotOffered);
        } else {
            self.stage = Stage::Ready;
        }
    }

    /// STARTTLS was answered. What the server said behind its 220 is not read:
    /// it would count as said under TLS (CVE-2021-38371).
    fn upgrade_answered(&mut self, code: ReplyCode, now: Instant) {
        if code.is_completion() {
            self.await_tls(now);
        } else if self.security.demands_upgrade() || code.is_closing() {
            self.refused_opening(Step::StartTls);
        } else {
            self.stage = Stage::Ready;
        }
    }

    fn introduce(&mut self, step: Step, now: Instant) {
        self.begin_flight(now);
        let Some(name) = self.hello.take() else { return };
        let command = match step {
            Step::Helo => Command::Helo(&name),
            _ if self.is_lmtp => Command::Lhlo(&name),
            _ => Command::Ehlo(&name),
        };
        self.ask(command, step, MailTag::default(), 0);
        self.hello = Some(name);
    }

    fn refused_opening(&mut self, step: Step) {
        let reply = Reply::parse(&self.text).map(|reply| reply.to_owned());
        self.fail_at(step, reply.map_or(Failure::Garbage, Failure::Refused));
    }
}
