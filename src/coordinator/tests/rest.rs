//! Connections that are not kept: when they are given up, and who is opened for what.

use super::*;
use crate::auth::Credentials;
use crate::inquiry::Inquiry;

fn brief_at(threads: &[u32], pace: Pace, change: impl Fn(&mut HostSettings)) -> Script {
    let mut script = Script::with(threads, settings(|all| all.pace = pace), |host| {
        host.keep_alive = false;
        change(host);
    });
    script.run();
    script.wire.clear();
    script.notes.seen.clear();
    script
}

/// Lanes whose connections are not kept, each of which was opened once.
fn brief(threads: &[u32]) -> Script {
    brief_at(threads, Pace::Lockstep, |_| {})
}

fn all_rest(script: &Script) -> bool {
    script.lanes().all(|lane| lane.standing() == Standing::Resting && lane.link() == Link::Down)
}

/// The lanes that were opened, in their order, and then forgets them.
fn opened(script: &mut Script) -> Vec<u32> {
    let wire = std::mem::take(&mut script.wire);
    let connects = wire.iter().filter_map(|line| line.strip_suffix(" connect"));
    connects.map(|id| id.split_once(':').unwrap().1.parse().unwrap()).collect()
}

fn flush(script: &mut Script) {
    script.coordinator.set_flushing(true);
    script.run();
    script.coordinator.set_flushing(false);
}

const VISIT: [&str; 8] = ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "QUIT"];

#[test]
fn each_lane_is_opened_once_to_prove_the_settings_and_then_rests() {
    let mut script = Script::with(&[2], BatchSettings::default(), |host| host.keep_alive = false);
    script.run();
    for thread in 0..2 {
        assert_eq!(script.said(lane(0, thread)), [&EHLO[..], &["QUIT"]].concat());
    }
    assert!(all_rest(&script));
    let progress = script.progress;
    assert_eq!((progress.active, progress.untried, progress.connected), (2, 0, 0));
    assert!(!progress.is_retired() && progress.wake_at.is_none());
}

#[test]
fn a_mail_has_one_lane_opened_which_says_quit_behind_it() {
    let mut script = brief(&[3]);
    script.take(mail(1));
    flush(&mut script);
    let used: Vec<_> = (0..3).filter(|thread| !script.said(lane(0, *thread)).is_empty()).collect();
    assert_eq!(used.len(), 1);
    assert_eq!(script.said(lane(0, used[0])), VISIT);
    assert!(all_rest(&script));
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert_eq!(script.notes.seen[0].kind, EventKind::ReconnectPass);
}

