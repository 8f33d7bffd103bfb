//! The server role: says where it listens, serves until its standard input ends, then says how
//! many mails it took.
//!
//! It must never keep what it is sent: both columns are measured against the same cheap server.

use std::io;

use smtp_bulk::sink::{Keep, Sink};

use crate::Result;

pub fn serve() -> Result<()> {
    let mut sink = Sink::builder().keep(Keep::Nothing).start()?;
    println!("{}", sink.address());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    println!("{}", sink.stop().mails);
    Ok(())
}
