//! What is known of each host's strength: whether it is given less than its lanes could
//! take, whether it rests, and what that means for mails that may go to no other host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Coordinator;
use super::breaker::Breaker;
use super::desk::Desk;
use super::judge::Judge;
use super::lane::{Lane, Link};
use super::mail::{Mail, PutOff};
use super::muster::{Is, Survey};
use super::throttle::{Change, Throttle, asks_for_less};
use crate::event::Handler;
use crate::failure::Failure;
use crate::health::{HostChange, HostNews};
use crate::host::{HostSettings, LaneId};
use crate::outcome::Cause;
use crate::reply::ReplyCode;
use crate::session::Step;

/// See the module.
#[derive(Debug)]
pub(super) struct Health {
    host: Arc<HostSettings>,
    /// How many lanes may be in use.
    pub(super) threads: u32,
    /// When a mail of it was answered last, or begun when it held none.
    pub(super) heard_at: Option<Instant>,
    throttle: Throttle,
    breaker: Breaker,
    /// Mails that its lanes hold.
    held: u32,
}

/// A lane has failed.
#[derive(Debug)]
pub(super) struct Failed {
    lane: LaneId,
    failure: Failure,
    /// It came to no session.
    is_opening: bool,
}

impl Health {
    pub(super) fn new(host: &Arc<HostSettings>) -> Health {
        Health {
            host: Arc::clone(host),
            threads: host.threads,
            heard_at: None,
            throttle: Throttle::default(),
            breaker: Breaker::default(),
            held: 0,
        }
    }

    /// Mails that each of its lanes is dealt at a time.
    pub(super) fn depth(&self) -> u32 {
        self.host.depth.max(1)
    }

    /// How many mails its lanes may hold, where that is less than they could.
    pub(super) fn most(&self, now: Instant) -> Option<u32> {
        self.throttle.most(now).into_iter().chain(self.breaker.most(now)).min()
    }

    /// How many connections it may have, when it does not rest.
    pub(super) fn most_lanes(&self) -> usize {
        let slowed = self.throttle.at_a_time().map(|mails| mails.div_ceil(self.depth()));
        let trying = self.breaker.is_open().then_some(1);
        let least = [Some(self.threads), slowed, trying].into_iter().flatten().min();
        least.unwrap_or(self.threads) as usize
    }

    /// Until when it rests.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.breaker.rests_until(now)
    }

    /// Until when it is given none as it has put off too many.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.throttle.paused_until(now)
    }

    /// Until when it is given no mail.
    pub(super) fn idle_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until(now).into_iter().chain(self.paused_until(now)).max()
    }

    /// Mails that its lanes hold.
    pub(super) fn held(&self) -> usize {
        self.held as usize
    }

    /// How many mails it is given at a time, where it was slowed down.
    pub(super) fn at_a_time(&self) -> Option<u32> {
        self.throttle.at_a_time()
    }

    /// Whether it rests, or one lane tries for all.
    pub(super) fn is_failing(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether it is given less than its lanes could take.
    fn is_troubled(&self) -> bool {
        self.throttle.is_on() || self.breaker.is_open()
    }

    /// It works, or may.
    fn close(&mut self) -> Option<HostNews> {
        self.breaker.close().then_some(HostNews::Back)
    }
}

impl Desk {
    /// Something is learnt of a host's strength.
    fn learn(&mut self, host: u32, learn: impl FnOnce(&mut Health) -> Option<HostNews>) {
        let Some(health) = self.health.get_mut(host as usize) else { return };
        self.troubled -= usize::from(health.is_troubled());
        let news = learn(health);
        self.troubled += usize::from(health.is_troubled());
        self.news.extend(news.map(|news| (host, news)));
    }

    /// The host has answered a mail.
    fn answered(&mut self, host: u32, was_put_off: bool) {
        let now = self.now;
        self.learn(host, |health| {
            health.heard_at = Some(now);
            if !health.host.auto_throttle {
                return None;
            }
            let all = health.threads.saturating_mul(health.depth());
            let change = health.throttle.note(was_put_off, (all, health.held), &health.host.backoff, now)?;
            Some(match change {
                Change::All => HostNews::Recovered,
                Change::Less { mails, until } => {
                    let pause = until.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
                    HostNews::Slowed { mails, pause }
                }
            })
        });
    }

    /// The host has answered a mail, or the caller opens lanes of it anew.
    pub(super) fn wake_host(&mut self, host: u32) {
        self.learn(host, Health::close);
    }

    /// The host is to have so many lanes in use; gives its settings, if there is one.
    pub(super) fn set_threads(&mut self, host: u32, threads: u32) -> Option<Arc<HostSettings>> {
        let health = self.health.get_mut(host as usize)?;
        health.threads = threads;
        let settings = Arc::clone(&health.host);
        self.make_room(host as usize, &settings, threads);
        Some(settings)
    }

    /// A lane of the host holds a mail more, or one less.
    pub(super) fn count_held(&mut self, lane: LaneId, is_more: bool) {
        if let Some(health) = self.health.get_mut(lane.host as usize) {
            if is_more && health.held == 0 {
                health.heard_at = Some(self.now);
            }
            health.held = if is_more { health.held + 1 } else { health.held.saturating_sub(1) };
        }
    }