#[test]
fn all_are_worn_alike() {
    let mut script = brief(&[3]);
    let mut all = Vec::new();
    for id in 1..=6 {
        script.take(mail(id));
        flush(&mut script);
        all.extend(opened(&mut script));
    }
    assert_eq!(all[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{all:?}");
    assert_eq!(all[..3], all[3..]);
}

#[test]
fn a_batch_is_worth_opening_for_when_there_are_as_many_mails_as_lanes_that_could_take_some() {
    let mut script = brief_at(&[3], Pace::Lockstep, |host| host.depth = 2);
    (1..=5).for_each(|id| script.take(mail(id)));
    assert!(!script.coordinator.is_batch_due(script.now));
    script.run();
    assert!(script.wire.is_empty() && script.coordinator.backlog() == 5);
    script.take(mail(6));
    assert!(script.coordinator.is_batch_due(script.now));
    script.run();
    assert_eq!((opened(&mut script).len(), script.outcomes().len()), (3, 6));
    assert_eq!(script.coordinator.summary(script.now).batches, 1, "all were waited for");
}

#[test]
fn short_batches_are_opened_for_when_they_have_lingered() {
    let mut script =
        Script::with(&[3], settings(|all| all.linger = Some(SECOND)), |host| host.keep_alive = false);
    script.run();
    script.wire.clear();
    script.take(mail(1));
    script.take(mail(2));
    script.settle();
    assert_eq!(script.progress.wake_at, Some(script.now + SECOND));
    script.pass(SECOND);
    assert_eq!((opened(&mut script).len(), script.outcomes().len()), (2, 2));
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
}

#[test]
fn the_deal_waits_for_those_that_are_opened_for_it() {
    let mut script = brief(&[3]);
    script.stuck = vec![lane(0, 1)];
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.coordinator.backlog(), 3);
    assert_eq!(script.said(lane(0, 0)), EHLO, "it is kept for the mail that it will get");
    script.stuck.clear();
    script.run();
    assert_eq!(script.outcomes().len(), 3);
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
}

#[test]
fn of_a_quorum_as_many_as_are_enough_are_waited_for_and_by_themselves_nobody_is() {
    let quorum = Pace::Quorum { share: 0.75, grace: Duration::ZERO };
    for (pace, enough) in [(quorum, 3), (Pace::Free, 1)] {
        let mut script = brief_at(&[4], pace, |_| {});
        script.stuck = (0..4).map(|thread| lane(0, thread)).collect();
        (1..=4).for_each(|id| script.take(mail(id)));
        script.run();
        for up in 1..=enough {
            assert!(script.outcomes().is_empty(), "{pace:?}");
            script.stuck.remove(0);
            script.run();
            assert_eq!(script.outcomes().is_empty(), up < enough, "{pace:?} {up}");
        }
        script.stuck.clear();
        script.finish();
        assert_eq!(script.outcomes().len(), 4);
        script.run();
        assert!(all_rest(&script), "{pace:?}");
    }
}

#[test]
fn connections_are_kept_while_the_caller_has_more_at_hand() {
    for pace in [Pace::Lockstep, Pace::Free] {
        let mut script = brief_at(&[2], pace, |_| {});
        script.coordinator.set_feeding(true);
        for id in 1..=10 {
            script.take(mail(id));
            script.run();
        }
        assert_eq!(script.outcomes().len(), 10);
        let connects = opened(&mut script).len();
        assert!(connects <= 2 && script.progress.connected == connects, "{pace:?}");
        script.coordinator.set_feeding(false);
        assert!(script.coordinator.is_rest_due(script.now));
        script.settle();
        assert!(script.coordinator.is_going_to_rest() && !script.coordinator.is_rest_due(script.now));
        script.run();
        assert!(all_rest(&script) && !script.coordinator.is_going_to_rest());
    }
}

#[test]
fn what_is_dealt_at_once_is_sent_on_the_same_connections() {
    let mut script = brief(&[2]);
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    (1..=2).for_each(|id| script.take(mail(id)));
    flush(&mut script);
    assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 1)]);
    assert_eq!(opened(&mut script).len(), 2);
}

#[test]
fn to_be_opened_as_planned_is_no_setback() {
    let mut script = brief_at(&[1], Pace::Lockstep, |host| host.max_connect_failures = 1);
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Say("451 later\r\n")));
    for id in 1..=9 {
        script.take(mail(id));
        flush(&mut script);
    }
    assert_eq!(script.outcomes().len(), 9);
    assert!(script.outcomes().iter().all(|told| told.1 == "abandoned"), "no mail has set a count back");
    assert_eq!(
        (script.standing(lane(0, 0)), script.lane(lane(0, 0)).setbacks.count()),
        (Standing::Resting, 0)
    );
}

#[test]
fn one_that_cannot_be_opened_is_replaced_where_nobody_else_is_there() {
    let mut script = brief(&[3]);
    let mut refused = None;
    script.serve(move |asked| {
        let is_first = asked.what == "connect" && *refused.get_or_insert(asked.lane) == asked.lane;
        is_first.then_some(Does::Refuse)
    });
    script.take(mail(1));
    flush(&mut script);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert_eq!(opened(&mut script).len(), 2);
    let fail = script.notes.seen.iter().find(|seen| seen.kind == EventKind::ReconnectFail).unwrap();
    assert_eq!(script.standing(fail.lane), Standing::Benched, "it waits through its back-off");
}

