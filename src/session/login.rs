//! AUTH (RFC 4954): the dialogue around a mechanism. It never keeps what was
//! sent once that is written, never shows a reply that repeats a secret, and
//! never goes on with a server that could not prove what its mechanism asks.

use std::fmt;
use std::time::Instant;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::zeroize::{Zeroize, Zeroizing};

use super::flight::{MailTag, Step};
use super::{Session, Stage};
use crate::auth::{AuthFault, AuthJob, Credentials, Exchange, Move, Tried};
use crate::command::{AuthLine, Command, MAX_COMMAND};
use crate::failure::Failure;
use crate::reply::{self, Reply, ReplyCode};

/// Longest line of a dialogue, line end included (RFC 4954 §4).
const MAX_AUTH_LINE: usize = 12_288;

/// Some servers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One authentication, and those that the server did not know how to do before.
pub(super) struct Login {
    exchange: Exchange,
    tried: Tried,
    /// Octets that were handed to the connection before the attempt.
    began_at: u64,
    /// AUTH was said.
    is_asked: bool,
    /// An initial response that was too long for the line of the command.
    held_back: Option<Zeroizing<Vec<u8>>>,
    work: Work,
    /// Why the client says no more than `*`.
    given_up: Option<AuthFault>,
    /// The last reply has come.
    is_over: bool,
    /// Another flight has begun behind it.
    is_followed: bool,
}

/// What it holds back is secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

/// What has to be made before the next line.
#[derive(Debug)]
enum Work {
    None,
    Wanted(AuthJob),
    UnderWay,
}

impl Session {
    /// Authenticates with the strongest mechanism that both sides know; the
    /// flight ends with the final reply. `renew` asks a token's source anew.
    pub(crate) fn authenticate(&mut self, credentials: &Credentials, renew: bool, now: Instant) {
        assert!(self.stage == Stage::Ready && self.is_over(), "AUTH while {:?}", self.stage);
        if let Err(fault) = self.begin_login(credentials, Tried::default(), renew, now) {
            self.begin_flight(now);
            self.fail_at(Step::Auth, Failure::Auth(fault));
        }
    }

    /// The server has refused the mechanism, and not what was said by it:
    /// authenticates with another, if there is one.
    pub(crate) fn try_another_mechanism(&mut self, credentials: &Credentials, now: Instant) -> bool {
        let Some(login) = self.login.as_ref().filter(|_| self.is_ready()) else { return false };
        let mut tried = login.tried;
        tried.add(&login.exchange);
        self.begin_login(credentials, tried, false, now).is_ok()
    }

    /// The token was refused: it is forgotten. Says whether another may do.
    pub(crate) fn token_refused(&self, credentials: &Credentials) -> bool {
        self.login.as_ref().is_some_and(|login| credentials.token_refused(&login.exchange))
    }

    /// Whether the server has refused a token by a challenge.
    pub fn has_heard_refusal(&self) -> bool {
        self.login.as_ref().is_some_and(|login| login.exchange.has_heard_refusal())
    }

    /// Whether an octet of the authentication was handed to the connection.
    pub(crate) fn has_said_auth(&self) -> bool {
        self.login.as_ref().is_some_and(|login| self.written > login.began_at)
    }

