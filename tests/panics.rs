//! Callbacks that panic or use mailers themselves: no mail is lost, none is reported or stored
//! twice, and the mailer can be used further.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smol::Timer;
use smol::future::FutureExt;
use smtp_bulk::sink::{Builder, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{
    Backoff, Content, Envelope, Error, Event, EventKind, Host, LaneId, Mailer, MailerBuilder, Message,
    MessageId, Outcome, Standing, Step, Summary, Verdict,
};

const LANES: u32 = 4;

/// Longer than anything here takes; whoever waits for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a callback calls in order to panic, as often as it was armed for.
#[derive(Clone, Default)]
struct Trap {
    armed: Arc<AtomicU32>,
    sprung: Arc<AtomicU32>,
}

impl Trap {
    fn arm(&self, times: u32) {
        self.armed.store(times, Ordering::SeqCst);
    }

    fn spring(&self) {
        let left = |armed: u32| armed.checked_sub(1);
        if self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            self.sprung.fetch_add(1, Ordering::SeqCst);
            panic!("planted");
        }
    }

    fn sprung(&self) -> u32 {
        self.sprung.load(Ordering::SeqCst)
    }
}

/// A mailer, its server, and what was reported.
struct Ground {
    sink: Sink,
    mailer: Mailer,
    trap: Trap,
    reported: Arc<Mutex<Vec<(u64, &'static str)>>>,
    taken: u64,
}

impl Ground {
    /// Connects `lanes` lanes; `plan` adds callbacks, and `reporting` springs the trap in the
    /// report callback, which is given the message even so.
    fn new(
        sink: Builder,
        lanes: u32,
        reporting: bool,
        plan: impl FnOnce(MailerBuilder, Trap) -> MailerBuilder,
    ) -> Ground {
        let sink = sink.start().unwrap();
        let trap = Trap::default();
        let reported = Arc::new(Mutex::new(Vec::new()));
        let (log, alarm) = (Arc::clone(&reported), trap.clone());
        let builder = builder(&sink, lanes).on_report(move |report| {
            log.lock().unwrap().push((number(report.message.message_id()), report.outcome.name()));
            if reporting {
                alarm.spring();
            }
        });
        let mailer = smol::block_on(plan(builder, trap.clone()).connect()).unwrap();
        Ground { sink, mailer, trap, reported, taken: 0 }
    }

    /// Sends all, over however many panics.
    fn send(&mut self, mails: Vec<Message>) {
        for mail in mails {
            let mailer = &mut self.mailer;
            insist(|| patiently(|| mailer.ready()));
            mailer.try_send(mail).unwrap();
            self.taken += 1;
        }
        insist(|| patiently(|| self.mailer.flush()));
    }

    /// Says that no mail was lost, doubled, or told wrongly, and that the mailer still works.
    fn finish(mut self, case: &str) -> (Summary, BTreeMap<&'static str, u64>) {
        self.trap.arm(0);
        patiently(|| self.mailer.flush()).unwrap();
        let before = self.mailer.summary().mails.delivered;
        let more = 3 * u64::from(LANES);
        self.send(messages(self.taken, more));
        let summary = patiently(|| self.mailer.quit()).unwrap();
        assert_eq!(summary.mails.delivered, before + more, "{case}: the mailer works on");
        assert_eq!((summary.taken, summary.mails.total()), (self.taken, self.taken), "{case}: {summary}");

        let mut reported = std::mem::take(&mut *self.reported.lock().unwrap());
        reported.sort_unstable();
        let ids: Vec<u64> = reported.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, Vec::from_iter(0..self.taken), "{case}: each mail is reported once");
        let stored = stored(&self.sink);
        for (id, outcome) in &reported {
            let copies = stored.get(id).copied().unwrap_or(0);
            match *outcome {
                "delivered" => assert_eq!(copies, 1, "{case}: mail {id}"),
                "in_doubt" => assert!(copies <= 1, "{case}: mail {id}"),
                _ => assert_eq!(copies, 0, "{case}: mail {id} is {outcome}"),
            }
        }
        let mut outcomes = BTreeMap::new();
        reported.iter().for_each(|(_, outcome)| *outcomes.entry(*outcome).or_default() += 1);
        (summary, outcomes)
    }
}

