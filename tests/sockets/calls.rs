//! The calls of the mailer: back-pressure, short batches, giving up, and futures that are dropped.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::future;
use smol::stream::{self, StreamExt};
use smtp_bulk::sink::{Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{Error, EventKind, Full, LaneStatus, Mailer, Message, Standing, Step};

use crate::support::{
    Log, PATIENCE, builder, check_accounts, host, mail, mail_to, number, numbers, run, seen_by, sink, text,
};

#[test]
fn try_send_takes_one_for_each_lane_and_gives_the_next_back() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(3).connect().await.unwrap();
        for round in 0..4 {
            for id in 0..3 {
                mailer.try_send(mail(round * 3 + id)).unwrap();
            }
            let Full(message) = mailer.try_send(mail(99)).expect_err("as many as there are lanes are held");
            assert_eq!(number(message.message_id()), 99);
            assert_eq!(mailer.summary().mails.delivered, round * 3, "nothing runs by itself");
            mailer.ready().await.unwrap();
        }
        assert_eq!(sink.counts().mails, 12);
        let summary = mailer.quit().await.unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!((summary.batches, summary.mails.delivered), (4, 12));
    });
}

#[test]
fn a_batch_waits_until_every_lane_has_a_mail() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(4).connect().await.unwrap();
        for id in 0..3 {
            mailer.send(mail(id)).await.unwrap();
        }
        assert_eq!(sink.counts().mails, 0);
        mailer.send(mail(3)).await.unwrap();
        assert_eq!((sink.counts().mails, mailer.summary().batches), (4, 1));
        mailer.send(mail(4)).await.unwrap();
        mailer.flush().await.unwrap();
        assert_eq!((sink.counts().mails, mailer.summary().batches), (5, 2));
        mailer.flush().await.expect("there may be nothing to flush");
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
}

#[test]
fn a_short_batch_runs_after_the_linger_while_the_mailer_is_idle() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let lingering = builder(&log).host(host(&sink)).threads(4).linger(Duration::from_millis(20));
        let mut mailer = lingering.connect().await.unwrap();
        for id in 0..2 {
            mailer.send(mail(id)).await.unwrap();
            let stored = async {
                seen_by(&sink, move |counts| counts.mails == id + 1).await;
                Ok(())
            };
            let idle = async { mailer.idle().await.map(|never| match never {}) };
            future::or(stored, idle).await.unwrap();
        }
        let summary = mailer.quit().await.unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 2);
    });
}

#[test]
fn send_all_asks_for_no_more_than_there_is_room_for() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(3).connect().await.unwrap();
        let mut asked = 0;
        let mails = std::iter::from_fn(|| {
            // Those asked for before are stored, but for one batch.
            assert!(asked < sink.counts().mails + 3, "{asked} asked for");
            asked += 1;
            (asked <= 20).then(|| mail(asked))
        });
        mailer.send_all(mails).await.unwrap();
        let summary = mailer.quit().await.unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 20);
    });
}

#[test]
fn what_send_all_has_not_taken_stays_in_the_iterator() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Close).skip(3)));
    let log = Log::default();
    run(async {
        let builder = builder(&log).host(host(&sink)).max_attempts(100).max_connect_failures(2);
        let mut mailer = builder.connect().await.unwrap();
        let mut mails = (0..10).map(mail);
        let error = mailer.send_all(&mut mails).await.expect_err("the lane retires");
        assert_eq!(numbers(&error.into_unsent()), [3]);
        assert_eq!(numbers(&mails.collect::<Vec<_>>()), [4, 5, 6, 7, 8, 9]);
        check_accounts(&mailer.summary(), &log, &[&sink]);
    });
}

#[test]
fn send_stream_sends_short_batches_while_the_stream_has_nothing() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let lingering = builder(&log).host(host(&sink)).threads(3).linger(Duration::from_millis(5));
        let mut mailer = lingering.connect().await.unwrap();
        mailer.send_stream(stream::iter((0..7).map(mail))).await.unwrap();

        // The next one comes only when the one before was stored.
        let (before, watched) = (7, Arc::clone(&sink));
        let slow = stream::unfold(before, move |id| {
            let sink = Arc::clone(&watched);
            async move {
                seen_by(&sink, move |counts| counts.mails >= id).await;
                (id < 10).then(|| (mail(id), id + 1))
            }
        });
        mailer.send_stream(Box::pin(slow)).await.unwrap();
        let summary = mailer.quit().await.unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 10);
    });
}

// ---- dropped futures ----------------------------------------------------------------------------

