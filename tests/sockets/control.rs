//! The mailer while somebody else controls it: pauses, drains and other rates, from other threads,
//! from callbacks, and between the calls.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use smol::future;
use smol::stream::{self, StreamExt};
use smtp_bulk::host::SHORTEST_QUIET;
use smtp_bulk::sink::{Extension, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{Control, Error, Full, Host, LaneId, Mailer, Message, Pace, Pipeline, Rate};

use crate::support::{
    Log, PATIENCE, builder, check_accounts, host, mail, mail_to, number, numbers, run, sink,
};

const PACES: [Pace; 3] =
    [Pace::Lockstep, Pace::Quorum { share: 0.75, grace: Duration::from_millis(1) }, Pace::Free];

/// Each pace with a level of its own, and level 2 in lockstep without CHUNKING, too.
const WAYS: [(Pace, u8, bool); 4] =
    [(PACES[0], 0, false), (PACES[1], 1, false), (PACES[2], 2, true), (PACES[0], 2, false)];

/// A server with PIPELINING, and with CHUNKING where that is wanted, that counts each NOOP among
/// the faults that have fired.
fn server(chunking: bool) -> Arc<Sink> {
    let noop = Fault::new(At::Noop, Misdeed::Delay(Duration::ZERO));
    sink(|sink| {
        let sink = sink.announce(Extension::Pipelining).fault(noop);
        if chunking { sink.announce(Extension::Chunking) } else { sink }
    })
}

fn at_level(sink: &Sink, level: u8) -> Host {
    host(sink).pipeline(Pipeline::from_level(level).unwrap()).threads(4)
}

/// So many mails, of which can be told how many are left.
fn many(mails: u32) -> impl ExactSizeIterator<Item = Message> {
    (0..mails).map(|id| mail(u64::from(id)))
}

/// Runs a call that waits, and when it does has another thread give an order.
fn ordered<T>(order: impl FnOnce() + Send, call: impl Future<Output = T>) -> T {
    let (mut call, mut order) = (pin!(call), Some(order));
    let ended = run(poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if let Some(order) = order.take_if(|_| polled.is_pending()) {
            thread::scope(|scope| drop(scope.spawn(order)));
        }
        polled
    }));
    assert!(order.is_none(), "it has not waited");
    ended
}

/// The same in a pause, which ends then.
fn resumed<T>(control: &Control, call: impl Future<Output = T>) -> T {
    ordered(|| control.resume(), call)
}

#[test]
fn a_control_is_for_any_thread_and_shows_what_was_ordered() {
    fn is_free<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mailer = run(builder(&log).host(host(&sink)).connect()).unwrap();
    let control = mailer.control();
    is_free(&control);
    let other = control.clone();
    thread::spawn(move || other.pause()).join().unwrap();
    assert!(mailer.control().is_paused() && !control.is_draining());
    drop(mailer);
    // There is nobody left to obey.
    control.resume();
    control.set_rate(0, None).unwrap();
    assert!(!control.is_paused());
}

// ---- pause --------------------------------------------------------------------------------------

/// Sends mails over and over, and meanwhile pauses and resumes.
fn pause_in_the_middle(pace: Pace, level: u8, chunking: bool) {
    let sink = server(chunking);
    let log = Log::default();
    let builder = builder(&log).host(at_level(&sink, level).noop_after(SHORTEST_QUIET)).pace(pace);
    let mut mailer = run(builder.connect()).unwrap();
    let (control, polls, is_over) = (mailer.control(), AtomicUsize::new(0), AtomicBool::new(false));
    let seen = |least_mails, least_noops| {
        let counts = sink.wait_for(|all| all.mails >= least_mails && all.faults >= least_noops, PATIENCE);
        let counts = counts.expect("it goes on");
        (counts.mails, counts.faults, polls.load(SeqCst))
    };
    let sent = thread::scope(|scope| {
        let conductor = scope.spawn(|| {
            for _ in 0..2 {
                let (mails, noops, _) = seen(sink.counts().mails + 50, 0);
                control.pause();
                // Nobody says that who has mails to send: what was under way is over, and the lanes
                // are looked after.
                let (paused, noops, before) = seen(mails, noops + 4);
                let (later, _, after) = seen(mails, noops + 4);
                assert_eq!(paused, later, "{pace:?} {level}: nothing is dealt");
                assert!(after - before < 100, "{pace:?} {level}: polled {} times", after - before);
                control.resume();
            }
            seen(sink.counts().mails + 50, 0);
            is_over.store(true, SeqCst);
        });
        let mut sent = 0;
        let mails = (0..).take_while(|_| !is_over.load(SeqCst)).inspect(|_| sent += 1).map(mail);
        {
            let mut sending = pin!(mailer.send_all(mails));
            run(poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                sending.as_mut().poll(cx)
            }))
            .unwrap();
        }
        conductor.join().unwrap();
        sent
    });
    let summary = run(mailer.quit()).unwrap();
    assert_eq!((summary.mails.delivered, summary.hosts[0].connections), (sent, 4), "{pace:?} {level}");
    check_accounts(&summary, &log, &[&sink]);
    assert!(log.trouble().is_empty(), "{pace:?} {level}: {:?}", log.trouble());
}

