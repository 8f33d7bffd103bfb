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

mod support;

mod lockstep {
    pub mod floor;
    pub mod options;
    pub mod rounds;
    pub mod table;
}

use std::process::ExitCode;

use lockstep::options::Options;
use lockstep::{floor, rounds, table};
use support::{Result, ours, server, spawn};

fn main() -> ExitCode {
    support::main("lockstep", |role, rest, all| match role {
        spawn::SERVER => server::serve(rest),
        floor::ROLE => support::play_client(rest, floor::run),
        spawn::OURS => support::play_client(rest, ours::run),
        _ => compare(&Options::parse(all)?),
    })
}

fn compare(options: &Options) -> Result<()> {
    let results = options.course.run(|way, sessions| rounds::compare(options, way, sessions))?;
    print!("{}", table::markdown(options, &results));
    Ok(())
}
