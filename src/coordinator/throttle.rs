//! How many mails a host is given at a time, where it has put off too many: learnt from
//! its replies, and forgotten when they are good again.
//!
//! Twenty mails make a round. Where a quarter of them or more were put off, the host is
//! given half as many mails at a time; else a quarter more, until it is given as many as
//! its lanes can take. Mails that it held when that changed belong to no round: they
//! were begun under another rule. Where one mail at a time is still too much, the host
//! is given none for a while, twice as long each time, until a mail is not put off.

use std::time::Instant;

use crate::reopening::Backoff;
use crate::reply::Reply;
use crate::timeouts::after;

/// Mails of a round.
const ROUND: u32 = 20;

/// Of so many mails one may be put off, or more.
const TOLERATED: u32 = 4;

/// Whether the server wants to be given less: 421, 450, 451, 452, 454, or x.7.z of a
/// refusal for the time being (RFC 3463 §3.8). What is about one address or mailbox
/// (x.1.z, x.2.z: §3.2, §3.3) is not about the server.
pub(super) fn asks_for_less(reply: Reply<'_>) -> bool {
    let about = reply.enhanced().map(|code| (code.class, code.subject));
    match reply.code().as_u16() {
        421 => true,
        450 | 451 | 452 | 454 => !matches!(about, Some((4, 1 | 2))),
        _ => about == Some((4, 7)),
    }
}

/// What is different from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// So many mails at a time, and none before then.
    Less { mails: u32, until: Option<Instant> },
    /// As many as the lanes can take.
    All,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// How many mails at a time; `None` is as many as the lanes can take.
    most: Option<u32>,
    answered: u32,
    put_off: u32,
    /// Mails to come that were begun under another rule.
    stale: u32,
    /// None is given before this.
    until: Option<Instant>,
    /// How often that was set in a row.
    pauses: u32,
}

impl Throttle {
    /// How many mails the host may hold, and since when it may be given any.
    pub(super) fn most(&self, now: Instant) -> Option<u32> {
        if self.paused_until(now).is_some() { Some(0) } else { self.most }
    }

