//! What a verdict has to do to its lane, and what a lane may do at all: a
//! model beside the coordinator, fed with the same events, that knows only
//! what the manual says. Where several verdicts of one settle get into each
//! other's way it claims nothing rather than repeat the coordinator's reasons.

use std::time::Duration;

use smtp_bulk::coordinator::{BatchSettings, Lane, Link, Progress, Standing};
use smtp_bulk::host::HostSettings;
use smtp_bulk::{EventKind, HostChange, LaneId, Pace, SessionVerdict, Step, Verdict};

use super::attempts::Attempts;
use super::logins::Logins;
use super::model::{
    Before, Door, Model, Seen, doubled, effective, foremost, forget, gravity, is_restart, may_be_spent,
    most_dials,
};
use super::portions::{Portions, is_waiting};

/// Whether a restart that a callback asked for is within its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Allowed {
    Surely,
    SurelyNot,
    Perhaps,
}

#[derive(Debug)]
pub struct Effects {
    ids: Vec<LaneId>,
    hosts: Vec<HostSettings>,
    models: Vec<Model>,
    before: Vec<Before>,
    doors: Vec<Door>,
    waited_for: bool,
    pace: Pace,
    /// Since when the lanes that have finished the step are enough.
    enough_since: Option<Duration>,
    /// What is seen as one settle were several, as a callback panicked.
    is_in_parts: bool,
    /// A batch began in one of them, so that the next may be within it.
    is_dealt_in_part: bool,
    /// Nothing has moved for long, and a callback has said this.
    standstill: Option<Verdict>,
    seen: Vec<(Seen, Allowed)>,
    last: Option<Seen>,
    finished: bool,
    max_restarts: u32,
    /// Restarts since a mail was finished: at most, and at least.
    restarts: (u32, u32),
    /// A restart is due when the batch ends.
    restart_pending: bool,
    perhaps_pending: bool,
    batches: u64,
    batch_running: bool,
    /// Calls from outside since the last settle.
    restart_called: bool,
    reconnects_called: Vec<usize>,
    pub closing: bool,
    attempts: Attempts,
    /// A lane may hold several mails, and be answered several things at once.
    flies: bool,
    portions: Portions,
}

impl Effects {
    pub fn new(
        lanes: &[Lane],
        hosts: &[HostSettings],
        settings: &BatchSettings,
        has_own: Vec<bool>,
        flies: bool,
    ) -> Effects {
        let models = lanes.iter().map(|lane| {
            let most_dials = most_dials(lane.host());
            Model { most_dials, ..Model::default() }
        });
        Effects {
            ids: lanes.iter().map(Lane::id).collect(),
            hosts: lanes.iter().map(|lane| hosts[lane.id().host as usize].clone()).collect(),
            models: models.collect(),
            before: Vec::new(),
            doors: Vec::new(),
            waited_for: false,
            pace: settings.pace,
            enough_since: None,
            is_in_parts: false,
            is_dealt_in_part: false,
            standstill: None,
            seen: Vec::new(),
            last: None,
            finished: false,
            max_restarts: settings.max_restarts,
            restarts: (0, 0),
            restart_pending: false,
            perhaps_pending: false,
            batches: 0,
            batch_running: false,
            restart_called: false,
            reconnects_called: Vec::new(),
            closing: false,
            attempts: Attempts::new(has_own, flies, settings.resend_in_doubt, settings.retry_delay),
            flies,
            portions: Portions::new(hosts, settings),
        }
    }

    /// Something was told about a host.
    pub fn host_changed(&mut self, change: &HostChange<'_>, now: Duration) {
        self.portions.see(change, now);
    }

    pub fn index(&self, id: LaneId) -> usize {
        self.ids.iter().position(|known| *known == id).expect("a known lane")
    }

    /// Batches that had ended at the last settle.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    // ---- what happens -----------------------------------------------------

    pub fn restart_called(&mut self) {
        self.restart_called = true;
        self.closing = false;
    }

    pub fn reconnect_called(&mut self, lane: usize) {
        self.reconnects_called.push(lane);
    }

    /// The caller has other credentials: lanes that had been retired for the old
    /// ones, and no others, are opened again.
    pub fn credentials_came(&mut self, lanes: &[Lane]) {
        for (index, (lane, model)) in lanes.iter().zip(&mut self.models).enumerate() {
            let is_back = model.retired && lane.standing() != Standing::Retired;
            if is_back {
                assert!(model.shut_out.is_some(), "lane {index} is opened again without a reason");
                model.retired = false;
                model.most_dials += 1;
                forget(model);
            } else if model.retired && !self.closing {
                assert!(model.shut_out != Some(true), "lane {index} is not opened for other credentials");
            }
        }
    }

    /// The lane's opening was put off; nothing is held against it.
    pub fn postponed(&mut self, lane: usize) {
        self.models[lane].most_dials += 1;
        self.models[lane].opens_by = None;
    }