/// Polls a call `polls` times at most; `None` when it was dropped before its end.
async fn briefly<T>(call: impl Future<Output = T>, polls: usize) -> Option<T> {
    let enough = async {
        for _ in 0..polls {
            future::yield_now().await;
        }
        None
    };
    future::or(async { Some(call.await) }, enough).await
}

/// The pool of this test's calls: as many polls as a seed says, from 0 to 3.
async fn send_by_pieces(mailer: &mut Mailer, mails: impl Iterator<Item = Message>, dice: &mut fastrand::Rng) {
    let mut dropped = 0;
    for message in mails {
        let mut waiting = Some(message);
        while let Some(message) = waiting.take() {
            if let Err(Full(message)) = mailer.try_send(message) {
                waiting = Some(message);
            }
            dropped += u64::from(briefly(mailer.ready(), dice.usize(..4)).await.is_none());
        }
    }
    assert!(dropped > 100, "only {dropped} calls were dropped");
    while briefly(mailer.flush(), dice.usize(..4)).await.is_none() {}
}

#[test]
fn calls_that_are_dropped_lose_nothing_and_the_next_goes_on() {
    for seed in 0..4 {
        let sink = sink(|sink| {
            let later = Misdeed::refuse(450, "4.2.0 later");
            let slow = Fault::new(At::Dot, Misdeed::Delay(Duration::from_millis(1)));
            let lost = Fault::new(At::Data, Misdeed::Close).probability(0.02);
            sink.fault(slow).fault(lost).fault(Fault::new(At::Rcpt, later).probability(0.1)).seed(seed)
        });
        let log = Log::default();
        run(async {
            let mut dice = fastrand::Rng::with_seed(seed);
            let builder = builder(&log).host(host(&sink)).threads(4).max_attempts(20);
            let mut mailer = builder.max_connect_failures(100).connect().await.unwrap();
            send_by_pieces(&mut mailer, (0..100).map(mail), &mut dice).await;
            assert_eq!(sink.counts().mails, 100, "flush has ended");
            let summary = loop {
                if let Some(summary) = briefly(mailer.quit(), dice.usize(..4)).await {
                    break summary.unwrap();
                }
            };
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!(summary.mails.delivered, 100);
            // A quit that was dropped goes on, too: the sessions have ended, and as they should.
            let ended = sink.wait_for(|counts| counts.open == 0, PATIENCE).unwrap();
            assert_eq!(ended.lost, 0, "{ended:?}");
            drop(mailer);
        });
    }
}

#[test]
fn a_dropped_send_has_taken_its_message_or_not_but_never_half() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Delay(Duration::from_millis(2)))));
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(2).connect().await.unwrap();
        for id in 0..40 {
            let taken = mailer.summary().taken;
            let timer = async {
                smol::Timer::after(Duration::from_millis(id % 4)).await;
                Ok(())
            };
            future::or(mailer.send(mail(id)), timer).await.unwrap();
            assert!(mailer.summary().taken - taken <= 1);
        }
        let summary = mailer.quit().await.unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, summary.taken, "{summary}");
        assert!(summary.taken > 0);
    });
}

#[test]
fn deadlines_run_on_while_nothing_is_polled() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Hang).times(1)));
    let log = Log::default();
    let timeout = Duration::from_millis(100);
    run(async {
        let timeouts = smtp_bulk::Timeouts { mail: timeout, ..smtp_bulk::Timeouts::uniform(PATIENCE) };
        let mut mailer = builder(&log).host(host(&sink)).timeouts(timeouts).connect().await.unwrap();
        mailer.try_send(mail(0)).unwrap();
        let hung = seen_by(&sink, |counts| counts.faults == 1);
        future::or(async { mailer.ready().await.unwrap() }, hung).await;
        // All of the deadline passes while the mailer lies idle.
        let left = Instant::now();
        smol::Timer::after(timeout).await;
        mailer.flush().await.unwrap();
        assert!(log.of_kind(EventKind::Hang)[0].elapsed >= timeout);
        assert!(left.elapsed() < PATIENCE);
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
        assert_eq!(sink.counts().mails, 1);
    });
}

// ---- giving up ----------------------------------------------------------------------------------

/// A mailer with two lanes, both in the same step: mail 0 is out and waits for its final reply, mail 1
/// has many recipients and waits for the reply to the third.
async fn half_way(log: &Log) -> (Arc<Sink>, Mailer) {
    let sink = sink(|sink| {
        let hang = |at| Fault::new(at, Misdeed::Hang);
        sink.fault(hang(At::Dot)).fault(hang(At::Rcpt).address_prefix("late"))
    });
    let mut mailer = builder(log).host(host(&sink)).threads(2).connect().await.unwrap();
    let many = ["a@x.example", "b@x.example", "late@x.example", "d@x.example", "e@x.example"];
    mailer.try_send(mail(0)).unwrap();
    mailer.try_send(mail_to(1, &many)).unwrap();
    let both_hang = seen_by(&sink, |counts| counts.faults == 2);
    future::or(async { mailer.ready().await.unwrap() }, both_hang).await;
    (sink, mailer)
}

