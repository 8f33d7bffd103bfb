//! What the caller orders while all goes on: to deal no mails for a while, to take no
//! more, other rates, and another number of threads. Each order is a flag or a number that the next settle looks
//! at; what is under way takes no notice of it.

use std::time::Instant;

use super::allowance::Limited;
use super::lane::Lane;
use super::{Coordinator, MAX_LANES};
use crate::host::LaneId;
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

    /// Another rate of a host, or over all; `false` when there is no such host. What was
    /// saved up is cut to the new burst, and a warm-up begins anew.
    pub fn set_rate(&mut self, of: Limited, rate: Option<Rate>, now: Instant) -> bool {
        let counted = self.allowance.counts_octets();
        let is_known = self.allowance.set_rate(of, rate, now);
        if self.allowance.counts_octets() && !counted {
            // What was sent before anybody counted is owed by nobody.
            self.lanes.iter_mut().for_each(|lane| (lane.charged, lane.reserved) = (lane.bytes(), 0));
        }
        is_known
    }

    /// Another number of threads for the host at this position, at least one; `false`
    /// when there is none. There are new lanes for more than it ever had, as far as there
    /// may be ([`MAX_LANES`]); where there are to be fewer, those that have nothing to do
    /// give up their connections.
    pub fn set_threads(&mut self, host: u32, threads: u32, now: Instant) -> bool {
        let Some(settings) = self.desk.set_threads(host, threads.max(1)) else { return false };
        let known = self.muster.host(host as usize).lanes;
        let (known, room) = (u32::try_from(known).unwrap_or(u32::MAX), MAX_LANES - self.lanes.len());
        for thread in (known..threads).take(room) {
            let id = LaneId { host, thread };
            self.lanes.push(Lane::new(id, settings.clone(), now));
            self.muster.add(host as usize);
        }
        let sums = self.muster.hosts().iter().zip(&self.desk.health);
        self.is_narrowed = sums.into_iter().any(|(sum, health)| sum.lanes > health.threads as usize);
        true
    }
}
