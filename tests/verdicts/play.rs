//! Plays a line of the tables: brings its event about, answers it, and sees what
//! becomes of the session, of the mail, and of what the lane holds beside it.

use std::cell::Cell;
use std::io::{Error, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use smtp_bulk::coordinator::{BatchSettings, Standing};
use smtp_bulk::{
    Content, Credentials, Envelope, Failure, LaneId, Message, Pace, SessionVerdict, Step, Verdict,
};

use crate::rows::{Fate, Guard, Link, Peer, Row, Scene, Setting, Then, Way};
use crate::rules::{Seen, SessionFate};
use crate::script::notes::Told;
use crate::script::{Asked, Does, Script, mail, number};
use crate::server::Server;

/// The lane that the event happens on.
pub const HERE: LaneId = LaneId { host: 1, thread: 0 };

/// The lane that keeps the batch running.
pub const THERE: LaneId = LaneId { host: 0, thread: 0 };

/// The mail that the event is about, and the one that keeps the batch running.
const THIS: u64 = 1;
const OTHER: u64 = 2;

/// Those that come before there is anything to see.
const EARLIER: u64 = 3;

/// The first of the other mails of the lane; the next ones follow.
const MATES: u64 = 10;

/// After how long a lane that rests says NOOP, where it does.
const QUIET: Duration = Duration::from_secs(10);

/// The number of "too many open files", the same on every Unix.
const EMFILE: i32 = 24;

/// How a line is played.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub peer: Peer,
    pub guard: Guard,
    pub setting: Setting,
    pub verdict: Verdict,
    /// What is said when the same happens to the mail behind it.
    pub next: Verdict,
    /// Another lane holds a mail.
    pub in_batch: bool,
    pub pace: Pace,
}

pub struct Play<'a> {
    row: &'a Row,
    cast: Cast,
    script: Script,
    fired: Rc<Cell<bool>>,
}

/// How things stood when the event had been answered.
struct Moment {
    /// What had been said until then.
    wire: usize,
    /// Mails that the lane holds on.
    held: usize,
    /// Mails whose fate is final.
    told: Vec<u64>,
}

// ---- mails ------------------------------------------------------------------------

fn letter(id: u64, to: &[&str]) -> Message {
    let envelope = Envelope::parse(&format!("n{id}@example.org"), to.iter().copied()).unwrap();
    Message::new(envelope, format!("Subject: {id}\r\n\r\nNumber {id}.\r\n")).id(id)
}

