//! A host whose lanes fail rests: a circuit breaker. As long as it rests none of its
//! lanes is opened, or given a mail; then one is, and when a mail of it is answered the
//! others are again. Where it fails, the others fail with it, and the host rests for
//! longer.

use std::time::Instant;

use crate::failure::Failure;
use crate::host::LaneId;
use crate::reopening::Backoff;
use crate::timeouts::after;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures in a row, with no mail answered between.
    failures: u32,
    /// How often it has rested in a row.
    rests: u32,
    /// When one lane may try; `None` while all may.
    until: Option<Instant>,
    /// What went wrong last, and on which lane; the others are yet to be told.
    news: Option<(LaneId, Failure)>,
    cause: Option<Failure>,
}

impl Breaker {
    /// How many lanes may be in use.
    pub(super) fn most(&self, now: Instant) -> Option<u32> {
        self.until.map(|until| u32::from(until <= now))
    }

    /// Until when none is.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// What it rests for.
    pub(super) fn cause(&self) -> Option<&Failure> {
        self.cause.as_ref()
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// A lane has failed; `most` failures in a row are borne. Gives until when the host
    /// rests, where it begins to.
    pub(super) fn failed(
        &mut self,
        (lane, failure): (LaneId, &Failure),
        most: u32,
        backoff: &Backoff,
        now: Instant,
    ) -> Option<Instant> {
        self.failures = self.failures.saturating_add(1);
        let has_tried = match self.until {
            None if self.failures < most => return None,
            None => false,
            // These have begun before.
            Some(until) if now < until => return None,
            Some(_) => true,
        };
        self.rests = self.rests.saturating_add(1);
        let until = after(now, backoff.wait(self.rests, 1.0));
        self.until = Some(until);
        self.cause = Some(failure.clone());
        self.news = has_tried.then(|| (lane, failure.clone()));
        Some(until)
    }

    /// What the other lanes are to fail with.
    pub(super) fn take_news(&mut self) -> Option<(LaneId, Failure)> {
        self.news.take()
    }

    /// A mail was answered, or the caller wants to try again; says whether that ends a
    /// rest.
    pub(super) fn close(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open || self.failures > 0 {
            *self = Breaker::default();
        }
        was_open
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LANE: LaneId = LaneId { host: 0, thread: 1 };

    fn fail(breaker: &mut Breaker, now: Instant) -> Option<Duration> {
        let backoff = Backoff { base: SECOND, max: 4 * SECOND };
        breaker.failed((LANE, &Failure::Closed), 3, &backoff, now).map(|until| until - now)
    }

    #[test]
    fn so_many_failures_in_a_row_and_the_host_rests() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(fail(&mut breaker, now).is_none() && fail(&mut breaker, now).is_none());
        assert!(!breaker.close() && breaker.failures() == 0, "a mail was finished");
        assert!(fail(&mut breaker, now).is_none() && fail(&mut breaker, now).is_none());
        assert_eq!(breaker.most(now), None);
        assert_eq!(fail(&mut breaker, now), Some(SECOND));
        assert_eq!((breaker.most(now), breaker.rests_until(now)), (Some(0), Some(now + SECOND)));
        assert!(breaker.take_news().is_none(), "each had its own failure");
        assert!(fail(&mut breaker, now).is_none(), "it was under way");
    }

    #[test]
    fn then_one_tries_for_all_and_each_rest_is_longer_until_it_succeeds() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            fail(&mut breaker, now);
        }
        for seconds in [1, 2, 4, 4] {
            now += seconds * SECOND;
            assert_eq!((breaker.most(now), breaker.rests_until(now)), (Some(1), None));
            let rests = fail(&mut breaker, now);
            assert_eq!(rests, Some((2 * seconds).min(4) * SECOND));
            assert!(breaker.take_news().is_some() && breaker.take_news().is_none());
        }
        assert!(breaker.close() && breaker.most(now).is_none());
        assert!(fail(&mut breaker, now).is_none(), "it is counted anew");
    }
}
