//! Connections that are not kept between batches: a lane without a mail gives its own up
//! and rests, and gets another one when there are mails again.
//!
//! ```text
//!  Active ── no mail, and none at hand: QUIT ──▶ Resting ── there are mails ──▶ Opening ──▶ Active
//! ```
//!
//! Such an opening is planned, and never held against the lane.

use std::time::Instant;

use super::Coordinator;
use super::dealing::Fit;
use super::lane::{Lane, Link, Standing};
use super::mail::Mail;
use super::muster::{Is, Survey};
use super::prospect::For;
use crate::pace::Pace;

impl Coordinator {
    // ---- to rest ----------------------------------------------------------

    /// Whether lanes are to give up connections that there is no mail for, which the
    /// next `settle` has them do: see [`Host::keep_alive`](crate::Host::keep_alive).
    pub fn is_rest_due(&self, now: Instant) -> bool {
        self.may_rest(self.muster.has(Is::Idle), now) && self.lanes.iter().any(|lane| self.rests(lane, now))
    }

    /// Whether a lane that rests has yet to say QUIT, or to hear the reply.
    pub fn is_going_to_rest(&self) -> bool {
        let is_going = |lane: &Lane| lane.standing == Standing::Resting && lane.link == Link::Up;
        self.muster.has(Is::AtRest) && self.lanes.iter().any(is_going)
    }

    /// Not before the batch has ended, nor while there are mails for them, or the
    /// caller has some at hand.
    fn may_rest(&self, are_idle: bool, now: Instant) -> bool {
        let is_held_up = self.feeding || self.closing || self.is_restart_due() || self.desk.batch_running;
        are_idle && !is_held_up && !self.is_batch_wanted(now)
    }

    /// Idle lanes give up connections that are not kept; says whether any has.
    pub(super) fn lets_rest(&mut self, survey: &Survey, now: Instant) -> bool {
        if !self.may_rest(survey.has(Is::Idle), now) {
            return false;
        }
        let mut has_changed = false;
        for place in 0..self.lanes.len() {
            if self.lanes.get(place).is_some_and(|lane| self.rests(lane, now)) {
                has_changed = true;
                self.change(place).into_iter().for_each(|lane| lane.rest(now));
            }
        }
        if has_changed {
            self.called = 0;
        }
        has_changed
    }

    /// A lane that was opened for mails keeps its connection until it has had one, or there
    /// is none for it: whatever holds them back, a pause excepted, to open it again and
    /// again brings none of them nearer. A mail that only waits for its time is left for
    /// any lane: to open it anew costs octets, too, and where these are what is limited it
    /// would never come to a mail.
    fn rests(&self, lane: &Lane, now: Instant) -> bool {
        let (backlog, host) = (&self.desk.backlog, lane.id.host as usize);
        let are_mails = || backlog.of_any() > 0 || backlog.of(host) > 0;
        lane.is_idle() && (self.paused || !(lane.is_woken && are_mails() || self.is_held_back(host, now)))
    }

    // ---- to work ----------------------------------------------------------

    /// Whether those that were woken for a deal are up, or as many of them as a batch
    /// waits for: a lane that is opened because something went wrong is not waited for,
    /// but these all had their connections taken from them.
    pub(super) fn is_enough_awake(&self, survey: &Survey) -> bool {
        let waking = survey.lanes(Is::Waking);
        match self.desk.settings.pace {
            _ if waking == 0 => true,
            Pace::Lockstep => false,
            Pace::Quorum { share, .. } => {
                let free = self.muster.free().count();
                free as f64 >= f64::from(share) * (free + waking) as f64 - 1e-3
            }
            Pace::Free => true,
        }
    }

    /// Whether there are mails for lanes that rest, so that the next deal is one for them,
    /// too.
    pub(super) fn are_sleepers_wanted(&self, survey: &Survey, now: Instant) -> bool {
        if !survey.has(Is::AtRest) {
            return false;
        }
        let (open, all) = (self.prospect(For::Free, now), self.prospect(For::Asleep, now));
        all.mails.min(all.room) > open.mails.min(open.room)
    }

    /// Lanes that rest are opened for questions, and for mails; says whether any is.
    pub(super) fn wakes_lanes(&mut self, survey: &Survey, now: Instant) -> bool {
        if self.closing || !survey.has(Is::AtRest) {
            return false;
        }
        let woken = if survey.has(Is::Called) {
            self.places_of(Lane::is_called)
        } else if self.is_batch_wanted(now) {
            self.sleepers_for_mails(now)
        } else {
            return false;
        };
        for place in woken.iter().copied() {
            self.change(place).into_iter().for_each(|lane| lane.wake(now));
        }
        !woken.is_empty()
    }

