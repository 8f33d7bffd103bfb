//! What the lanes of a run authenticate with, and what a scripted server makes
//! of the responses that it hears. Each secret names its account, so that a
//! server knows whose it is; nothing here knows who may say it when.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use smtp_bulk::sasl::client::{Mechanism, MechanismError};
use smtp_bulk::{AuthMechanism, Credentials};

/// What every secret begins with.
pub const SECRET: &str = "hunter2";

/// All that servers offer: SCRAM costs more time than the rest of a run.
pub const MECHANISMS: [&str; 5] = ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "X-STEPS"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Password,
    /// The first `bad` tokens are refused, and all of them some time after
    /// they were new.
    Token {
        bad: u32,
        lifetime: Option<Duration>,
    },
    /// A mechanism of the caller's with so many responses.
    Steps(u32),
}

/// Credentials, and what servers think of them.
#[derive(Clone, Debug)]
pub struct Account {
    pub number: usize,
    pub kind: Kind,
    is_right: bool,
    /// The caller's mechanism never believes that it is accepted.
    pub doubts: bool,
    pub allows_clear: bool,
    pub credentials: Credentials,
}

impl Account {
    pub fn draw(random: &mut Rng, number: usize, faultless: bool) -> Account {
        let is_right = faultless || random.u8(0..5) > 0;
        let allows_clear = faultless || random.u8(0..5) > 0;
        let (kind, credentials, doubts) = match random.u8(0..8) {
            0..=3 => (Kind::Password, password(random, number), false),
            4..=6 => {
                let (kind, credentials) = token(random, number, faultless);
                (kind, credentials, false)
            }
            _ => steps(random, number, faultless),
        };
        let credentials = if allows_clear { credentials.allow_without_tls() } else { credentials };
        Account { number, kind, is_right, doubts, allows_clear, credentials }
    }

    fn is_token_good(&self, token: u32, now: Duration) -> bool {
        let Kind::Token { bad, lifetime } = self.kind else { return false };
        self.is_right && token > bad && lifetime.is_none_or(|lifetime| now < lifetime * token)
    }
}

fn password(random: &mut Rng, number: usize) -> Credentials {
    let credentials = Credentials::password(format!("user{number}"), format!("{SECRET}-{number}"));
    match random.u8(0..4) {
        0 => credentials.mechanism(AuthMechanism::Plain),
        1 => credentials.mechanism(AuthMechanism::Login),
        _ => credentials,
    }
}

/// A source whose tokens are numbered, and that fails now and then.
fn token(random: &mut Rng, number: usize, faultless: bool) -> (Kind, Credentials) {
    let bad = if faultless { 0 } else { random.u32(0..8).saturating_sub(5) };
    let lifetime = (!faultless && random.bool()).then(|| Duration::from_millis(random.u64(1_000..60_000)));
    let fails_at = if faultless { 0 } else { random.u32(0..12) };
    // Too long for the line of a command.
    let padding = if random.u8(0..4) == 0 { "y".repeat(600) } else { String::new() };
    let asked = AtomicU32::new(0);
    let source = move || match asked.fetch_add(1, Ordering::Relaxed) + 1 {
        count if count == fails_at => Err("the vault is shut".into()),
        count => Ok(format!("{SECRET}.{number}.{count}.{padding}").into()),
    };
    let mechanism = if random.bool() { AuthMechanism::XOAuth2 } else { AuthMechanism::OAuthBearer };
    let credentials = Credentials::oauth_from(format!("user{number}"), source).mechanism(mechanism);
    (Kind::Token { bad, lifetime }, credentials)
}

/// A mechanism of the caller's, and whether it doubts.
fn steps(random: &mut Rng, number: usize, faultless: bool) -> (Kind, Credentials, bool) {
    let count = random.u32(1..4);
    let opens = random.bool();
    let trouble = match random.u8(0..12) {
        0 if !faultless => Trouble::Fails,
        1 if !faultless => Trouble::Panics,
        2 if !faultless => Trouble::Doubts,
        3..=6 => Trouble::Tolerant,
        _ => Trouble::None,
    };
    let make = move || -> Box<dyn Mechanism + Send> {
        Box::new(Steps { number, said: 0, steps: count, opens, trouble })
    };
    (Kind::Steps(count), Credentials::custom(make), trouble == Trouble::Doubts)
}

/// What is odd about a mechanism of the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    None,
    /// It answers whatever it is asked.
    Tolerant,
    /// It can't answer.
    Fails,
    Panics,
    /// It does not believe that it is accepted.
    Doubts,
}

/// A mechanism with several challenges.
struct Steps {
    number: usize,
    said: u32,
    steps: u32,
    opens: bool,
    trouble: Trouble,
}

impl Steps {
    fn say(&mut self) -> Vec<u8> {
        self.said += 1;
        format!("{SECRET} {} {}", self.number, self.said).into_bytes()
    }
}

impl Mechanism for Steps {
    fn name(&self) -> &str {
        "X-STEPS"
    }

    fn from_credentials(_: smtp_bulk::sasl::common::Credentials) -> Result<Steps, MechanismError> {
        Err(MechanismError::InvalidState)
    }

    fn initial(&mut self) -> Vec<u8> {
        if self.opens { self.say() } else { Vec::new() }
    }

