//! A coordinator driven by hand: scripted servers answer the sessions
//! directly, time is virtual, and a handler notes all that it is told. No
//! socket, no thread, no sleep. Also included by `tests/verdicts/`, so it
//! names nothing that is not public.
#![allow(dead_code, reason = "no test that includes it needs all of it")]

use std::time::{Duration, Instant};

use super::smtp_bulk::coordinator::{BatchSettings, Coordinator, Lane, Link, Progress, Standing};
use super::smtp_bulk::host::{Hello, HostSettings};
use super::smtp_bulk::{
    Envelope, Event, EventKind, Failure, IoFault, LaneId, Message, MessageId, Step, TlsFault, TlsProblem,
    Verdict,
};
use notes::Notes;

// The path keeps it beside this file, whoever includes this.
#[path = "notes.rs"]
pub mod notes;

/// Rounds after which a script is taken for one that never ends.
const MAX_ROUNDS: usize = 10_000;

/// What a server does when it is asked something.
pub enum Does {
    Say(&'static str),
    /// Says nothing, and is never heard again on this connection.
    Hang,
    Close,
    /// Says this, and closes.
    Last(&'static str),
    /// The connection cannot be made, or not be protected. Only to "connect"
    /// and "TLS".
    Refuse,
    /// We ourselves lack the means to connect, and try again after this.
    Postpone(Duration),
}

/// What a server is asked: "connect", "TLS", "greeting", a command's verb,
/// "mid-content" when half of a content that DATA was said for has arrived, or what
/// is before [`Script::midst`], "content", or "BDAT" when a chunk has.
pub struct Asked<'a> {
    pub lane: LaneId,
    pub what: &'a str,
    /// The command, or the whole content.
    pub line: &'a str,
}

pub type Rule = dyn FnMut(&Asked<'_>) -> Option<Does>;

/// What the server at the other end of a lane knows.
#[derive(Default)]
struct Server {
    connection: u64,
    heard: Vec<u8>,
    content: Option<Vec<u8>>,
    /// Octets of a chunk that have to come.
    chunk: Option<usize>,
    is_deaf: bool,
}

/// Coordinator, servers, handler and clock.
pub struct Script {
    pub now: Instant,
    pub coordinator: Coordinator,
    pub notes: Notes,
    pub progress: Progress,
    /// Lanes whose bytes are not moved for the time being.
    pub stuck: Vec<LaneId>,
    /// What this lane writes arrives in two pieces where it has this text in it, and
    /// not at its beginning.
    pub midst: Option<(LaneId, &'static str)>,
    rule: Box<Rule>,
    servers: Vec<Server>,
    /// Everything that happened on the wires, in order: "host:thread what".
    pub wire: Vec<String>,
}

pub fn lane(host: u32, thread: u32) -> LaneId {
    LaneId { host, thread }
}

/// A mail with this id to one recipient.
pub fn mail(id: u64) -> Message {
    mail_to(id, &["ann@example.net"])
}

/// A mail with this id to these recipients.
pub fn mail_to(id: u64, to: &[&str]) -> Message {
    let envelope = Envelope::parse("news@example.org", to.iter().copied()).unwrap();
    Message::new(envelope, format!("Subject: {id}\r\n\r\nNumber {id}.\r\n")).id(id)
}

pub fn number(message: &Message) -> u64 {
    match message.message_id() {
        MessageId::Number(number) => *number,
        other => panic!("no number: {other}"),
    }
}

impl Script {
    /// One host for each number of threads, and default settings.
    pub fn new(threads: &[u32]) -> Script {
        Script::with(threads, BatchSettings::default(), |_| {})
    }

    pub fn with(threads: &[u32], settings: BatchSettings, change: impl Fn(&mut HostSettings)) -> Script {
        let now = Instant::now();
        let hosts = threads.iter().zip('a'..).map(|(threads, name)| {
            let mut host = HostSettings {
                name: format!("{name}.example"),
                threads: *threads,
                hello: Hello::Name("client.example".parse().unwrap()),
                ..HostSettings::default()
            };
            change(&mut host);
            host
        });
        let mut coordinator = Coordinator::new(hosts.collect(), settings, now);
        let servers = coordinator.lanes().iter().map(|_| Server::default()).collect();
        let progress = coordinator.settle(now, &mut ());
        let notes = Notes {
            seen: Vec::new(),
            told: Vec::new(),
            news: Vec::new(),
            decide: Box::new(|_| Verdict::DEFAULT),
            on_report: Box::new(|_| {}),
            wants: Box::new(|_| true),
            taken: None,
            on_step: Box::new(|_| {}),
        };
        let rule: Box<Rule> = Box::new(|_| None);
        Script {
            now,
            coordinator,
            notes,
            progress,
            stuck: Vec::new(),
            midst: None,
            rule,
            servers,
            wire: Vec::new(),
        }
    }

    /// What the servers do from now on; where it says `None`, what a friendly
    /// server does.
    pub fn serve(&mut self, rule: impl FnMut(&Asked<'_>) -> Option<Does> + 'static) {
        self.rule = Box::new(rule);
    }

    /// What the callbacks say from now on.
    pub fn decide(&mut self, decide: impl FnMut(&Event<'_>) -> Verdict + 'static) {
        self.notes.decide = Box::new(decide);
    }

    /// Hands over a mail that there must be room for.
    pub fn take(&mut self, message: Message) {
        assert!(self.coordinator.take(message, self.now).is_ok(), "no room");
    }

    /// Moves all bytes that can be moved.
    pub fn sweep(&mut self) {
        let Script { now, coordinator, stuck, midst, rule, servers, wire, .. } = self;
        servers.resize_with(coordinator.lanes().len(), Server::default);
        for (lane, server) in coordinator.lanes_mut().iter_mut().zip(servers) {
            if stuck.contains(&lane.id()) {
                continue;
            }
            let midst = midst.filter(|(id, _)| *id == lane.id()).map(|(_, text)| text);
            let mut end = Line { lane, server, rule, wire, midst, now: *now };
            let mut rounds = 0;
            while end.moved() {
                rounds += 1;
                assert!(rounds < MAX_ROUNDS, "a session without end");
            }
        }
        coordinator.has_looked(*now);
    }

    pub fn settle(&mut self) {
        self.progress = self.coordinator.settle(self.now, &mut self.notes);
    }

    /// One step of the lockstep.
    pub fn step(&mut self) {
        self.sweep();
        self.settle();
    }

    /// Steps until nothing happens any more without time passing.
    pub fn run(&mut self) {
        self.settle();
        for _ in 0..MAX_ROUNDS {
            self.sweep();
            let over = self.coordinator.is_step_over(self.now);
            self.settle();
            let due = self.progress.wake_at.is_some_and(|at| at <= self.now);
            let wanted = |lane: &Lane| lane.link() == Link::Wanted && !self.stuck.contains(&lane.id());
            if !over && !due && !self.lanes().any(wanted) {
                return;
            }
        }
        panic!("a batch without end");
    }

    /// Runs the short batch too, and lets time pass, until nothing is left to
    /// be waited for.
    pub fn finish(&mut self) {
        self.coordinator.set_flushing(true);
        for _ in 0..MAX_ROUNDS {
            self.run();
            if self.coordinator.open_mails() == 0 || !self.wait() {
                return;
            }
        }
        panic!("mails without end");
    }

    /// Lets time pass until nothing is waited for, mails or not.
    pub fn exhaust(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.run();
            if !self.wait() {
                return;
            }
        }
        panic!("a wait without end");
    }

    /// Lets time pass up to what comes next; `false` when nothing does.
    pub fn wait(&mut self) -> bool {
        let Some(next) = self.next_due() else { return false };
        self.pass_to(next);
        true
    }

    /// Lets so much time pass, and all happen that comes with it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while let Some(next) = self.next_due().filter(|next| *next <= end) {
            self.pass_to(next);
            self.run();
        }
        self.pass_to(end);
        self.run();
    }

    fn next_due(&self) -> Option<Instant> {
        let lanes = self.coordinator.lanes().iter();
        let over_at = self.coordinator.step_over_at();
        let due = self.progress.wake_at.into_iter().chain(over_at);
        lanes.filter_map(|lane| lane.session().deadline()).chain(due).min()
    }

    fn pass_to(&mut self, time: Instant) {
        self.now = self.now.max(time);
        for lane in self.coordinator.lanes_mut() {
            lane.session_mut().check_deadline(self.now);
        }
        self.coordinator.has_looked(self.now);
        self.settle();
    }

    /// All lanes are open and rest.
    pub fn open(&mut self) {
        self.run();
        assert!(self.lanes().all(|lane| lane.standing() == Standing::Active), "{:?}", self.wire);
        self.notes.seen.clear();
        self.wire.clear();
    }

    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.coordinator.lanes().iter()
    }

    pub fn lane(&self, id: LaneId) -> &Lane {
        self.lanes().find(|lane| lane.id() == id).expect("no such lane")
    }

    pub fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        self.coordinator.lanes_mut().iter_mut().find(|lane| lane.id() == id).expect("no such lane")
    }