#[test]
fn a_host_that_is_gone_holds_up_a_deal_once() {
    let mut script = brief(&[2, 9]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.host == 1).then_some(Does::Hang));
    (1..=6).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.run();
    let dialling = script.lanes().filter(|lane| lane.link() == Link::Dialling).count();
    assert_eq!((dialling, script.progress.connected), (4, 6));
    for place in 0..script.coordinator.lanes().len() {
        let failure = crate::failure::Failure::TimedOut { after: SECOND };
        let lane = &mut script.coordinator.lanes_mut()[place];
        if lane.link() == Link::Dialling {
            lane.not_connected(failure);
        }
    }
    script.settle();
    assert!(script.lanes().filter(|lane| lane.id().host == 0).all(|lane| lane.held() > 0));
    assert!(script.lanes().all(|lane| lane.link() != Link::Wanted), "no others are tried before the deal");
}

#[test]
fn what_was_tried_before_has_a_lane_of_another_host_opened() {
    for pace in [Pace::Lockstep, Pace::Free] {
        let mut script = brief_at(&[2, 1], pace, |_| {});
        script.serve(|asked| {
            (asked.what == "MAIL" && asked.lane.host == 0).then_some(Does::Say("451 later\r\n"))
        });
        for id in 1..=3 {
            script.take(mail(id));
            flush(&mut script);
            script.run();
        }
        assert_eq!(script.outcomes().len(), 3);
        for told in &script.notes.told {
            assert_eq!((told.outcome, told.lane), ("delivered", Some(lane(1, 0))), "{pace:?}");
            assert!(told.attempts <= 2);
        }
    }
}

#[test]
fn each_connection_is_authenticated_anew() {
    let credentials = || Some(Credentials::password("tim", "secret").allow_without_tls());
    let mut script = brief_at(&[3], Pace::Lockstep, |host| host.credentials = credentials());
    assert!(all_rest(&script));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.outcomes().len(), 3);
    for thread in 0..3 {
        let said = script.said(lane(0, thread));
        assert_eq!(said[..5], ["connect", "greeting", "EHLO", "AUTH", "MAIL"]);
        assert_eq!(said.last(), Some(&"QUIT"));
    }
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
}

#[test]
fn a_question_has_its_lane_opened() {
    let mut script = brief(&[2]);
    assert!(script.coordinator.ask(lane(0, 1), Inquiry::Help(None)));
    script.run();
    assert_eq!(script.said(lane(0, 1)), [&EHLO[..], &["HELP", "QUIT"]].concat());
    assert!(matches!(script.coordinator.take_answer(lane(0, 1)), Some(Ok(_))));
    assert!(script.said(lane(0, 0)).is_empty() && all_rest(&script));
}

#[test]
fn a_lane_is_opened_again_only_when_it_has_gone() {
    let mut script = brief(&[1]);
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    while script.outcomes().is_empty() {
        script.step();
    }
    assert_eq!(script.standing(lane(0, 0)), Standing::Resting);
    script.take(mail(2));
    script.settle();
    assert_eq!((script.standing(lane(0, 0)), script.lane(lane(0, 0)).link()), (Standing::Opening, Link::Up));
    script.run();
    assert_eq!(script.said(lane(0, 0)), [VISIT, VISIT].concat());
}

#[test]
fn a_server_that_does_not_answer_quit_is_left_when_the_time_for_it_is_over() {
    let mut script = brief(&[1]);
    script.serve(|asked| (asked.what == "QUIT").then_some(Does::Hang));
    script.take(mail(1));
    flush(&mut script);
    assert_eq!((script.standing(lane(0, 0)), script.progress.connected), (Standing::Resting, 1));
    script.pass(10 * SECOND);
    assert!(all_rest(&script));
    let is_trouble = |seen: &script::notes::Seen| seen.kind.is_trouble();
    assert!(!script.notes.seen.iter().any(is_trouble));
}