/// Eight recipients, so that the other lane has many steps to go.
fn other_mail() -> Message {
    let to: Vec<String> = (0..8).map(|n| format!("r{n}@example.net")).collect();
    letter(OTHER, &to.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A source that fails so many times, at its beginning or its end.
fn failing(times: u32, fails: fn() -> Result<&'static str, Error>) -> Content {
    let opened = AtomicU32::new(0);
    let open = move || match opened.fetch_add(1, Relaxed) < times {
        true => fails().map(|text| Box::new(text.as_bytes()) as Box<dyn Read + Send>),
        false => Ok(Box::new(&b"as promised\r\n"[..]) as Box<dyn Read + Send>),
    };
    Content::reader(open).promise(13)
}

fn this_mail(row: &Row) -> Message {
    let (ann, bob, cid) = ("ann@example.net", "bob@example.net", "cid@example.net");
    let one = letter(THIS, &[ann]);
    let with = |content| Message::new(one.envelope().clone(), content).id(THIS);
    // Behind others it is tried to be sent with them, and told of when it comes first.
    let times = 1 + u32::from(row.place > 0);
    match row.scene {
        Scene::Two => letter(THIS, &[ann, bob]),
        Scene::Three => letter(THIS, &[ann, bob, cid]),
        Scene::AllOrNothing => letter(THIS, &[ann, bob]).all_or_nothing(),
        Scene::Utf8 => letter(THIS, &["jürgen@example.net"]),
        Scene::Unreadable => with(failing(times, || Err(Error::other("no disk")))),
        Scene::Short => with(failing(times, || Err(Error::from_raw_os_error(EMFILE)))),
        Scene::Broken => with(failing(1, || Ok("short"))),
        _ => one,
    }
}

/// The recipient that the event is about, and the other one of two.
fn parties(row: &Row) -> (&'static str, &'static str) {
    match row.scene {
        Scene::Utf8 => ("jürgen", ""),
        Scene::Two if row.asked == "second RCPT" => ("bob", "ann"),
        Scene::Two | Scene::AllOrNothing => ("ann", "bob"),
        Scene::Three => ("bob", ""),
        _ => ("ann", ""),
    }
}

impl Play<'_> {
    pub fn new(row: &Row, cast: Cast) -> Play<'_> {
        let Cast { guard, setting, pace, .. } = cast;
        let settings = BatchSettings { pace, ..BatchSettings::default() };
        let mut script = Script::with(&[1, 1], settings, |host| {
            let is_here = host.name == "b.example";
            if is_here {
                host.pipeline = setting.level;
                host.depth = setting.depth;
                host.is_lmtp = setting.is_lmtp;
            }
            if is_here && row.scene == Scene::Quiet {
                host.noop_after = Some(QUIET);
                host.timeouts.rset = QUIET / 10;
            }
            // A change is one for all hosts.
            if is_here || guard == Guard::ChangingPassword {
                host.security = guard.security();
                host.credentials = guard.credentials();
            }
        });
        if let Some(offers) = setting.offers {
            let asks = |asked: &Asked<'_>| asked.lane == HERE && matches!(asked.what, "EHLO" | "LHLO");
            script.serve(move |asked| asks(asked).then_some(Does::Say(offers)));
        }
        let fired = Rc::new(Cell::new(false));
        let mut play = Play { row, cast, script, fired };
        play.listen();
        play
    }

    /// Says what is to be said to the event, once.
    fn listen(&mut self) {
        let (fired, Cast { verdict, next, .. }) = (Rc::clone(&self.fired), self.cast);
        let (kind, step, it) = (self.row.kind, self.row.step, parties(self.row).0);
        let this = self.row.has_mail().then_some(THIS);
        let behind = self.mate(self.row.place + 1);
        self.script.decide(move |event| {
            if (event.kind, event.step, event.lane) != (kind, step, HERE) {
                return Verdict::DEFAULT;
            }
            let id = event.message.map(number);
            let meant = event.recipient.is_none_or(|path| path.to_string().starts_with(it));
            // Behind the last reply there is no mail any more.
            let is_this = id.is_none() || id == this;
            if is_this && meant && !fired.replace(true) {
                verdict
            } else if id == Some(behind) {
                next
            } else {
                Verdict::DEFAULT
            }
        });
    }

    /// The mail that stands there among the lane's.
    fn mate(&self, place: usize) -> u64 {
        if place == self.row.place { THIS } else { MATES + place as u64 }
    }

    /// The lane's mails in their order.
    fn mates(&self) -> Vec<u64> {
        (0..self.row.way.mails()).map(|place| self.mate(place)).collect()
    }

    fn take(&mut self, id: u64) {
        let message = if id == THIS { this_mail(self.row) } else { letter(id, &["mate@example.net"]) };
        self.script.take(message);
    }

    /// The server of the lane in question does what the row says, once.
    fn serve(&mut self) {
        let mut server = Server::new(self.row, self.cast.peer, self.cast.setting);
        self.script.serve(move |asked| if asked.lane == HERE { server.answer(asked) } else { None });
        self.script.midst = match (self.row.asked, self.row.way) {
            ("mid-content", _) if self.cast.setting.is_chunked() => Some((HERE, "Number 1.")),
            ("between", Way::Overlap) => Some((HERE, "MAIL FROM:<n1@")),
            ("between", _) => Some((HERE, "RSET")),
            _ => None,
        };
    }

    pub fn seen(mut self) -> Seen {
        let (moment, session) = self.played();
        self.fates(&moment, session)
    }

    /// What becomes of the session alone: where lanes are dealt mails at any time it is not told
    /// apart what a lane has kept from what it was dealt since.
    pub fn session(mut self) -> SessionFate {
        self.played().1
    }

    fn played(&mut self) -> (Moment, SessionFate) {
        self.set_the_scene();
        self.script.coordinator.set_flushing(true);
        let moment = self.reach_the_event();
        let before = moment.wire;
        // The batch goes on for as long as the other lane is held back.
        let standing = self.script.standing(HERE);
        let mut session =
            if standing == Standing::Benched { SessionFate::SitsOut } else { SessionFate::Stays };
        if self.cast.in_batch {
            self.script.stuck = vec![THERE];
        }
        if let Some(waits) = self.reopened(before) {
            session = SessionFate::Reopens { at_end: false, waits };
        }
        self.script.stuck.clear();
        let waits = self.reopened(before);
        if matches!(session, SessionFate::Stays | SessionFate::SitsOut) {
            session = match waits {
                Some(waits) => SessionFate::Reopens { at_end: self.cast.in_batch, waits },
                None if self.script.standing(HERE) == Standing::Retired => SessionFate::Retires,
                None => session,
            };
        }
        match self.row.scene {
            // It goes on without end.
            Scene::Quiet => self.script.pass(3 * QUIET),
            _ => self.script.exhaust(),
        }
        if self.has_connected(THERE, before) {
            session = match session {
                SessionFate::Reopens { at_end, waits } => SessionFate::Restart { at_end, waits },
                other => panic!("{}: {other:?} and a restart", self.row.label()),
            };
        }
        self.check_the_end(before, session);
        (moment, session)
    }

    // ---- up to the event ------------------------------------------------------------

    fn set_the_scene(&mut self) {
        let script = &mut self.script;
        match self.row.scene {
            Scene::First => {
                script.stuck = vec![HERE];
                script.run();
            }
            _ => script.open(),
        }
        match self.row.scene {
            Scene::Later => {
                script.stuck = vec![HERE];
                assert!(script.coordinator.reconnect(HERE));
                script.settle();
            }
            Scene::Behind => self.refuse_one(),
            _ => {}
        }
        if self.row.way == Way::Overlap {
            self.serve();
            self.come_to_the_first_content();
        } else if self.cast.in_batch {
            self.begin_the_batch();
        }
        if self.row.way != Way::Overlap {
            self.serve();
        }
        self.script.stuck.clear();
        let is_silent = matches!(self.cast.peer, Peer::Silence);
        if self.cast.in_batch && !self.row.has_mail() && is_silent {
            // The batch goes on for longer than the silence.
            self.script.stuck = vec![THERE];
        }
        if self.row.scene == Scene::Resting {
            self.script.lane_mut(HERE).session_mut().lost(Failure::Closed);
        }
        if self.row.scene == Scene::Quiet {
            self.script.now += QUIET;
        }
    }

    /// A mail is refused on the lane, and its transaction stays open.
    fn refuse_one(&mut self) {
        let script = &mut self.script;
        script.serve(|asked| {
            let is_of_mail = matches!(asked.what, "MAIL" | "RCPT" | "DATA");
            (asked.lane == HERE && is_of_mail).then_some(Does::Say("554 no\r\n"))
        });
        // As many as are dealt at once, so that the other lane is the next deal's first.
        (0..=u64::from(self.cast.setting.depth)).for_each(|more| script.take(mail(EARLIER + more)));
        script.coordinator.set_flushing(true);
        script.run();
        script.coordinator.set_flushing(false);
        assert!(script.lane(HERE).session().needs_reset());
    }

    fn begin_the_batch(&mut self) {
        self.script.coordinator.set_flushing(true);
        self.script.take(other_mail());
        match self.row.scene {
            Scene::First | Scene::Later | Scene::Quiet => {
                self.script.settle();
                (0..3).for_each(|_| self.script.step());
            }
            Scene::Resting => {
                let script = &mut self.script;
                script.serve(|asked| {
                    (asked.lane == HERE && asked.what == "MAIL").then_some(Does::Say("554 no\r\n"))
                });
                script.take(mail(EARLIER + 1));
                script.settle();
                (0..3).for_each(|_| script.step());
            }
            scene => {
                self.mates().into_iter().for_each(|id| self.take(id));
                if scene == Scene::Dead {
                    self.script.settle();
                    self.script.lane_mut(HERE).session_mut().lost(Failure::Closed);
                }
            }
        }
    }

    /// The lane's server waits for the first content, which the envelope of the second
    /// mail is to go with, in the batch of the other lane's long mail.
    fn come_to_the_first_content(&mut self) {
        let mates = self.mates();
        self.script.coordinator.set_flushing(true);
        self.script.coordinator.set_feeding(true);
        // The other lane has had a mail, so that it is not the first one's turn.
        self.script.take(mail(EARLIER));
        self.script.run();
        self.take(mates[0]);
        self.script.run();
        assert_eq!(self.script.progress.hungry, 1, "the first content waits");
        assert!(!self.fired.get());
        self.script.take(other_mail());
        self.take(mates[1]);
        self.script.coordinator.set_feeding(false);
    }

    /// Steps up to the event.
    fn reach_the_event(&mut self) -> Moment {
        let label = self.row.label();
        let told = self.script.notes.seen.len();
        for _ in 0..30 {
            let mut wire = self.script.wire.len();
            self.script.settle();
            if !self.fired.get() {
                self.script.sweep();
                self.change_credentials();
                wire = self.script.wire.len();
            }
            if !self.fired.get() && !self.script.coordinator.is_step_over(self.script.now) {
                self.script.wait();
            }
            if self.fired.get() {
                if self.cast.verdict.session == SessionVerdict::Default
                    && self.cast.next.session == SessionVerdict::Default
                {
                    let runs = self.cast.in_batch && self.cast.pace != Pace::Free;
                    assert_eq!(self.script.progress.batch_running, runs, "{label}");
                }
                self.check_the_events(told);
                let told = self.script.notes.told.iter().map(|told| told.id).collect();
                return Moment { wire, held: self.script.lane(HERE).held(), told };
            }
        }
        panic!("{label} {:?}: no such event in {:?}", self.cast, self.script.wire);
    }

    /// What comes of a refusal in the same flight is told to nobody.
    fn check_the_events(&self, since: usize) {
        let events = self.script.notes.seen.iter().skip(since);
        let troubles = events.filter(|seen| seen.lane == HERE && seen.kind.is_trouble()).count();
        if self.row.has_mail() {
            let expected = usize::from(self.row.kind.is_trouble()) + usize::from(self.row.is_cut_off);
            assert_eq!(troubles, expected, "{}", self.row.label());
        }
    }

    /// Where they are to change, they do as soon as they are refused, and
    /// before anybody has looked at the refusal.
    fn change_credentials(&mut self) {
        // What there is to judge while a lane is opening, and not about its opening, is of AUTH.
        let lane = self.script.lane(HERE);
        let session = lane.session();
        let is_judged = session.has_answer() || session.failure().is_some();
        let is_refused = lane.standing() == Standing::Opening && is_judged;
        if self.cast.guard == Guard::ChangingPassword && is_refused {
            let others = Credentials::password("tim", "better").allow_without_tls();
            self.script.coordinator.authenticate(&others, self.script.now);
        }
    }

    // ---- what became of it ----------------------------------------------------------

    fn has_connected(&self, id: LaneId, since: usize) -> bool {
        let line = format!("{}:{} connect", id.host, id.thread);
        self.script.wire.iter().skip(since).any(|said| *said == line)
    }

    /// Whether the lane was opened anew, and if so whether that took waiting.
    fn reopened(&mut self, since: usize) -> Option<bool> {
        self.script.run();
        if self.has_connected(HERE, since) {
            return Some(false);
        }
        let soon = self.script.now + Duration::from_secs(2);
        while self.script.progress.wake_at.is_some_and(|at| at <= soon) {
            self.script.wait();
            self.script.run();
            if self.has_connected(HERE, since) {
                return Some(true);
            }
        }
        None
    }

    fn fates(&self, moment: &Moment, session: SessionFate) -> Seen {
        let none = Fate::None;
        if !self.row.has_mail() {
            return Seen { session, it: none, others: none, before: none, behind: none };
        }
        let (it, other) = parties(self.row);
        let others = if other.is_empty() { none } else { self.fate(THIS, other, moment) };
        let (before, behind) = match self.row.scene {
            Scene::Three => (self.fate(THIS, "ann", moment), self.fate(THIS, "cid", moment)),
            _ => {
                let place = self.row.place;
                let all = 0..self.row.way.mails();
                (self.fate_of_all(0..place, moment), self.fate_of_all(place + 1..all.end, moment))
            }
        };
        let it = match self.fate(THIS, it, moment) {
            Fate::GoesOn if self.row.kind.is_trouble() => Fate::GoesOnWithout,
            it => it,
        };
        Seen { session, it, others, before, behind }
    }

    /// Mails in these places have one fate.
    fn fate_of_all(&self, places: std::ops::Range<usize>, moment: &Moment) -> Fate {
        let mut fates = places.map(|place| self.fate(self.mate(place), "mate", moment));
        let Some(first) = fates.next() else { return Fate::None };
        assert!(fates.all(|fate| fate == first), "{}: not one fate", self.row.label());
        first
    }

    /// What becomes of this recipient of the mail.
    fn fate(&self, id: u64, who: &str, moment: &Moment) -> Fate {
        let told = self.script.notes.told.iter().find(|told| told.id == id).expect("no report");
        if moment.told.contains(&id) {
            assert_eq!(told.attempts, 1);
            return outcome(told, who);
        }
        if self.holds_on(id, moment) {
            return Fate::GoesOn;
        }
        let asks = |line: &String| line.contains("RCPT") && line.contains(&format!("<{who}@"));
        if told.recipients.len() > 1 && !self.script.wire.iter().skip(moment.wire).any(asks) {
            return outcome(told, who);
        }
        match told.attempts {
            1 => Fate::Free,
            2 => Fate::Again,
            other => panic!("{}: {other} attempts", self.row.label()),
        }
    }

    /// Whether the lane has kept the mail: what it says next belongs to the transaction,
    /// or, of another mail than the event's, it is not begun anew. Of those that were
    /// not begun it is seen by how many the lane holds.
    fn holds_on(&self, id: u64, moment: &Moment) -> bool {
        let (said, later) = self.script.wire.split_at(moment.wire);
        let begins =
            |lines: &[String], id: u64| lines.iter().any(|line| line.contains(&format!("MAIL FROM:<n{id}@")));
        let next = later.iter().find_map(|line| line.strip_prefix("1:0 ")).unwrap_or_default();
        let goes_further = ["RCPT", "DATA", "content", "BDAT"].iter().any(|verb| next.starts_with(verb));
        let is_at_content = self.row.step == Step::Content;
        let goes_on = |id: &u64| match *id {
            THIS => goes_further && !is_at_content && self.row.then != Then::GoesAhead,
            mate => !begins(later, mate),
        };
        let open: Vec<u64> = self.mates().into_iter().filter(|id| !moment.told.contains(id)).collect();
        let (begun, fresh): (Vec<u64>, Vec<u64>) = open.into_iter().partition(|id| begins(said, *id));
        let begun: Vec<u64> = begun.into_iter().filter(goes_on).collect();
        // The event's own is given up, where it was not begun.
        let fresh: Vec<u64> = fresh.into_iter().filter(|id| *id != THIS).collect();
        let others = moment.held.checked_sub(begun.len()).expect("more go on than are held");
        assert!(others == 0 || others == fresh.len(), "{}: some are held", self.row.label());
        begun.contains(&id) || (others > 0 && fresh.contains(&id))
    }

    /// What holds for every event and verdict.
    fn check_the_end(&self, before: usize, session: SessionFate) {
        let label = self.row.label();
        let script = &self.script;
        let told = &script.notes.told;
        assert_eq!(script.coordinator.open_mails(), 0, "{label}");
        let times = |id| told.iter().filter(|told| told.id == id).count();
        for id in self.mates() {
            assert_eq!(times(id), usize::from(self.row.has_mail()), "{label}: {id}");
        }
        assert_eq!(times(OTHER), usize::from(self.cast.in_batch), "{label}");
        if let Some(other) = told.iter().find(|told| told.id == OTHER) {
            assert_eq!((other.outcome, other.attempts), ("delivered", 1), "{label}: the others go on");
        }
        assert_eq!(script.standing(THERE), Standing::Active);
        let expected = if session == SessionFate::Retires { Standing::Retired } else { Standing::Active };
        assert_eq!(script.standing(HERE), expected, "{label}");
        let prefix = format!("{}:{} ", HERE.host, HERE.thread);
        let first = script.wire.iter().skip(before).find_map(|line| line.strip_prefix(prefix.as_str()));
        let fit = matches!(self.row.link, Link::Fit | Link::Doubtful);
        assert_eq!(first == Some("QUIT"), session.is_replaced() && fit, "{label} {:?}: {first:?}", self.cast);
    }
}

fn outcome(told: &Told, who: &str) -> Fate {
    let own = told.recipients.iter().find(|line| line.starts_with(who)).expect("no such recipient");
    Fate::of_outcome(own.rsplit(' ').next().unwrap_or_default())
}
