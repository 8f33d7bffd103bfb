//! The first mails: a thousand of them over ten sessions, to the embedded server.
//!
//! ```text
//! cargo run --example hello
//! ```

use std::error::Error;

use smtp_bulk::sink::Sink;
use smtp_bulk::{Envelope, Host, Mailer, Message, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    // A server on this machine to try things with. Your own goes into `Host::new`.
    let sink = Sink::start()?;

    smol::block_on(async {
        let mut mailer = Mailer::builder()
            .host(Host::new("127.0.0.1").port(sink.port()).threads(10).hello("client.example"))
            .on_fail(|event| {
                eprintln!("{event}");
                Verdict::DEFAULT
            })
            .on_report(|report| {
                if !report.outcome.is_delivered() {
                    eprintln!("{}: {}", report.message.message_id(), report.outcome);
                }
            })
            .connect()
            .await?;

        for number in 1..=1000_u64 {
            let envelope = Envelope::parse("news@example.org", [format!("user{number}@example.net")])?;
            mailer.send(Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(number)).await?;
        }
        println!("{}", mailer.quit().await?);
        Ok(())
    })
}