#[test]
fn restarts_by_callbacks_leave_those_at_rest_and_the_callers_opens_all() {
    let mut script = brief(&[3]);
    script.decide(at(EventKind::Pass, Step::Content, Verdict::RESTART_NOW));
    script.take(mail(1));
    flush(&mut script);
    script.run();
    let connects = opened(&mut script);
    assert_eq!((connects.len(), connects[0]), (2, connects[1]), "{connects:?}");
    assert!(all_rest(&script));
    assert!(script.lanes().filter(|lane| lane.setbacks.count() > 0).count() <= 1);
    script.coordinator.restart();
    script.settle();
    assert_eq!(script.progress.untried, 3);
    script.run();
    assert_eq!((opened(&mut script).len(), script.progress.untried), (3, 0));
    assert!(all_rest(&script));
}

#[test]
fn goodbye_ends_all_that_rests() {
    let mut script = brief(&[2]);
    script.coordinator.say_goodbye(script.now);
    script.run();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Retired));
    assert!(script.wire.is_empty());
}

#[test]
fn at_level_2_all_that_rest_get_mails_too() {
    let change = |host: &mut HostSettings| {
        host.pipeline = Pipeline::Full;
        host.keep_alive = false;
    };
    let mut script = Script::with(&[3], BatchSettings::default(), change);
    script.serve(offering(DOTS, |_| None));
    script.run();
    script.wire.clear();
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    // Up to its 354.
    while script.lanes().all(|lane| !lane.session().is_in_content()) {
        script.step();
    }
    (2..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.outcomes().len(), 4);
    assert_eq!(opened(&mut script).iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn noop_and_rest_go_together() {
    let mut script = brief_at(&[2], Pace::Lockstep, |host| host.noop_after = Some(SECOND));
    assert!(script.progress.wake_at.is_none());
    script.pass(100 * SECOND);
    assert!(script.wire.is_empty());
}

#[test]
fn hosts_may_differ() {
    let mut script =
        Script::with(&[1, 1], BatchSettings::default(), |host| host.keep_alive = host.name == "a.example");
    script.run();
    let standing = |script: &Script, host| script.standing(lane(host, 0));
    assert_eq!((standing(&script, 0), standing(&script, 1)), (Standing::Active, Standing::Resting));
    script.take(mail(1));
    script.settle();
    assert_eq!(script.coordinator.backlog(), 1, "two could be taken");
    script.take(mail(2));
    script.run();
    assert_eq!(script.outcomes().len(), 2);
    assert_eq!((standing(&script, 0), standing(&script, 1)), (Standing::Active, Standing::Resting));
}

#[test]
fn a_mail_that_waits_for_a_lane_that_is_busy_has_nobody_opened_meanwhile() {
    let mut script = brief_at(&[1, 1], Pace::Free, |_| {});
    let mut hangs = true;
    script.serve(move |asked| match (asked.what, asked.lane.host) {
        ("MAIL", 0) => Some(Does::Say("451 later\r\n")),
        ("MAIL", _) if std::mem::take(&mut hangs) => Some(Does::Hang),
        _ => None,
    });
    (1..=2).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!((script.coordinator.backlog(), script.lane(lane(1, 0)).held()), (1, 1));
    assert_eq!(script.standing(lane(0, 0)), Standing::Resting);
    script.wire.clear();
    for _ in 0..9 {
        script.run();
    }
    assert!(script.wire.is_empty(), "{:?}", script.wire);
    script.finish();
    assert_eq!(script.outcomes().iter().filter(|told| told.1 == "delivered").count(), 2);
}

#[test]
fn a_lane_that_was_opened_for_mails_is_not_given_up_before_it_has_had_one() {
    let rate = Some(crate::limits::Rate::per_second(10_000.0).burst(10_000));
    for pace in [Pace::Lockstep, Pace::Quorum { share: 0.5, grace: SECOND }, Pace::Free] {
        let mut script = brief_at(&[1], pace, |host| host.byte_rate = rate);
        for id in 1..=3 {
            let envelope = mail(id).into_parts().0;
            take_in_time(&mut script, Message::new(envelope, vec![b'a'; 50_000]).id(id));
        }
        script.finish();
        assert_eq!(script.outcomes().len(), 3, "{pace:?}");
        let connects = opened(&mut script).len();
        assert!(connects <= 3, "{pace:?}: {connects} connections for 3 mails");
    }
}
