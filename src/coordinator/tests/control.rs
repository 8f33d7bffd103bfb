//! What is ordered from outside while all goes on: pauses, drains and other rates.

use super::*;
use crate::coordinator::Limited;
use crate::host::LaneId;
use crate::inquiry::Inquiry;
use crate::limits::Rate;

const PACES: [Pace; 3] =
    [Pace::Lockstep, Pace::Quorum { share: 0.75, grace: Duration::from_millis(100) }, Pace::Free];

/// Two lanes of a host that offers this, spoken to so.
fn two(pace: Pace, offers: &'static str, level: u8, depth: u32) -> Script {
    let change = move |host: &mut HostSettings| {
        host.pipeline = Pipeline::from_level(level).unwrap();
        host.depth = depth;
    };
    let mut script = Script::with(&[2], settings(|all| all.pace = pace), change);
    script.serve(offering(offers, |_| None));
    script.open();
    script
}

fn fill(script: &mut Script) -> u64 {
    let mut mails = 0;
    while script.coordinator.has_room() {
        mails += 1;
        script.take(mail(mails));
    }
    mails
}

// ---- pause --------------------------------------------------------------------

#[test]
fn in_a_pause_nothing_is_dealt_and_what_was_dealt_is_finished() {
    for pace in PACES {
        for (level, offers, depth) in
            [(0, DOTS, 1), (1, DOTS, 1), (2, DOTS, 1), (2, CHUNKS, 1), (1, CHUNKS, 3), (2, CHUNKS, 3)]
        {
            let mut script = two(pace, offers, level, depth);
            script.coordinator.set_flushing(true);
            let mails = fill(&mut script);
            script.settle();
            let dealt = script.lanes().map(Lane::held).sum::<usize>();
            assert!(dealt >= 2 * depth as usize, "{pace:?} {level} {depth}: {dealt}");
            script.coordinator.set_paused(true);
            script.run();
            assert_eq!(script.outcomes().len(), dealt, "{pace:?} {level} {depth}");
            assert_eq!(script.coordinator.backlog() as u64, mails - dealt as u64);
            assert!(script.lanes().all(|lane| lane.held() == 0 && lane.standing() == Standing::Active));
            assert_eq!(script.progress.wake_at, None, "{pace:?}: nothing to wake for");
            assert!(!script.coordinator.is_batch_due(script.now) && !script.progress.batch_running);
            script.coordinator.set_paused(false);
            assert_eq!(script.coordinator.is_batch_due(script.now), mails > dealt as u64);
            script.run();
            assert_eq!(script.outcomes().len() as u64, mails);
        }
    }
}

#[test]
fn in_a_pause_mails_are_taken_as_far_as_there_is_room() {
    for pace in PACES {
        let mut script = two(pace, DOTS, 0, 1);
        script.coordinator.set_paused(true);
        let mails = fill(&mut script);
        assert!(mails >= 2);
        script.run();
        assert_eq!((script.coordinator.backlog() as u64, script.outcomes().len()), (mails, 0), "{pace:?}");
        script.coordinator.set_paused(false);
        script.finish();
        assert_eq!(script.outcomes().len() as u64, mails);
    }
}

#[test]
fn a_server_at_a_354_gets_its_content_though_more_mails_are_at_hand() {
    for pace in PACES {
        let mut script = two(pace, DOTS, 2, 1);
        script.coordinator.set_feeding(true);
        (1..=2).for_each(|id| script.take(mail(id)));
        script.run();
        assert_eq!((script.progress.hungry, script.outcomes().len()), (2, 0), "{pace:?}");
        (3..=4).for_each(|id| script.take(mail(id)));
        script.coordinator.set_paused(true);
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)], "{pace:?}");
        assert_eq!((script.progress.hungry, script.coordinator.backlog()), (0, 2));
        let said = [script.said(lane(0, 0)), script.said(lane(0, 1))].concat();
        assert_eq!(said.iter().filter(|verb| **verb == "MAIL").count(), 2, "no envelope went with it");
        script.coordinator.set_paused(false);
        script.coordinator.set_feeding(false);
        script.finish();
        assert_eq!(script.outcomes().len(), 4);
    }
}

#[test]
fn nobody_wakes_for_what_a_pause_holds_back() {
    for pace in PACES {
        let settings = settings(|all| (all.pace, all.linger) = (pace, Some(SECOND)));
        let rate = Rate::per_second(1.0).burst(1);
        let mut script = Script::with(&[3], settings, |host| host.rate = Some(rate));
        script.open();
        (1..=2).for_each(|id| script.take(mail(id)));
        script.coordinator.set_paused(true);
        script.pass(60 * SECOND);
        assert_eq!((script.progress.wake_at, script.outcomes().len()), (None, 0), "{pace:?}");
        script.coordinator.set_paused(false);
        script.run();
        assert_eq!(script.outcomes().len(), 1, "{pace:?}: it has lingered, and the rate allows one");
        assert!(script.wait());
        script.exhaust();
        assert_eq!(script.outcomes().len(), 2);
    }
}

