//! How many mails each host may be given now: what the rates leave of the room that its
//! lanes have, and where hosts have weights, what its share of all mails is.

use std::sync::Arc;
use std::time::Instant;

use super::desk::BatchSettings;
use super::lane::Lane;
use super::mail::Mail;
use crate::host::HostSettings;
use crate::limits::{Bucket, Rate};

/// What a rate is of: so many of the host at this position, or of all hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limited {
    /// Mails that are begun.
    Mails(Option<u32>),
    /// Octets that are sent.
    Octets(Option<u32>),
}

/// What is left of the rates of one host, or of all.
#[derive(Debug, Default)]
struct Buckets {
    mails: Option<Bucket>,
    octets: Option<Bucket>,
}

impl Buckets {
    fn new(mails: Option<Rate>, octets: Option<Rate>, now: Instant) -> Buckets {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        Buckets { mails: bucket(mails), octets: bucket(octets) }
    }

    /// How many mails may be begun: where octets are counted any number, as long as
    /// none is owed.
    fn left(&self, now: Instant) -> usize {
        let mails = self.mails.as_ref().map_or(usize::MAX, |bucket| bucket.left(now));
        if self.is_dry(now) { 0 } else { mails }
    }

    fn is_dry(&self, now: Instant) -> bool {
        self.octets.as_ref().is_some_and(|bucket| bucket.left(now) == 0)
    }

    fn next_at(&self, now: Instant) -> Option<Instant> {
        let of = |bucket: &Option<Bucket>| bucket.as_ref().and_then(|bucket| bucket.next_at(now));
        of(&self.mails).into_iter().chain(of(&self.octets)).max()
    }
}

/// A host among others.
#[derive(Debug)]
struct Share {
    weight: f64,
    /// Mails that it was given, by its weight, beyond the host that was given least.
    given: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Allowance {
    hosts: Vec<Buckets>,
    all: Buckets,
    /// One for each host, or none where no host has a weight.
    shares: Vec<Share>,
    has_rates: bool,
    counts_octets: bool,
}

/// How many mails may be begun now, on each host and over all.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) hosts: Vec<usize>,
    pub(super) all: usize,
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

    /// How many there are in all.
    pub(super) fn total(&self) -> usize {
        self.hosts.iter().fold(0, |sum: usize, of_host| sum.saturating_add(*of_host)).min(self.all)
    }
}

impl Allowance {
    pub(super) fn new(hosts: &[Arc<HostSettings>], settings: &BatchSettings, now: Instant) -> Allowance {
        let all = Buckets::new(settings.total_rate, settings.total_byte_rate, now);
        let of = |host: &Arc<HostSettings>| Buckets::new(host.rate, host.byte_rate, now);
        let rates = hosts.iter().map(of).collect();
        let mut shares = Vec::new();
        if hosts.iter().any(|host| host.weight.is_some()) {
            let share =
                |host: &Arc<HostSettings>| Share { weight: host.weight.unwrap_or(1).into(), given: 0.0 };
            shares.extend(hosts.iter().map(share));
        }
        let mut allowance = Allowance { hosts: rates, all, shares, has_rates: false, counts_octets: false };
        allowance.has_changed();
        allowance
    }

    /// Another rate for a host, or over all; `false` when there is no such host.
    pub(super) fn set_rate(&mut self, of: Limited, rate: Option<Rate>, now: Instant) -> bool {
        let (host, counts_octets) = match of {
            Limited::Mails(host) => (host, false),
            Limited::Octets(host) => (host, true),
        };
        let buckets = match host {
            Some(host) => self.hosts.get_mut(host as usize),
            None => Some(&mut self.all),
        };
        let Some(buckets) = buckets else { return false };
        let bucket = if counts_octets { &mut buckets.octets } else { &mut buckets.mails };
        Bucket::change(bucket, rate, now);
        self.has_changed();
        true
    }

    fn has_changed(&mut self) {
        let each = || self.hosts.iter().chain([&self.all]);
        self.counts_octets = each().any(|one| one.octets.is_some());
        self.has_rates = self.counts_octets || each().any(|one| one.mails.is_some());
    }

    /// Whether anything is limited.
    pub(super) fn is_limited(&self) -> bool {
        self.has_rates || self.has_weights()
    }

    /// Whether the octets that lanes send are counted.
    pub(super) fn counts_octets(&self) -> bool {
        self.counts_octets
    }

    pub(super) fn has_weights(&self) -> bool {
        !self.shares.is_empty()
    }

