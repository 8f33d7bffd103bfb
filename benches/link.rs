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

mod support;

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

use std::process::ExitCode;

use link::options::Options;
use link::{relay, rounds, table};
use support::{ours, server, spawn};

fn main() -> ExitCode {
    support::main("link", |role, rest, all| match role {
        spawn::SERVER => server::serve(rest),
        relay::ROLE => relay::serve(rest),
        spawn::OURS => support::play_client(rest, ours::run),
        _ => {
            let options = Options::parse(all)?;
            print!("{}", table::markdown(&options, &rounds::run(&options)?));
            Ok(())
        }
    })
}