#[test]
fn what_comes_back_in_a_pause_waits_for_its_end() {
    for pace in PACES {
        for delay in [Duration::ZERO, SECOND] {
            let settings = settings(|all| (all.pace, all.retry_delay) = (pace, delay));
            let mut script = Script::with(&[2], settings, |_| {});
            script.open();
            script.serve(once("RCPT", Does::Say("451 later\r\n")));
            (1..=2).for_each(|id| script.take(mail(id)));
            script.settle();
            script.coordinator.set_paused(true);
            script.pass(60 * SECOND);
            assert_eq!(script.outcomes(), [(2, "delivered", 1)], "{pace:?} {delay:?}");
            assert_eq!((script.coordinator.backlog(), script.coordinator.delayed()), (1, 0));
            script.coordinator.set_paused(false);
            script.finish();
            assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 1)]);
        }
    }
}

#[test]
fn connections_are_looked_after_in_a_pause() {
    for pace in PACES {
        let mut script = Script::with(&[2], settings(|all| all.pace = pace), |host| {
            host.noop_after = Some(10 * SECOND);
        });
        script.open();
        (1..=2).for_each(|id| script.take(mail(id)));
        script.coordinator.set_paused(true);
        script.pass(25 * SECOND);
        for thread in 0..2 {
            assert_eq!(script.said(lane(0, thread)), ["NOOP", "NOOP"], "{pace:?}");
        }
        script.wire.clear();
        script.lane_mut(lane(0, 1)).session_mut().lost(crate::failure::Failure::Closed);
        script.run();
        assert_eq!(script.said(lane(0, 1)), EHLO, "{pace:?}: a lost one is made again");
        script.coordinator.ask(lane(0, 0), Inquiry::Help(None));
        script.run();
        assert!(script.coordinator.take_answer(lane(0, 0)).is_some_and(|answer| answer.is_ok()));
        assert_eq!((script.coordinator.backlog(), script.outcomes().len()), (2, 0));
        script.coordinator.set_paused(false);
        script.finish();
        assert_eq!(script.outcomes().len(), 2);
    }
}

#[test]
fn lanes_at_rest_are_opened_when_the_pause_is_over() {
    for pace in PACES {
        let mut script = Script::with(&[2], settings(|all| all.pace = pace), |host| host.keep_alive = false);
        script.run();
        script.wire.clear();
        script.coordinator.set_paused(true);
        (1..=2).for_each(|id| script.take(mail(id)));
        script.coordinator.set_flushing(true);
        script.run();
        assert!(script.wire.is_empty(), "{pace:?}: {:?}", script.wire);
        // Those that are on their way when the pause comes have nothing to do.
        script.coordinator.set_paused(false);
        script.settle();
        script.coordinator.set_paused(true);
        script.run();
        assert_eq!(script.outcomes().len(), 0, "{pace:?}");
        assert!(script.lanes().all(|lane| lane.standing() == Standing::Resting && lane.link() == Link::Down));
        script.coordinator.set_paused(false);
        script.run();
        assert_eq!(script.outcomes().len(), 2, "{pace:?}");
    }
}

#[test]
fn a_straggler_finishes_its_mail_in_a_pause_and_gets_no_other() {
    let mut script = Script::with(&[4], settings(|all| all.pace = PACES[1]), |_| {});
    script.open();
    script.stuck = vec![lane(0, 3)];
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(script.wait() && script.lane(lane(0, 3)).is_alone());
    script.run();
    script.coordinator.set_paused(true);
    script.stuck.clear();
    (5..=7).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!((script.outcomes().len(), script.coordinator.backlog()), (4, 3));
    assert!(script.lanes().all(|lane| lane.held() == 0));
}

// ---- drain --------------------------------------------------------------------

#[test]
fn a_drain_takes_nothing_and_sends_what_is_held_in_short_batches() {
    for pace in PACES {
        for (level, offers) in [(0, DOTS), (2, DOTS), (2, CHUNKS)] {
            let mut script = two(pace, offers, level, 1);
            script.take(mail(1));
            script.coordinator.set_draining(true);
            assert!(script.coordinator.is_draining() && !script.coordinator.has_room());
            let refused = script.coordinator.take(mail(2), script.now).unwrap_err();
            assert_eq!(number(&refused), 2);
            script.run();
            assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{pace:?} {level}");
            script.coordinator.set_draining(false);
            script.take(refused);
            script.finish();
            assert_eq!(script.outcomes().len(), 2);
        }
    }
}

