//! Mail merge: one letter, taken apart and checked once, and a mail of it for
//! each row of a table. Each mail needs memory for its own values only.
//!
//! ```text
//! cargo run --example merge
//! ```
//!
//! The table is written out here; yours comes from a file or a database.

use std::error::Error;

use smtp_bulk::sink::Sink;
use smtp_bulk::{Envelope, Host, Mailer, Message, Template};

const LETTER: &str = "\
From: News <news@example.org>
To: \"{{name}}\" <{{to}}>
Subject: {{name}}, your number is {{number}}
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Dear {{name}},

your number is {{number}}.
";

/// Names with an umlaut and a comma show what becomes of them in the header.
const NAMES: [&str; 3] = ["Ann", "Jörg", "Smith, Bob"];

fn main() -> Result<(), Box<dyn Error>> {
    // What is wrong with a letter is said here, with line and octet.
    let letter = Template::parse(LETTER)?;
    println!("fields: {}", letter.fields().collect::<Vec<_>>().join(", "));

    let sink = Sink::start()?;
    smol::block_on(async {
        let host = Host::new("127.0.0.1").port(sink.port()).threads(10).hello("client.example");
        let mut mailer = Mailer::builder().host(host).connect().await?;
        for (number, name) in (1..=1000_u64).zip(NAMES.into_iter().cycle()) {
            let to = format!("user{number}@example.net");
            // What is wrong with values is said before anything is sent.
            let content = letter.merge([("name", name), ("to", &to), ("number", &number.to_string())])?;
            let envelope = Envelope::parse("news@example.org", [to])?;
            mailer.send(Message::new(envelope, content).id(number)).await?;
        }
        println!("{}", mailer.quit().await?);
        for mail in sink.mails().iter().take(3) {
            println!("\n{}", String::from_utf8_lossy(&mail.content));
        }
        Ok(())
    })
}
