//! Which connections may be made: there are bounds on how many stand at the same time,
//! of one host and of all. Lanes that are due when there is no place are parked until
//! there is one; whoever was due first goes first.
//!
//! A host that has no connection for want of a place starves when mails wait for it that
//! may go to no other one. It goes before all others, and where every place is taken, a
//! lane that has nothing to do gives up its own: one of a host that no such mails wait
//! for, or that has another connection. Where as many wait for the one that starves as
//! may, nobody could hand over a mail for anybody else: then one that has had a mail on
//! its connection makes way, too.

use std::cmp::Reverse;
use std::time::Instant;

use super::Coordinator;
use super::lane::{Lane, Link, Standing};
use super::muster::{HostSum, Is};

/// How many more connections may be made, of each host and in all.
#[derive(Debug)]
pub(super) struct Places {
    hosts: Vec<Place>,
    all: usize,
    /// Hosts that starve, in the order in which they get places, and whether each waits
    /// for a lane that is yet to be called.
    starving: Vec<(usize, bool)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    left: usize,
    /// None is made before this.
    until: Option<Instant>,
}

impl Places {
    /// How many more of this host.
    pub(super) fn left(&self, host: usize) -> usize {
        let Some(place) = self.hosts.get(host).filter(|place| place.until.is_none()) else { return 0 };
        place.left.min(self.left_in_all(host))
    }

    /// Hosts that starve and get the places that there are.
    fn served(&self) -> impl Iterator<Item = (usize, bool)> {
        self.starving.iter().copied().take(self.all)
    }

    /// How many there are in all for a lane of this host: those that others are yet to
    /// call lanes for are none.
    fn left_in_all(&self, host: usize) -> usize {
        let others = self.served().filter(|(other, is_asleep)| *is_asleep && *other != host).count();
        let is_served = || self.served().any(|(other, _)| other == host);
        if others > 0 && is_served() { self.all } else { self.all - others }
    }

    /// When a lane that is parked is opened, where there is a place for it.
    pub(super) fn opens_at(&self, lane: &Lane) -> Option<Instant> {
        let place = self.hosts.get(lane.id.host as usize)?;
        if place.left == 0 || self.left_in_all(lane.id.host as usize) == 0 {
            return None;
        }
        Some(lane.reopen_at?.max(place.until.unwrap_or(lane.reopen_at?)))
    }

    /// Takes one for a lane of the host, where there is one.
    fn take(&mut self, host: u32) -> bool {
        if self.left(host as usize) == 0 {
            return false;
        }
        self.all -= 1;
        if let Some(place) = self.hosts.get_mut(host as usize) {
            place.left -= 1;
        }
        self.starving.retain(|(other, _)| *other != host as usize);
        true
    }
}

impl Coordinator {
    /// Whether any bound may be reached.
    pub(super) fn are_places_few(&self) -> bool {
        self.desk.settings.total_sessions.is_some() || self.is_narrowed || self.desk.troubled > 0
    }

    /// How many more connections may be made.
    pub(super) fn places(&self, now: Instant) -> Places {
        self.places_beside(now, true)
    }

    /// The same when those that leave are gone.
    pub(super) fn places_to_come(&self, now: Instant) -> Places {
        self.places_beside(now, false)
    }

    fn places_beside(&self, now: Instant, counts_leaving: bool) -> Places {
        let taken = |connected: usize, leaving| if counts_leaving { connected } else { connected - leaving };
        let of_host = |(sum, health): (&HostSum, &super::health::Health)| Place {
            left: health.most_lanes().saturating_sub(taken(sum.connected, sum.leaving)),
            until: health.rests_until(now),
        };
        let hosts = self.muster.hosts().iter().zip(&self.desk.health).map(of_host).collect();
        let all = self.muster.sum();
        let connected = taken(all.lanes(Is::Connected), all.lanes(Is::Leaving));
        let most = self.desk.settings.total_sessions.unwrap_or(usize::MAX);
        let mut places = Places { hosts, all: most.saturating_sub(connected), starving: Vec::new() };
        self.note_starving(&mut places, now);
        places
    }

    fn note_starving(&self, places: &mut Places, now: Instant) {
        if self.desk.settings.total_sessions.is_none() || self.desk.backlog.bound() == 0 {
            return;
        }
        let mut starving = Vec::new();
        for (host, (place, sum)) in places.hosts.iter().zip(self.muster.hosts()).enumerate() {
            let may_open = place.left > 0 && place.until.is_none() && sum.connected == 0;
            if !may_open || self.desk.backlog.of(host) == 0 {
                continue;
            }
            let lanes = || self.lanes.iter().filter(|lane| lane.id.host as usize == host);
            let since = lanes().filter(|lane| lane.is_due(now)).filter_map(|lane| lane.reopen_at).min();
            if since.is_some() || lanes().any(|lane| lane.standing == Standing::Resting) {
                starving.push((!self.desk.is_full(host), since, host));
            }
        }
        starving.sort();
        places.starving = starving.into_iter().map(|(_, since, host)| (host, since.is_none())).collect();
    }

