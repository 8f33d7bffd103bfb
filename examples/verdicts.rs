//! Callbacks and codes: one handler decides about every event, against a
//! server that misbehaves in four ways.
//!
//! ```text
//! cargo run --example verdicts
//! ```

use std::error::Error;
use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Sink, Step};
use smtp_bulk::{Envelope, Event, Handler, Host, Mailer, Message, Report, Timeouts, Verdict};

/// What this program does about each kind of trouble.
struct Policy;

impl Handler for Policy {
    fn fail(&mut self, event: &Event<'_>) -> Verdict {
        let verdict = match event.reply().map(|reply| reply.code().as_u16()) {
            // Greylisted: leave the lane out until the batch ends, then try the mail again.
            Some(450) => Verdict::BENCH.requeue(),
            // Blocked for its content: nobody wants to hear of that mail again.
            Some(554) => Verdict::DEFAULT.drop_message(),
            // The session has come to its end: 202 is "reconnect now".
            Some(421) => Verdict::from_code(202).unwrap_or_default(),
            _ => Verdict::DEFAULT,
        };
        println!("{event} -> {}", verdict.code());
        verdict
    }

    fn hang(&mut self, event: &Event<'_>) -> Verdict {
        println!("{event} -> 102, by default");
        Verdict::DEFAULT
    }

    fn reconnect_pass(&mut self, event: &Event<'_>) -> Verdict {
        println!("{event}");
        Verdict::DEFAULT
    }

    fn report(&mut self, report: Report<'_>) {
        println!("mail {}, attempts {}: {}", report.message.message_id(), report.attempts, report.outcome);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let once = |step, misdeed, prefix: &str| Fault::new(step, misdeed).times(1).address_prefix(prefix);
    let sink = Sink::builder()
        .fault(once(Step::Rcpt, Misdeed::refuse(450, "4.7.1 greylisted"), "grey"))
        .fault(once(Step::Rcpt, Misdeed::refuse(554, "5.7.1 blocked"), "blocked"))
        .fault(once(Step::Rcpt, Misdeed::Close421, "closing"))
        .fault(once(Step::Rcpt, Misdeed::Hang, "hanging"))
        .start()?;

    smol::block_on(async {
        let mut mailer = Mailer::builder()
            .host(Host::new("127.0.0.1").port(sink.port()).threads(5).hello("client.example"))
            .timeouts(Timeouts { rcpt: Duration::from_millis(300), ..Timeouts::default() })
            .handler(Policy)
            .connect()
            .await?;
        for name in ["grey", "blocked", "closing", "hanging", "plain"] {
            let envelope = Envelope::parse("news@example.org", [format!("{name}@example.net")])?;
            mailer.send(Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(name)).await?;
        }
        println!("{}", mailer.quit().await?);
        Ok(())
    })
}
