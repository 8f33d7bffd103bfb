//! The keys that SCRAM derives from a password, kept so that many connections
//! to one server derive them once. A key is as good as the password: it leaves
//! this module only by reference, and is wiped when it is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sasl::common::Password;
use sasl::common::scram::ScramProvider;
use secrecy::zeroize::{Zeroize, Zeroizing};

use super::account::Account;

/// Keys kept at once. A server has one salt for a user and a hash; a few
/// servers behind one name may each have their own.
const MAX_KEYS: usize = 4;

pub(super) type Key = Zeroizing<Vec<u8>>;

/// What a key is derived from beside the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) hash: &'static str,
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: u32,
}

/// A place for one key, which whoever comes first fills.
pub(super) struct Slot {
    recipe: Recipe,
    key: OnceLock<Option<Key>>,
}

impl Slot {
    /// The key, where somebody has derived it.
    pub(super) fn key(&self) -> Option<&Key> {
        self.key.get().and_then(Option::as_ref)
    }

    pub(super) fn is_filled(&self) -> bool {
        self.key.get().is_some()
    }

    /// Derives the key unless it is there; whoever comes while it is being
    /// derived waits for it.
    pub(super) fn fill(&self, derive: impl FnOnce(&Recipe) -> Option<Key>) {
        self.key.get_or_init(|| derive(&self.recipe));
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// The keys of one password.
#[derive(Default)]
pub(super) struct Keys {
    slots: Mutex<VecDeque<Arc<Slot>>>,
}

impl Keys {
    /// The place of this key; the one that was asked for least recently makes
    /// room for it.
    pub(super) fn slot(&self, recipe: &Recipe) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter().position(|slot| slot.recipe == *recipe);
        let slot = known
            .and_then(|at| slots.remove(at))
            .unwrap_or_else(|| Arc::new(Slot { recipe: recipe.clone(), key: OnceLock::new() }));
        while slots.len() >= MAX_KEYS {
            slots.pop_front();
        }
        slots.push_back(Arc::clone(&slot));
        slot
    }
}

/// PBKDF2 (RFC 5802 §2.2). Takes a part of a second at high counts: not for
/// the executor.
pub(super) fn derive<P: ScramProvider>(account: &Account, recipe: &Recipe) -> Option<Key> {
    // A plain string that prints itself: made here, and wiped at once.
    let mut password = Password::Plain(account.password().to_owned());
    let key = P::derive(&password, &recipe.salt, recipe.iterations).map(Zeroizing::new);
    if let Password::Plain(text) = &mut password {
        text.zeroize();
    }
    key.ok()
}
