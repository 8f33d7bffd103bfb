//! Which lane gets which mail, and when: the deal, and at level 2 the moment in
//! which the content of one deal is sent together with the envelope of the next.

use std::time::{Duration, Instant};

use super::Coordinator;
use super::lane::{Lane, Standing};
use super::mail::Mail;
use super::muster::{Is, Survey};
use crate::event::{Handler, SessionVerdict};
use crate::host::LaneId;
use crate::reopening::Setback;
use crate::timeouts::after;

/// How long a mail waits for a better lane than those that are free, while the better
/// one takes that long for a step: healthy servers seldom do.
pub(super) const MOST_PATIENCE: Duration = Duration::from_secs(5);

/// How good a lane is for a mail that was tried before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    SameLane,
    SameHost,
    OtherHost,
}

impl Fit {
    pub(super) fn of(lane: LaneId, last: Option<LaneId>) -> Fit {
        match last {
            Some(last) if lane == last => Fit::SameLane,
            Some(last) if lane.host == last.host => Fit::SameHost,
            _ => Fit::OtherHost,
        }
    }
}

impl Coordinator {
    /// Whether a batch is to begin, and there are the lanes for it.
    pub(super) fn is_deal_due(&self, now: Instant, survey: &Survey) -> bool {
        let is_wanted = survey.room > 0 && self.is_batch_wanted(now, survey.all_room());
        is_wanted && self.allowed_now(survey.room, now) > 0 && self.is_enough_awake(survey)
    }

    /// Whether a batch is to begin, where lanes that are free, or will be as soon as they
    /// are opened for it, have `room` for so many mails.
    pub(super) fn is_batch_wanted(&self, now: Instant, room: usize) -> bool {
        let is_held_up = self.desk.batch_running || self.is_restart_due() || self.closing || self.paused;
        if is_held_up || self.dealable() == 0 || room == 0 {
            return false;
        }
        let room = self.allowed(room, now);
        if room == 0 {
            return false;
        }
        self.is_worth_a_deal(room) || self.linger_over().is_some_and(|at| at <= now)
    }

    /// Mails that could be dealt if there were room.
    pub(super) fn dealable(&self) -> usize {
        self.desk.backlog().saturating_sub(self.waiting)
    }

    fn is_worth_a_deal(&self, room: usize) -> bool {
        let mails = self.dealable();
        mails > 0
            && room > 0
            && (mails >= room || self.flushing || self.draining || self.desk.settings.pace.is_free())
    }

    pub(super) fn linger_over(&self) -> Option<Instant> {
        Some(after(self.desk.waiting_since?, self.desk.settings.linger?))
    }

    /// Whether lanes at a 354 wait for mails that the caller has at hand. They do
    /// so only where all others are as far, and nothing is to be restarted: no
    /// server is left waiting for what another one does.
    pub(super) fn goes_hungry(&self, survey: &Survey, now: Instant) -> bool {
        let room = self.allowed_now(survey.room, now);
        let wants_more = self.feeding && self.has_room() && self.dealable() < room;
        wants_more && survey.has(Is::Poised) && self.may_overlap(survey)
    }

    fn may_overlap(&self, survey: &Survey) -> bool {
        !survey.has(Is::Busy) && !self.closing && !self.paused && !self.is_restart_due()
    }

    pub(super) fn is_restart_due(&self) -> bool {
        self.desk.restart_now || self.desk.restart_at_batch_end
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
        if self.may_overlap(survey)
            && self.is_worth_a_deal(self.allowed(survey.all_room(), now))
            && self.allowed_now(survey.room, now) > 0
            && !self.are_sleepers_wanted(survey)
        {
            self.end_batch(now);
            self.deal(now, handler);
        }
        self.survey();
        let mut poised = std::mem::take(&mut self.spare);
        poised.clear();
        poised.extend(self.muster.poised());
        for place in poised.iter().copied() {
            if let Some(mut judge) = self.judge(place, now, handler) {
                judge.send_content();
            }
        }
        self.spare = poised;
        self.desk.batch_begins();
    }