#[test]
fn a_pause_from_another_thread_lets_finish_what_is_under_way_and_keeps_the_connections() {
    thread::scope(|scope| {
        for (pace, level, chunking) in WAYS {
            scope.spawn(move || pause_in_the_middle(pace, level, chunking));
        }
    });
}

#[test]
fn calls_that_need_mails_sent_wait_for_the_end_of_the_pause() {
    for pace in PACES {
        for call in 0..6 {
            let sink = sink(|sink| sink);
            let log = Log::default();
            let mut mailer = run(builder(&log).host(host(&sink)).threads(2).pace(pace).connect()).unwrap();
            let control = mailer.control();
            control.pause();
            let mut held = 0;
            while mailer.try_send(mail(held)).is_ok() {
                held += 1;
            }
            assert!(held >= 2, "they are taken in a pause, too");
            match call {
                0 => drop(resumed(&control, mailer.flush()).unwrap()),
                1 => drop(resumed(&control, mailer.quit()).unwrap()),
                2 => resumed(&control, mailer.send(mail(held))).unwrap(),
                3 => resumed(&control, mailer.ready()).unwrap(),
                4 => resumed(&control, mailer.send_all([mail(held)])).unwrap(),
                _ => resumed(&control, mailer.send_stream(stream::iter([mail(held)]))).unwrap(),
            }
            let summary = run(mailer.quit()).unwrap();
            assert_eq!(summary.mails.delivered, held + u64::from([2, 4, 5].contains(&call)));
            check_accounts(&summary, &log, &[&sink]);
        }
    }
}

#[test]
fn what_is_ordered_while_nothing_is_polled_holds_for_the_next_call() {
    for pace in PACES {
        let sink = sink(|sink| sink);
        let log = Log::default();
        let mut mailer = run(builder(&log).host(host(&sink)).threads(2).pace(pace).connect()).unwrap();
        (0..2).for_each(|id| mailer.try_send(mail(id)).unwrap());
        mailer.control().pause();
        // There is room with a free pace alone, and no batch is due that it would wait for.
        run(future::poll_once(mailer.ready()));
        assert_eq!(sink.counts().mails, 0, "{pace:?}");
        mailer.control().resume();
        run(mailer.flush()).unwrap();
        assert_eq!(sink.counts().mails, 2, "{pace:?}");
        let summary = run(mailer.quit()).unwrap();
        check_accounts(&summary, &log, &[&sink]);
    }
}

// ---- drain --------------------------------------------------------------------------------------

#[test]
fn a_drain_from_another_thread_has_send_all_send_what_is_held_and_ask_for_no_more() {
    for (pace, level, chunking) in WAYS {
        for begins_paused in [false, true] {
            let sink = server(chunking);
            let log = Log::default();
            let mut mailer = run(builder(&log).host(at_level(&sink, level)).pace(pace).connect()).unwrap();
            let control = mailer.control();
            let mut mails = many(1_000_000);
            thread::scope(|scope| {
                scope.spawn(|| {
                    sink.wait_for(|counts| counts.mails >= 50, PATIENCE).unwrap();
                    if begins_paused {
                        control.pause();
                    }
                    control.drain();
                });
                let drained = run(mailer.send_all(&mut mails)).unwrap_err();
                assert!(matches!(&drained, Error::Draining(none) if none.is_empty()), "{drained}");
            });
            let taken = 1_000_000 - mails.len() as u64;
            let summary = mailer.summary();
            assert_eq!((summary.taken, summary.mails.delivered, sink.counts().mails), (taken, taken, taken));
            assert!(mails.len() > 0 && control.is_draining());
            // It is over when the caller says so.
            control.resume();
            run(mailer.send_all(mails.by_ref().take(10))).unwrap();
            let summary = run(mailer.quit()).unwrap();
            assert_eq!(summary.mails.delivered, taken + 10, "{pace:?} {level}");
            check_accounts(&summary, &log, &[&sink]);
            assert!(log.trouble().is_empty(), "{pace:?} {level}: {:?}", log.trouble());
        }
    }
}

