//! The server's side of SASL mechanisms (RFC 4422): what a client said goes in, a challenge or a
//! verdict comes out.
//!
//! Nothing here knows about lines, base64 or reply codes, and nothing here may print what a client
//! said. It is made for tests: it compares names and passwords as they were given to the builder,
//! so that a client's own preparation of them shows.
//!
//! ```text
//! Begun ─┬─▶ Named, Challenged, Proving ─┬─▶ accepted or rejected
//!        │                  └─▶ Signed ──┤
//!        ├─▶ Doomed ─────────────────────┤
//!        └───────────────────────────────┘
//! ```

mod bearer;
mod offer;
mod scram;

use std::fmt;
use std::mem;

use hmac::{Hmac, Mac};
use md5::Md5;
use subtle::ConstantTimeEq;

use scram::{Hash, Proving};

pub(super) use offer::{AuthSettings, Offer};

/// What the server does wrong within AUTH, beyond what a [`Misdeed`](super::Misdeed) does to a
/// reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthQuirk {
    /// SCRAM: the server's nonce does not begin with the client's.
    WrongNonce,
    /// SCRAM: the server's signature is another one.
    WrongSignature,
    /// SCRAM: 235 follows the client's proof at once, and the server proves nothing.
    NoSignature,
    /// SCRAM: 235 follows the client's first message, whether or not there is such a user.
    EarlySuccess,
    /// Any mechanism: in the place of 235 and 535 comes an empty challenge, again and again.
    EndlessChallenges,
    /// Any mechanism: AUTH always fails, with a 535 whose text repeats the client's last line as it
    /// was sent and as it was meant. SCRAM fails at the client's proof.
    EchoSecrets,
}

/// The mechanisms that the server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Scram(Hash),
    CramMd5,
    Plain,
    Login,
    Xoauth2,
    OauthBearer,
    External,
    Anonymous,
}

impl Mechanism {
    pub(super) fn parse(name: &str) -> Option<Self> {
        const TABLE: [(&str, Mechanism); 9] = [
            ("SCRAM-SHA-256", Mechanism::Scram(Hash::Sha256)),
            ("SCRAM-SHA-1", Mechanism::Scram(Hash::Sha1)),
            ("CRAM-MD5", Mechanism::CramMd5),
            ("PLAIN", Mechanism::Plain),
            ("LOGIN", Mechanism::Login),
            ("XOAUTH2", Mechanism::Xoauth2),
            ("OAUTHBEARER", Mechanism::OauthBearer),
            ("EXTERNAL", Mechanism::External),
            ("ANONYMOUS", Mechanism::Anonymous),
        ];
        TABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, mechanism)| mechanism)
    }

    /// Whether it sends what is secret as it is.
    pub(super) fn is_plaintext(self) -> bool {
        matches!(self, Self::Plain | Self::Login | Self::Xoauth2 | Self::OauthBearer)
    }
}

/// Who has proved to be somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    /// Whom the client asked to act as, when it named one.
    pub(super) acting_as: Option<String>,
}

impl Login {
    fn new(user: impl Into<String>, acting_as: &str) -> Self {
        Self { user: user.into(), acting_as: (!acting_as.is_empty()).then(|| acting_as.to_owned()) }
    }
}

/// What the server says next.
pub(super) enum Turn {
    Challenge(Vec<u8>),
    Accept(Login),
    Reject,
    /// The client said what the mechanism does not have.
    Malformed,
}

enum Stage {
    Begun,
    /// LOGIN knows the user and waits for the password.
    Named(String),
    /// CRAM-MD5 waits for the digest of this.
    Challenged(String),
    /// SCRAM waits for the client's proof.
    Proving(Box<Proving>),
    /// SCRAM has proved itself, and waits for the client to take note.
    Signed(Login),
    /// The client was told why it fails, and has to say this before it fails.
    Doomed(&'static [u8]),
    /// [`AuthQuirk::EndlessChallenges`] is at work.
    Endless,
    Over,
}

/// One AUTH command from its beginning to its verdict.
pub(super) struct Exchange {
    mechanism: Mechanism,
    stage: Stage,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Exchange {
    pub(super) fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, stage: Stage::Begun }
    }

    /// Takes what the client said, or nothing when it only named the mechanism.
    pub(super) fn advance(&mut self, said: Option<&[u8]>, offer: &Offer) -> Turn {
        let turn = match (mem::replace(&mut self.stage, Stage::Over), said) {
            (Stage::Begun, None) => self.invite(offer),
            (Stage::Begun, Some(said)) => self.hear_first(said, offer),
            (Stage::Named(user), Some(password)) => match offer.has_password(&user, password) {
                true => Turn::Accept(Login::new(user, "")),
                false => Turn::Reject,
            },
            (Stage::Challenged(challenge), Some(said)) => cram(&challenge, said, offer),
            (Stage::Proving(proving), Some(said)) => self.hear_proof(*proving, said, offer),
            (Stage::Signed(login), Some(b"")) => Turn::Accept(login),
            (Stage::Doomed(last_words), Some(said)) if said == last_words => Turn::Reject,
            (Stage::Endless, _) => Turn::Reject,
            _ => Turn::Malformed,
        };
        match turn {
            Turn::Accept(_) | Turn::Reject if offer.quirk() == Some(AuthQuirk::EndlessChallenges) => {
                self.stage = Stage::Endless;
                Turn::Challenge(Vec::new())
            }
            turn => turn,
        }
    }

