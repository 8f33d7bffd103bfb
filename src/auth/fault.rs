//! Why authentication failed on our side, before or in place of a refusal by
//! the server. Kept, copied and printed like any other event, so nothing here
//! may carry a secret, nor what a server made of one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sasl::client::MechanismError;

/// Characters kept of a text that comes from somewhere else.
pub(super) const MAX_TEXT: usize = 200;

/// Why authentication failed on our side.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AuthFault {
    /// The server offers no mechanism that these credentials can use, or none
    /// that it has not turned down already.
    NoMechanism {
        /// What it offers, as far as it fits.
        offered: Box<str>,
    },
    /// Only mechanisms that show the password or the token are left, and the
    /// connection has no TLS.
    NeedsTls,
    /// A challenge that can't be decoded, or that comes out of order.
    Challenge,
    /// The server keeps challenging.
    TooManyChallenges,
    /// The server's nonce does not continue ours (RFC 5802 §5): its words
    /// belong to another exchange.
    ServerNonce,
    /// An iteration count below 4096 (RFC 7677 §4), which invites guessing, or
    /// above the cap, which ties up this machine.
    Iterations(u32),
    /// The server did not prove that it knows the password: its signature is
    /// missing or wrong (RFC 5802 §3).
    ServerSignature,
    /// The server ended SCRAM with an error (RFC 5802 §7), by the name that it
    /// has there.
    ServerError(&'static str),
    /// The credentials can't be used: what is wrong with them.
    Prohibited(&'static str),
    /// The token source failed, or gave what is no token. The text is the
    /// source's own, shortened.
    Token(Box<str>),
    /// The key or the token was not there in time ([`Timeouts::auth`](crate::Timeouts::auth)).
    Stalled,
    /// The mechanism of [`Credentials::custom`](super::Credentials::custom)
    /// failed. The text is its own, shortened.
    Mechanism(Box<str>),
    /// The operating system gave no random octets for a nonce.
    Randomness,
}

impl fmt::Display for AuthFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthFault::NoMechanism { offered } if offered.is_empty() => {
                f.write_str("the server offers no mechanism")
            }
            AuthFault::NoMechanism { offered } => {
                write!(f, "the server offers no usable mechanism, only {offered}")
            }
            AuthFault::NeedsTls => f.write_str("the mechanisms offered show the secret, and there is no TLS"),
            AuthFault::Challenge => f.write_str("the server's challenge makes no sense"),
            AuthFault::TooManyChallenges => f.write_str("the server does not stop challenging"),
            AuthFault::ServerNonce => f.write_str("the server's nonce does not continue ours"),
            AuthFault::Iterations(count) => write!(f, "an iteration count of {count} is not acceptable"),
            AuthFault::ServerSignature => f.write_str("the server did not prove that it knows the password"),
            AuthFault::ServerError(name) => write!(f, "the server ended the exchange: {name}"),
            AuthFault::Prohibited(what) => write!(f, "credentials that can't be used: {what}"),
            AuthFault::Token(text) => write!(f, "no token: {text}"),
            AuthFault::Stalled => f.write_str("the key or the token was not there in time"),
            AuthFault::Mechanism(text) => write!(f, "the mechanism failed: {text}"),
            AuthFault::Randomness => f.write_str("no random octets for a nonce"),
        }
    }
}

impl std::error::Error for AuthFault {}

/// What the trait of the mechanisms can say of a fault.
impl From<AuthFault> for MechanismError {
    fn from(fault: AuthFault) -> MechanismError {
        match fault {
            AuthFault::ServerNonce => MechanismError::NoServerNonce,
            AuthFault::Iterations(_) => MechanismError::NoServerIterations,
            AuthFault::ServerSignature => MechanismError::InvalidSignatureInSuccessResponse,
            AuthFault::Challenge => MechanismError::CannotDecodeChallenge,
            AuthFault::Randomness => MechanismError::CannotGenerateNonce,
            _ => MechanismError::InvalidState,
        }
    }
}

/// What a mechanism of our own can mean by an error of the trait.
impl From<MechanismError> for AuthFault {
    fn from(error: MechanismError) -> AuthFault {
        match error {
            MechanismError::NoServerNonce => AuthFault::ServerNonce,
            MechanismError::InvalidSignatureInSuccessResponse
            | MechanismError::NoSignatureInSuccessResponse => AuthFault::ServerSignature,
            MechanismError::CannotGenerateNonce => AuthFault::Randomness,
            _ => AuthFault::Challenge,
        }
    }
}

/// A name that is none of [`AuthMechanism`](super::AuthMechanism)'s. It does
/// not repeat the text, which may be a password in the wrong place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownMechanism;

impl fmt::Display for UnknownMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the name of a mechanism that this client has")
    }
}

impl std::error::Error for UnknownMechanism {}

/// As much of a text as an event can carry, without control characters.
pub(super) fn shortened(text: &str) -> Box<str> {
    text.chars().take(MAX_TEXT).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Stands for a panic, whose payload nobody reads: it may say anything.
pub(super) struct Panicked;

impl Panicked {
    pub(super) const TEXT: &str = "it panicked";
}

/// Runs code of the caller's, whose panic is a fault of one exchange and must
/// not unwind through a settle.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}
