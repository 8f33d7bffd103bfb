//! Connections between batches: servers that give them up, NOOP that keeps them, and connections
//! that are not kept.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smtp_bulk::host::SHORTEST_QUIET;
use smtp_bulk::sink::{Builder, Counts, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{
    Credentials, EventKind, Host, Inquiry, LaneId, LaneStatus, Mailer, MailerBuilder, Pace, Security,
    Standing, Step, Timeouts, Tls,
};

use crate::certs::Authority;
use crate::scripted::{Peer, Scripted};
use crate::support::{Log, PATIENCE, SHORT, builder, check_accounts, host, mail, run, seen_by, sink};

const PACES: [Pace; 3] =
    [Pace::Lockstep, Pace::Quorum { share: 0.75, grace: Duration::from_millis(1) }, Pace::Free];

const FIRST: LaneId = LaneId { host: 0, thread: 0 };

/// A sink, and how to reach it: in the clear, and under TLS.
fn both(set: impl Fn(Builder) -> Builder) -> [(Arc<Sink>, Host); 2] {
    let (authority, plain) = (Authority::new(), sink(&set));
    let guarded = sink(|builder| set(builder).implicit_tls(authority.good().identity()));
    let tls = Tls::new().root_certificate(authority.pem()).only_these_roots();
    let reached = host(&guarded).security(Security::Implicit).tls(tls);
    [(Arc::clone(&plain), host(&plain)), (guarded, reached)]
}

async fn send_one(mailer: &mut Mailer, id: u64) {
    mailer.send(mail(id)).await.unwrap();
    mailer.flush().await.unwrap();
}

/// Waits without driving the mailer.
fn over(sink: &Sink, condition: impl Fn(&Counts) -> bool) -> Counts {
    sink.wait_for(condition, PATIENCE).unwrap_or_else(|counts| panic!("never seen: {counts:?}"))
}

/// Drives the mailer, which has no mail, until the sink has seen this.
async fn idle_until(
    mailer: &mut Mailer,
    sink: &Arc<Sink>,
    condition: impl Fn(&Counts) -> bool + Send + 'static,
) {
    let idle = async { mailer.idle().await.map(|never| match never {}).unwrap() };
    smol::future::or(seen_by(sink, condition), idle).await;
}

// ---- servers that go ----------------------------------------------------------------------------

#[test]
fn a_421_between_batches_costs_a_mail_nothing() {
    for pace in PACES {
        for (sink, reached) in both(|sink| sink.idle_timeout(SHORT)) {
            let log = Log::default();
            // One attempt is all that a mail has.
            let builder = builder(&log).host(reached.threads(3)).pace(pace).max_attempts(1);
            let mut mailer = run(builder.connect()).unwrap();
            run(send_one(&mut mailer, 1));
            let gone = over(&sink, |counts| counts.open == 0);
            assert_eq!(gone.connections, 3, "{pace:?}");
            run(send_one(&mut mailer, 2));
            let hang = &log.of_kind(EventKind::Hang)[0];
            assert_eq!((hang.step, hang.id, hang.attempt), (Step::Mail, Some(2), 1));
            assert!(hang.line.contains("spoke unasked: 421"), "{}", hang.line);
            let summary = run(mailer.quit()).unwrap();
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!(summary.mails.delivered, 2, "{pace:?} {summary}");
        }
    }
}

/// A peer whose first connection ends behind its first mail, with these last words or none. The
/// channel tells when it has.
fn leaving(words: &'static str) -> (Scripted, Receiver<()>) {
    let (left, has_left) = channel();
    let left = Mutex::new(Some(left));
    let peer = Scripted::start(move |mut peer: Peer| {
        let leaves = left.lock().unwrap().take();
        assert!(peer.behave_until_content());
        while peer.line().is_some_and(|line| line != ".") {}
        peer.say("250 queued\r\n");
        if let Some(left) = leaves {
            // NOOP shows that the client has read that, and rests.
            assert_eq!(peer.line().as_deref(), Some("NOOP"));
            peer.say("250 fine\r\n");
            assert_eq!(peer.line().as_deref(), Some("HELP"));
            peer.say("214 help\r\n");
            peer.say(words);
            if words.is_empty() {
                drop(peer);
            }
            left.send(()).unwrap();
        } else {
            while let Some(line) = peer.line() {
                peer.say(if line == "QUIT" { "221 bye\r\n" } else { "250 fine\r\n" });
            }
        }
    });
    (peer, has_left)
}

#[test]
fn a_connection_that_ends_between_batches_costs_a_mail_nothing() {
    for words in ["", "421 4.4.2 idle for too long\r\n", "4"] {
        let (peer, has_left) = leaving(words);
        let log = Log::default();
        let mut mailer = run(builder(&log).host(peer.host()).max_attempts(1).connect()).unwrap();
        run(send_one(&mut mailer, 1));
        run(mailer.ask(FIRST, Inquiry::Noop)).unwrap();
        run(mailer.ask(FIRST, Inquiry::Help(None))).unwrap();
        has_left.recv_timeout(PATIENCE).unwrap();
        run(send_one(&mut mailer, 2));
        let summary = run(mailer.quit()).unwrap();
        assert_eq!((summary.mails.delivered, log.of_kind(EventKind::Hang).len()), (2, 1), "{words:?}");
        assert!(log.reports(|all| all.iter().all(|ended| ended.attempts == 1)));
    }
}

// ---- NOOP ---------------------------------------------------------------------------------------

/// Counted among the faults that have fired.
fn counting(builder: Builder) -> Builder {
    builder.fault(Fault::new(At::Noop, Misdeed::Delay(Duration::ZERO)))
}

#[test]
fn noop_keeps_what_the_server_would_close() {
    for (sink, reached) in both(|sink| counting(sink).idle_timeout(3 * SHORTEST_QUIET)) {
        let log = Log::default();
        let builder = builder(&log).host(reached.threads(2)).noop_after(SHORTEST_QUIET);
        run(async {
            let begun = Instant::now();
            let mut mailer = builder.connect().await.unwrap();
            idle_until(&mut mailer, &sink, |counts| counts.faults == 10).await;
            assert!(begun.elapsed() >= 5 * SHORTEST_QUIET, "{:?}", begun.elapsed());
            send_one(&mut mailer, 1).await;
            mailer.quit().await.unwrap();
        });
        assert_eq!((sink.counts().connections, sink.counts().lost), (2, 0));
        assert!(log.trouble().is_empty(), "{:?}", log.trouble());
    }
}

#[test]
fn a_server_that_is_not_there_any_more_is_noticed_by_noop_and_connected_to_again() {
    let closing = || Misdeed::refuse(421, "4.3.2 closing");
    let misdeeds = [
        (Misdeed::Close, "closed by the server"),
        (Misdeed::Hang, "no reply within 500ms"),
        (closing(), "refused: 421 4.3.2 closing"),
        (Misdeed::refuse(502, "5.5.1 what"), "refused: 502 5.5.1 what"),
        (Misdeed::garbage(), "the server sent what is no reply"),
    ];
    for ((misdeed, says), pace) in misdeeds.into_iter().zip(PACES.into_iter().cycle()) {
        let sink = sink(|sink| sink.fault(Fault::new(At::Noop, misdeed).times(1)));
        let log = Log::default();
        let timeouts = Timeouts { rset: SHORT, ..Timeouts::uniform(PATIENCE) };
        let builder = builder(&log).host(host(&sink)).timeouts(timeouts).pace(pace);
        let builder = builder.noop_after(SHORTEST_QUIET).max_attempts(1);
        let summary = run(async {
            let mut mailer = builder.connect().await.unwrap();
            idle_until(&mut mailer, &sink, |counts| counts.connections == 2).await;
            send_one(&mut mailer, 1).await;
            mailer.quit().await.unwrap()
        });
        let hangs = log.of_kind(EventKind::Hang);
        assert_eq!((hangs.len(), hangs[0].step, hangs[0].id), (1, Step::Noop, None), "{says}");
        assert!(hangs[0].line.ends_with(says), "{}", hangs[0].line);
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 1);
    }
}

