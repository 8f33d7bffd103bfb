//! The mechanisms that show a bearer token: XOAUTH2 (Google's) and OAUTHBEARER
//! (RFC 7628). A challenge is a refusal in both; it is answered with as little
//! as lets the server say so in a reply.

use std::sync::Arc;

use sasl::client::{Mechanism, MechanismError};
use sasl::common::Credentials;
use secrecy::ExposeSecret;

use super::account::{prepared_user, take_password, user_of};
use super::fault::AuthFault;
use super::scram::escaped;
use super::tokens::{Token, check};

/// XOAUTH2.
pub(super) struct XOAuth2(Bearer);

/// OAUTHBEARER.
pub(super) struct OAuthBearer(Bearer);

struct Bearer {
    user: Box<str>,
    token: Arc<Token>,
    is_refused: bool,
}

impl XOAuth2 {
    pub(super) fn new(user: Box<str>, token: Arc<Token>) -> XOAuth2 {
        XOAuth2(Bearer { user, token, is_refused: false })
    }
}

impl OAuthBearer {
    /// `identity` is whom to act as, usually the user whose the token is.
    pub(super) fn new(identity: Box<str>, token: Arc<Token>) -> OAuthBearer {
        OAuthBearer(Bearer { user: identity, token, is_refused: false })
    }
}

impl Mechanism for XOAuth2 {
    fn name(&self) -> &str {
        "XOAUTH2"
    }

    fn from_credentials(credentials: Credentials) -> Result<XOAuth2, MechanismError> {
        Bearer::from_credentials(credentials).map(XOAuth2)
    }

    fn initial(&mut self) -> Vec<u8> {
        let Bearer { user, token, .. } = &self.0;
        // At its exact length: a string that grows leaves its beginnings behind.
        ["user=", user, "\u{1}auth=Bearer ", token.text(), "\u{1}\u{1}"].concat().into_bytes()
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        self.0.hear().map(|()| Vec::new())
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        self.0.success()
    }
}

impl Mechanism for OAuthBearer {
    fn name(&self) -> &str {
        "OAUTHBEARER"
    }

    fn from_credentials(credentials: Credentials) -> Result<OAuthBearer, MechanismError> {
        Bearer::from_credentials(credentials).map(OAuthBearer)
    }

    /// Host and port may be left out (RFC 7628 §3.1).
    fn initial(&mut self) -> Vec<u8> {
        let Bearer { user, token, .. } = &self.0;
        ["n,a=", &escaped(user), ",\u{1}auth=Bearer ", token.text(), "\u{1}\u{1}"].concat().into_bytes()
    }

    /// RFC 7628 §3.2.3.
    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        self.0.hear().map(|()| vec![1])
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        self.0.success()
    }
}

impl Bearer {
    fn from_credentials(mut credentials: Credentials) -> Result<Bearer, MechanismError> {
        let token = take_password(&mut credentials).ok_or(MechanismError::PlainRequiresPlaintextPassword)?;
        let user = user_of(&credentials).ok_or(MechanismError::PlainRequiresUsername)?;
        check(token.expose_secret()).map_err(AuthFault::Prohibited)?;
        Ok(Bearer { user: prepared_user(user, false)?, token: Token::new(token, 1), is_refused: false })
    }

    fn hear(&mut self) -> Result<(), MechanismError> {
        if self.is_refused {
            return Err(MechanismError::InvalidState);
        }
        self.is_refused = true;
        Ok(())
    }

    /// A server that named an error does not accept after all.
    fn success(&self) -> Result<(), MechanismError> {
        if self.is_refused { Err(MechanismError::InvalidState) } else { Ok(()) }
    }
}
