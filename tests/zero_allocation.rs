//! A warmed-up batch of single-recipient mails needs no memory beyond the caller's, neither in
//! coordinator and session nor in the whole mailer. Allocations are counted per thread, so that the
//! embedded server and the test harness count for nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use smol::future::block_on;
use smtp_bulk::coordinator::{BatchSettings, Coordinator, Lane, Link};
use smtp_bulk::host::HostSettings;
use smtp_bulk::sink::{Keep, Sink};
use smtp_bulk::{
    Content, Envelope, Handler, Host, Mailer, Message, Report, Step, StepTaken, Template, Verdict,
};

const TEXT: &str = "Subject: hello\r\n\r\n.A dot in front, a bare line end\nand a last line without one";

/// Mails of every content that is held in memory.
fn messages(count: usize) -> Vec<Message> {
    let template = Template::parse("Subject: {{name}}\n\n.Dear {{name}}").unwrap();
    let mut contents = [
        Content::from(TEXT),
        Content::from(TEXT.to_owned()),
        Content::from(vec![b'x'; 4096]),
        template.merge([("name", "Ann")]).unwrap(),
    ]
    .into_iter()
    .cycle();
    let message = |number: usize| {
        let to = format!("user{number}@example.net");
        let envelope = Envelope::parse("news@example.org", [to]).unwrap();
        Message::new(envelope, contents.next().unwrap()).id(number as u64)
    };
    (0..count).map(message).collect()
}

/// Keeps the messages that it is given, so that giving them up is not counted either.
struct Keeper {
    messages: Vec<Message>,
    /// How many steps it was told of, if it wants to be.
    steps: Option<usize>,
}

impl Handler for Keeper {
    fn report(&mut self, report: Report<'_>) {
        assert!(report.outcome.is_delivered(), "{}", report.outcome);
        self.messages.push(report.message);
    }
    fn wants_steps(&self) -> bool {
        self.steps.is_some()
    }
    fn step_taken(&mut self, taken: &StepTaken<'_>) {
        self.steps = self.steps.map(|steps| steps + usize::from(!taken.end.is_trouble()));
    }
}

/// Coordinator and sessions on one side, canned replies on the other.
struct Engine {
    coordinator: Coordinator,
    keeper: Keeper,
    out: Vec<u8>,
    now: Instant,
}

impl Engine {
    fn new(hosts: usize, threads: u32, mails: usize, is_watched: bool) -> Engine {
        let host = HostSettings { name: "mx.example".to_owned(), threads, ..HostSettings::default() };
        let now = Instant::now();
        Engine {
            coordinator: Coordinator::new(vec![host; hosts], BatchSettings::default(), now),
            keeper: Keeper { messages: Vec::with_capacity(mails), steps: is_watched.then_some(0) },
            out: Vec::with_capacity(128 * 1024),
            now,
        }
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        self.coordinator.settle(self.now, &mut self.keeper);
        for lane in self.coordinator.lanes_mut() {
            answer(lane, &mut self.out, self.now);
        }
    }

    /// Sends all, as the mailer does: takes a mail when there is room, and settles when a batch is
    /// due.
    fn send(&mut self, mails: &mut Vec<Message>) {
        while let Some(mail) = mails.pop() {
            self.coordinator.take(mail, self.now).expect("a batch has left room");
            while self.coordinator.is_batch_due(self.now) {
                self.turn();
            }
        }
    }
}

/// Does for a lane what the network and a friendly server would.
fn answer(lane: &mut Lane, out: &mut Vec<u8>, now: Instant) {
    if lane.link() == Link::Wanted {
        lane.dialling(now);
        lane.connected(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), now);
    }
    let session = lane.session_mut();
    while !session.is_over() {
        out.clear();
        session.fill(out);
        session.wrote(out.len(), now);
        session.receive(reply_to(session.step()), now);
    }
}

