//! Whether and how a session is protected by TLS, what its certificates must
//! be, and what can be wrong with them. Plain settings: nothing here opens a
//! file or shakes hands.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// Whether a session is protected by TLS, and when that begins.
///
/// The certificate is verified unless the name says that it is not: an
/// unverified session can be read and changed by anyone on the way, and what
/// AUTH sends through it is theirs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Security {
    /// No TLS. The default, as in Net::SMTP::Bulk.
    #[default]
    None,
    /// TLS from the first octet; port 465 unless another is set (RFC 8314 §3.3).
    Implicit,
    /// The same, whatever the certificate. **Not safe**: protects from nobody
    /// who can stand in for the server.
    ImplicitUnverified,
    /// STARTTLS, without which nothing is sent (RFC 3207); customary on port
    /// 587, which has to be set.
    StartTls,
    /// The same, whatever the certificate. **Not safe**: protects from nobody
    /// who can stand in for the server.
    StartTlsUnverified,
    /// STARTTLS where it is offered, with a verified certificate, and else in
    /// the clear. **Not safe**: whoever stands in between removes the offer.
    OpportunisticStartTls,
    /// The same, whatever the certificate: as mail servers speak to each other.
    /// **Not safe**: protects from those who only listen.
    OpportunisticStartTlsUnverified,
}

impl Security {
    /// The number of Net::SMTP::Bulk's `Secure`: 0 none, 1 and 2 TLS from the
    /// first octet, unverified and verified, 3 and 4 STARTTLS alike.
    ///
    /// ```
    /// use smtp_bulk::Security;
    ///
    /// assert_eq!(Security::from_code(4), Ok(Security::StartTls));
    /// let error = Security::from_code(5).expect_err("there is none");
    /// assert_eq!(error.to_string(), "5 stands for no security; there are 0, 1, 2, 3 and 4");
    /// ```
    ///
    /// # Errors
    /// When there is no such number.
    pub const fn from_code(code: u8) -> Result<Security, UnknownSecurity> {
        Ok(match code {
            0 => Security::None,
            1 => Security::ImplicitUnverified,
            2 => Security::Implicit,
            3 => Security::StartTlsUnverified,
            4 => Security::StartTls,
            code => return Err(UnknownSecurity(code)),
        })
    }

    /// The number that [`Security::from_code`] takes; `None` for what
    /// Net::SMTP::Bulk does not have.
    pub const fn code(self) -> Option<u8> {
        Some(match self {
            Security::None => 0,
            Security::ImplicitUnverified => 1,
            Security::Implicit => 2,
            Security::StartTlsUnverified => 3,
            Security::StartTls => 4,
            Security::OpportunisticStartTls | Security::OpportunisticStartTlsUnverified => return None,
        })
    }

    /// Whether the certificate is verified.
    pub const fn is_verified(self) -> bool {
        matches!(self, Security::Implicit | Security::StartTls | Security::OpportunisticStartTls)
    }

    pub(crate) const fn is_implicit(self) -> bool {
        matches!(self, Security::Implicit | Security::ImplicitUnverified)
    }

    /// Whether STARTTLS is said where it is offered.
    pub(crate) const fn upgrades(self) -> bool {
        self.demands_upgrade() || self.is_opportunistic()
    }

    /// Whether a session without STARTTLS is of no use.
    pub(crate) const fn demands_upgrade(self) -> bool {
        matches!(self, Security::StartTls | Security::StartTlsUnverified)
    }

    const fn is_opportunistic(self) -> bool {
        matches!(self, Security::OpportunisticStartTls | Security::OpportunisticStartTlsUnverified)
    }
}

/// A number that stands for no [`Security`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownSecurity(pub u8);

impl fmt::Display for UnknownSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stands for no security; there are 0, 1, 2, 3 and 4", self.0)
    }
}

impl std::error::Error for UnknownSecurity {}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.0 (RFC 2246), which RFC 8996 forbids; the system's own settings
    /// may do so, too.
    Tls10,
    /// TLS 1.1 (RFC 4346), which RFC 8996 forbids; the system's own settings
    /// may do so, too.
    Tls11,
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Bytes that are given, or are to be read from a file.
#[derive(Clone)]
pub(crate) enum Source {
    Bytes(Arc<Zeroizing<Vec<u8>>>),
    File(PathBuf),
}

