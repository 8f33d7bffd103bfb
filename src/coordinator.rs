//! All connections, without any input or output: deals mails to the lanes,
//! judges what the sessions were answered, and decides what becomes of mails
//! and connections. It waits for nothing and moves no byte; whoever moves
//! bytes decides nothing. The two alternate, and the alternation is the
//! barrier of the lockstep.
//!
//! ```text
//!            ┌────────────── settle ──────────────┐
//!  take ──▶ backlog ── deal ──▶ lanes ── judge ──▶ report
//!               ▲                  │
//!               └──── requeue ─────┘
//! ```

mod allowance;
mod asking;
mod backlog;
mod barrier;
mod breaker;
mod compose;
mod control;
mod dealing;
mod delayed;
mod desk;
mod fate;
mod gate;
mod health;
mod idle;
mod judge;
mod lane;
mod learning;
mod mail;
mod manners;
mod muster;
mod opening;
mod places;
mod prospect;
mod recipients;
mod renewing;
mod rest;
mod standstill;
mod status;
mod steps;
mod terms;
mod throttle;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use allowance::Allowance;
pub use allowance::Limited;
pub use asking::NoReply;
use barrier::Barrier;
use dealing::MOST_PATIENCE;
pub use desk::BatchSettings;
use desk::Desk;
use gate::Gate;
use judge::Judge;
use lane::{Bench, Part};
pub use lane::{Lane, Link, Standing};
pub use manners::Lesson;
use muster::{Is, Muster, Survey};
use standstill::Look;
pub use status::{HostStatus, LaneStatus};

use crate::event::Handler;
use crate::host::{HostSettings, LaneId};
use crate::message::Message;
use crate::pace::Pace;
use crate::summary::Summary;
use crate::timeouts::after;

/// Most lanes that one coordinator drives.
pub const MAX_LANES: usize = 1_000_000;

/// What the coordinator stands at after a `settle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// A batch is between its deal and its end.
    pub batch_running: bool,
    /// Lanes that are in use, those that rest without a connection among them.
    pub active: usize,
    /// Lanes whose connection is being made or will be.
    pub opening: usize,
    /// Lanes whose first opening has not ended.
    pub untried: usize,
    /// Lanes that have a connection, or are making one.
    pub connected: usize,
    /// Lanes whose server waits for a content, with which the envelope of another
    /// mail could go: see [`Coordinator::set_feeding`].
    pub hungry: usize,
    /// When to settle again even if no byte moves.
    pub wake_at: Option<Instant>,
}

impl Progress {
    /// Whether no lane will ever send again unless restarted.
    pub fn is_retired(&self) -> bool {
        self.active == 0 && self.opening == 0
    }
}

/// Deals mails to lanes and decides what becomes of both.
///
/// Alternate [`Coordinator::settle`] with moving the bytes of the lanes'
/// sessions until [`Coordinator::is_step_over`].
#[derive(Debug)]
pub struct Coordinator {
    lanes: Vec<Lane>,
    desk: Desk,
    barrier: Barrier,
    allowance: Allowance,
    muster: Muster,
    /// Memory for lists of lanes.
    spare: Vec<usize>,
    free: Vec<usize>,
    /// Mails that wait for other lanes than those that are free.
    waiting: usize,
    /// Run the next batch even if it is short.
    flushing: bool,
    /// More messages are at hand than were taken.
    feeding: bool,
    /// No mail is dealt: see [`Coordinator::set_paused`].
    paused: bool,
    /// No message is taken, and what is held is sent: see [`Coordinator::set_draining`].
    draining: bool,
    /// No connection is to be made any more.
    closing: bool,
    /// How many hosts there are.
    hosts: usize,
    /// A host may have fewer connections than it has lanes.
    is_narrowed: bool,
    /// When it is to be looked whether all lanes stand still.
    still_at: Option<Instant>,
    look: Look,
    /// For how many mails lanes are open, or were opened since the last deal.
    called: usize,
    /// Where the next deal starts, so that a short batch wears all lanes alike.
    first_lane: usize,
    started: Instant,
}

