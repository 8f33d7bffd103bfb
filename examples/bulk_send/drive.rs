//! The run itself: the embedded server if no host was named, the mailer, one mail per recipient.
//! It must never hold more mails than the mailer takes; what a mail is and became is the ledger's.

use crate::args::{Args, HostArg};
use crate::job::{Job, MailMaker};
use crate::ledger::{Closed, Ledger};
use crate::progress::Progress;
use crate::recipients::{Record, Source};
use crate::table::Outcome;
use crate::template::Mail;
use crate::trace::Trace;
use async_signal::{Signal, Signals};
use smol::future;
use smol::stream::StreamExt;
use smtp_bulk::envelope::AddressError;
use smtp_bulk::sink::{Builder, Extension, Keep, Sink};
use smtp_bulk::{
    Body, Content, Control, Credentials, Envelope, Error, Event, ForwardPath, Host, Mailer, Message,
    MessageId, Rate, Report, ReversePath, Summary, Timeouts, Verdict,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Mails between two looks at the signals, should the mailer never have to wait.
const YIELD_EVERY: usize = 4096;

/// What the first signal is answered with.
const FINISHING: &str = "interrupted: finishing what is on its way; again to stop at once";

type Book = Arc<Mutex<Ledger>>;

/// What the sessions do, if that is to be drawn.
type Watched = Option<Arc<Mutex<Trace>>>;

/// The first thing that went wrong in opening a session, by the host's position.
type Troubles = Arc<Mutex<BTreeMap<u32, String>>>;

/// How a run ended.
#[derive(Debug)]
pub struct Ending {
    /// What the ledger says.
    pub closed: Closed,
    /// Hosts that were of no use, though the run was.
    pub warnings: Vec<String>,
    /// Why it ended early, if it did.
    pub stop: Option<Stop>,
}

/// Why a run ended early.
#[derive(Debug)]
pub enum Stop {
    /// The input could not be read to its end.
    Input(String),
    /// The mailer cannot work with what it was told; nothing was sent.
    Settings(String),
    /// The user wants no more.
    Interrupted,
    /// No mail can be sent any more.
    Mailer(String),
}

impl Stop {
    /// One line for the user.
    pub fn reason(&self) -> &str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Input(reason) | Self::Settings(reason) | Self::Mailer(reason) => reason,
        }
    }
}

#[derive(Default)]
struct Counters {
    requeued: u64,
    batches: u64,
    warnings: Vec<String>,
}

