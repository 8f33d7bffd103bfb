//! Levels and depth: all mails arrive once, whatever is sent together, and a server that does not
//! stand it is spoken to more slowly from then on.

use std::io;
use std::sync::{Arc, Mutex, mpsc};

use smol::future;
use smtp_bulk::sink::{Circumstance, Extension, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{Content, EventKind, Host, LaneId, Message, Pipeline, Step, Timeouts, Verdict};

use crate::support::{
    Log, PATIENCE, SHORT, builder, check_accounts, host, mail, run, send_and_quit, sink, text,
};

const LEVELS: [Pipeline; 3] = [Pipeline::Single, Pipeline::Envelope, Pipeline::Full];

/// A server with PIPELINING, and with CHUNKING where that is wanted.
fn server(chunking: bool, faults: impl IntoIterator<Item = Fault>) -> Arc<Sink> {
    sink(|sink| {
        let sink = sink.announce(Extension::Pipelining);
        let sink = if chunking { sink.announce(Extension::Chunking) } else { sink };
        faults.into_iter().fold(sink, |sink, fault| sink.fault(fault))
    })
}

fn at_level(sink: &Sink, level: Pipeline, depth: u32) -> Host {
    host(sink).pipeline(level).depth(depth)
}

#[test]
fn every_level_and_depth_delivers_each_mail_once() {
    for level in LEVELS {
        for depth in [1, 3, 8] {
            for chunking in [false, true] {
                let sink = server(chunking, []);
                let log = Log::default();
                let settings = builder(&log).host(at_level(&sink, level, depth).threads(4));
                let summary = send_and_quit(settings, (0..100).map(mail));
                check_accounts(&summary, &log, &[&sink]);
                assert_eq!(summary.mails.delivered, 100, "{level:?} {depth} {chunking}");
                let by_bdat = sink.mails().iter().filter(|mail| mail.chunks > 0).count();
                let expected = if chunking && level == Pipeline::Full { 100 } else { 0 };
                assert_eq!(by_bdat, expected, "{level:?} {depth} {chunking}");
            }
        }
    }
}

#[test]
fn a_server_without_pipelining_gets_one_command_at_a_time() {
    for level in LEVELS {
        let sink = sink(|sink| sink.announce(Extension::Chunking).strict_pipelining());
        let log = Log::default();
        let summary =
            send_and_quit(builder(&log).host(at_level(&sink, level, 4).threads(2)), (0..20).map(mail));
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 20);
        assert_eq!(summary.hosts[0].connections, 2, "{level:?}: no connection was lost");
    }
}