#[test]
fn a_mail_does_not_wait_for_the_noop_of_another_lane() {
    let hangs = Fault::new(At::Noop, Misdeed::Hang).times(1);
    let sink = sink(|sink| counting(sink.fault(hangs)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink).threads(2)).noop_after(SHORTEST_QUIET);
    let mut mailer = run(async {
        let mut mailer = builder.connect().await.unwrap();
        // One of them is answered, and the other one waits for longer than this test.
        idle_until(&mut mailer, &sink, |counts| counts.faults == 2).await;
        for id in 0..5 {
            send_one(&mut mailer, id).await;
        }
        mailer
    });
    assert_eq!(mailer.summary().mails.delivered, 5);
    assert!(log.trouble().is_empty());
    mailer.abort();
}

// ---- connections that are not kept --------------------------------------------------------------

fn brief(log: &Log, reached: Host, pace: Pace) -> MailerBuilder {
    builder(log).host(reached).pace(pace).keep_alive(false)
}

#[test]
fn a_connection_is_given_up_behind_its_mail_and_nobody_has_to_drive_that() {
    for pace in PACES {
        for (sink, reached) in both(|sink| sink) {
            let log = Log::default();
            let mut mailer = run(brief(&log, reached.threads(2), pace).connect()).unwrap();
            let resting = |lane: LaneStatus<'_>| lane.standing == Standing::Resting;
            assert!(mailer.lanes().all(resting));
            assert_eq!(over(&sink, |counts| counts.open == 0).connections, 2, "to prove the settings");
            for id in 1..=4 {
                run(send_one(&mut mailer, id));
                run(idle_until(&mut mailer, &sink, |counts| counts.open == 0));
                assert_eq!(sink.counts().connections, 2 + id, "{pace:?}");
            }
            let used: Vec<_> = log.reports(|all| all.iter().map(|ended| ended.lane).collect());
            assert_ne!(used[0], used[1], "each in its turn");
            let summary = run(mailer.quit()).unwrap();
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!((summary.mails.delivered, sink.counts().lost), (4, 0), "each has said QUIT");
            assert_eq!(log.of_kind(EventKind::ReconnectPass).len(), 4);
            assert!(log.trouble().is_empty());
        }
    }
}

