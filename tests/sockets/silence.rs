//! Peers that say nothing: what a timeout costs, and that many of them cost no more than one.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Content, EventKind, Host, Message, Step, Timeouts};

use crate::scripted::Scripted;
use crate::support::{Log, PATIENCE, SHORT, builder, check_accounts, host, mail, run, send_and_quit, sink};

const LANES: u32 = 50;

/// One timeout after the other would take fifty of them; this is far from that, and far from one, so
/// that a busy machine does not matter.
const FEW_TIMEOUTS: Duration = SHORT.saturating_mul(10);

#[test]
fn fifty_silent_greetings_cost_one_timeout() {
    // The system accepts into its queue, and nobody ever speaks.
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let log = Log::default();
    let timeouts = Timeouts { greeting: SHORT, ..Timeouts::uniform(PATIENCE) };
    let silent = Host::new("127.0.0.1").port(listener.local_addr().unwrap().port()).threads(LANES);
    let begun = Instant::now();
    let builder = builder(&log).host(silent).timeouts(timeouts).max_connect_failures(1);
    let error = run(builder.connect()).expect_err("nobody speaks");
    assert!(begun.elapsed() < FEW_TIMEOUTS, "{:?}", begun.elapsed());
    assert!(error.to_string().ends_with("no reply within 500ms"), "{error}");
    let fails = log.of_kind(EventKind::ConnectFail);
    assert_eq!(fails.len(), LANES as usize);
    for fail in fails {
        assert_eq!(fail.step, Step::Greeting);
        assert!(fail.elapsed >= SHORT, "{}", fail.line);
        let named = format!("127.0.0.1:{} connect_fail greeting", fail.lane.thread);
        assert!(fail.line.starts_with(&named), "{}", fail.line);
    }
}

#[test]
fn fifty_peers_that_fall_silent_cost_one_timeout() {
    for (at, step) in [(At::Mail, Step::Mail), (At::Rcpt, Step::Rcpt), (At::Dot, Step::Content)] {
        let sink = sink(|sink| sink.fault(Fault::new(at, Misdeed::Hang).times(u64::from(LANES))));
        let log = Log::default();
        let mut timeouts = Timeouts::uniform(PATIENCE);
        (timeouts.mail, timeouts.rcpt, timeouts.final_reply) = (SHORT, SHORT, SHORT);
        let begun = Instant::now();
        let mailer = builder(&log).host(host(&sink)).threads(LANES).timeouts(timeouts);
        let summary = send_and_quit(mailer, (0..u64::from(LANES)).map(mail));
        assert!(begun.elapsed() < FEW_TIMEOUTS, "{:?}", begun.elapsed());
        check_accounts(&summary, &log, &[&sink]);
        let hangs = log.of_kind(EventKind::Hang);
        assert_eq!(hangs.len(), LANES as usize, "{step}");
        assert!(hangs.iter().all(|hang| hang.step == step && hang.elapsed >= SHORT));
    }
}

#[test]
fn one_silent_peer_delays_a_batch_by_one_timeout_and_no_more() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Data, Misdeed::Hang).times(1)));
    let log = Log::default();
    let timeouts = Timeouts { data: SHORT, ..Timeouts::uniform(PATIENCE) };
    let mailer = builder(&log).host(host(&sink)).threads(10).timeouts(timeouts);
    let summary = send_and_quit(mailer, (0..40).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, log.trouble().len()), (40, 1));
    assert_eq!(summary.requeued, 1);
}

/// A content that takes longer to write than the silent peer has to answer.
struct Slow {
    given: usize,
    wait: Duration,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let text = b"Subject: slow\r\n\r\n".get(self.given..).unwrap_or_default();
        if !text.is_empty() {
            std::thread::sleep(self.wait);
        }
        let count = text.len().min(buffer.len());
        buffer[..count].copy_from_slice(&text[..count]);
        self.given += count;
        Ok(count)
    }
}

fn slow_mail(id: u64, wait: Duration) -> Message {
    let (envelope, _) = mail(id).into_parts();
    Message::new(envelope, Content::reader(move || Ok(Box::new(Slow { given: 0, wait })))).id(id)
}

#[test]
fn a_reply_that_has_come_counts_whole_though_it_is_read_late() {
    // More than is read at a time.
    let long = "250-2.0.0 queued, and here is why\r\n".repeat(1_000) + "250 2.0.0 queued\r\n";
    let wordy = Scripted::start(move |mut peer| {
        assert!(peer.behave_until_content());
        while peer.line().is_some_and(|line| line != ".") {}
        peer.say(&long);
        while peer.line().is_some() {
            peer.say("221 bye\r\n");
        }
    });
    let sink = sink(|sink| sink);
    let log = Log::default();
    let hasty = Timeouts { content: SHORT / 50, final_reply: SHORT / 50, ..Timeouts::uniform(PATIENCE) };
    // It lies there, overdue, when the other host's slow mail has been written.
    let builder = builder(&log).timeouts(Timeouts::uniform(PATIENCE));
    let builder = builder.host(wordy.host().timeouts(hasty)).host(host(&sink));
    let summary = send_and_quit(builder, [mail(0), slow_mail(1, SHORT)]);
    assert_eq!(summary.mails.delivered, 2, "{summary}");
}

#[test]
fn one_that_is_overdue_at_once_does_not_keep_the_others_from_being_heard() {
    let late = Misdeed::Delay(SHORT);
    let sink = sink(|sink| sink.fault(Fault::new(At::Dot, late)));
    let silent = Scripted::start(|mut peer| {
        if peer.behave_until_content() {
            while peer.line().is_some() {}
        }
    });
    let log = Log::default();
    let hasty = Timeouts { content: SHORT / 50, final_reply: SHORT / 50, ..Timeouts::uniform(PATIENCE) };
    // The silent one is the last in the order, and awaited.
    let builder = builder(&log).timeouts(Timeouts::uniform(PATIENCE)).host(host(&sink));
    let builder = builder.host(silent.host().timeouts(hasty)).max_connect_failures(1);
    let message = |id| slow_mail(id, SHORT / 10);
    let begun = Instant::now();
    let summary = send_and_quit(builder, (0..2).map(message));
    assert!(begun.elapsed() < FEW_TIMEOUTS, "{:?}", begun.elapsed());
    assert_eq!((summary.mails.delivered, summary.mails.in_doubt), (1, 1), "{summary}");
}

#[test]
fn a_connection_that_is_never_made_times_out() {
    // A queue of one that is full: the system answers no further attempt (Linux), or refuses it.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address.into());
            filler
        })
        .collect();

    let log = Log::default();
    let timeouts = Timeouts { connect: SHORT, ..Timeouts::uniform(PATIENCE) };
    let full = Host::new("127.0.0.1").port(address.port()).threads(5);
    let builder = builder(&log).host(full).timeouts(timeouts).max_connect_failures(1);
    let begun = Instant::now();
    run(builder.connect()).expect_err("nobody accepts");
    assert!(begun.elapsed() < FEW_TIMEOUTS, "{:?}", begun.elapsed());
    let fails = log.of_kind(EventKind::ConnectFail);
    assert!(fails.len() == 5 && fails.iter().all(|fail| fail.step == Step::Connect), "{fails:#?}");
    #[cfg(target_os = "linux")]
    assert!(fails.iter().all(|fail| fail.line.ends_with(": no reply within 500ms")), "{fails:#?}");
    drop(fillers);
}
