//! Who waits for whom: a quorum and its stragglers, and lanes that go by themselves.

use super::*;

const GRACE: Duration = Duration::from_millis(100);

/// Lanes of one host, of which three quarters are enough.
fn quorum(threads: u32) -> Script {
    paced(&[threads], Pace::Quorum { share: 0.75, grace: GRACE })
}

fn free(threads: &[u32]) -> Script {
    paced(threads, Pace::Free)
}

fn paced(threads: &[u32], pace: Pace) -> Script {
    let mut script = Script::with(threads, settings(|all| all.pace = pace), |_| {});
    script.open();
    script
}

/// A quorum of four lanes in a batch of the mails 1 to 4, of whose lanes the last one
/// is heard no more, and has been left behind.
fn straggling() -> Script {
    let mut script = quorum(4);
    script.stuck = vec![lane(0, 3)];
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(script.wait() && script.lane(lane(0, 3)).is_alone());
    script
}

fn reported(script: &Script) -> Vec<u64> {
    script.outcomes().into_iter().map(|(id, ..)| id).collect()
}

// ---- a quorum -----------------------------------------------------------------

#[test]
fn a_step_goes_on_without_those_who_are_late_when_the_grace_is_over() {
    let mut script = quorum(4);
    script.stuck = vec![lane(0, 3)];
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.said(lane(0, 0)), ["MAIL"], "waits through the grace");
    assert_eq!(script.coordinator.step_over_at(), Some(script.now + GRACE));
    assert!(!script.coordinator.is_step_over(script.now));
    script.now += GRACE;
    assert!(script.coordinator.is_step_over(script.now));
    script.run();
    assert_eq!(reported(&script), [1, 2, 3], "the steps behind it have nobody to wait for");
    assert!(script.lane(lane(0, 3)).is_alone());
    assert_eq!(script.lane(lane(0, 3)).held(), 1);
}

#[test]
fn too_few_wait_for_the_others_without_end() {
    let mut script = quorum(4);
    script.stuck = vec![lane(0, 2), lane(0, 3)];
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.coordinator.step_over_at(), None);
    script.now += Duration::from_secs(60);
    assert!(!script.coordinator.is_step_over(script.now));
    script.stuck = vec![lane(0, 3)];
    script.run();
    assert_eq!(script.coordinator.step_over_at(), Some(script.now + GRACE));
}

#[test]
fn a_straggler_keeps_its_mail_and_comes_back_with_the_next_deal() {
    let mut script = straggling();
    script.run();
    (5..=7).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(reported(&script), [1, 2, 3, 5, 6, 7], "a batch of those that are free");
    assert_eq!(script.lane(lane(0, 3)).held(), 1);
    // It is heard again in the middle of a batch, and advances by itself.
    (8..=10).for_each(|id| script.take(mail(id)));
    script.settle();
    script.stuck = vec![lane(0, 0)];
    script.sweep();
    script.settle();
    assert_eq!(script.said(lane(0, 3)), ["MAIL"]);
    script.sweep();
    script.settle();
    assert_eq!(script.said(lane(0, 3)), ["MAIL", "RCPT"], "no faster than its own replies");
    assert!(script.progress.batch_running && script.lane(lane(0, 3)).is_alone());
    while script.lane(lane(0, 3)).held() > 0 {
        script.step();
    }
    assert!(reported(&script).contains(&4) && script.progress.batch_running);
    assert_eq!(script.lane(lane(0, 3)).held(), 0, "no deal in the middle of a batch");
    script.stuck.clear();
    script.run();
    (11..=14).for_each(|id| script.take(mail(id)));
    script.settle();
    assert!(script.lane(lane(0, 3)).is_in_batch());
    script.finish();
    assert_eq!(script.outcomes().len(), 14);
}

