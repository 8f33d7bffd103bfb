//! The paces over real sockets: a session that answers late, or not at all, and what the others do
//! meanwhile.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{Error, EventKind, MailerBuilder, Pace, Pipeline, Timeouts};

use crate::scripted::Scripted;
use crate::support::{Log, PATIENCE, SHORT, builder, check_accounts, host, mail, run, send_and_quit, sink};

const THREADS: u32 = 8;

const QUORUM: Pace = Pace::Quorum { share: 0.75, grace: Duration::from_millis(1) };

/// The mails of the first recipient's are answered late at this step, again and again.
fn one_is_late(at: At, late: Duration) -> Arc<Sink> {
    sink(|sink| sink.fault(Fault::new(at, Misdeed::Delay(late)).times(1)))
}

fn paced(log: &Log, sink: &Sink, pace: Pace) -> MailerBuilder {
    builder(log).host(host(sink)).threads(THREADS).pace(pace).timeouts(Timeouts::uniform(PATIENCE))
}

#[test]
fn the_others_go_on_while_one_is_late() {
    for pace in [QUORUM, Pace::Free] {
        for at in [At::Mail, At::Rcpt, At::Data, At::Dot] {
            let sink = one_is_late(at, SHORT);
            let log = Log::default();
            let order = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&order);
            let builder = paced(&log, &sink, pace).on_report(move |report| {
                told.lock().unwrap().push(report.lane.map(|lane| lane.thread));
            });
            let summary = run(async {
                let mut mailer = builder.connect().await?;
                mailer.send_all((0..400).map(mail)).await?;
                mailer.quit().await
            });
            let summary = summary.unwrap();
            assert_eq!((summary.mails.delivered, sink.counts().mails), (400, 400), "{pace:?} {at:?}");
            assert!(log.trouble().is_empty(), "{pace:?} {at:?}: {:?}", log.trouble());
            // In lockstep every lane has one of each eight reports.
            let order = order.lock().unwrap();
            let most =
                (0..THREADS).map(|lane| order.iter().filter(|told| **told == Some(lane)).count()).max();
            assert!(most > Some(400 / THREADS as usize), "{pace:?} {at:?}: the others have waited");
        }
    }
}

#[test]
fn one_that_never_answers_costs_its_own_mail_a_timeout_and_the_others_nothing() {
    for pace in [QUORUM, Pace::Free] {
        let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, Misdeed::Hang).times(1)));
        let log = Log::default();
        let timeouts = Timeouts { rcpt: 2 * SHORT, ..Timeouts::uniform(PATIENCE) };
        let builder = paced(&log, &sink, pace).timeouts(timeouts);
        let (before, summary) = run(async {
            let mut mailer = builder.connect().await?;
            mailer.send_all((0..400).map(mail)).await?;
            let before = mailer.summary().mails.delivered;
            Ok::<_, Error>((before, mailer.quit().await?))
        })
        .unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 400);
        assert_eq!(log.of_kind(EventKind::Hang).len(), 1);
        assert!(before >= 400 - 2 * u64::from(THREADS), "{pace:?}: {before} before anybody waited");
    }
}

#[test]
fn all_levels_deliver_everything_at_every_pace() {
    for pace in [QUORUM, Pace::Free] {
        for (level, depth) in [(0, 1), (1, 1), (2, 1), (2, 4)] {
            let sink =
                sink(|sink| sink.fault(Fault::new(At::Dot, Misdeed::Delay(SHORT / 50)).probability(0.02)));
            let log = Log::default();
            let pipeline = Pipeline::from_level(level).unwrap();
            let builder = paced(&log, &sink, pace).pipeline(pipeline).depth(depth);
            let summary = send_and_quit(builder, (0..500).map(mail));
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!(summary.mails.delivered, 500, "{pace:?} {level} {depth}");
        }
    }
}

#[test]
fn where_each_goes_by_itself_a_mail_is_on_its_way_when_it_was_sent() {
    let (heard, hears) = std::sync::mpsc::channel();
    let peer = Scripted::start(move |mut peer| {
        peer.say("220 scripted\r\n");
        while let Some(line) = peer.line() {
            if line.starts_with("MAIL") {
                heard.send(line).unwrap();
            }
            peer.say("250 fine\r\n");
        }
    });
    let log = Log::default();
    let builder = builder(&log).host(peer.host().threads(3)).pace(Pace::Free);
    let mut mailer = run(builder.connect()).unwrap();
    run(mailer.send(mail(1))).unwrap();
    // Nobody polls the mailer now.
    assert!(hears.recv_timeout(PATIENCE).is_ok());
    assert_eq!(mailer.abort().len(), 1);
}

#[test]
fn while_servers_take_their_time_the_mailer_sleeps() {
    for pace in [Pace::Lockstep, QUORUM, Pace::Free] {
        for threads in [1, 2, 12] {
            let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, Misdeed::Delay(SHORT))));
            let log = Log::default();
            let mut mailer = run(paced(&log, &sink, pace).threads(threads).connect()).unwrap();
            (0..u64::from(threads)).for_each(|id| assert!(mailer.try_send(mail(id)).is_ok()));
            let mut polls = 0;
            {
                let mut flushing = std::pin::pin!(mailer.flush());
                run(std::future::poll_fn(|cx| {
                    polls += 1;
                    flushing.as_mut().poll(cx)
                }))
                .unwrap();
            }
            // A look every 5 ms is a hundred in that time.
            assert!(polls < 400, "{pace:?} {threads}: polled {polls} times");
            assert_eq!(run(mailer.quit()).unwrap().mails.delivered, u64::from(threads));
        }
    }
}

#[test]
fn what_send_all_has_begun_is_on_its_way_too() {
    let (heard, hears) = std::sync::mpsc::channel();
    let peer = Scripted::start(move |mut peer| {
        peer.say("220 scripted\r\n");
        while let Some(line) = peer.line() {
            if line.starts_with("MAIL") {
                heard.send(()).unwrap();
            }
            peer.say("250 fine\r\n");
        }
    });
    let log = Log::default();
    let builder = builder(&log).host(peer.host().threads(3)).pace(Pace::Free);
    let mut mailer = run(builder.connect()).unwrap();
    run(mailer.send_all((0..3).map(mail))).unwrap();
    assert!((0..3).all(|_| hears.recv_timeout(PATIENCE).is_ok()));
    assert_eq!(mailer.abort().len(), 3);
}

#[test]
fn a_shortage_of_descriptors_passes_while_nothing_else_happens() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    for pace in [Pace::Lockstep, Pace::Free] {
        let sink = sink(|sink| sink);
        let (tried, address) = (AtomicU32::new(0), sink.address());
        let route = host(&sink).connector(move |_| {
            let is_first = tried.fetch_add(1, Relaxed) == 0;
            async move {
                // EMFILE.
                if is_first {
                    Err(std::io::Error::from_raw_os_error(24))
                } else {
                    smol::net::TcpStream::connect(address).await
                }
            }
        });
        let log = Log::default();
        let builder = builder(&log).host(route).threads(1).pace(pace);
        let summary = send_and_quit(builder, [mail(1)]);
        assert_eq!(summary.mails.delivered, 1);
    }
}

#[test]
fn a_share_that_is_none_is_an_error_that_says_so() {
    let log = Log::default();
    let sink = sink(|sink| sink);
    let pace = Pace::Quorum { share: 90.0, grace: Duration::ZERO };
    let error = run(paced(&log, &sink, pace).connect()).unwrap_err();
    assert_eq!(error.to_string(), "pace: the share of a quorum is above 0 and up to 1");
}
