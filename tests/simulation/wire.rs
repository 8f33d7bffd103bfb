//! One lane's connection in virtual time: what is under way between session
//! and peer. It plays the part of the sockets and of whoever sweeps them, and
//! it keeps the rules that the session sets for that.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use smtp_bulk::coordinator::{Lane, Link, Standing};
use smtp_bulk::host::SHORTEST_QUIET;
use smtp_bulk::session::{FLIGHT_BUFFER, Job, Outgoing, Session};
use smtp_bulk::{Failure, IoFault, Step, TlsFault, TlsProblem};

use super::faults::{self, Scene, timeout};
use super::peer::{Arrival, Offers, Part, Peer};
use super::scribe::{Noise, Scribe};

/// What a dialling comes to.
#[derive(Debug)]
enum Dialled {
    Connected,
    Failed(Failure),
    Postponed(Duration),
}

#[derive(Debug)]
struct Dial {
    number: u64,
    at: Duration,
    outcome: Dialled,
}

/// A TLS handshake under way; without a time it never ends.
#[derive(Clone, Copy, Debug)]
struct Handshake {
    at: Option<Duration>,
    fails: bool,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    peer: Peer,
    scribe: Scribe,
    /// What is under way to the server, and of which flight.
    up: VecDeque<(Duration, Vec<u8>, u64)>,
    down: VecDeque<Arrival>,
    /// What the session has filled and the socket has not taken.
    leftover: Vec<u8>,
    writable_at: Duration,
    job: Option<(Duration, Job)>,
    /// A reading that outlives the connection for which it was begun.
    stray: Option<Job>,
    handshake: Option<Handshake>,
    reads_when_idle: bool,
    flights: u64,
    /// The last flight of which it is known in which settle it was put together, and
    /// of how many mails.
    composed_for: u64,
    composed: (u32, usize),
    /// The flight in which a reply too many was last put, or could have been.
    spoilt: u64,
    /// The session was given what answers nothing: it is never fit again.
    is_tainted: bool,
    /// When the client was given anything last.
    heard_at: Duration,
    /// The flight behind which it was last drawn whether the server gives it up.
    rested_behind: u64,
}

/// What the client was given.
#[derive(Clone, Copy, Debug)]
enum Heard {
    /// The first octet of a reply.
    Begun,
    Reply(usize),
    /// What answers nothing.
    Noise(Noise),
}

/// What has moved on a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    pub any: bool,
    pub dialled: bool,
    /// The opening was put off for want of means of our own.
    pub postponed: bool,
    /// The first octet of a flight was written.
    pub began: bool,
}

#[derive(Debug)]
pub struct Wire {
    lane: usize,
    epoch: Instant,
    dial: Option<Dial>,
    connection: Option<Connection>,
    stray: Option<Job>,
    pub quits: u64,
    /// Flights begun since the lane was dealt a mail.
    pub flights: u64,
}

impl Wire {
    pub fn new(lane: usize, epoch: Instant) -> Wire {
        Wire { lane, epoch, dial: None, connection: None, stray: None, quits: 0, flights: 0 }
    }

    /// Moves what can be moved now.
    pub fn sweep(&mut self, lane: &mut Lane, scene: &mut Scene<'_>) -> Moved {
        let number = lane.connection();
        if self.connection.as_ref().is_some_and(|connection| connection.number != number) {
            self.hang_up(scene);
        }
        self.dial.take_if(|dial| dial.number != number);
        let mut moved = Moved::default();
        match lane.link() {
            Link::Wanted => {
                lane.dialling(self.epoch + scene.now);
                self.dial = Some(Dial { number, ..dial(scene) });
                moved.dialled = true;
                moved.any = true;
            }
            Link::Dialling => moved = self.finish_dialling(lane, scene),
            Link::Up => {
                let now = self.epoch + scene.now;
                lane.session_mut().check_deadline(now);
                let is_at_rest = lane.standing() == Standing::Active && lane.held() == 0;
                if let Some(connection) = &mut self.connection {
                    if is_at_rest {
                        connection.rest(lane.session(), scene);
                    }
                    moved = connection.sweep(lane.session_mut(), now, scene);
                    self.flights += std::mem::take(&mut connection.flights);
                }
            }
            _ => {}
        }
        moved
    }

