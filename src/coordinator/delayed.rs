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
    /// Its attempt is over, and the next one asks all who are left again.
    is_over: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Delayed {
    /// The first to be tried again is ahead.
    waiting: VecDeque<Waiting>,
    /// How many of them are bound to a host.
    bound: usize,
    most: usize,
}

impl Delayed {
    pub(super) fn new(most: usize) -> Delayed {
        Delayed { waiting: VecDeque::new(), bound: 0, most }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// No more than so many may wait from now on; those that do are left alone.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
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
        self.bound += usize::from(waiting.mail.message.bound_to().is_some());
        self.waiting.insert(place, waiting);
    }

    /// Whether any is bound to a host.
    pub(super) fn has_bound(&self) -> bool {
        self.bound > 0
    }

    /// How many of them are bound to this host.
    pub(super) fn of(&self, host: u32) -> usize {
        self.waiting.iter().filter(|waiting| waiting.mail.message.bound_to() == Some(host)).count()
    }

    /// The first of them that is bound to this host.
    fn pop_of(&mut self, host: u32) -> Option<Mail> {
        let place = self.waiting.iter().position(|waiting| waiting.mail.message.bound_to() == Some(host))?;
        self.bound -= 1;
        self.waiting.remove(place).map(|waiting| waiting.mail)
    }

    fn take_first(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.bound -= usize::from(first.mail.message.bound_to().is_some());
        Some(first)
    }

    /// The first of them, whenever it is due.
    pub(super) fn pop(&mut self) -> Option<Mail> {
        self.take_first().map(|waiting| waiting.mail)
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
        if !self.delayed.is_full() {
            self.count_requeue(mail.last_lane);
        }
        let until = after(self.now, self.settings.retry_delay);
        self.wait(Waiting { mail, until, cause: cause.clone(), is_over: true }, handler)
    }

    /// A mail that no lane may have waits until then, or is given up for this cause if
    /// there are too many such mails; says whether it is finished.
    pub(super) fn delay(
        &mut self,
        mail: Mail,
        until: Instant,
        cause: &Cause,
        handler: &mut (impl Handler + ?Sized),
    ) -> bool {
        self.wait(Waiting { mail, until, cause: cause.clone(), is_over: false }, handler)
    }

    fn wait(&mut self, waiting: Waiting, handler: &mut (impl Handler + ?Sized)) -> bool {
        if self.delayed.is_full() {
            return self.abandon(waiting.mail, &waiting.cause, handler);
        }
        // When it expires it is of no use to wait.
        let expiry = waiting.mail.message.expiry();
        let until = expiry.map_or(waiting.until, |expiry| waiting.until.min(expiry));
        self.delayed.put(Waiting { until, ..waiting });
        false
    }

    /// Gives up all that are bound to this host, of which no lane is left.
    pub(super) fn abandon_bound(&mut self, host: usize, handler: &mut (impl Handler + ?Sized)) {
        while let Some(mail) = self.backlog.pop_of(host) {
            self.abandon(mail, &Cause::NoLane, handler);
        }
        let position = u32::try_from(host).ok().filter(|_| host < self.backlog.nowhere());
        while let Some(mail) = position.and_then(|position| self.delayed.pop_of(position)) {
            self.abandon(mail, &Cause::NoLane, handler);
        }
    }

    /// Those that have waited for long enough are to be dealt.
    pub(super) fn release_delayed(&mut self, handler: &mut (impl Handler + ?Sized)) {
        while self.delayed.due().is_some_and(|at| at <= self.now) {
            let Some(Waiting { mail, is_over, .. }) = self.delayed.take_first() else { return };
            let Some(mut mail) = self.unless_expired(mail, self.now, handler) else { continue };
            if is_over {
                mail.begin_round();
            }
            self.keep(mail);
            self.waiting_since.get_or_insert(self.now);
        }
    }

    /// Reports all that wait as abandoned, each with what it was put off with.
    pub(super) fn abandon_delayed(&mut self, handler: &mut (impl Handler + ?Sized)) {
        while let Some(Waiting { mail, cause, .. }) = self.delayed.take_first() {
            self.abandon(mail, &cause, handler);
        }
    }
}
