//! Several servers at once: a large one, a small one, and one that is down.
//! The lanes of the one that is down are retired; its share goes to the others.
//!
//! ```text
//! cargo run --example many_hosts
//! ```

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use smtp_bulk::sink::Sink;
use smtp_bulk::{Backoff, Envelope, Host, Mailer, Message, Standing, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    let (large, small) = (Sink::start()?, Sink::start()?);
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // Brief, so that the example ends soon; the default lasts seconds to minutes.
    let brief = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(100) };

    smol::block_on(async {
        let mut mailer = Mailer::builder()
            // For every host that does not say otherwise.
            .hello("client.example")
            .threads(5)
            .host(Host::new("127.0.0.1").port(large.port()).threads(20))
            .host(Host::new(small.address().to_string()))
            .host(Host::new(nobody.to_string()).max_connect_failures(3).backoff(brief))
            .on_connect_fail(|event| {
                if event.lane.thread == 0 {
                    println!("{event}");
                }
                Verdict::DEFAULT
            })
            .connect()
            .await?;

        let mails = (1..=2000_u64).map(|number| {
            let to = format!("user{number}@example.net").parse().expect("an address");
            let from = "news@example.org".parse().expect("an address");
            let envelope = Envelope::new(from, vec![to]).expect("one recipient");
            Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(number)
        });
        mailer.send_all(mails).await?;
        mailer.flush().await?;

        let retired = mailer.lanes().filter(|lane| lane.standing == Standing::Retired).count();
        let summary = mailer.quit().await?;
        println!("{summary}; {retired} lanes retired");
        for (name, host) in ["large", "small", "down"].iter().zip(&summary.hosts) {
            println!("{name}: {} connections, {} mails", host.connections, host.mails.delivered);
        }
        Ok(())
    })
}
