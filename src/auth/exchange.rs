//! One attempt to authenticate, from the choice of a mechanism to the verdict.
//! It takes challenges and gives answers, both without their base64, and knows
//! nothing of the commands and replies that carry them.
//!
//! ```text
//! begin ─▶ start ─▶ Say ─▶ challenge ─▶ Say … ─▶ success
//!            │               │
//!            ▼               ▼
//!           Work ─resume─▶  Work ─resume─▶ Say
//! ```
//!
//! Any fault ends it: the attempt is cancelled, and nothing of it is used again.

use std::fmt;
use std::sync::Arc;

use sasl::client::{Mechanism, MechanismError};
use secrecy::zeroize::Zeroizing;

use super::account::Account;
use super::bearer::{OAuthBearer, XOAuth2};
use super::echo::Echoes;
use super::fault::{AuthFault, Panicked, guarded, shortened};
use super::keys::{Key, Keys, Recipe, Slot};
use super::mechanism::Choice;
use super::scram::{Heard, Keyed};
use super::tokens::{Token, Tokens};

/// Challenges that are answered; no mechanism here needs more than two.
pub(super) const MAX_CHALLENGES: u8 = 8;

/// Octets of a challenge or an answer: what a line of 12288 octets carries as
/// base64 (RFC 4954 §4).
pub(super) const MAX_ANSWER: usize = 12_286 / 4 * 3;

/// What comes next.
pub(crate) enum Move {
    /// Say this to the server. `None`, which only the start has, is a start
    /// without an initial response, `Some` of nothing is an empty one.
    Say(Option<Zeroizing<Vec<u8>>>),
    /// Have this done off the executor, then `resume`.
    Work(AuthJob),
}

impl fmt::Debug for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Say(None) => f.write_str("Say(nothing)"),
            Move::Say(Some(_)) => f.write_str("Say(..)"),
            Move::Work(job) => f.debug_tuple("Work").field(job).finish(),
        }
    }
}

/// Work for authentication that takes long: deriving a key from a password, or
/// asking a token source. Run it where blocking is allowed.
pub struct AuthJob {
    work: Work,
}

enum Work {
    Key { slot: Arc<Slot>, account: Arc<Account>, derive: fn(&Account, &Recipe) -> Option<Key> },
    Token { tokens: Arc<Tokens>, seen: u64, found: Option<Result<Arc<Token>, AuthFault>> },
}

impl AuthJob {
    /// Does the work. Blocks: for the part of a second that a key takes, or
    /// for as long as the token source does.
    pub fn run(mut self) -> AuthJob {
        match &mut self.work {
            Work::Key { slot, account, derive } => slot.fill(|recipe| derive(account, recipe)),
            Work::Token { tokens, seen, found } => *found = Some(tokens.ask(*seen)),
        }
        self
    }
}

impl fmt::Debug for AuthJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.work {
            Work::Key { .. } => "derive a key",
            Work::Token { .. } => "ask for a token",
        };
        f.debug_tuple("AuthJob").field(&what).finish()
    }
}

/// What drives an exchange.
pub(super) enum Engine {
    /// A mechanism of ours that has all it needs.
    Ready { mechanism: Box<dyn Mechanism + Send>, starts: bool },
    /// The caller's. `opening` until it has spoken or was challenged.
    Custom { mechanism: Box<dyn Mechanism + Send>, opening: bool },
    /// SCRAM, whose key may have to be derived first: `slot` is where it then
    /// will be.
    Scram { scram: Box<dyn Keyed>, account: Arc<Account>, keys: Arc<Keys>, slot: Option<Arc<Slot>> },
    /// XOAUTH2 or OAUTHBEARER, made when there is a token.
    Bearer {
        make: fn(Box<str>, Arc<Token>) -> Box<dyn Mechanism + Send>,
        identity: Box<str>,
        tokens: Arc<Tokens>,
        used: Option<(Arc<Token>, Box<dyn Mechanism + Send>)>,
    },
}

impl Engine {
    pub(super) fn x_oauth2(identity: Box<str>, tokens: Arc<Tokens>) -> Engine {
        Engine::Bearer {
            make: |user, token| Box::new(XOAuth2::new(user, token)),
            identity,
            tokens,
            used: None,
        }
    }

