//! How much may be sent at a time, by number and by time.

use std::time::{Duration, Instant};

use crate::timeouts::after;

/// Where a warm-up begins, as a share of the whole rate.
const COLD: f64 = 0.1;

/// A count this much below a whole number is that number: a wait is not prolonged for
/// what is lost in rounding.
const ROUNDING: f64 = 1e-6;

/// Mails that may be begun in a time: a token bucket. In any time *t* no more than
/// burst + rate × *t* are.
///
/// ```
/// use smtp_bulk::{Host, Rate};
/// use std::time::Duration;
///
/// // A new address is known to nobody: ten minutes to get from 5 to 50 mails a second.
/// let rate = Rate::per_second(50.0).burst(10).warm_up(Duration::from_secs(600));
/// let host = Host::new("mx.example.org").rate(rate);
/// # let _ = host;
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    per_second: f64,
    burst: u32,
    warm_up: Duration,
}

impl Rate {
    /// So many mails a second; less than one is fine. The burst is what comes in one
    /// second, and at least one mail.
    pub fn per_second(mails: f64) -> Rate {
        let burst = if mails.is_finite() { mails.ceil().clamp(1.0, f64::from(u32::MAX)) } else { 1.0 };
        // Within the bounds of a `u32` by now.
        Rate { per_second: mails, burst: burst as u32, warm_up: Duration::ZERO }
    }

    /// So many mails a minute.
    pub fn per_minute(mails: f64) -> Rate {
        Rate::per_second(mails / 60.0)
    }

    /// So many mails an hour.
    pub fn per_hour(mails: f64) -> Rate {
        Rate::per_second(mails / 3600.0)
    }

    /// How many mails may be begun at once when there were none for a while; at least
    /// one.
    pub fn burst(mut self, mails: u32) -> Rate {
        self.burst = mails.max(1);
        self
    }

    /// How long it takes, from the first mail on, to get from a tenth of the rate to the
    /// whole. The first burst is of one mail then. Default: no time at all.
    pub fn warm_up(mut self, time: Duration) -> Rate {
        self.warm_up = time;
        self
    }

    /// The whole rate.
    pub fn mails_per_second(self) -> f64 {
        self.per_second
    }

    /// The burst.
    pub fn most_at_once(self) -> u32 {
        self.burst
    }

    /// What is wrong with it.
    pub(crate) fn problem(self) -> Option<&'static str> {
        let is_fine = self.per_second.is_finite() && self.per_second > 0.0;
        (!is_fine).then_some("a rate is above 0 mails, and not without end")
    }
}

/// What is left of a rate.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    /// When the tokens were counted.
    at: Instant,
    /// When the first mail was begun.
    begun: Option<Instant>,
}

impl Bucket {
    /// A full one, but with a warm-up to come it has one token.
    pub(crate) fn new(rate: Rate, now: Instant) -> Bucket {
        let tokens = if rate.warm_up.is_zero() { f64::from(rate.burst) } else { 1.0 };
        Bucket { rate, tokens, at: now, begun: None }
    }

    /// Another rate, or none, for what has one or none. What is missing to the next mail
    /// stays so, as does what was saved up, as far as the new burst reaches; so no window
    /// has more mails than the burst at its begin and what is gained in it. A warm-up
    /// begins anew.
    pub(crate) fn change(bucket: &mut Option<Bucket>, rate: Option<Rate>, now: Instant) {
        *bucket = match (bucket.take(), rate) {
            // More than the new burst is never counted.
            (Some(old), Some(rate)) => {
                Some(Bucket { rate, tokens: old.tokens_at(now), at: old.at.max(now), begun: None })
            }
            (_, rate) => rate.map(|rate| Bucket::new(rate, now)),
        };
    }

    /// How many mails may be begun now.
    pub(crate) fn left(&self, now: Instant) -> usize {
        // Never below zero, nor above a `u32`.
        (self.tokens_at(now) + ROUNDING) as usize
    }

    /// So many are begun.
    pub(crate) fn take(&mut self, count: f64, now: Instant) {
        self.tokens = self.tokens_at(now) - count;
        self.at = self.at.max(now);
        self.begun.get_or_insert(now);
    }

