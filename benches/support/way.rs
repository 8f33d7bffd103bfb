//! The ways to send that are compared: the levels of [`Pipeline`], level 2 with CHUNKING and
//! without, several mails in a flight, and the paces.

use std::time::Duration;

use smtp_bulk::{Pace, Pipeline};

use super::Result;
use super::options::positive;

/// One way to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// The level of the client's `Pipeline`.
    pub level: u8,
    /// Whether the server offers CHUNKING.
    pub has_chunking: bool,
    /// Mails that a session is dealt in one batch, which are one flight of it.
    pub depth: usize,
    /// The place of its pace among [`PACES`].
    pub pace: usize,
}

/// The paces, by their names. The grace is never over unless a session has been forgotten.
pub const PACES: [(&str, Pace); 3] = [
    ("lockstep", Pace::Lockstep),
    ("quorum", Pace::Quorum { share: 0.9, grace: Duration::from_millis(100) }),
    ("free", Pace::Free),
];

const fn one_mail(level: u8, has_chunking: bool) -> Way {
    Way { level, has_chunking, depth: 1, pace: 0 }
}

/// One mail in a flight, and a step of it at a time: level 0.
pub const PLAIN: Way = one_mail(0, false);

/// What is compared when nothing else is asked for.
pub const ALL: [Way; 5] = [PLAIN, one_mail(1, false), one_mail(2, false), one_mail(2, true), deep(8)];

/// Several mails in a flight, which only CHUNKING allows.
const fn deep(depth: usize) -> Way {
    Way { level: 2, has_chunking: true, depth, pace: 0 }
}

impl Way {
    /// The ways that `--level L` stands for.
    pub fn of_level(value: Option<&String>) -> Result<Vec<Way>> {
        let level = value.and_then(|value| value.parse::<u8>().ok());
        let ways: Vec<_> = ALL.into_iter().filter(|way| Some(way.level) == level && way.depth == 1).collect();
        if ways.is_empty() { Err("--level takes 0, 1 or 2".into()) } else { Ok(ways) }
    }

    /// The way that `--depth K` stands for.
    pub fn of_depth(value: Option<&String>) -> Result<Way> {
        positive("--depth", value).map(deep)
    }

    pub fn pipeline(&self) -> Result<Pipeline> {
        Ok(Pipeline::from_level(self.level)?)
    }

    pub fn pace(&self) -> Pace {
        PACES[self.pace].1
    }

    /// Whether the content of one mail goes together with the envelope of the next.
    pub fn overlaps(&self) -> bool {
        self.level == 2 && !self.has_chunking
    }

    /// Round trips that a mail takes; a whole number of mails to one below 1.
    pub fn flights_per_mail(&self) -> f64 {
        let flights = match self.level {
            0 => 4.0,
            1 => 2.0,
            _ => 1.0,
        };
        flights / self.depth as f64
    }

    pub fn title(&self) -> String {
        match self {
            Way { level: 2, has_chunking: true, depth: 1, .. } => "level 2, CHUNKING".to_owned(),
            Way { level: 2, has_chunking: false, .. } => "level 2, no CHUNKING".to_owned(),
            Way { level, depth: 1, .. } => format!("level {level}"),
            Way { level, depth, .. } => format!("level {level}, CHUNKING, depth {depth}"),
        }
    }

    /// As arguments of a client role.
    pub fn to_arguments(self) -> [String; 4] {
        let pace = PACES[self.pace].0.to_owned();
        [self.level.to_string(), self.has_chunking.to_string(), self.depth.to_string(), pace]
    }

    pub fn from_arguments(level: &str, has_chunking: &str, depth: &str, pace: &str) -> Result<Way> {
        let pace = PACES.iter().position(|(name, _)| *name == pace).ok_or("no such pace")?;
        Ok(Way { level: level.parse()?, has_chunking: has_chunking.parse()?, depth: depth.parse()?, pace })
    }

    /// What the server role is told to offer besides PIPELINING.
    pub fn server_arguments(&self) -> Vec<std::ffi::OsString> {
        if self.has_chunking { vec![super::server::CHUNKING.into()] } else { Vec::new() }
    }
}