#[test]
fn a_restart_at_the_end_of_the_batch_waits_for_a_straggler_up_to_its_deadline() {
    for is_heard in [true, false] {
        let mut script = straggling();
        script.decide(|event| {
            let is_first = event.message.map(number) == Some(1) && event.step == Step::Content;
            if is_first { Verdict::RESTART_AT_BATCH_END } else { Verdict::DEFAULT }
        });
        script.run();
        (5..=7).for_each(|id| script.take(mail(id)));
        script.coordinator.set_flushing(true);
        script.run();
        assert_eq!(reported(&script), [1, 2, 3], "nothing more is dealt before the restart");
        assert!(script.progress.batch_running);
        let connects = |script: &Script| script.wire.iter().filter(|line| line.ends_with("connect")).count();
        assert_eq!(connects(&script), 0);
        if is_heard {
            script.stuck.clear();
            script.run();
        } else {
            assert!(script.wait(), "its deadline");
            script.stuck.clear();
        }
        script.run();
        assert_eq!(connects(&script), 4, "heard: {is_heard}");
        script.finish();
        assert_eq!(reported(&script), [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn what_is_said_of_a_straggler_holds_until_the_batch_of_the_others_ends() {
    for (verdict, reopens) in [(Verdict::BENCH, false), (Verdict::RECONNECT_AT_BATCH_END, true)] {
        let mut script = straggling();
        script.run();
        (5..=7).for_each(|id| script.take(mail(id)));
        script.settle();
        script.decide(move |event| if event.lane == lane(0, 3) { verdict } else { Verdict::DEFAULT });
        script.stuck = vec![lane(0, 0)];
        script.run();
        script.decide(|_| Verdict::DEFAULT);
        assert_eq!(script.standing(lane(0, 3)), Standing::Benched, "{verdict:?}");
        script.stuck.clear();
        script.run();
        assert_eq!(script.standing(lane(0, 3)), Standing::Active);
        let connected = script.wire.iter().any(|line| line == "0:3 connect");
        assert_eq!(connected, reopens, "{verdict:?}");
        script.finish();
        assert_eq!(script.outcomes().len(), 7);
    }
}

#[test]
fn a_restart_at_once_lets_a_straggler_finish_whose_content_is_out() {
    let mut script = quorum(4);
    (1..=4).for_each(|id| script.take(mail(id)));
    script.serve(|asked| (asked.what == "content" && asked.lane.thread == 3).then_some(Does::Hang));
    script.run();
    assert!(script.wait() && script.lane(lane(0, 3)).is_alone());
    assert!(script.lane(lane(0, 3)).session().has_doubt());
    script.coordinator.restart();
    script.run();
    assert!(script.lane(lane(0, 3)).is_alone(), "its reply is awaited");
    assert!((0..3).all(|thread| script.standing(lane(0, thread)) == Standing::Active));
    assert!(script.wait());
    script.exhaust();
    assert_eq!(script.outcomes().last(), Some(&(4, "in_doubt", 1)));
}

#[test]
fn nobody_waits_for_the_reply_to_a_stragglers_content_nor_has_its_server_to_wait_for_one() {
    let mut script = quorum(4);
    (1..=4).for_each(|id| script.take(mail(id)));
    script.stuck = vec![lane(0, 3)];
    script.run();
    script.wait();
    script.run();
    assert_eq!(reported(&script), [1, 2, 3]);
    script.stuck.clear();
    script.serve(|asked| (asked.what == "content").then_some(Does::Hang));
    for _ in 0..3 {
        script.step();
    }
    assert!(script.lane(lane(0, 3)).session().is_in_content());
    assert!(script.coordinator.is_in_content(), "the content is composed and not written");
    script.sweep();
    assert!(script.lane(lane(0, 3)).session().has_doubt());
    assert!(!script.coordinator.is_in_content());
}

#[test]
fn at_level_2_a_straggler_sends_its_content_without_waiting_for_the_batch() {
    let pace = Pace::Quorum { share: 0.5, grace: Duration::ZERO };
    let change = |host: &mut HostSettings| host.pipeline = Pipeline::Full;
    let mut script = Script::with(&[2], settings(|all| all.pace = pace), change);
    script.serve(offering(DOTS, |_| None));
    script.open();
    script.stuck = vec![lane(0, 1)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(script.lane(lane(0, 1)).is_alone());
    script.run();
    // The other lane is in the middle of the next batch.
    script.stuck = vec![lane(0, 0)];
    script.take(mail(3));
    script.coordinator.set_flushing(true);
    script.run();
    assert!(reported(&script).contains(&2), "{:?}", script.wire);
    script.stuck.clear();
    script.finish();
    assert_eq!(script.outcomes().len(), 3);
}

// ---- by themselves ------------------------------------------------------------

#[test]
fn each_lane_takes_the_next_mail_as_soon_as_it_has_finished_its_own() {
    let mut script = free(&[2]);
    script.stuck = vec![lane(0, 1)];
    (1..=3).for_each(|id| script.take(mail(id)));
    assert!(!script.coordinator.has_room(), "two are held, and a quarter of that waits");
    script.run();
    assert_eq!(reported(&script).len(), 2, "one lane has had two mails");
    assert!(!script.progress.batch_running && script.lane(lane(0, 1)).is_alone());
    let mut next = 4;
    while script.coordinator.has_room() {
        script.take(mail(next));
        script.run();
        next += 1;
        if next > 20 {
            break;
        }
    }
    assert_eq!(reported(&script).len(), 19, "and goes on without the other");
    script.stuck.clear();
    script.finish();
    assert_eq!(script.outcomes().len(), 20);
    assert_eq!(script.coordinator.summary(script.now).batches, 20, "a lane's batch is its mail");
}

#[test]
fn a_lone_mail_has_nobody_to_wait_for() {
    let mut script = free(&[3]);
    script.take(mail(1));
    script.run();
    assert_eq!(reported(&script), [1]);
}

#[test]
fn a_restart_waits_until_no_lane_has_a_mail_and_no_more_are_dealt() {
    let mut script = free(&[3]);
    script.stuck = vec![lane(0, 2)];
    script.decide(|event| {
        let is_first = event.message.map(number) == Some(1) && event.step == Step::Mail;
        if is_first { Verdict::RESTART_AT_BATCH_END } else { Verdict::DEFAULT }
    });
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(reported(&script), [2]);
    assert_eq!(script.coordinator.backlog(), 2, "the first one and the fourth");
    assert_eq!(script.standing(lane(0, 1)), Standing::Active);
    assert_eq!(script.standing(lane(0, 0)), Standing::Benched);
    script.decide(|_| Verdict::DEFAULT);
    script.stuck.clear();
    script.run();
    let connects = script.wire.iter().filter(|line| line.ends_with("connect")).count();
    assert_eq!(connects, 3);
    assert_eq!(reported(&script), [1, 2, 3, 4]);
}

#[test]
fn the_end_of_the_batch_is_that_of_the_lanes_own_mail() {
    for (verdict, reopens) in [(Verdict::BENCH, false), (Verdict::RECONNECT_AT_BATCH_END, true)] {
        let mut script = free(&[2]);
        script.stuck = vec![lane(0, 1)];
        script.decide(once_said(verdict));
        (1..=2).for_each(|id| script.take(mail(id)));
        script.run();
        let connected = script.wire.iter().any(|line| line == "0:0 connect");
        assert_eq!(connected, reopens, "{verdict:?}");
        assert_eq!(script.standing(lane(0, 0)), Standing::Active, "while the other has its mail");
        script.stuck.clear();
        script.finish();
        assert_eq!(script.outcomes().len(), 2);
    }
}

/// Says this to the first reply on the first lane.
fn once_said(verdict: Verdict) -> impl FnMut(&crate::event::Event<'_>) -> Verdict + 'static {
    let mut verdict = Some(verdict);
    move |event| {
        let is_meant = event.lane.thread == 0 && event.kind == EventKind::Pass;
        if is_meant { verdict.take().unwrap_or_default() } else { Verdict::DEFAULT }
    }
}

#[test]
fn a_mail_that_was_deferred_waits_for_a_lane_of_another_host_that_is_busy() {
    let mut script = free(&[1, 1]);
    script
        .serve(|asked| (asked.what == "MAIL" && asked.lane.host == 0).then_some(Does::Say("451 later\r\n")));
    script.stuck = vec![lane(1, 0)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.coordinator.backlog(), 1);
    assert!(!script.coordinator.is_batch_due(script.now), "nobody is waited for");
    // A mail behind it is not held up.
    script.take(mail(3));
    assert!(script.coordinator.is_batch_due(script.now));
    script.run();
    let told = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Fail);
    let told: Vec<_> = told.filter_map(|seen| seen.id).collect();
    assert_eq!(told.first(), Some(&1));
    assert!(told.contains(&3));
    script.stuck.clear();
    script.finish();
    let told = |id| script.notes.told.iter().find(|told| told.id == id).unwrap();
    assert_eq!((told(1).outcome, told(1).lane), ("delivered", Some(lane(1, 0))));
}

#[test]
fn a_mail_does_not_wait_for_a_lane_that_hangs() {
    for pace in [Pace::Quorum { share: 0.5, grace: Duration::ZERO }, Pace::Free] {
        let mut script = paced(&[3, 1], pace);
        let mut is_first = true;
        script.serve(move |asked| match asked.what {
            "content" if asked.lane.host == 1 => Some(Does::Hang),
            "MAIL" if asked.lane.host == 0 && std::mem::take(&mut is_first) => {
                Some(Does::Say("451 once\r\n"))
            }
            _ => None,
        });
        let begun = script.now;
        script.coordinator.set_flushing(true);
        (1..=4).for_each(|id| script.take(mail(id)));
        script.run();
        while script.outcomes().len() < 3 {
            assert!(script.wait());
            script.run();
        }
        assert!(script.now - begun <= 6 * SECOND, "{pace:?}: {:?}", script.now - begun);
    }
}

#[test]
fn no_more_mails_wait_for_another_lane_than_there_are() {
    let mut script = free(&[3, 1]);
    script
        .serve(|asked| (asked.what == "MAIL" && asked.lane.host == 0).then_some(Does::Say("451 later\r\n")));
    script.stuck = vec![lane(1, 0)];
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    // Of the three that were deferred one waits for the other host, and two are tried
    // again here until they are given up.
    assert_eq!(script.outcomes().iter().filter(|told| told.1 == "abandoned").count(), 2);
    assert_eq!(script.coordinator.backlog(), 1);
    script.stuck.clear();
    script.finish();
    assert_eq!(script.outcomes().iter().filter(|told| told.1 == "delivered").count(), 2);
}

#[test]
fn a_restart_within_the_grace_leaves_no_time_in_the_past() {
    let mut script = straggling();
    script.run();
    (5..=7).for_each(|id| script.take(mail(id)));
    script.settle();
    script.stuck = vec![lane(0, 2), lane(0, 3)];
    script.sweep();
    // Two of three are not enough: nothing is timed. Of the others one is heard.
    script.decide(|event| if event.lane == lane(0, 3) { Verdict::RESTART_NOW } else { Verdict::DEFAULT });
    script.stuck = vec![lane(0, 2)];
    script.run();
    script.now += 2 * GRACE;
    assert!(!script.coordinator.is_step_over(script.now) || script.coordinator.step_over_at().is_none());
    script.settle();
    assert_eq!(script.coordinator.step_over_at(), None);
    script.stuck.clear();
    script.finish();
    assert_eq!(script.outcomes().len(), 7);
}
