//! Which connections may be made: there are bounds on how many stand at the same time,
//! of one host and of all. Lanes that are due when there is no place are parked until
//! there is one; whoever was due first goes first.

use std::time::Instant;

use super::Coordinator;
use super::lane::{Lane, Link, Standing};

/// How many more connections may be made, of each host and in all.
#[derive(Debug)]
pub(super) struct Places {
    hosts: Vec<Place>,
    all: usize,
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
        self.hosts
            .get(host)
            .map_or(0, |place| if place.until.is_some() { 0 } else { place.left.min(self.all) })
    }

    /// When a lane that is parked is opened, where there is a place for it.
    pub(super) fn opens_at(&self, lane: &Lane) -> Option<Instant> {
        let place = self.hosts.get(lane.id.host as usize).filter(|place| place.left > 0 && self.all > 0)?;
        Some(lane.reopen_at?.max(place.until.unwrap_or(lane.reopen_at?)))
    }

    /// Takes one for a lane of the host, where there is one.
    fn take(&mut self, host: u32) -> bool {
        if self.left(host as usize) == 0 {
            return false;
        }
        self.all -= 1;
        self.hosts.get_mut(host as usize).into_iter().for_each(|place| place.left -= 1);
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
        let of_host = |(sum, health): (&super::muster::HostSum, &super::health::Health)| Place {
            left: health.most_lanes().saturating_sub(sum.connected),
            until: health.rests_until(now),
        };
        let hosts = self.muster.hosts().iter().zip(&self.desk.health).map(of_host).collect();
        let connected = self.muster.sum().lanes(super::muster::Is::Connected);
        let most = self.desk.settings.total_sessions.unwrap_or(usize::MAX);
        Places { hosts, all: most.saturating_sub(connected) }
    }

    /// Lanes whose time has come want a connection, and have one made if there is a place.
    pub(super) fn open_lanes(&mut self, now: Instant) {
        if self.closing {
            return;
        }
        let mut places = self.are_places_few().then(|| self.places(now));
        let is_due = |lane: &Lane| lane.link == Link::Down && lane.reopen_at.is_some_and(|at| at <= now);
        let mut due = std::mem::take(&mut self.spare);
        due.clear();
        due.extend((0..self.lanes.len()).filter(|place| self.lanes.get(*place).is_some_and(is_due)));
        if places.is_some() {
            due.sort_by_key(|place| self.lanes.get(*place).and_then(|lane| lane.reopen_at));
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

    /// Where more connections stand than may, lanes that have nothing to do give theirs
    /// up, those of the highest numbers first; says whether any has.
    pub(super) fn gives_up_places(&mut self, now: Instant) -> bool {
        if !self.is_narrowed {
            return false;
        }
        let sums = self.muster.hosts().iter().zip(&self.desk.health);
        let excess = |(sum, health): (&super::muster::HostSum, &super::health::Health)| {
            (sum.connected - sum.leaving).saturating_sub(health.threads as usize)
        };
        let mut excess: Vec<usize> = sums.map(excess).collect();
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
