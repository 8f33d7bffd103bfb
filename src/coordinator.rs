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

mod asking;
mod compose;
mod dealing;
mod desk;
mod fate;
mod gate;
mod judge;
mod lane;
mod learning;
mod mail;
mod manners;
mod opening;
mod recipients;
mod terms;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

pub use asking::NoReply;
pub use desk::BatchSettings;
use desk::Desk;
use gate::Gate;
use judge::Judge;
use lane::Bench;
pub use lane::{Lane, Link, Standing};
pub use manners::Lesson;

use crate::event::{Handler, SessionVerdict};
use crate::host::{HostSettings, LaneId};
use crate::message::Message;
use crate::summary::Summary;
use crate::timeouts::after;

/// Most lanes that one coordinator drives.
pub const MAX_LANES: usize = 1_000_000;

/// What the coordinator stands at after a `settle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// A batch is between its deal and its end.
    pub batch_running: bool,
    /// Lanes that are in use.
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
    /// Run the next batch even if it is short.
    flushing: bool,
    /// More messages are at hand than were taken.
    feeding: bool,
    /// No connection is to be made any more.
    closing: bool,
    /// How many hosts there are.
    hosts: usize,
    /// How many mails free lanes could be dealt at the last settle.
    room: usize,
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
        let capacity = hosts.iter().map(|host| host.threads as usize * host.most_held()).sum();
        let desk = Desk::new(settings, capacity, &hosts);
        let hosts = hosts.len();
        Coordinator {
            lanes,
            desk,
            hosts,
            room: 0,
            flushing: false,
            feeding: false,
            closing: false,
            first_lane: 0,
            started: now,
        }
    }

    // ---- the caller's side ------------------------------------------------

    /// Whether another message can be taken: no more are held than all lanes
    /// together may hold.
    pub fn has_room(&self) -> bool {
        self.desk.has_room()
    }

    /// Takes a message, or gives it back when there is no room.
    pub fn take(&mut self, message: Message, now: Instant) -> Result<(), Message> {
        if !self.has_room() {
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
    /// for its reply.
    pub fn is_in_content(&self) -> bool {
        self.lanes.iter().any(|lane| lane.link == Link::Up && lane.session.is_in_content())
    }

    /// Messages that wait for a lane.
    pub fn backlog(&self) -> usize {
        self.desk.backlog()
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
        self.desk.batch_running || self.is_deal_due(now, self.room)
    }

    /// Opens every connection anew, retired lanes included. What is in a
    /// transaction is put back without an attempt, except where the whole
    /// content is out: there the reply is awaited first.
    pub fn restart(&mut self) {
        self.closing = false;
        self.desk.gates.iter_mut().for_each(Gate::reopen);
        self.lanes.iter_mut().for_each(|lane| lane.renew = true);
    }

    /// Opens one lane anew, as [`Coordinator::restart`] does all; `false` when
    /// there is no such lane.
    pub fn reconnect(&mut self, id: LaneId) -> bool {
        let lane = self.lanes.iter_mut().find(|lane| lane.id == id);
        self.closing &= lane.is_none();
        if let Some(gate) = self.desk.gate(id) {
            gate.reopen();
        }
        lane.map(|lane| lane.renew = true).is_some()
    }

    /// Ends all sessions, with QUIT where that is fit. Lanes that hold a mail
    /// are left alone: [`Coordinator::abort`] is for those.
    pub fn say_goodbye(&mut self, now: Instant) {
        self.closing = true;
        for lane in self.lanes.iter_mut().filter(|lane| lane.mails.is_empty()) {
            lane.renew = false;
            lane.retire(now);
        }
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

    /// All lanes, to move their bytes.
    pub fn lanes_mut(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    /// Whether there is something to settle: every lane in the batch has
    /// finished its step, or a lane outside of it has.
    pub fn is_step_over(&self) -> bool {
        let waited_for = self.lanes.iter().any(Lane::is_waited_for);
        self.lanes.iter().any(|lane| lane.is_judgeable() && !(lane.in_batch && waited_for))
    }

    // ---- settle -----------------------------------------------------------

    /// Judges every step that is over, ends and deals batches, and decides
    /// which connections to make. `handler` is asked about each event, and is
    /// given the report of each message whose fate is final. Where it panics,
    /// the panic goes on when all is settled.
    pub fn settle<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) -> Progress {
        let waited_for = self.lanes.iter().any(Lane::is_waited_for);
        for lane in &mut self.lanes {
            if lane.is_judgeable() && !(lane.in_batch && waited_for) {
                Judge { lane, desk: &mut self.desk, handler: &mut *handler, now }.judge();
            }
        }
        // Each turn changes what the next one sees; none comes twice without
        // a mail that went on or a restart that was used up.
        let survey = loop {
            if std::mem::take(&mut self.desk.restart_now) {
                self.restart_all(now, handler);
            }
            let survey = self.survey();
            if survey.renewable {
                self.renew_lanes(now, handler);
            } else if self.desk.batch_running && !survey.in_batch {
                self.end_batch(now);
            } else if survey.waits_at_gate && self.pass_gates(now, handler) {
                // Before the deal, so that those who fail with the one that tried
                // do not sit out a batch that it is spared.
            } else if survey.must_open(now) && !self.closing {
                self.open_lanes(now);
            } else if survey.poised > 0 {
                if self.goes_hungry(&survey) {
                    break survey;
                }
                self.send_contents(&survey, now, handler);
            } else if survey.wants_to_ask {
                self.ask_away(now);
            } else if self.is_deal_due(now, survey.room) {
                self.deal(now, handler);
            } else if !self.desk.restart_now {
                break survey;
            }
        };
        self.room = survey.room;
        self.desk.gates.iter_mut().for_each(Gate::told);
        self.desk.assert_ledger(survey.held);
        self.desk.go_on_panicking();
        self.progress(&survey, now)
    }

    /// Looks at every lane once.
    fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for lane in &self.lanes {
            survey.held += lane.held();
            survey.active += usize::from(lane.standing == Standing::Active);
            survey.retired += usize::from(lane.standing == Standing::Retired);
            survey.untried += usize::from(!lane.was_tried || lane.renew);
            survey.in_batch |= lane.in_batch;
            survey.wants_to_ask |= lane.wants_to_ask();
            survey.poised += usize::from(lane.is_poised);
            survey.is_busy |= lane.in_batch && !lane.is_poised;
            survey.room += if lane.is_free() { lane.depth() as usize } else { 0 };
            if lane.waits_at_gate {
                survey.waits_at_gate = true;
                let gate = self.desk.gates.get(lane.id.host as usize);
                survey.gate_opens_at = earliest(survey.gate_opens_at, gate.and_then(Gate::opens_at));
            }
            survey.renewable |= lane.is_renewable();
            if lane.link == Link::Down {
                survey.reopen_at = earliest(survey.reopen_at, lane.reopen_at);
            } else {
                survey.connected += 1;
            }
        }
        survey
    }

    fn end_batch(&mut self, now: Instant) {
        self.desk.batch_running = false;
        self.desk.summary.batches += 1;
        if self.desk.backlog() > 0 {
            self.desk.waiting_since.get_or_insert(now);
        }
        if std::mem::take(&mut self.desk.restart_at_batch_end) {
            self.desk.restart_now = true;
            return;
        }
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

    /// A callback's restart: every lane is opened anew. Those that are being
    /// opened are left to it, and nothing is counted against them, nor a
    /// second time against those that wait to be opened.
    fn restart_all<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.desk.count_restart();
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_being_opened()) {
            lane.renew = true;
            lane.setbacks += u32::from(!lane.is_to_be_opened());
        }
        self.renew_lanes(now, handler);
        // Whoever asked for one meanwhile, or for the end of the batch, has had it.
        self.desk.restart_now = false;
        self.desk.restart_at_batch_end = false;
    }

    /// Opens anew the lanes for which that was decided. Their answers are
    /// judged first, whether or not the others have theirs; a content that is
    /// out keeps its connection until it is answered.
    fn renew_lanes<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_renewable()) {
            let is_mid_flight = !lane.session.is_over();
            let mut judge = Judge { lane, desk: &mut self.desk, handler: &mut *handler, now };
            let mut said = SessionVerdict::Default;
            if judge.lane.is_judgeable() {
                judge.judge();
            } else if is_mid_flight {
                said = judge.judge_answers();
            }
            let is_in_doubt = judge.lane.session.has_doubt();
            if !is_in_doubt {
                judge.release(false);
            }
            // Behind the reports, as always: a mail that is finished allows restarts anew.
            judge.act_on_others(said);
            if is_in_doubt {
                continue;
            }
            lane.renew = false;
            let wait = std::mem::take(&mut lane.renew_wait);
            if !lane.is_being_opened() {
                lane.reopen(after(now, wait), now);
                lane.was_tried = false;
            }
        }
    }

    fn progress(&self, survey: &Survey, now: Instant) -> Progress {
        let mut wake_at = earliest(survey.reopen_at.filter(|_| !self.closing), survey.gate_opens_at);
        if !self.desk.batch_running && self.desk.backlog() > 0 && survey.room > 0 {
            wake_at = earliest(wake_at, self.linger_over().filter(|at| *at > now));
        }
        Progress {
            batch_running: self.desk.batch_running,
            active: survey.active,
            opening: self.lanes.len() - survey.active - survey.retired,
            untried: survey.untried,
            connected: survey.connected,
            hungry: if self.goes_hungry(survey) { survey.poised } else { 0 },
            wake_at,
        }
    }

    fn assert_ledger(&self) {
        self.desk.assert_ledger(self.lanes.iter().map(Lane::held).sum());
    }

    /// Closes everything; what is in doubt is reported, the rest put back.
    fn cut_off<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.closing = true;
        for lane in &mut self.lanes {
            Judge { lane, desk: &mut self.desk, handler: &mut *handler, now }.cut_off();
            lane.renew = false;
        }
        self.desk.batch_running = false;
        self.desk.restart_now = false;
        self.desk.restart_at_batch_end = false;
    }
}

/// What the lanes add up to.
#[derive(Default)]
struct Survey {
    held: usize,
    /// Mails that free lanes could be dealt.
    room: usize,
    /// Lanes whose server waits for a content, which is not sent yet.
    poised: usize,
    wants_to_ask: bool,
    /// A lane of the batch does something else.
    is_busy: bool,
    active: usize,
    retired: usize,
    untried: usize,
    connected: usize,
    in_batch: bool,
    waits_at_gate: bool,
    gate_opens_at: Option<Instant>,
    renewable: bool,
    reopen_at: Option<Instant>,
}

impl Survey {
    fn must_open(&self, now: Instant) -> bool {
        self.reopen_at.is_some_and(|at| at <= now)
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
