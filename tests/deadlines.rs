//! Deadlines are the server's: time that passes in the caller's own callbacks is not held against
//! it, and what it has said or done by then counts, whenever it is read.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use smtp_bulk::command::MailLine;
use smtp_bulk::session::Session;
use smtp_bulk::sink::Sink;
use smtp_bulk::{Envelope, EventKind, Host, Mailer, MailerBuilder, Message, Step, Timeouts, Verdict};

const TIMEOUT: Duration = Duration::from_secs(1);

/// What a slow callback takes.
const SLOW: Duration = Duration::from_millis(1500);

fn messages(count: u64) -> Vec<Message> {
    let message = |number| {
        let envelope = Envelope::parse("news@example.org", [format!("{number}@example.net")]).unwrap();
        Message::new(envelope, "Subject: hello\r\n\r\nhello\r\n").id(number)
    };
    (0..count).map(message).collect()
}

/// The kinds of all events at which something went wrong.
type Troubles = Arc<Mutex<Vec<String>>>;

fn noting_trouble(mut builder: MailerBuilder, troubles: &Troubles) -> MailerBuilder {
    for kind in [EventKind::ConnectFail, EventKind::ReconnectFail, EventKind::Fail, EventKind::Hang] {
        let troubles = Arc::clone(troubles);
        builder = builder.on(kind, move |event| {
            troubles.lock().unwrap().push(event.to_string());
            Verdict::DEFAULT
        });
    }
    builder
}

/// Sends a batch during which `slow` sleeps in a callback, and says what was held against the
/// server.
fn troubles_with(slow: impl FnOnce(MailerBuilder, Arc<AtomicBool>) -> MailerBuilder) -> Vec<String> {
    let sink = Sink::start().unwrap();
    let troubles = Troubles::default();
    let host = Host::new("127.0.0.1").port(sink.port()).threads(3).timeouts(Timeouts::uniform(TIMEOUT));
    let is_armed = Arc::new(AtomicBool::new(true));
    let builder = slow(noting_trouble(Mailer::builder().host(host), &troubles), is_armed);
    let mut mailer = smol::block_on(builder.connect()).unwrap();
    smol::block_on(mailer.send_all(messages(6))).unwrap();
    let summary = smol::block_on(mailer.quit()).unwrap();
    assert_eq!((summary.mails.delivered, summary.requeued), (6, 0));
    troubles.lock().unwrap().clone()
}

/// Sleeps once.
fn dawdle(is_armed: &AtomicBool) {
    if is_armed.swap(false, Ordering::SeqCst) {
        thread::sleep(SLOW);
    }
}

#[test]
fn a_slow_callback_makes_no_timeout() {
    thread::scope(|scope| {
        for step in [Step::Mail, Step::Rcpt, Step::Data, Step::Content] {
            scope.spawn(move || {
                let troubles = troubles_with(|builder, is_armed| {
                    builder.on_pass(move |event| {
                        if event.step == step {
                            dawdle(&is_armed);
                        }
                        Verdict::DEFAULT
                    })
                });
                assert_eq!(troubles, [""; 0], "a slow callback at {step}");
            });
        }
        scope.spawn(|| {
            let troubles = troubles_with(|builder, is_armed| {
                builder.on_connect_pass(move |_| {
                    dawdle(&is_armed);
                    Verdict::DEFAULT
                })
            });
            assert_eq!(troubles, [""; 0], "a slow callback at a connection");
        });
        scope.spawn(|| {
            let troubles = troubles_with(|builder, is_armed| builder.on_report(move |_| dawdle(&is_armed)));
            assert_eq!(troubles, [""; 0], "a slow report");
        });
    });
}

/// Serves one connection by hand: `greet` is called before the greeting, and `answer` for each
/// line; it says nothing where that gives nothing, and closes where `answer` gives an error.
fn serve(
    greet: impl FnOnce() + Send + 'static,
    answer: impl Fn(&str) -> Result<Option<&'static str>, ()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        greet();
        say(&mut stream, "220 mx.example ESMTP");
        for line in lines.map_while(Result::ok) {
            match answer(&line) {
                Ok(Some(reply)) => say(&mut stream, reply),
                Ok(None) => {}
                Err(()) => return,
            }
        }
    });
    address
}

