//! The calls of Net::SMTP and Net::SMTP::Bulk.
//!
//! ```text
//! cargo run --example net_smtp
//! ```

use std::error::Error;

use smtp_bulk::sink::Sink;
use smtp_bulk::{Host, Mailer};

fn main() -> Result<(), Box<dyn Error>> {
    let sink = Sink::start()?;

    smol::block_on(async {
        let host = Host::new("127.0.0.1").port(sink.port()).threads(2).hello("client.example");
        let mut mailer = Mailer::builder().host(host).connect().await?;

        let mut smtp = mailer.net_smtp();
        for name in ["ann", "bob", "cid"] {
            smtp.mail("news@example.org")?;
            smtp.to(&format!("{name}@example.net"))?;
            smtp.bcc("archive@example.org")?;
            smtp.data()?;
            smtp.datasend(format!("To: {name}@example.net\n"))?;
            smtp.datasend("Subject: Hello\n\nHello.\n")?;
            smtp.dataend().await?;
        }
        // A call out of order is an error and changes nothing.
        if let Err(error) = smtp.datasend("too late") {
            println!("datasend: {error}");
        }
        println!("{}", smtp.quit("night run").await?);

        for mail in sink.mails() {
            println!("{}: {} octets", mail.forward_paths.join(", "), mail.content.len());
        }
        Ok(())
    })
}