    pub fn standing(&self, id: LaneId) -> Standing {
        self.lane(id).standing()
    }

    /// The reports: id, outcome and attempts.
    pub fn outcomes(&self) -> Vec<(u64, &'static str, u32)> {
        let mut all: Vec<_> =
            self.notes.told.iter().map(|told| (told.id, told.outcome, told.attempts)).collect();
        all.sort_unstable();
        all
    }

    /// Events without those of openings: kind, step, and the reply's code or 0.
    pub fn mail_events(&self) -> Vec<(EventKind, Step, u16)> {
        let openings = [
            EventKind::ConnectPass,
            EventKind::ConnectFail,
            EventKind::ReconnectPass,
            EventKind::ReconnectFail,
        ];
        let seen = self.notes.seen.iter().filter(|seen| !openings.contains(&seen.kind));
        seen.map(|seen| (seen.kind, seen.step, seen.code.unwrap_or(0))).collect()
    }

    /// The lane's server is heard again.
    pub fn revive(&mut self, id: LaneId) {
        let place = self.lanes().position(|lane| lane.id() == id).expect("no such lane");
        self.servers[place].is_deaf = false;
    }

    /// What was said on one lane, verbs only.
    pub fn said(&self, id: LaneId) -> Vec<&str> {
        let prefix = format!("{}:{} ", id.host, id.thread);
        let lines = self.wire.iter().filter_map(|line| line.strip_prefix(prefix.as_str()));
        lines.map(|line| line.split_once(' ').map_or(line, |(verb, _)| verb)).collect()
    }
}