#[test]
fn each_call_that_comes_later_sends_what_is_held_and_gives_its_message_back() {
    for pace in PACES {
        for call in 0..6 {
            let sink = sink(|sink| sink);
            let log = Log::default();
            let mut mailer = run(builder(&log).host(host(&sink)).threads(4).pace(pace).connect()).unwrap();
            mailer.try_send(mail(0)).unwrap();
            mailer.control().drain();
            let Full(message) = mailer.try_send(mail(1)).unwrap_err();
            assert_eq!(number(message.message_id()), 1);
            let asked = || -> Message { panic!("a source is asked") };
            let error = run(async {
                match call {
                    0 => mailer.send(message).await.unwrap_err(),
                    1 => mailer.ready().await.unwrap_err(),
                    2 => mailer.send_all(std::iter::repeat_with(asked)).await.unwrap_err(),
                    3 => mailer.send_stream(stream::repeat_with(asked)).await.unwrap_err(),
                    4 => mailer.idle().await.map(|never| match never {}).unwrap_err(),
                    _ => {
                        let mut smtp = mailer.net_smtp();
                        smtp.mail("a@example.org").unwrap();
                        smtp.to("b@example.org").unwrap();
                        smtp.data().unwrap();
                        smtp.dataend().await.unwrap_err()
                    }
                }
            });
            assert!(matches!(error, Error::Draining(_)), "{pace:?} {call}: {error}");
            assert_eq!(error.to_string(), "the mailer is drained, and takes no messages");
            let given_back = error.into_unsent();
            assert_eq!(given_back.len(), usize::from(call == 0 || call == 5));
            assert!(call != 0 || numbers(&given_back) == [1]);
            assert_eq!(sink.counts().mails, 1, "{pace:?} {call}: what was held is sent");
            assert_eq!(run(mailer.flush()).unwrap(), 0);
            let summary = run(mailer.quit()).unwrap();
            assert_eq!((summary.taken, summary.mails.delivered), (1, 1));
        }
    }
}

#[test]
fn a_drain_ends_an_idle_wait_when_what_is_held_is_sent() {
    for pace in PACES {
        let sink = sink(|sink| sink);
        let log = Log::default();
        let mut mailer = run(builder(&log).host(host(&sink)).threads(4).pace(pace).connect()).unwrap();
        let control = mailer.control();
        // In a pause nothing is sent before, at any pace.
        control.pause();
        mailer.try_send(mail(0)).unwrap();
        let error = ordered(|| control.drain(), mailer.idle()).map(|never| match never {}).unwrap_err();
        assert!(matches!(error, Error::Draining(none) if none.is_empty()), "{pace:?}");
        assert_eq!(sink.counts().mails, 1, "{pace:?}");
        check_accounts(&run(mailer.quit()).unwrap(), &log, &[&sink]);
    }
}

#[test]
fn a_drain_ends_a_stream_that_has_nothing() {
    for pace in PACES {
        let sink = sink(|sink| sink);
        let log = Log::default();
        let mut mailer = run(builder(&log).host(host(&sink)).threads(2).pace(pace).connect()).unwrap();
        let (control, (empty, is_empty)) = (mailer.control(), channel());
        let silence = stream::poll_fn(|_| {
            empty.send(()).unwrap();
            Poll::Pending
        });
        // For two lanes three mails are a batch and a half.
        let mails = stream::iter((0..3).map(mail)).chain(silence);
        thread::scope(|scope| {
            scope.spawn(|| {
                is_empty.recv_timeout(PATIENCE).unwrap();
                control.drain();
                is_empty
            });
            let error = run(mailer.send_stream(mails)).unwrap_err();
            assert!(matches!(error, Error::Draining(none) if none.is_empty()), "{pace:?}");
        });
        assert_eq!(sink.counts().mails, 3, "{pace:?}");
        check_accounts(&run(mailer.quit()).unwrap(), &log, &[&sink]);
    }
}

