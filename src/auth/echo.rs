//! Notices a server that repeats what it must not: some quote the line that
//! they refuse. Compares octets case by case and in pieces, since a quotation
//! may be cut off.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::zeroize::Zeroizing;

use super::mechanism::{AuthMechanism, Choice};

/// Shorter secrets are in every other text by chance.
const SHORTEST: usize = 4;

/// A long secret is looked for in pieces of this many octets, so that no 31
/// octets of it in a row go unnoticed.
const PIECE: usize = 16;

/// What must not be repeated; wiped when it is dropped.
#[derive(Default)]
pub(super) struct Echoes {
    secrets: Vec<Zeroizing<Vec<u8>>>,
}

impl Echoes {
    /// A password or a token, and its base64.
    pub(super) fn add_secret(&mut self, secret: &str) {
        self.add(secret.as_bytes());
        self.add_base64(secret.as_bytes());
    }

    /// Something that was said to the server, which it got as base64.
    pub(super) fn add_answer(&mut self, answer: &[u8], choice: Choice) {
        self.add_base64(answer);
        match choice {
            // Whatever of it is the secret.
            Choice::Custom => self.add(answer),
            // What a password can be guessed with.
            Choice::Ours(AuthMechanism::CramMd5) => self.add(behind(answer, b" ")),
            Choice::Ours(AuthMechanism::ScramSha1 | AuthMechanism::ScramSha256) => {
                self.add(behind(answer, b",p="));
            }
            Choice::Ours(_) => {}
        }
    }

    /// What others have noticed.
    pub(super) fn add_all(&mut self, others: Echoes) {
        self.secrets.extend(others.secrets);
    }

    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.secrets.iter().any(|secret| {
            contains(text, secret) || secret.chunks_exact(PIECE).any(|piece| contains(text, piece))
        })
    }

    fn add(&mut self, secret: &[u8]) {
        if secret.len() >= SHORTEST {
            self.secrets.push(Zeroizing::new(secret.to_vec()));
        }
    }

    fn add_base64(&mut self, secret: &[u8]) {
        let encoded = Zeroizing::new(BASE64.encode(secret));
        // Some print it without its padding.
        self.add(encoded.trim_end_matches('=').as_bytes());
    }
}

/// What stands behind the last `mark`; nothing without one.
fn behind<'a>(text: &'a [u8], mark: &[u8]) -> &'a [u8] {
    let at = text.windows(mark.len()).rposition(|part| part == mark);
    at.and_then(|at| text.get(at + mark.len()..)).unwrap_or_default()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}
