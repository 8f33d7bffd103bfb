//! What a deal could give: how many mails of the backlog to how many places on lanes,
//! host by host where that is not the same for all.

use std::time::Instant;

use super::allowance::Left;
use super::dealing::MOST_PATIENCE;
use super::health::Health;
use super::{Coordinator, earliest};
use crate::timeouts::after;

/// Lanes that a deal is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    /// Those that are free now.
    Free,
    /// Those, too, that would be if they were opened for it.
    Asleep,
}

/// See the module.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Prospect {
    /// Mails that lanes could be given.
    pub(super) room: usize,
    /// Mails that there are for them.
    pub(super) mails: usize,
    /// A host has room for mails of its own, of which as many wait as may.
    pub(super) is_pressing: bool,
}

impl Coordinator {
    /// What a deal could give now.
    pub(super) fn prospect(&self, lanes: For, now: Instant) -> Prospect {
        if !self.has_differences() {
            let sum = self.muster.sum();
            let room = if lanes == For::Free { sum.room } else { sum.all_room() };
            return Prospect { room, mails: self.dealable(), is_pressing: false };
        }
        let left = self.left(lanes, usize::MAX, now);
        let backlog = &self.desk.backlog;
        let own = || left.hosts.iter().enumerate().filter(|(host, room)| **room > 0 && backlog.of(*host) > 0);
        let bound: usize = own().map(|(host, room)| backlog.of(host).min(*room)).sum();
        Prospect {
            room: left.total(),
            mails: bound + self.dealable(),
            is_pressing: own().any(|(host, _)| self.desk.is_full(host)),
        }
    }

    /// Whether a lane's host matters in a deal.
    fn has_differences(&self) -> bool {
        self.allowance.is_limited() || self.desk.backlog.bound() > 0 || self.are_places_few()
    }

    /// How many mails may be given to each host, where there are so many that may go to
    /// any: no more than there are for it, so that what there is for all hosts is not set
    /// aside for one that has no mail.
    pub(super) fn left(&self, lanes: For, mails: usize, now: Instant) -> Left {
        let mut left = self.allowance.left(now);
        let places = self.places_to_come(now);
        for (host, (left, sum)) in left.hosts.iter_mut().zip(self.muster.hosts()).enumerate() {
            let mut room = sum.room;
            if lanes == For::Asleep {
                let depth = self.desk.health.get(host).map_or(1, |health| health.depth() as usize);
                room += sum.waking + sum.asleep.min(places.left(host).saturating_mul(depth));
            }
            let most = self.desk.health.get(host).and_then(|health| health.most(now));
            let most = most.map_or(usize::MAX, |most| (most as usize).saturating_sub(sum.held));
            let for_it = mails.saturating_add(self.desk.backlog.of(host));
            *left = room.min(most).min(for_it).min(*left);
        }
        if self.allowance.has_weights() {
            let bound = |host| self.desk.backlog.of(host);
            self.allowance.weigh(&mut left, bound, mails, |host| self.may_catch_up(host, now));
        }
        left
    }

    /// Whether others wait for the host when it is its turn: a lane of it is at work, and
    /// it has answered lately.
    fn may_catch_up(&self, host: usize, now: Instant) -> bool {
        let is_at_work = self.muster.host(host).held > 0;
        let heard_at = self.desk.health.get(host).and_then(|health| health.heard_at);
        is_at_work && heard_at.is_some_and(|at| now < after(at, MOST_PATIENCE))
    }

    /// Whether there are mails for the host, and it may only not be given any yet.
    pub(super) fn is_held_back(&self, host: usize, now: Instant) -> bool {
        let are_mails = self.desk.backlog.of(host) > 0 || self.desk.backlog.of_any() > 0;
        let Some(health) = self.desk.health.get(host) else { return false };
        let is_given_none =
            || self.allowance.next_at(host, now).is_some() || health.paused_until(now).is_some();
        // What is for a host that rests goes to others, or is put off.
        are_mails && health.rests_until(now).is_none() && is_given_none()
    }

    /// When more mails may be begun on a host with room than now.
    pub(super) fn allowed_at(&self, now: Instant) -> Option<Instant> {
        let mut at = None;
        if !self.has_differences() {
            return at;
        }
        for (host, sum) in self.muster.hosts().iter().enumerate() {
            if sum.room + sum.waking + sum.asleep == 0 {
                continue;
            }
            let rests = self.desk.health.get(host).and_then(|health| health.idle_until(now));
            at = earliest(at, self.allowance.next_at(host, now).into_iter().chain(rests).max());
        }
        if self.allowance.has_weights() {
            // Until then others may wait for it.
            let patience = |health: &Health| Some(after(health.heard_at?, MOST_PATIENCE));
            let over = self.desk.health.iter().filter_map(patience).filter(|at| *at > now).min();
            at = earliest(at, over);
        }
        at
    }
}
