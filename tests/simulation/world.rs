//! The world of one run: the coordinator, a wire per lane, virtual time, and
//! the caller. It alternates sweeps and settles as the mailer does, jumps to
//! the next thing that is due, and ends the run when nothing is open any more.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use smtp_bulk::coordinator::{BatchSettings, Coordinator, Lane, Link, Progress, Standing};
use smtp_bulk::host::{HostSettings, SHORTEST_QUIET};
use smtp_bulk::session::MailTag;
use smtp_bulk::{Failure, Message, Pace, Step};

use super::callbacks::{Callbacks, Misstep, Panicked};
use super::effects::Effects;
use super::faults::Scene;
use super::logins::Logins;
use super::orders::Standings;
use super::plan::{Call, Chances, MailPlan, Odds, Opinion, Plan};
use super::truth::{Place, Truth};
use super::wire::Wire;

/// Settles within which every run has to end.
const MOST_SETTLES: u32 = 50_000;

/// Passes over the lanes within which every run has to end.
const MOST_PASSES: u32 = 2_000_000;

/// What the caller is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Sending,
    Flushing,
    Leaving,
    Done,
}

pub struct World {
    coordinator: Coordinator,
    wires: Vec<Wire>,
    hosts: Vec<HostSettings>,
    truth: Truth,
    effects: Effects,
    logins: Logins,
    /// Lanes that were left in the middle of AUTH, or before the reply to NOOP, at the end.
    cut_short: u64,
    random: Rng,
    odds: Odds,
    opinion: Opinion,
    always: Option<(Step, u16)>,
    mails: Vec<Option<MailPlan>>,
    next_mail: usize,
    next_mail_at: Duration,
    calls: Vec<(Duration, Call)>,
    revivals: u32,
    faultless: bool,
    abandons: bool,
    most_delayed: Option<usize>,
    /// What is ordered while all goes on, and the rates.
    orders: Standings,
    /// A mail may have to wait although a lane is free.
    holds_back: bool,
    flies: bool,
    feeds: bool,
    asks_for_room: bool,
    epoch: Instant,
    now: Duration,
    phase: Phase,
    progress: Option<Progress>,
    settle_wanted: bool,
    settles: u32,
    passes: u32,
    /// Settles in a row after which there was something to settle.
    unsettled: u32,
}

/// Nobody who rests says nothing for too long.
fn check_quiet(lanes: &[Lane], now: Instant) {
    for lane in lanes.iter().filter(|lane| lane.standing() == Standing::Active && lane.held() == 0) {
        let is_ready = lane.session().is_ready() && !lane.session().has_answer();
        let quiet = lane.host().noop_after.map(|quiet| quiet.max(SHORTEST_QUIET)).filter(|_| is_ready);
        let heard_at = lane.session().heard_at().unwrap_or(now);
        assert!(
            quiet.is_none_or(|quiet| heard_at + quiet > now),
            "{:?} has been quiet for too long",
            lane.id()
        );
    }
}

/// Whether a mail may have to wait although a lane is free.
fn holds_back(hosts: &[HostSettings], settings: &BatchSettings) -> bool {
    let by_host = |host: &HostSettings| {
        let has_rate = host.rate.is_some() || host.byte_rate.is_some();
        has_rate || host.weight.is_some() || host.auto_throttle || host.circuit_breaker.is_some()
    };
    let all = settings.total_rate.is_some() || settings.total_sessions.is_some();
    all || settings.total_byte_rate.is_some() || hosts.iter().any(by_host)
}

/// How much a run had to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    pub settles: u64,
    pub mails: u64,
    pub delivered: u64,
}

/// Runs what `seed` says, and panics where an oracle finds fault.
pub fn run(seed: u64, trace: bool) -> Effort {
    let mut world = World::new(seed, trace);
    while world.phase != Phase::Done {
        world.step();
    }
    world.audit()
}

