//! The server role: says where it listens, serves until its standard input ends, then says how
//! many mails it took.
//!
//! It must never keep what it is sent: both columns are measured against the same cheap server.
//! What it reads at once it answers at once, in one write.

use std::io;
use std::net::SocketAddr;

use smtp_bulk::sink::{Extension, Keep, Sink};

use super::{Result, gauge};

/// The argument with which it offers CHUNKING.
pub const CHUNKING: &str = "chunking";

pub fn serve(arguments: &[String]) -> Result<()> {
    gauge::raise_descriptor_limit(0)?;
    let mut server = Sink::builder().keep(Keep::Nothing).announce(Extension::Pipelining);
    if arguments.iter().any(|argument| argument == CHUNKING) {
        server = server.announce(Extension::Chunking);
    }
    let mut server = server.start()?;
    stand(server.address())?;
    println!("{}", server.stop().mails);
    Ok(())
}

/// Says where a server listens, and waits until its standard input ends.
pub fn stand(address: SocketAddr) -> Result<()> {
    println!("{address}");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
