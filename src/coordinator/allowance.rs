//! How many mails may be begun now: what the rates leave of the room that lanes have.

use std::sync::Arc;
use std::time::Instant;

use super::Coordinator;
use crate::host::HostSettings;
use crate::limits::{Bucket, Rate};

/// What is left of the rates.
#[derive(Debug)]
pub(super) struct Allowance {
    /// One for each host that has a rate.
    hosts: Vec<Option<Bucket>>,
    all: Option<Bucket>,
    is_limited: bool,
}

/// How many mails may be begun now, on each host and over all.
pub(super) struct Left {
    hosts: Vec<usize>,
    all: usize,
}

impl Left {
    /// Takes up to so many for a lane of the host, and says how many that were.
    pub(super) fn grant(&mut self, host: u32, wanted: u32) -> u32 {
        let Some(of_host) = self.hosts.get_mut(host as usize) else { return 0 };
        let granted = (wanted as usize).min(*of_host).min(self.all);
        *of_host -= granted;
        self.all -= granted;
        // No more than what was wanted.
        u32::try_from(granted).unwrap_or(wanted)
    }
}

impl Allowance {
    pub(super) fn new(hosts: &[Arc<HostSettings>], all: Option<Rate>, now: Instant) -> Allowance {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        let hosts: Vec<Option<Bucket>> = hosts.iter().map(|host| bucket(host.rate)).collect();
        let is_limited = all.is_some() || hosts.iter().any(Option::is_some);
        Allowance { hosts, all: bucket(all), is_limited }
    }

    /// Another rate for a host; `false` when there is no such host.
    pub(super) fn set_rate(&mut self, host: u32, rate: Option<Rate>, now: Instant) -> bool {
        let Some(bucket) = self.hosts.get_mut(host as usize) else { return false };
        Bucket::change(bucket, rate, now);
        self.has_changed();
        true
    }

    /// The same over all.
    pub(super) fn set_total_rate(&mut self, rate: Option<Rate>, now: Instant) {
        Bucket::change(&mut self.all, rate, now);
        self.has_changed();
    }

    fn has_changed(&mut self) {
        self.is_limited = self.all.is_some() || self.hosts.iter().any(Option::is_some);
    }

    /// `None` where there is no limit at all.
    pub(super) fn left(&self, now: Instant) -> Option<Left> {
        let of = |bucket: &Option<Bucket>| bucket.as_ref().map_or(usize::MAX, |bucket| bucket.left(now));
        self.is_limited.then(|| Left { hosts: self.hosts.iter().map(of).collect(), all: of(&self.all) })
    }

    /// So many mails were begun on a lane of the host.
    pub(super) fn take(&mut self, host: u32, mails: u32, now: Instant) {
        if !self.is_limited {
            return;
        }
        let of_host = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
        for bucket in of_host.into_iter().chain(self.all.as_mut()) {
            bucket.take(mails as usize, now);
        }
    }

    /// When a mail may be begun on a lane of the host, where none may now.
    fn next_at(&self, host: u32, now: Instant) -> Option<Instant> {
        let of = |bucket: Option<&Bucket>| bucket.and_then(|bucket| bucket.next_at(now));
        let of_host = of(self.hosts.get(host as usize).and_then(Option::as_ref));
        of_host.into_iter().chain(of(self.all.as_ref())).max()
    }
}

impl Coordinator {
    /// For how many mails that may be begun now lanes have room that are free, or will
    /// be when they are opened for it; that is `room` without the limits.
    pub(super) fn allowed(&self, room: usize, now: Instant) -> usize {
        self.granted(self.muster.roomy(), now).unwrap_or(room)
    }

    /// The same of lanes that are free now.
    pub(super) fn allowed_now(&self, room: usize, now: Instant) -> usize {
        self.granted(self.muster.free(), now).unwrap_or(room)
    }

    /// When a mail may be begun on a lane with room, where none may now.
    pub(super) fn allowed_at(&self, now: Instant) -> Option<Instant> {
        if !self.allowance.is_limited {
            return None;
        }
        let lanes = self.muster.roomy().filter_map(|place| self.lanes.get(place));
        lanes.filter_map(|lane| self.allowance.next_at(lane.id.host, now)).min()
    }

    fn granted(&self, places: impl Iterator<Item = usize>, now: Instant) -> Option<usize> {
        let mut left = self.allowance.left(now)?;
        let lanes = places.filter_map(|place| self.lanes.get(place));
        Some(lanes.map(|lane| left.grant(lane.id.host, lane.depth()) as usize).sum())
    }
}
