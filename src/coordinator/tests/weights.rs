//! Which host gets how many of the mails.

use super::*;
use crate::host::HostSettings;

fn weighed(threads: &[u32], pace: Pace, weights: &'static [u32]) -> Script {
    let mut script = Script::with(threads, settings(|all| all.pace = pace), |host: &mut HostSettings| {
        let place = usize::from(host.name.as_bytes()[0] - b'a');
        host.weight = weights.get(place).copied();
    });
    script.open();
    script
}

/// How many mails each host has answered.
fn counts(script: &Script, hosts: u32) -> Vec<usize> {
    let lanes = || script.notes.told.iter().filter_map(|told| told.lane);
    (0..hosts).map(|host| lanes().filter(|lane| lane.host == host).count()).collect()
}

#[test]
fn mails_are_shared_by_weight_whatever_the_threads() {
    for (threads, weights, expected) in [
        (&[2, 2][..], &[3, 1][..], &[300, 100][..]),
        (&[1, 5], &[1, 1], &[200, 200]),
        (&[1, 1, 8], &[1, 2, 1], &[100, 200, 100]),
    ] {
        for pace in [Pace::Lockstep, Pace::Free] {
            let mut script = weighed(threads, pace, weights);
            deliver_all(&mut script, 400);
            let counts = counts(&script, threads.len() as u32);
            let is_near = counts.iter().zip(expected).all(|(count, wanted)| count.abs_diff(*wanted) <= 4);
            assert!(is_near, "{threads:?} {weights:?} {pace:?}: {counts:?}");
        }
    }
}

#[test]
fn a_host_without_a_lane_is_not_waited_for_and_not_owed_anything() {
    let mut script = weighed(&[1, 1], Pace::Lockstep, &[1, 1]);
    script.stuck = vec![lane(0, 0)];
    script.coordinator.reconnect(lane(0, 0));
    script.run();
    deliver_all(&mut script, 50);
    assert_eq!(counts(&script, 2), [0, 50]);
    script.stuck.clear();
    script.run();
    script.notes.told.clear();
    deliver_all(&mut script, 40);
    let after = counts(&script, 2);
    assert!(after[0].abs_diff(20) <= 2, "{after:?}");
}

#[test]
fn a_slow_host_is_waited_for_no_longer_than_five_seconds() {
    let mut script = weighed(&[1, 1], Pace::Free, &[1, 1]);
    deliver_all(&mut script, 10);
    script.notes.told.clear();
    script.stuck = vec![lane(0, 0)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(counts(&script, 2), [0, 1]);
    // It is the turn of the host that is busy.
    script.take(mail(3));
    script.run();
    script.pass(4 * SECOND);
    assert_eq!(counts(&script, 2), [0, 1]);
    script.pass(2 * SECOND);
    assert_eq!(counts(&script, 2), [0, 2]);
}

#[test]
fn what_is_bound_to_a_host_is_part_of_its_share() {
    let mut script = weighed(&[1, 1], Pace::Lockstep, &[1, 1]);
    for id in 1..=20 {
        take_in_time(&mut script, mail(id).host(0));
    }
    script.notes.told.clear();
    deliver_all(&mut script, 10);
    let after = counts(&script, 2);
    assert!(after[1] >= 9, "{after:?}");
}

#[test]
fn the_wait_for_a_slow_host_is_counted_from_its_last_answer_whoever_settles_meanwhile() {
    let mut script = weighed(&[1, 1], Pace::Free, &[1, 1]);
    deliver_all(&mut script, 10);
    let heard = script.now;
    script.notes.told.clear();
    script.stuck = vec![lane(0, 0)];
    (1..=3).for_each(|id| {
        script.take(mail(id));
        script.run();
    });
    script.now += 49 * SECOND / 10;
    script.settle();
    assert_eq!((counts(&script, 2), script.progress.wake_at), (vec![0, 1], Some(heard + 5 * SECOND)));
}

#[test]
fn a_host_whose_lanes_rest_is_one_in_use() {
    let mut script = Script::with(&[2, 2], BatchSettings::default(), |host: &mut HostSettings| {
        host.weight = Some(1);
        host.keep_alive = false;
    });
    script.run();
    for id in 1..=40 {
        take_in_time(&mut script, mail(id));
        run_one_batch(&mut script);
    }
    assert_eq!(counts(&script, 2), [20, 20]);
}
