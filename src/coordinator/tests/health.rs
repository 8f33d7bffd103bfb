//! Hosts that are slowed down, and hosts that rest.

use super::*;
use crate::failure::Failure;
use crate::health::HostNews;

/// One host whose server says this to MAIL as long as it is told to.
fn throttled(threads: u32, text: &'static str) -> (Script, Rc<Cell<bool>>) {
    let mut script = Script::with(&[threads], settings(|all| all.max_attempts = 1), |host| {
        host.auto_throttle = true;
    });
    script.open();
    let is_full = Rc::new(Cell::new(true));
    let full = Rc::clone(&is_full);
    script.serve(move |asked| (asked.what == "MAIL" && full.get()).then_some(Does::Say(text)));
    (script, is_full)
}

/// As many mails as there is room for are taken and dealt; gives how many were.
fn one_batch(script: &mut Script) -> usize {
    while script.coordinator.has_room() {
        script.take(mail(1));
    }
    let before = script.notes.told.len();
    run_one_batch(script);
    script.notes.told.len() - before
}

#[test]
fn a_host_that_puts_off_too_much_is_given_half_each_time_and_told_so() {
    let (mut script, _) = throttled(40, "451 4.7.1 slow down\r\n");
    let slowed = |mails| (0, HostNews::Slowed { mails, pause: Duration::ZERO });
    script.coordinator.set_flushing(false);
    (0..40).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!((script.outcomes().len(), script.notes.news.as_slice()), (40, &[slowed(20)][..]));
    (0..40).for_each(|id| script.take(mail(id)));
    script.settle();
    assert_eq!(script.lanes().filter(|lane| lane.held() > 0).count(), 20);
    script.run();
    assert_eq!(script.notes.news[1], slowed(10));
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active), "their connections are kept");
}

#[test]
fn other_refusals_slow_nobody_down() {
    for text in ["550 no\r\n", "455 no\r\n"] {
        let (mut script, _) = throttled(40, text);
        one_batch(&mut script);
        assert!(script.notes.news.is_empty(), "{text}");
    }
}

#[test]
fn it_can_be_switched_off() {
    let mut script = Script::with(&[40], settings(|all| all.max_attempts = 1), |_| {});
    script.open();
    script.serve(when("MAIL", "450 later\r\n"));
    deliver_all(&mut script, 80);
    assert!(script.notes.news.is_empty());
}

#[test]
fn one_recipient_of_two_that_is_put_off_is_no_sign() {
    let (mut script, _) = throttled(20, "250 ok\r\n");
    script.serve(to_recipient("bob", "450 full\r\n", usize::MAX));
    (0..20).for_each(|id| script.take(mail_to(id, &["ann@example.net", "bob@example.net"])));
    script.run();
    assert_eq!((script.outcomes().len(), script.notes.news.len()), (20, 0));
    (0..20).for_each(|id| script.take(mail_to(id, &["bob@example.net"])));
    script.run();
    assert_eq!(script.notes.news.len(), 1);
}

#[test]
fn one_at_a_time_and_then_with_pauses_until_it_takes_them_again() {
    let (mut script, is_full) = throttled(4, "450 too busy\r\n");
    let mut pauses = Vec::new();
    for id in 0..200 {
        take_in_time(&mut script, mail(id));
        pauses = script
            .notes
            .news
            .iter()
            .filter(|(_, news)| matches!(news, HostNews::Slowed { pause, .. } if !pause.is_zero()))
            .collect();
        if pauses.len() == 3 {
            break;
        }
    }
    assert_eq!(pauses.len(), 3, "{:?}", script.notes.news);
    is_full.set(false);
    for id in 0..400 {
        take_in_time(&mut script, mail(id));
    }
    script.finish();
    assert_eq!(script.notes.news.last(), Some(&(0, HostNews::Recovered)));
}

// ---- the circuit breaker ----------------------------------------------------

/// The first host is down as long as it is told to be; both rest after three failures.
fn failing(threads: &[u32], pace: Pace) -> (Script, Rc<Cell<bool>>) {
    let mut script = Script::with(threads, settings(|all| all.pace = pace), |host| {
        host.circuit_breaker = Some(3);
    });
    script.open();
    let is_down = Rc::new(Cell::new(false));
    let down = Rc::clone(&is_down);
    script.serve(move |asked| {
        (asked.lane.host == 0 && down.get()).then_some(match asked.what {
            "connect" => Does::Refuse,
            _ => Does::Close,
        })
    });
    (script, is_down)
}

/// How often the first host was dialled since this was asked last.
fn dials(script: &mut Script) -> usize {
    let wire = std::mem::take(&mut script.wire);
    wire.iter().filter(|line| line.starts_with("0:") && line.ends_with(" connect")).count()
}

