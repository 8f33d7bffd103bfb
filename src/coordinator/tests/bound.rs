//! Mails that may go to one host alone.

use super::*;
use crate::failure::Failure;
use crate::outcome::Cause;

/// A mail for this host.
fn for_host(id: u64, host: u32) -> Message {
    mail(id).host(host)
}

fn at_pace(threads: &[u32], pace: Pace) -> Script {
    let mut script = Script::with(threads, settings(|all| all.pace = pace), |_| {});
    script.open();
    script
}

const PACES: [Pace; 3] =
    [Pace::Lockstep, Pace::Quorum { share: 0.5, grace: Duration::from_millis(100) }, Pace::Free];

/// Which host each mail was reported from.
fn hosts(script: &Script) -> Vec<(u64, Option<u32>)> {
    let mut all: Vec<_> =
        script.notes.told.iter().map(|told| (told.id, told.lane.map(|lane| lane.host))).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_mail_goes_to_its_host_and_to_no_other() {
    for pace in PACES {
        let mut script = at_pace(&[2, 2, 1], pace);
        for id in 1..=12 {
            let host = (id % 3) as u32;
            take_in_time(&mut script, for_host(id, host));
        }
        script.finish();
        let expected: Vec<_> = (1..=12).map(|id| (id, Some((id % 3) as u32))).collect();
        assert_eq!(hosts(&script), expected, "{pace:?}");
        assert!(script.notes.told.iter().all(|told| told.outcome == "delivered"));
    }
}

#[test]
fn it_is_tried_again_at_its_host_on_another_lane() {
    let mut script = at_pace(&[2, 2], Pace::Lockstep);
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    script.take(for_host(1, 1));
    script.finish();
    let lanes: Vec<_> = script.notes.seen.iter().filter(|seen| seen.step == Step::Mail).collect();
    assert_eq!(lanes.len(), 2);
    assert!(lanes.iter().all(|seen| seen.lane.host == 1) && lanes[0].lane != lanes[1].lane);
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
}

#[test]
fn as_many_wait_for_a_host_as_its_lanes_hold_and_they_keep_nobody_else_out() {
    let mut script = at_pace(&[1, 3], Pace::Lockstep);
    // Nothing can be dealt to the first host.
    script.stuck = vec![lane(0, 0)];
    script.coordinator.reconnect(lane(0, 0));
    script.run();
    script.take(for_host(1, 0));
    assert!(!script.coordinator.has_room_for(&for_host(2, 0)));
    assert!(script.coordinator.has_room_for(&for_host(2, 1)) && script.coordinator.has_room());
    for id in 2..=5 {
        script.take(mail(id));
        if id < 4 {
            assert!(!script.coordinator.is_batch_due(script.now), "{id}");
        }
    }
    script.run();
    assert_eq!(hosts(&script), [(2, Some(1)), (3, Some(1)), (4, Some(1))], "one in a short batch is left");
    script.stuck.clear();
    script.finish();
    assert_eq!(hosts(&script)[0], (1, Some(0)));
    assert_eq!(script.outcomes().len(), 5);
}

#[test]
fn one_too_many_for_a_host_shuts_the_door_until_it_has_fewer() {
    let mut script = at_pace(&[1, 1], Pace::Free);
    script.stuck = vec![lane(0, 0)];
    // One is held, and two may wait: a lane's worth, and a quarter of that.
    (1..=3).for_each(|id| {
        assert!(script.coordinator.has_room_for(&for_host(id, 0)), "{id}");
        script.take(for_host(id, 0));
        script.settle();
    });
    assert!(!script.coordinator.has_room_for(&for_host(4, 0)) && script.coordinator.has_room());
    script.take(for_host(4, 0));
    assert!(!script.coordinator.has_room(), "who hands them over one by one waits");
    script.stuck.clear();
    script.run();
    assert!(script.coordinator.has_room());
    assert_eq!(script.outcomes().len(), 4);
}

#[test]
fn a_batch_begins_when_a_host_has_all_the_mails_that_may_wait_for_it() {
    let mut script = at_pace(&[1, 3], Pace::Lockstep);
    script.take(for_host(1, 0));
    assert!(script.coordinator.is_batch_due(script.now), "nobody could hand over another one for it");
    script.run();
    script.take(for_host(2, 1));
    assert!(!script.coordinator.is_batch_due(script.now));
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn whoever_came_first_goes_first_where_both_want_the_same_lane() {
    let mut script = at_pace(&[1], Pace::Free);
    script.stuck = vec![lane(0, 0)];
    script.take(mail(1));
    script.settle();
    script.take(for_host(2, 0));
    script.take(mail(3));
    script.take(for_host(4, 0));
    script.stuck.clear();
    script.run();
    let order: Vec<_> = script.notes.told.iter().map(|told| told.id).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn other_mails_leave_a_hosts_lanes_to_its_own_where_there_are_others() {
    let mut script = at_pace(&[1, 1], Pace::Lockstep);
    script.take(mail(1));
    script.take(for_host(2, 0));
    script.run();
    assert_eq!(hosts(&script), [(1, Some(1)), (2, Some(0))]);
}

#[test]
fn without_a_lane_left_it_is_abandoned_at_once_and_says_why() {
    for host in [0, 7] {
        let mut script = at_pace(&[1, 1], Pace::Lockstep);
        script.decide(|event| if event.lane.host == 0 { Verdict::RETIRE } else { Verdict::DEFAULT });
        script.take(for_host(1, 0));
        script.run();
        assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
        script.notes.told.clear();
        script.take(for_host(2, host));
        script.settle();
        assert_eq!(script.outcomes(), [(2, "abandoned", 0)], "{host}");
        assert!(
            script.notes.told[0].text.ends_with(&Cause::NoLane.to_string()),
            "{}",
            script.notes.told[0].text
        );
    }
}

#[test]
fn where_every_lane_is_retired_it_is_given_back_like_all_others() {
    let mut script = at_pace(&[1], Pace::Lockstep);
    script.serve(when("MAIL", "451 later\r\n"));
    script.decide(|_| Verdict::RETIRE);
    script.take(for_host(1, 0));
    script.run();
    assert!(script.progress.is_retired());
    assert_eq!(script.coordinator.abort(script.now, &mut script.notes).len(), 1);
}

#[test]
fn while_its_host_rests_it_waits_within_the_bound_and_is_then_abandoned() {
    let batch = settings(|all| all.max_delayed = Some(1));
    let mut script = Script::with(&[1, 1], batch, |host| host.circuit_breaker = Some(1));
    script.open();
    let is_down = Rc::new(Cell::new(true));
    let down = Rc::clone(&is_down);
    script.serve(move |asked| {
        (asked.lane.host == 0 && down.get()).then_some(match asked.what {
            "connect" => Does::Refuse,
            _ => Does::Close,
        })
    });
    script.take(for_host(1, 0));
    script.run();
    assert_eq!((script.coordinator.delayed(), script.coordinator.backlog()), (1, 0));
    script.take(for_host(2, 0));
    script.settle();
    assert_eq!(script.outcomes(), [(2, "abandoned", 0)]);
    assert!(
        script.notes.told[0].text.ends_with(&Failure::Closed.to_string()),
        "{}",
        script.notes.told[0].text
    );
    script.take(mail(3));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(hosts(&script)[1], (3, Some(1)), "others do not wait");
    is_down.set(false);
    script.finish();
    while script.coordinator.open_mails() > 0 {
        assert!(script.wait());
        script.run();
    }
    assert_eq!(hosts(&script)[0], (1, Some(0)));
}

#[test]
fn at_rest_a_lane_of_its_host_is_opened_for_it() {
    let mut script = Script::with(&[2, 2], BatchSettings::default(), |host| host.keep_alive = false);
    script.run();
    script.wire.clear();
    script.take(for_host(1, 1));
    script.take(for_host(2, 1));
    script.coordinator.set_flushing(true);
    script.run();
    let opened: Vec<_> = script.wire.iter().filter(|line| line.ends_with("connect")).collect();
    assert!(opened.len() == 2 && opened.iter().all(|line| line.starts_with("1:")), "{opened:?}");
    assert_eq!(script.outcomes().len(), 2);
}

#[test]
fn where_there_is_no_other_host_to_hold_up_it_waits_in_its_place() {
    let mut script = Script::with(&[2], BatchSettings::default(), |host| host.circuit_breaker = Some(1));
    script.open();
    let is_down = Rc::new(Cell::new(true));
    let down = Rc::clone(&is_down);
    script.serve(move |asked| {
        down.get().then_some(if asked.what == "connect" { Does::Refuse } else { Does::Close })
    });
    (1..=2).for_each(|id| script.take(for_host(id, 0)));
    script.run();
    assert_eq!((script.coordinator.delayed(), script.coordinator.backlog()), (0, 2));
    assert!(!script.coordinator.has_room_for(&for_host(3, 0)), "who hands them over waits");
    is_down.set(false);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 2)]);
}