fn say(stream: &mut TcpStream, line: &str) {
    stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
}

fn friendly(line: &str) -> Result<Option<&'static str>, ()> {
    Ok(Some(if line.starts_with("QUIT") { "221 bye" } else { "250 fine" }))
}

#[test]
fn what_came_during_a_slow_callback_is_read_before_its_deadline_is_judged() {
    let (begin, begun) = mpsc::channel();
    let quick = serve(|| {}, friendly);
    // Greets while the other lane's callback sleeps, in time for whoever looks.
    let late = serve(move || begun.recv().unwrap(), friendly);
    let troubles = Troubles::default();
    let builder = Mailer::builder()
        .host(Host::new(quick.to_string()))
        .host(Host::new(late.to_string()))
        .threads(1)
        .timeouts(Timeouts::uniform(TIMEOUT));
    let builder = noting_trouble(builder, &troubles).on_connect_pass(move |event| {
        if event.lane.host == 0 {
            begin.send(()).unwrap();
            thread::sleep(SLOW);
        }
        Verdict::DEFAULT
    });
    let mut mailer = smol::block_on(builder.connect()).unwrap();
    smol::block_on(mailer.quit()).unwrap();
    assert_eq!(*troubles.lock().unwrap(), [""; 0]);
}

#[test]
fn a_connection_that_was_closed_is_told_so_though_another_was_awaited() {
    // The one in the middle never answers MAIL, and is awaited while those around it are closed.
    let silent = serve(|| {}, |line| if line.starts_with("MAIL") { Ok(None) } else { friendly(line) });
    let close_late = |line: &str| {
        if line.starts_with("MAIL") {
            thread::sleep(TIMEOUT / 4);
            return Err(());
        }
        friendly(line)
    };
    let closing = || serve(|| {}, close_late);
    let hosts = [closing(), closing(), silent, closing(), closing()];
    let troubles = Troubles::default();
    let builder = Mailer::builder().threads(1).max_connect_failures(1).timeouts(Timeouts::uniform(TIMEOUT));
    let builder = hosts.iter().fold(builder, |builder, host| builder.host(Host::new(host.to_string())));
    let mut mailer = smol::block_on(noting_trouble(builder, &troubles).connect()).unwrap();
    smol::block_on(mailer.send_all(messages(5))).expect_err("no lane is left");
    let mut troubles = troubles.lock().unwrap();
    troubles.iter_mut().for_each(|line| *line = line.rsplit(": ").next().unwrap().to_owned());
    let closed = "closed by the server";
    assert_eq!(*troubles, [closed, closed, "no reply within 1s", closed, closed]);
}

/// A session that stands.
fn ready(timeouts: Timeouts, now: Instant) -> Session {
    let mut session = Session::new(Arc::new(timeouts));
    session.open("client.example".parse().unwrap(), now);
    session.receive(b"220 mx.example\r\n", now);
    let mut out = Vec::new();
    session.fill(&mut out);
    session.wrote(out.len(), now);
    session.receive(b"250 mx.example\r\n", now);
    assert!(session.is_ready());
    session
}

#[test]
fn a_command_has_its_time_from_its_first_octet() {
    let begun = Instant::now();
    let mut session = ready(Timeouts::uniform(TIMEOUT), begun);
    session.flight(begun).mail(MailLine::new(&"news@example.org".parse().unwrap()));
    assert_eq!(session.deadline(), Some(begun + TIMEOUT), "a peer that takes nothing is not waited for");

    let written = begun + SLOW;
    let mut out = Vec::new();
    session.fill(&mut out);
    session.wrote(10, written);
    assert_eq!(session.deadline(), Some(written + TIMEOUT));
    session.wrote(out.len() - 10, written + TIMEOUT / 2);
    assert_eq!(session.deadline(), Some(written + TIMEOUT), "octet by octet is no way to stay");
}
