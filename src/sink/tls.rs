//! What the server shows of itself under TLS: its certificate and key, and the versions it speaks.
//!
//! The key lives in the system's TLS library; nothing here prints or copies it.

use std::fmt;
use std::io;

use async_native_tls::TlsAcceptor;
use native_tls::Protocol;

/// A certificate chain and its private key.
///
/// ```no_run
/// use smtp_bulk::sink::{Identity, Sink};
///
/// let chain = std::fs::read("chain.pem")?;
/// let key = std::fs::read("key.pem")?;
/// let sink = Sink::builder().starttls(Identity::from_pkcs8(&chain, &key)?).start()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Identity(native_tls::Identity);

impl Identity {
    /// Takes a chain of PEM certificates, the server's own first, and its key as PEM in PKCS #8
    /// (`BEGIN PRIVATE KEY`).
    ///
    /// # Errors
    ///
    /// When one of the two cannot be read ([`io::ErrorKind::InvalidInput`]).
    pub fn from_pkcs8(cert_chain_pem: &[u8], key_pem: &[u8]) -> io::Result<Self> {
        native_tls::Identity::from_pkcs8(cert_chain_pem, key_pem).map(Self).map_err(invalid)
    }

    /// Takes a PKCS #12 archive of chain and key.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the password is wrong ([`io::ErrorKind::InvalidInput`]).
    pub fn from_pkcs12(der: &[u8], password: &str) -> io::Result<Self> {
        native_tls::Identity::from_pkcs12(der, password).map(Self).map_err(invalid)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A version of TLS. The system's library may refuse 1.0 and 1.1 whatever is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.0, which RFC 8996 forbids.
    Tls10,
    /// TLS 1.1, which RFC 8996 forbids.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    fn protocol(self) -> Protocol {
        match self {
            Self::Tls10 => Protocol::Tlsv10,
            Self::Tls11 => Protocol::Tlsv11,
            Self::Tls12 => Protocol::Tlsv12,
            Self::Tls13 => Protocol::Tlsv13,
        }
    }
}

/// When a connection goes over to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsStart {
    /// Before the greeting (RFC 8314).
    AtOnce,
    /// Behind `STARTTLS` (RFC 3207).
    WhenAsked,
}

/// All that is set about TLS.
#[derive(Clone, Debug)]
pub(super) struct TlsSettings {
    pub(super) start: TlsStart,
    pub(super) identity: Identity,
}

/// Makes the acceptor that all connections share; one of its own would cost each of them a
/// megabyte.
pub(super) fn acceptor(
    settings: &TlsSettings,
    versions: Option<(TlsVersion, TlsVersion)>,
) -> io::Result<TlsAcceptor> {
    let mut builder = native_tls::TlsAcceptor::builder(settings.identity.0.clone());
    if let Some((min, max)) = versions {
        builder.min_protocol_version(Some(min.protocol()));
        builder.max_protocol_version(Some(max.protocol()));
    }
    builder.build().map(TlsAcceptor::from).map_err(invalid)
}

fn invalid(error: native_tls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
