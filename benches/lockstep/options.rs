//! The orchestrator's command line.

use super::floor;
use crate::support::Result;
use crate::support::options::{Course, given};
use crate::support::spawn::OURS;
use crate::support::way;

/// What the orchestrator was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// A round is a pair of runs, floor then ours.
    pub course: Course,
    pub strace: bool,
    /// The role compared with the floor; the floor itself with `--control`, which shows the noise.
    pub rival: &'static str,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let Some(arguments) = given(arguments) else {
            return Ok(Self { course: Course::proof(&way::ALL), strace: false, rival: OURS });
        };
        let (mut strace, mut rival) = (true, OURS);
        let course = Course::parse(arguments, &way::ALL, |argument| {
            match argument {
                "--no-strace" => strace = false,
                "--control" => rival = floor::ROLE,
                _ => return false,
            }
            true
        })?;
        Ok(Self { course, strace, rival })
    }
}
