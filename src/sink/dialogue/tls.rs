//! The part of the dialogue that leads to TLS (RFC 3207).
//!
//! Nothing that came in the clear may have an effect under TLS: not what the client said of itself,
//! and not what it sent behind `STARTTLS`.

use async_native_tls::TlsAcceptor;

use super::{Dialogue, Next, Phase, Shared};
use crate::sink::fault::Step;
use crate::sink::ledger::Counts;
use crate::sink::reply;
use crate::sink::tls::TlsStart;

impl Shared {
    fn tls_start(&self) -> Option<TlsStart> {
        self.settings.tls.as_ref().map(|tls| tls.start)
    }

    /// Whether TLS comes before the greeting.
    pub(in crate::sink) fn is_tls_at_once(&self) -> bool {
        self.tls_start() == Some(TlsStart::AtOnce)
    }

    /// Whether TLS comes behind `STARTTLS`.
    pub(super) fn is_tls_on_demand(&self) -> bool {
        self.tls_start() == Some(TlsStart::WhenAsked)
    }
}

impl Dialogue {
    /// What makes TLS of the connection after [`Next::Handshake`].
    pub(in crate::sink) fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.shared.acceptor.as_ref()
    }

    /// Notes how a handshake ended. Behind one that was completed, the dialogue begins anew.
    pub(in crate::sink) fn note_handshake(&mut self, done: bool) {
        let seen =
            Counts { tls_handshakes: u32::from(done), tls_failures: u32::from(!done), ..Counts::default() };
        self.shared.ledger.add(&seen);
        self.tls = done;
        self.phase = if self.shared.is_tls_at_once() { Phase::Greeting } else { Phase::Command };
        self.helo.clear();
        self.extended = false;
        self.draft = None;
        self.login = None;
    }

    /// Whether `STARTTLS` is announced now.
    pub(super) fn offers_tls(&self) -> bool {
        !self.tls && self.shared.is_tls_on_demand()
    }

    /// Whether the client has to come under TLS first.
    pub(super) fn lacks_tls(&self) -> bool {
        !self.tls && self.shared.settings.require_tls
    }

    /// Obeys `STARTTLS`; `more` says whether something was sent behind it.
    pub(super) fn start_tls(&mut self, more: bool, out: &mut Vec<u8>) -> Option<Next> {
        self.act(Step::StartTls, None, out, |this, out| {
            if this.tls {
                return this.mistake(out, reply::TLS_ALREADY);
            }
            if !this.extended {
                return this.mistake(out, reply::EHLO_FIRST);
            }
            if this.draft.is_some() {
                return this.mistake(out, reply::NESTED_MAIL);
            }
            if more {
                this.mistake(out, reply::BEHIND_STARTTLS);
                return Some(Next::Close);
            }
            this.phase = Phase::Handshake;
            out.extend_from_slice(reply::READY_FOR_TLS);
            Some(Next::Write)
        })
    }

    /// Has the handshake made, or whatever a fault makes of it.
    pub(super) fn await_handshake(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        let next = self.act(Step::Tls, None, out, |_, _| Some(Next::Handshake));
        // A refusal has no more to say: what comes now is no command.
        next.or(Some(Next::Close))
    }
}