    pub fn dialled(&mut self, lane: usize, now: Duration) {
        let model = &mut self.models[lane];
        assert!(!model.retired, "lane {lane} is opened, and is retired");
        assert!(model.benched.is_none(), "lane {lane} is opened, and sits out until the batch ends");
        assert!(
            model.opens_from.is_none_or(|at| at <= now),
            "lane {lane} is opened before its back-off is over"
        );
        assert!(!self.closing, "lane {lane} is opened after the last word");
        model.is_first = !model.has_been_open;
        model.opens_as_planned = false;
        model.dials += 1;
        assert!(model.dials <= model.most_dials, "lane {lane} is opened {} times in a row", model.dials);
        (model.opens_from, model.opens_by) = (None, None);
    }

    /// A callback has been asked.
    pub fn see(&mut self, seen: Seen, now: Duration) {
        self.close_event();
        self.last = Some(seen);
        let model = &mut self.models[seen.lane];
        let failed = matches!(seen.kind, EventKind::ConnectFail | EventKind::ReconnectFail);
        if failed && self.before.get(seen.lane).is_some_and(|before| before.is_down) {
            // Another lane has tried for all.
            model.is_first = !model.has_been_open;
        }
        match seen.kind {
            EventKind::ConnectPass => {
                assert!(!model.has_been_open, "connect_pass twice on lane {}", seen.lane);
                model.has_been_open = true;
            }
            EventKind::ConnectFail => assert!(model.is_first, "connect_fail for a later opening"),
            EventKind::ReconnectPass | EventKind::ReconnectFail => {
                assert!(!model.is_first, "{} for a first opening", seen.kind);
            }
            _ => {}
        }
        let host = &self.hosts[seen.lane];
        let wait = doubled(host, seen.attempt).max(host.sleep.fail);
        model.renewal_wait = seen.asks_too_soon().then_some(wait);
        // A connection on which so many mails were refused that three quarters of a flight
        // are not left of those that it stands is given up as planned.
        if self.flies && (seen.kind == EventKind::Fail || seen.verdict != Verdict::DEFAULT) {
            model.refusals += 1;
            let most = self.hosts[seen.lane].max_refusals;
            let depth = self.hosts[seen.lane].depth.clamp(1, most);
            let is_planned = model.refusals.is_multiple_of(most - (3 * depth - 1) / 4);
            model.most_dials += u32::from(is_planned);
            model.opens_as_planned |= is_planned;
        }
        let harmless = seen.kind == EventKind::Pass && seen.verdict.session == SessionVerdict::Default;
        model.setbacks += u32::from(!harmless);
        // Where NOOP was answered before, nothing is held against it.
        model.most_dials += u32::from(seen.kind == EventKind::Hang && seen.mail.is_none());
        if self.flies && seen.is_shortage {
            // Nothing is held against it, whatever else was said of its flight.
            model.most_dials += 1;
        }
        if let Some(mail) = seen.mail {
            self.attempts.see(mail, &seen, self.before[seen.lane].has_begun, now);
        }
    }

    /// All lanes that wait are given up, but those whose content is out.
    pub fn stood_still(&mut self, verdict: Verdict) {
        self.standstill = Some(verdict);
        self.attempts.forget();
    }

    /// What it does to each of them is not foretold.
    fn after_standstill(&mut self, verdict: Verdict, lanes: &[Lane]) -> Allowed {
        let restarts = is_restart(verdict.session);
        for (index, lane) in lanes.iter().enumerate() {
            let before = self.before[index];
            let is_kept = restarts || !before.in_doubt || before.has_failed || before.is_spent;
            assert!(
                is_kept || lane.connection() == before.connection,
                "lane {index} is given up while its content waits for a reply"
            );
            let model = &mut self.models[index];
            model.most_dials += 1;
            model.setbacks += 1;
        }
        // A 203 does what a 103 of the same settle has asked for.
        self.perhaps_pending |= restarts;
        self.restart_pending &= !restarts;
        self.restarts = (self.restarts.0 + u32::from(restarts), 0);
        Allowed::Perhaps
    }

    /// A mail has been finished, `surely` by what was judged last.
    pub fn finished(&mut self, lane: usize, surely: bool) {
        if let Some(seen) = self.last.take_if(|_| !surely) {
            self.seen.push((seen, Allowed::Perhaps));
        }
        self.finished = true;
        self.restarts = (0, 0);
        if self.flies {
            // What was said before in this flight is carried out behind it.
            let own = self.seen.iter_mut().filter(|(seen, _)| seen.lane == lane);
            own.filter(|(_, allowed)| *allowed == Allowed::SurelyNot)
                .for_each(|(_, allowed)| *allowed = Allowed::Perhaps);
        }
        let most_dials = most_dials(&self.hosts[lane]);
        let model = &mut self.models[lane];
        let owed = u32::from(model.dying.is_some());
        let most_dials = most_dials + u32::from(model.opens_as_planned);
        if surely {
            (model.dials, model.most_dials) = (1, most_dials.max(1) + owed);
            model.setbacks = 1 + owed;
        } else {
            model.most_dials = model.most_dials.max(model.dials + most_dials + owed);
        }
    }

