//! What tests of the mailer share: mails that can be told apart, a handler that writes everything
//! down, and the accounts that must agree at the end of every run. It must never wait for a time to
//! pass, only for a condition, with a limit after which a test has failed.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use smol::future::FutureExt;
use smtp_bulk::sink::{Builder, Counts, Keep, Mail, Sink};
use smtp_bulk::{
    Backoff, Envelope, Event, EventKind, Handler, Host, LaneId, Mailer, MailerBuilder, Message, MessageId,
    Report, Step, Summary, Timeouts, Verdict,
};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// A timeout that is meant to be over. Not shorter: the tests share few processors.
pub const SHORT: Duration = Duration::from_millis(500);

/// Runs a future to its end, which has to come.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(future.or(async {
        smol::Timer::after(PATIENCE).await;
        panic!("still not over after {PATIENCE:?}");
    }))
}

/// Says that a test was not made, past the test harness, which shows nothing of a test that passes.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Waits without blocking the mailer that is driven beside it.
pub async fn seen_by(sink: &Arc<Sink>, condition: impl Fn(&Counts) -> bool + Send + 'static) {
    let sink = Arc::clone(sink);
    let seen = smol::unblock(move || sink.wait_for(condition, PATIENCE)).await;
    seen.unwrap_or_else(|counts| panic!("never seen: {counts:?}"));
}

// ---- mails --------------------------------------------------------------------------------------

/// The content that the sink should store for mail `id`.
pub fn text(id: u64) -> String {
    format!("Subject: mail {id}\r\n\r\n.\r\n..dots\r\nthe end of {id}\r\n")
}

/// A mail to one recipient that its number tells apart from all others.
pub fn mail(id: u64) -> Message {
    mail_to(id, &[&format!("r{id}@example.net")])
}

/// A mail to these recipients.
pub fn mail_to(id: u64, to: &[&str]) -> Message {
    let envelope = Envelope::parse("sender@example.org", to).unwrap();
    Message::new(envelope, text(id)).id(id)
}

/// The number of a mail.
pub fn number(id: &MessageId) -> u64 {
    match id {
        MessageId::Number(number) => *number,
        other => panic!("a mail of these tests has a number: {other}"),
    }
}

/// The numbers of mails that were given back.
pub fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| number(message.message_id())).collect()
}

// ---- servers ------------------------------------------------------------------------------------

/// A server that keeps every mail.
pub fn sink(set: impl FnOnce(Builder) -> Builder) -> Arc<Sink> {
    Arc::new(set(Sink::builder().keep(Keep::All)).start().unwrap())
}

/// The sink as a host.
pub fn host(sink: &Sink) -> Host {
    Host::new(sink.address().ip().to_string()).port(sink.port())
}

/// An address that refuses connections for as long as this is held: bound, and never listened on.
pub struct ClosedPort {
    _socket: socket2::Socket,
    pub address: SocketAddr,
}

impl ClosedPort {
    pub fn on(ip: IpAddr) -> io::Result<ClosedPort> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(SocketAddr::new(ip, 0)),
            socket2::Type::STREAM,
            None,
        )?;
        socket.bind(&SocketAddr::new(ip, 0).into())?;
        let address = socket.local_addr()?.as_socket().unwrap();
        Ok(ClosedPort { _socket: socket, address })
    }

    pub fn host(&self) -> Host {
        Host::new(self.address.ip().to_string()).port(self.address.port())
    }
}

// ---- what happened ------------------------------------------------------------------------------

/// An event, without what it borrows.
#[derive(Clone, Debug)]
pub struct Seen {
    pub kind: EventKind,
    pub lane: LaneId,
    pub step: Step,
    pub id: Option<u64>,
    pub recipient: Option<String>,
    pub attempt: u32,
    pub elapsed: Duration,
    /// Its `Display`.
    pub line: String,
}