    /// Whether AUTH has succeeded on this connection.
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Whether AUTH is under way, so that what is written is secret.
    pub fn is_authenticating(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !login.is_over)
    }

    /// Whether octets from the server may be secret: all within AUTH, unasked
    /// behind it, and in the flight behind that, for a piece of a secret is not
    /// known by itself.
    pub(crate) fn may_hear_secrets(&self) -> bool {
        self.login.is_some()
    }

    // ---- what the session asks --------------------------------------------

    /// Whether the client itself is what is waited for.
    pub(super) fn wants_auth_job(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !matches!(login.work, Work::None))
    }

    pub(super) fn take_auth_job(&mut self) -> Option<AuthJob> {
        let work = &mut self.login.as_mut()?.work;
        match std::mem::replace(work, Work::UnderWay) {
            Work::Wanted(job) => Some(job),
            other => {
                *work = other;
                None
            }
        }
    }

    pub(super) fn return_auth_job(&mut self, job: AuthJob, now: Instant) {
        let is_awaited = self.failure.is_none();
        let Some(login) = self.login.as_mut().filter(|login| matches!(login.work, Work::UnderWay)) else {
            return;
        };
        login.work = Work::None;
        if is_awaited {
            let next = login.exchange.resume(job);
            self.replies.forget_awaited();
            self.go_on(next, now);
        }
    }

    /// A reply to AUTH or to a response. Gives whether it is the last
    /// one, and to be judged.
    pub(super) fn auth_answered(&mut self, code: ReplyCode, now: Instant) -> bool {
        let Some(login) = &mut self.login else { return true };
        if let Some(fault) = login.given_up.take() {
            login.is_over = true;
            self.fail_at(Step::Auth, Failure::Auth(fault));
            return false;
        }
        if code.as_u16() == 334 {
            self.challenged(code, now);
            return false;
        }
        login.is_over = true;
        if !code.is_completion() {
            return true;
        }
        // What the server accepts was not said yet.
        let is_early = login.held_back.is_some();
        let accepted = if is_early { Err(AuthFault::Challenge) } else { login.exchange.success() };
        match accepted {
            Ok(()) => {
                self.is_authenticated = true;
                self.extensions.forget_mechanisms();
                true
            }
            Err(fault) => {
                self.fail_at(Step::Auth, Failure::Auth(fault));
                false
            }
        }
    }

    /// Some servers repeat what they were sent: such a text is not kept. A
    /// challenge may well repeat, and is shown to nobody.
    pub(super) fn withhold_secrets(&mut self, code: ReplyCode) {
        let Some(login) = self.login.as_ref().filter(|_| !code.is_intermediate()) else { return };
        let reply = reply::view(code, &self.text);
        let enhanced = reply.enhanced();
        if login.exchange.conceals(&self.text) || login.exchange.conceals(&unfolded(reply, self.text.len())) {
            self.text.zeroize();
            let enhanced = enhanced.map_or(String::new(), |enhanced| format!("{enhanced} "));
            let text = format!("{code} {enhanced}(text withheld: it repeats what was sent)\r\n");
            self.text.extend_from_slice(text.as_bytes());
        }
    }

    pub(super) fn is_concealed(&self, text: &[u8]) -> bool {
        self.login.as_ref().is_some_and(|login| login.exchange.conceals(text))
    }

    /// What a failure in the middle of it is called: why the client gave up,
    /// where it did.
    pub(super) fn auth_failure(&mut self, failure: Failure) -> Failure {
        let given_up = self.login.as_mut().and_then(|login| login.given_up.take());
        given_up.map_or(failure, Failure::Auth)
    }

    /// A flight begins. The secrets of an authentication that is over are kept
    /// for one more: what a server says behind its last reply may repeat them,
    /// and is read when that flight begins, or taken for its answer.
    pub(super) fn forget_login(&mut self) {
        self.login.take_if(|login| login.is_followed);
        if let Some(login) = &mut self.login {
            self.commands.zeroize();
            login.is_followed = login.is_over;
        }
    }

    // ---- inside -----------------------------------------------------------

    fn begin_login(
        &mut self,
        credentials: &Credentials,
        tried: Tried,
        renew: bool,
        now: Instant,
    ) -> Result<(), AuthFault> {
        let mut offered = self.extensions.auth_mechanisms();
        let mut exchange = credentials.begin(&mut offered, self.has_tls, tried, renew)?;
        drop(offered);
        // A mechanism that was not known is a part of the same attempt.
        let goes_on = self.login.as_ref().filter(|_| tried != Tried::default());
        let began_at = goes_on.map_or(self.written, |login| login.began_at);
        if let Some(earlier) = self.login.take() {
            exchange.conceal_too(earlier.exchange);
        }
        let next = exchange.start();
        self.login = Some(Box::new(Login {
            exchange,
            tried,
            began_at,
            is_asked: false,
            held_back: None,
            work: Work::None,
            given_up: None,
            is_over: false,
            is_followed: false,
        }));
        self.go_on(next, now);
        Ok(())
    }

    fn challenged(&mut self, code: ReplyCode, now: Instant) {
        let challenge = {
            let line = reply::view(code, &self.text).lines().last().unwrap_or_default().trim_ascii();
            BASE64.decode(line)
        };
        let Some(login) = &mut self.login else { return };
        let next = match (challenge, login.held_back.take()) {
            (Ok(challenge), Some(held_back)) if challenge.is_empty() => Ok(Move::Say(Some(held_back))),
            (Ok(challenge), None) => login.exchange.challenge(&challenge),
            _ => Err(AuthFault::Challenge),
        };
        self.go_on(next, now);
    }

    fn go_on(&mut self, next: Result<Move, AuthFault>, now: Instant) {
        let next = match next {
            Ok(Move::Say(response)) => self.say(response, now),
            Ok(Move::Work(job)) => {
                self.work(job, now);
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = next {
            self.give_up(fault, now);
        }
    }

    /// Nothing is sent before the work is done.
    fn work(&mut self, job: AuthJob, now: Instant) {
        self.begin_flight(now);
        self.owe_unasked(Step::Auth, false);
        if let Some(login) = &mut self.login {
            login.work = Work::Wanted(job);
        }
    }

    fn say(&mut self, response: Option<Zeroizing<Vec<u8>>>, now: Instant) -> Result<(), AuthFault> {
        let Some(login) = &mut self.login else { return Ok(()) };
        let encoded = response.as_ref().map(|response| Zeroizing::new(BASE64.encode(response)));
        if std::mem::replace(&mut login.is_asked, true) {
            let line = encoded.as_deref().map_or("", String::as_str);
            let answer = AuthLine::answer(line);
            if answer.length() > MAX_AUTH_LINE {
                return Err(AuthFault::Mechanism("its response is longer than a line may be".into()));
            }
            self.say_line(answer, now);
            return Ok(());
        }
        let name = login.exchange.name().to_owned();
        // An empty initial response is not the same as none (RFC 4954 §4).
        let initial = encoded.as_deref().map(|line| if line.is_empty() { "=" } else { line.as_str() });
        let fitting = initial.filter(|initial| AuthLine::begin(&name, Some(initial)).length() <= MAX_COMMAND);
        if fitting.is_none() {
            login.held_back = response;
        }
        self.say_line(AuthLine::begin(&name, fitting), now);
        Ok(())
    }

    fn say_line(&mut self, line: AuthLine<'_>, now: Instant) {
        self.begin_flight(now);
        self.ask(Command::Auth(line), Step::Auth, MailTag::default(), 0);
    }

    /// Cancels the dialogue (RFC 4954 §4) where it has begun.
    fn give_up(&mut self, fault: AuthFault, now: Instant) {
        let Some(login) = &mut self.login else { return };
        if login.is_asked {
            login.given_up = Some(fault);
            self.say_line(AuthLine::answer("*"), now);
        } else {
            login.is_over = true;
            self.begin_flight(now);
            self.fail_at(Step::Auth, Failure::Auth(fault));
        }
    }
}

/// What a reply says, without what stands between its lines; at most so long.
fn unfolded(reply: Reply<'_>, length: usize) -> Zeroizing<Vec<u8>> {
    let prefix = reply.enhanced().map_or(String::new(), |enhanced| format!("{enhanced} "));
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    for line in reply.lines() {
        text.extend_from_slice(line.strip_prefix(prefix.as_bytes()).unwrap_or(line));
    }
    text
}