fn reply_to(step: Step) -> &'static [u8] {
    match step {
        Step::Greeting => b"220 mx.example ESMTP\r\n",
        Step::Ehlo => b"250-mx.example at your service\r\n250-SIZE 10240000\r\n250 ENHANCEDSTATUSCODES\r\n",
        Step::Mail | Step::Rcpt => b"250 2.1.0 Ok\r\n",
        Step::Data => b"354 go ahead\r\n",
        Step::Content => b"250-2.0.0 Ok\r\n250 2.0.0 queued as 4F1D2C3B4A\r\n",
        other => panic!("nothing is said at {other}"),
    }
}

#[test]
fn the_counter_sees_what_this_thread_allocates() {
    let boxed = measure(|| drop(std::hint::black_box(Box::new([0_u8; 100]))));
    assert_eq!((boxed.count_total, boxed.bytes_total, boxed.bytes_current), (1, 100, 0));
}

#[test]
fn a_warm_batch_allocates_nothing_in_coordinator_and_session() {
    assert_eq!(send_warm(false), None);
}

#[test]
fn to_be_told_of_its_steps_allocates_nothing_either() {
    assert_eq!(send_warm(true), Some(2 * 25 * (1 + 102 * 4)), "an opening, and four steps a mail");
}

/// Sends many batches without an allocation; says how many steps were told.
fn send_warm(is_watched: bool) -> Option<usize> {
    const LANES: usize = 2 * 25;
    const BATCHES: usize = 100;
    let mut engine = Engine::new(2, 25, LANES * (BATCHES + 2), is_watched);
    let mut mails = messages(LANES * 2);
    while engine.coordinator.lanes().iter().any(|lane| !lane.session().is_ready()) {
        engine.turn();
    }
    engine.turn();
    engine.send(&mut mails);
    assert_eq!(engine.keeper.messages.len(), LANES * 2, "two batches warm it up");

    let mut mails = messages(LANES * BATCHES);
    let used = measure(|| engine.send(&mut mails));

    assert_eq!(engine.keeper.messages.len(), LANES * (BATCHES + 2));
    assert_eq!(used, AllocationInfo::default());
    let summary = engine.coordinator.summary(engine.now);
    assert_eq!(
        (summary.mails.delivered, summary.batches),
        (engine.keeper.messages.len() as u64, BATCHES as u64 + 2)
    );
    engine.keeper.steps
}

#[test]
fn a_warm_mailer_allocates_nothing_over_sockets() {
    const LANES: usize = 20;
    const BATCHES: usize = 100;
    let sink = Sink::builder().keep(Keep::Nothing).start().unwrap();
    let mut kept = Vec::with_capacity(LANES * (BATCHES + 2));
    let builder = Mailer::builder()
        .host(Host::new("127.0.0.1").port(sink.port()).threads(LANES as u32))
        .on_pass(|event| if event.message.is_some() { Verdict::DEFAULT } else { Verdict::RETIRE })
        .on_report(move |report| kept.push(report.message));
    // This executor leaves the reactor to its own thread. Where it runs on the mailer's thread
    // instead, as under `smol::block_on`, async-io allocates a little at each of its wake-ups,
    // however many mails that is for: 1 to 6 times a mail, freed at once.
    let mut mailer = block_on(builder.connect()).unwrap();
    block_on(mailer.send_all(messages(LANES * 2))).unwrap();
    assert_eq!(mailer.summary().mails.delivered as usize, LANES * 2, "two batches warm it up");

    let mails = messages(LANES * BATCHES);
    let used = measure(|| block_on(mailer.send_all(mails)).unwrap());

    assert_eq!((used.count_total, used.bytes_total), (0, 0));
    let summary = block_on(mailer.quit()).unwrap();
    assert_eq!((summary.mails.delivered, summary.taken), (sink.counts().mails, sink.counts().mails));
    assert_eq!(summary.taken as usize, LANES * (BATCHES + 2));
}