    /// When something is due on this lane; never before `now`.
    pub fn next_event(&self, lane: &Lane, now: Duration) -> Option<Duration> {
        let mut due: Vec<Duration> = Vec::new();
        due.extend(self.dial.as_ref().map(|dial| dial.at));
        if lane.link() == Link::Up {
            due.extend(lane.session().deadline().map(|at| at.saturating_duration_since(self.epoch)));
            if let Some(connection) = &self.connection {
                connection.add_due(lane.session(), &mut due);
            }
        }
        due.into_iter().filter(|at| *at > now).min()
    }

    /// The client's end is closed: what is under way may arrive, or some of it.
    pub fn hang_up(&mut self, scene: &mut Scene<'_>) {
        let Some(mut connection) = self.connection.take() else { return };
        self.quits += u64::from(connection.peer.has_left());
        connection.peer.is_orphan = true;
        let job = connection.job.take().map(|(_, job)| job).filter(|job| matches!(job, Job::Read(_)));
        self.stray = job.or(connection.stray.take());
        let arrives = connection.peer.has_promised() || scene.random.u8(0..4) > 0;
        for (_, octets, flight) in std::mem::take(&mut connection.up) {
            if arrives {
                connection.peer.flight = flight;
                connection.peer.receive(&octets, scene);
            }
        }
        connection.scribe.check_judged(scene.truth);
        if scene.faultless {
            connection.scribe.check_flights(scene.truth);
            connection.scribe.check_fullness(scene.truth);
        }
    }

    /// What the lane has read is judged.
    pub fn settled(&mut self, lane: &Lane) {
        let Some(connection) = &mut self.connection else { return };
        if connection.number == lane.connection() && !lane.session().has_answer() {
            connection.scribe.settled();
        }
    }

    /// The lane's flight was put together in this settle, of so many mails.
    pub fn composed(&mut self, settle: u32, held: usize) {
        if let Some(connection) = self.connection.as_mut().filter(|one| one.composed_for == one.scribe.flight)
        {
            connection.composed_for += 1;
            connection.composed = (settle, held);
        }
    }

    /// The settle in which the flight that is on its way was put together.
    pub fn composed_in(&self) -> u32 {
        self.connection.as_ref().map_or(0, |connection| connection.scribe.composed)
    }

    pub fn togetherness(&self) -> Option<bool> {
        self.connection.as_ref().and_then(|connection| connection.scribe.togetherness())
    }

    /// The transaction in which the connection has failed.
    pub fn at_fault(&self) -> Option<usize> {
        self.connection.as_ref().and_then(|connection| connection.scribe.at_fault())
    }

    pub fn is_out_of_step(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.scribe.is_out_of_step())
    }

    /// What the server offers on the lane's connection, as its client knows it.
    pub fn offers(&self) -> Option<&Offers> {
        self.connection.as_ref().map(|connection| &connection.scribe.offers)
    }

    fn finish_dialling(&mut self, lane: &mut Lane, scene: &mut Scene<'_>) -> Moved {
        let Some(dial) = self.dial.take_if(|dial| dial.at <= scene.now) else { return Moved::default() };
        let now = self.epoch + scene.now;
        let mut moved = Moved { any: true, ..Moved::default() };
        match dial.outcome {
            Dialled::Failed(failure) => lane.not_connected(failure),
            Dialled::Postponed(wait) => {
                lane.postponed(now + wait);
                moved.postponed = true;
            }
            Dialled::Connected => {
                lane.connected(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), now);
                let greets = !super::peer::is_implicit(scene.security);
                let scribe = Scribe::new(self.lane, dial.number, greets, scene);
                let reads_when_idle = scene.chance(scene.odds.idle_read);
                self.connection = Some(Connection {
                    number: dial.number,
                    peer: Peer::greet(self.lane, dial.number, scene),
                    scribe,
                    up: VecDeque::new(),
                    down: VecDeque::new(),
                    leftover: Vec::new(),
                    writable_at: Duration::ZERO,
                    job: None,
                    stray: self.stray.take(),
                    handshake: None,
                    reads_when_idle,
                    flights: 0,
                    composed_for: 0,
                    composed: (0, 0),
                    spoilt: 0,
                    is_tainted: false,
                    heard_at: Duration::ZERO,
                    rested_behind: 0,
                });
            }
        }
        moved
    }
}

