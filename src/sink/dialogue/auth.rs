//! The part of the dialogue that AUTH (RFC 4954) is: lines and base64 on one side, an
//! [`Exchange`] on the other.
//!
//! What a client says here must never be counted, kept or repeated, other than by the quirk that is
//! there to repeat it.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Dialogue, MAX_COMMAND_LINE, Next, Phase};
use crate::sink::auth::{AuthQuirk, Exchange, Login, Mechanism, Turn};
use crate::sink::fault::Step;
use crate::sink::reply;

/// The longest line of AUTH and of an answer, CRLF included (RFC 4954 §4 raises the limit to 12288
/// octets).
pub(super) const MAX_AUTH_LINE: usize = 12_288 + 2;

impl Dialogue {
    /// How `EHLO` announces AUTH now.
    pub(super) fn auth_announced(&self) -> Option<&str> {
        let offer = &self.shared.offer;
        let hidden = self.offers_tls() && !offer.settings().before_tls;
        offer.announcement().filter(|_| !hidden)
    }

    /// How long the line may be that `input` begins with.
    pub(super) fn longest_line(&self, input: &[u8]) -> usize {
        let is_auth = || input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let offered = self.shared.offer.announcement().is_some();
        if self.phase == Phase::Answer || offered && is_auth() { MAX_AUTH_LINE } else { MAX_COMMAND_LINE }
    }

    /// Whether mail has to wait for AUTH.
    pub(super) fn lacks_login(&self) -> bool {
        self.shared.offer.settings().required && self.login.is_none()
    }

    /// Obeys `AUTH mechanism [initial response]`.
    pub(super) fn auth(&mut self, line: &[u8], arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        if self.shared.offer.announcement().is_none() {
            return self.mistake(out, reply::NOT_IMPLEMENTED);
        }
        let mut words = arguments.split(|&byte| byte == b' ');
        let name = words.next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        let initial = words.next();
        if name.is_empty() || words.next().is_some() {
            return self.mistake(out, reply::BAD_AUTH);
        }
        // A delay brings the same command once more.
        self.seen.auth_attempts += u32::from(self.faults_from == 0);
        self.act(Step::Auth, None, out, |this, out| {
            if let Some(refusal) = this.auth_untimely() {
                return this.mistake(out, refusal);
            }
            let offered = this.shared.offer.has_mechanism(name);
            let Some(mechanism) = Mechanism::parse(name).filter(|_| offered) else {
                return this.mistake(out, reply::UNKNOWN_MECHANISM);
            };
            if mechanism.is_plaintext() && !this.tls && this.shared.offer.settings().refuse_plaintext {
                return this.mistake(out, reply::ENCRYPTION_REQUIRED);
            }
            let said = match initial {
                None => None,
                Some(b"=") => Some(Vec::new()),
                Some(initial) => match STANDARD.decode(initial) {
                    Ok(said) => Some(said),
                    Err(_) => return this.mistake(out, reply::BAD_BASE64),
                },
            };
            this.exchange = Some(Box::new(Exchange::new(mechanism)));
            this.take_turn(line, said.as_deref(), out)
        })
    }

    /// Why AUTH must not be had now.
    fn auth_untimely(&self) -> Option<&'static [u8]> {
        if !self.extended {
            return Some(reply::EHLO_FIRST);
        }
        if self.login.is_some() {
            return Some(reply::AUTHENTICATED_ALREADY);
        }
        if self.draft.is_some() {
            return Some(reply::NESTED_MAIL);
        }
        (self.lacks_tls() || self.auth_announced().is_none()).then_some(reply::TLS_REQUIRED)
    }

    /// Takes the answer to a 334.
    pub(super) fn hear_answer(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        self.act(Step::Challenge, None, out, |this, out| {
            if line == b"*" {
                this.end_exchange();
                this.seen.auth_failures += 1;
                out.extend_from_slice(reply::AUTH_CANCELLED);
                return None;
            }
            let Ok(said) = STANDARD.decode(line) else {
                this.end_exchange();
                return this.mistake(out, reply::BAD_BASE64);
            };
            this.take_turn(line, Some(&said), out)
        })
    }

    /// Gives up an exchange, if there is one.
    pub(super) fn end_exchange(&mut self) {
        self.exchange = None;
        if self.phase == Phase::Answer {
            self.phase = Phase::Command;
        }
    }

    fn take_turn(&mut self, line: &[u8], said: Option<&[u8]>, out: &mut Vec<u8>) -> Option<Next> {
        let Some(exchange) = &mut self.exchange else { return self.mistake(out, reply::BAD_AUTH) };
        let turn = exchange.advance(said, &self.shared.offer);
        let echoes = self.shared.offer.settings().quirk == Some(AuthQuirk::EchoSecrets);
        if let Turn::Challenge(text) = turn {
            self.phase = Phase::Answer;
            reply::push(out, 334, &STANDARD.encode(text));
            return None;
        }
        self.end_exchange();
        match turn {
            Turn::Challenge(_) | Turn::Malformed => self.mistake(out, reply::BAD_ANSWER),
            Turn::Accept(login) if !echoes => self.accept(login, out),
            Turn::Accept(_) | Turn::Reject => {
                self.seen.auth_failures += 1;
                if echoes {
                    reply::push(out, 535, &echo(line, said.unwrap_or_default()));
                } else {
                    out.extend_from_slice(reply::BAD_CREDENTIALS);
                }
                None
            }
        }
    }

    fn accept(&mut self, login: Login, out: &mut Vec<u8>) -> Option<Next> {
        self.login = Some(Rc::new(login));
        self.seen.auth_successes += 1;
        out.extend_from_slice(reply::AUTHENTICATED);
        None
    }
}

/// The text of [`AuthQuirk::EchoSecrets`].
fn echo(line: &[u8], said: &[u8]) -> String {
    let meant = String::from_utf8_lossy(said).replace(char::is_control, " ");
    format!("5.7.8 Refused: {} {meant}", String::from_utf8_lossy(line))
}
