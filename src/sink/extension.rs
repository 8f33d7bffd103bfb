//! The service extensions that the server can be told to offer, and how `EHLO` names them.
//!
//! Nothing here obeys a command; that an extension is offered means that the dialogue does what its
//! RFC says.

use super::builder::Builder;

/// The longest time that FUTURERELEASE holds a mail, in seconds, and the latest moment.
pub(super) const LONGEST_HOLD: u64 = 30 * 24 * 60 * 60;
const LATEST_HOLD: &str = "2099-12-31T23:59:59Z";

/// A service extension of SMTP; see [`Builder::announce`].
///
/// ```
/// use smtp_bulk::sink::{Extension, Sink};
///
/// let sink = Sink::builder()
///     .announce(Extension::Pipelining)
///     .announce(Extension::Chunking)
///     .conceal(Extension::EnhancedStatusCodes)
///     .start()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Extension {
    /// `ENHANCEDSTATUSCODES` (RFC 2034), announced by default. Concealed, it is only the
    /// announcement that is missing.
    EnhancedStatusCodes,
    /// `HELP` (RFC 5321 §4.1.1.8), announced by default, and answered in any case.
    Help,
    /// `PIPELINING` (RFC 2920). Pipelined commands are worked off in any case, unless
    /// [`Builder::strict_pipelining`] is set.
    Pipelining,
    /// `CHUNKING` (RFC 3030), which is `BDAT`.
    Chunking,
    /// `BINARYMIME` (RFC 3030): `BODY=BINARYMIME`, whose content comes by `BDAT` only.
    BinaryMime,
    /// `SIZE` (RFC 1870) with the limit of [`Builder::max_message_size`], or 0 without one.
    Size,
    /// `8BITMIME` (RFC 6152): `BODY=7BIT` and `BODY=8BITMIME`. Octets above 127 are taken in any
    /// case.
    EightBitMime,
    /// `SMTPUTF8` (RFC 6531): addresses in UTF-8, where `MAIL` has the parameter.
    SmtpUtf8,
    /// `DSN` (RFC 3461): `RET`, `ENVID`, `NOTIFY` and `ORCPT`.
    Dsn,
    /// `DELIVERBY` (RFC 2852): `BY`.
    DeliverBy,
    /// `MT-PRIORITY` (RFC 6710).
    MtPriority,
    /// `REQUIRETLS` (RFC 8689), announced under TLS only.
    RequireTls,
    /// `FUTURERELEASE` (RFC 4865): `HOLDFOR`, of 30 days at most, and `HOLDUNTIL`. Mails are taken
    /// at once all the same.
    FutureRelease,
    /// `LIMITS` (RFC 9422) with `RCPTMAX` of [`Builder::max_recipients`] and, where they are set,
    /// `MAILMAX` of [`Builder::max_mails`] and `RCPTDOMAINMAX` of
    /// [`Builder::max_recipient_domains`].
    Limits,
    /// `ETRN` (RFC 1985), answered 250: there is no queue to run.
    Etrn,
    /// `EXPN` (RFC 5321 §4.1.1.7), answered as `VRFY` is.
    Expn,
}

impl Extension {
    /// All of them, in the order of their announcement.
    pub const ALL: [Self; 16] = [
        Self::EnhancedStatusCodes,
        Self::Help,
        Self::Pipelining,
        Self::Chunking,
        Self::BinaryMime,
        Self::Size,
        Self::EightBitMime,
        Self::SmtpUtf8,
        Self::Dsn,
        Self::DeliverBy,
        Self::MtPriority,
        Self::RequireTls,
        Self::FutureRelease,
        Self::Limits,
        Self::Etrn,
        Self::Expn,
    ];

    /// Its keyword in the reply to `EHLO`.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Self::Help => "HELP",
            Self::Pipelining => "PIPELINING",
            Self::Chunking => "CHUNKING",
            Self::BinaryMime => "BINARYMIME",
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::Dsn => "DSN",
            Self::DeliverBy => "DELIVERBY",
            Self::MtPriority => "MT-PRIORITY",
            Self::RequireTls => "REQUIRETLS",
            Self::FutureRelease => "FUTURERELEASE",
            Self::Limits => "LIMITS",
            Self::Etrn => "ETRN",
            Self::Expn => "EXPN",
        }
    }

    /// The whole line of its announcement.
    fn line(self, settings: &Builder) -> String {
        let keyword = self.keyword();
        match self {
            Self::Size => format!("{keyword} {}", settings.max_message_size.unwrap_or(0)),
            Self::FutureRelease => format!("{keyword} {LONGEST_HOLD} {LATEST_HOLD}"),
            Self::Limits => {
                let mut line = format!("{keyword} RCPTMAX={}", settings.max_recipients);
                let others = [
                    ("MAILMAX", settings.max_mails.map(|count| count.to_string())),
                    ("RCPTDOMAINMAX", settings.max_recipient_domains.map(|count| count.to_string())),
                ];
                for (name, value) in others {
                    if let Some(value) = value {
                        line.extend([" ", name, "=", &value]);
                    }
                }
                line
            }
            _ => keyword.to_owned(),
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered(u32);

impl Default for Offered {
    fn default() -> Self {
        Self(Extension::EnhancedStatusCodes.bit() | Extension::Help.bit())
    }
}

impl Offered {
    pub(super) fn set(&mut self, extension: Extension, offered: bool) {
        if offered {
            self.0 |= extension.bit();
        } else {
            self.0 &= !extension.bit();
        }
    }

    pub(super) fn has(self, extension: Extension) -> bool {
        self.0 & extension.bit() != 0
    }
}

/// One line of the reply to `EHLO`; one that was given as text belongs to no extension.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) extension: Option<Extension>,
    pub(super) line: String,
}

/// What `EHLO` announces, apart from TLS and AUTH, which change within a session.
pub(super) fn announcements(settings: &Builder) -> Vec<Announcement> {
    let offered = Extension::ALL.into_iter().filter(|&extension| settings.offered.has(extension));
    let of_extension =
        |extension: Extension| Announcement { extension: Some(extension), line: extension.line(settings) };
    let of_text = |line: &String| Announcement { extension: None, line: line.clone() };
    offered.map(of_extension).chain(settings.ehlo_lines.iter().map(of_text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_has_a_bit_of_its_own() {
        let mut set = Offered(0);
        for extension in Extension::ALL {
            assert!(!set.has(extension), "{extension:?}");
            set.set(extension, true);
        }
        assert_eq!(set.0.count_ones() as usize, Extension::ALL.len());
        set.set(Extension::Dsn, false);
        assert!(!set.has(Extension::Dsn) && set.has(Extension::Expn));
    }
}