fn dial(scene: &mut Scene<'_>) -> Dial {
    let mut at = scene.now + scene.delay();
    let fault = IoFault { kind: io::ErrorKind::ConnectionRefused, text: "refused".into() };
    let outcome = if scene.chance(scene.odds.postpone) {
        Dialled::Postponed(Duration::from_millis(scene.random.u64(1..2_000)))
    } else if scene.chance(scene.odds.dial) {
        Dialled::Failed(match scene.random.u8(0..3) {
            0 => Failure::Resolve(fault),
            1 => Failure::Connect(fault),
            _ => {
                at = scene.now + scene.timeouts.connect;
                Failure::TimedOut { after: scene.timeouts.connect }
            }
        })
    } else {
        Dialled::Connected
    };
    Dial { number: 0, at, outcome }
}

impl Connection {
    fn sweep(&mut self, session: &mut Session, now: Instant, scene: &mut Scene<'_>) -> Moved {
        let mut any = self.carry(scene);
        if session.wants_tls() {
            any |= self.shake_hands(session, now, scene);
            if session.wants_tls() {
                return Moved { any, ..Moved::default() };
            }
        }
        any |= self.finish_job(session, now, scene);
        self.spoil(session, scene);
        let wants = !session.is_over() || self.reads_when_idle;
        any |= wants && self.read(session, now, scene);
        let had_begun = session.has_flight_begun();
        any |= self.write(session, now, scene);
        let began = !had_begun && session.has_flight_begun();
        let goes_on = session.is_ready() || session.wants_tls();
        assert!(!self.is_tainted || !goes_on, "a session goes on after what answers nothing");
        any |= self.carry(scene);
        Moved { any, began, ..Moved::default() }
    }

    /// Goes on with the TLS handshake, and says whether anything has come of
    /// it. What the server said before is not for TLS to read.
    fn shake_hands(&mut self, session: &mut Session, now: Instant, scene: &mut Scene<'_>) -> bool {
        assert!(
            !session.wants_write() && self.leftover.is_empty(),
            "octets to be sent where TLS comes first"
        );
        assert!(!session.has_unwritten(), "TLS in the middle of a command");
        if self.handshake.is_none() {
            if self.read(session, now, scene) {
                assert!(session.failure().is_some(), "TLS behind what answers nothing");
                return true;
            }
            session.securing(now);
            self.handshake = Some(self.draw_handshake(scene));
        }
        let is_due = |handshake: &mut Handshake| handshake.at.is_some_and(|at| at <= scene.now);
        let Some(handshake) = self.handshake.take_if(is_due) else { return false };
        let (at, number) = (scene.now, self.number);
        scene.truth.note(|| format!("{at:?} connection {number} {handshake:?}"));
        if handshake.fails || !self.peer.is_shaking() {
            let fault = TlsFault::new(TlsProblem::Other, "mx", "bad record");
            session.lost(Failure::Tls(fault));
        } else {
            self.peer.secured(scene);
            self.scribe.secured(super::peer::is_implicit(scene.security));
            session.secured(now);
        }
        true
    }

    /// What arrives in the middle of it is no TLS, and ends it.
    fn draw_handshake(&mut self, scene: &mut Scene<'_>) -> Handshake {
        let sent = self.up.back().map_or(Duration::ZERO, |(at, ..)| *at);
        let at = sent.max(scene.now + scene.thinking(Step::Tls));
        if let Some(arrival) = self.down.front().filter(|arrival| arrival.at <= at) {
            return Handshake { at: Some(arrival.at), fails: true };
        }
        self.down.clear();
        if scene.chance(scene.odds.tls_hang) {
            return Handshake { at: None, fails: true };
        }
        Handshake { at: Some(at), fails: scene.chance(scene.odds.tls) }
    }

