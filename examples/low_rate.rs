//! Mails that come now and then: no batch ever fills, so short ones run when
//! a mail has waited for as long as it may linger.
//!
//! ```text
//! cargo run --example low_rate
//! ```

use std::error::Error;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use smtp_bulk::sink::Sink;
use smtp_bulk::{Envelope, Host, Mailer, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let sink = Sink::start()?;
    let (outbox, arriving) = smol::channel::bounded(100);

    // The rest of the service: something happens, and a mail is due.
    let service = thread::spawn(move || {
        for number in 1..=5_u64 {
            let envelope = Envelope::parse("shop@example.org", ["ann@example.net"]).expect("addresses");
            let mail = Message::new(envelope, "Subject: Your order\r\n\r\nThank you.\r\n").id(number);
            outbox.send_blocking(mail).expect("the mailer listens");
            thread::sleep(Duration::from_millis(150));
        }
    });

    smol::block_on(async {
        let started = Instant::now();
        let mut mailer = Mailer::builder()
            .host(Host::new("127.0.0.1").port(sink.port()).threads(4).hello("client.example"))
            .linger(Duration::from_millis(50))
            .on_report(move |report| {
                let (id, at) = (report.message.message_id(), started.elapsed());
                println!("{at:.0?}: mail {id} {}", report.outcome);
            })
            .connect()
            .await?;
        // Ends when the channel does. While no mail is there, short batches run.
        mailer.send_stream(pin!(arriving)).await?;
        println!("{}", mailer.quit().await?);
        service.join().map_err(|_| "the service panicked")?;
        Ok(())
    })
}
