//! Flights, recipients and extensions over real sockets: every level and depth against the embedded
//! server, what it offers and what it lacks, LMTP, and the questions of a caller.

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod contents;
mod extensions;
mod levels;
mod lmtp;
mod recipients;