    /// All is closed or is about to be.
    pub fn closed(&mut self) {
        self.closing = true;
        self.batch_running = false;
        self.restart_pending = false;
        self.perhaps_pending = false;
        self.seen.clear();
        self.last = None;
        for model in &mut self.models {
            forget(model);
            model.retired = true;
        }
    }

    fn close_event(&mut self) {
        let Some(seen) = self.last.take() else { return };
        let asked = |(seen, _): &&(Seen, Allowed)| is_restart(seen.verdict.session);
        let others = self.seen.iter().filter(asked).count() as u32;
        let allowed = match self.restarts {
            (most, _) if most + others < self.max_restarts => Allowed::Surely,
            (_, least) if least >= self.max_restarts => Allowed::SurelyNot,
            _ => Allowed::Perhaps,
        };
        self.seen.push((seen, allowed));
    }

    // ---- settle -----------------------------------------------------------

    /// Looks at who has finished the step.
    pub fn look_at_barrier(&mut self, lanes: &[Lane], now: Duration) {
        let Pace::Quorum { share, .. } = self.pace else { return };
        let all = lanes.iter().filter(|lane| lane.is_in_batch()).count();
        let late = lanes.iter().filter(|lane| lane.is_waited_for()).count();
        let wanted = ((all as f32 * share - 0.001).ceil() as usize).max(1);
        self.enough_since = (all - late >= wanted).then(|| self.enough_since.unwrap_or(now));
    }

    /// Whether lanes of the batch have to wait for others.
    fn is_barrier_shut(&mut self, lanes: &[Lane], now: Duration) -> bool {
        self.look_at_barrier(lanes, now);
        let is_late = lanes.iter().any(Lane::is_waited_for);
        match self.pace {
            Pace::Quorum { grace, .. } => is_late && self.enough_since.is_none_or(|at| at + grace > now),
            _ => is_late,
        }
    }

    pub fn before_settle(&mut self, lanes: &[Lane], now: Duration) {
        self.before.clear();
        self.before.extend(lanes.iter().map(Before::of));
        self.waited_for = self.is_barrier_shut(lanes, now);
        if !self.waited_for {
            self.enough_since = None;
        }
        self.finished = false;
        (self.is_in_parts, self.is_dealt_in_part) = (false, false);
    }

    /// Another settle follows at once: a lane that was closed is not waited for.
    pub fn settled_in_part(&mut self, lanes: &[Lane]) {
        self.is_in_parts = true;
        let is_dealt = |(before, lane): (&Before, &Lane)| before.latest != lane.latest_mail();
        self.is_dealt_in_part |= self.before.iter().zip(lanes).any(is_dealt);
        self.waited_for &= lanes.iter().any(Lane::is_waited_for);
    }

    /// Mails that the lane held.
    pub fn held(&self, lane: usize) -> usize {
        self.before[lane].held
    }

    /// Whether more than one reply was owed on the lane in its last flight.
    pub fn is_pipelined(&self, lane: usize) -> bool {
        self.before[lane].is_pipelined
    }

    pub fn in_doubt(&self, lane: usize) -> bool {
        self.before[lane].in_doubt
    }

    pub fn after_settle(
        &mut self,
        lanes: &[Lane],
        progress: &Progress,
        logins: &Logins,
        batches: u64,
        now: Duration,
    ) {
        self.close_event();
        let before = self.before.iter().zip(lanes).map(|(before, lane)| {
            let is_opened = lane.link() == Link::Wanted && before.is_down;
            (before.held, lane.latest_mail().0.wrapping_sub(before.latest.0), is_opened)
        });
        let before: Vec<_> = before.collect();
        self.portions.check(lanes, &before, !self.is_in_parts, now);
        let door = |(index, lane): (usize, &Lane)| Door {
            must_authenticate: logins.must_authenticate(index, lane),
            is_refused: logins.is_refused(index),
        };
        self.doors = lanes.iter().enumerate().map(door).collect();
        let seen = std::mem::take(&mut self.seen);
        let ended = batches > self.batches;
        let is_quiet = self.is_quiet(lanes, ended);
        if self.restart_pending && !is_quiet && self.pace != Pace::Lockstep {
            let is_dealt = |(before, lane): (&Before, &Lane)| before.latest != lane.latest_mail();
            assert!(!self.before.iter().zip(lanes).any(is_dealt), "a deal is made before a restart");
        }
        let is_called = self.restart_called;
        let mut renewal = self.restarts_now(&seen, is_quiet);
        if let Some(verdict) = self.standstill.take() {
            let perhaps = self.after_standstill(verdict, lanes);
            renewal = if renewal == Allowed::Surely { renewal } else { perhaps };
        }
        let reconnects = std::mem::take(&mut self.reconnects_called);
        let dying = |(index, model): (usize, &Model)| model.dying.map(|_| index);
        let exempt: Vec<usize> =
            self.models.iter().enumerate().filter_map(dying).chain(reconnects.clone()).collect();
        self.check_renewal(lanes, &seen, renewal, is_called, now);
        self.see_woken(lanes, now);
        let anything_goes = renewal != Allowed::SurelyNot || self.closing;
        for (index, lane) in lanes.iter().enumerate() {
            if reconnects.contains(&index) {
                self.models[index].most_dials += 1;
                self.models[index].setbacks += 1;
                self.check_lane_renewed(index, lanes, now);
                continue;
            }
            let is_judged = seen.iter().any(|(one, _)| one.lane == index);
            self.check_bounds(index, lanes, is_judged, batches, now);
            if anything_goes {
                continue;
            }
            if !self.waits_for_its_end(index, lane) {
                let own: Vec<Seen> =
                    seen.iter().map(|(seen, _)| *seen).filter(|one| one.lane == index).collect();
                self.check_lane(index, lane, &own, ended, batches, now);
            }
        }
        if !anything_goes {
            self.check_batch(lanes, &seen, &exempt, ended);
        }
        self.check_deals(&seen, batches);
        for (index, lane) in lanes.iter().enumerate() {
            self.check_pace(index, lane);
            if lane.latest_mail() != self.before[index].latest {
                // What it holds may have been dealt to it in the batch before.
                let model = &mut self.models[index];
                let is_older = self.flies && self.before[index].held > 0;
                model.dealt_before = model.dealt_at.filter(|_| is_older);
                model.dealt_at = Some(now);
            }
            self.check_retirement(index, lane, &seen, renewal == Allowed::Perhaps);
        }
        self.batches = batches;
        self.batch_running = progress.batch_running;
    }