impl Source {
    fn bytes(bytes: impl Into<Vec<u8>>) -> Source {
        Source::Bytes(Arc::new(Zeroizing::new(bytes.into())))
    }
}

/// Names the file; of given bytes, which may be a private key, only how many.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Bytes(bytes) => write!(f, "the given {} octets", bytes.len()),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the client shows of itself.
#[derive(Clone, Debug)]
pub(crate) enum ClientIdentity {
    Pkcs8 { chain: Source, key: Source },
    Pkcs12 { archive: Source, password: SecretString },
}

/// Which certificates a host may show, and which one the client has.
///
/// By default the authorities are those of the system, the name is the host's,
/// and the version is TLS 1.2 at least. What is wrong with a file is said by
/// [`MailerBuilder::connect`](crate::MailerBuilder::connect), which reads it.
///
/// ```
/// use smtp_bulk::{Host, Security, Tls};
///
/// let tls = Tls::new().root_certificate_file("/etc/ssl/our-ca.pem").only_these_roots();
/// let host = Host::new("mx.example.org").port(587).security(Security::StartTls).tls(tls);
/// # let _ = host;
/// ```
///
/// Clones share what is made of them: give hosts that have the same settings
/// clones of one, and they have one TLS context, which takes about a mebibyte
/// with the authorities of the system.
#[derive(Clone, Default)]
pub struct Tls(Arc<TlsSettings>);

/// The settings themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) roots: Vec<Source>,
    pub(crate) only_these_roots: bool,
    pub(crate) identity: Option<ClientIdentity>,
    pub(crate) server_name: Option<String>,
    pub(crate) min_version: TlsVersion,
    pub(crate) pins: Vec<Result<Pin, String>>,
    pub(crate) pin_only: bool,
}

impl Tls {
    /// The defaults.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Trusts these authorities, too: one certificate in DER, or any number in
    /// PEM.
    pub fn root_certificate(mut self, bytes: impl Into<Vec<u8>>) -> Tls {
        self.change().roots.push(Source::bytes(bytes));
        self
    }

    /// Trusts the authorities in this file, too: one certificate in DER, or any
    /// number in PEM.
    pub fn root_certificate_file(mut self, path: impl Into<PathBuf>) -> Tls {
        self.change().roots.push(Source::File(path.into()));
        self
    }

    /// Trusts the given authorities only, and none of the system's.
    pub fn only_these_roots(mut self) -> Tls {
        self.change().only_these_roots = true;
        self
    }

    /// Shows this certificate to servers that ask: a chain in PEM, its own
    /// certificate first, and the private key in PEM (PKCS#8, not encrypted).
    pub fn client_certificate(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Tls {
        let (chain, key) = (Source::bytes(chain), Source::bytes(key));
        self.change().identity = Some(ClientIdentity::Pkcs8 { chain, key });
        self
    }

    /// The same from two files.
    pub fn client_certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        let (chain, key) = (Source::File(chain.into()), Source::File(key.into()));
        self.change().identity = Some(ClientIdentity::Pkcs8 { chain, key });
        self
    }

    /// Shows the certificate of this PKCS#12 archive to servers that ask.
    pub fn client_pkcs12(mut self, archive: impl Into<Vec<u8>>, password: impl Into<SecretString>) -> Tls {
        let archive = Source::bytes(archive);
        self.change().identity = Some(ClientIdentity::Pkcs12 { archive, password: password.into() });
        self
    }

    /// The same from a file.
    pub fn client_pkcs12_file(mut self, path: impl Into<PathBuf>, password: impl Into<SecretString>) -> Tls {
        let archive = Source::File(path.into());
        self.change().identity = Some(ClientIdentity::Pkcs12 { archive, password: password.into() });
        self
    }

