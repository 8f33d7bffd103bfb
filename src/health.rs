//! What a host's lanes can be given, as its user is told when that changes.

use std::fmt;
use std::time::Duration;

/// What has changed about a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HostNews {
    /// It has put off too many mails, and is given fewer at a time:
    /// [`Host::auto_throttle`](crate::Host::auto_throttle).
    Slowed {
        /// How many at a time.
        mails: u32,
        /// For how long none at all; zero where it is given some at once.
        pause: Duration,
    },
    /// It is given as many mails as its lanes can take again.
    Recovered,
    /// Its lanes have failed, and none is opened or given a mail:
    /// [`Host::circuit_breaker`](crate::Host::circuit_breaker).
    Rests {
        /// For how long; then one lane tries.
        time: Duration,
        /// How often its lanes have failed in a row, with no mail answered between.
        failures: u32,
    },
    /// It has answered a mail after that, or you open lanes of it anew: all are used again.
    Back,
}

/// Something has changed about a host; there is nothing to decide.
///
/// Its `Display` is one line: `mx.example.org is given 5 mails at a time`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HostChange<'a> {
    /// The host's position among those that the builder was given.
    pub host: u32,
    /// Its name.
    pub name: &'a str,
    /// What has changed.
    pub news: HostNews,
}

impl fmt::Display for HostChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.news {
            HostNews::Slowed { mails, pause } => {
                let plural = if mails == 1 { "" } else { "s" };
                write!(f, " has put off too many mails: it is given {mails} mail{plural} at a time")?;
                if pause.is_zero() { Ok(()) } else { write!(f, ", and none for {pause:?}") }
            }
            HostNews::Recovered => f.write_str(" is given as many mails as its lanes can take again"),
            HostNews::Rests { time, failures } => {
                write!(f, " has failed {failures} times in a row: it rests for {time:?}")
            }
            HostNews::Back => f.write_str(" does not rest any more, and all its lanes are used again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_line() {
        let line = |news| HostChange { host: 0, name: "mx", news }.to_string();
        let second = Duration::from_secs(1);
        assert_eq!(
            line(HostNews::Slowed { mails: 1, pause: second }),
            "mx has put off too many mails: it is given 1 mail at a time, and none for 1s"
        );
        assert_eq!(
            line(HostNews::Slowed { mails: 7, pause: Duration::ZERO }),
            "mx has put off too many mails: it is given 7 mails at a time"
        );
        assert_eq!(
            line(HostNews::Rests { time: second, failures: 5 }),
            "mx has failed 5 times in a row: it rests for 1s"
        );
        assert!(line(HostNews::Recovered).contains("again") && line(HostNews::Back).contains("again"));
    }
}
