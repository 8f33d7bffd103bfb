//! Certificates of an authority that exists for one test: good ones, and each kind of bad one.
//!
//! Nothing here is trusted by anybody who was not given the authority's certificate, and no key is
//! ever printed.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fmt;
use std::net::Ipv4Addr;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use sha2::{Digest, Sha256};
use smtp_bulk::sink::Identity;

/// The DNS name of good certificates; they name 127.0.0.1 too.
pub const NAME: &str = "localhost";

/// A certification authority with a key of its own. A second one, which the client was not told
/// about, issues certificates of an unknown authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Authority { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// What a client has to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// For [`NAME`] and 127.0.0.1, now.
    pub fn good(&self) -> Issued {
        self.issue(local())
    }

    /// For a host of another name, and no address.
    pub fn for_name(&self, name: &str) -> Issued {
        self.issue(server(&[name]))
    }

    /// Good until long ago.
    pub fn expired(&self) -> Issued {
        let mut params = local();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.issue(params)
    }

    /// Good in a far future.
    pub fn not_yet_valid(&self) -> Issued {
        let mut params = local();
        params.not_before = date_time_ymd(3001, 1, 1);
        params.not_after = date_time_ymd(3002, 1, 1);
        self.issue(params)
    }

    /// For a client that calls itself this.
    pub fn for_client(&self, name: &str) -> Issued {
        let mut params = server(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued::new(&certificate, &key)
    }
}

/// As [`Authority::good`], but signed by nobody else.
pub fn self_signed() -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued::new(&local().self_signed(&key).unwrap(), &key)
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pub pem: String,
    pub der: Vec<u8>,
    /// In PKCS #8.
    pub key_pem: String,
    pub key_der: Vec<u8>,
}

impl Issued {
    fn new(certificate: &Certificate, key: &KeyPair) -> Issued {
        Issued {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// As the sink takes it.
    pub fn identity(&self) -> Identity {
        Identity::from_pkcs8(self.pem.as_bytes(), self.key_pem.as_bytes()).unwrap()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn server(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a test");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn local() -> CertificateParams {
    let mut params = server(&[NAME]);
    params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    params
}
