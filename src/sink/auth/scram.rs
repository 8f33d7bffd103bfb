//! SCRAM (RFC 5802, RFC 7677) without channel binding, from the server's side.
//!
//! It never computes a number of iterations that would hold the server up: beyond a limit every
//! proof is a wrong one.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sasl::common::Password;
use sasl::common::scram::{ScramProvider, Sha1, Sha256};
use subtle::ConstantTimeEq;

use super::{AuthQuirk, Login, Offer};

/// Iterations that are computed at most; about a second.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The bytes of a salt.
const SALT_SIZE: usize = 16;

/// The hash of the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::hash(data),
            Self::Sha256 => Sha256::hash(data),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Sha1 => Sha1::hmac(data, key).ok(),
            Self::Sha256 => Sha256::hmac(data, key).ok(),
        }
    }

    /// The salted password; none when that would take too long.
    pub(super) fn derive(self, password: &str, salt: &[u8], iterations: u32) -> Option<Vec<u8>> {
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return None;
        }
        let password = Password::Plain(password.to_owned());
        match self {
            Self::Sha1 => Sha1::derive(&password, salt, iterations).ok(),
            Self::Sha256 => Sha256::derive(&password, salt, iterations).ok(),
        }
    }
}

/// The salt of a user, known or not: always the same, so that a client's keys can be kept.
pub(super) fn salt(user: &str) -> Vec<u8> {
    let mut salt = Sha256::hash(format!("salt of the sink for {user}").as_bytes());
    salt.truncate(SALT_SIZE);
    salt
}

/// An exchange in which the client has to prove next who it is.
pub(super) struct Proving {
    hash: Hash,
    login: Login,
    /// The client's first message up to `n=`, which it has to repeat.
    header: String,
    /// The rest of it.
    first_bare: String,
    server_first: String,
    nonce: String,
}

impl Proving {
    /// Takes the client's first message; none when it is not one.
    pub(super) fn begin(hash: Hash, text: &str, offer: &Offer) -> Option<Self> {
        let (acting_as, bare) = after_binding_flag(text)?;
        let mut attributes = bare.split(',');
        let user = decode_name(attributes.next()?.strip_prefix("n=")?)?;
        let theirs = attributes.next()?.strip_prefix("r=").filter(|nonce| is_printable(nonce))?;
        if user.is_empty() {
            return None;
        }
        let nonce = match offer.quirk() {
            Some(AuthQuirk::WrongNonce) => super::nonce(),
            _ => format!("{theirs}{}", super::nonce()),
        };
        let salt = STANDARD.encode(salt(&user));
        let server_first = format!("r={nonce},s={salt},i={}", offer.iterations());
        let header = text.strip_suffix(bare)?.to_owned();
        let login = Login::new(user, &acting_as);
        Some(Self { hash, login, header, first_bare: bare.to_owned(), server_first, nonce })
    }

    pub(super) fn challenge(&self) -> &str {
        &self.server_first
    }

    pub(super) fn into_login(self) -> Login {
        self.login
    }

    /// The server's signature, if the client's proof is right (RFC 5802 §3).
    pub(super) fn verify(&self, message: &Final<'_>, offer: &Offer) -> Option<Vec<u8>> {
        let salted = offer.salted(&self.login.user, self.hash)?;
        let signed = format!("{},{},{}", self.first_bare, self.server_first, message.without_proof);
        let client_key = self.hash.hmac(salted, b"Client Key")?;
        let stored_key = self.hash.hash(&client_key);
        let client_signature = self.hash.hmac(&stored_key, signed.as_bytes())?;
        let proof: Vec<u8> = client_key.iter().zip(&client_signature).map(|(key, mask)| key ^ mask).collect();
        let proved = bool::from(proof.ct_eq(&message.proof))
            && message.nonce == self.nonce
            && message.header == self.header.as_bytes()
            && offer.permits(&self.login);
        let server_key = self.hash.hmac(salted, b"Server Key")?;
        self.hash.hmac(&server_key, signed.as_bytes()).filter(|_| proved)
    }
}

/// The client's final message.
pub(super) struct Final<'a> {
    header: Vec<u8>,
    nonce: &'a str,
    proof: Vec<u8>,
    without_proof: &'a str,
}

