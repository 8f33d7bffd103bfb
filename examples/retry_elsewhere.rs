//! What one server refuses goes to another: a report gives its message back
//! by value, narrowed down to the recipients that can safely be tried again.
//!
//! ```text
//! cargo run --example retry_elsewhere
//! ```

use std::error::Error;
use std::sync::mpsc;

use smtp_bulk::sink::{Fault, Misdeed, Sink, Step};
use smtp_bulk::{Envelope, Host, Mailer, Message};

fn main() -> Result<(), Box<dyn Error>> {
    // The first server knows no `b` addresses, and drops one connection instead of answering.
    let first = Sink::builder()
        .refuse_recipients("b", 550)
        .fault(Fault::new(Step::Dot, Misdeed::Close).times(1))
        .start()?;
    let second = Sink::start()?;
    let host = |sink: &Sink| Host::new("127.0.0.1").port(sink.port()).hello("client.example");

    smol::block_on(async {
        let (elsewhere, undelivered) = mpsc::channel();
        let mut mailer = Mailer::builder()
            .host(host(&first).threads(4))
            .on_report(move |report| {
                if !report.outcome.is_delivered() {
                    println!("first server, mail {}: {}", report.message.message_id(), report.outcome);
                }
                // Neither what was delivered nor what may have been: that could arrive twice.
                if let Some(message) = report.into_undelivered() {
                    let _ = elsewhere.send(message);
                }
            })
            .connect()
            .await?;
        for number in 1..=8_u64 {
            let both = [format!("a{number}@example.net"), format!("b{number}@example.net")];
            let to = if number % 2 == 0 { &both[..] } else { &both[..1] };
            let envelope = Envelope::parse("news@example.org", to)?;
            mailer.send(Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(number)).await?;
        }
        println!("first server: {}", mailer.quit().await?);

        let mut mailer = Mailer::builder().host(host(&second)).connect().await?;
        // The first mailer's closure is dropped with it, which ends the channel.
        mailer.send_all(undelivered.try_iter()).await?;
        println!("second server: {}", mailer.quit().await?);
        for mail in second.mails() {
            println!("second server has one for {}", mail.forward_paths.join(", "));
        }
        Ok(())
    })
}