    /// Whether a restart that waits for the end of the batch was due.
    fn is_quiet(&self, lanes: &[Lane], ended: bool) -> bool {
        let goes_on = |(before, lane): (&Before, &Lane)| {
            let is_same = before.connection == lane.connection() && before.latest == lane.latest_mail();
            // One that owes a lone dot holds no mail any more.
            let is_busy = lane.held() > 0 || lane.is_alone() || lane.is_in_batch();
            (before.held > 0 || before.has_part) && is_busy && is_same
        };
        match self.pace {
            Pace::Lockstep => ended || !self.batch_running,
            _ => !self.before.iter().zip(lanes).any(goes_on),
        }
    }

    /// Who goes on by himself is a straggler, or there is no batch.
    fn check_pace(&self, index: usize, lane: &Lane) {
        match self.pace {
            Pace::Lockstep => assert!(!lane.is_alone(), "lane {index} leaves the lockstep"),
            Pace::Free => assert!(!lane.is_in_batch(), "lane {index} is waited for"),
            _ => assert!(
                !self.before[index].is_alone
                    || !lane.is_in_batch()
                    || self.before[index].latest != lane.latest_mail(),
                "lane {index} comes back with its mail"
            ),
        }
        assert!(lane.held() == 0 || lane.is_alone() || lane.is_in_batch(), "lane {index}");
    }

    /// Whether all connections have to be new after this settle: `SurelyNot`
    /// when none may be renewed without a reason of its own.
    fn restarts_now(&mut self, seen: &[(Seen, Allowed)], is_quiet: bool) -> Allowed {
        let mut renewal = Allowed::SurelyNot;
        let mut count = 0;
        let mut strongest = |allowed: Allowed| {
            if allowed == Allowed::Surely || renewal == Allowed::SurelyNot {
                renewal = allowed;
            }
            count += u32::from(allowed != Allowed::SurelyNot);
        };
        if is_quiet && std::mem::take(&mut self.restart_pending) {
            strongest(Allowed::Surely);
        }
        if is_quiet && std::mem::take(&mut self.perhaps_pending) {
            strongest(Allowed::Perhaps);
        }
        // A 203 does what a 103 has left for the end of the batch, whichever came first.
        let has_now = |how: Allowed| {
            let is_now = |seen: &Seen| seen.verdict.session == SessionVerdict::RestartNow;
            seen.iter().any(|(seen, allowed)| is_now(seen) && *allowed == how)
        };
        let is_done = has_now(Allowed::Surely);
        if is_done || has_now(Allowed::Perhaps) {
            let is_pending = std::mem::take(&mut self.restart_pending) || self.perhaps_pending;
            self.perhaps_pending = is_pending && !is_done;
        }
        for (seen, allowed) in seen.iter().filter(|(seen, _)| is_restart(seen.verdict.session)) {
            let at_deal = seen.is_client && seen.step == Step::Mail;
            match (seen.verdict.session, *allowed) {
                (_, Allowed::SurelyNot) => {}
                (SessionVerdict::RestartNow, allowed) => strongest(allowed),
                (_, _) if at_deal || self.is_dealt_in_part => {
                    self.perhaps_pending = true;
                    strongest(Allowed::Perhaps);
                }
                (_, allowed) if is_quiet => strongest(allowed),
                // Where there were several settles, it may have come in a later one.
                (_, _) if is_done => self.perhaps_pending |= self.is_in_parts,
                (_, Allowed::Surely) if !has_now(Allowed::Perhaps) => self.restart_pending = true,
                (_, _) => self.perhaps_pending = true,
            }
        }
        let (most, least) = self.restarts;
        let least = if self.finished { 0 } else { least + u32::from(renewal == Allowed::Surely) };
        self.restarts = (most + count, least);
        if std::mem::take(&mut self.restart_called) {
            renewal = Allowed::Surely;
        }
        renewal
    }