    fn response(&mut self, challenge: &[u8]) -> Result<Vec<u8>, MechanismError> {
        let is_fit = challenge == format!("step {}", self.said).as_bytes();
        match self.trouble {
            Trouble::Tolerant => Ok(self.say()),
            Trouble::Fails => Err(MechanismError::CannotDecodeChallenge),
            Trouble::Panics => resume_unwind(Box::new("a mechanism of the caller's")),
            Trouble::None | Trouble::Doubts if is_fit => Ok(self.say()),
            _ => Err(MechanismError::InvalidState),
        }
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        let is_done = self.said >= self.steps && self.trouble != Trouble::Doubts;
        if is_done { Ok(()) } else { Err(MechanismError::InvalidState) }
    }
}

// ---- the server's side ----------------------------------------------------

/// What a well-meaning server says next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    Ask(Vec<u8>),
    Verdict(bool),
}

/// One AUTH as a server hears it.
#[derive(Debug)]
pub struct Dialogue {
    mechanism: String,
    /// Whose secret was shown.
    pub account: Option<usize>,
    /// The client has taken the dialogue back.
    pub is_cancelled: bool,
    /// The server has asked what makes no sense here.
    pub is_lost: bool,
    heard: u32,
    refuses: bool,
}

impl Dialogue {
    pub fn new(mechanism: &str) -> Dialogue {
        let mechanism = mechanism.to_owned();
        Dialogue { mechanism, account: None, is_cancelled: false, is_lost: false, heard: 0, refuses: false }
    }

    /// Hears a response, or that there is none with the command.
    pub fn hear(
        &mut self,
        said: Option<&[u8]>,
        accounts: &[Arc<Account>],
        now: Duration,
        random: &mut Rng,
    ) -> Next {
        self.heard += u32::from(said.is_some());
        if self.is_lost {
            return Next::Verdict(random.bool());
        }
        let text = said.map(|said| String::from_utf8(said.to_vec()).expect("a response in UTF-8"));
        match (self.mechanism.as_str(), text) {
            ("PLAIN" | "XOAUTH2" | "OAUTHBEARER", None) => Next::Ask(Vec::new()),
            ("PLAIN", Some(text)) => {
                let parts: Vec<&str> = text.split('\0').collect();
                let [identity, user, password] = parts[..] else { panic!("no PLAIN: {text:?}") };
                assert_eq!(identity, "");
                let account = self.show(number(user, "user"), accounts);
                assert_eq!(password, format!("{SECRET}-{}", account.number));
                Next::Verdict(account.is_right && account.kind == Kind::Password)
            }
            ("LOGIN", text) => self.hear_login(text.as_deref(), accounts),
            ("X-STEPS", text) => self.hear_steps(text.as_deref(), accounts),
            (_, Some(text)) => self.hear_token(&text, accounts, now, random),
            (name, None) => panic!("nobody offered {name}"),
        }
    }

    fn hear_login(&mut self, text: Option<&str>, accounts: &[Arc<Account>]) -> Next {
        match (self.heard, text) {
            (1, Some(user)) => {
                self.show(number(user, "user"), accounts);
                Next::Ask(b"Password:".to_vec())
            }
            (2, Some(password)) => {
                let account = &accounts[self.account.expect("a user before the password")];
                assert_eq!(password, format!("{SECRET}-{}", account.number));
                Next::Verdict(account.is_right && account.kind == Kind::Password)
            }
            (0, None) => Next::Ask(b"Username:".to_vec()),
            _ => panic!("LOGIN does not say {text:?} now"),
        }
    }

    fn hear_steps(&mut self, text: Option<&str>, accounts: &[Arc<Account>]) -> Next {
        let Some(text) = text else { return Next::Ask(b"step 0".to_vec()) };
        // What an empty challenge asked for was the initial response.
        if text.is_empty() {
            return Next::Ask(b"step 0".to_vec());
        }
        let words: Vec<&str> = text.split(' ').collect();
        let [SECRET, account, said] = words[..] else { panic!("no step: {text:?}") };
        let account = self.show(number(account, ""), accounts);
        let said = number(said, "") as u32;
        match account.kind {
            Kind::Steps(steps) if said < steps => Next::Ask(format!("step {said}").into_bytes()),
            kind => Next::Verdict(account.is_right && matches!(kind, Kind::Steps(_))),
        }
    }

    /// A token that is refused is refused at once, or behind a challenge.
    fn hear_token(&mut self, text: &str, accounts: &[Arc<Account>], now: Duration, random: &mut Rng) -> Next {
        if self.refuses {
            assert!(matches!(text, "" | "\u{1}"), "no answer to an error: {text:?}");
            return Next::Verdict(false);
        }
        let (_, rest) = text.split_once("auth=Bearer ").expect("a token");
        let token = rest.strip_suffix("\u{1}\u{1}").expect("the end of a token");
        let parts: Vec<&str> = token.split('.').collect();
        let [SECRET, account, count, _] = parts[..] else { panic!("no token: {token:?}") };
        let account = self.show(number(account, ""), accounts);
        let is_good = account.is_token_good(number(count, "") as u32, now);
        self.refuses = !is_good && random.bool();
        if self.refuses { Next::Ask(br#"{"status":"401"}"#.to_vec()) } else { Next::Verdict(is_good) }
    }

    fn show(&mut self, number: usize, accounts: &[Arc<Account>]) -> Arc<Account> {
        self.account = Some(number);
        Arc::clone(&accounts[number])
    }
}

fn number(text: &str, prefix: &str) -> usize {
    let digits = text.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
    digits.unwrap_or_else(|| panic!("no number: {text:?}"))
}