fn builder(sink: &Sink, lanes: u32) -> MailerBuilder {
    let brief = Backoff { base: Duration::from_millis(1), max: Duration::from_millis(10) };
    Mailer::builder().host(Host::new("127.0.0.1").port(sink.port()).threads(lanes)).backoff(brief).seed(1)
}

fn messages(first: u64, count: u64) -> Vec<Message> {
    (first..first + count)
        .map(|number| message(number, format!("Subject: {number}\r\n\r\nhello\r\n")))
        .collect()
}

fn message(number: u64, content: impl Into<Content>) -> Message {
    let to = format!("{number}@example.net");
    Message::new(Envelope::parse("news@example.org", [to]).unwrap(), content).id(number)
}

fn number(id: &MessageId) -> u64 {
    match id {
        MessageId::Number(number) => *number,
        other => panic!("{other} is no number"),
    }
}

/// How often the server holds each mail.
fn stored(sink: &Sink) -> BTreeMap<u64, u64> {
    let mut copies = BTreeMap::new();
    for mail in sink.mails() {
        let (number, _) = mail.forward_paths[0].split_once('@').unwrap();
        *copies.entry(number.parse().unwrap()).or_default() += 1;
    }
    copies
}

/// Runs a call of the mailer; `None` when it panicked as planted.
fn patiently<'a, T, F>(call: impl FnOnce() -> F) -> Option<T>
where
    F: Future<Output = Result<T, Error>> + 'a,
{
    let stuck = async {
        Timer::after(PATIENCE).await;
        None
    };
    let run = || smol::block_on(async { Some(call().await) }.or(stuck));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Some(result)) => Some(result.unwrap()),
        Ok(None) => panic!("stuck"),
        Err(panic) => {
            assert_eq!(panic.downcast_ref(), Some(&"planted"));
            None
        }
    }
}

/// Repeats a call that panicked; one that never ends to do so is no progress.
fn insist<T>(mut call: impl FnMut() -> Option<T>) -> T {
    (0..1000).find_map(|_| call()).expect("panics without end")
}

/// Panics at events of this kind and step.
fn at(kind: EventKind, step: Step) -> impl FnOnce(MailerBuilder, Trap) -> MailerBuilder {
    move |builder, trap| {
        builder.on(kind, move |event: &Event<'_>| {
            if event.step == step {
                trap.spring();
            }
            Verdict::DEFAULT
        })
    }
}

/// Runs a case with one panic, a few, and as many as there are occasions.
fn each_way(case: &str, run: impl Fn(u32) -> (Ground, Vec<Message>)) {
    for panics in [1, 3, u32::MAX] {
        let (mut ground, mails) = run(panics);
        ground.trap.arm(panics);
        ground.send(mails);
        assert!(ground.trap.sprung() > 0, "{case}: nothing has panicked");
        let (summary, _) = ground.finish(&format!("{case}, {panics} panics"));
        assert!(summary.taken > 0);
    }
}

fn keeping() -> Builder {
    Sink::builder().keep(smtp_bulk::sink::Keep::All)
}

#[test]
fn a_panic_at_a_pass_loses_no_mail() {
    for step in [Step::Mail, Step::Rcpt, Step::Data, Step::Content] {
        each_way(&format!("pass at {step}"), |_| {
            (Ground::new(keeping(), LANES, false, at(EventKind::Pass, step)), messages(0, 10))
        });
    }
}

#[test]
fn a_panic_of_one_who_only_looks_loses_no_mail() {
    each_way("step", |_| {
        let refuse = Fault::new(At::Rcpt, Misdeed::refuse(550, "no")).times(2);
        let plan = |builder: MailerBuilder, trap: Trap| builder.on_step(move |_| trap.spring());
        (Ground::new(keeping().fault(refuse), LANES, false, plan), messages(0, 10))
    });
}

#[test]
fn a_panic_at_a_refusal_loses_no_mail() {
    let steps = [
        (At::Mail, Step::Mail),
        (At::Rcpt, Step::Rcpt),
        (At::Data, Step::Data),
        (At::Content, Step::Content),
        (At::Dot, Step::Content),
    ];
    for (place, step) in steps {
        for code in [450, 550, 421] {
            each_way(&format!("{code} at {step}"), |_| {
                let refuse = Fault::new(place, Misdeed::refuse(code, "not now")).times(3);
                let ground = Ground::new(keeping().fault(refuse), LANES, false, at(EventKind::Fail, step));
                (ground, messages(0, 10))
            });
        }
    }
}

