//! A server that delivers on this machine: LMTP over a Unix socket, where each
//! recipient has a final reply of its own, and so an outcome of its own.
//!
//! ```text
//! cargo run --example lmtp
//! ```
//!
//! For Dovecot the path is that of its `lmtp` service, such as
//! `/var/run/dovecot/lmtp`.

use std::error::Error;

#[cfg(unix)]
fn main() -> Result<(), Box<dyn Error>> {
    use smtp_bulk::sink::{Extension, Fault, Misdeed, Sink, Step};
    use smtp_bulk::{Envelope, Host, Mailer, Message};

    // A server that knows no Carl, and finds Bob's mailbox full when it has the mail.
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("lmtp.sock");
    let full = Fault::new(Step::Dot, Misdeed::refuse(552, "5.2.2 mailbox full")).address_prefix("bob");
    let sink = Sink::builder()
        .lmtp()
        .announce(Extension::Pipelining)
        .unix_path(&path)
        .refuse_recipients("carl", 550)
        .fault(full)
        .start()?;

    smol::block_on(async {
        let mut mailer = Mailer::builder()
            .host(Host::unix(&path).lmtp().threads(2).hello("client.example"))
            .on_report(|report| {
                println!("mail {}: {}", report.message.message_id(), report.outcome);
                for recipient in report.recipients() {
                    println!("    {}: {}", recipient.path, recipient.outcome);
                }
            })
            .connect()
            .await?;
        for (id, names) in [(1_u64, ["ann", "dora"]), (2, ["ann", "bob"]), (3, ["bob", "carl"])] {
            let to = names.map(|name| format!("{name}@example.net"));
            let envelope = Envelope::parse("news@example.org", to)?;
            mailer.send(Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(id)).await?;
        }
        println!("{}", mailer.quit().await?);
        println!("{} recipients have it", sink.counts().recipients);
        Ok(())
    })
}

#[cfg(not(unix))]
fn main() -> Result<(), Box<dyn Error>> {
    Err("there are no Unix sockets here".into())
}
