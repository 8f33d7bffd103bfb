//! Which lane gets which mail, and when: the deal, and at level 2 the moment in
//! which the content of one deal is sent together with the envelope of the next.

use std::time::{Duration, Instant};

use super::Coordinator;
use super::judge::Judge;
use super::lane::{Lane, Standing};
use super::mail::Mail;
use super::muster::{HostSum, Is, Survey};
use super::prospect::{For, Prospect};
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
    /// It is of another host than the one that the mail is bound to.
    Never,
    SameLane,
    SameHost,
    OtherHost,
}

impl Fit {
    pub(super) fn of(lane: LaneId, mail: &Mail) -> Fit {
        match (mail.message.bound_to(), mail.last_lane) {
            (Some(host), _) if host != lane.host => Fit::Never,
            (_, Some(last)) if lane == last => Fit::SameLane,
            (_, Some(last)) if lane.host == last.host => Fit::SameHost,
            _ => Fit::OtherHost,
        }
    }

    /// As good as any of so many hosts' can be.
    pub(super) fn ideal(mail: &Mail, hosts: usize) -> Fit {
        let has_no_other = hosts < 2 || mail.message.bound_to().is_some();
        if has_no_other && mail.last_lane.is_some() { Fit::SameHost } else { Fit::OtherHost }
    }
}

impl Coordinator {
    /// Whether a batch is to begin, and there are the lanes for it.
    pub(super) fn is_deal_due(&self, now: Instant, survey: &Survey) -> bool {
        let is_wanted = survey.room > 0 && self.is_batch_wanted(now);
        is_wanted && self.is_any_free(now) && self.is_enough_awake(survey)
    }

    /// Whether lanes that are free could be given a mail.
    fn is_any_free(&self, now: Instant) -> bool {
        let prospect = self.prospect(For::Free, now);
        prospect.room > 0 && prospect.mails > 0
    }

    /// Whether a batch is to begin, by what lanes have room for that are free, or will be
    /// as soon as they are opened for it.
    pub(super) fn is_batch_wanted(&self, now: Instant) -> bool {
        let is_held_up = self.desk.batch_running || self.is_restart_due() || self.closing || self.paused;
        if is_held_up || self.desk.backlog.len() <= self.waiting || self.muster.sum().all_room() == 0 {
            return false;
        }
        let prospect = self.prospect(For::Asleep, now);
        let is_over = || self.linger_over().is_some_and(|at| at <= now);
        self.is_worth_a_deal(prospect) || (prospect.mails > 0 && prospect.room > 0 && is_over())
    }

    /// Mails for any host that could be dealt if there were room.
    pub(super) fn dealable(&self) -> usize {
        self.desk.backlog.of_any().saturating_sub(self.waiting)
    }

    fn is_worth_a_deal(&self, prospect: Prospect) -> bool {
        let Prospect { room, mails, is_pressing } = prospect;
        let is_free = self.desk.settings.pace.is_free();
        let is_enough = mails >= room || is_pressing || self.flushing || self.draining || is_free;
        mails > 0 && room > 0 && is_enough
    }

    pub(super) fn linger_over(&self) -> Option<Instant> {
        Some(after(self.desk.waiting_since?, self.desk.settings.linger?))
    }

    /// Whether lanes at a 354 wait for mails that the caller has at hand. They do
    /// so only where all others are as far, and nothing is to be restarted: no
    /// server is left waiting for what another one does.
    pub(super) fn goes_hungry(&self, survey: &Survey, now: Instant) -> bool {
        if !self.feeding || !survey.has(Is::Poised) || !self.has_room() || !self.may_overlap(survey) {
            return false;
        }
        let prospect = self.prospect(For::Free, now);
        prospect.mails < prospect.room
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
            && self.is_worth_a_deal(self.prospect(For::Asleep, now))
            && self.is_any_free(now)
            && !self.are_sleepers_wanted(survey, now)
        {
            self.end_batch(now);
            self.deal(now, handler);
        }
        self.survey(now);
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
        self.survey(now);
        self.called = 0;
        self.desk.batch_begins();
        let mut free = std::mem::take(&mut self.free);
        free.clear();
        free.extend(self.muster.free());
        self.open_aged(&free, now);
        self.share_limits(&free, now);
        self.deal_retries(&free, now, handler);
        let is_short = self.desk.backlog.bound() == 0 || self.deal_bound(&free, now, handler);
        if is_short {
            self.share_out(&free, self.desk.backlog.fresh(None));
        }
        self.deal_fresh(&free, now, handler);
        let mut dealt = 0;
        for place in free.iter().copied() {
            let Some(lane) = self.lanes.get_mut(place) else { continue };
            lane.share = 0;
            dealt += usize::from(std::mem::take(&mut lane.dealt) > 0);
        }
        if self.allowance.has_weights() {
            let hosts = self.muster.hosts();
            self.allowance.level(|host| hosts.get(host).is_some_and(HostSum::is_in_use));
        }
        if self.desk.settings.pace.is_free() {
            self.desk.summary.batches += dealt as u64;
        }
        if dealt == 0 {
            // What cannot be dealt now is not asked for again before something has changed.
            self.waiting = self.desk.backlog.len();
        }
        // When all had expired there is no batch.
        self.desk.batch_running &= dealt > 0;
        self.desk.waiting_since = (self.desk.backlog.len() > 0).then_some(now);
        self.free = free;
    }

