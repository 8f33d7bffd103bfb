//! Compares this crate with the floor: a bare blocking client that makes only the system calls
//! that the round trips of a mail need, at each level of pipelining.
//!
//! One binary, three roles, each a process of its own, so that no role's CPU time or memory is
//! counted as another's: the server, the floor and ours. Started without a role it is the
//! orchestrator, which runs floor and ours in turn and prints the table of `docs/PERFORMANCE.md`:
//!
//! ```text
//! cargo bench --bench lockstep -- [--quick] [--level 0|1|2] [--depth K] [--rounds R] [--only N] [--mails M]
//!     [--no-strace] [--control]
//! ```
//!
//! `--level` and `--depth` choose what is compared, and may be given several times; `--only` is for
//! one number of sessions.
//!
//! Started by `cargo test --all-targets` (no `--bench` among the arguments) it only proves that
//! the roles still work together. It must never judge a figure: it prints, people judge.
#![forbid(unsafe_code)]

mod lockstep {
    pub mod content;
    pub mod figures;
    pub mod floor;
    pub mod gauge;
    pub mod machine;
    pub mod options;
    pub mod ours;
    pub mod rounds;
    pub mod server;
    pub mod spawn;
    pub mod strace;
    pub mod table;
    pub mod way;
}

use std::error::Error;
use std::process::ExitCode;

use lockstep::options::Options;
use lockstep::{figures::Plan, floor, gauge, ours, rounds, server, spawn, table};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockstep: {error}");
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
        spawn::FLOOR | spawn::OURS => {
            let plan = Plan::from_arguments(rest)?;
            gauge::raise_descriptor_limit(plan.sessions)?;
            let figures = if role == spawn::FLOOR { floor::run(&plan) } else { ours::run(&plan) }?;
            println!("{figures}");
            Ok(())
        }
        _ => compare(&Options::parse(arguments)?),
    }
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
