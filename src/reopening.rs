//! How often a lane is opened again, and after what wait: the settings, and the
//! count of what went wrong in a row.

use std::time::{Duration, Instant};

use crate::timeouts::LONGEST;

/// Waiting before a lane is opened again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The wait after the first failure; each further one doubles it. 1 s.
    pub base: Duration,
    /// The longest wait. 5 minutes.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait before attempt number `failures`, between half and the whole
    /// of `base` × 2^(`failures` − 1); `jitter` is from 0 to 1.
    pub(crate) fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let whole = self.base.saturating_mul(factor).min(self.max).min(LONGEST);
        whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// How often a lane is opened again in a row, with no mail finished between, before
/// it is retired: the `Retry` of Net::SMTP::Bulk, by the cause. Set, it stands in for
/// [`Host::max_connect_failures`](crate::Host::max_connect_failures).
///
/// 0 is no bound: the lane is retired when nothing has come of it for
/// [`Retry::give_up_after`]. The waits of [`Backoff`] are the same either way. How
/// often a mail is tried is another matter:
/// [`MailerBuilder::max_attempts`](crate::MailerBuilder::max_attempts).
///
/// ```
/// use smtp_bulk::{Host, Retry};
/// use std::time::Duration;
///
/// let retry = Retry { fail: 0, give_up_after: Duration::from_secs(600), ..Retry::default() };
/// let host = Host::new("mx.example.org").retry(retry);
/// # let _ = host;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// After a `hang`: a deadline that passed, a connection that was lost. 1.
    pub hang: u32,
    /// After a `global_hang`. 1.
    pub global_hang: u32,
    /// After anything else: a connection that was not made, a 421, a callback's wish. 5.
    pub fail: u32,
    /// After how long without a finished mail a lane is retired whose count has no
    /// bound, from the first thing that went wrong on. 1 hour.
    pub give_up_after: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { hang: 1, global_hang: 1, fail: 5, give_up_after: Duration::from_secs(3600) }
    }
}

/// The least wait before a lane is opened again: the `Sleep` of Net::SMTP::Bulk.
/// Where the [`Backoff`] is longer, that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sleep {
    /// After a `hang` or `global_hang`. None.
    pub hang: Duration,
    /// After anything else. None.
    pub fail: Duration,
}

/// Why a lane has to be opened anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setback {
    Hang,
    GlobalHang,
    /// Its opening failed.
    Opening,
    /// Anything else: the server or a callback wanted it.
    Other,
}

impl Setback {
    fn is_hang(self) -> bool {
        matches!(self, Setback::Hang | Setback::GlobalHang)
    }
}

/// What holds for the lanes of one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    pub(crate) most: u32,
    pub(crate) retry: Option<Retry>,
    pub(crate) backoff: &'a Backoff,
    pub(crate) sleep: Sleep,
}

impl Bounds<'_> {
    /// How long to wait before an opening that is held against nobody.
    pub(crate) fn least_wait(&self, setback: Setback) -> Duration {
        if setback.is_hang() { self.sleep.hang } else { self.sleep.fail }
    }
}

/// Openings of a lane that were needed in a row, with no mail finished between.
#[derive(Debug, Default)]
pub(crate) struct Setbacks {
    all: u32,
    hangs: u32,
    global_hangs: u32,
    since: Option<Instant>,
}

impl Setbacks {
    /// How many there were.
    pub(crate) fn count(&self) -> u32 {
        self.all
    }

    /// One more: how long to wait before the opening, or `None` when it is one too many.
    pub(crate) fn add(
        &mut self,
        setback: Setback,
        bounds: Bounds<'_>,
        jitter: f64,
        now: Instant,
    ) -> Option<Duration> {
        self.note(setback, now);
        if self.is_one_too_many(setback, bounds, now) {
            return None;
        }
        // A connection that stood is first replaced without a wait.
        let failures = if setback == Setback::Opening { self.all } else { self.all - 1 };
        Some(wait(failures, setback, bounds, jitter))
    }

    /// One more, by a callback's restart, which retires nobody by itself.
    pub(crate) fn note(&mut self, setback: Setback, now: Instant) {
        self.all = self.all.saturating_add(1);
        self.hangs = self.hangs.saturating_add(u32::from(setback == Setback::Hang));
        self.global_hangs = self.global_hangs.saturating_add(u32::from(setback == Setback::GlobalHang));
        self.since.get_or_insert(now);
    }

