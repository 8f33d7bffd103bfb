//! Nothing moves on any lane.

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Lanes of one host that are opened anew when nothing has moved for [`LONG`].
fn watchful(threads: u32, pace: Pace) -> Script {
    let all = settings(|all| {
        all.pace = pace;
        all.global_timeout = Some(LONG);
    });
    let mut script = Script::with(&[threads], all, |_| {});
    script.open();
    script.coordinator.set_flushing(true);
    script
}

/// Lets time pass until it is told that nothing moves.
fn stand_still(script: &mut Script) {
    script.run();
    while told(script, EventKind::GlobalHang) == 0 {
        assert!(script.wait());
    }
}

fn told(script: &Script, kind: EventKind) -> usize {
    script.notes.seen.iter().filter(|seen| seen.kind == kind).count()
}

#[test]
fn when_nothing_moves_all_lanes_that_wait_are_opened_anew_and_it_is_told_once() {
    for pace in [Pace::Lockstep, Pace::Quorum { share: 0.5, grace: SECOND }, Pace::Free] {
        let mut script = watchful(3, pace);
        let mut left = 3;
        script.serve(move |asked| {
            let hangs = asked.what == "RCPT" && left > 0;
            left -= u32::from(hangs);
            hangs.then_some(Does::Hang)
        });
        (1..=3).for_each(|id| script.take(mail(id)));
        script.run();
        let begun = script.now;
        while script.now < begun + LONG {
            assert!(script.wait());
        }
        // First everything that has come is read.
        assert_eq!(told(&script, EventKind::GlobalHang), 0);
        assert!(script.wait());
        assert_eq!(script.now, begun + LONG, "{pace:?}");
        assert_eq!(
            (told(&script, EventKind::GlobalHang), told(&script, EventKind::Hang)),
            (1, 0),
            "{pace:?}"
        );
        let seen = script.notes.seen.iter().find(|seen| seen.kind == EventKind::GlobalHang).unwrap();
        assert_eq!((seen.step, seen.id, seen.elapsed), (Step::Rcpt, None, LONG));
        assert_eq!(seen.failure.as_ref().unwrap().to_string(), "nothing moved on any session within 60s");
        script.finish();
        assert!(script.outcomes().iter().all(|told| (told.1, told.2) == ("delivered", 2)), "{pace:?}");
        assert_eq!(script.wire.iter().filter(|line| line.ends_with("connect")).count(), 3);
    }
}

#[test]
fn a_content_that_is_out_keeps_its_connection_through_it() {
    let mut script = watchful(2, Pace::Free);
    script.serve(|asked| match (asked.what, asked.lane.thread) {
        ("content", 0) => Some(Does::Hang),
        ("MAIL", 1) => Some(Does::Hang),
        _ => None,
    });
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(script.lane(lane(0, 0)).session().has_doubt());
    let connection = script.lane(lane(0, 0)).connection();
    script
        .decide(|event| if event.kind == EventKind::GlobalHang { Verdict::RETIRE } else { Verdict::DEFAULT });
    stand_still(&mut script);
    assert_eq!(script.standing(lane(0, 1)), Standing::Retired);
    assert_eq!(script.lane(lane(0, 0)).connection(), connection);
    assert!(script.lane(lane(0, 0)).session().has_doubt());
    // Nobody else waits, and it is not told again.
    while script.lane(lane(0, 0)).held() > 0 {
        assert!(script.wait());
    }
    assert_eq!(told(&script, EventKind::GlobalHang), 1);
    assert!(script.outcomes().contains(&(1, "in_doubt", 1)));
}

#[test]
fn every_code_holds_for_all_lanes_that_wait() {
    for (code, reopened, standing) in [
        (1, 2, Standing::Active),
        (101, 0, Standing::Retired),
        (102, 2, Standing::Active),
        (103, 3, Standing::Active),
        (104, 2, Standing::Active),
        (202, 2, Standing::Active),
        (203, 3, Standing::Active),
    ] {
        let mut script = watchful(3, Pace::Lockstep);
        let mut left = 2;
        script.serve(move |asked| {
            let hangs = asked.what == "MAIL" && left > 0;
            left -= u32::from(hangs);
            hangs.then_some(Does::Hang)
        });
        let verdict = Verdict::from_code(code).unwrap();
        script.decide(
            move |event| {
                if event.kind == EventKind::GlobalHang { verdict } else { Verdict::DEFAULT }
            },
        );
        (1..=2).for_each(|id| script.take(mail(id)));
        stand_still(&mut script);
        script.run();
        let connects = script.wire.iter().filter(|line| line.ends_with("connect")).count();
        assert_eq!(connects, reopened, "{code}");
        assert_eq!(script.standing(lane(0, 0)), standing, "{code}");
        assert_eq!(script.standing(lane(0, 2)), Standing::Active, "{code}: it rests, and is not concerned");
        script.finish();
        assert!(script.outcomes().iter().all(|told| (told.1, told.2) == ("delivered", 2)), "{code}");
    }
}

#[test]
fn what_is_said_of_the_message_holds_for_all_mails_of_these_lanes() {
    let mut script = watchful(2, Pace::Lockstep);
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Hang));
    script.decide(|event| match event.kind {
        EventKind::GlobalHang => Verdict::DEFAULT.drop_message(),
        _ => Verdict::DEFAULT,
    });
    (1..=2).for_each(|id| script.take(mail(id)));
    stand_still(&mut script);
    assert!(script.outcomes().iter().all(|told| told.1 == "dropped"));
    assert_eq!(script.outcomes().len(), 2);
}

#[test]
fn as_long_as_one_lane_moves_the_others_have_their_own_deadlines() {
    let mut script = watchful(2, Pace::Free);
    script.serve(|asked| (asked.lane.thread == 1 && asked.what == "MAIL").then_some(Does::Hang));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    let begun = script.now;
    let mut next = 3;
    while told(&script, EventKind::Hang) == 0 {
        script.now += LONG / 2;
        script.take(mail(next));
        script.serve(|asked| (asked.lane.thread == 1 && asked.what == "MAIL").then_some(Does::Hang));
        script.run();
        next += 1;
        let now = script.now;
        script.lane_mut(lane(0, 1)).session_mut().check_deadline(now);
        script.settle();
        assert!(next < 20);
    }
    assert_eq!(script.now, begun + Duration::from_secs(300), "the timeout of MAIL");
    assert_eq!(told(&script, EventKind::GlobalHang), 0);
}

#[test]
fn openings_are_under_way_too_and_rest_and_back_off_are_not() {
    let all = settings(|all| all.global_timeout = Some(LONG));
    let mut script = Script::with(&[2], all, |host| host.max_connect_failures = 3);
    script.serve(|asked| (asked.what == "greeting").then_some(Does::Hang));
    stand_still(&mut script);
    assert_eq!(told(&script, EventKind::ConnectFail), 0, "it is told once");
    script.serve(|_| None);
    script.run();
    script.exhaust();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
    assert_eq!(script.progress.wake_at, None, "at rest");
}
