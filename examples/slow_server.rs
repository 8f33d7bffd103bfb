//! Two servers, of which one is slow and takes only so much: it is given less by
//! itself, and the other one goes on. While all runs, a second thread changes a limit.
//!
//! ```text
//! cargo run --example slow_server
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Sink, Step};
use smtp_bulk::{Backoff, Envelope, Host, Mailer, Message, Pace, Rate};

fn main() -> Result<(), Box<dyn Error>> {
    let quick = Sink::start()?;
    let slow = Sink::builder()
        .fault(Fault::new(Step::Mail, Misdeed::Delay(Duration::from_millis(20))))
        .fault(Fault::new(Step::Mail, Misdeed::Refuse(451, "4.7.1 not so fast".into())).times(30))
        .start()?;

    smol::block_on(async {
        let mut mailer = Mailer::builder()
            .host(Host::new(quick.address().to_string()))
            .host(Host::new(slow.address().to_string()))
            .hello("client.example")
            .threads(10)
            // Each session takes the next mail when it has finished its own.
            .pace(Pace::Free)
            // Brief, so that the example ends soon; the default lasts seconds to minutes.
            .backoff(Backoff { base: Duration::from_millis(10), max: Duration::from_millis(50) })
            .max_attempts(10)
            .on_host_change(|change| println!("host {}: {change}", change.host))
            .connect()
            .await?;

        let control = mailer.control();
        let operator = thread::spawn(move || {
            control.set_total_rate(Some(Rate::per_second(20_000.0)))?;
            control.set_threads(0, 20)
        });
        let mails = (1..=4_000_u64).map(|number| {
            let envelope = Envelope::parse("news@example.org", [format!("user{number}@example.net")]);
            let mail = Message::new(envelope.expect("addresses"), "Subject: Hello\r\n\r\nHello.\r\n");
            // A few may go to the slow server alone; they hold up nobody.
            if number % 100 == 0 { mail.id(number).host(1) } else { mail.id(number) }
        });
        mailer.send_all(mails).await?;
        mailer.flush().await?;
        for host in mailer.hosts() {
            println!("{host}");
        }
        operator.join().map_err(|_| "the operator panicked")??;
        println!("{}", mailer.quit().await?);
        Ok(())
    })
}
