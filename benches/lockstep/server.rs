//! The server role: says where it listens, serves until its standard input ends, then says how
//! many mails it took.
//!
//! It must never keep what it is sent: both columns are measured against the same cheap server.
//! What it reads at once it answers at once, in one write.

use std::io;

use smtp_bulk::sink::{Extension, Keep, Sink};

use crate::Result;

/// The argument with which it offers CHUNKING.
pub const CHUNKING: &str = "chunking";

pub fn serve(arguments: &[String]) -> Result<()> {
    let mut server = Sink::builder().keep(Keep::Nothing).announce(Extension::Pipelining);
    if arguments.iter().any(|argument| argument == CHUNKING) {
        server = server.announce(Extension::Chunking);
    }
    let mut server = server.start()?;
    println!("{}", server.address());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    println!("{}", server.stop().mails);
    Ok(())
}