#[test]
fn sends_one_by_one_leave_no_data_open() {
    let sink = server(false, []);
    let log = Log::default();
    run(async {
        let settings = builder(&log).host(at_level(&sink, Pipeline::Full, 1).threads(2));
        let mut mailer = settings.connect().await.unwrap();
        for id in 0..6 {
            mailer.send(mail(id)).await.unwrap();
            let all = mailer.summary();
            assert_eq!(all.mails.delivered, id.div_ceil(2) * 2, "every second call runs a whole batch");
        }
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
}

#[test]
fn servers_that_break_on_a_mail_behind_the_dot_lose_no_mail_and_none_comes_twice() {
    fn behind(misdeed: Misdeed) -> Fault {
        Fault::new(At::Mail, misdeed).when(Circumstance::BehindContent)
    }
    let faults: [fn() -> Fault; 4] = [
        || Fault::new(At::Dot, Misdeed::LoseInput).when(Circumstance::Followed),
        || behind(Misdeed::refuse(503, "5.5.1 sequence")),
        || behind(Misdeed::Close),
        || behind(Misdeed::refuse(421, "4.3.0 confused")),
    ];
    for fault in faults {
        let sink = server(false, [fault()]);
        let log = Log::default();
        let patience = Timeouts { mail: SHORT, ..Timeouts::uniform(PATIENCE) };
        let settings = builder(&log).timeouts(patience).host(at_level(&sink, Pipeline::Full, 1).threads(2));
        let summary = send_and_quit(settings, (0..40).map(mail));
        assert_eq!(summary.mails.delivered, 40, "{summary}");
        assert_eq!(summary.hosts[0].pipeline, Pipeline::Envelope, "level 2 is over");
        let mut stored: Vec<_> = sink.mails().iter().map(|mail| mail.content.clone()).collect();
        stored.sort_unstable();
        stored.dedup();
        assert_eq!((sink.counts().mails, stored.len()), (40, 40), "each one once");
    }
}

#[test]
fn bdat_that_a_server_takes_for_garbage_closes_at_once_and_is_not_tried_again() {
    let unread = |code| Fault::new(At::Bdat, Misdeed::RefuseUnread(code, "5.5.1 what?".into()));
    for code in [500, 502] {
        let sink = server(true, [unread(code)]);
        let log = Log::default();
        let settings = builder(&log).host(at_level(&sink, Pipeline::Full, 1)).max_connect_failures(50);
        let summary = send_and_quit(settings, (0..10).map(mail));
        assert_eq!(summary.mails.delivered, 10, "{summary}");
        assert!(sink.mails().iter().all(|mail| mail.chunks == 0), "by DATA");
        assert_eq!(log.of_kind(EventKind::Fail).len(), 1, "{:?}", log.trouble());
    }
}

#[test]
fn bdat_refused_behind_refused_recipients_spoils_no_other_mail_of_the_flight() {
    let sink = sink(|sink| {
        let sink = sink.announce(Extension::Pipelining).announce(Extension::Chunking);
        sink.refuse_recipients("r1", 550)
    });
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(at_level(&sink, Pipeline::Full, 8)), (0..16).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    // r1 and r10 to r15.
    assert_eq!((summary.mails.delivered, summary.mails.refused), (9, 7));
    // After so many refusals the connection is renewed, which is planned.
    assert_eq!(summary.hosts[0].connections, 2);
    assert_eq!(log.of_kind(EventKind::Hang).len(), 0);
}

#[test]
fn a_connection_lost_in_a_deep_flight_puts_in_doubt_what_was_not_answered() {
    let close = Fault::new(At::Dot, Misdeed::Close).skip(2).times(1);
    let sink = server(true, [close]);
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(at_level(&sink, Pipeline::Full, 5)), (0..5).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.mails.in_doubt), (2, 3), "{summary}");
    assert_eq!(log.of_kind(EventKind::Hang)[0].step, Step::Content);
}

#[test]
fn no_call_returns_while_a_server_waits_for_a_content() {
    let sink = server(false, []);
    let (tell, told) = smol::channel::unbounded();
    let log = Log::deciding(move |event| {
        if event.step == Step::Data || event.kind == EventKind::ReconnectPass {
            tell.try_send(event.kind).unwrap();
        }
        Verdict::DEFAULT
    });
    // Contents are not there before this is dropped.
    let (gate, shut) = mpsc::channel::<()>();
    let shut = Arc::new(Mutex::new(shut));
    let late = |id| {
        let shut = Arc::clone(&shut);
        let content = Content::blocking(move || {
            let _ = shut.lock().unwrap().recv();
            Ok(Box::new(io::Cursor::new(text(id))))
        });
        Message::new(mail(id).envelope().clone(), content).id(id)
    };
    run(async {
        let settings = builder(&log).host(at_level(&sink, Pipeline::Full, 1).threads(2));
        let mut mailer = settings.connect().await.unwrap();
        (1..=2).for_each(|id| mailer.try_send(late(id)).unwrap());
        let both_at_354 = async {
            for _ in 0..2 {
                assert_eq!(told.recv().await.unwrap(), EventKind::Pass);
            }
        };
        let flushed = async { panic!("without a content: {:?}", mailer.flush().await) };
        future::or(flushed, both_at_354).await;
        let opened = async {
            while told.recv().await.unwrap() != EventKind::ReconnectPass {}
            drop(gate);
            future::pending().await
        };
        let reconnected = mailer.reconnect(LaneId { host: 0, thread: 0 });
        future::or(reconnected, opened).await.unwrap();
        assert_eq!(mailer.summary().mails.delivered, 1, "the other lane's");
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
}
