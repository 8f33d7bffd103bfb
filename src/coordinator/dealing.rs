//! Which lane gets which mail, and when: the deal, and at level 2 the moment in
//! which the content of one deal is sent together with the envelope of the next.

use std::time::Instant;

use super::judge::Judge;
use super::lane::Lane;
use super::{Coordinator, Survey};
use crate::event::{Handler, SessionVerdict};
use crate::host::LaneId;
use crate::timeouts::after;

impl Coordinator {
    /// Whether a batch is to begin, where lanes that are free have `room` for so
    /// many mails.
    pub(super) fn is_deal_due(&self, now: Instant, room: usize) -> bool {
        let backlog = self.desk.backlog();
        if self.desk.batch_running || self.desk.restart_now || self.closing || backlog == 0 || room == 0 {
            return false;
        }
        self.is_worth_a_deal(room) || self.linger_over().is_some_and(|at| at <= now)
    }

    fn is_worth_a_deal(&self, room: usize) -> bool {
        let backlog = self.desk.backlog();
        backlog > 0 && (backlog >= room || self.flushing)
    }

    pub(super) fn linger_over(&self) -> Option<Instant> {
        Some(after(self.desk.waiting_since?, self.desk.settings.linger?))
    }

    /// Whether lanes at a 354 wait for mails that the caller has at hand. They do
    /// so only where all others are as far, and nothing is to be restarted: no
    /// server is left waiting for what another one does.
    pub(super) fn goes_hungry(&self, survey: &Survey) -> bool {
        let wants_more = self.feeding && self.desk.has_room() && self.desk.backlog() < survey.room;
        wants_more && survey.poised > 0 && self.may_overlap(survey)
    }

    fn may_overlap(&self, survey: &Survey) -> bool {
        !survey.is_busy && !self.closing && !self.desk.restart_now && !self.desk.restart_at_batch_end
    }

    /// Sends the contents that servers wait for. Where the batch has come to that
    /// everywhere and there are mails, the next one is dealt, and its envelopes go
    /// with them.
    pub(super) fn send_contents<H: Handler + ?Sized>(
        &mut self,
        survey: &Survey,
        now: Instant,
        handler: &mut H,
    ) {
        if self.may_overlap(survey) && self.is_worth_a_deal(survey.room) {
            self.end_batch(now);
            self.deal(now, handler);
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_poised) {
            Judge { lane, desk: &mut self.desk, handler: &mut *handler, now }.send_content();
        }
        self.desk.batch_running = true;
    }

    /// Up to as many mails to each free lane as it may hold, first one to each:
    /// those that were tried before first, on another lane and host where there
    /// is one.
    pub(super) fn deal<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.desk.batch_running = true;
        let mut depth = 0;
        for lane in &mut self.lanes {
            lane.dealt = 0;
            depth = if lane.is_free() { lane.depth().max(depth) } else { depth };
        }
        let mut retries = self.desk.retries();
        let mut has_dealt = false;
        for round in 0..depth {
            if !self.deal_round(round, &mut retries, &mut has_dealt, now, handler) {
                break;
            }
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.dealt > 0 && !lane.is_poised) {
            Judge { lane, desk: &mut self.desk, handler: &mut *handler, now }
                .carry_out(SessionVerdict::Default);
        }
        // When all had expired there is no batch.
        self.desk.batch_running = has_dealt;
        self.desk.waiting_since = (self.desk.backlog() > 0).then_some(now);
    }

    /// One mail to each lane that has room for another; `false` when there are no
    /// more mails.
    fn deal_round<H: Handler + ?Sized>(
        &mut self,
        round: u32,
        retries: &mut usize,
        has_dealt: &mut bool,
        now: Instant,
        handler: &mut H,
    ) -> bool {
        let lanes = self.lanes.len();
        let first = self.first_lane;
        let mut next = 0;
        while next < lanes {
            if !self.lane_at(first + next).is_some_and(|lane| has_room(lane, round)) {
                next += 1;
                continue;
            }
            let Some(mail) = self.desk.next_mail(retries, now, handler) else { break };
            let place = mail.last_lane.map_or(next, |last| self.place_away_from(last, first, next, round));
            let position = (first + place) % lanes;
            if let Some(lane) = self.lanes.get_mut(position) {
                lane.dealt += 1;
                Judge { lane, desk: &mut self.desk, handler: &mut *handler, now }.deal(mail);
                *has_dealt = true;
            }
        }
        self.first_lane = (first + next) % lanes.max(1);
        next >= lanes
    }

    /// A lane with room from place `next` on for a mail that `last` held: of
    /// another host, else another lane, else the first.
    fn place_away_from(&self, last: LaneId, first: usize, next: usize, round: u32) -> usize {
        let mut other_lane = None;
        let is_alone = self.hosts < 2;
        let free = |place: &usize| self.lane_at(first + place).is_some_and(|lane| has_room(lane, round));
        for place in (next..self.lanes.len()).filter(free) {
            match self.lane_at(first + place).map(|lane| lane.id) {
                Some(id) if id.host != last.host => return place,
                Some(id) if id != last && is_alone => return place,
                Some(id) if id != last => other_lane = other_lane.or(Some(place)),
                _ => {}
            }
        }
        other_lane.unwrap_or(next)
    }

    fn lane_at(&self, place: usize) -> Option<&Lane> {
        self.lanes.get(place % self.lanes.len().max(1))
    }
}

/// Whether the lane has room for a mail in this round of the deal.
fn has_room(lane: &Lane, round: u32) -> bool {
    let is_dealt_to = lane.dealt > 0 || lane.is_free();
    is_dealt_to && lane.dealt == round && round < lane.depth()
}