    /// What has arrived at the server is read by it, and its answers set out.
    fn carry(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut moved = false;
        while self.up.front().is_some_and(|(at, ..)| *at <= scene.now) {
            let Some((_, octets, flight)) = self.up.pop_front() else { break };
            self.peer.flight = flight;
            self.peer.receive(&octets, scene);
            moved = true;
        }
        for mut arrival in std::mem::take(&mut self.peer.outbox) {
            let last = self.down.back().map_or(Duration::ZERO, |last| last.at);
            arrival.at = arrival.at.max(last);
            self.down.push_back(arrival);
        }
        moved
    }

    fn has_arrived(&self, scene: &Scene<'_>) -> bool {
        self.down.front().is_some_and(|arrival| arrival.at <= scene.now)
    }

    /// When all of a flight's replies are on their way, there may be one too many
    /// among them or behind them. It is read together with those that follow: they
    /// stand for one another, and only their number shows that something is wrong.
    fn spoil(&mut self, session: &Session, scene: &mut Scene<'_>) {
        let is_out = self.up.is_empty() && self.leftover.is_empty() && !session.has_unwritten();
        let is_done = is_out && !session.wants_write() && !session.is_over();
        let is_reply = |arrival: &Arrival| matches!(arrival.part, Part::Reply { .. });
        let are_all_there = self.down.len() == self.scribe.awaited() && self.down.iter().all(is_reply);
        if !scene.flies
            || !is_done
            || !are_all_there
            || self.scribe.is_mid_content()
            || !self.scribe.is_counted()
            || self.spoilt == self.scribe.flight
        {
            return;
        }
        self.spoilt = self.scribe.flight;
        if !self.scribe.may_owe_several()
            || !self.scribe.is_in_transaction()
            || !scene.chance(scene.odds.surplus)
        {
            return;
        }
        let (count, is_pipelined) = (self.down.len(), self.scribe.asked() > 1);
        let is_partly_read = self.down.front().is_some_and(|arrival| arrival.is_begun);
        // Behind a reply too many a 421 would be taken for what it says.
        let is_odd = |arrival: &Arrival| match arrival.part {
            Part::Reply { serial, .. } => matches!(scene.truth.code(serial), 421 | 500 | 502),
            _ => true,
        };
        let is_tellable = self.scribe.is_tellable() && !self.down.iter().any(is_odd);
        let last = self.down.back().map_or(scene.now, |arrival| arrival.at);
        let place = scene.random.usize(usize::from(is_partly_read)..=count);
        if place < count && is_pipelined && is_tellable {
            let octets = faults::surplus_reply(scene.random);
            let surplus = Arrival { is_surplus: false, ..Arrival::new(last, Part::Noise(octets)) };
            self.down.insert(place, surplus);
            for arrival in self.down.iter_mut().skip(place) {
                (arrival.at, arrival.is_glued) = (last, true);
            }
        } else {
            let later = if scene.random.bool() { Duration::ZERO } else { scene.delay() };
            let octets = faults::surplus(scene.random);
            let surplus = Arrival::new(last + later, Part::Noise(octets));
            self.down.push_back(Arrival { is_surplus: true, ..surplus });
        }
    }

    /// The server may give the session up while nothing is asked of it.
    fn rest(&mut self, session: &Session, scene: &mut Scene<'_>) {
        let is_at_rest = session.is_ready() && !session.has_answer() && !session.wants_write();
        let is_silent = self.up.is_empty() && self.down.is_empty() && self.leftover.is_empty();
        if !is_at_rest || !is_silent || self.rested_behind > self.scribe.flight {
            return;
        }
        self.rested_behind = self.scribe.flight + 1;
        if !scene.chance(scene.odds.leave) {
            return;
        }
        let at = scene.now + Duration::from_millis(scene.random.u64(0..15_000));
        if let Some(words) = faults::last_words(scene.random) {
            self.down.push_back(Arrival { is_surplus: true, ..Arrival::new(at, Part::Noise(words)) });
        }
        let end = if scene.random.u8(0..4) == 0 { Part::Reset } else { Part::Close };
        self.down.push_back(Arrival { is_surplus: true, ..Arrival::new(at, end) });
    }