    fn check_renewal(
        &mut self,
        lanes: &[Lane],
        seen: &[(Seen, Allowed)],
        renewal: Allowed,
        is_called: bool,
        now: Duration,
    ) {
        let times = 1 + seen.len() as u32;
        for (index, lane) in lanes.iter().enumerate() {
            match renewal {
                Allowed::SurelyNot => continue,
                Allowed::Surely if !is_called && lane.standing() == Standing::Resting => {
                    let was_at_rest = self.before[index].is_at_rest || self.is_in_parts;
                    assert!(was_at_rest, "lane {index} is not opened anew, and rests");
                }
                Allowed::Surely => {
                    let own = |(one, _): &(Seen, Allowed)| one.lane == index && one.asks_too_soon();
                    let must_wait = seen.len() == 1 && seen.iter().any(own);
                    self.check_lane_renewed(index, lanes, now);
                    let waits = lane.standing() == Standing::Benched;
                    assert!(waits || !must_wait, "lane {index} hammers a host that fails");
                }
                Allowed::Perhaps => {
                    forget(&mut self.models[index]);
                    let before = self.before[index];
                    let is_out = before.in_doubt && lane.connection() == before.connection;
                    self.models[index].dying = is_out.then_some((before.connection, false));
                }
            }
            self.models[index].most_dials += times;
            self.models[index].setbacks += times;
        }
    }

    /// The lane's connection is new or being made, except where the whole
    /// content is out.
    fn check_lane_renewed(&mut self, index: usize, lanes: &[Lane], now: Duration) {
        let lane = &lanes[index];
        let before = self.before[index];
        let shut_out = self.is_shut_out(index, lane);
        let has_place = self.has_place(lanes, index, now);
        let is_in_parts = self.is_in_parts;
        let model = &mut self.models[index];
        let wait = model.renewal_wait.take();
        forget(model);
        if lane.connection() == before.connection && before.in_doubt {
            model.dying = Some((before.connection, true));
            model.dead = Some(before.connection);
            return;
        }
        assert_eq!(lane.held(), 0, "lane {index} holds a mail after a restart");
        // A restart leaves it to its opening, which then fails as another's did.
        let is_left = before.waits || before.ends_at_gate || before.is_opening && is_in_parts;
        let has_waited_in_vain = is_left && lane.link() == Link::Down;
        if shut_out || has_waited_in_vain {
            model.renewal_wait = wait;
            return;
        }
        // A host that fails is not hammered by a restart that it caused.
        if let Some(wait) = wait.filter(|_| lane.standing() == Standing::Benched) {
            assert!(lane.link() == Link::Down, "lane {index} waits with a connection");
            // Or it waits for a place.
            model.opens_from = has_place.then_some(now + wait / 2);
            model.opens_by = Some(now + wait + SLACK);
            return;
        }
        if is_waiting(lane) && !has_place {
            self.models[index].opens_by = Some(now);
            return;
        }
        let model = &mut self.models[index];
        assert_eq!(lane.standing(), Standing::Opening, "lane {index} is not opened anew");
        // It goes to its gate when the batch ends, and that is an opening too.
        if before.is_opening || before.sits_outside && self.doors[index].must_authenticate {
            return;
        }
        let is_old = lane.connection() == before.connection && !lane.session().is_leaving();
        assert!(!is_old || !before.is_up, "lane {index} keeps its connection through a restart");
        // Where there was none, one may have been due at this very moment.
        let is_given_up = before.is_up && lane.connection() == before.connection;
        model.dead = is_given_up.then_some(before.connection);
        model.opens_by = Some(now + self.hosts[index].timeouts.quit + SLACK);
    }

    fn has_place(&self, lanes: &[Lane], index: usize, now: Duration) -> bool {
        self.portions.has_place(lanes, self.ids[index].host, now)
    }

    /// It is opened as soon as there is a place for it.
    fn wait_for_place(&mut self, index: usize, lanes: &[Lane], now: Duration) {
        let waits = is_waiting(&lanes[index]) && !self.has_place(lanes, index, now);
        let has_waited = self.before[index].is_waiting && !is_waiting(&lanes[index]);
        let model = &mut self.models[index];
        if waits || has_waited {
            model.opens_by = model.opens_by.map(|at| at.max(now));
        }
    }

