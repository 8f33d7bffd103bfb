//! Mails that were put off by their servers, and wait before they are tried again:
//! no more than there is a bound for, in the order of their times.

use std::collections::VecDeque;
use std::time::Instant;

use super::desk::Desk;
use super::mail::Mail;
use crate::event::Handler;
use crate::outcome::Cause;
use crate::timeouts::after;

#[derive(Debug)]
struct Waiting {
    mail: Mail,
    until: Instant,
    /// What it was put off with, should it be given up.
    cause: Cause,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Delayed {
    /// The first to be tried again is ahead.
    waiting: VecDeque<Waiting>,
    most: usize,
}

impl Delayed {
    pub(super) fn new(most: usize) -> Delayed {
        Delayed { waiting: VecDeque::new(), most }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the first of them is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.until)
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.most
    }

    fn put(&mut self, waiting: Waiting) {
        let place = self.waiting.partition_point(|other| other.until <= waiting.until);
        self.waiting.insert(place, waiting);
    }

    /// The first of them, whenever it is due.
    pub(super) fn pop(&mut self) -> Option<Mail> {
        self.waiting.pop_front().map(|waiting| waiting.mail)
    }
}

impl Desk {
    /// An attempt was put off by what the server said: the next one is made when the
    /// mail has waited, or never if there are too many such mails. Says whether the
    /// mail is finished.
    pub(super) fn put_off(
        &mut self,
        mail: Mail,
        cause: &Cause,
        handler: &mut (impl Handler + ?Sized),
    ) -> bool {
        if self.delayed.is_full() {
            return self.abandon(mail, cause, handler);
        }
        self.count_requeue(mail.last_lane);
        let until = after(self.now, self.settings.retry_delay);
        self.delayed.put(Waiting { mail, until, cause: cause.clone() });
        false
    }

    /// Those that have waited for long enough are to be dealt.
    pub(super) fn release_delayed(&mut self) {
        while self.delayed.due().is_some_and(|at| at <= self.now) {
            let Some(mut mail) = self.delayed.pop() else { return };
            mail.begin_round();
            self.keep(mail);
            self.waiting_since.get_or_insert(self.now);
        }
    }

    /// Reports all that wait as abandoned, each with what it was put off with.
    pub(super) fn abandon_delayed(&mut self, handler: &mut (impl Handler + ?Sized)) {
        while let Some(Waiting { mail, cause, .. }) = self.delayed.waiting.pop_front() {
            self.abandon(mail, &cause, handler);
        }
    }
}
