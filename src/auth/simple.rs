//! The mechanisms that answer out of what they know: PLAIN, LOGIN, CRAM-MD5,
//! EXTERNAL and ANONYMOUS. None of them lets a server ask twice.

use std::fmt::Write;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use md5::Md5;
use sasl::client::{Mechanism, MechanismError};
use sasl::common::{Credentials, Secret};

use super::account::{Account, check_trace, prepared_identity, take_password, user_of};

/// PLAIN (RFC 4616).
pub(super) struct Plain {
    account: Arc<Account>,
    identity: Option<Box<str>>,
}

impl Plain {
    pub(super) fn new(account: Arc<Account>, identity: Option<Box<str>>) -> Plain {
        Plain { account, identity }
    }
}

impl Mechanism for Plain {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn from_credentials(credentials: Credentials) -> Result<Plain, MechanismError> {
        Ok(Plain::new(account(credentials)?, None))
    }

    fn initial(&mut self) -> Vec<u8> {
        let identity = self.identity.as_deref().unwrap_or_default();
        let (user, password) = (self.account.user(), self.account.password());
        // At its exact length: a string that grows leaves its beginnings behind.
        [identity, user, password].join("\0").into_bytes()
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        Err(MechanismError::InvalidState)
    }
}

/// LOGIN, as servers have it: they ask twice, in whatever words.
pub(super) struct Login {
    account: Arc<Account>,
    answered: u8,
}

impl Login {
    pub(super) fn new(account: Arc<Account>) -> Login {
        Login { account, answered: 0 }
    }
}

impl Mechanism for Login {
    fn name(&self) -> &str {
        "LOGIN"
    }

    fn from_credentials(credentials: Credentials) -> Result<Login, MechanismError> {
        account(credentials).map(Login::new)
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        let answer = match self.answered {
            0 => self.account.user(),
            1 => self.account.password(),
            _ => return Err(MechanismError::InvalidState),
        };
        self.answered += 1;
        Ok(answer.as_bytes().to_vec())
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        if self.answered == 2 { Ok(()) } else { Err(MechanismError::InvalidState) }
    }
}

/// CRAM-MD5 (RFC 2195).
pub(super) struct CramMd5 {
    account: Arc<Account>,
    is_answered: bool,
}

impl CramMd5 {
    pub(super) fn new(account: Arc<Account>) -> CramMd5 {
        CramMd5 { account, is_answered: false }
    }
}

impl Mechanism for CramMd5 {
    fn name(&self) -> &str {
        "CRAM-MD5"
    }

    fn from_credentials(credentials: Credentials) -> Result<CramMd5, MechanismError> {
        account(credentials).map(CramMd5::new)
    }

    fn response(&mut self, challenge: &[u8]) -> Result<Vec<u8>, MechanismError> {
        // With an empty challenge the answer would be the same every time.
        if self.is_answered || challenge.is_empty() {
            return Err(MechanismError::CannotDecodeChallenge);
        }
        let mut mac = Hmac::<Md5>::new_from_slice(self.account.password().as_bytes())?;
        mac.update(challenge);
        let digest = mac.finalize().into_bytes();
        let user = self.account.user();
        let mut answer = String::with_capacity(user.len() + 1 + 2 * digest.len());
        answer.extend([user, " "]);
        for octet in digest {
            write!(answer, "{octet:02x}").map_err(|_| MechanismError::InvalidState)?;
        }
        self.is_answered = true;
        Ok(answer.into_bytes())
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        if self.is_answered { Ok(()) } else { Err(MechanismError::InvalidState) }
    }
}

/// EXTERNAL (RFC 4422 appendix A).
pub(super) struct External {
    identity: Option<Box<str>>,
}

impl External {
    pub(super) fn new(identity: Option<Box<str>>) -> External {
        External { identity }
    }
}

impl Mechanism for External {
    fn name(&self) -> &str {
        "EXTERNAL"
    }

    fn from_credentials(credentials: Credentials) -> Result<External, MechanismError> {
        let identity =
            user_of(&credentials).map(|identity| prepared_identity(identity, false)).transpose()?;
        Ok(External::new(identity))
    }

    fn initial(&mut self) -> Vec<u8> {
        self.identity.as_deref().unwrap_or_default().into()
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        Err(MechanismError::InvalidState)
    }
}

/// ANONYMOUS (RFC 4505).
pub(super) struct Anonymous {
    trace: Arc<str>,
}

impl Anonymous {
    pub(super) fn new(trace: Arc<str>) -> Anonymous {
        Anonymous { trace }
    }
}

impl Mechanism for Anonymous {
    fn name(&self) -> &str {
        "ANONYMOUS"
    }

    fn from_credentials(credentials: Credentials) -> Result<Anonymous, MechanismError> {
        if !matches!(credentials.secret, Secret::None) {
            return Err(MechanismError::AnonymousRequiresNoCredentials);
        }
        let trace = user_of(&credentials).unwrap_or_default();
        check_trace(trace)?;
        Ok(Anonymous::new(trace.into()))
    }

    fn initial(&mut self) -> Vec<u8> {
        self.trace.as_bytes().to_vec()
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        Err(MechanismError::InvalidState)
    }
}

fn account(mut credentials: Credentials) -> Result<Arc<Account>, MechanismError> {
    let password = take_password(&mut credentials).ok_or(MechanismError::PlainRequiresPlaintextPassword)?;
    let user = user_of(&credentials).ok_or(MechanismError::PlainRequiresUsername)?;
    Ok(Arc::new(Account::new(user, &password, false)?))
}