    /// The first challenge; an empty one where the client speaks first (RFC 4954 §4).
    fn invite(&mut self, offer: &Offer) -> Turn {
        let challenge = match self.mechanism {
            Mechanism::Login => "Username:".to_owned(),
            Mechanism::CramMd5 => format!("<{}@{}>", nonce(), offer.hostname()),
            _ => String::new(),
        };
        self.stage = match self.mechanism {
            Mechanism::CramMd5 => Stage::Challenged(challenge.clone()),
            _ => Stage::Begun,
        };
        Turn::Challenge(challenge.into_bytes())
    }

    fn hear_first(&mut self, said: &[u8], offer: &Offer) -> Turn {
        let Ok(text) = std::str::from_utf8(said) else { return Turn::Malformed };
        match self.mechanism {
            Mechanism::Scram(hash) => self.begin_scram(hash, text, offer),
            Mechanism::Plain => plain(text, offer),
            Mechanism::Login => {
                self.stage = Stage::Named(text.to_owned());
                Turn::Challenge(b"Password:".to_vec())
            }
            Mechanism::Xoauth2 => self.judge_token(bearer::xoauth2(text), offer),
            Mechanism::OauthBearer => self.judge_token(bearer::oauth_bearer(text), offer),
            Mechanism::External if text.is_empty() || offer.knows(text) => Turn::Accept(Login::new(text, "")),
            Mechanism::External => Turn::Reject,
            // RFC 4505 §2: at most 255 characters of trace information.
            Mechanism::Anonymous if text.chars().count() <= 255 => Turn::Accept(Login::new("anonymous", "")),
            // The server begins (RFC 4954 §4: 501).
            Mechanism::Anonymous | Mechanism::CramMd5 => Turn::Malformed,
        }
    }

    fn begin_scram(&mut self, hash: Hash, text: &str, offer: &Offer) -> Turn {
        let Some(proving) = Proving::begin(hash, text, offer) else { return Turn::Malformed };
        if offer.quirk() == Some(AuthQuirk::EarlySuccess) {
            return Turn::Accept(proving.into_login());
        }
        let challenge = proving.challenge().as_bytes().to_vec();
        self.stage = Stage::Proving(Box::new(proving));
        Turn::Challenge(challenge)
    }

    fn hear_proof(&mut self, proving: Proving, said: &[u8], offer: &Offer) -> Turn {
        let Some(message) = std::str::from_utf8(said).ok().and_then(scram::Final::parse) else {
            return Turn::Malformed;
        };
        let Some(mut signature) = proving.verify(&message, offer) else { return Turn::Reject };
        let login = proving.into_login();
        match offer.quirk() {
            Some(AuthQuirk::EchoSecrets) => return Turn::Reject,
            Some(AuthQuirk::NoSignature) => return Turn::Accept(login),
            Some(AuthQuirk::WrongSignature) => signature.iter_mut().for_each(|byte| *byte = !*byte),
            _ => {}
        }
        self.stage = Stage::Signed(login);
        Turn::Challenge(scram::server_final(&signature).into_bytes())
    }

    fn judge_token(&mut self, ticket: Option<bearer::Ticket<'_>>, offer: &Offer) -> Turn {
        let Some(ticket) = ticket else { return Turn::Malformed };
        match offer.owner(ticket.user.as_deref(), ticket.token) {
            Some(user) => Turn::Accept(Login::new(user, "")),
            None => {
                self.stage = Stage::Doomed(ticket.last_words);
                Turn::Challenge(ticket.complaint.as_bytes().to_vec())
            }
        }
    }
}

/// RFC 4616: authorization identity, NUL, user, NUL, password.
fn plain(text: &str, offer: &Offer) -> Turn {
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(acting_as), Some(user), Some(password), None) if !user.is_empty() && !password.is_empty() => {
            let login = Login::new(user, acting_as);
            if offer.has_password(user, password.as_bytes()) && offer.permits(&login) {
                Turn::Accept(login)
            } else {
                Turn::Reject
            }
        }
        _ => Turn::Malformed,
    }
}

/// RFC 2195: user, space, HMAC-MD5 of the challenge in lower-case hexadecimal digits.
fn cram(challenge: &str, said: &[u8], offer: &Offer) -> Turn {
    let Some((user, digest)) = std::str::from_utf8(said).ok().and_then(|text| text.rsplit_once(' ')) else {
        return Turn::Malformed;
    };
    let expected = offer.password(user).and_then(|password| {
        let mut mac = <Hmac<Md5> as Mac>::new_from_slice(password.as_bytes()).ok()?;
        mac.update(challenge.as_bytes());
        let digits = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Some(digits)
    });
    match expected {
        Some(expected) if bool::from(expected.as_bytes().ct_eq(digest.as_bytes())) => {
            Turn::Accept(Login::new(user, ""))
        }
        _ => Turn::Reject,
    }
}

/// Text that no one said before. It need not be secret.
fn nonce() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(24).collect()
}
