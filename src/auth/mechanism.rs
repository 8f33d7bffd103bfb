//! The mechanisms by name: what each can do, and the order of their strength.

use std::fmt;
use std::str::FromStr;

use super::fault::{MAX_TEXT, UnknownMechanism};

/// A SASL mechanism by the name that IANA registered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AuthMechanism {
    /// SCRAM-SHA-256 (RFC 7677): neither side shows the password, and the
    /// server proves that it knows it.
    ScramSha256,
    /// SCRAM-SHA-1 (RFC 5802): the same with an older hash.
    ScramSha1,
    /// CRAM-MD5 (RFC 2195): a hash that is quick to guess against.
    CramMd5,
    /// PLAIN (RFC 4616): shows the password.
    Plain,
    /// LOGIN: shows the password, and has no specification.
    Login,
    /// XOAUTH2, Google's: shows the token.
    XOAuth2,
    /// OAUTHBEARER (RFC 7628): shows the token.
    OAuthBearer,
    /// EXTERNAL (RFC 4422): who one is follows from something else, such as a
    /// client certificate.
    External,
    /// ANONYMOUS (RFC 4505).
    Anonymous,
}

use AuthMechanism::{
    Anonymous, CramMd5, External, Login, OAuthBearer, Plain, ScramSha1, ScramSha256, XOAuth2,
};

/// All of them, those of a kind from the strongest to the weakest.
pub(super) const ALL: [AuthMechanism; 9] =
    [ScramSha256, ScramSha1, CramMd5, Plain, Login, OAuthBearer, XOAuth2, External, Anonymous];

/// Those that log in with a password, the strongest first.
pub(super) const WITH_PASSWORD: &[AuthMechanism] = &[ScramSha256, ScramSha1, CramMd5, Plain, Login];

/// Those that log in with a token, the specified one first.
pub(super) const WITH_TOKEN: &[AuthMechanism] = &[OAuthBearer, XOAuth2];

/// Octets of a mechanism's name (RFC 4422 §3.1).
const MAX_NAME: usize = 20;

impl AuthMechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            ScramSha256 => "SCRAM-SHA-256",
            ScramSha1 => "SCRAM-SHA-1",
            CramMd5 => "CRAM-MD5",
            Plain => "PLAIN",
            Login => "LOGIN",
            XOAuth2 => "XOAUTH2",
            OAuthBearer => "OAUTHBEARER",
            External => "EXTERNAL",
            Anonymous => "ANONYMOUS",
        }
    }

    /// Whether whoever reads along has the password or the token.
    pub(super) fn shows_secret(self) -> bool {
        matches!(self, Plain | Login | XOAuth2 | OAuthBearer)
    }

    /// Whether it can say as whom one wants to act.
    pub(super) fn carries_identity(self) -> bool {
        matches!(self, ScramSha256 | ScramSha1 | Plain | OAuthBearer | External)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for AuthMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AuthMechanism {
    type Err = UnknownMechanism;

    /// By the registered name, in any case.
    fn from_str(name: &str) -> Result<AuthMechanism, UnknownMechanism> {
        let found = ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name));
        found.ok_or(UnknownMechanism)
    }
}

/// A mechanism of ours, or the caller's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Ours(AuthMechanism),
    Custom,
}

impl Choice {
    fn bit(self) -> u16 {
        match self {
            Choice::Ours(mechanism) => mechanism.bit(),
            Choice::Custom => 1 << 15,
        }
    }
}

/// A set of mechanisms. The set of those that were answered 504 on this
/// opening, which are not worth another attempt.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tried(u16);

impl Tried {
    pub(crate) fn add(&mut self, exchange: &super::Exchange) {
        self.0 |= exchange.choice().bit();
    }

    pub(super) fn has(self, choice: Choice) -> bool {
        self.0 & choice.bit() != 0
    }
}

impl fmt::Debug for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(ALL.iter().filter(|mechanism| self.has(Choice::Ours(**mechanism)))).finish()
    }
}

/// What a server offers.
pub(super) struct Offered {
    known: u16,
    has_custom: bool,
    text: String,
}

impl Offered {
    /// `custom` is the name of the caller's own mechanism.
    pub(super) fn read(names: &mut dyn Iterator<Item = &str>, custom: Option<&str>) -> Offered {
        let mut offered = Offered { known: 0, has_custom: false, text: String::new() };
        for name in names {
            if let Ok(mechanism) = name.parse::<AuthMechanism>() {
                offered.known |= mechanism.bit();
            }
            offered.has_custom |= custom.is_some_and(|own| own.eq_ignore_ascii_case(name));
            offered.list(name);
        }
        offered
    }

    pub(super) fn has(&self, mechanism: AuthMechanism) -> bool {
        self.known & mechanism.bit() != 0
    }

    pub(super) fn has_custom(&self) -> bool {
        self.has_custom
    }

    pub(super) fn into_text(self) -> Box<str> {
        self.text.into()
    }

    fn list(&mut self, name: &str) {
        let is_listed = is_name(&name.to_ascii_uppercase());
        if is_listed && self.text.len() + name.len() < MAX_TEXT {
            let space = if self.text.is_empty() { "" } else { " " };
            self.text.extend([space, name]);
        }
    }
}

/// Whether this can be the name of a mechanism (RFC 4422 §3.1).
pub(super) fn is_name(name: &str) -> bool {
    let is_letter = |octet| matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_letter)
}
