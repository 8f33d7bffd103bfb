//! Flights, recipients and extensions over real sockets: every level and depth against the embedded
//! server, what it offers and what it lacks, LMTP, and the questions of a caller.

#[path = "../support/mod.rs"]
mod support;

mod asking;
#[path = "../support/certs.rs"]
mod certs;
mod contents;
mod extensions;
mod large;
mod levels;
mod lmtp;
#[path = "../support/mended.rs"]
mod mended;
mod needs;
mod recipients;
mod slow;