    /// NOOP is said when nothing was heard for so long, and not before.
    fn check_noop(&self, octets: &[u8], scene: &Scene<'_>) {
        if octets.first() == Some(&b'N') {
            let quiet = scene.host.noop_after.map(|quiet| quiet.max(SHORTEST_QUIET));
            let is_due = quiet.is_some_and(|quiet| self.heard_at + quiet <= scene.now);
            assert!(is_due, "NOOP at {:?}, and the server was heard at {:?}", scene.now, self.heard_at);
        }
    }

    /// One read: some of what has arrived, or the end of the connection.
    fn read(&mut self, session: &mut Session, now: Instant, scene: &mut Scene<'_>) -> bool {
        if !self.has_arrived(scene) {
            return false;
        }
        let mut limit = if scene.chance(scene.odds.short) { scene.random.usize(1..30) } else { usize::MAX };
        if self.down.iter().any(|arrival| arrival.is_glued && arrival.at <= scene.now) {
            limit = usize::MAX;
        }
        let mut piece = Vec::new();
        let mut heard = Vec::new();
        while piece.len() < limit && self.has_arrived(scene) {
            let Some(arrival) = self.down.front_mut() else { break };
            let is_glued = arrival.is_glued;
            let (octets, serial) = match &mut arrival.part {
                Part::Reply { octets, serial } => (octets, Some(*serial)),
                Part::Noise(octets) => (octets, None),
                Part::Close | Part::Reset => break,
            };
            let count = octets.len().min(limit - piece.len());
            if serial.is_none() {
                self.is_tainted = true;
                let is_notice = octets.get(..count).is_some_and(|read| read.starts_with(b"421"));
                let alone = if is_notice { Noise::Notice } else { Noise::Behind };
                heard.push(Heard::Noise(if is_glued { Noise::Among } else { alone }));
            }
            piece.extend(octets.drain(..count));
            let was_begun = std::mem::replace(&mut arrival.is_begun, true);
            heard.extend(serial.filter(|_| !was_begun).map(|_| Heard::Begun));
            if octets.is_empty() {
                heard.extend(serial.map(Heard::Reply));
                self.down.pop_front();
            }
        }
        if piece.is_empty() {
            self.ended(session, scene);
            return true;
        }
        if session.failure().is_some() {
            self.scribe.lost();
        }
        session.receive(&piece, now);
        self.heard_at = scene.now;
        let (at, lane, number) = (scene.now, scene.truth.serials(), self.number);
        scene.truth.note(|| {
            let text = String::from_utf8_lossy(piece.get(..200).unwrap_or(&piece)).into_owned();
            format!("{at:?} connection {number} S: {text:?} (of {lane} replies) {:?}", session.failure())
        });
        for one in heard {
            match one {
                Heard::Begun => self.scribe.reply_begins(),
                Heard::Reply(serial) => self.hear(serial, session, scene),
                Heard::Noise(noise) => self.scribe.noise(noise, scene.truth, session),
            }
        }
        true
    }

    fn hear(&mut self, serial: usize, session: &Session, scene: &mut Scene<'_>) {
        let code = scene.truth.code(serial);
        let step = self.scribe.hear(serial, code, scene.truth, session);
        if step == Some(Step::Ehlo) && code < 300 {
            self.scribe.offers = self.peer.offered.clone();
        }
    }

    fn ended(&mut self, session: &mut Session, scene: &mut Scene<'_>) {
        let part = self.down.pop_front().map(|arrival| arrival.part);
        let (at, number) = (scene.now, self.number);
        scene.truth.note(|| format!("{at:?} connection {number} ends: {part:?}"));
        self.scribe.lost();
        session.lost(match part {
            Some(Part::Reset) => {
                Failure::Lost(IoFault { kind: io::ErrorKind::ConnectionReset, text: "reset".into() })
            }
            _ => Failure::Closed,
        });
    }

