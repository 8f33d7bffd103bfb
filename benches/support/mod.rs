//! What the benchmarks share: one binary that plays several roles, each as a process of its own; the
//! mails that are sent; what is measured of a process; and how that is printed.

#![allow(dead_code, reason = "each benchmark uses its own part of this")]

pub mod content;
pub mod figures;
pub mod gauge;
pub mod machine;
pub mod options;
pub mod ours;
pub mod server;
pub mod spawn;
pub mod strace;
pub mod table;
pub mod way;

use std::error::Error;
use std::process::ExitCode;

use figures::{Figures, Plan};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Plays the role that the first argument names, with the arguments behind it; without one that is
/// known, `play` is the orchestrator, whose options all of them are. An error is printed behind the
/// name of the benchmark.
pub fn main(name: &str, play: fn(role: &str, rest: &[String], all: &[String]) -> Result<()>) -> ExitCode {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let (role, rest) = all.split_first().map_or(("", all.as_slice()), |(first, rest)| (first.as_str(), rest));
    match play(role, rest, &all) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A client role: does what the plan in the arguments says, and answers with its line of figures.
pub fn play_client(arguments: &[String], run: fn(&Plan) -> Result<Figures>) -> Result<()> {
    let plan = Plan::from_arguments(arguments)?;
    gauge::raise_descriptor_limit(plan.sessions)?;
    println!("{}", run(&plan)?);
    Ok(())
}