/// Sends everything and closes the book. A setting that keeps it from starting is an error, and
/// leaves the file of undelivered mail as it was.
pub async fn run(args: &Args, job: Job) -> Result<Ending, String> {
    let (mut source, mut mails, progress) = (job.source, job.mails, job.progress);
    let book = Arc::new(Mutex::new(job.ledger));
    let watched = job.trace.map(|trace| Arc::new(Mutex::new(trace)));
    let started = Instant::now();
    let (counters, sent) =
        send_all(args, job.credentials, &mut source, &mut mails, &book, &progress, &watched).await;
    let seconds = started.elapsed().as_secs_f64();

    let mut stop = sent.err();
    if let Some(Stop::Settings(reason)) = stop {
        drop(lock(&book).close());
        return Err(reason);
    }
    let reason = stop.as_ref().map_or("the run ended", Stop::reason);
    let is_counted = source.left().is_some_and(|rest| lock(&book).leave_counted(rest));
    let left = if is_counted { Ok(()) } else { lock(&book).leave(source, reason) };
    let mut closed = lock(&book).close();
    if let Some(Err(error)) = watched.map(|trace| lock(&trace).finish()) {
        closed.complaints.push(error.to_string());
    }
    match (left, &stop) {
        (Ok(()), _) => {}
        (Err(error), None) => stop = Some(Stop::Input(error.to_string())),
        // The file of undelivered mail lacks what could not be read.
        (Err(error), Some(_)) => closed.complaints.push(error.to_string()),
    }
    closed.figures.requeued = counters.requeued;
    closed.figures.batches = counters.batches;
    closed.figures.seconds = seconds;
    // When no server is left, the reason for the end says why.
    let is_told = matches!(stop, Some(Stop::Mailer(_)));
    let warnings = if is_told { Vec::new() } else { counters.warnings };
    Ok(Ending { closed, warnings, stop })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves both whole: each call on them ends what it began.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- The library's part: everything below names its API. ----------------------------------------

/// The extensions of the embedded server, so that every option has something to work with.
const OFFERED: [Extension; 6] = [
    Extension::Pipelining,
    Extension::Chunking,
    Extension::Size,
    Extension::EightBitMime,
    Extension::SmtpUtf8,
    Extension::Dsn,
];

/// The sender as it goes onto the wire, if this can be one; empty is the null reverse-path.
pub fn check_from(address: &str) -> Result<String, String> {
    reverse_path(address).map(|path| path.wire().to_owned())
}

/// Whether mail can be sent to this address.
pub fn check_recipient(address: &str) -> Result<(), String> {
    forward_path(address).map(drop)
}

fn reverse_path(address: &str) -> Result<ReversePath, String> {
    address.parse().map_err(|error: AddressError| error.to_string())
}

fn forward_path(address: &str) -> Result<ForwardPath, String> {
    address.parse().map_err(|error: AddressError| error.to_string())
}

/// Connects, sends and quits. The mailer is gone when this returns, and all its reports have come.
async fn send_all(
    args: &Args,
    credentials: Option<Credentials>,
    source: &mut Source,
    mails: &mut MailMaker,
    book: &Book,
    progress: &Progress,
    watched: &Watched,
) -> (Counters, Result<(), Stop>) {
    let (hosts, _sink) = match hosts(args) {
        Ok(hosts) => hosts,
        Err(reason) => return (Counters::default(), Err(Stop::Mailer(reason))),
    };
    let signals = Signals::new(ending_signals());
    let mut signals = match signals.map_err(|error| format!("signals: {error}")) {
        Ok(signals) => signals,
        Err(reason) => return (Counters::default(), Err(Stop::Mailer(reason))),
    };
    let troubles = Troubles::default();
    let connecting = connect(args, hosts, credentials, Arc::clone(book), &troubles, watched);
    let mut mailer = match future::or(connecting, interrupted(&mut signals)).await {
        Ok(mailer) => mailer,
        Err(stop) => return (Counters::default(), Err(stop)),
    };
    if let Err(error) = lock(book).begin() {
        return (Counters::default(), Err(Stop::Settings(error.to_string())));
    }
    let stopping = stop_by_signals(mailer.control(), &mut signals, progress);
    // The one that tells the user comes first, because the other may never have to wait.
    let sent = future::or(stopping, send(args, &mut mailer, source, mails, book)).await;
    let summary = mailer.summary();
    let warnings = useless_hosts(&summary, &lock(&troubles));
    (Counters { requeued: summary.requeued, batches: summary.batches, warnings }, sent)
}

/// Those that delivered nothing, and what went wrong first.
fn useless_hosts(summary: &Summary, troubles: &BTreeMap<u32, String>) -> Vec<String> {
    let useless = (0..).zip(&summary.hosts).filter(|(_, host)| host.mails.delivered == 0);
    let trouble = useless.filter_map(|(position, _)| troubles.get(&position));
    trouble.map(|trouble| format!("a host delivered nothing: {trouble}")).collect()
}

/// What ends a run. A hang-up does not when it is ignored, as nohup has it: to listen is to undo that.
fn ending_signals() -> Vec<Signal> {
    let mut signals = vec![Signal::Int, Signal::Term];
    if !is_hang_up_ignored() {
        signals.push(Signal::Hup);
    }
    signals
}

/// Whether SIGHUP, the first bit of the mask, is ignored; where nobody tells, it is not.
fn is_hang_up_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Waits for SIGINT, SIGTERM or SIGHUP; whatever it is awaited beside is dropped then.
async fn interrupted<T>(signals: &mut Signals) -> Result<T, Stop> {
    match signals.next().await {
        Some(_) => Err(Stop::Interrupted),
        None => future::pending().await,
    }
}

/// The first signal has no mail taken any more: a mail cut off is a mail in doubt. The next one ends
/// the run at once, by what is awaited beside it being dropped.
async fn stop_by_signals(control: Control, signals: &mut Signals, progress: &Progress) -> Result<(), Stop> {
    if signals.next().await.is_some() {
        progress.aside(|| drop(writeln!(io::stderr(), "bulk_send: {FINISHING}")));
        control.drain();
    }
    interrupted(signals).await
}

/// Hands over all mails and sends what was taken, however that ended, unless no mail can be sent any
/// more.
async fn send(
    args: &Args,
    mailer: &mut Mailer,
    source: &mut Source,
    mails: &mut MailMaker,
    book: &Book,
) -> Result<(), Stop> {
    let fed = feed(args, mailer, source, mails, book).await;
    if let Err(Stop::Mailer(_) | Stop::Settings(_)) = fed {
        return fed;
    }
    let quit = mailer.quit().await.map(drop).map_err(stop);
    fed.and(quit)
}

/// The hosts asked for; or the embedded server, which stops when it is dropped.
fn hosts(args: &Args) -> Result<(Vec<Host>, Option<Sink>), String> {
    let mut hosts: Vec<Host> = args.hosts.iter().map(host).collect();
    let mut sink = None;
    if hosts.is_empty() {
        let started = embedded(args).map_err(|error| format!("embedded server: {error}"))?;
        hosts.push(Host::new("127.0.0.1").port(started.port()));
        sink = Some(started);
    }
    let tuned = hosts.into_iter().map(|host| {
        let threads = u32::try_from(args.threads).unwrap_or(u32::MAX);
        let host = host.threads(threads).pipeline(args.pipeline).depth(args.depth);
        let host = if args.lmtp { host.lmtp() } else { host };
        match &args.hello {
            Some(name) => host.hello(name),
            None => host,
        }
    });
    Ok((tuned.collect(), sink))
}

fn host(asked: &HostArg) -> Host {
    match asked {
        HostArg::Tcp { name, port: Some(port) } => Host::new(name).port(*port),
        HostArg::Tcp { name, port: None } => Host::new(name),
        HostArg::Unix(path) => Host::unix(path),
    }
}

fn embedded(args: &Args) -> io::Result<Sink> {
    let server = OFFERED.into_iter().fold(Sink::builder().keep(Keep::Nothing), Builder::announce);
    if args.lmtp { server.lmtp().start() } else { server.start() }
}

async fn connect(
    args: &Args,
    hosts: Vec<Host>,
    credentials: Option<Credentials>,
    book: Book,
    troubles: &Troubles,
    watched: &Watched,
) -> Result<Mailer, Stop> {
    let mut builder = Mailer::builder().pace(args.pace).debug(args.debug).security(args.access.security);
    if let Some(tls) = args.access.tls() {
        builder = builder.tls(tls);
    }
    if let Some(credentials) = credentials {
        builder = builder.credentials(credentials);
    }
    if let Some(rate) = args.rate {
        builder = builder.total_rate(Rate::per_second(rate));
    }
    if let Some(mails) = args.per_connection {
        builder = builder.mails_per_connection(mails);
    }
    for host in hosts {
        builder = builder.host(host);
    }
    if let Some(limit) = args.timeout {
        builder = builder.timeouts(Timeouts::uniform(limit));
    }
    if let Some(pattern) = &args.debug_path {
        builder = builder.debug_path(pattern);
    }
    if let Some(trace) = watched.clone() {
        builder = builder.on_step(move |taken| lock(&trace).note(taken));
    }
    let builder = builder.on_report(move |report| {
        let (outcome, id) = (outcome_of(&report), number_of(report.message.message_id()));
        // It stays in the book and leaves with why the run ended, which only its end tells.
        if outcome != Outcome::Unsent {
            lock(&book).report(id, outcome, || reason_of(&report));
        }
    });
    let noting = |troubles: &Troubles| {
        let troubles = Arc::clone(troubles);
        move |event: &Event<'_>| {
            lock(&troubles).entry(event.lane.host).or_insert_with(|| event.to_string());
            Verdict::DEFAULT
        }
    };
    let builder = builder.on_connect_fail(noting(troubles)).on_auth_fail(noting(troubles));
    builder.connect().await.map_err(stop)
}

