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

    /// Deals mails to the lanes that are free, and has these begin: first those mails
    /// that were tried before, each on another lane and host than before where there
    /// is one, and then the others, as evenly as that and the depths let it be.
    pub(super) fn deal<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.desk.batch_running = true;
        for lane in &mut self.lanes {
            lane.dealt = 0;
            lane.share = if lane.is_free() { lane.depth() } else { 0 };
        }
        let has_dealt_retries = self.deal_retries(now, handler);
        self.share_out(self.desk.fresh());
        let has_dealt_fresh = self.deal_fresh(now, handler);
        // When all had expired there is no batch.
        self.desk.batch_running = has_dealt_retries || has_dealt_fresh;
        self.desk.waiting_since = (self.desk.backlog() > 0).then_some(now);
    }

    /// Says whether any was dealt. What finds no room keeps its place.
    fn deal_retries<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) -> bool {
        let (lanes, mut from, mut has_dealt) = (self.lanes.len(), self.first_lane, false);
        let mut room: u64 = self.lanes.iter().map(|lane| u64::from(lane.share)).sum();
        while room > 0 && self.desk.retries() > 0 {
            let Some(mail) = self.desk.next_retry(now, handler) else { continue };
            let away = mail.last_lane.and_then(|last| self.away_from(last, from));
            let position = away.or_else(|| self.next_with_room(from)).unwrap_or(from);
            let Some(lane) = self.lanes.get_mut(position) else { break };
            Judge { lane, desk: &mut self.desk, handler: &mut *handler, now }.deal(mail);
            (from, has_dealt) = ((position + 1) % lanes, true);
            room -= 1;
        }
        self.first_lane = from;
        has_dealt
    }

    /// How many mails each free lane gets in all, of so many that were not dealt yet:
    /// as even as what it has and its depth let it be, and of those that are left over
    /// one to each from the first lane on. Those that have expired count, too.
    fn share_out(&mut self, mails: usize) {
        let room: usize = self.lanes.iter().map(|lane| (lane.share - lane.dealt) as usize).sum();
        if mails >= room {
            return;
        }
        let (mut level, mut left) = (0, mails);
        let takes = |lane: &Lane, level| lane.share > level && lane.dealt <= level;
        loop {
            let takers = self.lanes.iter().filter(|lane| takes(lane, level)).count();
            match left.checked_sub(takers) {
                Some(fewer) => left = fewer,
                None => break,
            }
            level += 1;
        }
        let lanes = self.lanes.len();
        for position in self.all_from(self.first_lane) {
            let Some(lane) = self.lanes.get_mut(position) else { break };
            let has_one_more = takes(lane, level) && left > 0;
            lane.share = lane.share.min(level).max(lane.dealt) + u32::from(has_one_more);
            if has_one_more {
                left -= 1;
                self.first_lane = (position + 1) % lanes;
            }
        }
    }

    /// Says whether any was dealt. What comes back meanwhile belongs to the next
    /// batch.
    fn deal_fresh<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) -> bool {
        let mut has_dealt = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.share > 0) {
            let mut judge = Judge { lane, desk: &mut self.desk, handler: &mut *handler, now };
            while judge.lane.has_room()
                && let Some(mail) = judge.desk.next_fresh(now, &mut *judge.handler)
            {
                judge.deal(mail);
                has_dealt = true;
            }
            if judge.lane.dealt > 0 && !judge.lane.is_poised {
                judge.carry_out(SessionVerdict::Default);
            }
        }
        has_dealt
    }

    /// The next lane from this one on, all around, that has room for a mail which
    /// `last` held: of another host, else another lane.
    fn away_from(&self, last: LaneId, from: usize) -> Option<usize> {
        let mut other_lane = None;
        for position in self.all_from(from) {
            let Some(lane) = self.lanes.get(position).filter(|lane| lane.has_room()) else { continue };
            if lane.id.host != last.host || (lane.id != last && self.hosts < 2) {
                return Some(position);
            }
            other_lane = other_lane.or((lane.id != last).then_some(position));
        }
        other_lane
    }

    fn next_with_room(&self, from: usize) -> Option<usize> {
        self.all_from(from).find(|&position| self.lanes.get(position).is_some_and(Lane::has_room))
    }

    /// The places of all lanes, from this one on.
    fn all_from(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        let first = first.min(self.lanes.len());
        (first..self.lanes.len()).chain(0..first)
    }
}
