//! Certificates of an authority that exists for one run, as files.
//!
//! No key is ever printed, and the folder is gone with the run.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use super::case::Key;
use crate::support::Result;

/// The authority, and a certificate for 127.0.0.1 of each kind of key.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub fn make() -> Result<Certificates> {
        let certificates = Certificates { folder: tempfile::tempdir()? };
        let mut params = named("Authority of a benchmark");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(certificates.authority(), authority.pem())?;
        let keys = [Some((Key::EcdsaP256, KeyPair::generate()?)), rsa()?.map(|key| (Key::Rsa2048, key))];
        for (kind, key) in keys.into_iter().flatten() {
            let signed = server().signed_by(&key, &authority)?;
            fs::write(certificates.chain(kind), signed.pem())?;
            fs::write(certificates.key(kind), key.serialize_pem())?;
        }
        Ok(certificates)
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    pub fn chain(&self, kind: Key) -> PathBuf {
        self.folder.path().join(format!("{kind:?}.pem"))
    }

    pub fn key(&self, kind: Key) -> PathBuf {
        self.folder.path().join(format!("{kind:?}.key.pem"))
    }
}

/// With the same name as its authority's a certificate would be taken for a self-signed one.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn server() -> CertificateParams {
    let mut params = named("Server of a benchmark");
    params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// rcgen with ring signs for RSA keys, but makes none.
#[cfg(target_os = "linux")]
fn rsa() -> Result<Option<KeyPair>> {
    let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048)?)?;
    Ok(Some(KeyPair::from_pem(&String::from_utf8(key.private_key_to_pem_pkcs8()?)?)?))
}

#[cfg(not(target_os = "linux"))]
fn rsa() -> Result<Option<KeyPair>> {
    Ok(None)
}
