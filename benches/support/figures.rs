//! What a client is asked to do, and the one line of figures that it answers with.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::Result;
use super::way::Way;

/// One client run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub server: SocketAddr,
    pub way: Way,
    /// Connections, all open before the first mail.
    pub sessions: usize,
    /// Mails sent before the measured section; a whole number of batches.
    pub warm_up: usize,
    /// Mails sent within the measured section; a whole number of batches.
    pub mails: usize,
}

impl Plan {
    pub fn from_arguments(arguments: &[String]) -> Result<Self> {
        let [server, level, has_chunking, depth, pace, sessions, warm_up, mails] = arguments else {
            return Err("a client role takes ADDRESS LEVEL CHUNKING DEPTH PACE SESSIONS WARM_UP MAILS".into());
        };
        Ok(Self {
            server: server.parse()?,
            way: Way::from_arguments(level, has_chunking, depth, pace)?,
            sessions: sessions.parse()?,
            warm_up: warm_up.parse()?,
            mails: mails.parse()?,
        })
    }

    pub fn to_arguments(self) -> Vec<String> {
        let numbers = [self.sessions, self.warm_up, self.mails].map(|number| number.to_string());
        [self.server.to_string()].into_iter().chain(self.way.to_arguments()).chain(numbers).collect()
    }

    /// What the server must have counted when the client has ended.
    pub fn total(&self) -> usize {
        self.warm_up + self.mails
    }
}

/// What one client run measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub mails: usize,
    pub wall: Duration,
    /// User and system time of all threads of the process.
    pub cpu: Duration,
    /// Resident memory with all sessions open; unknown where the system does not tell.
    pub resident_kib: Option<u64>,
}

impl Figures {
    pub fn cpu_micros_per_mail(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.mails as f64
    }

    pub fn mails_per_second(&self) -> f64 {
        self.mails as f64 / self.wall.as_secs_f64()
    }

    /// Reads the line that `Display` writes.
    pub fn parse(line: &str) -> Result<Self> {
        let field = |name: &str| {
            line.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
                .ok_or_else(|| format!("no `{name}` in the client's answer: {line:?}"))
        };
        Ok(Self {
            mails: field("mails")?.parse()?,
            wall: Duration::from_nanos(field("wall_ns")?.parse()?),
            cpu: Duration::from_nanos(field("cpu_ns")?.parse()?),
            resident_kib: field("resident_kib")?.parse().ok(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mails, wall, cpu, resident_kib } = self;
        write!(f, "mails={mails} wall_ns={} cpu_ns={} resident_kib=", wall.as_nanos(), cpu.as_nanos())?;
        match resident_kib {
            Some(kib) => write!(f, "{kib}"),
            None => write!(f, "unknown"),
        }
    }
}

/// The middle value, or the mean of the two middle ones; `None` of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values.get(values.len() / 2 - 1).map(|lower| (lower + upper) / 2.0)
}

/// The smallest value, the median, and the largest; `None` of nothing.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, median(values.clone())?, *values.last()?])
}

/// The smallest value; `None` of nothing.
pub fn least(values: Vec<f64>) -> Option<f64> {
    values.into_iter().min_by(f64::total_cmp)
}
