//! What lanes are shown to be doing.

use super::*;
use crate::coordinator::LaneStatus;
use crate::failure::Failure;
use crate::host::LaneId;

const FIRST: LaneId = LaneId { host: 0, thread: 0 };

/// What the lane is doing when nothing was heard for so long.
fn after(script: &mut Script, time: Duration, id: LaneId) -> LaneStatus<'_> {
    script.now += time;
    now(script, id)
}

fn now(script: &Script, id: LaneId) -> LaneStatus<'_> {
    script.lane(id).status(script.now)
}

#[test]
fn an_idle_lane_is_at_nothing() {
    let mut script = one();
    let said = "EHLO client.example\r\n".len() as u64;
    let idle = LaneStatus {
        lane: FIRST,
        host: "a.example",
        standing: Standing::Active,
        step: None,
        elapsed: None,
        mails: 0,
        setbacks: 0,
        is_in_batch: false,
        is_alone: false,
        bytes: said,
    };
    assert_eq!(after(&mut script, SECOND, FIRST), idle);
    assert_eq!(idle.to_string(), "a.example:0 active");
}

#[test]
fn a_lane_whose_server_is_slow_is_at_its_step_and_the_others_wait() {
    let mut script = Script::new(&[2]);
    script.open();
    script.serve(|asked| (asked.what == "DATA" && asked.lane == FIRST).then_some(Does::Hang));
    script.take(mail(1));
    script.take(mail(2));
    script.run();
    let slow = after(&mut script, 2 * SECOND, FIRST);
    assert_eq!((slow.standing, slow.step), (Standing::Active, Some(Step::Data)));
    assert_eq!((slow.elapsed, slow.mails, slow.setbacks), (Some(2 * SECOND), 1, 0));
    assert!(slow.is_in_batch && !slow.is_alone);
    assert_eq!(slow.to_string(), "a.example:0 active DATA 1 mail for 2s");
    let other = after(&mut script, SECOND, lane(0, 1));
    assert_eq!((other.step, other.elapsed, other.mails), (None, None, 1), "it has its 354");
    assert!(other.is_in_batch);
    assert_eq!(other.to_string(), "a.example:1 active waiting 1 mail");
}

#[test]
fn of_a_flight_the_first_thing_without_a_reply_is_shown_and_the_time_of_all() {
    let mut script = flights(1, CHUNKS, Pipeline::Envelope, 2);
    script.serve(offering(CHUNKS, |asked| (asked.what == "RCPT").then_some(Does::Hang)));
    script.take(mail(1));
    script.take(mail(2));
    script.run();
    let status = after(&mut script, SECOND, FIRST);
    assert_eq!(status.to_string(), "a.example:0 active RCPT 2 mails for 1s");
}

#[test]
fn an_opening_goes_through_its_steps() {
    let steps = [
        ("connect", Step::Connect, "a.example:0 opening connect for 3s"),
        ("greeting", Step::Greeting, "a.example:0 opening greeting for 3s"),
        ("EHLO", Step::Ehlo, "a.example:0 opening EHLO for 3s"),
    ];
    for (what, step, line) in steps {
        let mut script = Script::new(&[1]);
        script.serve(once(what, Does::Hang));
        assert_eq!(now(&script, FIRST).to_string(), "a.example:0 opening", "nobody has begun it");
        script.run();
        let status = after(&mut script, 3 * SECOND, FIRST);
        assert_eq!((status.step, status.elapsed, status.mails), (Some(step), Some(3 * SECOND), 0));
        assert!(!status.is_in_batch && !status.is_alone);
        assert_eq!(status.to_string(), line);
    }
}