#[test]
fn a_panic_at_a_content_that_fails_loses_no_mail() {
    type Make = fn(u64) -> Message;
    let missing: Make = |number| message(number, Content::file("/nonexistent/mail.eml"));
    let broken: Make = |number| {
        let fails = || std::io::Read::chain(&b"half a "[..], Broken);
        message(number, Content::reader(move || Ok(Box::new(fails()))))
    };
    let foreign: Make = |number| {
        let envelope = Envelope::parse("news@example.org", [format!("b\u{fc}cher{number}@example.net")]);
        Message::new(envelope.unwrap(), "hello\r\n").id(number)
    };
    let cases = [
        ("missing", missing, Step::Data),
        ("broken", broken, Step::Content),
        ("foreign", foreign, Step::Mail),
    ];
    for (case, make, step) in cases {
        each_way(case, |_| {
            let mut mails = messages(0, 10);
            [0, 3, 9].into_iter().for_each(|number| mails[number] = make(number as u64));
            (Ground::new(keeping(), LANES, false, at(EventKind::Fail, step)), mails)
        });
    }
}

/// A reader that fails at once.
struct Broken;

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the disk is gone"))
    }
}

#[test]
fn a_panic_at_a_lost_connection_loses_no_mail() {
    let steps =
        [(At::Mail, Step::Mail), (At::Rcpt, Step::Rcpt), (At::Data, Step::Data), (At::Dot, Step::Content)];
    for (place, step) in steps {
        for misdeed in [Misdeed::Close, Misdeed::garbage(), Misdeed::HalfReplyClose] {
            each_way(&format!("{misdeed:?} at {step}"), |_| {
                let fault = Fault::new(place, misdeed.clone()).times(3);
                let ground = Ground::new(keeping().fault(fault), LANES, false, at(EventKind::Hang, step));
                (ground, messages(0, 10))
            });
        }
    }
}

#[test]
fn a_panic_in_a_report_loses_no_mail_but_the_one_it_was_given() {
    let faults = [
        Fault::new(At::Mail, Misdeed::refuse(550, "never")).times(2),
        Fault::new(At::Dot, Misdeed::Close).times(2),
        Fault::new(At::Rcpt, Misdeed::refuse(450, "not now")).address_prefix("7@"),
        Fault::new(At::Rcpt, Misdeed::refuse(550, "unknown")).address_prefix("8@"),
    ];
    for panics in [1, 5, u32::MAX] {
        let sink = faults.iter().cloned().fold(keeping(), Builder::fault);
        let mut ground =
            Ground::new(sink, LANES, true, |builder, _| {
                let drop_nine =
                    |event: &Event<'_>| event.message.is_some_and(|mail| number(mail.message_id()) == 9);
                builder.on_pass(move |event| {
                    if drop_nine(event) { Verdict::DEFAULT.drop_message() } else { Verdict::DEFAULT }
                })
            });
        ground.trap.arm(panics);
        ground.send(messages(0, 20));
        assert_eq!(ground.trap.sprung(), panics.min(20));
        let (summary, outcomes) = ground.finish(&format!("report, {panics} panics"));
        let expected = [("abandoned", 1), ("dropped", 1), ("in_doubt", 2), ("refused", 3)];
        for (outcome, count) in expected {
            assert_eq!(outcomes.get(outcome), Some(&count), "{outcome}: {summary}");
        }
    }
}

#[test]
fn a_panic_while_connecting_comes_out_of_connect() {
    let sink = Sink::start().unwrap();
    let trap = Trap::default();
    trap.arm(1);
    let alarm = trap.clone();
    let builder = builder(&sink, LANES).on_connect_pass(move |_| {
        alarm.spring();
        Verdict::DEFAULT
    });
    assert!(patiently(|| builder.connect()).is_none());
    assert_eq!(trap.sprung(), 1);
}

/// One lane is opened anew while mails wait; the callback of that opening panics.
fn reopened(kind: EventKind, sink: Builder) {
    for panics in [1, 2, u32::MAX] {
        let lane = LaneId { host: 0, thread: 0 };
        let mut ground = Ground::new(sink.clone(), 1, false, |builder, trap| {
            builder.on(kind, move |_| {
                trap.spring();
                Verdict::DEFAULT
            })
        });
        ground.mailer.try_send(message(0, "hello\r\n")).unwrap();
        ground.taken = 1;
        ground.trap.arm(panics);
        assert!(patiently(|| ground.mailer.reconnect(lane)).is_none(), "{kind}: nothing has panicked");
        insist(|| patiently(|| ground.mailer.flush()));
        let standing: Vec<_> = ground.mailer.lanes().map(|lane| (lane.lane, lane.standing)).collect();
        assert_eq!(standing, [(lane, Standing::Active)], "{kind}");
        ground.finish(&format!("{kind}, {panics} panics"));
    }
}

