//! Several extensions in one word: what a server offers, what a mail needs, what was switched off.

use std::fmt;

use super::{Extension, KEYWORDS};

/// A set of [`Extension`]s, as large as one `u32`.
///
/// ```
/// use smtp_bulk::{Extension, ExtensionSet};
///
/// let offered: ExtensionSet = [Extension::Size, Extension::Dsn].into_iter().collect();
/// let needed = ExtensionSet::from(Extension::RequireTls);
/// let missing = needed.without(offered);
/// assert_eq!(missing.iter().next(), Some(Extension::RequireTls));
/// assert_eq!(offered.to_string(), "SIZE DSN");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExtensionSet(u32);

impl ExtensionSet {
    /// None at all.
    pub const EMPTY: ExtensionSet = ExtensionSet(0);

    /// Whether this one is among them.
    #[must_use]
    pub const fn contains(self, extension: Extension) -> bool {
        self.0 & bit(extension) != 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, extension: Extension) -> ExtensionSet {
        ExtensionSet(self.0 | bit(extension))
    }

    /// Those of them that are not among the `others`.
    #[must_use]
    pub const fn without(self, others: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 & !others.0)
    }

    /// These and the `others`.
    #[must_use]
    pub const fn union(self, others: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 | others.0)
    }

    /// Those that are among the `others`, too.
    #[must_use]
    pub const fn intersection(self, others: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 & others.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them once, in the order in which [`Extension`] lists them.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        KEYWORDS
            .into_iter()
            .map(|(_, extension)| extension)
            .filter(move |extension| self.contains(*extension))
    }
}

impl From<Extension> for ExtensionSet {
    fn from(extension: Extension) -> ExtensionSet {
        ExtensionSet::EMPTY.with(extension)
    }
}

impl FromIterator<Extension> for ExtensionSet {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> ExtensionSet {
        extensions.into_iter().fold(ExtensionSet::EMPTY, ExtensionSet::with)
    }
}

impl fmt::Debug for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The keywords with a space between them.
impl fmt::Display for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, extension) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            f.write_str(extension.keyword())?;
        }
        Ok(())
    }
}

const fn bit(extension: Extension) -> u32 {
    1 << extension as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_has_a_bit_of_its_own() {
        let all: ExtensionSet = KEYWORDS.iter().map(|(_, extension)| *extension).collect();
        assert_eq!(all.0.count_ones() as usize, KEYWORDS.len());
        assert_eq!(all.iter().count(), KEYWORDS.len());
        for extension in all.iter() {
            let others = all.without(extension.into());
            assert!(!others.contains(extension) && others.with(extension) == all);
            assert_eq!(ExtensionSet::from(extension).union(others), all);
            assert!(!extension.keyword().is_empty());
        }
    }

    #[test]
    fn an_empty_set_is_the_default_and_shows_nothing() {
        assert_eq!(ExtensionSet::default(), ExtensionSet::EMPTY);
        assert!(ExtensionSet::EMPTY.is_empty());
        assert_eq!(format!("{:?}{0}", ExtensionSet::EMPTY), "{}");
        assert_eq!(format!("{:?}", ExtensionSet::from(Extension::Dsn)), "{Dsn}");
    }
}
