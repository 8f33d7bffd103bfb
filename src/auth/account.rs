//! User names, passwords and identities as they may be sent: prepared by
//! SASLprep unless the caller wants them raw, and checked either way, so that
//! no mechanism has to escape or refuse anything but SCRAM's two letters.

use std::borrow::Cow;
use std::fmt;

use sasl::common::{Credentials, Identity, Password, Secret};
use secrecy::zeroize::{Zeroize, Zeroizing};
use secrecy::{ExposeSecret, SecretString};
use stringprep::{saslprep, tables};

use super::fault::AuthFault;

/// Octets of a user name or identity; servers take at least so many of each
/// (RFC 4616 §2).
const MAX_NAME: usize = 255;

/// Octets of a password. RFC 4616 §2 has servers take 255; more is in use.
const MAX_PASSWORD: usize = 1024;

/// Letters of an anonymous trace (RFC 4505 §2).
const MAX_TRACE: usize = 255;

/// What is wrong with a part of the credentials, in words for each case.
struct Words {
    most: usize,
    empty: &'static str,
    long: &'static str,
    nul: &'static str,
    unprepared: &'static str,
}

const USER: Words = Words {
    most: MAX_NAME,
    empty: "the user name is empty",
    long: "the user name is longer than 255 octets",
    nul: "the user name has a NUL or a ^A",
    unprepared: "the user name has what SASLprep prohibits (RFC 4013)",
};

const IDENTITY: Words = Words {
    most: MAX_NAME,
    empty: "the authorization identity is empty",
    long: "the authorization identity is longer than 255 octets",
    nul: "the authorization identity has a NUL or a ^A",
    unprepared: "the authorization identity has what SASLprep prohibits (RFC 4013)",
};

const PASSWORD: Words = Words {
    most: MAX_PASSWORD,
    empty: "the password is empty",
    long: "the password is longer than 1024 octets",
    nul: "the password has a NUL",
    unprepared: "the password has what SASLprep prohibits (RFC 4013)",
};

/// Who logs in, and with which password, both ready to be sent.
pub(super) struct Account {
    user: Box<str>,
    password: SecretString,
}

impl Account {
    pub(super) fn new(user: &str, password: &SecretString, raw: bool) -> Result<Account, AuthFault> {
        let user = prepared_user(user, raw)?;
        let password = Zeroizing::new(prepared(password.expose_secret(), raw, &PASSWORD)?.into_owned());
        // NUL parts the fields of PLAIN, which the choice may fall on.
        if password.contains('\0') {
            return Err(AuthFault::Prohibited(PASSWORD.nul));
        }
        // Copied at its exact length: shrinking a string may leave it behind.
        Ok(Account { user, password: SecretString::from(password.as_str()) })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &str {
        self.password.expose_secret()
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account")
    }
}

/// A user name as it is sent.
pub(super) fn prepared_user(user: &str, raw: bool) -> Result<Box<str>, AuthFault> {
    prepared_name(user, raw, &USER)
}

/// An authorization identity as it is sent.
pub(super) fn prepared_identity(identity: &str, raw: bool) -> Result<Box<str>, AuthFault> {
    prepared_name(identity, raw, &IDENTITY)
}

fn prepared_name(name: &str, raw: bool, words: &Words) -> Result<Box<str>, AuthFault> {
    let name = prepared(name, raw, words)?;
    // NUL parts the fields of PLAIN, ^A those of XOAUTH2 and OAUTHBEARER.
    if name.contains(['\0', '\u{1}']) {
        return Err(AuthFault::Prohibited(words.nul));
    }
    Ok(name.into())
}

/// RFC 4954 §4 wants names prepared for transmission, RFC 5802 §5.1 passwords
/// too; to prepare what a server prepares anyway changes nothing.
fn prepared<'a>(text: &'a str, raw: bool, words: &Words) -> Result<Cow<'a, str>, AuthFault> {
    // Measured before it is prepared, for what that costs, and after.
    if text.len() > words.most {
        return Err(AuthFault::Prohibited(words.long));
    }
    let text = match raw {
        true => Cow::Borrowed(text),
        // Its error names the letter, which may be of a password.
        false => saslprep(text).map_err(|_| AuthFault::Prohibited(words.unprepared))?,
    };
    match text.len() {
        0 => Err(AuthFault::Prohibited(words.empty)),
        length if length > words.most => Err(AuthFault::Prohibited(words.long)),
        _ => Ok(text),
    }
}

/// A trace keeps its letters (RFC 4505 §3): they are checked, never mapped.
pub(super) fn check_trace(trace: &str) -> Result<(), AuthFault> {
    let is_prohibited = |letter: char| {
        tables::ascii_control_character(letter)
            || tables::non_ascii_control_character(letter)
            || tables::private_use(letter)
            || tables::non_character_code_point(letter)
            || tables::inappropriate_for_plain_text(letter)
            || tables::change_display_properties_or_deprecated(letter)
            || tables::tagging_character(letter)
    };
    if trace.chars().count() > MAX_TRACE {
        return Err(AuthFault::Prohibited("the trace is longer than 255 letters"));
    }
    if trace.chars().any(is_prohibited) {
        return Err(AuthFault::Prohibited("the trace has what RFC 4505 prohibits"));
    }
    Ok(())
}

/// The name in credentials of the trait's kind.
pub(super) fn user_of(credentials: &Credentials) -> Option<&str> {
    match &credentials.identity {
        Identity::Username(user) => Some(user),
        Identity::None => None,
    }
}

/// Takes the password out of credentials of the trait's kind and wipes it
/// there, where it is a plain string.
pub(super) fn take_password(credentials: &mut Credentials) -> Option<SecretString> {
    match &mut credentials.secret {
        Secret::Password(Password::Plain(text)) => {
            let password = SecretString::from(text.as_str());
            text.zeroize();
            Some(password)
        }
        Secret::Password(Password::Pbkdf2 { .. }) | Secret::None => None,
    }
}