#[test]
fn a_panic_at_a_reopening_loses_neither_mail_nor_lane() {
    let greeting = |misdeed| Fault::new(At::Greeting, misdeed).skip(1).times(2);
    reopened(EventKind::ReconnectPass, keeping());
    reopened(EventKind::ReconnectFail, keeping().fault(greeting(Misdeed::refuse(554, "go away"))));
    reopened(EventKind::ReconnectFail, keeping().fault(greeting(Misdeed::Close)));
}

#[test]
fn a_panic_at_a_first_opening_that_comes_late_loses_neither_mail_nor_lane() {
    let refuse = || Fault::new(At::Greeting, Misdeed::refuse(554, "go away")).times(1);
    for kind in [EventKind::ConnectPass, EventKind::ConnectFail] {
        let sink = keeping().fault(refuse());
        // The first fault keeps its occasion from the second.
        let sink = if kind == EventKind::ConnectFail { sink.fault(refuse().skip(1)) } else { sink };
        let mut ground = Ground::new(sink, 2, false, |builder, trap| {
            // Long enough for the lanes that were refused to be opened only when they are told to.
            let hours = Backoff { base: Duration::from_secs(7200), max: Duration::from_secs(7200) };
            let spring = move |_: &Event<'_>| {
                trap.spring();
                Verdict::DEFAULT
            };
            builder.backoff(hours).on(kind, spring)
        });
        let lane = ground.mailer.lanes().find(|lane| lane.standing == Standing::Benched).unwrap().lane;
        ground.mailer.try_send(message(0, "hello\r\n")).unwrap();
        ground.taken = 1;
        ground.trap.arm(1);
        assert!(patiently(|| ground.mailer.reconnect(lane)).is_none(), "{kind}");
        patiently(|| ground.mailer.reconnect(lane)).unwrap();
        assert!(ground.mailer.lanes().all(|lane| lane.standing == Standing::Active), "{kind}");
        ground.finish(&kind.to_string());
    }
}

// ---- giving up ---------------------------------------------------------------

#[test]
fn a_panic_in_a_report_of_abort_keeps_what_is_to_be_returned() {
    // One recipient is refused for good and the other for now: that mail can only be reported.
    let faults = [
        Fault::new(At::Rcpt, Misdeed::refuse(550, "unknown")).address_prefix("no@"),
        Fault::new(At::Rcpt, Misdeed::refuse(450, "not now")).address_prefix("later@"),
    ];
    let sink = faults.into_iter().fold(keeping(), Builder::fault);
    let mut ground = Ground::new(sink, 2, true, |builder, _| builder.max_attempts(1000));
    let split = Envelope::parse("news@example.org", ["no@example.net", "later@example.net"]).unwrap();
    ground.mailer.try_send(Message::new(split, "hello\r\n").id(7)).unwrap();
    smol::block_on(async {
        // Runs until the first attempt at it is over.
        while ground.mailer.summary().requeued == 0 {
            let flushed = async { ground.mailer.flush().await.map(|_| true) };
            let moment = async {
                Timer::after(Duration::from_millis(1)).await;
                Ok(false)
            };
            assert!(!flushed.or(moment).await.unwrap(), "the mail is never finished");
        }
    });
    ground.mailer.try_send(message(8, "hello\r\n")).unwrap();
    ground.trap.arm(u32::MAX);

    let panicked = catch_unwind(AssertUnwindSafe(|| ground.mailer.abort()));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"planted"));
    assert_eq!(ground.reported.lock().unwrap().as_slice(), [(7, "partial")]);
    let returned = ground.mailer.abort();
    let ids: Vec<u64> = returned.iter().map(|mail| number(mail.message_id())).collect();
    assert_eq!(ids, [8]);
    let summary = ground.mailer.summary();
    assert_eq!((summary.taken, summary.mails.partial, summary.mails.unsent), (2, 1, 1));

    // It can even be opened again.
    ground.trap.arm(0);
    patiently(|| ground.mailer.restart()).unwrap();
    for mail in returned {
        ground.mailer.try_send(mail).unwrap();
    }
    patiently(|| ground.mailer.quit()).unwrap();
    assert_eq!(stored(&ground.sink), BTreeMap::from([(8, 1)]));
}