#[test]
fn what_is_at_hand_is_sent_on_the_same_connections() {
    for pace in PACES {
        let sink = sink(|sink| sink);
        let log = Log::default();
        let mut mailer = run(brief(&log, host(&sink).threads(4), pace).connect()).unwrap();
        run(mailer.send_all((0..100).map(mail))).unwrap();
        run(mailer.flush()).unwrap();
        let counts = over(&sink, |counts| counts.open == 0);
        assert_eq!((counts.mails, counts.lost), (100, 0), "{pace:?}");
        assert!(counts.connections < 20, "{pace:?}: {counts:?}");
        run(mailer.quit()).unwrap();
    }
}

#[test]
fn each_connection_is_authenticated_and_a_question_has_one_too() {
    let sink = sink(|sink| sink.user("tim", "secret").require_auth().auth_before_tls(true));
    let log = Log::default();
    let credentials = Credentials::password("tim", "secret").allow_without_tls();
    let builder = brief(&log, host(&sink).threads(2), Pace::Lockstep).credentials(credentials);
    let mut mailer = run(builder.connect()).unwrap();
    run(send_one(&mut mailer, 1));
    assert_eq!(run(mailer.ask(FIRST, Inquiry::Noop)).unwrap().code().as_u16(), 250);
    let counts = over(&sink, |counts| counts.open == 0);
    assert_eq!((counts.connections, counts.auth_successes), (4, 4));
    assert_eq!(run(mailer.quit()).unwrap().mails.delivered, 1);
}

#[test]
fn a_server_that_is_gone_when_there_is_a_mail_is_a_failed_reconnect() {
    let sink = sink(|sink| {
        let turned_away = Fault::new(At::Greeting, Misdeed::refuse(421, "4.3.2 full"));
        sink.fault(turned_away.skip(1).times(2))
    });
    let log = Log::default();
    let mut mailer = run(brief(&log, host(&sink), Pace::Lockstep).connect()).unwrap();
    run(send_one(&mut mailer, 1));
    let fails = log.of_kind(EventKind::ReconnectFail);
    assert_eq!(
        fails.iter().map(|fail| (fail.step, fail.attempt)).collect::<Vec<_>>(),
        [(Step::Greeting, 1), (Step::Greeting, 2)]
    );
    assert_eq!(run(mailer.quit()).unwrap().mails.delivered, 1);
}