    /// What holds at all times.
    fn check_bounds(&mut self, index: usize, lanes: &[Lane], is_judged: bool, batches: u64, now: Duration) {
        let lane = &lanes[index];
        self.wait_for_place(index, lanes, now);
        let model = &mut self.models[index];
        let is_closed = lane.link() == Link::Down || (lane.link() == Link::Up && lane.session().is_leaving());
        if model.retired {
            assert_eq!(lane.standing(), Standing::Retired, "lane {index} is in use, and was retired");
            assert!(is_closed && lane.held() == 0, "lane {index} is retired, and goes on");
        }
        if model.dead.is_some_and(|dead| dead < lane.connection()) {
            model.dead = None;
        }
        if model.dead.is_some() && model.dying.is_none() {
            assert!(
                is_closed && lane.held() == 0,
                "lane {index} goes on with a connection that was given up"
            );
        }
        if model.benched.is_some_and(|since| batches > since) {
            model.benched = None;
            if std::mem::take(&mut model.is_closed) {
                let (least, most) = model.wait;
                model.opens_from = Some(now + least);
                model.opens_by = Some(now + most + self.hosts[index].timeouts.quit + SLACK);
            }
        }
        if model.benched.is_some() && !is_judged {
            assert_eq!(lane.held(), 0, "lane {index} is dealt a mail while it sits out");
            assert!(!model.is_closed || is_closed, "lane {index} is opened while it sits out");
            assert_eq!(lane.standing(), Standing::Benched, "lane {index} sits out");
        }
        assert!(model.opens_by.is_none_or(|at| now <= at), "lane {index} is not opened in time");
    }

    /// A content that was out at a restart is answered before its lane goes.
    fn waits_for_its_end(&mut self, index: usize, lane: &Lane) -> bool {
        let model = &mut self.models[index];
        let Some((dying, surely)) = model.dying else { return false };
        if lane.connection() == dying && !lane.session().is_leaving() {
            assert!(!surely || lane.session().has_doubt(), "lane {index} outlives a restart");
            model.dying.take_if(|_| !lane.session().has_doubt());
            return true;
        }
        forget(model);
        true
    }

    /// A lane that rests is opened when there is a mail for it, and nothing is held
    /// against it.
    fn see_woken(&mut self, lanes: &[Lane], now: Duration) {
        for (index, lane) in lanes.iter().enumerate().filter(|(index, _)| self.before[*index].is_at_rest) {
            if lane.standing() == Standing::Opening || is_waiting(lane) {
                let model = &mut self.models[index];
                model.most_dials += 1;
                model.opens_by = Some(now + self.hosts[index].timeouts.quit + SLACK);
            }
        }
    }

    /// A connection that is not to be kept has a mail, or will be dealt one as soon as
    /// others are up that are opened for mails. Those that are kept never rest without.
    pub fn check_rest(&self, lanes: &[Lane], progress: &Progress, has_mail_at_hand: bool) {
        let is_pending = self.restart_pending || self.perhaps_pending;
        let are_others_opened = lanes.iter().any(|lane| lane.standing() == Standing::Opening);
        for (index, lane) in lanes.iter().enumerate() {
            let is_at_rest = lane.standing() == Standing::Resting;
            assert!(!is_at_rest || !self.hosts[index].keep_alive, "lane {index} gives up a connection");
            assert!(!is_at_rest || lane.held() == 0, "lane {index} rests with a mail");
            let is_closed = lane.link() == Link::Down || lane.session().is_leaving();
            assert!(!is_at_rest || is_closed, "lane {index} rests with a connection");
            let is_idle =
                lane.standing() == Standing::Active && lane.held() == 0 && lane.session().is_usable();
            let is_kept = self.hosts[index].keep_alive
                || progress.batch_running
                || has_mail_at_hand
                || is_pending
                || are_others_opened;
            assert!(!is_idle || is_kept || self.closing, "lane {index} keeps its connection");
        }
    }

    /// Whether the lane has gone to rest, as it may.
    fn has_gone_to_rest(&self, index: usize, lane: &Lane) -> bool {
        let is_at_rest = lane.standing() == Standing::Resting && lane.held() == 0;
        // Where a callback has panicked it may have been woken again by now.
        !self.hosts[index].keep_alive && (is_at_rest || self.is_in_parts)
    }

