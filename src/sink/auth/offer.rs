//! Who may log in and how, and what of it is announced.
//!
//! Passwords and tokens stay in strings that show nothing.

use std::cell::OnceCell;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::scram::{self, Hash};
use super::{AuthQuirk, Login};

/// Mechanisms that are announced for users with passwords, unless others are set.
const FOR_PASSWORDS: &[&str] = &["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"];

/// Mechanisms that are announced for users with tokens, unless others are set.
const FOR_TOKENS: &[&str] = &["OAUTHBEARER", "XOAUTH2"];

/// Rounds of SCRAM unless others are set; RFC 7677 §4 asks for so many at least.
const ITERATIONS: u32 = 4096;

/// The longest name of a mechanism (RFC 4422 §3.1).
const MAX_NAME: usize = 20;

/// All that is set about AUTH.
#[derive(Clone, Debug)]
pub(in crate::sink) struct AuthSettings {
    pub(in crate::sink) users: Vec<(String, SecretString)>,
    pub(in crate::sink) tokens: Vec<(String, SecretString)>,
    pub(in crate::sink) mechanisms: Option<Vec<String>>,
    /// Announced in the clear although there is TLS.
    pub(in crate::sink) before_tls: bool,
    pub(in crate::sink) old_spelling: bool,
    /// No mail without it.
    pub(in crate::sink) required: bool,
    pub(in crate::sink) refuse_plaintext: bool,
    pub(in crate::sink) iterations: u32,
    pub(in crate::sink) quirk: Option<AuthQuirk>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            tokens: Vec::new(),
            mechanisms: None,
            before_tls: false,
            old_spelling: false,
            required: false,
            refuse_plaintext: false,
            iterations: ITERATIONS,
            quirk: None,
        }
    }
}

impl AuthSettings {
    /// What is wrong with the settings.
    pub(in crate::sink) fn complaint(&self) -> Option<&'static str> {
        let is_name = |name: &String| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter)
        };
        if !self.mechanisms.iter().flatten().all(is_name) {
            return Some("a mechanism has 1 to 20 letters, digits, hyphens and underscores");
        }
        if self.users.iter().chain(&self.tokens).any(|(name, _)| name.is_empty()) {
            return Some("a user has a name");
        }
        None
    }
}

/// A user with a password, and the passwords that SCRAM has salted.
struct Account {
    name: String,
    password: SecretString,
    sha1: OnceCell<Vec<u8>>,
    sha256: OnceCell<Vec<u8>>,
}

/// What a server offers to those who log in.
pub(in crate::sink) struct Offer {
    accounts: Vec<Account>,
    settings: AuthSettings,
    mechanisms: Vec<String>,
    announcement: Option<String>,
    hostname: String,
}

impl Offer {
    pub(in crate::sink) fn new(mut settings: AuthSettings, hostname: &str) -> Self {
        let account =
            |(name, password)| Account { name, password, sha1: OnceCell::new(), sha256: OnceCell::new() };
        let accounts: Vec<Account> = std::mem::take(&mut settings.users).into_iter().map(account).collect();
        let mechanisms = settings.mechanisms.take().unwrap_or_else(|| {
            let passwords = FOR_PASSWORDS.iter().filter(|_| !accounts.is_empty());
            let tokens = FOR_TOKENS.iter().filter(|_| !settings.tokens.is_empty());
            passwords.chain(tokens).map(|&name| name.to_owned()).collect()
        });
        let separator = if settings.old_spelling { '=' } else { ' ' };
        let announcement =
            (!mechanisms.is_empty()).then(|| format!("AUTH{separator}{}", mechanisms.join(" ")));
        Self { accounts, settings, mechanisms, announcement, hostname: hostname.to_owned() }
    }

    /// The line that `EHLO` announces it by; none when there is nothing to offer.
    pub(in crate::sink) fn announcement(&self) -> Option<&str> {
        self.announcement.as_deref()
    }

    pub(in crate::sink) fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    pub(in crate::sink) fn has_mechanism(&self, name: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered.eq_ignore_ascii_case(name))
    }

    pub(super) fn quirk(&self) -> Option<AuthQuirk> {
        self.settings.quirk
    }

    pub(super) fn iterations(&self) -> u32 {
        self.settings.iterations
    }

    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    fn account(&self, user: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == user)
    }

    pub(super) fn password(&self, user: &str) -> Option<&str> {
        self.account(user).map(|account| account.password.expose_secret())
    }

    pub(super) fn has_password(&self, user: &str, password: &[u8]) -> bool {
        self.password(user).is_some_and(|right| bool::from(right.as_bytes().ct_eq(password)))
    }

    /// The salted password of SCRAM, computed once.
    pub(super) fn salted(&self, user: &str, hash: Hash) -> Option<&[u8]> {
        let account = self.account(user)?;
        let cell = match hash {
            Hash::Sha1 => &account.sha1,
            Hash::Sha256 => &account.sha256,
        };
        if let Some(salted) = cell.get() {
            return Some(salted);
        }
        let password = account.password.expose_secret();
        let salted = hash.derive(password, &scram::salt(user), self.iterations())?;
        Some(cell.get_or_init(|| salted))
    }

    /// Whose token this is; `user` may have been left unsaid.
    pub(super) fn owner(&self, user: Option<&str>, token: &str) -> Option<&str> {
        let tokens = self.settings.tokens.iter();
        tokens
            .filter(|(owner, _)| user.is_none_or(|user| user == owner))
            .find(|(_, right)| bool::from(right.expose_secret().as_bytes().ct_eq(token.as_bytes())))
            .map(|(owner, _)| owner.as_str())
    }

    pub(super) fn knows(&self, user: &str) -> bool {
        self.account(user).is_some() || self.settings.tokens.iter().any(|(owner, _)| owner == user)
    }

    /// Whether a user may act as whom it named: itself, or another one that there is.
    pub(super) fn permits(&self, login: &Login) -> bool {
        login.acting_as.as_ref().is_none_or(|name| self.knows(name))
    }

    #[cfg(test)]
    pub(super) fn with_salted(user: &str, hash: Hash, salted: Vec<u8>) -> Self {
        let users = vec![(user.to_owned(), SecretString::from("unused"))];
        let offer = Self::new(AuthSettings { users, ..AuthSettings::default() }, "host.example");
        let account = &offer.accounts[0];
        let cell = if hash == Hash::Sha1 { &account.sha1 } else { &account.sha256 };
        cell.set(salted).unwrap();
        offer
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("mechanisms", &self.mechanisms).finish_non_exhaustive()
    }
}
