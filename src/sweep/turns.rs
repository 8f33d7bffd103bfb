//! Whose TLS handshake may begin. A handshake owns some 25 KiB that nobody needs
//! behind it, and what a thousand of them had at the same time stays with the
//! process; so a few begin at a time, and use the same memory one after the
//! other. A server that does not answer holds up nobody for long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Handshakes that are young at the same time. With 16 to 64, a thousand
/// sessions were measured at 21.8 to 22.6 KiB each, without a bound at 46; all
/// took the same time.
pub(super) const MOST: usize = 32;

/// How long a handshake is young: about what it takes at a distance of 50 ms.
/// Those that take longer go on beside the next ones.
pub(super) const YOUTH: Duration = Duration::from_millis(100);

/// The handshakes that are young, and the lanes that wait for their turn.
#[derive(Default)]
pub(super) struct Turns {
    /// The oldest first.
    young: Vec<(usize, Instant)>,
    waiting: VecDeque<usize>,
    /// By lane, so that each waits once.
    is_waiting: Vec<bool>,
}

impl Turns {
    pub(super) fn new(lanes: usize) -> Turns {
        Turns { is_waiting: vec![false; lanes], ..Turns::default() }
    }

    /// There is one lane more.
    pub(super) fn add(&mut self) {
        self.is_waiting.push(false);
    }

    /// Whether this lane's handshake may begin; else it is called later.
    pub(super) fn take(&mut self, lane: usize, now: Instant) -> bool {
        if self.is_free(now) {
            self.young.push((lane, now));
            return true;
        }
        if let Some(is_waiting) = self.is_waiting.get_mut(lane).filter(|is_waiting| !**is_waiting) {
            *is_waiting = true;
            self.waiting.push_back(lane);
        }
        false
    }

    /// The lane's handshake is over.
    pub(super) fn give_back(&mut self, lane: usize) {
        self.young.retain(|(young, _)| *young != lane);
    }

    /// A lane that has waited, and may take a turn now if it still wants one.
    pub(super) fn call(&mut self, now: Instant) -> Option<usize> {
        let lane = if self.is_free(now) { self.waiting.pop_front() } else { None }?;
        if let Some(is_waiting) = self.is_waiting.get_mut(lane) {
            *is_waiting = false;
        }
        Some(lane)
    }

    /// When the next one is to be called at the latest; `None` while nobody
    /// waits.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let oldest = self.young.first().map_or(now, |(_, begun)| *begun + YOUTH);
        (!self.waiting.is_empty()).then_some(oldest)
    }

    fn is_free(&mut self, now: Instant) -> bool {
        self.young.retain(|(_, begun)| now.saturating_duration_since(*begun) < YOUTH);
        self.young.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many lanes as can be young, and these that wait.
    fn full(now: Instant, waiting: &[usize]) -> Turns {
        let mut turns = Turns::new(100);
        assert!((0..MOST).all(|lane| turns.take(lane, now)));
        assert!(!waiting.iter().any(|lane| turns.take(*lane, now)));
        turns
    }

    #[test]
    fn who_is_done_makes_room_for_the_one_that_has_waited_longest() {
        let now = Instant::now();
        let mut turns = full(now, &[70, 60, 70]);
        assert_eq!(turns.call(now), None);
        turns.give_back(5);
        assert_eq!(turns.call(now), Some(70));
        assert!(turns.take(70, now));
        assert_eq!(turns.call(now), None);
        turns.give_back(6);
        assert_eq!((turns.call(now), turns.call(now)), (Some(60), None), "each is called once");
    }

    #[test]
    fn who_takes_long_makes_room_too() {
        let now = Instant::now();
        let mut turns = full(now, &[70]);
        assert_eq!(turns.due(now), Some(now + YOUTH));
        assert_eq!(turns.call(now + YOUTH - Duration::from_nanos(1)), None);
        assert_eq!(turns.call(now + YOUTH), Some(70));
        assert_eq!(turns.due(now), None);
    }

    #[test]
    fn who_is_called_and_wants_nothing_keeps_nobody_waiting() {
        let now = Instant::now();
        let mut turns = full(now, &[70, 60]);
        (0..MOST).for_each(|lane| turns.give_back(lane));
        assert_eq!(turns.due(now), Some(now), "nobody is young, and they wait");
        assert_eq!((turns.call(now), turns.call(now)), (Some(70), Some(60)));
        assert!(turns.take(60, now));
    }
}