    /// Until when it is given none.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|at| now < *at)
    }

    /// How many mails at a time, where that is less than all.
    pub(super) fn at_a_time(&self) -> Option<u32> {
        self.most
    }

    pub(super) fn is_on(&self) -> bool {
        self.most.is_some()
    }

    /// A mail was answered, by a host whose lanes can take `all` at a time, and hold
    /// `held` others.
    pub(super) fn note(
        &mut self,
        was_put_off: bool,
        (all, held): (u32, u32),
        backoff: &Backoff,
        now: Instant,
    ) -> Option<Change> {
        if self.stale > 0 {
            self.stale -= 1;
            return None;
        }
        if !was_put_off {
            (self.pauses, self.until) = (0, None);
        }
        if self.most == Some(1) && was_put_off {
            self.pauses = self.pauses.saturating_add(1);
            let until = after(now, backoff.wait(self.pauses, 1.0));
            self.until = Some(until);
            self.begin(held);
            return Some(Change::Less { mails: 1, until: Some(until) });
        }
        self.answered += 1;
        self.put_off += u32::from(was_put_off);
        if self.answered < ROUND {
            return None;
        }
        let is_too_much = self.put_off * TOLERATED >= self.answered;
        self.begin(held);
        match self.most {
            before if is_too_much => {
                let mails = (before.unwrap_or(all).min(all) / 2).max(1);
                self.most = Some(mails);
                (before != self.most && mails < all).then_some(Change::Less { mails, until: None })
            }
            Some(mails) => {
                let more = mails.saturating_add((mails / 4).max(1));
                self.most = Some(more).filter(|more| *more < all);
                self.most.is_none().then_some(Change::All)
            }
            None => None,
        }
    }

    fn begin(&mut self, held: u32) {
        (self.answered, self.put_off) = (0, 0);
        self.stale = held;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Host {
        throttle: Throttle,
        now: Instant,
        changes: Vec<Change>,
    }

    impl Host {
        fn new() -> Host {
            Host { throttle: Throttle::default(), now: Instant::now(), changes: Vec::new() }
        }

        /// So many mails are answered, of a hundred at a time, `held` left each time.
        fn answers(&mut self, mails: u32, put_off: bool, held: u32) {
            let backoff = Backoff { base: SECOND, max: 4 * SECOND };
            for _ in 0..mails {
                let change = self.throttle.note(put_off, (100, held), &backoff, self.now);
                self.changes.extend(change);
            }
        }

        fn most(&self) -> Option<u32> {
            self.throttle.most(self.now)
        }
    }

    fn reply(text: &str) -> bool {
        asks_for_less(Reply::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_asks_for_less_is_known_by_its_code() {
        for text in ["421 x\r\n", "450 x\r\n", "451 x\r\n", "452 x\r\n", "454 x\r\n", "471 4.7.1 x\r\n"] {
            assert!(reply(text), "{text}");
        }
        for text in ["421 4.2.1 x\r\n", "452 4.3.1 x\r\n", "450 4.7.1 x\r\n"] {
            assert!(reply(text), "{text}");
        }
        let mailboxes = ["452 4.2.2 full\r\n", "450 4.2.0 greylisted\r\n", "450 4.1.8 x\r\n"];
        for text in ["250 x\r\n", "455 x\r\n", "550 5.7.1 x\r\n", "471 4.2.1 x\r\n"].iter().chain(&mailboxes)
        {
            assert!(!reply(text), "{text}");
        }
    }

    #[test]
    fn a_quarter_of_a_round_halves_and_less_does_not() {
        let mut host = Host::new();
        host.answers(15, false, 0);
        host.answers(5, true, 0);
        assert_eq!((host.most(), host.changes.len()), (Some(50), 1));
        let mut host = Host::new();
        host.answers(16, false, 0);
        host.answers(4, true, 0);
        assert_eq!((host.most(), host.changes.len()), (None, 0));
    }

    #[test]
    fn who_has_one_lane_is_told_of_pauses_alone() {
        let mut throttle = Throttle::default();
        let (backoff, now) = (Backoff::default(), Instant::now());
        let mut note = || throttle.note(true, (1, 0), &backoff, now);
        assert!((0..20).all(|_| note().is_none()));
        assert_eq!(note(), Some(Change::Less { mails: 1, until: Some(now + SECOND) }));
    }

    #[test]
    fn what_was_begun_before_a_change_is_not_counted() {
        let mut host = Host::new();
        host.answers(20, true, 80);
        assert_eq!(host.most(), Some(50));
        host.answers(80, true, 30);
        assert_eq!(host.most(), Some(50));
        host.answers(20, true, 30);
        assert_eq!(host.most(), Some(25));
    }

    #[test]
    fn good_rounds_bring_all_back() {
        let mut host = Host::new();
        host.answers(20, true, 0);
        host.changes.clear();
        host.answers(20, false, 0);
        assert_eq!((host.most(), host.changes.len()), (Some(62), 0));
        host.answers(200, false, 0);
        assert_eq!((host.most(), host.changes), (None, vec![Change::All]));
    }

    #[test]
    fn one_at_a_time_that_is_put_off_waits_ever_longer_until_one_is_not() {
        let mut host = Host::new();
        host.answers(7 * 20, true, 0);
        assert_eq!(host.throttle.most, Some(1));
        host.throttle.until = None;
        host.throttle.pauses = 0;
        for seconds in [1, 2, 4, 4] {
            host.answers(1, true, 0);
            assert_eq!(host.throttle.paused_until(host.now), Some(host.now + seconds * SECOND));
            assert_eq!(host.most(), Some(0));
            host.now += seconds * SECOND;
            assert_eq!(host.most(), Some(1));
        }
        host.answers(1, true, 1);
        host.answers(1, false, 0);
        assert_eq!((host.throttle.pauses, host.most()), (5, Some(0)), "it was begun before the pause");
        host.answers(1, false, 0);
        assert_eq!((host.throttle.pauses, host.most()), (0, Some(1)));
    }
}