#[test]
fn a_mailer_dropped_with_mail_reports_all_of_it_even_if_each_report_panics() {
    let mut ground = Ground::new(keeping(), LANES, true, |builder, _| builder);
    for mail in messages(0, 3) {
        ground.mailer.try_send(mail).unwrap();
    }
    ground.trap.arm(u32::MAX);
    let Ground { mailer, reported, trap, .. } = ground;
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(mailer)));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"planted"));
    assert_eq!(trap.sprung(), 3);
    assert_eq!(reported.lock().unwrap().as_slice(), [(0, "unsent"), (1, "unsent"), (2, "unsent")]);
}

/// Keeps the lines of the crate's own log.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("smtp_bulk")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_mailer_dropped_while_unwinding_only_logs() {
    static LINES: Lines = Lines(Mutex::new(Vec::new()));
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let mut ground = Ground::new(keeping(), LANES, true, |builder, _| builder);
    for mail in messages(0, 3) {
        ground.mailer.try_send(mail).unwrap();
    }
    // A report would panic within a panic, which ends the process.
    ground.trap.arm(u32::MAX);
    let Ground { mailer, reported, .. } = ground;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _mailer = mailer;
        panic!("the caller's own");
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"the caller's own"));
    assert!(reported.lock().unwrap().is_empty());
    let lines = LINES.0.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("3 messages unreported")), "{lines:?}");
}

// ---- mailers within callbacks --------------------------------------------------

#[test]
fn a_report_may_send_the_mail_elsewhere_through_another_mailer() {
    let elsewhere = Sink::builder().keep(smtp_bulk::sink::Keep::All).start().unwrap();
    let refusing =
        keeping().fault(Fault::new(At::Rcpt, Misdeed::refuse(550, "not here")).times(5)).start().unwrap();
    let mut other = smol::block_on(builder(&elsewhere, 2).connect()).unwrap();
    let callback = move |report: smtp_bulk::Report<'_>| {
        if let Outcome::Refused(_) = report.outcome {
            smol::block_on(async {
                other.send(report.message).await.unwrap();
                other.flush().await.unwrap();
            });
        }
    };
    let mut mailer = smol::block_on(builder(&refusing, LANES).on_report(callback).connect()).unwrap();
    smol::block_on(mailer.send_all(messages(0, 20))).unwrap();
    let summary = patiently(|| mailer.quit()).unwrap();
    assert_eq!((summary.mails.delivered, summary.mails.refused), (15, 5));
    let (mut here, there) = (stored(&refusing), stored(&elsewhere));
    assert_eq!((here.len(), there.len()), (15, 5));
    here.extend(there);
    assert_eq!(here, (0..20).map(|number| (number, 1)).collect());
}

#[test]
fn a_panic_in_a_nested_mailer_passes_through_both_and_harms_neither() {
    let inner_sink = Sink::builder().keep(smtp_bulk::sink::Keep::All).start().unwrap();
    let inner_trap = Trap::default();
    let alarm = inner_trap.clone();
    let inner = builder(&inner_sink, 1).on_pass(move |event| {
        if event.step == Step::Content {
            alarm.spring();
        }
        Verdict::DEFAULT
    });
    let mut inner = smol::block_on(inner.connect()).unwrap();
    let mut copies = 0;
    let mut ground = Ground::new(keeping(), LANES, false, |builder, _| {
        builder.on_pass(move |event| {
            if event.step == Step::Rcpt {
                // A copy of each mail, sent from within the callback.
                inner.try_send(message(1000 + copies, "copy\r\n")).unwrap();
                copies += 1;
                smol::block_on(inner.flush()).unwrap();
            }
            Verdict::DEFAULT
        })
    });
    inner_trap.arm(3);
    ground.send(messages(0, 12));
    assert_eq!(inner_trap.sprung(), 3);
    let (summary, _) = ground.finish("nested");
    let copies = stored(&inner_sink);
    assert_eq!(copies.len() as u64, summary.taken);
    assert!(copies.values().all(|copies| *copies == 1), "{copies:?}");
}
