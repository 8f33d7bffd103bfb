//! What the embedded server offers beyond plain SMTP, driven by a client that does what it is told.

#[path = "../support/certs.rs"]
mod certs;
mod chunks;
mod lmtp;
mod misdeeds;
mod offers;
#[path = "../support/raw.rs"]
mod raw;
#[cfg(unix)]
mod unix;

use std::io::{Read, Write};
use std::net::TcpStream;

use raw::Client;
use smtp_bulk::sink::{Builder, Extension, Fault, Sink};

/// What begins a mail to one recipient.
const ENVELOPE: &str = "MAIL FROM:<a@client.example>\r\nRCPT TO:<b@sink.example>\r\n";

/// A server that offers these extensions, and a client that has said EHLO to it.
fn offering(extensions: &[Extension]) -> (Sink, Client<TcpStream>) {
    start(extensions.iter().fold(Sink::builder(), |builder, &extension| builder.announce(extension)))
}

fn start(builder: Builder) -> (Sink, Client<TcpStream>) {
    let sink = builder.start().unwrap();
    let client = Client::ready(&sink);
    (sink, client)
}

/// A server that chunks and has this fault.
fn chunking(fault: Fault) -> (Sink, Client<TcpStream>) {
    start(Sink::builder().announce(Extension::Chunking).announce(Extension::Pipelining).fault(fault))
}

/// The first three letters of so many replies.
fn codes<S: Read + Write>(client: &mut Client<S>, count: usize) -> Vec<String> {
    (0..count).map(|_| client.reply()[..3].to_owned()).collect()
}

/// A second connection, by which a test knows that the server has read what was sent over another:
/// it serves all connections in turn, so that after two answers here it has had its turn there.
struct Clock(Client<TcpStream>);

impl Clock {
    fn of(sink: &Sink) -> Self {
        let mut client = Client::connect(sink);
        client.reply();
        Self(client)
    }

    fn tick(&mut self) {
        self.0.expect("NOOP", "250");
        self.0.expect("NOOP", "250");
    }
}
