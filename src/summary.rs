//! Counters that can be read at any time.

use std::fmt;
use std::time::Duration;

use crate::host::Pipeline;
use crate::outcome::Outcome;

/// How many messages, or recipients, ended in each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// The server took responsibility.
    pub delivered: u64,
    /// The recipients' outcomes differ; counts messages only.
    pub partial: u64,
    /// Refused for good.
    pub refused: u64,
    /// All attempts used up, or expired.
    pub abandoned: u64,
    /// Dropped by a callback.
    pub dropped: u64,
    /// Sent whole and not answered.
    pub in_doubt: u64,
    /// Reported unsent, or returned to the caller.
    pub unsent: u64,
}

impl Tally {
    /// The sum of all outcomes.
    pub fn total(&self) -> u64 {
        self.delivered
            + self.partial
            + self.refused
            + self.abandoned
            + self.dropped
            + self.in_doubt
            + self.unsent
    }

    pub(crate) fn count(&mut self, outcome: &Outcome<'_>, times: u64) {
        *match outcome {
            Outcome::Delivered(_) => &mut self.delivered,
            Outcome::Partial => &mut self.partial,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::Abandoned(_) => &mut self.abandoned,
            Outcome::Dropped => &mut self.dropped,
            Outcome::InDoubt(_) => &mut self.in_doubt,
            Outcome::Unsent => &mut self.unsent,
        } += times;
    }
}

/// What one host contributed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct HostSummary {
    /// The host's name.
    pub name: String,
    /// Messages that ended on one of its lanes.
    pub mails: Tally,
    /// Their recipients.
    pub recipients: Tally,
    /// Attempts on its lanes that were followed by another, further transactions of
    /// a mail with many recipients included.
    pub requeued: u64,
    /// The most that is pipelined to it: what was set, unless it did not stand that.
    pub pipeline: Pipeline,
    /// Octets sent to it.
    pub bytes: u64,
    /// Connections that stood, from the greeting to EHLO's reply.
    pub connections: u64,
}

/// Everything counted since `connect`.
///
/// `taken` equals the sum of the outcomes once nothing is held any more:
/// after `quit`, `abort`, or an error that returned the backlog.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Messages taken over from the caller.
    pub taken: u64,
    /// Outcomes of messages.
    pub mails: Tally,
    /// Outcomes of recipients; `partial` stays 0.
    pub recipients: Tally,
    /// Times that a message was put back to be tried again, further transactions of
    /// a mail with many recipients included.
    pub requeued: u64,
    /// Batches run.
    pub batches: u64,
    /// Octets sent, protocol included.
    pub bytes: u64,
    /// Time since `connect` began.
    pub elapsed: Duration,
    /// The same by host, in the order in which the hosts were given.
    pub hosts: Vec<HostSummary>,
}

impl Summary {
    /// Messages delivered per second of the elapsed time.
    pub fn mails_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.mails.delivered as f64 / seconds } else { 0.0 }
    }
}

impl fmt::Display for Summary {
    /// One line; outcomes that did not happen are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} taken, {} delivered", self.taken, self.mails.delivered)?;
        let rest = [
            ("partial", self.mails.partial),
            ("refused", self.mails.refused),
            ("abandoned", self.mails.abandoned),
            ("dropped", self.mails.dropped),
            ("in doubt", self.mails.in_doubt),
            ("unsent", self.mails.unsent),
            ("requeued", self.requeued),
        ];
        for (name, count) in rest.iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        write!(
            f,
            "; {} batches, {} octets, {:.1} s, {:.0} mails/s",
            self.batches,
            self.bytes,
            self.elapsed.as_secs_f64(),
            self.mails_per_second()
        )
    }
}