/// A report, without what it borrows.
#[derive(Debug)]
pub struct Ended {
    pub id: u64,
    pub outcome: &'static str,
    /// The outcome's `Display`.
    pub line: String,
    pub attempts: u32,
    pub lane: Option<LaneId>,
    /// Each recipient and its outcome's name.
    pub recipients: Vec<(String, &'static str)>,
}

#[derive(Default)]
struct Book {
    events: Vec<Seen>,
    reports: Vec<Ended>,
}

type Decide = dyn Fn(&Event<'_>) -> Verdict + Send + Sync;

/// A handler that writes everything down; clones write into the same book.
#[derive(Clone)]
pub struct Log {
    book: Arc<Mutex<Book>>,
    decide: Arc<Decide>,
}

impl Default for Log {
    fn default() -> Log {
        Log::deciding(|_| Verdict::DEFAULT)
    }
}

impl Log {
    pub fn deciding(decide: impl Fn(&Event<'_>) -> Verdict + Send + Sync + 'static) -> Log {
        Log { book: Arc::default(), decide: Arc::new(decide) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn events(&self) -> Vec<Seen> {
        self.book().events.clone()
    }

    pub fn of_kind(&self, kind: EventKind) -> Vec<Seen> {
        self.events().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    pub fn trouble(&self) -> Vec<Seen> {
        self.events().into_iter().filter(|seen| seen.kind.is_trouble()).collect()
    }

    /// Looks at the reports in the order in which they came.
    pub fn reports<T>(&self, look: impl FnOnce(&[Ended]) -> T) -> T {
        look(&self.book().reports)
    }

    /// Number and outcome of each mail, by number.
    pub fn outcomes(&self) -> BTreeMap<u64, &'static str> {
        self.reports(|reports| reports.iter().map(|ended| (ended.id, ended.outcome)).collect())
    }

    fn saw(&self, event: &Event<'_>) -> Verdict {
        let seen = Seen {
            kind: event.kind,
            lane: event.lane,
            step: event.step,
            id: event.message.map(|message| number(message.message_id())),
            recipient: event.recipient.map(ToString::to_string),
            attempt: event.attempt,
            elapsed: event.elapsed,
            line: event.to_string(),
        };
        self.book().events.push(seen);
        (self.decide)(event)
    }
}

impl Handler for Log {
    fn connect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn connect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn auth_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn auth_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn reconnect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn reconnect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn hang(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn global_hang(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn report(&mut self, report: Report<'_>) {
        let recipients = report.recipients();
        let ended = Ended {
            id: number(report.message.message_id()),
            outcome: report.outcome.name(),
            line: report.outcome.to_string(),
            attempts: report.attempts,
            lane: report.lane,
            recipients: recipients.map(|one| (one.path.to_string(), one.outcome.name())).collect(),
        };
        self.book().reports.push(ended);
    }
}

/// Settings for tests: patient, quick to reconnect, and everything written down.
pub fn builder(log: &Log) -> MailerBuilder {
    Mailer::builder()
        .threads(1)
        .timeouts(Timeouts::uniform(PATIENCE))
        .backoff(Backoff { base: Duration::from_millis(1), max: Duration::from_millis(20) })
        .handler(log.clone())
}

/// Connects, sends these mails, and quits.
pub fn send_and_quit(builder: MailerBuilder, mails: impl IntoIterator<Item = Message>) -> Summary {
    run(async {
        let mut mailer = builder.connect().await.unwrap();
        mailer.send_all(mails).await.unwrap();
        mailer.quit().await.unwrap()
    })
}

// ---- accounts -----------------------------------------------------------------------------------

/// Holds the accounts of a run against each other: every mail that was taken has one report or was
/// returned, the counters add up, a delivered mail was stored exactly once and byte for byte, one in
/// doubt at most once, any other never, and the server was never sent anything out of order.
pub fn check_accounts(summary: &Summary, log: &Log, sinks: &[&Sink]) {
    assert_eq!(summary.mails.total(), summary.taken, "outcomes add up: {summary}");
    let reported = log.reports(<[Ended]>::len) as u64;
    assert!(reported <= summary.taken, "{reported} reports of {summary}");
    for name in ["delivered", "partial", "refused", "abandoned", "dropped", "in_doubt", "unsent"] {
        let told = log.reports(|all| all.iter().filter(|ended| ended.outcome == name).count()) as u64;
        match name {
            // What was returned is counted unsent, too, and has no report.
            "unsent" => assert_eq!(told + (summary.taken - reported), tally(summary, name)),
            _ => assert_eq!(told, tally(summary, name), "{name}: {summary}"),
        }
    }
    assert_eq!(log.outcomes().len() as u64, reported, "one report for each mail");
    let stored: Vec<Arc<Mail>> = sinks.iter().flat_map(|sink| sink.mails()).collect();
    log.reports(|reports| reports.iter().for_each(|ended| check_stored(ended, &stored)));
    for sink in sinks {
        assert_eq!(sink.counts().protocol_errors, 0, "{:?}", sink.counts());
    }
}

fn tally(summary: &Summary, name: &str) -> u64 {
    let mails = &summary.mails;
    match name {
        "delivered" => mails.delivered,
        "partial" => mails.partial,
        "refused" => mails.refused,
        "abandoned" => mails.abandoned,
        "dropped" => mails.dropped,
        "in_doubt" => mails.in_doubt,
        _ => mails.unsent,
    }
}

/// Whether what the sink holds of a mail is what its report says, for each of its recipients.
fn check_stored(ended: &Ended, stored: &[Arc<Mail>]) {
    let subject = format!("Subject: mail {}\r\n", ended.id);
    let copies: Vec<_> = stored.iter().filter(|mail| mail.content.starts_with(subject.as_bytes())).collect();
    for copy in &copies {
        assert_eq!(copy.content, text(ended.id).as_bytes(), "byte for byte");
        assert_eq!(copy.reverse_path, "sender@example.org");
    }
    for (recipient, outcome) in &ended.recipients {
        let count = copies.iter().filter(|copy| copy.forward_paths.contains(recipient)).count();
        match *outcome {
            "delivered" => assert_eq!(count, 1, "{recipient}: {ended:?}"),
            "in_doubt" => assert!(count <= 1, "{recipient} has {count}: {ended:?}"),
            _ => assert_eq!(count, 0, "{recipient}: {ended:?}"),
        }
    }
}
