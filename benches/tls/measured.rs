//! What the client is asked to do, and the lines of figures that it answers with.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::case::Case;
use crate::support::Result;
use crate::support::figures::Figures;

/// Mails of each session before it rests and is looked at.
pub const MAILS_BEFORE_REST: usize = 3;

/// One client run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub case: Case,
    pub server: SocketAddr,
    /// The certificate of the only authority that the client trusts.
    pub authority: PathBuf,
    pub sessions: usize,
    /// Mails sent when all has been looked at; a multiple of `sessions`.
    pub mails: usize,
}

impl Plan {
    pub fn from_arguments(arguments: &[String]) -> Result<Self> {
        let [case, server, authority, sessions, mails] = arguments else {
            return Err("the client takes CASE ADDRESS AUTHORITY SESSIONS MAILS".into());
        };
        Ok(Self {
            case: Case::named(case)?,
            server: server.parse()?,
            authority: authority.into(),
            sessions: sessions.parse()?,
            mails: mails.parse()?,
        })
    }

    pub fn to_arguments(&self) -> [OsString; 5] {
        [
            self.case.name.into(),
            self.server.to_string().into(),
            self.authority.clone().into(),
            self.sessions.to_string().into(),
            self.mails.to_string().into(),
        ]
    }

    /// What the server must have counted when the client has ended: one mail to get warm, too.
    pub fn total(&self) -> usize {
        1 + MAILS_BEFORE_REST * self.sessions + self.mails
    }
}

/// What one client run measured, each with the resident memory behind it.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// A session that was opened, sent a mail and is gone: the libraries are there, and what a
    /// context takes.
    pub first: Figures,
    /// Opening the sessions, the making of their context among it; one counts as one mail.
    pub opened: Figures,
    /// The first mails of each session, all at rest behind them.
    pub rested: Figures,
    pub sent: Figures,
}

impl Measured {
    /// CPU time of one opening.
    pub fn opening_ms(&self) -> f64 {
        self.opened.cpu_micros_per_mail() / 1e3
    }

    /// CPU time of all openings.
    pub fn openings_ms(&self) -> f64 {
        self.opened.cpu.as_secs_f64() * 1e3
    }

    /// CPU time of the session that came first, and of its context.
    pub fn first_ms(&self) -> f64 {
        self.first.cpu.as_secs_f64() * 1e3
    }

    /// Resident memory of a session that has sent nothing.
    pub fn opened_kib(&self) -> f64 {
        self.kib_per_session(&self.opened)
    }

    /// Resident memory of a session that has sent mails and rests.
    pub fn rested_kib(&self) -> f64 {
        self.kib_per_session(&self.rested)
    }

    /// Where the system tells no memory this is no number.
    fn kib_per_session(&self, at: &Figures) -> f64 {
        let kib = |figures: &Figures| figures.resident_kib.map_or(f64::NAN, |kib| kib as f64);
        (kib(at) - kib(&self.first)) / self.opened.mails as f64
    }

    /// Reads the lines that `Display` writes.
    pub fn parse(text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let [first, opened, rested, sent] = lines.as_slice() else {
            return Err(format!("four lines of figures were to come: {text:?}").into());
        };
        let parse = Figures::parse;
        Ok(Self { first: parse(first)?, opened: parse(opened)?, rested: parse(rested)?, sent: parse(sent)? })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, opened, rested, sent } = self;
        writeln!(f, "{first}\n{opened}\n{rested}\n{sent}")
    }
}