#[test]
fn a_lane_that_is_reopened_shows_its_setbacks_until_a_mail_is_finished() {
    let mut script = one();
    script.take(mail(1));
    let mut connects = 0;
    script.serve(move |asked| {
        connects += u32::from(asked.what == "connect");
        match asked.what {
            "MAIL" if connects == 0 => Some(Does::Close),
            "connect" if connects == 1 => Some(Does::Refuse),
            "connect" if connects == 2 => Some(Does::Hang),
            _ => None,
        }
    });
    let sent = now(&script, FIRST).bytes + "MAIL FROM:<news@example.org>\r\n".len() as u64;
    script.run();
    let benched = now(&script, FIRST);
    assert_eq!((benched.standing, benched.step, benched.elapsed), (Standing::Benched, None, None));
    assert_eq!((benched.setbacks, benched.mails, benched.bytes), (2, 0, sent), "its mail is given back");
    assert_eq!(benched.to_string(), "a.example:0 benched, 2 setbacks");
    assert!(script.wait(), "until the back-off is over");
    script.run();
    let dialling = after(&mut script, SECOND, FIRST);
    assert_eq!((dialling.standing, dialling.step), (Standing::Opening, Some(Step::Connect)));
    assert_eq!((dialling.elapsed, dialling.bytes), (Some(SECOND), sent));
    assert_eq!(dialling.to_string(), "a.example:0 opening connect for 1s, 2 setbacks");
    script.lane_mut(FIRST).not_connected(Failure::TimedOut { after: SECOND });
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert_eq!(now(&script, FIRST).to_string(), "a.example:0 active");
}

#[test]
fn a_retired_lane_is_at_nothing_once_it_has_said_goodbye() {
    let mut script = one();
    script.decide(at(EventKind::Pass, Step::Mail, Verdict::RETIRE));
    script.serve(once("QUIT", Does::Hang));
    script.take(mail(1));
    script.settle();
    script.step();
    script.sweep();
    assert_eq!(after(&mut script, SECOND, FIRST).to_string(), "a.example:0 retired QUIT for 1s");
    script.exhaust();
    let retired = now(&script, FIRST);
    assert_eq!((retired.standing, retired.step, retired.elapsed), (Standing::Retired, None, None));
    assert!(retired.bytes > 0 && retired.mails == 0);
    assert_eq!(retired.to_string(), "a.example:0 retired");
}

#[test]
fn a_lane_that_goes_on_by_itself_says_so() {
    let mut script = Script::with(&[1], settings(|all| all.pace = Pace::Free), |_| {});
    script.open();
    script.serve(once("MAIL", Does::Hang));
    script.take(mail(1));
    script.run();
    let status = after(&mut script, SECOND, FIRST);
    assert!(status.is_alone && !status.is_in_batch);
    assert_eq!(status.to_string(), "a.example:0 active MAIL 1 mail for 1s, alone");
}

#[test]
fn a_host_is_shown_by_what_it_is_given() {
    let mut script = Script::with(&[3, 1], settings(|all| all.max_attempts = 1), |host| {
        host.auto_throttle = true;
        host.circuit_breaker = Some(1);
    });
    script.open();
    let line =
        |script: &Script, host: usize| script.coordinator.hosts(script.now).nth(host).unwrap().to_string();
    assert_eq!(line(&script, 0), "a.example: 3 of 3 lanes active, 0 mails");
    script.stuck = vec![lane(1, 0)];
    (1..=2).for_each(|id| script.take(mail(id).host(1)));
    script.settle();
    assert_eq!(line(&script, 1), "b.example: 1 of 1 lanes active, 1 mails, 1 waiting for it");
    script.stuck.clear();
    script.run();
    script.serve(when("MAIL", "450 later\r\n"));
    (3..=22).for_each(|id| take_in_time(&mut script, mail(id).host(0)));
    script.finish();
    let slowed = script.coordinator.hosts(script.now).next().unwrap();
    assert_eq!((slowed.at_a_time, slowed.is_failing), (Some(1), false), "{slowed}");
    script.serve(|asked| (asked.lane.host == 1).then_some(Does::Close));
    script.take(mail(30).host(1));
    script.run();
    let failing = script.coordinator.hosts(script.now).nth(1).unwrap();
    assert!(failing.is_failing && failing.idle_for > Some(Duration::ZERO), "{failing}");
    assert!(failing.to_string().contains(", failing, idle for "), "{failing}");
}