/// One lane, its server, and what is between them.
struct Line<'a> {
    lane: &'a mut Lane,
    server: &'a mut Server,
    rule: &'a mut Box<Rule>,
    wire: &'a mut Vec<String>,
    midst: Option<&'static str>,
    now: Instant,
}

impl Line<'_> {
    /// Moves some bytes, if there are any.
    fn moved(&mut self) -> bool {
        if self.server.connection != self.lane.connection() {
            *self.server = Server { connection: self.lane.connection(), ..Server::default() };
        }
        match self.lane.link() {
            Link::Wanted => self.connect(),
            Link::Up => self.talk(),
            _ => false,
        }
    }

    fn connect(&mut self) -> bool {
        self.lane.dialling(self.now);
        match self.ask("connect", "") {
            Some(Does::Refuse) => {
                let kind = std::io::ErrorKind::ConnectionRefused;
                let fault = IoFault { kind, text: "connection refused".into() };
                self.lane.not_connected(Failure::Connect(fault));
            }
            Some(Does::Postpone(wait)) => self.lane.postponed(self.now + wait),
            Some(Does::Hang) => {}
            _ => {
                self.lane.connected(None, self.now);
                self.greet();
            }
        }
        true
    }

    /// Says the greeting, if it is the server's turn.
    fn greet(&mut self) {
        if self.lane.session().step() == Step::Greeting {
            self.answer("greeting", "", "220 mx.example\r\n");
        }
    }

    fn shake_hands(&mut self) {
        self.lane.session_mut().securing(self.now);
        match self.ask("TLS", "") {
            None => {
                self.lane.session_mut().secured(self.now);
                self.greet();
            }
            Some(Does::Hang) => self.server.is_deaf = true,
            Some(Does::Refuse) => {
                let problem = TlsProblem::UnknownIssuer;
                let fault = TlsFault::new(problem, "mx.example", "self-signed certificate");
                self.lane.session_mut().lost(Failure::Tls(fault));
            }
            Some(_) => self.lane.session_mut().lost(Failure::Closed),
        }
    }

    fn talk(&mut self) -> bool {
        if self.server.is_deaf {
            return false;
        }
        if self.lane.session().wants_tls() {
            self.shake_hands();
            return true;
        }
        let mut out = Vec::new();
        let session = self.lane.session_mut();
        session.fill(&mut out);
        if out.is_empty() {
            let Some(job) = session.take_job() else { return false };
            session.return_job(job.run(), self.now);
            return true;
        }
        if let Some(middle) = self.middle(&out) {
            let rest = out.split_off(middle);
            self.deliver(&out);
            if !self.server.is_deaf {
                self.answer("mid-content", "", "");
            }
            let session = self.lane.session();
            if self.server.is_deaf || session.failure().is_some() || session.is_over() {
                return true;
            }
            out = rest;
        }
        self.deliver(&out);
        true
    }

    /// Where the octets are parted.
    fn middle(&self, out: &[u8]) -> Option<usize> {
        let find = |text: &[u8]| out.windows(text.len()).position(|octets| octets == text);
        if let Some(place) = self.midst.and_then(|text| find(text.as_bytes())) {
            return Some(place).filter(|place| *place > 0);
        }
        let begins_content = self.server.content.as_ref().is_some_and(Vec::is_empty);
        begins_content.then(|| find(b"\r\n.\r\n").unwrap_or(out.len()) / 2)
    }

    fn deliver(&mut self, out: &[u8]) {
        self.lane.session_mut().wrote(out.len(), self.now);
        self.server.heard.extend_from_slice(out);
        self.hear();
    }

    fn hear(&mut self) {
        while !self.server.is_deaf {
            if let Some(content) = &mut self.server.content {
                content.append(&mut self.server.heard);
                let end = content.windows(5).position(|octets| octets == b"\r\n.\r\n");
                let end = if content.starts_with(b".\r\n") { Some(3) } else { end.map(|end| end + 5) };
                let Some(end) = end else { return };
                self.server.heard = content.split_off(end);
                let content = self.server.content.take().unwrap_or_default();
                self.answer("content", &String::from_utf8_lossy(&content), "250 2.0.0 queued\r\n");
                continue;
            }
            if let Some(size) = self.server.chunk {
                if self.server.heard.len() < size {
                    return;
                }
                self.server.chunk = None;
                let chunk: Vec<u8> = self.server.heard.drain(..size).collect();
                self.answer("BDAT", &String::from_utf8_lossy(&chunk), "250 2.0.0 queued\r\n");
                continue;
            }
            let Some(end) = self.server.heard.windows(2).position(|pair| pair == b"\r\n") else { return };
            let line: Vec<u8> = self.server.heard.drain(..end + 2).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line.split(' ').next().unwrap_or_default().to_owned();
            let friendly = match verb.as_str() {
                "DATA" => "354 go on\r\n",
                "QUIT" => "221 bye\r\n",
                "AUTH" => "235 2.7.0 welcome\r\n",
                "EHLO" => "250-mx.example\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN XOAUTH2\r\n",
                "STARTTLS" => "220 go on\r\n",
                "*" => "501 given up\r\n",
                "" => "535 no\r\n",
                "HELO" | "LHLO" | "MAIL" | "RCPT" | "RSET" | "NOOP" | "ETRN" => "250 ok\r\n",
                "HELP" | "VRFY" | "EXPN" => "250 ok\r\n",
                "BDAT" => {
                    let size = line.split(' ').nth(1).and_then(|size| size.parse().ok());
                    self.server.chunk = Some(size.expect("a size"));
                    continue;
                }
                other => panic!("{other:?} is no command"),
            };
            self.answer(&verb, &line, friendly);
        }
    }

    fn answer(&mut self, what: &str, line: &str, friendly: &'static str) {
        let text = match self.ask(what, line) {
            None => friendly,
            Some(Does::Say(text)) => text,
            Some(Does::Hang) => {
                self.server.is_deaf = true;
                return;
            }
            Some(Does::Last(text)) => {
                self.server.is_deaf = true;
                self.lane.session_mut().receive(text.as_bytes(), self.now);
                return self.lane.session_mut().lost(Failure::Closed);
            }
            Some(_) => {
                self.server.is_deaf = true;
                return self.lane.session_mut().lost(Failure::Closed);
            }
        };
        if what == "DATA" && text.starts_with("354") {
            self.server.content = Some(Vec::new());
        }
        self.lane.session_mut().receive(text.as_bytes(), self.now);
    }

    fn ask(&mut self, what: &str, line: &str) -> Option<Does> {
        let id = self.lane.id();
        if what != "mid-content" {
            let line = if line.is_empty() { what } else { line };
            let line = if matches!(what, "content" | "BDAT") { what } else { line };
            self.wire.push(format!("{}:{} {line}", id.host, id.thread));
        }
        (self.rule)(&Asked { lane: id, what, line })
    }
}
