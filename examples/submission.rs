//! Mails handed to a submission server: STARTTLS, a verified certificate, and a
//! password.
//!
//! ```text
//! cargo run --example submission
//! ```
//!
//! The server is the embedded one, with a certificate of an authority that is
//! made here. For yours: its name in `Host::new`, port 587 (or
//! `Security::Implicit`, which is port 465), no `tls` at all if its certificate
//! is of an authority that your system knows, and the password from wherever
//! you keep such things.

use std::error::Error;

use smtp_bulk::sink::{Identity, Sink};
use smtp_bulk::{Credentials, Envelope, Host, Mailer, Message, Security, Tls, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    let (authority, identity) = certificate()?;
    let sink = Sink::builder().starttls(identity).user("ann", "a long password").require_auth().start()?;

    let host = Host::new("localhost")
        .port(sink.port())
        .threads(10)
        .hello("client.example")
        .security(Security::StartTls)
        .tls(Tls::new().root_certificate(authority).only_these_roots())
        .credentials(Credentials::password("ann", "a long password"));

    smol::block_on(async {
        let mut mailer = Mailer::builder()
            .host(host)
            // Once, however many sessions there are: all of them retire.
            .on_auth_fail(|event| {
                eprintln!("{event}");
                Verdict::DEFAULT
            })
            .connect()
            .await?;
        for number in 1..=1000_u64 {
            let envelope = Envelope::parse("ann@example.org", [format!("user{number}@example.net")])?;
            mailer.send(Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(number)).await?;
        }
        println!("{}", mailer.quit().await?);
        let counts = sink.counts();
        println!("{} TLS handshakes, {} times AUTH", counts.tls_handshakes, counts.auth_successes);
        Ok(())
    })
}

/// An authority, in PEM, and what it has issued for this machine.
fn certificate() -> Result<(String, Identity), Box<dyn Error>> {
    let mut authority = rcgen::CertificateParams::default();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "An authority for one run");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate()?)?;
    let key = rcgen::KeyPair::generate()?;
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let identity = Identity::from_pkcs8(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    Ok((authority.pem(), identity))
}
