//! What the caller orders while all goes on: to deal no mails for a while, to take no
//! more, and other rates. Each order is a flag or a number that the next settle looks
//! at; what is under way takes no notice of it.

use std::time::Instant;

use super::Coordinator;
use crate::limits::Rate;

impl Coordinator {
    /// Whether no mail is dealt until told otherwise. What was dealt is finished, a
    /// server that waits for a content gets it, and connections are looked after as
    /// ever.
    pub fn set_paused(&mut self, is_paused: bool) {
        self.paused = is_paused;
    }

    /// Whether no message is taken until told otherwise; those that are held are sent,
    /// by short batches, too.
    pub fn set_draining(&mut self, is_draining: bool) {
        self.draining = is_draining;
    }

    /// Whether no message is taken.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Another rate for the host at this position; `false` when there is none. What was
    /// saved up is cut to the new burst, and a warm-up begins anew.
    pub fn set_rate(&mut self, host: u32, rate: Option<Rate>, now: Instant) -> bool {
        self.allowance.set_rate(host, rate, now)
    }

    /// The same for the rate over all hosts.
    pub fn set_total_rate(&mut self, rate: Option<Rate>, now: Instant) {
        self.allowance.set_total_rate(rate, now);
    }
}
