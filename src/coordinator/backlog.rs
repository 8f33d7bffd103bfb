//! Mails that no lane holds, in the order in which they are to be dealt: those that may
//! go to any host, and for each host those that may go to no other one.

use std::collections::VecDeque;

use super::mail::Mail;
use crate::message::Message;

/// Most messages that room is made for before they come.
const MOST_RESERVED: usize = 1_000;

/// A message that no lane has held, with its place in the order of all.
#[derive(Debug)]
struct Fresh {
    number: u64,
    message: Message,
}

#[derive(Debug, Default)]
struct Queue {
    /// To be dealt before the others.
    retries: VecDeque<Mail>,
    fresh: VecDeque<Fresh>,
}

impl Queue {
    fn len(&self) -> usize {
        self.retries.len() + self.fresh.len()
    }

    fn pop(&mut self) -> Option<Mail> {
        let retry = self.retries.pop_front();
        retry.or_else(|| self.fresh.pop_front().map(|fresh| Mail::new(fresh.message)))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog {
    any: Queue,
    /// One for each host, and one for hosts that there are not.
    own: Vec<Queue>,
    /// Mails in those.
    owned: usize,
    /// Messages that were put.
    numbers: u64,
}

impl Backlog {
    pub(super) fn new(capacity: usize, hosts: usize) -> Backlog {
        let fresh = VecDeque::with_capacity(capacity.min(MOST_RESERVED));
        Backlog {
            any: Queue { fresh, ..Queue::default() },
            own: std::iter::repeat_with(Queue::default).take(hosts + 1).collect(),
            owned: 0,
            numbers: 0,
        }
    }

    /// Mails that there are.
    pub(super) fn len(&self) -> usize {
        self.any.len() + self.owned
    }

    /// Mails that may go to any host.
    pub(super) fn of_any(&self) -> usize {
        self.any.len()
    }

    /// Mails that may go to this host alone.
    pub(super) fn of(&self, host: usize) -> usize {
        self.own.get(host).map_or(0, Queue::len)
    }

    /// Mails that may go to one host alone.
    pub(super) fn bound(&self) -> usize {
        self.owned
    }

    /// Adds a message that no lane has held.
    pub(super) fn put(&mut self, message: Message) {
        self.numbers += 1;
        let number = self.numbers;
        self.queue_of(message.bound_to()).fresh.push_back(Fresh { number, message });
    }

    /// Adds a mail that is to be dealt before those that no lane has held.
    pub(super) fn put_first(&mut self, mail: Mail) {
        self.queue_of(mail.message.bound_to()).retries.push_back(mail);
    }

    fn queue_of(&mut self, host: Option<u32>) -> &mut Queue {
        let nowhere = self.own.len().saturating_sub(1);
        let place = host.map(|host| nowhere.min(host as usize));
        self.owned += usize::from(place.is_some());
        match place.and_then(|place| self.own.get_mut(place)) {
            Some(queue) => queue,
            None => &mut self.any,
        }
    }

    /// How many were tried before, of those for any host, or for this one alone.
    pub(super) fn retries(&self, host: Option<usize>) -> usize {
        self.queue(host).map_or(0, |queue| queue.retries.len())
    }

    /// How many were not.
    pub(super) fn fresh(&self, host: Option<usize>) -> usize {
        self.queue(host).map_or(0, |queue| queue.fresh.len())
    }

    fn queue(&self, host: Option<usize>) -> Option<&Queue> {
        host.map_or(Some(&self.any), |host| self.own.get(host))
    }

    /// Those for any host that were tried before, in their order.
    pub(super) fn tried_before(&self) -> impl Iterator<Item = &Mail> {
        self.any.retries.iter()
    }

    /// The first that was tried before.
    pub(super) fn next_retry(&mut self, host: Option<usize>) -> Option<Mail> {
        match host {
            None => self.any.retries.pop_front(),
            Some(host) => self.own.get_mut(host)?.retries.pop_front().inspect(|_| self.owned -= 1),
        }
    }

    /// The first that was not.
    pub(super) fn next_fresh(&mut self, host: Option<usize>) -> Option<Message> {
        let fresh = match host {
            None => self.any.fresh.pop_front(),
            Some(host) => self.own.get_mut(host)?.fresh.pop_front().inspect(|_| self.owned -= 1),
        };
        fresh.map(|fresh| fresh.message)
    }

    /// The first that was not and may go to this host: whoever came first.
    pub(super) fn next_fresh_for(&mut self, host: usize) -> Option<Message> {
        let of = |queue: &Queue| queue.fresh.front().map(|fresh| fresh.number);
        let own = self.own.get(host).and_then(of);
        let is_own = own.is_some_and(|own| of(&self.any).is_none_or(|any| own < any));
        self.next_fresh(is_own.then_some(host))
    }

    /// The first of all, those for hosts that there are not among them.
    pub(super) fn pop(&mut self) -> Option<Mail> {
        if let Some(mail) = self.any.pop() {
            return Some(mail);
        }
        let places = 0..self.own.len();
        places.into_iter().find_map(|host| self.pop_of(host))
    }

    /// The first of those for this host alone.
    pub(super) fn pop_of(&mut self, host: usize) -> Option<Mail> {
        self.own.get_mut(host)?.pop().inspect(|_| self.owned -= 1)
    }

    /// The place of those that are for hosts that there are not.
    pub(super) fn nowhere(&self) -> usize {
        self.own.len().saturating_sub(1)
    }
}
