//! Measures what TLS and AUTH cost a client: memory per session, CPU time per handshake and per
//! mail, each beside the same sessions without.
//!
//! One binary, two roles besides the orchestrator, each a process of its own, so that neither's
//! CPU time or memory is counted as another's: the server, and this crate's mailer. The
//! orchestrator makes the certificates, runs every case in turn, and prints the tables of
//! `docs/PERFORMANCE.md`:
//!
//! ```text
//! cargo bench --bench tls -- [--quick] [--rounds R] [--sessions N] [--mails M] [--only CASE] [--no-strace]
//! ```
//!
//! Started by `cargo test --all-targets` (no `--bench` among the arguments) it only proves that
//! the roles still work together. It must never judge a figure: it prints, people judge.
#![forbid(unsafe_code)]

mod support;

mod tls {
    #[cfg(target_os = "linux")]
    pub mod bare;
    pub mod case;
    pub mod certs;
    pub mod client;
    pub mod measured;
    pub mod options;
    pub mod rounds;
    pub mod server;
    pub mod table;
}

use std::process::ExitCode;

use support::{gauge, spawn};
use tls::measured::Plan;
use tls::options::Options;
use tls::{client, rounds, server, table};

fn main() -> ExitCode {
    support::main("tls", |role, rest, all| match role {
        spawn::SERVER => {
            gauge::raise_descriptor_limit(0)?;
            server::serve(rest)
        }
        spawn::OURS => {
            let plan = Plan::from_arguments(rest)?;
            gauge::raise_descriptor_limit(plan.sessions)?;
            print!("{}", client::run(&plan)?);
            Ok(())
        }
        _ => {
            let options = Options::parse(all)?;
            print!("{}", table::markdown(&options, &rounds::run(&options)?));
            Ok(())
        }
    })
}