#[test]
fn what_expires_while_its_host_rests_is_reported_then() {
    let mut script = Script::with(&[1, 1], BatchSettings::default(), |host| {
        host.circuit_breaker = Some(1);
        host.backoff.base = 3600 * SECOND;
        host.backoff.max = 3600 * SECOND;
    });
    script.open();
    script.serve(|asked| (asked.lane.host == 0).then_some(Does::Close));
    script.take(for_host(1, 0).expires(script.now + 10 * SECOND));
    script.pass(9 * SECOND);
    assert_eq!((script.coordinator.delayed(), script.outcomes().len()), (1, 0));
    script.pass(SECOND);
    assert_eq!(script.outcomes(), [(1, "abandoned", 1)]);
    assert!(
        script.notes.told[0].text.ends_with(&Cause::Expired.to_string()),
        "{}",
        script.notes.told[0].text
    );
}

#[test]
fn a_door_that_is_shut_for_one_host_is_not_opened_by_a_mail_for_another() {
    let mut script = at_pace(&[1, 1], Pace::Free);
    script.stuck = vec![lane(0, 0), lane(1, 0)];
    for id in 1..=4 {
        script.take(for_host(id, 0));
        script.settle();
    }
    assert!(!script.coordinator.has_room());
    script.take(for_host(5, 1));
    assert!(!script.coordinator.has_room());
}

#[test]
fn what_is_there_for_all_hosts_is_not_set_aside_for_one_without_a_mail() {
    let batch = settings(|all| {
        all.pace = Pace::Free;
        all.total_rate = Some(Rate::per_second(1.0).burst(1));
    });
    let mut script = Script::with(&[2, 1], batch, |_| {});
    script.open();
    (1..=3).for_each(|id| {
        script.take(for_host(id, 1));
        script.pass(2 * SECOND);
    });
    assert_eq!(script.outcomes().len(), 3);
}