#[test]
fn a_stream_is_asked_again_when_a_drain_is_undone() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mut mailer = run(builder(&log).host(host(&sink)).threads(2).connect()).unwrap();
    let control = mailer.control();
    let (own, mut asked) = (control.clone(), 0);
    // Behind the first mail, which waits in a pause for another one, it has nothing twice.
    let mails = stream::poll_fn(move |cx: &mut Context<'_>| {
        assert!(!own.is_draining(), "a source is asked");
        asked += 1;
        match asked {
            1 | 4 => Poll::Ready(Some(mail(asked))),
            2 => {
                own.drain();
                own.pause();
                let (own, waker) = (own.clone(), cx.waker().clone());
                // It has something at once, and is not asked for it before this.
                thread::spawn(move || {
                    waker.wake();
                    own.resume();
                });
                Poll::Pending
            }
            3 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(None),
        }
    });
    run(mailer.send_stream(mails)).unwrap();
    let summary = run(mailer.quit()).unwrap();
    assert_eq!(summary.mails.delivered, 2);
    check_accounts(&summary, &log, &[&sink]);
}

#[test]
fn a_drain_waits_for_no_retry_delay() {
    let late = Misdeed::refuse(451, "4.7.1 come back later");
    let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, late).address_prefix("late")));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(3).retry_delay(PATIENCE);
    let mut mailer = run(builder.connect()).unwrap();
    mailer.try_send(mail_to(0, &["late@example.net"])).unwrap();
    mailer.try_send(mail(1)).unwrap();
    mailer.control().drain();
    assert!(matches!(run(mailer.ready()), Err(Error::Draining(_))));
    assert_eq!(mailer.summary().mails.delivered, 1);
    assert_eq!(run(mailer.flush()).unwrap(), 1, "it waits on");
    let summary = run(mailer.quit()).unwrap();
    assert_eq!((summary.mails.delivered, summary.mails.abandoned), (1, 1));
}

#[test]
fn a_report_may_order_a_drain() {
    for pace in PACES {
        let sink = sink(|sink| sink);
        let (log, control) = (Log::default(), Arc::new(OnceLock::<Control>::new()));
        let (own, reports) = (Arc::clone(&control), AtomicUsize::new(0));
        let builder = builder(&log).host(host(&sink)).threads(4).pace(pace).on_report(move |_| {
            if reports.fetch_add(1, SeqCst) == 9 {
                own.get().unwrap().drain();
            }
        });
        let mut mailer = run(builder.connect()).unwrap();
        control.set(mailer.control()).unwrap();
        let mut mails = many(10_000);
        assert!(matches!(run(mailer.send_all(&mut mails)), Err(Error::Draining(_))), "{pace:?}");
        let taken = 10_000 - mails.len() as u64;
        assert!((10..30).contains(&taken), "{pace:?}: {taken} taken");
        assert_eq!(run(mailer.quit()).unwrap().mails.delivered, taken);
    }
}

// ---- rates --------------------------------------------------------------------------------------

#[test]
fn another_rate_lets_go_what_the_old_one_holds_back() {
    let slow = Rate::per_hour(1.0).burst(1);
    for pace in PACES {
        for (is_total, rate) in [(false, None), (true, None), (false, Some(Rate::per_second(1_000.0)))] {
            let sink = sink(|sink| sink);
            let log = Log::default();
            let builder = builder(&log).host(host(&sink)).threads(2).pace(pace);
            let builder = if is_total { builder.total_rate(slow) } else { builder.rate(slow) };
            let mut mailer = run(builder.connect()).unwrap();
            let control = mailer.control();
            (0..2).for_each(|id| mailer.try_send(mail(id)).unwrap());
            thread::scope(|scope| {
                scope.spawn(|| {
                    sink.wait_for(|counts| counts.mails == 1, PATIENCE).unwrap();
                    if is_total { control.set_total_rate(rate) } else { control.set_rate(0, rate) }.unwrap();
                });
                assert_eq!(run(mailer.flush()).unwrap(), 0);
            });
            let summary = run(mailer.quit()).unwrap();
            assert_eq!(summary.mails.delivered, 2, "{pace:?}");
        }
    }
}