impl Coordinator {
    /// A coordinator whose lanes all want to be opened. `hosts` must have
    /// [`MAX_LANES`] threads at most.
    pub fn new(hosts: Vec<HostSettings>, settings: BatchSettings, now: Instant) -> Coordinator {
        let hosts: Vec<Arc<HostSettings>> = hosts.into_iter().map(Arc::new).collect();
        let threads = hosts.iter().map(|host| host.threads).max().unwrap_or(0);
        let mut lanes = Vec::new();
        // Thread by thread, so that neighbours are of different hosts and a
        // short batch is spread over all of them.
        for thread in 0..threads {
            for (position, host) in (0..).zip(&hosts).filter(|(_, host)| thread < host.threads) {
                let id = LaneId { host: position, thread };
                lanes.push(Lane::new(id, Arc::clone(host), now));
            }
        }
        assert!(lanes.len() <= MAX_LANES, "too many lanes");
        let barrier = Barrier::new(settings.pace);
        let allowance = Allowance::new(&hosts, &settings, now);
        let desk = Desk::new(settings, &hosts, now);
        let hosts = hosts.len();
        Coordinator {
            muster: Muster::new(&lanes, hosts),
            spare: Vec::with_capacity(lanes.len()),
            free: Vec::with_capacity(lanes.len()),
            waiting: 0,
            lanes,
            desk,
            barrier,
            allowance,
            hosts,
            is_narrowed: false,
            still_at: None,
            look: Look::None,
            called: 0,
            flushing: false,
            feeding: false,
            paused: false,
            draining: false,
            closing: false,
            first_lane: 0,
            started: now,
        }
    }

    // ---- the caller's side ------------------------------------------------

    /// Whether another message can be taken: no more are held than all lanes
    /// together may hold, and in [`Pace::Free`] a quarter of
    /// that besides. Those that wait for the one host that they may go to are counted
    /// for themselves: see [`Coordinator::has_room_for`].
    pub fn has_room(&self) -> bool {
        !self.draining && self.desk.has_room()
    }

    /// Whether there is room for this one: of those that may go to one host alone no
    /// more wait than the host's lanes may hold.
    pub fn has_room_for(&self, message: &Message) -> bool {
        !self.draining && self.desk.has_room_for(message)
    }

    /// Takes a message, or gives it back when there is no room.
    pub fn take(&mut self, message: Message, now: Instant) -> Result<(), Message> {
        if !self.has_room() && !self.has_room_for(&message) {
            return Err(message);
        }
        self.desk.take(message, now);
        Ok(())
    }

    /// Messages that have been taken and whose fate is not final.
    pub fn open_mails(&self) -> u64 {
        self.desk.open()
    }

    /// Whether a server waits for a content, or for the rest of one, or a content
    /// for its reply, that of a straggler excepted. Where the pace is free nobody
    /// waits for such things.
    pub fn is_in_content(&self) -> bool {
        let is_in = |lane: &Lane| match lane.part {
            Part::Alone => lane.session.owes_content(),
            Part::Batch | Part::None => lane.session.is_in_content(),
        };
        !self.desk.settings.pace.is_free()
            && self.lanes.iter().any(|lane| lane.link == Link::Up && is_in(lane))
    }

    /// Messages that wait before they are tried again, as their servers have put them
    /// off. They have no part in [`Coordinator::has_room`].
    pub fn delayed(&self) -> usize {
        self.desk.delayed.len()
    }