#[test]
fn a_host_whose_lanes_fail_rests_and_one_lane_tries_for_all() {
    for pace in [Pace::Lockstep, Pace::Free] {
        let (mut script, is_down) = failing(&[4, 1], pace);
        is_down.set(true);
        (1..=5).for_each(|id| script.take(mail(id)));
        script.coordinator.set_flushing(true);
        script.run();
        let rests = script.notes.news.iter().filter(|(_, news)| matches!(news, HostNews::Rests { .. }));
        assert!(script.notes.news.iter().all(|(host, _)| *host == 0) && rests.count() >= 1, "{pace:?}");
        script.pass(Duration::ZERO);
        dials(&mut script);
        let failed = |script: &Script| {
            script.notes.seen.iter().filter(|seen| seen.kind == EventKind::ReconnectFail).count()
        };
        let before = failed(&script);
        script.pass(2 * SECOND);
        assert_eq!(
            (dials(&mut script), failed(&script) - before),
            (1, 4),
            "{pace:?}: all fail with the one that tried"
        );
        is_down.set(false);
        script.finish();
        assert_eq!(script.outcomes().len(), 5, "{pace:?}");
        script.pass(10 * SECOND);
        assert_eq!(dials(&mut script), 1, "{pace:?}: the others wait for a mail");
        (6..=9).for_each(|id| {
            script.take(mail(id).host(0));
            script.run();
        });
        assert_eq!(script.notes.news.last(), Some(&(0, HostNews::Back)), "{pace:?}");
        script.pass(10 * SECOND);
        assert_eq!((dials(&mut script), script.outcomes().len()), (3, 9), "{pace:?}");
    }
}

#[test]
fn lanes_are_retired_as_soon_as_they_would_have_been_alone() {
    let (mut script, is_down) = failing(&[4], Pace::Lockstep);
    is_down.set(true);
    (1..=4).for_each(|id| script.take(mail(id)));
    script.exhaust();
    assert!(script.progress.is_retired());
    // The hang, two tries of each before the host rests, and then one try for all.
    assert!(dials(&mut script) <= 4 + 5, "not four times five");
}

#[test]
fn what_fails_while_another_lane_stands_is_no_sign_of_the_hosts() {
    let (mut script, _) = failing(&[4], Pace::Lockstep);
    script.serve(|asked| match asked.what {
        "connect" if asked.lane.thread > 0 => Some(Does::Refuse),
        _ => None,
    });
    for thread in 1..4 {
        script.coordinator.reconnect(lane(0, thread));
    }
    script.pass(2 * SECOND);
    assert!(script.notes.news.is_empty(), "{:?}", script.notes.news);
}

#[test]
fn a_mail_that_is_finished_between_is_a_new_beginning() {
    let (mut script, is_down) = failing(&[1, 1], Pace::Lockstep);
    for id in 1..=6 {
        is_down.set(true);
        script.take(mail(id).host(0));
        script.coordinator.set_flushing(true);
        script.run();
        is_down.set(false);
        script.finish();
    }
    assert!(script.notes.news.is_empty(), "{:?}", script.notes.news);
    assert_eq!(script.outcomes().len(), 6);
}

#[test]
fn the_caller_can_wake_it() {
    let (mut script, is_down) = failing(&[3], Pace::Lockstep);
    is_down.set(true);
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(matches!(script.notes.news[..], [(0, HostNews::Rests { .. })]), "{:?}", script.notes.news);
    is_down.set(false);
    script.coordinator.restart();
    script.run();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
    script.finish();
    assert_eq!(script.outcomes().len(), 3);
    assert!(script.notes.seen.iter().any(|seen| seen.failure == Some(Failure::Closed)));
}

#[test]
fn a_host_that_answers_is_not_one_that_fails_whatever_it_says() {
    let (mut script, is_down) = failing(&[3], Pace::Lockstep);
    is_down.set(true);
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(matches!(script.notes.news[..], [(0, HostNews::Rests { .. })]), "{:?}", script.notes.news);
    script.serve(when("MAIL", "451 later\r\n"));
    script.coordinator.set_flushing(true);
    script.pass(2 * SECOND);
    assert_eq!(script.notes.news.last(), Some(&(0, HostNews::Back)));
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
}

#[test]
fn a_421_is_no_answer_that_ends_a_rest() {
    let (mut script, is_down) = failing(&[3], Pace::Lockstep);
    is_down.set(true);
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    script.serve(when("MAIL", "421 closing\r\n"));
    script.coordinator.set_flushing(true);
    script.pass(4 * SECOND);
    assert!(!script.notes.news.contains(&(0, HostNews::Back)), "{:?}", script.notes.news);
}

#[test]
fn one_that_fails_with_another_and_sits_out_is_not_opened_before_the_batch_ends() {
    let (mut script, is_down) = failing(&[3, 1], Pace::Lockstep);
    is_down.set(true);
    script.decide(at(EventKind::ReconnectFail, Step::Connect, Verdict::BENCH));
    (1..=4).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.run();
    // The batch goes on for as long as the other host does not answer.
    script.stuck = vec![lane(1, 0)];
    script.take(mail(5).host(1));
    script.settle();
    dials(&mut script);
    script.pass(20 * SECOND);
    assert_eq!(dials(&mut script), 1, "the one that tried for all");
}

#[test]
fn a_restart_opens_those_that_fail_with_the_one_that_asks_for_it() {
    let mut script = Script::with(&[3], settings(|all| all.max_restarts = 1), |host| {
        host.circuit_breaker = Some(1);
        host.max_connect_failures = 2;
    });
    let mut asks = false;
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.decide(move |event| {
        asks = !asks && event.elapsed == Duration::ZERO && event.attempt == 2;
        if asks { Verdict::RESTART_NOW } else { Verdict::DEFAULT }
    });
    script.run();
    script.pass(2 * SECOND);
    assert!(script.lanes().all(|lane| lane.standing() != Standing::Retired));
}