    /// What the rates leave.
    pub(super) fn left(&self, now: Instant) -> Left {
        Left { hosts: self.hosts.iter().map(|host| host.left(now)).collect(), all: self.all.left(now) }
    }

    /// Whether so much was sent to the host, or to all, that no mail is to be begun.
    pub(super) fn is_dry(&self, host: u32, now: Instant) -> bool {
        let of_host = self.hosts.get(host as usize);
        self.counts_octets && (self.all.is_dry(now) || of_host.is_some_and(|host| host.is_dry(now)))
    }

    /// A mail is begun on the lane: what is known of its size is reserved.
    pub(super) fn begin(&mut self, lane: &mut Lane, mail: &Mail, now: Instant) {
        let host = lane.id.host as usize;
        if let Some(share) = self.shares.get_mut(host) {
            share.given += 1.0 / share.weight;
        }
        if !self.has_rates {
            return;
        }
        let octets =
            if self.counts_octets { mail.message.content().known_len().unwrap_or_default() } else { 0 };
        lane.reserved = lane.reserved.saturating_add(octets);
        for buckets in self.hosts.get_mut(host).into_iter().chain([&mut self.all]) {
            buckets.mails.iter_mut().for_each(|bucket| bucket.take(1.0, now));
            buckets.octets.iter_mut().for_each(|bucket| bucket.take(octets as f64, now));
        }
    }

    /// Counts what the lane has sent, as far as it was not reserved, and gives back what
    /// was reserved and not sent.
    pub(super) fn charge(&mut self, lane: &mut Lane, now: Instant) {
        if !self.counts_octets {
            return;
        }
        let sent = lane.bytes();
        let new = sent.saturating_sub(lane.charged);
        lane.charged = sent;
        let reserved = new.min(lane.reserved);
        lane.reserved -= reserved;
        let mut octets = (new - reserved) as f64;
        if lane.mails.is_empty() {
            octets -= std::mem::take(&mut lane.reserved) as f64;
        }
        for buckets in self.hosts.get_mut(lane.id.host as usize).into_iter().chain([&mut self.all]) {
            buckets.octets.iter_mut().for_each(|bucket| bucket.take(octets, now));
        }
    }

    /// When a mail may be begun on a lane of the host, where none may now.
    pub(super) fn next_at(&self, host: usize, now: Instant) -> Option<Instant> {
        let of_host = self.hosts.get(host).and_then(|host| host.next_at(now));
        of_host.into_iter().chain(self.all.next_at(now)).max()
    }

    // ---- weights ----------------------------------------------------------

    /// Leaves each host no more than its share of so many mails for any host, on top of
    /// those that are bound to it. A host that `may_catch_up` has the others wait for it
    /// when it is its turn, though it can take none now.
    pub(super) fn weigh(
        &self,
        left: &mut Left,
        bound: impl Fn(usize) -> usize,
        mails: usize,
        may_catch_up: impl Fn(usize) -> bool,
    ) {
        let own: Vec<usize> =
            left.hosts.iter().enumerate().map(|(host, room)| bound(host).min(*room)).collect();
        let mut given: Vec<f64> = self
            .shares
            .iter()
            .zip(&own)
            .map(|(share, own)| share.given + *own as f64 / share.weight)
            .collect();
        let mut quota = own;
        for _ in 0..mails.min(left.total()) {
            let hosts = left.hosts.iter().zip(&quota).zip(&given).enumerate();
            // One that is given some now is at work next.
            let can = |host, room, quota| quota < room || quota > 0 || may_catch_up(host);
            let in_turn = hosts.filter(|(host, ((room, quota), _))| can(*host, **room, **quota));
            let next = in_turn.min_by(|(_, (_, one)), (_, (_, other))| one.total_cmp(other));
            let Some((host, ((room, so_far), _))) = next else { break };
            if so_far >= room {
                break;
            }
            if let (Some(quota), Some(given), Some(share)) =
                (quota.get_mut(host), given.get_mut(host), self.shares.get(host))
            {
                *quota += 1;
                *given += 1.0 / share.weight;
            }
        }
        left.hosts = quota;
    }

    /// A deal is over: who was given least is at zero. A host that cannot have any is
    /// not owed what the others were given meanwhile.
    pub(super) fn level(&mut self, is_in_use: impl Fn(usize) -> bool) {
        let in_use = self.shares.iter().enumerate().filter(|(host, _)| is_in_use(*host));
        let Some(least) = in_use.map(|(_, share)| share.given).min_by(f64::total_cmp) else { return };
        self.shares.iter_mut().for_each(|share| share.given = (share.given - least).max(0.0));
    }
}