    /// The effect of what the callbacks said about this lane, and nothing else.
    fn check_lane(
        &mut self,
        index: usize,
        lane: &Lane,
        own: &[Seen],
        ended: bool,
        batches: u64,
        now: Duration,
    ) {
        let before = self.before[index];
        let is_same = lane.connection() == before.connection && !lane.session().is_leaving();
        if before.may_be_replaced && !is_same && !self.models[index].retired {
            self.models[index].most_dials += 1;
            return forget(&mut self.models[index]);
        }
        let is_harmless = |seen: &Seen| gravity(effective(seen, true)) < 2 && !is_grave(seen.kind);
        if !is_same && self.portions.may_make_way(lane) && own.iter().all(is_harmless) {
            self.models[index].most_dials += 1;
            return forget(&mut self.models[index]);
        }
        let Some(seen) = own.last() else {
            let healthy = before.is_up && !before.has_failed && !before.is_spent;
            // One that is worn is given up when it would say something again.
            let is_worn = self.models[index].opens_as_planned;
            let may_end =
                !healthy || is_worn || self.is_shut_out(index, lane) || self.has_gone_to_rest(index, lane);
            assert!(is_same || may_end, "lane {index} loses its connection for no reason");
            return;
        };
        let spoken = own.iter().filter(|one| one.verdict.session != SessionVerdict::Default).count();
        let is_all = own.iter().all(|one| one.is_shortage || gravity(foremost(one)) == 0);
        let is_short = seen.is_shortage && seen.verdict.session == SessionVerdict::Default;
        // Nothing is held against it.
        self.models[index].most_dials += u32::from(is_short);
        if is_short && is_all {
            assert!(!is_same, "lane {index} keeps the descriptor that others are short of");
            assert!(matches!(lane.standing(), Standing::Benched | Standing::Opening), "lane {index}");
            return forget(&mut self.models[index]);
        }
        let waits_for_restart = |one: &Seen| one.verdict.session == SessionVerdict::RestartAtBatchEnd;
        if spoken > 1
            || self.pace != Pace::Lockstep && own.iter().any(waits_for_restart)
            || self.is_dealt_in_part
            || own.iter().any(|one| one.is_client && one.step == Step::Mail)
        {
            return forget(&mut self.models[index]);
        }
        let running = self.batch_running && !ended;
        if self.flies {
            return self.check_flight(index, lane, own, running.then_some(batches), now);
        }
        let goes_on =
            seen.kind == EventKind::Pass && seen.step != Step::Content && seen.verdict == Verdict::DEFAULT;
        let failed = matches!(seen.kind, EventKind::ConnectFail | EventKind::ReconnectFail);
        let usable = goes_on
            || !failed
                && seen.kind != EventKind::Hang
                && before.is_ready
                && !(seen.step == Step::Data && seen.kind == EventKind::Pass);
        match effective(seen, usable) {
            SessionVerdict::Retire => {
                assert_eq!(lane.standing(), Standing::Retired, "101 on lane {index}: {seen:?}");
            }
            SessionVerdict::ReconnectNow => self.check_reconnect(index, lane, seen, None, now),
            SessionVerdict::ReconnectAtBatchEnd => {
                self.check_reconnect(index, lane, seen, running.then_some(batches), now);
            }
            SessionVerdict::Bench | SessionVerdict::Default if self.is_shut_out(index, lane) => {}
            SessionVerdict::Bench | SessionVerdict::Default
                if !running && self.has_gone_to_rest(index, lane) => {}
            SessionVerdict::Bench => {
                assert!(is_same, "104 on lane {index} closes its connection");
                let standing = if running { Standing::Benched } else { self.in_use(index) };
                assert_eq!(lane.standing(), standing, "104 on lane {index}: {seen:?}");
                self.models[index].benched = running.then_some(batches);
            }
            _ => {
                assert!(is_same, "lane {index} loses its connection to a 1: {seen:?}");
                assert_eq!(lane.standing(), self.in_use(index), "1 on lane {index}: {seen:?}");
            }
        }
    }

    /// The same where several things may have been answered: the gravest of all
    /// that was said is carried out. What becomes of a lane that is told nothing
    /// grave, and has no usable connection any more, is not foretold.
    fn check_flight(&mut self, index: usize, lane: &Lane, own: &[Seen], running: Option<u64>, now: Duration) {
        let before = self.before[index];
        let is_same = lane.connection() == before.connection && !lane.session().is_leaving();
        let gravity = |seen: &&Seen| gravity(foremost(seen));
        let Some(seen) = own.iter().max_by_key(gravity) else { return };
        let said = effective(seen, true);
        match said {
            SessionVerdict::Retire => {
                assert_eq!(lane.standing(), Standing::Retired, "101 on lane {index}: {own:?}");
            }
            SessionVerdict::ReconnectNow => self.check_reconnect(index, lane, seen, None, now),
            SessionVerdict::ReconnectAtBatchEnd => self.check_reconnect(index, lane, seen, running, now),
            _ if self.is_shut_out(index, lane) => {}
            SessionVerdict::Bench | SessionVerdict::Default
                if running.is_none() && self.has_gone_to_rest(index, lane) => {}
            SessionVerdict::Bench if is_same => {
                let standing = if running.is_some() { Standing::Benched } else { self.in_use(index) };
                assert_eq!(lane.standing(), standing, "104 on lane {index}: {own:?}");
                self.models[index].benched = running;
            }
            _ if is_same => {
                assert_eq!(lane.standing(), self.in_use(index), "1 on lane {index}: {own:?}");
            }
            _ => {
                let is_harmless =
                    |seen: &Seen| seen.kind == EventKind::Pass && seen.verdict == Verdict::DEFAULT;
                let is_fit = !before.has_failed && !before.is_spent;
                assert!(
                    !is_fit || !own.iter().all(is_harmless),
                    "lane {index} loses its connection to nothing: {own:?}"
                );
                forget(&mut self.models[index]);
            }
        }
    }

    /// Where a lane stands whose connection is fit.
    fn in_use(&self, index: usize) -> Standing {
        if self.doors[index].must_authenticate { Standing::Opening } else { Standing::Active }
    }