    fn places_of(&self, are: impl Fn(&Lane) -> bool) -> Vec<usize> {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter(|(_, lane)| are(lane)).map(|(place, _)| place).collect()
    }

    /// One lane for each mail for which none is open, or being opened, and which waits for
    /// none that is busy. One that fails is not replaced while there are others: a host
    /// that is gone would hold up the deal as often as it has lanes.
    fn sleepers_for_mails(&mut self, now: Instant) -> Vec<usize> {
        let mut open = self.places_of(|lane| lane.is_free() || lane.is_waking());
        let resting = self.places_of(|lane| lane.standing == Standing::Resting);
        let mut resting: Vec<usize> = self.in_turn(&resting).collect();
        if self.allowance.is_limited() || self.are_places_few() {
            let mut left = self.left(For::Asleep, self.dealable(), now);
            let lanes = &self.lanes;
            let mut may_begin = |place: &usize| {
                lanes.get(*place).is_some_and(|lane| left.grant(lane.id.host, lane.depth()) > 0)
            };
            open.retain(&mut may_begin);
            resting.retain(&mut may_begin);
        }
        if open.is_empty() {
            self.called = 0;
        }
        let (mut woken, mut waiting) = (Vec::new(), 0);
        if self.called == 0 {
            for mail in self.desk.backlog.tried_before() {
                let known = self.best_for(mail, &open).map(|(fit, _)| fit);
                let sleeper = self.best_for(mail, &resting);
                let best = known.max(sleeper.map(|(fit, _)| fit));
                if best.is_some_and(|best| self.waits_for_better(mail, best, waiting)) {
                    waiting += 1;
                } else if let Some((_, position)) = sleeper.filter(|(fit, _)| Some(*fit) > known) {
                    let place = resting.remove(position);
                    woken.push(place);
                    open.push(place);
                }
            }
        }
        self.called = self.called.max(open.len() + waiting);
        let stuck = self.sleepers_for_bound(&mut open, &mut resting, &mut woken);
        self.called = self.called.max(open.len() + waiting);
        let more = self.desk.backlog.len().saturating_sub(self.called + stuck).min(resting.len());
        self.called += more;
        woken.extend(resting.into_iter().take(more));
        if let Some(last) = woken.last() {
            self.first_lane = (last + 1) % self.lanes.len();
        }
        woken
    }

    /// The same for mails that are bound to a host; gives how many have to wait.
    fn sleepers_for_bound(
        &self,
        open: &mut Vec<usize>,
        resting: &mut Vec<usize>,
        woken: &mut Vec<usize>,
    ) -> usize {
        let mut stuck = 0;
        if self.desk.backlog.bound() == 0 {
            return stuck;
        }
        for host in 0..self.hosts {
            let is_of =
                |place: &usize| self.lanes.get(*place).is_some_and(|lane| lane.id.host as usize == host);
            let known = open.iter().filter(|place| is_of(place)).count();
            let mut missing = self.desk.backlog.of(host).saturating_sub(known);
            resting.retain(|place| {
                let is_called = missing > 0 && is_of(place);
                if is_called {
                    missing -= 1;
                    open.push(*place);
                    woken.push(*place);
                }
                !is_called
            });
            stuck += missing;
        }
        stuck
    }

    /// How well the best of these lanes suits the mail, and where among them it is.
    fn best_for(&self, mail: &Mail, places: &[usize]) -> Option<(Fit, usize)> {
        let ideal = Fit::ideal(mail, self.hosts);
        let mut best: Option<(Fit, usize)> = None;
        for (position, place) in places.iter().enumerate() {
            let Some(lane) = self.lanes.get(*place) else { continue };
            let fit = Fit::of(lane.id, mail);
            if best.is_none_or(|(known, _)| fit > known) {
                best = Some((fit, position));
            }
            if fit >= ideal {
                break;
            }
        }
        best
    }
}

impl Lane {
    /// Whether its connection is not to be kept, and it has nothing to do on it.
    pub(super) fn is_idle(&self) -> bool {
        !self.host.keep_alive && self.is_free() && !self.is_poised && !self.has_question()
    }

    /// Whether it rests, and has a question to put.
    pub(super) fn is_called(&self) -> bool {
        self.standing == Standing::Resting && self.has_question()
    }

    /// Whether it is opened because there are mails, and does not wait for another lane
    /// of its host to authenticate.
    pub(super) fn is_waking(&self) -> bool {
        let is_under_way = self.standing == Standing::Opening && self.link != Link::Down;
        self.is_woken && is_under_way && !self.waits_at_gate
    }

    /// Gives up its connection until there is a mail for it.
    fn rest(&mut self, now: Instant) {
        self.leave(now);
        self.standing = Standing::Resting;
    }

    /// Opens it for a mail.
    fn wake(&mut self, now: Instant) {
        self.reopen(now, now);
        self.is_woken = true;
    }
}