/// Why no mail can be sent any more. How many the mailer held tells the user nothing: the figures do.
fn stop(error: Error) -> Stop {
    if is_of_settings(&error) {
        return Stop::Settings(error.to_string());
    }
    Stop::Mailer(match error {
        Error::Draining(_) => return Stop::Interrupted,
        Error::AllRetired { last: Some(last), .. } => format!("no server is left to send to: {last}"),
        Error::AllRetired { last: None, .. } => "no server is left to send to".to_owned(),
        other => other.to_string(),
    })
}

fn is_of_settings(error: &Error) -> bool {
    matches!(
        error,
        Error::Host { .. }
            | Error::Setting { .. }
            | Error::Tls { .. }
            | Error::Descriptors { .. }
            | Error::Debug(_)
    )
}

/// Hands over all mails, or those before the first that could not be read.
async fn feed(
    args: &Args,
    mailer: &mut Mailer,
    source: &mut Source,
    mails: &mut MailMaker,
    book: &Book,
) -> Result<(), Stop> {
    let mut feed = Feed { args, source, mails, book, last_id: 0, is_over: false, mistake: None };
    while !feed.is_over {
        // Not one by one: at level 2 a content is sent together with the next mail's envelope, and
        // the mailer has to know that there is a next one.
        mailer.send_all(feed.by_ref().take(YIELD_EVERY)).await.map_err(stop)?;
        future::yield_now().await;
    }
    feed.mistake.map_or(Ok(()), Err)
}

