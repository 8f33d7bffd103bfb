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
    pub mod rounds;
    pub mod table;
}

use std::process::ExitCode;

use paces::{rounds, table};
use support::options::{Course, given};
use support::{Result, ours, server, spawn, way};

fn main() -> ExitCode {
    support::main("paces", |role, rest, all| match role {
        spawn::SERVER => server::serve(rest),
        spawn::OURS => support::play_client(rest, ours::run),
        _ => compare(all),
    })
}

fn compare(arguments: &[String]) -> Result<()> {
    let ways = [way::PLAIN];
    let course = match given(arguments) {
        Some(arguments) => Course::parse(arguments, &ways, |_| false)?,
        None => Course::proof(&ways),
    };
    let results = course.run(|way, sessions| rounds::compare(&course, way, sessions))?;
    print!("{}", table::markdown(&course, &results));
    Ok(())
}