#[test]
fn a_rate_that_is_none_and_a_host_that_is_none_are_errors() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mailer = run(builder(&log).host(host(&sink)).host(host(&sink)).connect()).unwrap();
    let control = mailer.control();
    control.set_rate(1, Some(Rate::per_minute(1.0))).unwrap();
    let stranger = control.set_rate(2, Some(Rate::per_minute(1.0))).unwrap_err();
    assert!(matches!(stranger, Error::NoSuchLane(LaneId { host: 2, .. })), "{stranger}");
    let wrong = control.set_total_rate(Some(Rate::per_second(-1.0))).unwrap_err();
    assert_eq!(wrong.to_string(), "set_total_rate: a rate is above 0 mails, and not without end");
}

// ---- all of it ----------------------------------------------------------------------------------

/// Orders this and that, and in the end that all go on.
fn pester(control: &Control, seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    for _ in 0..500 {
        match dice.u8(..5) {
            0 => control.pause(),
            1 => control.drain(),
            2 => control.set_rate(0, Some(Rate::per_second(dice.f64() * 1e6 + 1e3))).unwrap(),
            3 => control.set_total_rate(dice.bool().then(|| Rate::per_second(1e5))).unwrap(),
            _ => control.resume(),
        }
        thread::yield_now();
    }
    control.resume();
}

async fn send_in_spite_of_drains(mailer: &mut Mailer, mails: u32) {
    let mut mails = many(mails);
    while mails.len() > 0 {
        match mailer.send_all(&mut mails).await {
            Err(Error::Draining(none)) => assert!(none.is_empty()),
            others => others.unwrap(),
        }
        future::yield_now().await;
    }
    mailer.flush().await.unwrap();
}

#[test]
fn orders_from_several_threads_at_any_time_lose_no_mail() {
    for (pace, level, chunking) in WAYS {
        let sink = server(chunking);
        let log = Log::default();
        let mut mailer = run(builder(&log).host(at_level(&sink, level)).pace(pace).connect()).unwrap();
        let control = mailer.control();
        thread::scope(|scope| {
            for seed in 0..3 {
                let control = &control;
                scope.spawn(move || pester(control, seed));
            }
            run(send_in_spite_of_drains(&mut mailer, 3_000));
        });
        // One of them may have been the last to order a drain, or a pause.
        control.resume();
        let summary = run(mailer.quit()).unwrap();
        assert_eq!(summary.mails.delivered, 3_000, "{pace:?} {level}");
        check_accounts(&summary, &log, &[&sink]);
        assert!(log.trouble().is_empty(), "{pace:?} {level}: {:?}", log.trouble());
    }
}

#[test]
fn an_order_wakes_the_task_that_the_mailer_was_moved_to() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mut mailer = run(builder(&log).host(host(&sink)).threads(2).connect()).unwrap();
    let control = mailer.control();
    control.pause();
    mailer.try_send(mail(0)).unwrap();
    // Polled by one task that goes away, and then by another one on another thread.
    assert!(run(future::poll_once(mailer.flush())).is_none());
    let own = control.clone();
    let moved = thread::spawn(move || {
        resumed(&own, mailer.flush()).unwrap();
        run(mailer.quit()).unwrap()
    });
    assert_eq!(moved.join().unwrap().mails.delivered, 1);
}

// ---- threads --------------------------------------------------------------------

#[test]
fn threads_come_and_go_while_mails_are_sent() {
    for pace in PACES {
        let (sink, log) = (sink(|sink| sink), Arc::new(Log::default()));
        let hosts = builder(&log).host(host(&sink).threads(2)).pace(pace);
        let mut mailer = run(hosts.connect()).unwrap();
        let control = mailer.control();
        let up = |mailer: &Mailer| mailer.hosts().map(|host| host.connected).sum::<usize>();
        for (threads, mails) in [(6, 0..300), (1, 300..400), (9, 400..700)] {
            control.set_threads(0, threads).unwrap();
            run(mailer.send_all(mails.map(mail))).unwrap();
            run(mailer.flush()).unwrap();
            assert!(up(&mailer) <= threads as usize, "{pace:?} {threads}");
        }
        let used = mailer.lanes().filter(|lane| lane.bytes > 1_000).count();
        assert_eq!((used, mailer.lanes().count()), (9, 9), "{pace:?}");
        let summary = run(mailer.quit()).unwrap();
        assert_eq!((summary.mails.delivered, sink.counts().mails), (700, 700), "{pace:?}");
        assert!(control.set_threads(1, 2).is_err() && control.set_threads(0, 0).is_err());
    }
}