impl World {
    fn new(seed: u64, trace: bool) -> World {
        let mut random = Rng::with_seed(seed);
        // Everything else is a distance from it, so that no run depends on it.
        let epoch = Instant::now();
        let plan = Plan::draw(&mut random, Chances::new(seed), epoch);
        let settings = plan.settings;
        let mut truth = Truth::new(&plan.mails, &settings, trace);
        truth.note(|| format!("seed {seed}\n{:#?}\n{:?}\n{settings:?}", plan.odds, plan.opinion));
        truth.note(|| format!("always {:?}, calls {:?}\n{:?}", plan.always, plan.calls, plan.hosts));
        truth.note(|| format!("{:?}, of hosts {:?}; orders {:?}", plan.accounts, plan.own, plan.orders));
        truth.trace = trace;
        let hosts = plan.hosts.clone();
        let may_rest = hosts.iter().any(|host| host.circuit_breaker.is_some());
        let holds_back = holds_back(&hosts, &settings) || plan.mails.iter().any(MailPlan::is_bound);
        let mut logins = Logins::new(plan.accounts, &plan.own, &hosts);
        let coordinator = Coordinator::new(plan.hosts, settings.clone(), epoch);
        let lanes = coordinator.lanes();
        logins.has_lanes(lanes);
        truth.has_lanes(lanes.iter().map(|lane| lane.id().host).collect(), may_rest);
        let has_own = plan.mails.iter().map(MailPlan::has_own).collect();
        let effects = Effects::new(lanes, &hosts, &settings, has_own, plan.flies);
        let lane_hosts = lanes.iter().map(|lane| lane.host().clone()).collect();
        let wires = (0..lanes.len()).map(|lane| Wire::new(lane, epoch)).collect();
        World {
            coordinator,
            wires,
            hosts: lane_hosts,
            truth,
            effects,
            logins,
            cut_short: 0,
            random,
            odds: plan.odds,
            opinion: plan.opinion,
            always: plan.always,
            mails: plan.mails.into_iter().map(Some).collect(),
            next_mail: 0,
            next_mail_at: Duration::ZERO,
            calls: plan.calls,
            revivals: plan.revivals,
            faultless: plan.faultless,
            abandons: plan.abandons,
            orders: Standings::new(
                plan.orders,
                hosts.iter().map(|host| host.rate).chain([settings.total_rate]),
            ),
            most_delayed: match settings.max_delayed {
                // What is for a host that rests waits, too.
                None if settings.retry_delay.is_zero() && !may_rest => Some(0),
                most => most,
            },
            holds_back,
            flies: plan.flies,
            feeds: plan.feeds,
            asks_for_room: plan.asks_for_room,
            epoch,
            now: Duration::ZERO,
            phase: Phase::Sending,
            progress: None,
            settle_wanted: true,
            settles: 0,
            passes: 0,
            unsettled: 0,
        }
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    fn step(&mut self) {
        self.passes += 1;
        assert!(self.passes < MOST_PASSES, "no end after {MOST_PASSES} passes");
        self.act_from_outside();
        let moved = self.sweep();
        let now = self.instant();
        if !moved {
            self.coordinator.has_looked(now);
        }
        let due = self.progress.and_then(|progress| progress.wake_at).is_some_and(|at| at <= self.instant());
        let needless = self.random.f64() < self.odds.needless_settle;
        let now = self.instant();
        self.effects.look_at_barrier(self.coordinator.lanes(), self.now);
        let over = self.coordinator.is_step_over(now) && (self.random.bool() || !moved);
        if self.settle_wanted || over || due || needless {
            self.settle();
            self.choose_phase();
        } else if !moved {
            self.jump();
        }
    }

    // ---- the caller -------------------------------------------------------

    fn act_from_outside(&mut self) {
        while self.calls.first().is_some_and(|(at, _)| *at <= self.now) && self.phase != Phase::Leaving {
            let (_, call) = self.calls.remove(0);
            let now = self.now;
            self.truth.note(|| format!("{now:?} call {call:?}"));
            self.settle_wanted = true;
            match call {
                Call::Flush(flushing) => self.coordinator.set_flushing(flushing),
                Call::Restart => self.restart(),
                Call::Abort => {
                    self.give_up();
                    self.restart();
                }
                Call::Reconnect(lane) => {
                    let id = self.coordinator.lanes()[lane].id();
                    assert!(self.coordinator.reconnect(id));
                    self.effects.reconnect_called(lane);
                    self.logins.reopened(Some(lane));
                }
                Call::Authenticate(account) => self.authenticate(account),
            }
        }
        let (now, is_leaving) = (self.now, self.phase == Phase::Leaving);
        while !is_leaving && let Some(order) = self.orders.obey_next(&mut self.coordinator, now, self.epoch) {
            self.truth.note(|| format!("{now:?} order {order:?}"));
            self.settle_wanted = true;
        }
        if self.orders.is_drained_for_good() {
            self.next_mail = self.mails.len();
        }
        while self.has_mail_at_hand() && self.has_room() {
            self.send_next();
            if self.feeds && self.random.bool() {
                break;
            }
        }
        if self.feeds {
            // What finds no room is not at hand.
            let feeding = self.has_mail_at_hand() && (!self.asks_for_room || self.has_room());
            self.coordinator.set_feeding(feeding);
            self.settle_wanted |= self.progress.is_some_and(|progress| progress.hungry > 0);
        }
    }

    fn has_mail_at_hand(&self) -> bool {
        let is_left = self.mails.get(self.next_mail).is_some_and(Option::is_some);
        self.phase == Phase::Sending && self.next_mail_at <= self.now && is_left
    }

    /// Whether the next mail can be taken.
    fn has_room(&self) -> bool {
        let next = self.mails.get(self.next_mail).and_then(Option::as_ref).filter(|_| self.asks_for_room);
        match next {
            Some(mail) => self.coordinator.has_room_for(&mail.message),
            None => self.coordinator.has_room(),
        }
    }

    fn restart(&mut self) {
        self.coordinator.restart();
        self.effects.restart_called();
        self.logins.reopened(None);
    }

    fn authenticate(&mut self, account: usize) {
        let renewed = self.logins.change(account, self.coordinator.lanes());
        renewed.into_iter().for_each(|lane| self.effects.reconnect_called(lane));
        let now = self.epoch + self.now;
        self.coordinator.authenticate(&self.logins.accounts[account].credentials, now);
        self.effects.credentials_came(self.coordinator.lanes());
    }

    /// Takes one mail.
    fn send_next(&mut self) {
        let number = self.next_mail;
        let Some(mail) = self.mails.get_mut(number).and_then(Option::take) else { return };
        self.next_mail += 1;
        let now = self.instant();
        assert!(self.coordinator.take(mail.message, now).is_ok(), "there was room");
        self.truth.taken(number);
        self.settle_wanted = true;
        if self.random.f64() < self.odds.delay / 4.0 {
            self.next_mail_at = self.now + Duration::from_millis(self.random.u64(0..3_000));
        }
    }

    fn choose_phase(&mut self) {
        let open = self.coordinator.open_mails();
        let all_sent = self.next_mail == self.mails.len();
        let retired = self.progress.is_some_and(|progress| progress.is_retired());
        if self.phase == Phase::Leaving {
            if self.coordinator.lanes().iter().all(|lane| lane.link() == Link::Down) {
                self.phase = Phase::Done;
            }
        } else if all_sent
            && open > 0
            && open == self.coordinator.delayed() as u64
            && self.random.u8(0..8) == 0
        {
            self.abandon_delayed();
        } else if all_sent && open == 0 {
            let now = self.instant();
            let is_in_auth = |lane: &&Lane| lane.session().is_authenticating();
            let is_at_noop = |lane: &&Lane| lane.session().step() == Step::Noop;
            let lanes = self.coordinator.lanes().iter();
            self.cut_short = lanes.filter(|lane| is_in_auth(lane) || is_at_noop(lane)).count() as u64;
            self.coordinator.say_goodbye(now);
            self.effects.closed();
            self.phase = Phase::Leaving;
            self.settle_wanted = true;
        } else if retired && self.revivals > 0 {
            self.revivals -= 1;
            if !self.logins.accounts.is_empty() && !self.faultless && self.random.bool() {
                let account = self.random.usize(0..self.logins.accounts.len());
                self.authenticate(account);
            }
            self.restart();
            self.settle_wanted = true;
        } else if retired {
            self.next_mail = self.mails.len();
            self.give_up();
            self.settle_wanted = true;
        } else if all_sent && self.phase == Phase::Sending && self.calls.is_empty() {
            // A drain has short batches sent without that.
            self.coordinator.set_flushing(!self.orders.is_drained_for_good());
            self.phase = Phase::Flushing;
            self.settle_wanted = true;
        }
    }

    /// Waits no longer for what was put off.
    fn abandon_delayed(&mut self) {
        self.give_up_by(|coordinator, _, callbacks| {
            coordinator.abandon_delayed(callbacks);
            Vec::new()
        });
        assert_eq!(self.coordinator.delayed(), 0);
    }

    /// Aborts or abandons.
    fn give_up(&mut self) {
        let abandons = self.abandons;
        let returned = self.give_up_by(|coordinator, now, callbacks| {
            if abandons {
                coordinator.abandon(now, callbacks);
                return Vec::new();
            }
            coordinator.abort(now, callbacks)
        });
        returned.iter().for_each(|message| self.truth.returned(message));
        assert_eq!(self.coordinator.open_mails(), 0, "mails are open after all was given up");
        self.logins.closed();
        self.effects.closed();
    }

    /// A report that panics does not stop it for good.
    fn give_up_by(
        &mut self,
        mut way: impl FnMut(&mut Coordinator, Instant, &mut Callbacks<'_>) -> Vec<Message>,
    ) -> Vec<Message> {
        for _ in 0..100 {
            let now = self.instant();
            self.effects.before_settle(self.coordinator.lanes(), self.now);
            let mut callbacks = Callbacks {
                random: &mut self.random,
                odds: &self.odds,
                opinion: &self.opinion,
                truth: &mut self.truth,
                effects: &mut self.effects,
                logins: &mut self.logins,
                wires: &self.wires,
                flies: self.flies,
                dropped: Vec::new(),
                missteps: Vec::new(),
                gives_up: true,
                epoch: self.epoch,
                now: self.now,
            };
            let coordinator = &mut self.coordinator;
            match catch_unwind(AssertUnwindSafe(|| way(coordinator, now, &mut callbacks))) {
                Ok(returned) => return returned,
                Err(payload) if payload.is::<Panicked>() => {}
                Err(payload) => resume_unwind(payload),
            }
        }
        panic!("giving up never ends");
    }

    // ---- sweep ------------------------------------------------------------

    fn sweep(&mut self) -> bool {
        let count = self.wires.len();
        let first = self.random.usize(0..count);
        let mut any = false;
        for index in (0..count).map(|offset| (first + offset) % count) {
            let mut scene = Scene {
                now: self.now,
                random: &mut self.random,
                odds: &self.odds,
                always: self.always,
                timeouts: &self.hosts[index].timeouts,
                host: &self.hosts[index],
                truth: &mut self.truth,
                security: self.hosts[index].security,
                logins: &mut self.logins,
                flies: self.flies,
                faultless: self.faultless,
            };
            let lane = &mut self.coordinator.lanes_mut()[index];
            let moved = self.wires[index].sweep(lane, &mut scene);
            any |= moved.any;
            if moved.dialled {
                self.effects.dialled(index, self.now);
            }
            if moved.postponed {
                self.effects.postponed(index);
                self.settle_wanted = true;
            }
            if moved.began && self.faultless && self.coordinator.pace() == Pace::Lockstep {
                self.check_lockstep(index);
            }
        }
        any
    }

    /// Without faults nobody is a flight ahead of anybody in the batch.
    fn check_lockstep(&self, index: usize) {
        let lanes = self.coordinator.lanes();
        let before = self.wires[index].flights.saturating_sub(1);
        for (other, lane) in lanes.iter().enumerate().filter(|(_, lane)| lane.held() > 0) {
            let begun = self.wires[other].flights;
            let is_flying = lane.session().has_flight_begun() && !lane.session().is_over();
            let done = begun - u64::from(is_flying && begun > 0);
            assert!(lanes[index].held() == 0 || done >= before, "lane {index} runs ahead of lane {other}");
            assert!(lane.is_waited_for() || lane.session().is_over());
        }
    }

    fn jump(&mut self) {
        self.orders.check_still(self.coordinator.lanes());
        let mut due: Vec<Duration> = Vec::new();
        due.extend(self.orders.next_at().filter(|_| self.phase != Phase::Leaving));
        due.extend(self.calls.first().map(|(at, _)| *at));
        if self.phase == Phase::Sending && self.has_room() && self.next_mail < self.mails.len() {
            due.push(self.next_mail_at);
        }
        let wake_at = self.progress.and_then(|progress| progress.wake_at);
        let over_at = self.coordinator.step_over_at();
        due.extend(wake_at.into_iter().chain(over_at).map(|at| at.saturating_duration_since(self.epoch)));
        for (lane, wire) in self.coordinator.lanes().iter().zip(&self.wires) {
            due.extend(wire.next_event(lane, self.now));
        }
        let next = due.into_iter().filter(|at| *at > self.now).min();
        let phase = self.phase;
        self.now = next.unwrap_or_else(|| panic!("nothing will ever happen again while {phase:?}"));
    }

    // ---- settle -----------------------------------------------------------

    fn settle(&mut self) {
        self.settle_wanted = false;
        self.settles += 1;
        assert!(self.settles < MOST_SETTLES, "no end after {MOST_SETTLES} settles");
        let now = self.instant();
        self.effects.before_settle(self.coordinator.lanes(), self.now);
        self.logins.before_settle(self.coordinator.lanes());
        let latest: Vec<MailTag> = self.coordinator.lanes().iter().map(Lane::latest_mail).collect();
        let mut callbacks = Callbacks {
            random: &mut self.random,
            odds: &self.odds,
            opinion: &self.opinion,
            truth: &mut self.truth,
            effects: &mut self.effects,
            logins: &mut self.logins,
            wires: &self.wires,
            flies: self.flies,
            dropped: Vec::new(),
            missteps: Vec::new(),
            gives_up: false,
            epoch: self.epoch,
            now: self.now,
        };
        let coordinator = &mut self.coordinator;
        let progress = loop {
            match catch_unwind(AssertUnwindSafe(|| coordinator.settle(now, &mut callbacks))) {
                Ok(progress) => break progress,
                Err(payload) if payload.is::<Panicked>() => {
                    callbacks.effects.settled_in_part(coordinator.lanes());
                    callbacks.logins.settled_in_part(coordinator.lanes(), self.now);
                }
                Err(payload) => resume_unwind(payload),
            }
        };
        let missteps = std::mem::take(&mut callbacks.missteps);
        for mail in std::mem::take(&mut callbacks.dropped) {
            let place = self.truth.place(mail);
            assert_eq!(place, Place::Reported, "mail {mail} was dropped, and is still on its way");
        }
        for misstep in missteps {
            match misstep {
                Misstep::Replies(lane) => {
                    let (host, wire) = (&self.hosts[lane], &self.wires[lane]);
                    if let Some(is_full) = wire.togetherness() {
                        let composed = wire.composed_in();
                        self.truth.misstep(&host.name, host.pipeline, is_full, composed, self.settles);
                    }
                }
                Misstep::Chunks(lane) => self.truth.knows_no_chunks(&self.hosts[lane].name, self.settles),
            }
        }
        let batches = self.coordinator.summary(now).batches;
        let delayed = self.coordinator.delayed();
        assert!(self.most_delayed.is_none_or(|most| delayed <= most), "{delayed} mails wait");
        assert!(progress.wake_at.is_some() || delayed == 0 || self.effects.closing, "they wait for ever");
        let new_batch = batches > self.effects.batches();
        let is_over = self.coordinator.is_step_over(now);
        let lanes = self.coordinator.lanes();
        self.trace_settle(&progress);
        self.logins.after_settle(lanes, self.now);
        self.effects.after_settle(lanes, &progress, &self.logins, batches, self.now);
        // A mail that a rate holds back is at hand, too.
        let is_held_back = (self.holds_back || self.orders.has_rates()) && self.coordinator.backlog() > 0;
        let has_mail_at_hand = (self.feeds && self.phase == Phase::Sending) || is_held_back;
        self.effects.check_rest(lanes, &progress, has_mail_at_hand, self.coordinator.backlog() > 0);
        if progress.hungry == 0 {
            check_quiet(lanes, now);
        }
        let is_held_up = self.orders.is_paused || self.orders.is_draining;
        assert!(progress.hungry == 0 || !is_held_up, "a server waits for mails that will not come");
        // A lane that is taken out of the batch may have been the last one
        // that the others waited for: that is seen at the next settle.
        // So is that a lane has nothing to log in with, which it learns as it
        // begins to.
        let at_once = |lane: &Lane| matches!(lane.session().failure(), Some(Failure::Auth(_)));
        let is_left = is_over && !lanes.iter().any(at_once);
        self.unsettled = if is_left { self.unsettled + 1 } else { 0 };
        assert!(self.unsettled < 2, "settle leaves something to settle");
        for ((lane, wire), latest) in lanes.iter().zip(&mut self.wires).zip(latest) {
            let dealt = lane.latest_mail().0.wrapping_sub(latest.0);
            if dealt > 0 {
                self.orders.begins(lane.id().host as usize, dealt, self.now);
            }
            if lane.held() > 0 && (new_batch || dealt > 0) {
                wire.flights = 0;
            }
            wire.settled(lane);
            if lane.is_about_to_write() {
                wire.composed(self.settles, lane.held());
            }
        }
        self.progress = Some(progress);
    }

    fn trace_settle(&self, progress: &Progress) {
        let lanes = self.coordinator.lanes();
        self.truth.note(|| {
            let states: Vec<String> = lanes
                .iter()
                .map(|lane| {
                    let step = lane.session().step();
                    format!(
                        "{:?}/{:?}#{} {step} {}",
                        lane.standing(),
                        lane.link(),
                        lane.connection(),
                        lane.held()
                    )
                })
                .collect();
            let (backlog, delayed) = (self.coordinator.backlog(), self.coordinator.delayed());
            format!(
                "{:?} {:?} settled: {}; {backlog} wait, {delayed} put off; {progress:?}",
                self.now,
                self.phase,
                states.join(" | ")
            )
        });
    }

    // ---- the end ----------------------------------------------------------

    fn audit(mut self) -> Effort {
        let mut quits = 0;
        for (index, wire) in self.wires.iter_mut().enumerate() {
            let mut scene = Scene {
                now: self.now,
                random: &mut self.random,
                odds: &self.odds,
                always: self.always,
                timeouts: &self.hosts[index].timeouts,
                host: &self.hosts[index],
                truth: &mut self.truth,
                security: self.hosts[index].security,
                logins: &mut self.logins,
                flies: self.flies,
                faultless: self.faultless,
            };
            wire.hang_up(&mut scene);
            quits += wire.quits;
        }
        self.orders.check_rates();
        self.truth.audit(self.faultless);
        let summary = self.coordinator.summary(self.instant());
        self.truth.audit_counts(&summary);
        if self.faultless {
            let stood: u64 = summary.hosts.iter().map(|host| host.connections).sum();
            assert_eq!(quits + self.cut_short, stood, "a session was not ended by QUIT");
            let requeued = self.truth.further_transactions();
            assert_eq!(summary.requeued, requeued, "requeued without a fault");
        }
        let counts = self.truth.counts;
        Effort { settles: u64::from(self.settles), mails: counts.taken, delivered: counts.delivered }
    }
}