    /// One write, with a non-blocking read before a flight's first octet.
    fn write(&mut self, session: &mut Session, now: Instant, scene: &mut Scene<'_>) -> bool {
        if session.is_over() {
            self.leftover.clear();
            return false;
        }
        let nothing_to_write = !session.wants_write() && self.leftover.is_empty();
        if nothing_to_write || self.writable_at > scene.now {
            return false;
        }
        if !session.has_flight_begun() && self.read(session, now, scene) {
            return true;
        }
        if self.leftover.is_empty() && !self.fill(session, now, scene) {
            // A failed source ends the flight, a slow one has it wait.
            return session.is_over() || self.job.as_ref().is_some_and(|(at, _)| *at <= scene.now);
        }
        if self.peer.is_stalled {
            return false;
        }
        let whole = self.leftover.len();
        let count = if scene.chance(scene.odds.short) { scene.random.usize(1..=whole) } else { whole };
        let octets: Vec<u8> = self.leftover.drain(..count).collect();
        self.down.retain(|arrival| !arrival.is_surplus || arrival.at <= scene.now);
        if !session.has_flight_begun() {
            self.check_noop(&octets, scene);
            self.scribe.begin_flight();
            let (settle, held) = self.composed;
            self.scribe.composed(settle, held);
            self.composed_for = self.scribe.flight;
            self.flights += 1;
        }
        let at = self.up.back().map_or(Duration::ZERO, |(at, ..)| *at).max(scene.now + scene.delay());
        let (lane, number, now_is) = (self.peer.lane(), self.number, scene.now);
        scene.truth.note(|| {
            let text = String::from_utf8_lossy(octets.get(..600).unwrap_or(&octets)).into_owned();
            format!("{now_is:?} lane {lane} connection {number} writes {}: {text:?}", octets.len())
        });
        self.scribe.wrote(&octets, scene.truth);
        self.up.push_back((at, octets, self.scribe.flight));
        session.wrote(count, now);
        if count < whole {
            self.writable_at = scene.now + scene.delay();
        }
        true
    }

    /// Has the session fill the empty buffer, on every other connection with contents
    /// held apart; starts the reading that a
    /// blocking content may need first.
    fn fill(&mut self, session: &mut Session, now: Instant, scene: &mut Scene<'_>) -> bool {
        if self.number.is_multiple_of(2) {
            let mut outgoing = Outgoing::new();
            session.fill_outgoing(&mut outgoing);
            self.leftover = outgoing.rest(0);
            assert_eq!(self.leftover.len(), outgoing.len(), "not as many octets as it says");
        } else {
            session.fill(&mut self.leftover);
        }
        assert!(self.leftover.len() <= FLIGHT_BUFFER + 1_024, "{} octets in a flight", self.leftover.len());
        if self.leftover.is_empty() && self.job.is_none() {
            let is_late = session.step() == Step::Auth && scene.chance(scene.odds.source);
            let most = timeout(scene.timeouts, Step::Auth).mul_f64(1.3);
            let wait = if is_late { most.mul_f64(scene.random.f64()) } else { scene.delay() };
            self.job = session.take_job().map(|job| (scene.now + wait, job));
            if let Some((_, Job::Read(_))) = self.job
                && let Some(stray) = self.stray.take()
            {
                // It has read another content, which this one has to do without.
                session.return_job(stray.run(), now);
            }
            let waits = self.job.is_some() || self.scribe.awaits_chunks();
            assert!(waits || !session.wants_write(), "the session wants to write and gives nothing");
        }
        !self.leftover.is_empty()
    }

    fn finish_job(&mut self, session: &mut Session, now: Instant, scene: &mut Scene<'_>) -> bool {
        match self.job.take_if(|(at, _)| *at <= scene.now) {
            Some((_, job)) => {
                session.return_job(job.run(), now);
                true
            }
            None => false,
        }
    }

    fn add_due(&self, session: &Session, due: &mut Vec<Duration>) {
        due.extend(self.up.front().map(|(at, ..)| *at));
        due.extend(self.job.as_ref().map(|(at, _)| *at));
        due.extend(self.handshake.and_then(|handshake| handshake.at));
        if !session.is_over() || self.reads_when_idle {
            due.extend(self.down.front().map(|arrival| arrival.at));
        }
        if session.wants_write() || !self.leftover.is_empty() {
            due.push(self.writable_at);
        }
    }
}
