//! The orchestrator's command line.

use super::case::Case;
use crate::support::Result;
use crate::support::options::{given, positive, unknown};

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
        let Some(mut arguments) = given(arguments) else {
            return Ok(Self { sessions: 10, rounds: 1, mails: 10, strace: false, ..options });
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
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
                _ => return unknown(argument),
            }
        }
        Ok(options)
    }
}