    /// When the next one may be begun at the latest, where none may now.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.left(now) > 0 {
            return None;
        }
        let seconds = self.seconds_to_gain(1.0 - self.tokens_at(now), now);
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        // So that time goes on, however fast it is.
        Some(after(now, wait.max(Duration::from_nanos(1))))
    }

    /// How long it takes to gain so much.
    fn seconds_to_gain(&self, wanted: f64, now: Instant) -> f64 {
        let (speed, full) = (self.speed(now), self.rate.per_second);
        let Some(begun) = self.begun else { return wanted / speed };
        let warming = after(begun, self.rate.warm_up).saturating_duration_since(now).as_secs_f64();
        let gained_meanwhile = (speed + full) / 2.0 * warming;
        if gained_meanwhile < wanted {
            return warming + (wanted - gained_meanwhile) / full;
        }
        // The speed grows evenly: wanted = speed × t + growth × t² / 2.
        let growth = (full - speed) / warming;
        let root = (speed * speed + 2.0 * growth * wanted).sqrt();
        if growth > 0.0 { (root - speed) / growth } else { wanted / speed }
    }

    /// How many tokens there may be: one before the first mail, where a warm-up is to come.
    fn most(&self) -> f64 {
        let is_cold = self.begun.is_none() && !self.rate.warm_up.is_zero();
        if is_cold { 1.0 } else { f64::from(self.rate.burst) }
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let time = now.saturating_duration_since(self.at).as_secs_f64();
        // A speed that grows evenly is in the mean what it is half-way.
        let mean = (self.speed(self.at) + self.speed(now)) / 2.0;
        let is_within = self.warmth(self.at) < 1.0 && self.warmth(now) >= 1.0;
        let gained = if is_within { self.gained_while_warming(now) } else { mean * time };
        (self.tokens + gained).min(self.most())
    }

    /// What is gained where the warm-up ends between the last time and now.
    fn gained_while_warming(&self, now: Instant) -> f64 {
        let Some(begun) = self.begun else { return 0.0 };
        let end = after(begun, self.rate.warm_up);
        let warming = end.saturating_duration_since(self.at).as_secs_f64();
        let warm = now.saturating_duration_since(end).as_secs_f64();
        (self.speed(self.at) + self.rate.per_second) / 2.0 * warming + self.rate.per_second * warm
    }

    /// Mails a second at that time.
    fn speed(&self, at: Instant) -> f64 {
        self.rate.per_second * (COLD + (1.0 - COLD) * self.warmth(at))
    }

    /// How far the warm-up is, from 0 to 1.
    fn warmth(&self, at: Instant) -> f64 {
        let whole = self.rate.warm_up.as_secs_f64();
        let passed = self.begun.map_or(0.0, |begun| at.saturating_duration_since(begun).as_secs_f64());
        if whole > 0.0 { (passed / whole).min(1.0) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When mails are begun by somebody who always has one, within a time.
    fn begun(rate: Rate, time: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate, start);
        let (mut now, mut begun) = (start, Vec::new());
        while now < start + time {
            match bucket.next_at(now) {
                Some(at) => {
                    assert!(at > now, "no wait");
                    now = at;
                }
                None => {
                    bucket.take(1.0, now);
                    begun.push(now - start);
                }
            }
        }
        begun
    }

    /// In no window are there more than burst + rate × its length.
    fn check_windows(begun: &[Duration], per_second: f64, burst: u32) {
        for (first, from) in begun.iter().enumerate() {
            for (last, to) in begun.iter().enumerate().skip(first) {
                let most = f64::from(burst) + per_second * (*to - *from).as_secs_f64();
                assert!(
                    (last - first + 1) as f64 <= most + 0.001,
                    "{} in {:?}",
                    last - first + 1,
                    *to - *from
                );
            }
        }
    }

    #[test]
    fn no_window_has_more_than_its_burst_and_its_rate() {
        for (per_second, burst) in [(10.0, 1), (10.0, 7), (0.5, 3), (333.0, 20), (3.7, 2)] {
            let begun = begun(Rate::per_second(per_second).burst(burst), 10 * SECOND);
            check_windows(&begun, per_second, burst);
            let expected = f64::from(burst) + per_second * 10.0;
            assert!((begun.len() as f64 - expected).abs() <= 1.5, "{} of {expected}", begun.len());
        }
    }

    #[test]
    fn what_is_not_used_is_saved_up_to_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::per_second(10.0).burst(5), start);
        assert_eq!(bucket.left(start), 5);
        bucket.take(5.0, start);
        assert_eq!(bucket.left(start + SECOND / 10), 1);
        assert_eq!(bucket.left(start + SECOND / 5), 2);
        assert_eq!(bucket.left(start + 3600 * SECOND), 5);
    }

    #[test]
    fn a_warm_up_begins_with_a_tenth_and_grows() {
        let rate = Rate::per_second(100.0).burst(5).warm_up(100 * SECOND);
        let begun = begun(rate, 150 * SECOND);
        check_windows(&begun, 100.0, 5);
        let within = |from: u32, to: u32| {
            begun.iter().filter(|at| (from * SECOND..to * SECOND).contains(at)).count() as f64
        };
        for (from, to, expected) in [(0, 10, 145.0), (45, 55, 550.0), (90, 100, 955.0), (110, 120, 1_000.0)] {
            let count = within(from, to);
            assert!((count - expected).abs() <= 0.03 * expected, "{count} from {from} to {to}");
        }
        assert_eq!(begun.first(), Some(&Duration::ZERO));
        assert!(begun.get(1) > Some(&(SECOND / 20)), "no burst at the beginning");
    }

    #[test]
    fn a_warm_up_begins_with_one_mail_whenever_that_is_and_waits_no_longer_than_it_has_to() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::per_second(10.0).burst(10).warm_up(600 * SECOND), start);
        assert_eq!(bucket.left(start + 3600 * SECOND), 1);
        bucket.take(1.0, start + 3600 * SECOND);
        assert_eq!(bucket.left(start + 3600 * SECOND), 0);

        let mut bucket = Bucket::new(Rate::per_minute(1.0).burst(1).warm_up(60 * SECOND), start);
        bucket.take(1.0, start);
        // 33 s' worth in the first minute.
        let next = bucket.next_at(start).unwrap() - start;
        assert!((next.as_secs_f64() - 87.0).abs() < 0.01, "{next:?}");
        assert_eq!((bucket.left(start + next), bucket.left(start + next - SECOND)), (1, 0));
    }

    #[test]
    fn the_end_of_a_warm_up_is_met_wherever_it_falls() {
        let rate = Rate::per_second(10.0).burst(1_000).warm_up(10 * SECOND);
        let start = Instant::now();
        let mut bucket = Bucket::new(rate, start);
        bucket.take(1.0, start);
        // 10 s at 5.5 in the mean, and 10 s at 10.
        assert_eq!(bucket.left(start + 20 * SECOND), 155);
    }

    fn changed(from: Rate, to: Rate, taken: usize, after: Duration) -> (Bucket, Instant) {
        let start = Instant::now();
        let mut bucket = Bucket::new(from, start);
        bucket.take(taken as f64, start);
        let mut bucket = Some(bucket);
        Bucket::change(&mut bucket, Some(to), start + after);
        (bucket.unwrap(), start + after)
    }

    #[test]
    fn what_was_saved_up_is_cut_to_the_new_burst_and_not_filled_up() {
        let rate = |burst| Rate::per_second(1.0).burst(burst);
        for (from, to, taken, left) in [(10, 3, 0, 3), (10, 3, 8, 2), (3, 10, 0, 3), (3, 10, 3, 0)] {
            let (bucket, now) = changed(rate(from), rate(to), taken, Duration::ZERO);
            assert_eq!(bucket.left(now), left, "{taken} of {from}, then {to}");
            assert_eq!(bucket.left(now + 3600 * SECOND), to as usize);
        }
    }

    #[test]
    fn what_is_missing_to_the_next_mail_is_gained_at_the_new_rate() {
        let (slow, fast) = (Rate::per_second(0.1).burst(1), Rate::per_second(10.0).burst(1));
        let next = |bucket: &Bucket, now| bucket.next_at(now).unwrap() - now;
        // Half a mail is there.
        let (bucket, now) = changed(slow, fast, 1, 5 * SECOND);
        assert_eq!(next(&bucket, now), SECOND / 20);
        let (bucket, now) = changed(fast, slow, 1, SECOND / 20);
        assert_eq!(next(&bucket, now), 5 * SECOND);
    }

    #[test]
    fn a_change_begins_the_warm_up_anew() {
        let warm = Rate::per_second(10.0).burst(10).warm_up(100 * SECOND);
        let (mut bucket, now) = changed(Rate::per_second(10.0).burst(10), warm, 2, Duration::ZERO);
        assert_eq!(bucket.left(now), 1, "eight were saved up, and it begins with one");
        bucket.take(1.0, now);
        // 1 a second, and growing.
        let next = bucket.next_at(now).unwrap() - now;
        assert!(next > SECOND * 9 / 10 && next < SECOND, "{next:?}");
        assert_eq!(bucket.left(now + 100 * SECOND), 10);
    }

    #[test]
    fn a_limit_that_is_new_is_a_full_one_and_one_may_be_lifted() {
        let now = Instant::now();
        let mut bucket = None;
        Bucket::change(&mut bucket, Some(Rate::per_second(1.0).burst(7)), now);
        assert_eq!(bucket.as_ref().unwrap().left(now), 7);
        Bucket::change(&mut bucket, None, now);
        assert!(bucket.is_none());
    }

    #[test]
    fn no_window_across_changes_has_more_than_the_greater_of_both_allow() {
        let rates = [
            Rate::per_second(10.0).burst(7),
            Rate::per_second(3.0).burst(2),
            Rate::per_second(8.0).burst(9).warm_up(SECOND),
            Rate::per_second(0.7).burst(1),
            Rate::per_second(10.0).burst(9),
        ];
        let start = Instant::now();
        let (mut now, mut begun) = (start, Vec::new());
        let mut bucket = Some(Bucket::new(rates[0], start));
        for (rate, from) in rates.iter().cycle().take(40).zip(0..) {
            Bucket::change(&mut bucket, Some(*rate), now);
            let (own, end) = (bucket.as_mut().unwrap(), start + from * SECOND * 3 / 4);
            while now < end {
                match own.next_at(now) {
                    Some(at) => now = at.min(end),
                    None => {
                        own.take(1.0, now);
                        begun.push(now - start);
                    }
                }
            }
        }
        assert!(begun.len() > 80, "{}", begun.len());
        check_windows(&begun, 10.0, 9);
    }

    #[test]
    fn a_rate_is_a_number_above_0() {
        assert!(Rate::per_hour(1.0).problem().is_none());
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Rate::per_second(wrong).problem().is_some());
        }
    }
}
