//! Tokens that expire: a source is asked for one, and asked again, once, when a
//! server refuses it, by one session for all.
//!
//! ```text
//! cargo run --example oauth
//! ```
//!
//! So that it runs without certificates, this one goes without TLS, and has to
//! say so. With a real server say `security(Security::StartTls)` or `Implicit`,
//! and leave `allow_without_tls` out.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use smtp_bulk::sink::Sink;
use smtp_bulk::{Credentials, Envelope, Host, Mailer, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let sink = Sink::builder().token("ann@example.org", "token-2").require_auth().start()?;

    // It may block: it is called off the executor. What the error says is shown
    // in events and logs, so it names no secret.
    let asked = AtomicU32::new(0);
    let source = move || {
        let times = asked.fetch_add(1, Ordering::Relaxed) + 1;
        println!("asked for a token, {times}");
        // The first one has expired by the time it is used.
        Ok(format!("token-{times}").into())
    };
    let credentials = Credentials::oauth_from("ann@example.org", source).allow_without_tls();

    smol::block_on(async {
        let host = Host::new("127.0.0.1").port(sink.port()).threads(10).hello("client.example");
        let mut mailer = Mailer::builder().host(host.credentials(credentials)).connect().await?;
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