    /// How many mails each free lane may be given at the most.
    fn share_limits(&mut self, free: &[usize], now: Instant) {
        let is_limited = self.allowance.is_limited() || self.are_places_few();
        let mut left = is_limited.then(|| self.left(For::Free, self.dealable(), now));
        for place in self.in_turn(free) {
            // One that is too old finishes what it has, and is opened anew.
            let is_fit = |lane: &&mut Lane| lane.is_free() && !(lane.is_poised && lane.is_aged(now));
            let Some(lane) = self.change(place).filter(is_fit) else { continue };
            let (host, depth) = (lane.id.host, lane.depth());
            lane.share = left.as_mut().map_or(depth, |left| left.grant(host, depth));
        }
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
        for _ in 0..self.desk.backlog.retries(None) {
            if room == 0 {
                return;
            }
            let Some(mail) = self.desk.backlog.next_retry(None) else { return };
            let Some(mail) = self.desk.unless_expired(mail, now, handler) else { continue };
            match self.place_for(&mail, free, now) {
                Some((best, place)) if !self.waits_for_better(&mail, best, self.waiting) => {
                    self.deal_one(place, mail, now, handler);
                    room -= 1;
                }
                _ => {
                    self.waiting += 1;
                    self.desk.keep(mail);
                }
            }
        }
    }

    /// Deals mails that are bound to their hosts: those that were tried before, and where
    /// there is room for all that there are, the others, too. Else whoever came first is
    /// the first to be dealt. Says whether there was.
    fn deal_bound<H: Handler + ?Sized>(&mut self, free: &[usize], now: Instant, handler: &mut H) -> bool {
        let mut rooms = vec![0_usize; self.hosts];
        for place in free.iter().copied() {
            let Some(lane) = self.lanes.get(place) else { continue };
            if let Some(room) = rooms.get_mut(lane.id.host as usize) {
                *room += lane.share.saturating_sub(lane.dealt) as usize;
            }
        }
        let backlog = &self.desk.backlog;
        let fitting = rooms.iter().enumerate().map(|(host, room)| backlog.of(host).min(*room));
        let is_short = backlog.fresh(None) + fitting.sum::<usize>() < rooms.iter().sum();
        for (host, room) in rooms.into_iter().enumerate() {
            for _ in 0..room {
                let backlog = &mut self.desk.backlog;
                let retry = backlog.next_retry(Some(host));
                let mut fresh =
                    || if is_short { backlog.next_fresh(Some(host)).map(Mail::new) } else { None };
                let Some(mail) = retry.or_else(&mut fresh) else { break };
                let Some(mail) = self.desk.unless_expired(mail, now, handler) else { continue };
                match self.place_for(&mail, free, now) {
                    Some((_, place)) => self.deal_one(place, mail, now, handler),
                    None => {
                        self.desk.keep(mail);
                        break;
                    }
                }
            }
        }
        is_short
    }

    fn deal_one<H: Handler + ?Sized>(&mut self, place: usize, mail: Mail, now: Instant, handler: &mut H) {
        if let Some(lane) = self.lanes.get_mut(place) {
            self.allowance.begin(lane, &mail, now);
        }
        self.first_lane = (place + 1) % self.lanes.len();
        if let Some(mut judge) = self.judge(place, now, handler) {
            judge.deal(mail);
        }
    }

    /// The lane with room that is the best one for this mail.
    fn place_for(&self, mail: &Mail, free: &[usize], now: Instant) -> Option<(Fit, usize)> {
        let ideal = Fit::ideal(mail, self.hosts);
        let mut best: Option<(Fit, usize)> = None;
        for place in self.in_turn(free) {
            let Some(lane) = self.lanes.get(place).filter(|lane| lane.has_room()) else { continue };
            let fit = Fit::of(lane.id, mail);
            let is_fit = fit > Fit::Never && !self.allowance.is_dry(lane.id.host, now);
            if is_fit && best.is_none_or(|(known, _)| fit > known) {
                best = Some((fit, place));
            }
            if best.is_some_and(|(known, _)| known >= ideal) {
                break;
            }
        }
        best
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
        let is_better = |lane: &&Lane| Fit::of(lane.id, mail) > best;
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

    /// What comes back meanwhile belongs to the next batch. Hosts that no mail is bound to
    /// come first, as the others have some of their own.
    fn deal_fresh<H: Handler + ?Sized>(&mut self, free: &[usize], now: Instant, handler: &mut H) {
        if self.desk.backlog.bound() > 0 {
            for place in free.iter().copied() {
                let host = self.lanes.get(place).map_or(0, |lane| lane.id.host as usize);
                if self.desk.backlog.of(host) == 0 {
                    self.deal_fresh_to(place, now, handler);
                }
            }
        }
        for place in free.iter().copied() {
            self.deal_fresh_to(place, now, handler);
            let Some(mut judge) = self.judge(place, now, handler) else { continue };
            if judge.lane.dealt > 0 && !judge.lane.is_poised {
                judge.carry_out(SessionVerdict::Default, Setback::Other);
            }
        }
    }

    fn deal_fresh_to<H: Handler + ?Sized>(&mut self, place: usize, now: Instant, handler: &mut H) {
        let Some(lane) = self.lanes.get_mut(place).filter(|lane| lane.has_room()) else { return };
        self.muster.changed.mark(place);
        let host = lane.id.host;
        let mut judge = Judge { lane, desk: &mut self.desk, handler, now };
        while judge.lane.has_room() && !self.allowance.is_dry(host, now) {
            let mail = judge.desk.next_fresh_for(host as usize, now, &mut *judge.handler);
            let Some(mail) = mail else { return };
            self.allowance.begin(judge.lane, &mail, now);
            judge.deal(mail);
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
