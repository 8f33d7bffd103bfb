//! What the lanes of a batch wait for at each step: all of them, or enough of
//! them. It is the only thing in which the paces differ.

use std::time::Instant;

use crate::pace::Pace;
use crate::timeouts::after;

/// See the module.
#[derive(Debug)]
pub(super) struct Barrier {
    pace: Pace,
    /// When the grace for those who are late is over; `None` while too few have
    /// finished the step.
    grace_over: Option<Instant>,
}

impl Barrier {
    pub(super) fn new(pace: Pace) -> Barrier {
        Barrier { pace, grace_over: None }
    }

    /// Whether the batch goes on, of whose lanes so many have finished the step and
    /// so many have not.
    pub(super) fn is_open(&mut self, finished: usize, late: usize, now: Instant) -> bool {
        if late == 0 {
            return true;
        }
        let Pace::Quorum { share, grace } = self.pace else { return false };
        let enough = f64::from(share) * (finished + late) as f64;
        // A share of 0.7 is a little more than 7 of 10 in binary.
        let is_enough = finished > 0 && finished as f64 >= enough - 1e-3;
        self.grace_over = is_enough.then(|| self.grace_over.unwrap_or_else(|| after(now, grace)));
        self.grace_over.is_some_and(|at| at <= now)
    }

    /// When it will be open at the latest, as far as that is known.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.grace_over
    }

    /// The next step begins.
    pub(super) fn shut(&mut self) {
        self.grace_over = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GRACE: Duration = Duration::from_millis(100);

    fn quorum(share: f32) -> Barrier {
        Barrier::new(Pace::Quorum { share, grace: GRACE })
    }

    #[test]
    fn lockstep_waits_for_the_last_one() {
        let now = Instant::now();
        let mut barrier = Barrier::new(Pace::Lockstep);
        assert!(!barrier.is_open(99, 1, now) && barrier.opens_at().is_none());
        assert!(barrier.is_open(100, 0, now));
    }

    #[test]
    fn a_quorum_waits_for_its_share_and_then_through_the_grace() {
        let now = Instant::now();
        let mut barrier = quorum(0.7);
        assert!(!barrier.is_open(6, 4, now) && barrier.opens_at().is_none());
        assert!(!barrier.is_open(7, 3, now));
        assert_eq!(barrier.opens_at(), Some(now + GRACE));
        let later = now + GRACE / 2;
        assert!(!barrier.is_open(8, 2, later));
        assert_eq!(barrier.opens_at(), Some(now + GRACE), "counted from when there were enough");
        assert!(barrier.is_open(8, 2, now + GRACE));
        barrier.shut();
        assert!(!barrier.is_open(9, 1, now + GRACE), "each step has its own grace");
    }

    #[test]
    fn all_is_a_quorum_at_once_and_nobody_is_none() {
        let now = Instant::now();
        assert!(quorum(0.9).is_open(3, 0, now) && quorum(0.9).is_open(0, 0, now));
        let mut barrier = quorum(0.01);
        assert!(!barrier.is_open(0, 5, now) && barrier.opens_at().is_none());
        assert!(!barrier.is_open(1, 4, now) && barrier.opens_at().is_some());
        assert!(!barrier.is_open(0, 4, now) && barrier.opens_at().is_none(), "the one that had is gone");
    }
}
