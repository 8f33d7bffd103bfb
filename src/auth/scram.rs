//! SCRAM (RFC 5802, RFC 7677) for any hash that `sasl` has primitives for. It
//! never says a proof to a server whose nonce or iteration count it did not
//! check, and never believes a server that did not sign.
//!
//! No channel binding: the system's TLS libraries give none that the -PLUS
//! mechanisms may use, so they are never chosen, and the header says `n`, that
//! this client has none, not `y`, that the server seems to have none.

use std::marker::PhantomData;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sasl::client::{Mechanism, MechanismError};
use sasl::common::Credentials;
use sasl::common::scram::{ScramProvider, generate_nonce};
use secrecy::zeroize::Zeroizing;
use subtle::ConstantTimeEq;

use super::DEFAULT_MAX_ITERATIONS;
use super::account::{Account, take_password, user_of};
use super::fault::AuthFault;
use super::keys::{Key, Recipe, derive};

/// The fewest iterations that are answered (RFC 5802 §5.1, RFC 7677 §4): with
/// fewer, whoever plays the server could try passwords cheaply.
pub(super) const MIN_ITERATIONS: u32 = 4096;

/// Octets of both nonces together; usual are 32 to 100.
const MAX_NONCE: usize = 1024;

/// Octets of a salt; usual are 16.
const MAX_SALT: usize = 1024;

/// The errors of RFC 5802 §7. Others are called by the last name, so that no
/// text of a server's is repeated.
const SERVER_ERRORS: [&str; 11] = [
    "invalid-encoding",
    "extensions-not-supported",
    "invalid-proof",
    "channel-bindings-dont-match",
    "server-does-support-channel-binding",
    "channel-binding-not-supported",
    "unsupported-channel-binding-type",
    "unknown-user",
    "invalid-username-encoding",
    "no-resources",
    OTHER_ERROR,
];

const OTHER_ERROR: &str = "other-error";

/// What a mechanism with a derived key made of a challenge.
pub(super) enum Heard {
    /// The key of this recipe is needed for the answer.
    Needs(Recipe),
    /// The server proved that it knows the password; the answer is empty.
    Verified,
}

/// A mechanism whose answer needs a key that takes long to derive.
pub(super) trait Keyed: Mechanism + Send {
    /// Reads a challenge.
    fn hear(&mut self, challenge: &[u8]) -> Result<Heard, AuthFault>;

    /// Answers the challenge that needed a key.
    fn prove(&mut self, key: &Key) -> Result<Zeroizing<Vec<u8>>, AuthFault>;

    /// Derives the key. Takes long.
    fn derive(&self) -> fn(&Account, &Recipe) -> Option<Key>;
}

/// ```text
/// Fresh ─initial─▶ Sent ─hear─▶ Keyless ─prove─▶ Proved ─hear─▶ Verified
/// ```
/// Any fault leads to `Broken`, and so does what comes out of order.
enum State {
    Fresh,
    Sent,
    Keyless(ServerFirst),
    Proved { signature: Zeroizing<Vec<u8>> },
    Verified,
    Broken,
}

/// The server's first message, checked.
struct ServerFirst {
    message: String,
    nonce: String,
    recipe: Recipe,
}

/// One exchange of SCRAM.
pub(super) struct Scram<P> {
    name: String,
    account: Arc<Account>,
    header: String,
    nonce: String,
    max_iterations: u32,
    state: State,
    provider: PhantomData<fn() -> P>,
}

impl<P: ScramProvider> Scram<P> {
    pub(super) fn new(
        account: Arc<Account>,
        identity: Option<&str>,
        max_iterations: u32,
    ) -> Result<Scram<P>, AuthFault> {
        let nonce = generate_nonce().map_err(|_| AuthFault::Randomness)?;
        Ok(Scram::with_nonce(account, identity, max_iterations, nonce))
    }

    /// The nonce is printable ASCII without commas, and never used before.
    pub(super) fn with_nonce(
        account: Arc<Account>,
        identity: Option<&str>,
        max_iterations: u32,
        nonce: String,
    ) -> Scram<P> {
        let header = match identity {
            Some(identity) => format!("n,a={},", escaped(identity)),
            None => "n,,".to_owned(),
        };
        Scram {
            name: format!("SCRAM-{}", P::name()),
            account,
            header,
            nonce,
            max_iterations,
            state: State::Fresh,
            provider: PhantomData,
        }
    }

    fn client_first_bare(&self) -> String {
        format!("n={},r={}", escaped(self.account.user()), self.nonce)
    }

    /// `r=…,s=…,i=…` in this order, and perhaps extensions, which may be
    /// ignored unless it is a mandatory one (RFC 5802 §5.1, §7).
    fn read_first(&self, challenge: &[u8]) -> Result<ServerFirst, AuthFault> {
        refuse_error(challenge)?;
        let message = str::from_utf8(challenge).map_err(|_| AuthFault::Challenge)?;
        let mut attributes = message.split(',');
        let mut next = |name| {
            let value = attributes.next().and_then(|attribute: &str| attribute.strip_prefix(name));
            value.ok_or(AuthFault::Challenge)
        };
        let (nonce, salt, count) = (next("r=")?, next("s=")?, next("i=")?);
        if attributes.any(|extension| extension.starts_with("m=")) {
            return Err(AuthFault::Challenge);
        }
        let added = nonce.strip_prefix(self.nonce.as_str()).ok_or(AuthFault::ServerNonce)?;
        let is_printable = added.bytes().all(|octet| octet.is_ascii_graphic());
        if added.is_empty() || !is_printable || nonce.len() > MAX_NONCE {
            return Err(AuthFault::ServerNonce);
        }
        let salt = BASE64.decode(salt).map_err(|_| AuthFault::Challenge)?;
        if !(1..=MAX_SALT).contains(&salt.len()) {
            return Err(AuthFault::Challenge);
        }
        let iterations = self.read_count(count)?;
        let recipe = Recipe { hash: P::name(), salt: salt.into(), iterations };
        Ok(ServerFirst { message: message.to_owned(), nonce: nonce.to_owned(), recipe })
    }

