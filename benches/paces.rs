//! Compares the paces with lockstep: what a mail costs when all servers are well and nobody has to
//! wait for anybody, so that a pace shows nothing but its own price.
//!
//! ```text
//! cargo bench --bench paces -- [--quick] [--level 0|1|2] [--depth K] [--rounds R] [--only N] [--mails M]
//! ```
//!
//! The paces take turns; a ratio is that of two runs one right after the other. As the other
//! benchmarks it prints and does not judge.
#![forbid(unsafe_code)]

mod support;

mod paces {
    pub mod options;
    pub mod rounds;
    pub mod table;
}

use std::process::ExitCode;

use paces::options::Options;
use paces::{rounds, table};
use support::{Result, ours, server, spawn};

fn main() -> ExitCode {
    support::main("paces", |role, rest, all| match role {
        spawn::SERVER => server::serve(rest),
        spawn::OURS => support::play_client(rest, ours::run),
        _ => compare(&Options::parse(all)?),
    })
}

fn compare(options: &Options) -> Result<()> {
    let mut results = Vec::new();
    for &way in &options.ways {
        for &sessions in &options.sessions {
            results.push(rounds::compare(options, way, sessions)?);
        }
    }
    print!("{}", table::markdown(options, &results));
    Ok(())
}
