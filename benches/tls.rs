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

/// What the other benchmark has.
#[allow(dead_code, reason = "each benchmark uses its own part of this")]
#[path = "lockstep"]
mod lockstep {
    pub mod content;
    pub mod figures;
    pub mod gauge;
    pub mod machine;
    pub mod options;
    pub mod server;
    pub mod spawn;
    pub mod strace;
    pub mod way;
}

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

use std::error::Error;
use std::process::ExitCode;

use lockstep::{gauge, spawn};
use tls::measured::Plan;
use tls::options::Options;
use tls::{client, rounds, server, table};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &[String]) -> Result<()> {
    let (role, rest) =
        arguments.split_first().map_or(("", arguments), |(first, rest)| (first.as_str(), rest));
    match role {
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
            let options = Options::parse(arguments)?;
            print!("{}", table::markdown(&options, &rounds::run(&options)?));
            Ok(())
        }
    }
}
