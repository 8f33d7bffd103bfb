//! Tokens that expire: a source is asked for one, and asked again, once, when a
//! server refuses it, by one session for all.
//!
//! ```text
//! cargo run --example oauth
//! ```
//!
//! The server is the embedded one, with a certificate for which nobody vouches,
//! so it is known by its fingerprint. A server of the world needs no `tls` at all.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};
use smtp_bulk::sink::{Identity, Sink};
use smtp_bulk::{Credentials, Envelope, Host, Mailer, Message, Security, Tls};

fn main() -> Result<(), Box<dyn Error>> {
    let (fingerprint, identity) = certificate()?;
    let sink = Sink::builder();
    let sink = sink.implicit_tls(identity).token("ann@example.org", "token-2").require_auth().start()?;

    // It may block: it is called off the executor. What the error says is shown
    // in events and logs, so it names no secret.
    let asked = AtomicU32::new(0);
    let source = move || {
        let times = asked.fetch_add(1, Ordering::Relaxed) + 1;
        println!("asked for a token, {times}");
        // The first one has expired by the time it is used.
        Ok(format!("token-{times}").into())
    };
    let host = Host::new("127.0.0.1")
        .port(sink.port())
        .threads(10)
        .hello("client.example")
        .security(Security::Implicit)
        .tls(Tls::new().pin(fingerprint).pin_only())
        .credentials(Credentials::oauth_from("ann@example.org", source));

    smol::block_on(async {
        let mut mailer = Mailer::builder().host(host).connect().await?;
        for number in 1..=100_u64 {
            let envelope = Envelope::parse("ann@example.org", [format!("user{number}@example.net")])?;
            mailer.send(Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(number)).await?;
        }
        println!("{}", mailer.quit().await?);
        let counts = sink.counts();
        println!("AUTH was said {} times, and accepted {}", counts.auth_attempts, counts.auth_successes);
        Ok(())
    })
}

/// The SHA-256 of a certificate that has signed itself, and its key with it.
fn certificate() -> Result<(String, Identity), Box<dyn Error>> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let identity = Identity::from_pkcs8(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    let fingerprint = Sha256::digest(certificate.der());
    Ok((fingerprint.iter().map(|octet| format!("{octet:02x}")).collect(), identity))
}
