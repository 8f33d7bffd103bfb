//! Bearer tokens: where they come from, and the one that all clones of the
//! credentials share. A source is asked by one job at a time and never under
//! the lock that others look under.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use super::fault::{AuthFault, Panicked, guarded, shortened};

/// Octets of a token, so that an answer with it stays within the line that
/// servers take (RFC 4954 §4: 12288 octets of base64).
const MAX_TOKEN: usize = 8192;

pub(super) type Source =
    dyn Fn() -> Result<SecretString, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

/// A token, and the how manieth it is.
pub(super) struct Token {
    text: SecretString,
    number: u64,
}

impl Token {
    pub(super) fn new(text: SecretString, number: u64) -> Arc<Token> {
        Arc::new(Token { text, number })
    }

    pub(super) fn text(&self) -> &str {
        self.text.expose_secret()
    }
}

/// The token in use and its source.
pub(super) struct Tokens {
    /// `None` for a token that never changes.
    source: Option<Box<Source>>,
    held: Mutex<Held>,
    /// Held by the one job that is asking the source.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Held {
    token: Option<Arc<Token>>,
    /// How often the source was asked.
    asked: u64,
    /// Why the last asking failed, if it did.
    fault: Option<AuthFault>,
}

impl Tokens {
    pub(super) fn fixed(text: SecretString) -> Tokens {
        let held = Held { token: Some(Token::new(text, 1)), ..Held::default() };
        Tokens { source: None, held: Mutex::new(held), turn: Mutex::new(()) }
    }

    pub(super) fn asked_of(source: Box<Source>) -> Tokens {
        Tokens { source: Some(source), held: Mutex::default(), turn: Mutex::new(()) }
    }

    /// A token that never changes is checked before anything is sent.
    pub(super) fn check(&self) -> Result<(), AuthFault> {
        if self.source.is_some() {
            return Ok(());
        }
        match &lock(&self.held).token {
            Some(token) => check(token.text()).map_err(AuthFault::Prohibited),
            None => Ok(()),
        }
    }

    pub(super) fn can_renew(&self) -> bool {
        self.source.is_some()
    }

    /// The token, or how often the source has been asked so far.
    pub(super) fn current(&self) -> Result<Arc<Token>, u64> {
        let held = lock(&self.held);
        held.token.clone().ok_or(held.asked)
    }

    /// Forgets a token that a server refused, unless another has come since.
    pub(super) fn refuse(&self, token: &Token) {
        lock(&self.held).token.take_if(|held| held.number == token.number);
    }

    /// Asks the source, unless somebody has asked it since it had been asked
    /// `seen` times: then theirs is the answer, be it a token or a fault, so
    /// that many connections do not ask a broken source one after the other.
    /// Blocks.
    pub(super) fn ask(&self, seen: u64) -> Result<Arc<Token>, AuthFault> {
        let _turn = lock(&self.turn);
        {
            let held = lock(&self.held);
            match (&held.token, &held.fault) {
                (Some(token), _) => return Ok(Arc::clone(token)),
                (None, Some(fault)) if held.asked != seen => return Err(fault.clone()),
                _ => {}
            }
        }
        let answer = self.call();
        let mut held = lock(&self.held);
        held.asked = held.asked.saturating_add(1);
        held.fault = answer.as_ref().err().cloned();
        let token = Token::new(answer?, held.asked);
        held.token = Some(Arc::clone(&token));
        Ok(token)
    }

    fn call(&self) -> Result<SecretString, AuthFault> {
        let Some(source) = &self.source else {
            return Err(AuthFault::Token("there is no source".into()));
        };
        // The text is written by the caller's code too.
        let answer = guarded(|| source().map_err(|error| shortened(&error.to_string())));
        let token =
            answer.unwrap_or_else(|_: Panicked| Err(Panicked::TEXT.into())).map_err(AuthFault::Token)?;
        check(token.expose_secret()).map_err(|what| AuthFault::Token(what.into()))?;
        Ok(token)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Printable ASCII without spaces, which holds all that RFC 6750 §2.1 has in
/// a token, and cannot end the field that it is put into.
pub(super) fn check(token: &str) -> Result<(), &'static str> {
    match token.len() {
        0 => Err("the token is empty"),
        length if length > MAX_TOKEN => Err("the token is longer than 8192 octets"),
        _ if !token.bytes().all(|octet| octet.is_ascii_graphic()) => {
            Err("the token has what no token has: spaces, control characters or letters beyond ASCII")
        }
        _ => Ok(()),
    }
}