    /// Deals mails to the lanes that are free, and has these begin: first those mails
    /// that were tried before, each on another lane and host than before where there
    /// is one, and then the others, as evenly as that and the depths let it be.
    pub(super) fn deal<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.survey();
        self.called = 0;
        self.desk.batch_begins();
        let mut free = std::mem::take(&mut self.free);
        free.clear();
        free.extend(self.muster.free());
        self.open_aged(&free, now);
        let mut left = self.allowance.left(now);
        for place in self.in_turn(&free) {
            let Some(lane) = self.change(place).filter(|lane| lane.is_free()) else { continue };
            let (host, depth) = (lane.id.host, lane.depth());
            lane.share = left.as_mut().map_or(depth, |left| left.grant(host, depth));
        }
        self.deal_retries(&free, now, handler);
        self.share_out(&free, self.desk.fresh());
        self.deal_fresh(&free, now, handler);
        let mut dealt = 0;
        for place in free.iter().copied() {
            let Some(lane) = self.lanes.get_mut(place) else { continue };
            lane.share = 0;
            let mails = std::mem::take(&mut lane.dealt);
            dealt += usize::from(mails > 0);
            self.allowance.take(lane.id.host, mails, now);
        }
        if self.desk.settings.pace.is_free() {
            self.desk.summary.batches += dealt as u64;
        }
        // When all had expired there is no batch.
        self.desk.batch_running &= dealt > 0;
        self.desk.waiting_since = (self.desk.backlog() > 0).then_some(now);
        self.free = free;
    }

    /// Lanes whose connections have stood for long enough are opened anew, as planned.
    fn open_aged(&mut self, free: &[usize], now: Instant) {
        for place in free.iter().copied() {
            let is_aged = self.lanes.get(place).is_some_and(|lane| lane.is_aged(now) && !lane.is_poised);
            if let Some(lane) = self.change(place).filter(|_| is_aged) {
                lane.reopen(now, now);
            }
        }
    }

    /// What finds no room keeps its place. What would fare better on lanes that have
    /// not finished waits for them, but no more mails do than there are such lanes.
    fn deal_retries<H: Handler + ?Sized>(&mut self, free: &[usize], now: Instant, handler: &mut H) {
        self.waiting = 0;
        let mut room: usize = self.rooms(free).sum();
        for _ in 0..self.desk.retries() {
            if room == 0 {
                return;
            }
            let Some(mail) = self.desk.next_retry(now, handler) else { continue };
            let Some(place) = self.place_for(&mail, free) else {
                self.waiting += 1;
                self.desk.keep(mail);
                continue;
            };
            if let Some(mut judge) = self.judge(place, now, handler) {
                judge.deal(mail);
            }
            self.first_lane = (place + 1) % self.lanes.len();
            room -= 1;
        }
    }

    /// The lane with room that is the best one for this mail, unless it is to wait.
    fn place_for(&self, mail: &Mail, free: &[usize]) -> Option<usize> {
        let fit = |lane: &Lane| Fit::of(lane.id, mail.last_lane);
        let mut best: Option<(Fit, usize)> = None;
        for place in self.in_turn(free) {
            let Some(lane) = self.lanes.get(place).filter(|lane| lane.has_room()) else { continue };
            if best.is_none_or(|(known, _)| fit(lane) > known) {
                best = Some((fit(lane), place));
            }
            if fit(lane) == Fit::OtherHost || (fit(lane) == Fit::SameHost && self.hosts < 2) {
                break;
            }
        }
        let (best, place) = best?;
        (!self.waits_for_better(mail, best, self.waiting)).then_some(place)
    }

    /// Whether the mail waits for a lane that has not finished and suits it better than
    /// the best of those that could take it, as so many other mails do: no more than
    /// there are such lanes.
    pub(super) fn waits_for_better(&self, mail: &Mail, best: Fit, others: usize) -> bool {
        let is_any_busy = self.muster.has_busy() || self.muster.has(Is::Waking);
        if best == Fit::OtherHost || !is_any_busy {
            return false;
        }
        let is_at_work = |lane: &Lane| {
            let is_done = lane.is_free() || lane.is_at_noop || lane.dealt > 0;
            // One that is slow is nobody to wait for.
            let began = lane.session.began();
            let is_slow = began.is_none_or(|began| after(began, MOST_PATIENCE) <= self.desk.now);
            lane.standing == Standing::Active && !is_done && !is_slow
        };
        let is_busy = |lane: &&Lane| lane.is_waking() || is_at_work(lane);
        let is_better = |lane: &&Lane| Fit::of(lane.id, mail.last_lane) > best;
        others < self.lanes.iter().filter(is_busy).filter(is_better).count()
    }

    /// How many mails each free lane gets in all, of so many that were not dealt yet:
    /// as even as what it has and its depth let it be, and of those that are left over
    /// one to each from the first lane on. Those that have expired count, too.
    fn share_out(&mut self, free: &[usize], mails: usize) {
        if mails >= self.rooms(free).sum() {
            return;
        }
        let (mut level, mut left) = (0, mails);
        let takes = |lane: &Lane, level| lane.share > level && lane.dealt <= level;
        loop {
            let is_taker = |place: &&usize| self.lanes.get(**place).is_some_and(|lane| takes(lane, level));
            match left.checked_sub(free.iter().filter(is_taker).count()) {
                Some(fewer) => left = fewer,
                None => break,
            }
            level += 1;
        }
        let lanes = self.lanes.len();
        for place in self.in_turn(free) {
            let Some(lane) = self.lanes.get_mut(place) else { break };
            let has_one_more = takes(lane, level) && left > 0;
            lane.share = lane.share.min(level).max(lane.dealt) + u32::from(has_one_more);
            if has_one_more {
                left -= 1;
                self.first_lane = (place + 1) % lanes;
            }
        }
    }

    /// What comes back meanwhile belongs to the next batch.
    fn deal_fresh<H: Handler + ?Sized>(&mut self, free: &[usize], now: Instant, handler: &mut H) {
        for place in free.iter().copied() {
            let Some(mut judge) = self.judge(place, now, handler) else { continue };
            while judge.lane.has_room()
                && let Some(mail) = judge.desk.next_fresh(now, &mut *judge.handler)
            {
                judge.deal(mail);
            }
            if judge.lane.dealt > 0 && !judge.lane.is_poised {
                judge.carry_out(SessionVerdict::Default, Setback::Other);
            }
        }
    }

    /// For how many more mails each of these lanes has room.
    fn rooms(&self, free: &[usize]) -> impl Iterator<Item = usize> {
        let lanes = free.iter().filter_map(|place| self.lanes.get(*place));
        lanes.map(|lane| lane.share.saturating_sub(lane.dealt) as usize)
    }

    /// The places of these lanes, from the one on whose turn it is.
    pub(super) fn in_turn<'f>(&self, free: &'f [usize]) -> impl Iterator<Item = usize> + use<'f> {
        let first = free.partition_point(|place| *place < self.first_lane);
        let (before, from) = free.split_at(first);
        from.iter().chain(before).copied()
    }
}