    /// The wait before an opening that is one more, but is not counted here.
    pub(crate) fn next_wait(&self, setback: Setback, bounds: Bounds<'_>, jitter: f64) -> Duration {
        wait(self.all.saturating_add(1), setback, bounds, jitter)
    }

    fn is_one_too_many(&self, setback: Setback, bounds: Bounds<'_>, now: Instant) -> bool {
        let Some(retry) = bounds.retry else { return self.all >= bounds.most };
        let (count, most) = match setback {
            Setback::Hang => (self.hangs, retry.hang),
            Setback::GlobalHang => (self.global_hangs, retry.global_hang),
            Setback::Opening | Setback::Other => {
                (self.all.saturating_sub(self.hangs.saturating_add(self.global_hangs)), retry.fail)
            }
        };
        let waited = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if most == 0 { waited >= retry.give_up_after } else { count > most }
    }
}

fn wait(failures: u32, setback: Setback, bounds: Bounds<'_>, jitter: f64) -> Duration {
    bounds.backoff.wait(failures, jitter).max(bounds.least_wait(setback))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many of these are borne, one a second.
    fn borne(setback: Setback, retry: Option<Retry>) -> usize {
        let mut setbacks = Setbacks::default();
        let backoff = Backoff::default();
        let bounds = Bounds { most: 5, retry, backoff: &backoff, sleep: Sleep::default() };
        let now = Instant::now();
        (0..10_000).take_while(|at| setbacks.add(setback, bounds, 1.0, now + *at * SECOND).is_some()).count()
    }

    #[test]
    fn waits_double_up_to_the_bound() {
        let backoff = Backoff { base: SECOND, max: 10 * SECOND };
        let seconds = |failures| backoff.wait(failures, 1.0).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 90].map(seconds), [0, 1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.wait(2, 0.0), SECOND);
        let endless = Backoff { base: Duration::MAX, max: Duration::MAX };
        assert!([0.0, 1.0].iter().all(|jitter| endless.wait(9, *jitter) <= LONGEST));
    }

    #[test]
    fn each_cause_has_a_bound_of_its_own_where_that_is_wanted() {
        let all = [Setback::Hang, Setback::GlobalHang, Setback::Opening, Setback::Other];
        assert_eq!(all.map(|setback| borne(setback, None)), [4; 4]);
        assert_eq!(all.map(|setback| borne(setback, Some(Retry::default()))), [1, 1, 5, 5]);
        let retry = Retry { hang: 2, global_hang: 3, fail: 4, ..Retry::default() };
        assert_eq!(all.map(|setback| borne(setback, Some(retry))), [2, 3, 4, 4]);
    }

    #[test]
    fn one_cause_does_not_use_up_what_another_has() {
        let mut setbacks = Setbacks::default();
        let backoff = Backoff::default();
        let bounds =
            Bounds { most: 1, retry: Some(Retry::default()), backoff: &backoff, sleep: Sleep::default() };
        let now = Instant::now();
        let mut is_borne = |setback| setbacks.add(setback, bounds, 1.0, now).is_some();
        assert!(is_borne(Setback::Hang) && is_borne(Setback::GlobalHang));
        assert!((0..5).all(|_| is_borne(Setback::Opening)));
        assert!(!is_borne(Setback::Other) && !is_borne(Setback::Hang));
    }

    #[test]
    fn without_a_bound_time_is_one() {
        let give_up_after = 100 * SECOND;
        let retry = Retry { hang: 0, global_hang: 0, fail: 0, give_up_after };
        for setback in [Setback::Hang, Setback::GlobalHang, Setback::Opening] {
            assert_eq!(borne(setback, Some(retry)), 100, "one a second");
        }
    }

    #[test]
    fn the_longer_one_of_back_off_and_sleep_holds() {
        let backoff = Backoff { base: 4 * SECOND, max: 8 * SECOND };
        let sleep = Sleep { hang: 2 * SECOND, fail: 5 * SECOND };
        let bounds = Bounds { most: 9, retry: None, backoff: &backoff, sleep };
        let now = Instant::now();
        let waits = |setback| {
            let mut setbacks = Setbacks::default();
            [(); 3].map(|()| setbacks.add(setback, bounds, 1.0, now).unwrap().as_secs())
        };
        assert_eq!(waits(Setback::Hang), [2, 4, 8]);
        assert_eq!(waits(Setback::Other), [5, 5, 8]);
        assert_eq!(waits(Setback::Opening), [5, 8, 8]);
    }
}