    /// Lanes whose time has come want a connection, and have one made if there is a place.
    pub(super) fn open_lanes(&mut self, now: Instant) {
        if self.closing {
            return;
        }
        let mut places = self.are_places_few().then(|| self.places(now));
        let mut due = std::mem::take(&mut self.spare);
        due.clear();
        due.extend(
            (0..self.lanes.len()).filter(|place| self.lanes.get(*place).is_some_and(|lane| lane.is_due(now))),
        );
        if let Some(places) = &places {
            due.sort_by_key(|place| self.lanes.get(*place).and_then(|lane| lane.reopen_at));
            for (host, _) in places.starving.iter().rev() {
                let is_of =
                    |place: &usize| self.lanes.get(*place).is_some_and(|lane| lane.id.host as usize == *host);
                if let Some(first) = due.iter().position(is_of) {
                    due.get_mut(..=first).into_iter().for_each(|ahead| ahead.rotate_right(1));
                }
            }
        }
        for place in due.iter().copied() {
            let Some(lane) = self.change(place) else { continue };
            if places.as_mut().is_none_or(|places| places.take(lane.id.host)) {
                lane.is_parked = false;
                lane.reopen_at = None;
                lane.standing = Standing::Opening;
                lane.link = Link::Wanted;
            } else {
                lane.park();
            }
        }
        self.spare = due;
    }

    /// Where more connections stand than may, or others need them more, lanes that have
    /// nothing to do give theirs up; says whether any has.
    pub(super) fn gives_up_places(&mut self, now: Instant) -> bool {
        self.is_narrowed && self.narrows(now) || self.makes_way(now)
    }

    /// A lane makes way for each host that starves and has no place to come.
    fn makes_way(&mut self, now: Instant) -> bool {
        if self.desk.settings.total_sessions.is_none() || self.desk.backlog.bound() == 0 || self.closing {
            return false;
        }
        let places = self.places(now);
        let to_come = places.all + self.muster.sum().lanes(Is::Leaving);
        let mut has_changed = false;
        let mut gone = vec![0; self.hosts];
        for (host, _) in places.starving.into_iter().skip(to_come) {
            let Some(place) = self.who_makes_way(host, &gone) else { continue };
            let Some(lane) = self.change(place) else { continue };
            let own = lane.id.host as usize;
            lane.give_up_place(now);
            gone.get_mut(own).into_iter().for_each(|gone| *gone += 1);
            has_changed = true;
        }
        has_changed
    }

    /// The lane that makes way for the host: one that no mails wait for before others,
    /// and one of many before one of a few. So many have `gone` of each host.
    fn who_makes_way(&self, host: usize, gone: &[usize]) -> Option<usize> {
        let backlog = &self.desk.backlog;
        let worth = |lane: &Lane| {
            let own = lane.id.host as usize;
            let left = self.muster.host(own).connected.saturating_sub(gone.get(own).copied().unwrap_or(0));
            let has_mails = backlog.of(own) > 0;
            let yields = self.desk.is_full(host) && (!self.desk.is_full(own) || lane.mails_begun() > 0);
            (own != host && (!has_mails || left > 1 || yields)).then_some((has_mails, Reverse(left)))
        };
        let lanes = self.lanes.iter().enumerate().filter(|(_, lane)| lane.is_free() && lane.mails.is_empty());
        let worths = lanes.filter_map(|(place, lane)| Some((worth(lane)?, place)));
        worths.min().map(|(_, place)| place)
    }

    /// Lanes of the highest numbers make way first.
    fn narrows(&mut self, now: Instant) -> bool {
        let sums = self.muster.hosts().iter().zip(&self.desk.health);
        let excess = |(sum, health): (&HostSum, &super::health::Health)| {
            (sum.connected - sum.leaving).saturating_sub(health.threads as usize)
        };
        let mut excess: Vec<usize> = sums.map(excess).collect();
        if excess.iter().all(|excess| *excess == 0) {
            return false;
        }
        let mut has_changed = false;
        for place in (0..self.lanes.len()).rev() {
            let Some(lane) = self.lanes.get(place) else { continue };
            let Some(excess) = excess.get_mut(lane.id.host as usize).filter(|excess| **excess > 0) else {
                continue;
            };
            if !lane.is_leaving() && lane.has_nothing_to_do() {
                *excess -= 1;
                has_changed = true;
                self.change(place).into_iter().for_each(|lane| lane.give_up_place(now));
            }
        }
        has_changed
    }
}

impl Lane {
    fn is_due(&self, now: Instant) -> bool {
        self.link == Link::Down && self.reopen_at.is_some_and(|at| at <= now)
    }

    /// It waits for a place.
    fn park(&mut self) {
        self.is_parked = true;
        self.was_tried = true;
        self.standing = Standing::Benched;
    }

    /// Whether its connection, if there is one, can be given up without harm.
    fn has_nothing_to_do(&self) -> bool {
        let is_opening = self.standing == Standing::Opening && self.link != Link::Down;
        self.mails.is_empty() && !self.owes_dot && (is_opening || self.is_free() || self.is_at_noop)
    }

    fn give_up_place(&mut self, now: Instant) {
        self.reopen(now, now);
        self.park();
    }
}
