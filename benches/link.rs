//! Measures what a link with a delay lets through: this crate's mailer at each level of
//! pipelining against what the round trips allow.
//!
//! One binary, three roles besides the orchestrator, each a process of its own: the server, the
//! relay before it that delays each direction, and the client. The orchestrator prints the table
//! of `docs/PERFORMANCE.md`:
//!
//! ```text
//! cargo bench --bench link -- [--quick] [--level 0|1|2] [--depth K] [--rounds R] [--flights F] [--delay MS]
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
    pub mod ours;
    pub mod server;
    pub mod spawn;
    pub mod way;
}

mod link {
    pub mod options;
    #[cfg(target_os = "linux")]
    pub mod relay;
    #[cfg(not(target_os = "linux"))]
    #[path = "no_relay.rs"]
    pub mod relay;
    pub mod rounds;
    pub mod table;
}

use std::error::Error;
use std::process::ExitCode;

use link::options::Options;
use link::{relay, rounds, table};
use lockstep::figures::Plan;
use lockstep::{gauge, ours, server, spawn};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &[String]) -> Result<()> {
    let (role, rest) =
        arguments.split_first().map_or(("", arguments), |(first, rest)| (first.as_str(), rest));
    match role {
        spawn::SERVER => server::serve(rest),
        relay::ROLE => relay::serve(rest),
        spawn::OURS => {
            let plan = Plan::from_arguments(rest)?;
            gauge::raise_descriptor_limit(plan.sessions)?;
            println!("{}", ours::run(&plan)?);
            Ok(())
        }
        _ => {
            let options = Options::parse(arguments)?;
            print!("{}", table::markdown(&options, &rounds::run(&options)?));
            Ok(())
        }
    }
}