#[test]
fn a_drain_lets_no_lane_wait_for_mails_that_the_caller_has_at_hand() {
    for pace in PACES {
        let mut script = two(pace, DOTS, 2, 1);
        script.coordinator.set_feeding(true);
        script.take(mail(1));
        script.coordinator.set_flushing(true);
        script.run();
        assert_eq!(script.progress.hungry, 1, "{pace:?}");
        script.coordinator.set_draining(true);
        script.run();
        assert_eq!((script.progress.hungry, script.outcomes().len()), (0, 1), "{pace:?}");
    }
}

#[test]
fn a_pause_holds_up_a_drain() {
    for pace in PACES {
        let mut script = two(pace, DOTS, 0, 1);
        script.take(mail(1));
        script.coordinator.set_draining(true);
        script.coordinator.set_paused(true);
        script.run();
        assert_eq!((script.coordinator.backlog(), script.progress.wake_at), (1, None), "{pace:?}");
        script.coordinator.set_paused(false);
        script.run();
        assert_eq!(script.outcomes().len(), 1);
    }
}

#[test]
fn a_drain_waits_for_no_delay_and_tries_again_what_comes_back() {
    let settings = settings(|all| all.retry_delay = 60 * SECOND);
    let mut script = Script::with(&[2], settings, |_| {});
    script.open();
    let mut asked = 0;
    script.serve(move |asked_now| {
        asked += u32::from(asked_now.what == "RCPT");
        match asked_now.what {
            "RCPT" if asked == 1 => Some(Does::Say("451 later\r\n")),
            "DATA" if asked == 2 => Some(Does::Say("421 closing\r\n")),
            _ => None,
        }
    });
    (1..=2).for_each(|id| script.take(mail(id)));
    script.coordinator.set_draining(true);
    script.run();
    assert_eq!(script.outcomes(), [(2, "delivered", 1)]);
    assert_eq!((script.coordinator.open_mails(), script.coordinator.delayed()), (1, 1));
    assert!(!script.coordinator.has_room());
}

// ---- rates --------------------------------------------------------------------

/// One lane that has a mail whenever it may, for so long; how many were sent.
fn sent_within(script: &mut Script, time: Duration) -> usize {
    let (end, before) = (script.now + time, script.outcomes().len());
    let mut next = 1_000 + before as u64;
    loop {
        while script.coordinator.has_room() {
            next += 1;
            script.take(mail(next));
        }
        script.run();
        if script.coordinator.has_room() {
            continue;
        }
        match script.progress.wake_at.filter(|at| *at <= end) {
            Some(_) => assert!(script.wait()),
            None => {
                script.pass(end - script.now);
                return script.outcomes().len() - before;
            }
        }
    }
}

#[test]
fn another_rate_holds_from_the_next_settle_on() {
    for pace in PACES {
        let settings = settings(|all| all.pace = pace);
        let rate = |mails: f64| Some(Rate::per_second(mails).burst(1));
        let mut script = Script::with(&[1], settings, |host| host.rate = rate(1.0));
        script.open();
        assert_eq!(sent_within(&mut script, 10 * SECOND), 11, "{pace:?}");
        assert!(script.coordinator.set_rate(Limited::Mails(Some(0)), rate(4.0), script.now));
        assert_eq!(sent_within(&mut script, 10 * SECOND), 40, "{pace:?}");
        assert!(script.coordinator.set_rate(Limited::Mails(Some(0)), rate(0.5), script.now));
        assert_eq!(sent_within(&mut script, 10 * SECOND), 5, "{pace:?}");
        script.coordinator.set_rate(Limited::Mails(None), rate(0.1), script.now);
        assert_eq!(sent_within(&mut script, 105 * SECOND), 11, "{pace:?}: a new limit begins with its burst");
        script.coordinator.set_rate(Limited::Mails(None), None, script.now);
        assert_eq!(sent_within(&mut script, 10 * SECOND), 6, "{pace:?}: one was saved up");
        assert!(
            !script.coordinator.set_rate(Limited::Mails(Some(1)), None, script.now),
            "there is no such host"
        );
    }
}

#[test]
fn without_its_rate_a_host_has_all_that_is_held_at_once() {
    for pace in PACES {
        let settings = settings(|all| all.pace = pace);
        let slow = Rate::per_hour(1.0).burst(1);
        let mut script = Script::with(&[2], settings, |host| host.rate = Some(slow));
        script.open();
        let mails = fill(&mut script);
        script.coordinator.set_flushing(true);
        script.run();
        assert_eq!(script.outcomes().len(), 1, "{pace:?}");
        assert!(script.coordinator.set_rate(Limited::Mails(Some(0)), None, script.now));
        script.run();
        assert_eq!(script.outcomes().len() as u64, mails, "{pace:?}");
    }
}

