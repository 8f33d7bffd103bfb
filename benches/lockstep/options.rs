//! The orchestrator's command line.

use super::spawn::{FLOOR, OURS};
use super::way::{self, Way};
use crate::Result;

/// What the orchestrator was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub ways: Vec<Way>,
    /// The numbers of sessions compared, ascending.
    pub sessions: Vec<usize>,
    /// Pairs of runs, floor then ours, per number of sessions.
    pub rounds: usize,
    /// Mails of one measured run at level 0, rounded up to whole batches; more where they cost less.
    pub mails: usize,
    pub strace: bool,
    /// The role compared with the floor; the floor itself with `--control`, which shows the noise.
    pub rival: &'static str,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            ways: Vec::new(),
            sessions: vec![10, 100, 1000],
            rounds: 5,
            mails: 20_000,
            strace: true,
            rival: OURS,
        };
        if !arguments.iter().any(|argument| argument == "--bench") {
            // Started by `cargo test`, whose arguments are for its own harness: prove that the
            // roles work together, and be quick about it.
            let ways = way::ALL.to_vec();
            return Ok(Self { ways, sessions: vec![10], rounds: 1, mails: 100, strace: false, ..options });
        }
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--quick" => (options.rounds, options.mails) = (2, 5000),
                "--rounds" => options.rounds = positive(argument, arguments.next())?,
                "--level" => options.ways.extend(Way::of_level(arguments.next())?),
                "--depth" => options.ways.push(Way::of_depth(arguments.next())?),
                "--only" => options.sessions = vec![positive(argument, arguments.next())?],
                "--mails" => options.mails = positive(argument, arguments.next())?,
                "--no-strace" => options.strace = false,
                "--control" => options.rival = FLOOR,
                _ => return Err(format!("unknown option {argument}").into()),
            }
        }
        if options.ways.is_empty() {
            options.ways = way::ALL.to_vec();
        }
        Ok(options)
    }
}

/// The number behind an option.
pub fn positive(name: &str, value: Option<&String>) -> Result<usize> {
    let number = value.and_then(|value| value.parse().ok()).filter(|&number| number > 0);
    number.ok_or_else(|| format!("{name} takes a number above 0").into())
}