    /// Reports those as abandoned, each with what its server said.
    pub fn abandon_delayed<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        self.desk.abandon_delayed(handler);
        self.assert_ledger();
        self.desk.go_on_panicking();
    }

    /// Messages that wait for a lane.
    pub fn backlog(&self) -> usize {
        self.desk.backlog.len()
    }

    /// Whether to run batches that are short, until told otherwise.
    pub fn set_flushing(&mut self, flushing: bool) {
        self.flushing = flushing;
    }

    /// Whether the caller has more messages at hand. A lane whose server waits for
    /// a content then waits for the next message, whose envelope goes with it
    /// (level 2 without CHUNKING): [`Progress::hungry`] says how many do, and
    /// another `settle` is due when they were taken, or there are none.
    pub fn set_feeding(&mut self, feeding: bool) {
        self.feeding = feeding;
    }

    /// What has been learnt about a host, by its position, and not been told yet.
    pub fn take_lesson(&mut self) -> Option<(u32, Lesson)> {
        self.desk.lessons.pop()
    }

    /// Whether a batch is running or would begin at the next settle.
    pub fn is_batch_due(&self, now: Instant) -> bool {
        self.desk.batch_running || self.is_batch_wanted(now)
    }

    /// Who waits for whom.
    pub fn pace(&self) -> Pace {
        self.desk.settings.pace
    }

    /// Opens every connection anew, retired lanes included. What is in a
    /// transaction is put back without an attempt, except where the whole
    /// content is out: there the reply is awaited first.
    pub fn restart(&mut self) {
        self.closing = false;
        self.desk.gates.iter_mut().for_each(Gate::reopen);
        (0..).take(self.hosts).for_each(|host| self.desk.wake_host(host));
        self.lanes.iter_mut().for_each(|lane| lane.renew = true);
        self.muster.changed.mark_all();
    }

    /// Opens one lane anew, as [`Coordinator::restart`] does all; `false` when
    /// there is no such lane.
    pub fn reconnect(&mut self, id: LaneId) -> bool {
        let Some(place) = self.lanes.iter().position(|lane| lane.id == id) else { return false };
        self.closing = false;
        if let Some(gate) = self.desk.gate(id) {
            gate.reopen();
        }
        self.desk.wake_host(id.host);
        self.change(place).map(|lane| lane.renew = true).is_some()
    }

    /// Ends all sessions, with QUIT where that is fit. Lanes that hold a mail
    /// are left alone: [`Coordinator::abort`] is for those.
    pub fn say_goodbye(&mut self, now: Instant) {
        self.closing = true;
        for lane in self.lanes.iter_mut().filter(|lane| lane.mails.is_empty()) {
            lane.renew = false;
            lane.retire(now);
        }
        self.muster.changed.mark_all();
    }

    /// Closes all connections at once and gives up every message: those of
    /// which nothing is final are returned, the others reported; those whose
    /// whole content is out and unanswered are reported in doubt. Where a
    /// callback panics nothing is returned: another call does that.
    pub fn abort<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) -> Vec<Message> {
        self.cut_off(now, handler);
        let returned = self.desk.surrender(handler);
        self.assert_ledger();
        self.desk.go_on_panicking();
        returned
    }

    /// Like [`Coordinator::abort`], but what would be returned is reported
    /// unsent.
    pub fn abandon<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.cut_off(now, handler);
        self.desk.report_unsent(handler);
        self.assert_ledger();
        self.desk.go_on_panicking();
    }

    /// The counters as they are at `now`.
    pub fn summary(&self, now: Instant) -> Summary {
        let mut summary = self.desk.summary.clone();
        summary.elapsed = now.saturating_duration_since(self.started);
        for (host, manners) in summary.hosts.iter_mut().zip(&self.desk.manners) {
            host.pipeline = manners.most();
        }
        for lane in &self.lanes {
            summary.bytes += lane.bytes();
            if let Some(host) = summary.hosts.get_mut(lane.id.host as usize) {
                host.bytes += lane.bytes();
            }
        }
        summary
    }

    // ---- the side that moves bytes ----------------------------------------

    /// All lanes.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// All lanes, to move their bytes. The next `settle` looks at each of them; where
    /// there are many, ask for them one by one.
    pub fn lanes_mut(&mut self) -> &mut [Lane] {
        self.muster.moved.mark_all();
        &mut self.lanes
    }

    /// The lane at this place, to move its bytes. Say so when they were:
    /// [`Coordinator::moved`].
    pub fn lane_mut(&mut self, place: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(place)
    }

    /// Bytes of the lane at this place were moved, or its connection was made or lost.
    /// The next `settle` looks at it if that may be of interest.
    pub fn moved(&mut self, place: usize) {
        let is_of_interest = |lane: &Lane| lane.link != Link::Up || lane.session.is_over() || lane.renew;
        if self.lanes.get(place).is_some_and(is_of_interest) {
            self.muster.moved.mark(place);
        }
    }

    /// Puts the places of all lanes that are different since this was asked last into
    /// `list`: those that may have something to write, and a connection to be made or
    /// closed.
    pub fn take_stirred(&mut self, list: &mut Vec<usize>) {
        self.muster.stirred.take(list);
    }

    /// Whether there is something to settle: the batch has waited long enough for
    /// its lanes to finish their step, or a lane that nobody waits for has finished its.
    pub fn is_step_over(&mut self, now: Instant) -> bool {
        let is_open = self.is_barrier_open(now);
        let is_due = |lane: &Lane| lane.is_judgeable() && (is_open || lane.part != Part::Batch);
        self.muster.moved.iter().any(|place| self.lanes.get(place).is_some_and(is_due))
    }

    /// When the step will be over even if no byte moves: see
    /// [`Pace::Quorum`].
    pub fn step_over_at(&self) -> Option<Instant> {
        self.barrier.opens_at()
    }

    fn is_barrier_open(&mut self, now: Instant) -> bool {
        if self.muster.has_no_batch() {
            self.barrier.shut();
            return true;
        }
        if self.desk.settings.pace == Pace::Lockstep {
            return !self.lanes.iter().any(Lane::is_waited_for);
        }
        let (mut finished, mut late) = (0, 0);
        for lane in self.lanes.iter().filter(|lane| lane.part == Part::Batch) {
            *(if lane.session.is_over() { &mut finished } else { &mut late }) += 1;
        }
        self.barrier.is_open(finished, late, now)
    }

    // ---- settle -----------------------------------------------------------

    /// Judges every step that is over, ends and deals batches, and decides
    /// which connections to make. `handler` is asked about each event, and is
    /// given the report of each message whose fate is final. Where it panics,
    /// the panic goes on when all is settled.
    pub fn settle<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) -> Progress {
        self.desk.now = now;
        self.desk.release_delayed(handler);
        self.judge_moved(now, handler);
        self.end_standstill(now, handler);
        self.waiting = 0;
        // Each turn changes what the next one sees; none comes twice without
        // a mail that went on or a restart that was used up.
        let survey = loop {
            if !self.desk.failures.is_empty() {
                // Before a restart: it opens anew those that fail with another one, too.
                self.survey(now);
                self.note_failures(now, handler);
            }
            if std::mem::take(&mut self.desk.restart_now) {
                self.restart_all(now, handler);
            }
            let survey = self.survey(now);
            if self.desk.restart_at_batch_end && !survey.has(Is::InBatch) && !survey.has(Is::Alone) {
                self.end_batch(now);
                self.desk.restart_now = true;
            } else if survey.has(Is::Renewable) {
                self.renew_lanes(now, handler);
            } else if self.is_batch_over(&survey) {
                self.end_batch(now);
            } else if survey.has(Is::AtGate) && self.pass_gates(now, handler) {
                // Before the deal, so that those who fail with the one that tried
                // do not sit out a batch that it is spared.
            } else if survey.must_open(now) && !self.closing {
                self.open_lanes(now);
            } else if self.gives_up_places(now) {
                // Others may have them.
            } else if survey.has(Is::Poised) {
                if self.goes_hungry(&survey, now) {
                    break survey;
                }
                self.send_contents(&survey, now, handler);
            } else if survey.has(Is::Asking) {
                self.ask_away(now);
            } else if self.wakes_lanes(&survey, now) {
                // They are dealt mails when they are up.
            } else if self.is_deal_due(now, &survey) {
                self.deal(now, handler);
            } else if self.is_noop_due(&survey, now) {
                self.say_noops(now);
            } else if self.lets_rest(&survey, now) {
                // What they say is not waited for.
            } else if !self.desk.restart_now && self.desk.failures.is_empty() {
                break survey;
            }
        };
        self.look_after_bound(&survey, now, handler);
        self.desk.tell_news(handler);
        self.desk.gates.iter_mut().for_each(Gate::told);
        debug_assert!(self.is_mustered(), "a lane was changed unnoticed");
        self.desk.assert_ledger(survey.held);
        self.desk.go_on_panicking();
        let still_at = self.watch_standstill(&survey, now);
        let progress = self.progress(&survey, now);
        Progress { wake_at: earliest(progress.wake_at, still_at), ..progress }
    }

    /// Judges what is over on lanes that bytes were moved for. Where the batch goes on
    /// without those that are late, they are on their own from now on.
    fn judge_moved<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        let is_open = self.is_barrier_open(now);
        if is_open {
            self.barrier.shut();
        }
        if is_open && !self.muster.has_no_batch() && self.pace() != Pace::Lockstep {
            for place in 0..self.lanes.len() {
                let is_late = self.lanes.get(place).is_some_and(Lane::is_waited_for);
                if let Some(lane) = self.change(place).filter(|_| is_late) {
                    lane.part = Part::Alone;
                }
            }
        }
        let mut moved = std::mem::take(&mut self.spare);
        self.muster.moved.take(&mut moved);
        if !self.pace().is_free() {
            moved.sort_unstable();
        }
        for place in moved.iter().copied() {
            let Some(mut judge) = self.judge(place, now, handler) else { continue };
            if judge.lane.is_judgeable() && (is_open || judge.lane.part != Part::Batch) {
                judge.judge();
            }
        }
        self.spare = moved;
    }

    /// The lane at this place, which is about to be changed.
    fn change(&mut self, place: usize) -> Option<&mut Lane> {
        self.muster.changed.mark(place);
        self.lanes.get_mut(place)
    }

    /// What judges the lane at this place.
    fn judge<'a, H: ?Sized>(
        &'a mut self,
        place: usize,
        now: Instant,
        handler: &'a mut H,
    ) -> Option<Judge<'a, H>> {
        self.muster.changed.mark(place);
        let lane = self.lanes.get_mut(place)?;
        Some(Judge { lane, desk: &mut self.desk, handler, now })
    }

    /// A restart that is to come waits for the stragglers, too.
    fn is_batch_over(&self, survey: &Survey) -> bool {
        let is_waited_for =
            survey.has(Is::InBatch) || (self.desk.restart_at_batch_end && survey.has(Is::Alone));
        self.desk.batch_running && !is_waited_for
    }

    fn end_batch(&mut self, now: Instant) {
        let was_running = std::mem::take(&mut self.desk.batch_running);
        self.desk.summary.batches += u64::from(was_running);
        if self.desk.backlog.len() > 0 {
            self.desk.waiting_since.get_or_insert(now);
        }
        if self.desk.restart_at_batch_end {
            return;
        }
        self.muster.changed.mark_all();
        for lane in &mut self.lanes {
            match lane.bench.take() {
                Some(_) if lane.renew => {}
                Some(Bench::Rejoin) if lane.is_rejoinable() => {
                    lane.enter(self.desk.must_authenticate(lane.id))
                }
                Some(Bench::Rejoin) => lane.reopen(now, now),
                Some(Bench::Reopen(wait)) => lane.reopen(after(now, wait), now),
                None => {}
            }
        }
    }

    fn progress(&self, survey: &Survey, now: Instant) -> Progress {
        let mut wake_at = earliest(survey.reopen_at.filter(|_| !self.closing), survey.gate_opens_at);
        wake_at = earliest(wake_at, self.desk.delayed.due().filter(|_| !self.closing));
        if !self.paused && !self.desk.batch_running && self.desk.backlog.len() > 0 && survey.all_room() > 0 {
            wake_at = earliest(wake_at, self.linger_over().filter(|at| *at > now));
            wake_at = earliest(wake_at, self.allowed_at(now));
        }
        wake_at = earliest(wake_at, self.noop_at(survey));
        if self.waiting > 0 {
            wake_at = earliest(wake_at, Some(after(now, MOST_PATIENCE)));
        }
        let active = survey.lanes(Is::Active) + survey.lanes(Is::AtRest);
        Progress {
            batch_running: self.desk.batch_running,
            active,
            opening: self.lanes.len() - active - survey.lanes(Is::Retired),
            untried: survey.lanes(Is::Untried),
            connected: survey.lanes(Is::Connected),
            hungry: if self.goes_hungry(survey, now) { survey.lanes(Is::Poised) } else { 0 },
            wake_at,
        }
    }

    fn assert_ledger(&self) {
        self.desk.assert_ledger(self.lanes.iter().map(Lane::held).sum());
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