// ---- threads --------------------------------------------------------------------

fn up(script: &Script) -> Vec<LaneId> {
    let mut up: Vec<_> = script.lanes().filter(|lane| lane.link() == Link::Up).map(Lane::id).collect();
    up.sort_unstable();
    up
}

#[test]
fn more_threads_are_lanes_that_are_opened_and_dealt_mails() {
    for pace in PACES {
        let mut script = Script::with(&[1, 1], settings(|all| all.pace = pace), |_| {});
        script.open();
        assert!(script.coordinator.set_threads(0, 3, script.now));
        assert!(!script.coordinator.set_threads(2, 3, script.now), "there is no such host");
        script.run();
        assert_eq!(up(&script), [lane(0, 0), lane(0, 1), lane(0, 2), lane(1, 0)], "{pace:?}");
        let mails = fill(&mut script);
        assert_eq!(mails, if pace.is_free() { 5 } else { 4 }, "{pace:?}: there is room for them");
        script.finish();
        assert_eq!(script.outcomes().len() as u64, mails);
        let used: std::collections::BTreeSet<_> =
            script.notes.told.iter().filter_map(|told| told.lane).collect();
        assert_eq!(used.len(), 4, "{pace:?}");
    }
}

#[test]
fn fewer_threads_finish_what_they_hold_and_say_quit() {
    for pace in PACES {
        let mut script = Script::with(&[4], settings(|all| all.pace = pace), |_| {});
        script.open();
        (1..=4).for_each(|id| script.take(mail(id)));
        script.settle();
        assert!(script.coordinator.set_threads(0, 1, script.now));
        script.settle();
        assert_eq!(up(&script).len(), 4, "{pace:?}: they hold mails");
        script.run();
        assert_eq!((script.outcomes().len(), up(&script)), (4, vec![lane(0, 0)]), "{pace:?}");
        let quits = script.wire.iter().filter(|line| line.contains("QUIT")).count();
        assert_eq!((quits, script.notes.seen.iter().filter(|seen| seen.kind.is_trouble()).count()), (3, 0));
        assert!(script.progress.wake_at.is_none() && !script.progress.is_retired());
        let mails = fill(&mut script);
        assert!(mails <= 2, "{pace:?}: there is less room");
        script.coordinator.set_threads(0, 4, script.now);
        script.run();
        assert_eq!(up(&script).len(), 4, "{pace:?}: they come back");
        script.finish();
        assert_eq!(script.outcomes().len() as u64, 4 + mails);
    }
}

#[test]
fn a_lane_that_is_retired_leaves_its_place_to_one_that_had_to_go() {
    let mut script = Script::new(&[2]);
    script.open();
    script.coordinator.set_threads(0, 1, script.now);
    script.run();
    assert_eq!(up(&script), [lane(0, 0)]);
    script.serve(once("MAIL", Does::Close));
    script.decide(|event| if event.lane.thread == 0 { Verdict::RETIRE } else { Verdict::DEFAULT });
    script.take(mail(1));
    script.finish();
    assert_eq!((up(&script), script.outcomes()), (vec![lane(0, 1)], vec![(1, "delivered", 2)]));
}

#[test]
fn threads_that_are_being_opened_are_given_up_at_once() {
    let mut script = Script::new(&[3]);
    script.stuck = vec![lane(0, 1), lane(0, 2)];
    script.run();
    script.coordinator.set_threads(0, 1, script.now);
    script.run();
    assert!(script.lanes().skip(1).all(|lane| lane.link() == Link::Down));
    assert_eq!((script.progress.untried, script.progress.connected), (0, 1));
}

// ---- octets ---------------------------------------------------------------------

#[test]
fn what_was_sent_before_octets_were_counted_is_not_owed() {
    let mut script = Script::new(&[1]);
    script.open();
    for id in 1..=50 {
        take_in_time(&mut script, mail(id));
    }
    script.finish();
    let rate = Rate::per_second(1.0).burst(300);
    assert!(script.coordinator.set_rate(Limited::Octets(Some(0)), Some(rate), script.now));
    let begun = script.now;
    script.take(mail(51));
    script.run();
    assert_eq!((script.outcomes().len(), script.now), (51, begun), "the burst is there");
    // And from now on they are.
    (52..=60).for_each(|id| take_in_time(&mut script, mail(id)));
    script.finish();
    let took = (script.now - begun).as_secs();
    assert!((60..3_000).contains(&took), "nine mails, and not the fifty before them: {took} s");
}
