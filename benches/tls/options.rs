//! The orchestrator's command line.

use super::case::Case;
use crate::Result;
use crate::lockstep::options::positive;

/// What the orchestrator was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub cases: Vec<Case>,
    pub sessions: usize,
    /// How often each case is run.
    pub rounds: usize,
    /// Mails of which the CPU time is measured, rounded up to whole batches.
    pub mails: usize,
    pub strace: bool,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options =
            Self { cases: Case::all().collect(), sessions: 1000, rounds: 5, mails: 10_000, strace: true };
        if !arguments.iter().any(|argument| argument == "--bench") {
            // Started by `cargo test`, whose arguments are for its own harness: prove that the
            // roles work together, and be quick about it.
            return Ok(Self { sessions: 10, rounds: 1, mails: 10, strace: false, ..options });
        }
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--quick" => (options.sessions, options.rounds, options.mails) = (200, 2, 1000),
                "--rounds" => options.rounds = positive(argument, arguments.next())?,
                "--sessions" => options.sessions = positive(argument, arguments.next())?,
                "--mails" => options.mails = positive(argument, arguments.next())?,
                "--only" => {
                    let case = Case::named(arguments.next().map_or("", String::as_str))?;
                    let beside = case.beside.map(Case::named).transpose()?;
                    options.cases = beside.into_iter().chain([case]).collect();
                }
                "--no-strace" => options.strace = false,
                _ => return Err(format!("unknown option {argument}").into()),
            }
        }
        Ok(options)
    }
}