impl<'a> Final<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let header = STANDARD.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        Some(Self { header, nonce, proof: STANDARD.decode(proof).ok()?, without_proof })
    }
}

/// The server's final message.
pub(super) fn server_final(signature: &[u8]) -> String {
    format!("v={}", STANDARD.encode(signature))
}

/// Takes the header of RFC 5801 §4 off; returns the authorization identity and what follows. Channel
/// binding (`p=`) is not offered, and so is a mistake.
pub(super) fn after_binding_flag(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (flag, rest) = text.split_once(',')?;
    let (identity, behind) = rest.split_once(',')?;
    if !matches!(flag, "n" | "y") {
        return None;
    }
    if identity.is_empty() {
        return Some((Cow::Borrowed(""), behind));
    }
    let identity = decode_name(identity.strip_prefix("a=")?)?;
    (!identity.is_empty()).then_some((identity, behind))
}

/// Takes `=2C` and `=3D` out of a name; no other `=` may stand in it.
fn decode_name(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains('=') {
        return Some(Cow::Borrowed(name));
    }
    let mut parts = name.split('=');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let (letter, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else {
            ('=', part.strip_prefix("3D")?)
        };
        decoded.push(letter);
        decoded.push_str(rest);
    }
    Some(Cow::Owned(decoded))
}

fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::auth::AuthSettings;

    #[test]
    fn names_are_decoded() {
        assert_eq!(decode_name("a=2Cb=3D=3D ü").as_deref(), Some("a,b== ü"));
        for bad in ["=", "a=2c", "a=b", "=2"] {
            assert_eq!(decode_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn first_messages_have_their_form() {
        let offer = Offer::new(AuthSettings::default(), "h");
        let begin = |text| Proving::begin(Hash::Sha256, text, &offer);
        assert!(begin("n,,n=user,r=abc").is_some());
        assert!(begin("y,a=other,n=user,r=abc,ext=1").is_some());
        for bad in [
            "",
            "n,,",
            "n,n=user,r=abc",
            "n,,n=,r=abc",
            "n,,n=user,r=",
            "n,,r=abc,n=user",
            "n,,m=x,n=user,r=abc",
            "n,a=,n=user,r=abc",
            "p=tls-unique,,n=user,r=abc",
            "n,,n=us=er,r=abc",
        ] {
            assert!(begin(bad).is_none(), "{bad}");
        }
    }

    /// RFC 5802 §5 and RFC 7677 §3, with the nonces and salts that they have.
    #[test]
    fn the_examples_of_the_rfcs_are_right() {
        let cases = [
            (
                Hash::Sha1,
                "QSXCR+Q6sek8bf92",
                "fyko+d2lbbFgONRv9qkxdawL",
                "3rfcNHYJY1ZVvWVs7j",
                "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
            (
                Hash::Sha256,
                "W22ZaJ0SNY7soEsUEjb6gQ==",
                "rOprNGfwEbeRWgbNEkqO",
                "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ];
        for (hash, salt, theirs, ours, proof, signature) in cases {
            let salted = hash.derive("pencil", &STANDARD.decode(salt).unwrap(), 4096).unwrap();
            let offer = Offer::with_salted("user", hash, salted);
            let nonce = format!("{theirs}{ours}");
            let proving = Proving {
                hash,
                login: Login::new("user", ""),
                header: "n,,".to_owned(),
                first_bare: format!("n=user,r={theirs}"),
                server_first: format!("r={nonce},s={salt},i=4096"),
                nonce: nonce.clone(),
            };
            let verify = |text: String| proving.verify(&Final::parse(&text).unwrap(), &offer);
            let right = verify(format!("c=biws,r={nonce},p={proof}"));
            assert_eq!(right.map(|right| STANDARD.encode(right)).as_deref(), Some(signature));
            assert!(verify(format!("c=biws,r={nonce},p={signature}")).is_none());
            assert!(verify(format!("c=eSws,r={nonce},p={proof}")).is_none());
        }
    }

    #[test]
    fn an_absurd_number_of_iterations_is_never_computed() {
        assert!(Hash::Sha1.derive("x", b"salt", u32::MAX).is_none());
        assert!(Hash::Sha1.derive("x", b"salt", 0).is_none());
        assert!(Hash::Sha1.derive("x", b"salt", 1).is_some());
    }
}