    /// The name that is asked for (SNI, RFC 6066 §3) and that the certificate
    /// must bear, where it is not the host's.
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.change().server_name = Some(name.into());
        self
    }

    /// The lowest version that is spoken. Default: TLS 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Tls {
        self.change().min_version = version;
        self
    }

    /// The server's own certificate must have this SHA-256 fingerprint, in
    /// addition to all else; given several times, one of them. It is that of
    /// the whole certificate in DER, as `openssl x509 -fingerprint -sha256`
    /// prints it: 64 hexadecimal digits, colons between them or not, with its
    /// `sha256 Fingerprint=` before them or not. Checked
    /// before any octet of ours is sent through the connection.
    pub fn pin(mut self, fingerprint: impl AsRef<str>) -> Tls {
        let fingerprint = fingerprint.as_ref();
        let pin = Pin::parse(fingerprint).ok_or_else(|| fingerprint.to_owned());
        self.change().pins.push(pin);
        self
    }

    /// The pins stand in for authorities, name and dates: a certificate that
    /// has one of them is accepted whatever else it says. Without a pin this is
    /// an error.
    pub fn pin_only(mut self) -> Tls {
        self.change().pin_only = true;
        self
    }

    pub(crate) fn settings(&self) -> &TlsSettings {
        &self.0
    }

    /// Whether they are clones of each other.
    pub(crate) fn is_same(&self, other: &Tls) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn change(&mut self) -> &mut TlsSettings {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0).finish()
    }
}

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin(pub(crate) [u8; 32]);

impl Pin {
    fn parse(text: &str) -> Option<Pin> {
        let text = text.rsplit_once('=').map_or(text, |(_, digits)| digits);
        let mut digits = text.trim().chars().filter(|letter| *letter != ':');
        let mut pin = [0; 32];
        for octet in &mut pin {
            let (high, low) = (digits.next()?.to_digit(16)?, digits.next()?.to_digit(16)?);
            *octet = u8::try_from(high * 16 + low).ok()?;
        }
        digits.next().is_none().then_some(Pin(pin))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What kind of thing was wrong in a handshake, as well as the TLS library's
/// text allows to tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The certificate's time is over.
    Expired,
    /// The certificate's time has not come.
    NotYetValid,
    /// The certificate is for another name or address.
    WrongName,
    /// The certificate was issued by no authority that is trusted, or by itself.
    UnknownIssuer,
    /// The certificate is none of those that were pinned.
    Pin,
    /// Anything else: the text says it.
    Other,
}

/// A TLS handshake that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TlsFault {
    /// What kind of thing was wrong.
    pub problem: TlsProblem,
    /// The name that the certificate was asked for.
    pub server_name: Box<str>,
    /// The TLS library's words, or of a pin what was found.
    pub text: Box<str>,
}

impl TlsFault {
    /// What a driver of sessions says of a handshake of its own making.
    pub fn new(problem: TlsProblem, server_name: impl Into<Box<str>>, text: impl Into<Box<str>>) -> TlsFault {
        TlsFault { problem, server_name: server_name.into(), text: text.into() }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.problem {
            TlsProblem::Expired => "its certificate has expired",
            TlsProblem::NotYetValid => "its certificate is not valid yet",
            TlsProblem::WrongName => "its certificate is for another name",
            TlsProblem::UnknownIssuer => "the issuer of its certificate is not trusted",
            TlsProblem::Pin => "its certificate is none of those pinned",
            TlsProblem::Other => "the handshake failed",
        };
        write!(f, "TLS with {}: {what}: {}", self.server_name, self.text)
    }
}

impl std::error::Error for TlsFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_net_smtp_bulk_map_one_to_one() {
        for code in 0..=4 {
            assert_eq!(Security::from_code(code).map(Security::code), Ok(Some(code)));
        }
        assert_eq!(Security::from_code(5), Err(UnknownSecurity(5)));
        assert_eq!(Security::OpportunisticStartTls.code(), None);
        let verified: Vec<bool> = (0..=4).flat_map(Security::from_code).map(Security::is_verified).collect();
        assert_eq!(verified, [false, false, true, false, true]);
    }

    #[test]
    fn a_pin_is_64_digits_with_or_without_colons() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        let pin = Pin::parse(&plain).unwrap();
        assert_eq!(Pin::parse(&colons), Some(pin));
        assert_eq!(Pin::parse(&format!("sha256 Fingerprint={colons}\n")), Some(pin));
        assert_eq!(pin.to_string(), plain);
        for wrong in ["", "00", &plain[1..], &format!("{plain}0"), &plain.replace('f', "g")] {
            assert_eq!(Pin::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_and_their_passwords_are_not_shown() {
        let tls = Tls::new().client_certificate("chain", "-----BEGIN PRIVATE KEY-----");
        assert!(!format!("{tls:?}").contains("PRIVATE"));
        let tls = Tls::new().client_pkcs12("archive", "hunter2");
        assert!(!format!("{tls:?}").contains("hunter2"), "{tls:?}");
    }
}
