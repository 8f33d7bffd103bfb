//! How many connections stand at the same time.

use super::*;

fn limited(threads: &[u32], sessions: usize, change: impl Fn(&mut HostSettings)) -> Script {
    let mut script = Script::with(threads, settings(|all| all.total_sessions = Some(sessions)), change);
    script.run();
    script
}

fn connected(script: &Script) -> usize {
    script.lanes().filter(|lane| lane.link() != Link::Down).count()
}

#[test]
fn no_more_connections_stand_than_may_and_connect_does_not_wait_for_the_others() {
    let mut script = limited(&[3, 3], 4, |_| {});
    assert_eq!((connected(&script), script.progress.untried), (4, 0));
    let parked: Vec<_> = script.lanes().filter(|lane| lane.link() == Link::Down).collect();
    assert!(parked.len() == 2 && parked.iter().all(|lane| lane.standing() == Standing::Benched));
    assert!(script.progress.wake_at.is_none(), "nothing comes by itself");
    deliver_all(&mut script, 40);
    assert_eq!((script.outcomes().len(), connected(&script)), (40, 4));
}

#[test]
fn lanes_whose_host_is_gone_leave_their_places_to_others() {
    let mut script = limited(&[2, 2], 2, |host| host.max_connect_failures = 1);
    assert!((0..2).all(|host| script.standing(lane(host, 0)) == Standing::Active));
    script.serve(|asked| (asked.lane.host == 0).then_some(Does::Close));
    script.take(mail(1));
    script.take(mail(2));
    script.finish();
    assert_eq!(script.outcomes().len(), 2);
    script.coordinator.set_flushing(false);
    script.run();
    let up: Vec<_> = script.lanes().filter(|lane| lane.link() == Link::Up).map(Lane::id).collect();
    assert_eq!(up, [lane(1, 0), lane(1, 1)]);
}

#[test]
fn a_connection_that_is_replaced_waits_behind_those_that_have_waited_for_longer() {
    let mut script = limited(&[3], 1, |host| host.mails_per_connection = Some(1));
    let mut used = Vec::new();
    for id in 1..=6 {
        script.now += SECOND;
        script.take(mail(id));
        script.coordinator.set_flushing(true);
        script.run();
        used.extend(script.notes.told.last().and_then(|told| told.lane));
    }
    assert_eq!(used.len(), 6);
    assert_eq!(used[..3], used[3..], "in turn: {used:?}");
    assert_ne!(used[0], used[1]);
}

#[test]
fn connections_that_are_not_kept_are_opened_as_far_as_there_are_places() {
    for pace in [Pace::Lockstep, Pace::Quorum { share: 1.0, grace: Duration::ZERO }, Pace::Free] {
        let batch = settings(|all| {
            all.total_sessions = Some(2);
            all.pace = pace;
        });
        let mut script = Script::with(&[4], batch, |host| host.keep_alive = false);
        script.run();
        (1..=4).for_each(|id| script.take(mail(id)));
        script.coordinator.set_flushing(true);
        for _ in 0..100 {
            script.step();
            assert!(connected(&script) <= 2);
        }
        script.finish();
        assert_eq!(script.outcomes().len(), 4, "{pace:?}");
    }
}

/// Two hosts with a lane each, and one place.
fn one_place(change: impl Fn(&mut HostSettings)) -> Script {
    let mut script = limited(&[1, 1], 1, change);
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes().len(), 1);
    script
}

#[test]
fn a_lane_without_a_mail_makes_way_for_a_host_that_others_cannot_stand_in_for() {
    for keep_alive in [true, false] {
        let mut script = one_place(|host| host.keep_alive = keep_alive);
        for host in [1, 0, 1, 1, 0] {
            script.take(mail(2).host(host));
            script.run();
            let told = script.notes.told.last().unwrap();
            assert_eq!(told.lane.map(|lane| lane.host), Some(host), "{keep_alive}");
        }
        assert_eq!(script.outcomes().len(), 6);
        assert!(connected(&script) <= 1);
    }
}

#[test]
fn two_hosts_with_mails_of_their_own_take_turns_at_one_place() {
    let mut script = one_place(|_| {});
    script.wire.clear();
    (0..3).for_each(|id| {
        script.take(mail(2 * id).host(0));
        script.take(mail(2 * id + 1).host(1));
        script.run();
    });
    let dials = script.wire.iter().filter(|line| line.ends_with("connect")).count();
    assert!(script.outcomes().len() == 7 && dials <= 6, "{:?}", script.wire);
}