    /// It was of no use to open the lane: what it would say has been refused.
    fn is_shut_out(&self, index: usize, lane: &Lane) -> bool {
        let was_outside = !self.before[index].is_authenticated;
        was_outside && self.doors[index].is_refused && lane.standing() == Standing::Retired
    }

    /// 102, or 202 when `until` is no batch: the old connection is at its end
    /// and the next one follows its wait.
    fn check_reconnect(&mut self, index: usize, lane: &Lane, seen: &Seen, until: Option<u64>, now: Duration) {
        let before = self.before[index];
        let host = &self.hosts[index];
        let model = &mut self.models[index];
        let is_closed =
            lane.link() == Link::Down || lane.link() == Link::Wanted || lane.session().is_leaving();
        assert!(is_closed && lane.held() == 0, "lane {index} goes on after {seen:?}");
        if lane.standing() == Standing::Retired {
            return;
        }
        model.dead = (lane.connection() == before.connection).then_some(before.connection);
        let failed = matches!(seen.kind, EventKind::ConnectFail | EventKind::ReconnectFail);
        let sleep = if seen.kind == EventKind::Hang { host.sleep.hang } else { host.sleep.fail };
        let most = if failed { doubled(host, seen.attempt).max(sleep) } else { host.backoff.max.max(sleep) };
        // Of a flight the gravest word is carried out, whatever else befell it.
        let least = if self.flies { host.sleep.hang.min(host.sleep.fail) } else { sleep };
        let wait = (if failed { (most / 2).max(least) } else { least }, most.max(host.sleep.hang));
        if until.is_some() {
            assert_eq!(lane.standing(), Standing::Benched, "lane {index} sits out after {seen:?}");
            (model.benched, model.is_closed, model.wait) = (until, true, wait);
            (model.opens_from, model.opens_by) = (None, None);
        } else {
            let waits = matches!(lane.standing(), Standing::Benched | Standing::Opening);
            assert!(waits, "lane {index} is {:?} after {seen:?}", lane.standing());
            (model.benched, model.is_closed) = (None, false);
            model.opens_from = (lane.link() != Link::Wanted).then_some(now + wait.0);
            model.opens_by = Some(now + wait.1 + host.timeouts.quit + SLACK);
        }
    }

    /// The barrier holds, and nothing is dealt into a batch that runs.
    fn check_batch(&self, lanes: &[Lane], seen: &[(Seen, Allowed)], exempt: &[usize], ended: bool) {
        for (index, lane) in lanes.iter().enumerate() {
            let dealt = self.before[index].latest != lane.latest_mail();
            assert!(!dealt || ended || !self.batch_running, "lane {index} is dealt a mail within a batch");
        }
        for (seen, _) in seen {
            let in_batch = self.before[seen.lane].held > 0 && !self.before[seen.lane].is_alone;
            let exempt = exempt.contains(&seen.lane);
            assert!(!self.waited_for || !in_batch || exempt, "the barrier is passed: {seen:?}");
        }
    }

    /// What comes back during a deal is not part of it.
    fn check_deals(&self, seen: &[(Seen, Allowed)], batches: u64) {
        let at_deal = |one: &Seen| one.is_client && one.step == Step::Mail;
        for (first, _) in seen.iter().filter(|(one, _)| at_deal(one)) {
            let times = seen.iter().filter(|(one, _)| at_deal(one) && one.mail == first.mail).count() as u64;
            assert!(times <= 1 + batches - self.batches, "dealt twice in a deal: {first:?}");
        }
    }

    /// When the lane was dealt its mail.
    pub fn dealt_at(&self, lane: usize) -> Option<Duration> {
        self.models[lane].dealt_before.or(self.models[lane].dealt_at)
    }

    /// A lane retires for a reason, and stays so until a restart.
    fn check_retirement(&mut self, index: usize, lane: &Lane, seen: &[(Seen, Allowed)], perhaps: bool) {
        let shut_out = self.is_shut_out(index, lane);
        let model = &mut self.models[index];
        let retired = lane.standing() == Standing::Retired;
        if retired && !model.retired && !self.closing {
            let said = seen
                .iter()
                .any(|(one, _)| one.lane == index && one.verdict.session == SessionVerdict::Retire);
            let is_spent = may_be_spent(&self.hosts[index], model.setbacks);
            assert!(
                said || shut_out || is_spent || perhaps,
                "lane {index} retires after {} setbacks",
                model.setbacks
            );
            // A restart that was perhaps due may have left it as it was.
            let before = model.shut_out.filter(|_| perhaps).map(|_| false);
            model.shut_out = shut_out.then_some(!said && !is_spent && !perhaps).or(before);
            forget(model);
        }
        if !retired {
            model.shut_out = None;
        }
        model.retired = retired;
    }
}

/// Whether the connection is lost.
fn is_grave(kind: EventKind) -> bool {
    matches!(kind, EventKind::ConnectFail | EventKind::ReconnectFail | EventKind::Hang)
}

const SLACK: Duration = Duration::from_millis(2);