#[test]
fn the_lanes_show_at_any_time_what_they_are_doing() {
    let log = Log::default();
    run(async {
        let (sink, mut mailer) = half_way(&log).await;
        let all: Vec<_> = mailer.lanes().collect();
        let steps: Vec<_> = all.iter().map(|lane| (lane.lane.thread, lane.step)).collect();
        assert_eq!(steps, [(0, Some(Step::Content)), (1, Some(Step::Rcpt))]);
        let is_busy = |lane: &LaneStatus<'_>| lane.elapsed.is_some() && lane.mails == 1 && lane.is_in_batch;
        assert!(all.iter().all(is_busy), "{all:?}");
        let line = all[0].to_string();
        assert!(line.starts_with("127.0.0.1:0 active content 1 mail for "), "{line}");
        assert_eq!(all.iter().map(|lane| lane.bytes).sum::<u64>(), mailer.summary().bytes);

        mailer.abort();
        let is_retired = |lane: LaneStatus<'_>| lane.standing == Standing::Retired && lane.step.is_none();
        assert!(mailer.lanes().all(is_retired));
        assert_eq!(mailer.lanes().next().unwrap().to_string(), "127.0.0.1:0 retired");
        seen_by(&sink, |counts| counts.open == 0).await;
    });
}

#[test]
fn abort_gives_back_what_is_not_final_and_reports_what_is_in_doubt() {
    let log = Log::default();
    run(async {
        let (sink, mut mailer) = half_way(&log).await;
        assert_eq!(numbers(&mailer.abort()), [1]);
        assert_eq!(log.outcomes(), [(0, "in_doubt")].into());
        let summary = mailer.summary();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!((summary.mails.in_doubt, summary.mails.unsent, summary.recipients.unsent), (1, 1, 5));
        seen_by(&sink, |counts| counts.open == 0).await;

        assert!(mailer.abort().is_empty(), "twice is no mistake");
        assert!(matches!(mailer.flush().await, Err(Error::Closed(_))));
        assert_eq!(mailer.quit().await.unwrap().mails, summary.mails);
        assert_eq!(mailer.try_send(mail(9)).unwrap_err().0.message_id(), mail(9).message_id());
    });
}

#[test]
fn a_dropped_mailer_reports_what_it_holds() {
    let log = Log::default();
    run(async {
        let (sink, mailer) = half_way(&log).await;
        drop(mailer);
        assert_eq!(log.outcomes(), [(0, "in_doubt"), (1, "unsent")].into());
        seen_by(&sink, |counts| counts.open == 0).await;
        assert_eq!(sink.mails()[0].content, text(0).as_bytes());
    });
}

#[test]
fn a_mailer_dropped_with_a_backlog_reports_it_unsent() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(3).connect().await.unwrap();
        mailer.send(mail(0)).await.unwrap();
        mailer.try_send(mail(1)).unwrap();
    });
    assert_eq!(log.outcomes(), [(0, "unsent"), (1, "unsent")].into());
    log.reports(|all| assert!(all.iter().all(|ended| ended.lane.is_none() && ended.attempts == 0)));
}

#[test]
fn a_restart_while_mail_is_on_its_way_sends_each_once() {
    let log = Log::default();
    run(async {
        let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, Misdeed::Hang).times(3)));
        let mut mailer = builder(&log).host(host(&sink)).threads(3).connect().await.unwrap();
        (0..3).for_each(|id| mailer.try_send(mail(id)).unwrap());
        let all_hang = seen_by(&sink, |counts| counts.faults == 3);
        future::or(async { mailer.ready().await.unwrap() }, all_hang).await;
        mailer.restart().await.unwrap();
        assert_eq!(sink.counts().connections, 6);
        let summary = mailer.quit().await.unwrap();
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!((summary.mails.delivered, summary.requeued), (3, 3));
        log.reports(|all| assert!(all.iter().all(|ended| ended.attempts == 1), "{all:?}"));
    });
}

#[test]
fn an_empty_stream_and_an_empty_run_are_fine() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).connect().await.unwrap();
        mailer.send_stream(stream::empty().boxed()).await.unwrap();
        mailer.send_all([]).await.unwrap();
        let summary = mailer.quit().await.unwrap();
        assert_eq!((summary.taken, summary.batches), (0, 0));
    });
}
