//! The orchestrator's command line.

use super::spawn::{FLOOR, OURS};
use crate::Result;

/// What the orchestrator was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The numbers of sessions compared, ascending.
    pub sessions: Vec<usize>,
    /// Pairs of runs, floor then ours, per number of sessions.
    pub rounds: usize,
    /// Mails of one measured run, rounded up to whole batches.
    pub mails: usize,
    pub strace: bool,
    /// The role compared with the floor; the floor itself with `--control`, which shows the noise.
    pub rival: &'static str,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options =
            Self { sessions: vec![10, 100, 1000], rounds: 5, mails: 20_000, strace: true, rival: OURS };
        if !arguments.iter().any(|argument| argument == "--bench") {
            // Started by `cargo test`, whose arguments are for its own harness: prove that the
            // roles work together, and be quick about it.
            return Ok(Self { sessions: vec![10], rounds: 1, mails: 100, strace: false, ..options });
        }
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || positive(argument, arguments.next());
            match argument.as_str() {
                "--bench" => {}
                "--quick" => options.rounds = 2,
                "--rounds" => options.rounds = number()?,
                "--only" => options.sessions = vec![number()?],
                "--mails" => options.mails = number()?,
                "--no-strace" => options.strace = false,
                "--control" => options.rival = FLOOR,
                _ => return Err(format!("unknown option {argument}").into()),
            }
        }
        Ok(options)
    }
}

/// The number behind an option.
pub fn positive(name: &str, value: Option<&String>) -> Result<usize> {
    let number = value.and_then(|value| value.parse().ok()).filter(|&number| number > 0);
    number.ok_or_else(|| format!("{name} takes a number above 0").into())
}
