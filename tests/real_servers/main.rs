//! The mailer against real servers: Postfix, Exim, and Dovecot.
//!
//! Where these are missing, the tests say so on standard error and pass; with
//! `SMTP_BULK_REQUIRE_SERVERS=1` in the environment they fail.

#![cfg(unix)]

mod auth;
mod flights;
mod lmtp;
mod mails;
mod refusals;

#[path = "../support/certs.rs"]
mod certs;
#[path = "../support/dovecot.rs"]
mod dovecot;
#[path = "../support/exim.rs"]
mod exim;
#[path = "../support/mended.rs"]
mod mended;
#[path = "../support/postfix.rs"]
mod postfix;
#[path = "../support/private.rs"]
mod private;
#[path = "../support/stored.rs"]
mod stored;
#[path = "../support/mod.rs"]
mod support;