    fn read_count(&self, text: &str) -> Result<u32, AuthFault> {
        let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
        if text.is_empty() || text.starts_with('0') || !is_number {
            return Err(AuthFault::Challenge);
        }
        let count = text.parse().unwrap_or(u32::MAX);
        match (MIN_ITERATIONS..=self.max_iterations).contains(&count) {
            true => Ok(count),
            false => Err(AuthFault::Iterations(count)),
        }
    }
}

impl<P: ScramProvider> Keyed for Scram<P> {
    fn hear(&mut self, challenge: &[u8]) -> Result<Heard, AuthFault> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Sent => {
                let first = self.read_first(challenge)?;
                let recipe = first.recipe.clone();
                self.state = State::Keyless(first);
                Ok(Heard::Needs(recipe))
            }
            State::Proved { signature } => {
                verify(challenge, &signature)?;
                self.state = State::Verified;
                Ok(Heard::Verified)
            }
            _ => Err(AuthFault::Challenge),
        }
    }

    /// RFC 5802 §3.
    fn prove(&mut self, key: &Key) -> Result<Zeroizing<Vec<u8>>, AuthFault> {
        let State::Keyless(first) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(AuthFault::Challenge);
        };
        let bound = BASE64.encode(&self.header);
        let unproved = format!("c={bound},r={}", first.nonce);
        let message = format!("{},{},{unproved}", self.client_first_bare(), first.message);
        let client_key = hmac::<P>(b"Client Key", key)?;
        let client_signature = hmac::<P>(message.as_bytes(), &P::hash(&client_key))?;
        let proof = client_key.iter().zip(client_signature.iter()).map(|(key, signature)| key ^ signature);
        let proof: Zeroizing<Vec<u8>> = Zeroizing::new(proof.collect());
        let proof = Zeroizing::new(BASE64.encode(&proof));
        // At its exact length: a string that grows leaves its beginnings behind.
        let answer = [unproved.as_str(), ",p=", &proof].concat();
        let server_key = hmac::<P>(b"Server Key", key)?;
        let signature = hmac::<P>(message.as_bytes(), &server_key)?;
        self.state = State::Proved { signature };
        Ok(Zeroizing::new(answer.into_bytes()))
    }

    fn derive(&self) -> fn(&Account, &Recipe) -> Option<Key> {
        derive::<P>
    }
}

impl<P: ScramProvider> Mechanism for Scram<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn from_credentials(mut credentials: Credentials) -> Result<Scram<P>, MechanismError> {
        let password = take_password(&mut credentials).ok_or(MechanismError::ScramRequiresPassword)?;
        let user = user_of(&credentials).ok_or(MechanismError::ScramRequiresUsername)?;
        let account = Account::new(user, &password, false)?;
        Ok(Scram::new(Arc::new(account), None, DEFAULT_MAX_ITERATIONS)?)
    }

    fn initial(&mut self) -> Vec<u8> {
        self.state = State::Sent;
        format!("{}{}", self.header, self.client_first_bare()).into_bytes()
    }

    /// Derives the key where it stands, which takes long.
    fn response(&mut self, challenge: &[u8]) -> Result<Vec<u8>, MechanismError> {
        let Heard::Needs(recipe) = self.hear(challenge)? else { return Ok(Vec::new()) };
        let key = derive::<P>(&self.account, &recipe).ok_or(MechanismError::InvalidState)?;
        let mut answer = self.prove(&key)?;
        Ok(std::mem::take(&mut *answer))
    }

    /// The signature has come as a challenge, or comes here.
    fn success(&mut self, data: &[u8]) -> Result<(), MechanismError> {
        match self.state {
            State::Verified if data.is_empty() => Ok(()),
            State::Proved { .. } if !data.is_empty() => Ok(self.hear(data).map(drop)?),
            _ => Err(MechanismError::NoSignatureInSuccessResponse),
        }
    }
}

/// `v=…` or `e=…`, and perhaps extensions.
fn verify(challenge: &[u8], signature: &[u8]) -> Result<(), AuthFault> {
    refuse_error(challenge)?;
    let first = first_attribute(challenge);
    let claimed = first.strip_prefix(b"v=").ok_or(AuthFault::ServerSignature)?;
    let claimed = BASE64.decode(claimed).map_err(|_| AuthFault::ServerSignature)?;
    match bool::from(claimed.ct_eq(signature)) {
        true => Ok(()),
        false => Err(AuthFault::ServerSignature),
    }
}

/// A server may end either of its messages with an error in its place.
fn refuse_error(challenge: &[u8]) -> Result<(), AuthFault> {
    let Some(error) = first_attribute(challenge).strip_prefix(b"e=") else { return Ok(()) };
    let known = SERVER_ERRORS.into_iter().find(|name| name.as_bytes() == error);
    Err(AuthFault::ServerError(known.unwrap_or(OTHER_ERROR)))
}

fn first_attribute(challenge: &[u8]) -> &[u8] {
    challenge.split(|octet| *octet == b',').next().unwrap_or_default()
}

fn hmac<P: ScramProvider>(data: &[u8], key: &[u8]) -> Result<Zeroizing<Vec<u8>>, AuthFault> {
    // HMAC takes keys of any length.
    P::hmac(data, key).map(Zeroizing::new).map_err(|_| AuthFault::Challenge)
}

/// A name with its commas and equals signs escaped (RFC 5802 §5.1, saslname).
pub(super) fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}