    /// Tells what has changed about hosts.
    pub(super) fn tell_news<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for (host, news) in std::mem::take(&mut self.news) {
            let name = self.hosts.get(host as usize).map_or("", String::as_str);
            let change = HostChange { host, name, news };
            super::desk::guarded(&mut self.panic, || handler.host_changed(&change));
        }
    }
}

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// A mail has left the lane, with what the server said of it last, if anything.
    pub(super) fn note_parting(&mut self, mail: &Mail, code: Option<ReplyCode>) {
        self.desk.count_held(self.lane.id, false);
        if let Some(code) = code {
            if !code.is_closing() {
                self.desk.wake_host(self.lane.id.host);
            }
            let was_put_off = match mail.put_off {
                PutOff::No => false,
                // Others of its recipients may have been accepted.
                PutOff::Recipient => !mail.has_accepted(),
                PutOff::Whole => true,
            };
            self.desk.answered(self.lane.id.host, was_put_off);
        }
    }

    /// The lane has failed. What befalls one that holds nothing is no sign of its host's.
    pub(super) fn note_lane_failure(&mut self, failure: &Failure, is_opening: bool) {
        if let (Failure::Refused(reply), true) = (failure, is_opening)
            && asks_for_less(reply.as_reply())
        {
            self.desk.answered(self.lane.id.host, true);
        }
        if self.lane.host.circuit_breaker.is_some() {
            let failed = Failed { lane: self.lane.id, failure: failure.clone(), is_opening };
            self.desk.failures.push(failed);
        }
    }
}

impl Coordinator {
    /// Hosts whose lanes have failed too often begin to rest, and where one has tried in
    /// vain for all, the others fail with it.
    pub(super) fn note_failures<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        for Failed { lane, failure, is_opening } in std::mem::take(&mut self.desk.failures) {
            // A server that lets no more in is not one that fails.
            if is_opening && self.muster.host(lane.host as usize).active > 0 {
                continue;
            }
            self.desk.learn(lane.host, |health| {
                let most = health.host.circuit_breaker?;
                let until = health.breaker.failed((lane, &failure), most, &health.host.backoff, now)?;
                let time = until.saturating_duration_since(now);
                Some(HostNews::Rests { time, failures: health.breaker.failures() })
            });
            let host = self.desk.health.get_mut(lane.host as usize);
            if let Some((lane, failure)) = host.and_then(|health| health.breaker.take_news()) {
                self.fail_others(lane, &failure, now, handler);
            }
        }
    }

    fn fail_others<H: Handler + ?Sized>(
        &mut self,
        tried: LaneId,
        failure: &Failure,
        now: Instant,
        handler: &mut H,
    ) {
        let waits = |lane: &Lane| {
            let is_other = lane.id.host == tried.host && lane.id != tried;
            is_other && lane.link == Link::Down && lane.reopen_at.is_some()
        };
        for place in 0..self.lanes.len() {
            if self.lanes.get(place).is_some_and(waits)
                && let Some(mut judge) = self.judge(place, now, handler)
            {
                judge.lane.is_first_opening = !judge.lane.has_been_open;
                judge.fail_opening(Step::Connect, failure);
            }
        }
    }

    /// Whether another host could be given mails, which those of this one may not hold up.
    fn is_other_at_work(&self, host: usize, now: Instant) -> bool {
        let both = self.muster.hosts().iter().zip(&self.desk.health).enumerate();
        both.filter(|(other, _)| *other != host)
            .any(|(_, (sum, health))| sum.retired < sum.lanes && health.rests_until(now).is_none())
    }

    /// Mails that are bound to a host do not hold up others while they wait for what may
    /// never come: while it rests, and another host is at work, they wait as those that
    /// were put off. They are abandoned when it has no lane left, or there is no such
    /// host.
    pub(super) fn look_after_bound<H: Handler + ?Sized>(
        &mut self,
        survey: &Survey,
        now: Instant,
        handler: &mut H,
    ) {
        if self.desk.backlog.bound() == 0 && !self.desk.delayed.has_bound() {
            return;
        }
        let nowhere = self.desk.backlog.nowhere();
        let are_all_retired = survey.lanes(Is::Retired) == self.lanes.len();
        for host in 0..nowhere {
            let sum = self.muster.host(host);
            let health = self.desk.health.get(host);
            let rests =
                health.and_then(|health| Some((health.rests_until(now)?, health.breaker.cause()?.clone())));
            if sum.retired == sum.lanes && !are_all_retired && !self.is_restart_due() {
                self.desk.abandon_bound(host, handler);
            } else if let Some((until, failure)) = rests.filter(|_| self.is_other_at_work(host, now)) {
                let cause = Cause::Failure(failure);
                while let Some(mail) = self.desk.backlog.pop_of(host) {
                    self.desk.delay(mail, until, &cause, handler);
                }
            }
        }
        self.desk.abandon_bound(nowhere, handler);
    }
}