    pub(super) fn oauth_bearer(identity: Box<str>, tokens: Arc<Tokens>) -> Engine {
        let make = |user, token| -> Box<dyn Mechanism + Send> { Box::new(OAuthBearer::new(user, token)) };
        Engine::Bearer { make, identity, tokens, used: None }
    }
}

/// One attempt to authenticate.
pub(crate) struct Exchange {
    choice: Choice,
    name: Box<str>,
    engine: Engine,
    challenges: u8,
    is_renewed: bool,
    echoes: Echoes,
}

impl Exchange {
    pub(super) fn new(choice: Choice, name: &str, engine: Engine) -> Exchange {
        let echoes = Echoes::default();
        Exchange { choice, name: name.into(), engine, challenges: 0, is_renewed: false, echoes }
    }

    /// The secret of a mechanism that has it inside.
    pub(super) fn with_secret(mut self, secret: &str) -> Exchange {
        self.echoes.add_secret(secret);
        self
    }

    pub(super) fn renewed(mut self, is_renewed: bool) -> Exchange {
        self.is_renewed = is_renewed;
        self
    }

    /// The mechanism's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn choice(&self) -> Choice {
        self.choice
    }

    /// Whether its token had been asked for anew already.
    pub(super) fn is_renewed(&self) -> bool {
        self.is_renewed
    }

    /// The token that was used, if it is of this source.
    pub(super) fn token_of(&self, source: &Arc<Tokens>) -> Option<&Token> {
        match &self.engine {
            Engine::Bearer { tokens, used: Some((token, _)), .. } if Arc::ptr_eq(tokens, source) => {
                Some(token)
            }
            _ => None,
        }
    }

    /// Whether the server has refused the token: to those mechanisms every
    /// challenge is a refusal.
    pub(crate) fn has_heard_refusal(&self) -> bool {
        matches!(self.engine, Engine::Bearer { used: Some(_), .. }) && self.challenges > 0
    }

    /// What comes before AUTH is sent, and with it.
    pub(crate) fn start(&mut self) -> Result<Move, AuthFault> {
        match &mut self.engine {
            Engine::Ready { mechanism, starts: true } => {
                let answer = mechanism.initial();
                self.say(answer)
            }
            Engine::Ready { starts: false, .. } => Ok(Move::Say(None)),
            Engine::Scram { scram, .. } => {
                let answer = scram.initial();
                self.say(answer)
            }
            Engine::Bearer { tokens, .. } => match tokens.current() {
                Ok(token) => self.bear(token),
                Err(seen) => {
                    let work = Work::Token { tokens: Arc::clone(tokens), seen, found: None };
                    Ok(Move::Work(AuthJob { work }))
                }
            },
            Engine::Custom { mechanism, opening } => {
                let answer = Zeroizing::new(guarded(|| mechanism.initial()).map_err(panicked)?);
                // The trait can't tell an empty initial response from none; only
                // these two have an empty one.
                if answer.is_empty() && !matches!(&*self.name, "EXTERNAL" | "ANONYMOUS") {
                    *opening = true;
                    return Ok(Move::Say(None));
                }
                self.say_wiped(answer)
            }
        }
    }

    /// The server's challenge, out of its base64.
    pub(crate) fn challenge(&mut self, data: &[u8]) -> Result<Move, AuthFault> {
        self.challenges = self.challenges.saturating_add(1);
        if self.challenges > MAX_CHALLENGES {
            return Err(AuthFault::TooManyChallenges);
        }
        if data.len() > MAX_ANSWER {
            return Err(AuthFault::Challenge);
        }
        match &mut self.engine {
            Engine::Ready { mechanism, .. } => {
                let answer = mechanism.response(data)?;
                self.say(answer)
            }
            Engine::Bearer { used: Some((_, mechanism)), .. } => {
                let answer = mechanism.response(data)?;
                self.say(answer)
            }
            Engine::Bearer { used: None, .. } => Err(AuthFault::Challenge),
            Engine::Custom { mechanism, opening } => {
                // An empty challenge here only asks for the initial response.
                if std::mem::take(opening) && data.is_empty() {
                    return self.say(Vec::new());
                }
                let answer = guarded(|| mechanism.response(data)).map_err(panicked)?.map_err(theirs)?;
                self.say(answer)
            }
            Engine::Scram { scram, keys, slot, .. } => match scram.hear(data)? {
                Heard::Verified => self.say(Vec::new()),
                Heard::Needs(recipe) => {
                    *slot = Some(keys.slot(&recipe));
                    self.prove()
                }
            },
        }
    }

    /// A job of this exchange is done.
    pub(crate) fn resume(&mut self, job: AuthJob) -> Result<Move, AuthFault> {
        match job.work {
            Work::Key { slot, .. } => match &self.engine {
                Engine::Scram { slot: Some(own), .. } if Arc::ptr_eq(own, &slot) => self.prove(),
                _ => Err(AuthFault::Challenge),
            },
            Work::Token { found: Some(found), .. } => self.bear(found?),
            // It was not run.
            work @ Work::Token { found: None, .. } => Ok(Move::Work(AuthJob { work })),
        }
    }

    /// The server accepts: whether that is believed. SCRAM does not believe a
    /// server that did not sign, nor does any mechanism one that accepts
    /// before it was told what it needs to know.
    pub(crate) fn success(&mut self) -> Result<(), AuthFault> {
        match &mut self.engine {
            Engine::Ready { mechanism, .. } => Ok(mechanism.success(&[])?),
            Engine::Scram { scram, .. } => Ok(scram.success(&[])?),
            Engine::Bearer { used: Some((_, mechanism)), .. } => Ok(mechanism.success(&[])?),
            Engine::Bearer { used: None, .. } => Err(AuthFault::Challenge),
            Engine::Custom { mechanism, .. } => {
                guarded(|| mechanism.success(&[])).map_err(panicked)?.map_err(theirs)
            }
        }
    }

    /// Whether a text of the server's repeats something secret that was said
    /// to it, so that nobody may be shown it.
    pub(crate) fn conceals(&self, text: &[u8]) -> bool {
        self.echoes.has(text)
    }

    /// What an earlier exchange on the same connection has said may still be
    /// repeated.
    pub(crate) fn conceal_too(&mut self, earlier: Exchange) {
        self.echoes.add_all(earlier.echoes);
    }

    /// SCRAM's answer, or the work that it needs.
    fn prove(&mut self) -> Result<Move, AuthFault> {
        let Engine::Scram { scram, account, slot: Some(slot), .. } = &mut self.engine else {
            return Err(AuthFault::Challenge);
        };
        if !slot.is_filled() {
            let (slot, account) = (Arc::clone(slot), Arc::clone(account));
            return Ok(Move::Work(AuthJob { work: Work::Key { slot, account, derive: scram.derive() } }));
        }
        let answer = scram.prove(slot.key().ok_or(AuthFault::Challenge)?)?;
        self.say_wiped(answer)
    }

    /// Begins with a token.
    fn bear(&mut self, token: Arc<Token>) -> Result<Move, AuthFault> {
        let Engine::Bearer { make, identity, used: used @ None, .. } = &mut self.engine else {
            return Err(AuthFault::Challenge);
        };
        let mut mechanism = make(identity.clone(), Arc::clone(&token));
        let answer = mechanism.initial();
        self.echoes.add_secret(token.text());
        *used = Some((token, mechanism));
        self.say(answer)
    }

    fn say(&mut self, answer: Vec<u8>) -> Result<Move, AuthFault> {
        self.say_wiped(Zeroizing::new(answer))
    }

    fn say_wiped(&mut self, answer: Zeroizing<Vec<u8>>) -> Result<Move, AuthFault> {
        // Only what the caller's mechanism says can be as long.
        if answer.len() > MAX_ANSWER {
            return Err(AuthFault::Mechanism("its answer is too long".into()));
        }
        self.echoes.add_answer(&answer, self.choice);
        Ok(Move::Say(Some(answer)))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange").field(&self.name).finish()
    }
}

pub(super) fn panicked(_: Panicked) -> AuthFault {
    AuthFault::Mechanism(Panicked::TEXT.into())
}

fn theirs(error: MechanismError) -> AuthFault {
    AuthFault::Mechanism(shortened(&error.to_string()))
}