/// The mails to come, each entered into the book before it is handed over.
struct Feed<'a> {
    args: &'a Args,
    source: &'a mut Source,
    mails: &'a mut MailMaker,
    book: &'a Book,
    last_id: u64,
    is_over: bool,
    /// Why it is over before the end of the input.
    mistake: Option<Stop>,
}

impl Feed<'_> {
    /// The next mail, or why there cannot be one for the next recipient.
    fn make(&mut self, record: Record) -> Result<Message, (u64, String)> {
        self.last_id = self.last_id.saturating_add(1);
        let (id, record) = (self.last_id, Arc::new(record));
        let mail = self.mails.make(Arc::clone(&record));
        let message = message(self.args, id, record.email(), mail);
        lock(self.book).take(id, record);
        message.map_err(|reason| (id, reason))
    }
}

impl Iterator for Feed<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        while !self.is_over {
            match self.source.next() {
                Some(Ok(record)) => match self.make(record) {
                    Ok(message) => return Some(message),
                    Err((id, reason)) => lock(self.book).report(id, Outcome::Refused, || reason),
                },
                Some(Err(error)) => {
                    self.mistake = Some(Stop::Input(error.to_string()));
                    self.is_over = true;
                }
                None => self.is_over = true,
            }
        }
        None
    }
}

fn message(args: &Args, id: u64, to: &str, mail: Mail) -> Result<Message, String> {
    let to = forward_path(to)?;
    let envelope = Envelope::new(reverse_path(&args.from)?, to).map_err(|error| error.to_string())?;
    let (length, is_seven_bit) = (mail.len(), mail.is_seven_bit());
    let content = Content::reader(move || Ok(Box::new(mail.reader()))).promise(length);
    // Of any other kind the library knows nothing, and sends it without 8BITMIME too: a server that
    // lacks it takes such mails all the same, as a rule.
    let content = if is_seven_bit { content.body(Body::SevenBit) } else { content };
    Ok(Message::new(envelope, content).id(id))
}

/// Every message of this job has a number.
fn number_of(id: &MessageId) -> u64 {
    if let MessageId::Number(number) = id { *number } else { 0 }
}

/// Why a mail ended as it did, without the outcome's name, which has a column of its own.
fn reason_of(report: &Report<'_>) -> String {
    let text = report.outcome.to_string();
    let reason = text.strip_prefix(report.outcome.name()).unwrap_or(&text);
    let reason = reason.strip_prefix(": ").unwrap_or(reason);
    match (report.step, report.host) {
        (Some(step), Some(host)) => format!("{step} at {host}: {reason}"),
        _ => reason.to_owned(),
    }
}

fn outcome_of(report: &Report<'_>) -> Outcome {
    use smtp_bulk::Outcome as Became;
    match report.outcome {
        Became::Delivered { .. } => Outcome::Delivered,
        Became::Partial { .. } => Outcome::Partial,
        Became::Refused { .. } => Outcome::Refused,
        Became::Abandoned { .. } => Outcome::Abandoned,
        Became::Dropped { .. } => Outcome::Dropped,
        Became::InDoubt { .. } => Outcome::InDoubt,
        // `Unsent`, and whatever a later version adds: neither is a delivery.
        _ => Outcome::Unsent,
    }
}
