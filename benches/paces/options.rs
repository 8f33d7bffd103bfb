//! The orchestrator's command line.

use crate::support::Result;
use crate::support::options::{given, positive, unknown};
use crate::support::way::{self, Way};

/// What the orchestrator was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub ways: Vec<Way>,
    /// The numbers of sessions compared, ascending.
    pub sessions: Vec<usize>,
    /// Runs of each pace, per number of sessions.
    pub rounds: usize,
    /// Mails of one measured run at level 0, rounded up to whole batches; more where they cost less.
    pub mails: usize,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let level_0 = way::ALL.first().copied().into_iter().collect::<Vec<_>>();
        let mut options = Self { ways: Vec::new(), sessions: vec![10, 100, 1000], rounds: 5, mails: 20_000 };
        let Some(mut arguments) = given(arguments) else {
            return Ok(Self { ways: level_0, sessions: vec![10], rounds: 1, mails: 100 });
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.rounds, options.mails) = (2, 5000),
                "--rounds" => options.rounds = positive(argument, arguments.next())?,
                "--level" => options.ways.extend(Way::of_level(arguments.next())?),
                "--depth" => options.ways.push(Way::of_depth(arguments.next())?),
                "--only" => options.sessions = vec![positive(argument, arguments.next())?],
                "--mails" => options.mails = positive(argument, arguments.next())?,
                _ => return unknown(argument),
            }
        }
        if options.ways.is_empty() {
            options.ways = level_0;
        }
        Ok(options)
    }
}
